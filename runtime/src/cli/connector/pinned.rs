//! Trust in certificates that a user names: authorities, and also the very certificate that a server shows. One that
//! signed itself, as `openssl req -x509` makes it, says that it is an authority, and no authority's is a server's by the
//! rules of the web.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    WantsVerifier,
};

/// A configuration that trusts these; `named` if a server must have the name by which it is called.
///
/// # Errors
/// When none of them can be an authority's.
pub(super) fn config(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    trusted: Vec<CertificateDer<'static>>,
    named: bool,
) -> Result<ClientConfig, rustls::client::VerifierBuilderError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    let web = WebPkiServerVerifier::builder_with_provider(
        Arc::new(roots),
        builder.crypto_provider().clone(),
    );
    let verifier = Arc::new(Verifier { web: web.build()?, trusted, named });
    let builder: ConfigBuilder<ClientConfig, WantsClientCert> =
        builder.dangerous().with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

#[derive(Debug)]
struct Verifier {
    web: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
    named: bool,
}

impl ServerCertVerifier for Verifier {
    /// By the rules of the web, or because it is one of those that were named; its name counts all the same, if names do.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let by_rules =
            self.web.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if by_rules.is_ok() || !self.trusted.iter().any(|trusted| trusted == end_entity) {
            return by_rules;
        }
        if self.named {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.web.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.web.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.web.supported_verify_schemes()
    }
}
