//! What functions are told of a client's certificate: headers that no client can write itself.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use mayfly_core::limits::node;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::pair::chain;

/// What all of them begin with.
const PREFIX: &str = "x-client-cert-";
static VERIFIED: HeaderName = HeaderName::from_static("x-client-cert-verified");
static SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
static FINGERPRINT: HeaderName = HeaderName::from_static("x-client-cert-sha256");

/// Whose certificates clients may have.
#[derive(Debug)]
pub struct Authorities {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) required: bool,
}

impl Authorities {
    /// Those of a PEM file; `required` if a client must have a certificate.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub fn read(pem: &[u8], required: bool) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in chain(pem)? {
            roots
                .add(certificate)
                .map_err(|why| format!("a certificate in it is no authority's: {why}"))?;
        }
        Ok(Self { roots: Arc::new(roots), required })
    }
}

/// A client, as far as it has shown a certificate of an authority that is believed. One of another has no connection.
#[derive(Debug, Default)]
pub struct Client {
    shown: Option<Shown>,
}

#[derive(Debug)]
struct Shown {
    subject: Option<HeaderValue>,
    fingerprint: HeaderValue,
}

impl Client {
    /// With this certificate, which was verified.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        let fingerprint = hex::encode(Sha256::digest(certificate));
        let Ok(fingerprint) = HeaderValue::from_str(&fingerprint) else { return Self::default() };
        let read = Certificate::from_der(certificate).ok();
        let subject = read.map(|read| printable(&read.tbs_certificate().subject().to_string()));
        // Cut, it could be another's.
        let subject = subject.filter(|text| text.len() <= node::TLS_SUBJECT_BYTES);
        let subject = subject.and_then(|text| HeaderValue::from_str(&text).ok());
        Self { shown: Some(Shown { subject, fingerprint }) }
    }

    /// Says it in a request's headers, in place of what the client wrote there.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let forged = headers.keys().filter(|name| name.as_str().starts_with(PREFIX));
        for name in forged.cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
        let verified = if self.shown.is_some() { "true" } else { "false" };
        headers.insert(&VERIFIED, HeaderValue::from_static(verified));
        let Some(shown) = &self.shown else { return };
        headers.insert(&FINGERPRINT, shown.fingerprint.clone());
        if let Some(subject) = &shown.subject {
            headers.insert(&SUBJECT, subject.clone());
        }
    }
}

/// A name by RFC 4514, in which every byte that is not printed in ASCII stands as `\` and two digits, as that RFC allows.
fn printable(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\{byte:02x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn told(client: &Client, wrote: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in wrote {
            headers.append(*name, HeaderValue::from_static(value));
        }
        client.tell(&mut headers);
        let pair = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        let mut all: Vec<_> = headers.iter().map(pair).collect();
        all.sort();
        all
    }

    fn named(parts: &[(DnType, &str)]) -> Client {
        let mut name = DistinguishedName::new();
        parts.iter().for_each(|(kind, value)| name.push(kind.clone(), *value));
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = name;
        Client::of(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn what_a_client_writes_itself_is_gone() {
        let forged = [
            ("x-client-cert-verified", "true"),
            ("x-client-cert-subject", "CN=admin"),
            ("x-client-cert-subject", "CN=root"),
            ("x-client-cert-anything", "x"),
            ("x-client-certain", "stays"),
        ];
        let expected = [("x-client-cert-verified", "false"), ("x-client-certain", "stays")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(told(&Client::default(), &forged), expected);
        let all = told(&named(&[(DnType::CommonName, "alice")]), &forged);
        let names: Vec<_> = all.iter().map(|(name, _)| &**name).collect();
        let expected = ["sha256", "subject", "verified"].map(|part| format!("{PREFIX}{part}"));
        assert_eq!(names[..3], expected);
        assert_eq!((all[0].1.len(), &*all[1].1, &*all[2].1), (64, "CN=alice", "true"));
    }

    #[test]
    fn a_subject_cannot_look_like_another() {
        for (common, organisation, expect) in [
            ("alice", "Example", "O=Example,CN=alice"),
            ("alice,O=Root", "x", "O=x,CN=alice\\,O=Root"),
            ("a\r\nb", "x", "O=x,CN=a\\0d\\0ab"),
            ("b\u{fc}cher", "x", "O=x,CN=b\\c3\\bccher"),
        ] {
            let client =
                named(&[(DnType::CommonName, common), (DnType::OrganizationName, organisation)]);
            assert_eq!(told(&client, &[])[1].1, expect);
        }
        let long = "a".repeat(node::TLS_SUBJECT_BYTES);
        let told = told(&named(&[(DnType::CommonName, &long)]), &[]);
        assert_eq!(told.len(), 2, "{told:?}");
    }
}
