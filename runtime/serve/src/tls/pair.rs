//! A certificate and its key, checked before any client is shown them. Pure.

use std::sync::Arc;

use mayfly_observe::clock::date;
use rustls::client::verify_server_name;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// A certificate with those above it, and its key.
#[derive(Debug)]
pub struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    /// In seconds after 1970.
    pub(super) expires: u64,
}

/// Why a pair is not shown, and whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The certificate's.
    #[error("{0}")]
    Certificate(String),
    /// The key's.
    #[error("{0}")]
    Key(String),
}

impl Pair {
    /// Reads a pair, which must be good at `now` (seconds after 1970), for `host` if it is named: a name, or `*.` and one.
    ///
    /// # Errors
    /// [`Fault`] says what is wrong with which of the two, and what to do.
    pub fn read(
        certificates: &[u8],
        key: &[u8],
        now: u64,
        host: Option<&str>,
    ) -> Result<Self, Fault> {
        let chain = chain(certificates).map_err(Fault::Certificate)?;
        let expires = expiry(&chain[0], now).map_err(Fault::Certificate)?;
        if let Some(host) = host {
            check_name(&chain[0], host).map_err(Fault::Certificate)?;
        }
        let key = read_key(key).map_err(Fault::Key)?;
        let key = any_supported_type(&key).map_err(|_| {
            Fault::Key("it is none of RSA (2,048 bits to 8,192), ECDSA (P-256, P-384) and Ed25519: make one of these".into())
        })?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) => Ok(Self { key: Arc::new(pair), expires }),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(Fault::Key(
                "it is the key of another certificate: name the two that were made together".into(),
            )),
            Err(why) => Err(Fault::Certificate(unreadable(&why))),
        }
    }
}

fn unreadable(why: &dyn std::fmt::Display) -> String {
    format!("its first certificate cannot be read ({why}): it should be of X.509, version 3")
}

/// All certificates of a file; one at least.
pub(super) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|why| format!("it is no PEM: {why}"))?;
    if found.is_empty() {
        return Err(
            "no certificate is in it: it should have '-----BEGIN CERTIFICATE-----'".to_owned()
        );
    }
    Ok(found)
}

fn expiry(certificate: &CertificateDer<'_>, now: u64) -> Result<u64, String> {
    let read = Certificate::from_der(certificate).map_err(|why| unreadable(&why))?;
    let validity = read.tbs_certificate().validity();
    let from = validity.not_before.to_unix_duration().as_secs();
    let until = validity.not_after.to_unix_duration().as_secs();
    if until < now {
        return Err(format!("it expired on {}: renew it", date(until)));
    }
    if from > now {
        return Err(format!(
            "it is not valid before {}: use an older one until then, or set this machine's clock, which has {}",
            date(from),
            date(now)
        ));
    }
    Ok(until)
}

fn check_name(certificate: &CertificateDer<'_>, host: &str) -> Result<(), String> {
    let wrong = |why: &dyn std::fmt::Display| {
        format!(
            "it is not for the host '{host}' ({why}): name one that has it as a subject alternative name"
        )
    };
    // Of a name for all below another, one of those below.
    let one = host.strip_prefix('*').map_or_else(|| host.to_owned(), |rest| format!("any{rest}"));
    let parsed = ParsedCertificate::try_from(certificate).map_err(|why| wrong(&why))?;
    let name = ServerName::try_from(one).map_err(|why| wrong(&why))?;
    verify_server_name(&parsed, &name).map_err(|why| wrong(&why))
}

fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let is_locked = || pem.windows(9).any(|word| word == b"ENCRYPTED");
    PrivateKeyDer::from_pem_slice(pem).map_err(|why| {
        if is_locked() {
            "it wants a passphrase, and nobody is there to give it: `openssl pkey -in FILE -out NEW` takes it off".into()
        } else {
            format!("no private key can be read from it ({why}): it should have '-----BEGIN PRIVATE KEY-----'")
        }
    })
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, date_time_ymd};

    use super::*;

    /// 2027.
    const NOW: u64 = 1_800_000_000;

    /// A certificate of a key, and the key, as PEM.
    pub(in crate::tls) struct Made(String, String);

    /// For these names, and good from 2020 to 2030.
    pub(in crate::tls) fn made(names: &[&str]) -> Made {
        valid(names, 2020, 2030)
    }

    fn valid(names: &[&str], from: i32, until: i32) -> Made {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let key = KeyPair::generate().unwrap();
        Made(params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    pub(in crate::tls) fn pair(made: &Made) -> Pair {
        Pair::read(made.0.as_bytes(), made.1.as_bytes(), NOW, None).unwrap()
    }

    fn fault(certificate: &str, key: &str, host: Option<&str>) -> Fault {
        Pair::read(certificate.as_bytes(), key.as_bytes(), NOW, host).unwrap_err()
    }

    #[test]
    fn a_good_pair_knows_its_expiry_and_its_names() {
        let Made(certificate, key) = made(&["a.example", "*.b.example"]);
        for host in [None, Some("a.example"), Some("*.b.example"), Some("c.b.example")] {
            let pair = Pair::read(certificate.as_bytes(), key.as_bytes(), NOW, host).unwrap();
            assert_eq!(pair.expires, 1_893_456_000);
        }
        for other in ["b.example", "*.a.example", "*.example"] {
            let Fault::Certificate(why) = fault(&certificate, &key, Some(other)) else { panic!() };
            assert!(why.starts_with(&format!("it is not for the host '{other}'")), "{why}");
        }
        // A chain, text between, and both in one file.
        let all = format!("some words\n{certificate}\n{certificate}{key}");
        Pair::read(all.as_bytes(), all.as_bytes(), NOW, None).unwrap();
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = CertificateParams::new(vec![]).unwrap().self_signed(&ed25519).unwrap();
        Pair::read(certificate.pem().as_bytes(), ed25519.serialize_pem().as_bytes(), NOW, None)
            .unwrap();
    }

    #[test]
    fn a_bad_one_says_which_of_the_two_and_why() {
        let Made(certificate, key) = made(&["a.example"]);
        let other = made(&["a.example"]);
        let old = valid(&["a.example"], 2020, 2025);
        let new = valid(&["a.example"], 2029, 2030);
        let locked =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (certificate, key, of_key, why) in [
            (&*certificate, &*other.1, true, "it is the key of another certificate"),
            (&certificate, "", true, "no private key can be read from it"),
            (&certificate, &certificate, true, "no private key can be read from it"),
            (&certificate, locked, true, "it wants a passphrase"),
            ("", &key, false, "no certificate is in it"),
            (&key, &key, false, "no certificate is in it"),
            (broken, &key, false, "its first certificate cannot be read"),
            ("-----BEGIN CERTIFICATE-----\n", &key, false, "it is no PEM"),
            (&old.0, &old.1, false, "it expired on 2025-01-01T00:00:00Z: renew it"),
            (&new.0, &new.1, false, "it is not valid before 2029-01-01T00:00:00Z"),
        ] {
            let fault = fault(certificate, key, None);
            assert_eq!(matches!(fault, Fault::Key(_)), of_key, "{fault}");
            assert!(fault.to_string().starts_with(why), "{fault}\nis not\n{why}");
        }
    }
}
