//! Secrets at rest: sealed by a key of their own, which no backup of the database has in it.
//!
//! ChaCha20-Poly1305 out of ring, which TLS has brought in already; a nonce of 96 random bits for each time a secret is
//! set, of which a node's life sees thousands, and not the 2^32 from which on two may be alike.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use crate::artifact::StoreError;
use crate::artifact::store::secret;

/// A secret's value. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Arc<str>);

impl Value {
    /// Of this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

/// A secret as the database has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sealed {
    /// Nonce, text and tag, in hexadecimal digits.
    sealed: String,
    /// Seconds since 1970 at which it was set, by the node's clock.
    pub set_unix_s: u64,
}

/// Why a secret cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It was sealed by another key, under another name, or changed.
    #[error("it was sealed by another key than {}, or was changed: set it again, or put the right key back", .0.display())]
    Other(PathBuf),
    /// Ring refused.
    #[error("it cannot be sealed")]
    Seal,
}

/// The node's key for secrets.
pub struct Sealer {
    key: LessSafeKey,
    path: PathBuf,
}

impl Sealer {
    /// The key in a file of 32 bytes with mode 0600, made if it is not there.
    ///
    /// # Errors
    /// [`StoreError`] names the file: no access, not 32 bytes, readable by others.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let damaged = |bytes| StoreError::SecretsKey { path: path.to_owned(), bytes };
        let bytes = secret::bytes_at(path).map_err(|error| match error {
            StoreError::Secret { bytes, .. } => damaged(bytes),
            other => other,
        })?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| damaged(bytes.len()))?;
        Ok(Self { key: LessSafeKey::new(key), path: path.to_owned() })
    }

    /// Seals a value under its name: it opens under no other.
    ///
    /// # Errors
    /// [`SealError::Seal`].
    pub fn seal(&self, name: &str, value: &Value, set_unix_s: u64) -> Result<Sealed, SealError> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut bytes = value.reveal().as_bytes().to_vec();
        let aad = Aad::from(name.as_bytes());
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut bytes)
            .map_err(|_| SealError::Seal)?;
        let sealed = hex::encode(nonce) + &hex::encode(bytes);
        Ok(Sealed { sealed, set_unix_s })
    }

    /// Opens what was sealed under this name.
    ///
    /// # Errors
    /// [`SealError::Other`].
    pub fn open_sealed(&self, name: &str, sealed: &Sealed) -> Result<Value, SealError> {
        let other = || SealError::Other(self.path.clone());
        let mut bytes = hex::decode(&sealed.sealed).map_err(|_| other())?;
        let (nonce, text) = bytes.split_first_chunk_mut::<NONCE_LEN>().ok_or_else(other)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let aad = Aad::from(name.as_bytes());
        let text = self.key.open_in_place(nonce, aad, text).map_err(|_| other())?;
        std::str::from_utf8(text).map(Value::new).map_err(|_| other())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_under_its_name_and_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(&dir.path().join("a.key")).unwrap();
        let value = Value::new("s3cret, with ünicode");
        let sealed = sealer.seal("KEY", &value, 7).unwrap();
        let text = serde_json::to_string(&sealed).unwrap();
        assert!(!text.contains("s3cret") && !format!("{value:?}").contains("s3cret"));
        let again: Sealed = serde_json::from_str(&text).unwrap();
        assert_eq!(sealer.open_sealed("KEY", &again).unwrap(), value);
        assert!(sealer.open_sealed("OTHER", &again).is_err());
        // The same key after a restart, and another one.
        let same = Sealer::open(&dir.path().join("a.key")).unwrap();
        assert_eq!(same.open_sealed("KEY", &again).unwrap(), value);
        let other = Sealer::open(&dir.path().join("b.key")).unwrap();
        let why = other.open_sealed("KEY", &again).unwrap_err().to_string();
        assert!(why.contains("b.key"), "{why}");
        let mut flipped = again.clone();
        let last = if flipped.sealed.pop() == Some('0') { '1' } else { '0' };
        flipped.sealed.push(last);
        assert!(sealer.open_sealed("KEY", &flipped).is_err());
        // Twice the same is not the same twice.
        assert_ne!(sealer.seal("KEY", &value, 7).unwrap().sealed, sealed.sealed);
        std::fs::write(dir.path().join("short"), "x").unwrap();
        assert!(Sealer::open(&dir.path().join("short")).is_err());
    }
}
