//! What an artifact was made from, and the proof that we made it.
//!
//! An artifact is native code. Its file is a bare ELF, so the key and a MAC over every byte of the file stand in the
//! database row beside it: a file that was changed, swapped or left by an older Mayfly does not verify and is rebuilt.

use std::fmt;
use std::io::{self, Read};

use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::name::Digest;

/// Everything that must be equal for an artifact to be usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactKeyParts<'a> {
    /// The module as it was uploaded, assets included.
    pub wasm: Digest,
    /// Wasmtime's own hash of its version, target and compile-time settings.
    pub engine_compatibility: u64,
    /// CPU features the code may use, as the compiler names them.
    pub cpu_features: &'a str,
    /// Whether init saw native kernels: a snapshot freezes its choice.
    pub native_kernels: bool,
    /// Version of the publish pipeline: raised whenever its output changes for equal input.
    pub pipeline: u32,
    /// Settings that init can see, canonically encoded.
    pub init_settings: &'a [u8],
}

/// Hash of [`ArtifactKeyParts`]; names the artifact's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ArtifactKey(pub Digest);

impl ArtifactKey {
    /// Hashes the parts, each with its length so that no two lists of parts collide.
    #[must_use]
    pub fn new(parts: &ArtifactKeyParts<'_>) -> Self {
        let mut bytes = Vec::with_capacity(128);
        let mut field = |value: &[u8]| {
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
            bytes.extend_from_slice(value);
        };
        field(b"mayfly artifact");
        field(parts.wasm.as_bytes());
        field(&parts.engine_compatibility.to_le_bytes());
        field(parts.cpu_features.as_bytes());
        field(&[u8::from(parts.native_kernels)]);
        field(&parts.pipeline.to_le_bytes());
        field(parts.init_settings);
        Self(Digest::of(&bytes))
    }
}

/// The node's secret for [`Mac`]s; made at first start, never leaves the state directory.
#[derive(Clone)]
pub struct MacKey([u8; 32]);

/// HMAC-SHA-256 over an artifact's key and every byte of its file.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Mac([u8; 32]);

impl Mac {
    /// Length in bytes.
    pub const BYTES: usize = 32;

    /// A proof read back from where it was kept.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The proof itself; no secret.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for MacKey {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey")
    }
}

impl MacKey {
    /// Wraps 32 secret bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A secret for another purpose, from which this one cannot be found.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut hmac = <Hmac<Sha256>>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        // A file's proof begins with the 32 bytes of its key: no purpose is as long.
        hmac.update(purpose.as_bytes());
        hmac.finalize().into_bytes().into()
    }

    /// The proof for a file of these bytes.
    #[must_use]
    pub fn sign(&self, key: &ArtifactKey, file: &[u8]) -> Mac {
        Mac(self.hmac(key, file).finalize().into_bytes().into())
    }

    /// Whether `mac` is the proof for these bytes, compared in constant time.
    #[must_use]
    pub fn verify(&self, key: &ArtifactKey, file: &[u8], mac: &Mac) -> bool {
        self.hmac(key, file).verify_slice(&mac.0).is_ok()
    }

    /// As [`MacKey::verify`], for a file that should not be in memory whole; reads to the end.
    ///
    /// # Errors
    /// When reading fails.
    pub fn verify_reader(
        &self,
        key: &ArtifactKey,
        len: u64,
        file: &mut impl Read,
        mac: &Mac,
    ) -> io::Result<bool> {
        let mut hmac = self.start(key, len);
        let mut left = len;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let Some(rest) = left.checked_sub(n as u64) else { return Ok(false) };
            left = rest;
            hmac.update(&buffer[..n]);
        }
        Ok(left == 0 && hmac.verify_slice(&mac.0).is_ok())
    }

    fn hmac(&self, key: &ArtifactKey, file: &[u8]) -> Hmac<Sha256> {
        let mut hmac = self.start(key, file.len() as u64);
        hmac.update(file);
        hmac
    }

    fn start(&self, key: &ArtifactKey, len: u64) -> Hmac<Sha256> {
        let mut hmac = <Hmac<Sha256>>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        hmac.update(key.0.as_bytes());
        hmac.update(&len.to_le_bytes());
        hmac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> ArtifactKeyParts<'static> {
        ArtifactKeyParts {
            wasm: Digest::of(b"wasm"),
            engine_compatibility: 7,
            cpu_features: "avx2",
            native_kernels: true,
            pipeline: 1,
            init_settings: b"",
        }
    }

    #[test]
    fn each_part_changes_the_key() {
        let base = ArtifactKey::new(&parts());
        assert_eq!(base, ArtifactKey::new(&parts()));
        let others = [
            ArtifactKeyParts { wasm: Digest::of(b"other"), ..parts() },
            ArtifactKeyParts { engine_compatibility: 8, ..parts() },
            ArtifactKeyParts { cpu_features: "avx512f", ..parts() },
            ArtifactKeyParts { native_kernels: false, ..parts() },
            ArtifactKeyParts { pipeline: 2, ..parts() },
            ArtifactKeyParts { init_settings: b"x", ..parts() },
        ];
        for other in others {
            assert_ne!(base, ArtifactKey::new(&other), "{other:?}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_other_key_fails() {
        let secret = MacKey::new([1; 32]);
        let key = ArtifactKey::new(&parts());
        let file = b"some native code".to_vec();
        let mac = secret.sign(&key, &file);
        assert!(secret.verify(&key, &file, &mac));
        for bit in 0..file.len() * 8 {
            let mut bad = file.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!secret.verify(&key, &bad, &mac), "bit {bit}");
            let mut reader = bad.as_slice();
            assert!(!secret.verify_reader(&key, bad.len() as u64, &mut reader, &mac).unwrap());
        }
        assert!(!secret.verify(&key, &file[..file.len() - 1], &mac));
        let len = file.len() as u64;
        let read =
            |mut bytes: &[u8], len| secret.verify_reader(&key, len, &mut bytes, &mac).unwrap();
        assert!(read(&file, len));
        assert!(!read(&file, len + 1) && !read(&file, len - 1));
        assert!(!read(&[&file[..], b"x"].concat(), len) && !read(&file[1..], len));
        assert!(!MacKey::new([2; 32]).verify(&key, &file, &mac));
        let other = ArtifactKey::new(&ArtifactKeyParts { pipeline: 2, ..parts() });
        assert!(!secret.verify(&other, &file, &mac), "two functions' files swapped");
    }

    #[test]
    fn a_proof_survives_storage_and_a_secret_is_not_shown() {
        let secret = MacKey::new([1; 32]);
        let key = ArtifactKey::new(&parts());
        let mac = secret.sign(&key, b"code");
        assert!(secret.verify(&key, b"code", &Mac::from_bytes(*mac.as_bytes())));
        assert_eq!(format!("{secret:?}"), "MacKey");
    }

    /// Fails once as this kind, then reads.
    struct Fails(Option<io::ErrorKind>, &'static [u8]);

    impl Read for Fails {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.take().map_or_else(|| self.1.read(buffer), |kind| Err(kind.into()))
        }
    }

    #[test]
    fn an_interrupted_read_goes_on_and_a_failed_one_does_not() {
        let secret = MacKey::new([1; 32]);
        let key = ArtifactKey::new(&parts());
        let mac = secret.sign(&key, b"code");
        let verify = |kind| secret.verify_reader(&key, 4, &mut Fails(Some(kind), b"code"), &mac);
        assert!(verify(io::ErrorKind::Interrupted).unwrap());
        assert!(verify(io::ErrorKind::PermissionDenied).is_err());
    }
}
