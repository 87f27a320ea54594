//! Connections to a node: plain, or with TLS to the proxy in front of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::{Failure, code};

mod pinned;

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(5);

/// What requests go by.
pub(super) type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Whom a client believes to be the node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trusted<'a> {
    /// Whoever has a certificate of an authority of the system's.
    System,
    /// Whoever has one of the authorities in this file, or one that is in it.
    Named(&'a Path),
    /// Whoever has the first one in this file, whatever names are in it: it is the node's own configuration that says so,
    /// and the address is this machine's, which few certificates name.
    Very(&'a Path),
}

/// A client for a URL.
pub(super) fn http(url: &str, trusted: Trusted<'_>) -> Result<Http, Failure> {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    // What is not http goes through it to TLS.
    connector.enforce_http(false);
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls(url, trusted)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Ok(Client::builder(TokioExecutor::new()).build(https))
}

fn tls(url: &str, trusted: Trusted<'_>) -> Result<ClientConfig, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::new(code::CONFIG, why.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| failed(&why))?;
    let builder = match trusted {
        Trusted::Named(file) => {
            return pinned::config(builder, read(file)?, true).map_err(|why| failed(&why));
        }
        Trusted::Very(file) => {
            let mut first = read(file)?;
            first.truncate(1);
            return pinned::config(builder, first, false).map_err(|why| failed(&why));
        }
        // The system's are 140 files or so, and most nodes are on this machine and speak plainly.
        Trusted::System if !is_tls(url) => builder.with_root_certificates(RootCertStore::empty()),
        Trusted::System => builder.with_native_roots().map_err(|why| {
            failed(&format_args!(
                "the system's certificates cannot be read: {why}\nhint: install the package ca-certificates, or name \
                 a file with --ca or MAYFLY_CA"
            ))
        })?,
    };
    Ok(builder.with_no_client_auth())
}

/// Whether a URL asks for TLS.
pub(super) fn is_tls(url: &str) -> bool {
    url.starts_with("https://")
}

/// The certificates of a file; each could be an authority's.
fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let broken = |why: &dyn std::fmt::Display| {
        Failure::new(code::CONFIG, format!("--ca {}: {why}", file.display()))
    };
    let found = CertificateDer::pem_file_iter(file).map_err(|why| broken(&why))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|why| broken(&why))?;
    for certificate in &found {
        RootCertStore::empty().add(certificate.clone()).map_err(|why| broken(&why))?;
    }
    if found.is_empty() {
        return Err(broken(
            &"no certificate is in it: it should have '-----BEGIN CERTIFICATE-----'",
        ));
    }
    Ok(found)
}

/// What a user can do about a connection that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The node's certificate is not trusted.
    Trust,
    /// There is no TLS at the other end.
    Plain,
    /// Nothing is known of it.
    Unknown,
}

/// Why a request failed, as deep as it is known, and what there is to do.
pub(super) fn cause(error: &Error) -> (String, Remedy) {
    let first = std::error::Error::source(error);
    let Some(last) = std::iter::successors(first, |cause| cause.source()).last() else {
        return (String::new(), Remedy::Unknown);
    };
    let words = last.to_string();
    // rustls' name for bytes that are no record of TLS.
    let remedy = match words.as_str() {
        words if words.contains("certificate") => Remedy::Trust,
        words if words.contains("InvalidContentType") => Remedy::Plain,
        _ => Remedy::Unknown,
    };
    (format!(" ({words})"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        for (content, why) in
            [("", "no certificate is in it"), ("-----BEGIN CERTIFICATE-----\n", "")]
        {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), content).unwrap();
            let refused =
                http("https://localhost", Trusted::Named(file.path())).err().unwrap().text;
            assert!(refused.contains(&*file.path().to_string_lossy()), "{refused}");
            assert!(refused.contains(why), "{refused}");
        }
        let refused =
            http("https://localhost", Trusted::Named(Path::new("/none"))).err().unwrap().text;
        assert!(refused.starts_with("--ca /none: "), "{refused}");
    }
}
