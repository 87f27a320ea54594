//! Certificates that are made for a test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// An authority whose certificate is in a file.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    /// With its certificate in `NAME.pem`.
    pub(super) fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = dir.join(format!("{name}.pem"));
        write(&file, &issuer.pem(), 0o644);
        Self { issuer, file }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Makes a certificate for these hosts: `NAME.pem`, and its key, `NAME.key`.
    pub(super) fn leaf(
        &self,
        dir: &Path,
        name: &str,
        hosts: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        write(&dir.join(format!("{name}.key")), &key.serialize_pem(), 0o600);
        write(&dir.join(format!("{name}.pem")), &made.pem(), 0o644);
    }

    /// As functions are told it.
    pub(super) fn fingerprint(&self, dir: &Path, name: &str) -> String {
        let der = CertificateDer::from_pem_file(dir.join(format!("{name}.pem"))).unwrap();
        mayfly_core::Digest::of(&der).to_string()
    }
}

/// Puts a file in place with one step.
pub(super) fn write(path: &Path, text: &str, mode: u32) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(new, path).unwrap();
}
