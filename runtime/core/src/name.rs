//! Names: of functions, of bytes, of requests.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Bytes of a function's name at most: a DNS label.
pub const FUNCTION_NAME_BYTES_MAX: usize = 63;

/// First path segments that belong to Mayfly itself, or may one day; refused at deploy.
pub const RESERVED_NAMES: &[&str] =
    &["v1", "v2", "v3", "healthz", "readyz", "livez", "metrics", "mayfly", "openapi"];

/// Whether a text may be a secret's name, which is a variable's: `^[A-Za-z_][A-Za-z0-9_]{0,63}$`.
///
/// # Errors
/// Which rule it breaks.
pub fn check_secret_name(name: &str) -> Result<(), &'static str> {
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match begins && plain && name.len() <= 64 {
        true => Ok(()),
        false => Err("a name has 1 to 64 letters, digits and '_', and begins with no digit"),
    }
}

/// What a user deploys and calls: `^[a-z0-9][a-z0-9-]{0,62}$`, and not reserved. A clone is a counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionName(Arc<str>);

/// Why a string is not a [`FunctionName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The empty string.
    #[error("a function's name is empty: give 1 to 63 of a-z, 0-9 and '-'")]
    Empty,
    /// More than [`FUNCTION_NAME_BYTES_MAX`].
    #[error("a function's name has at most 63 characters")]
    TooLong,
    /// Something other than `a-z`, `0-9`, `-`, or a leading `-`.
    #[error("a function's name may contain only a-z, 0-9 and '-', and must not start with '-'")]
    Character,
    /// One of [`RESERVED_NAMES`].
    #[error("this name is reserved for Mayfly's own paths; choose another")]
    Reserved,
}

impl FunctionName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError`] says which rule it breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        Self::check(name)?;
        Ok(Self(name.into()))
    }

    /// Checks a name that is only to be looked up: no allocation.
    ///
    /// # Errors
    /// As [`FunctionName::new`].
    pub fn check(name: &str) -> Result<(), NameError> {
        let bytes = name.as_bytes();
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.len() > FUNCTION_NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        let allowed = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if bytes[0] == b'-' || !bytes.iter().all(allowed) {
            return Err(NameError::Character);
        }
        if RESERVED_NAMES.contains(&name) {
            return Err(NameError::Reserved);
        }
        Ok(())
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for FunctionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for FunctionName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<String> for FunctionName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<FunctionName> for String {
    fn from(name: FunctionName) -> Self {
        name.as_str().to_owned()
    }
}

/// SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// A string that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct DigestError;

impl Digest {
    /// Hashes `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Wraps a hash computed elsewhere.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first twelve digits, enough for a person to tell two apart.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

/// Hashes piece by piece.
#[derive(Debug, Clone, Default)]
pub struct DigestBuilder(sha2::Sha256);

impl DigestBuilder {
    /// Adds to what is hashed.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| DigestError)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Bytes of a request id at most, whoever chose it.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// What ties a response to its log lines: the client's `X-Request-Id` if it is well formed, else 16 random hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    bytes: [u8; REQUEST_ID_BYTES_MAX],
    len: u8,
}

impl RequestId {
    /// An id made from 64 random bits.
    #[must_use]
    pub fn from_random(bits: u64) -> Self {
        let mut bytes = [0; REQUEST_ID_BYTES_MAX];
        // Cannot fail: eight bytes make sixteen digits.
        let _ = hex::encode_to_slice(bits.to_be_bytes(), &mut bytes[..16]);
        Self { bytes, len: 16 }
    }

    /// The client's own id, if it has 1 to 64 of `A-Z a-z 0-9 - _ . :` (anything else could forge log lines).
    #[must_use]
    pub fn from_client(value: &[u8]) -> Option<Self> {
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        if value.is_empty() || value.len() > REQUEST_ID_BYTES_MAX || !value.iter().all(allowed) {
            return None;
        }
        let mut bytes = [0; REQUEST_ID_BYTES_MAX];
        bytes[..value.len()].copy_from_slice(value);
        Some(Self { bytes, len: u8::try_from(value.len()).ok()? })
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Both constructors write ASCII only.
        std::str::from_utf8(&self.bytes[..self.len.into()]).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels_and_not_ours() {
        for good in ["a", "0", "hello", "a-b-c", &"x".repeat(63)] {
            assert_eq!(FunctionName::new(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", NameError::Empty),
            (&*"x".repeat(64), NameError::TooLong),
            ("-a", NameError::Character),
            ("A", NameError::Character),
            ("a/b", NameError::Character),
            ("..", NameError::Character),
            ("a\0", NameError::Character),
            ("é", NameError::Character),
            ("v2", NameError::Reserved),
            ("healthz", NameError::Reserved),
        ] {
            assert_eq!(FunctionName::new(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_name_is_its_text_whatever_it_is_looked_at_through() {
        let name = FunctionName::new("hello").unwrap();
        assert_eq!((name.to_string(), format!("{name:>7}").len()), ("hello".into(), 5));
        assert_eq!(std::borrow::Borrow::<str>::borrow(&name), "hello");
        assert_eq!(String::from(name.clone()), "hello");
        assert_eq!("hello".parse(), Ok(name.clone()));
        assert_eq!(FunctionName::try_from("hello".to_owned()), Ok(name));
        assert_eq!(FunctionName::try_from("no name".to_owned()), Err(NameError::Character));
    }

    #[test]
    fn a_digest_survives_text() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.short(), "ba7816bf8f01");
        assert!(format!("{digest:?}").contains("ba7816bf8f01"), "{digest:?}");
        assert_eq!(String::from(digest), digest.to_string());
        assert_eq!("ba78".parse::<Digest>(), Err(DigestError));
        assert_eq!("zz".repeat(32).parse::<Digest>(), Err(DigestError));
    }

    #[test]
    fn a_request_id_cannot_forge_a_log_line() {
        assert_eq!(RequestId::from_client(b"abc-1_2.3:4").unwrap().as_str(), "abc-1_2.3:4");
        for bad in [&b""[..], b"a b", b"a\nb", b"\xff", &[b'x'; 65]] {
            assert_eq!(RequestId::from_client(bad), None);
        }
        let longest = "x".repeat(REQUEST_ID_BYTES_MAX);
        assert_eq!(RequestId::from_client(longest.as_bytes()).unwrap().to_string(), longest);
        assert_eq!(RequestId::from_random(0x1f).as_str(), "000000000000001f");
    }
}
