//! Bearer tokens of the admin API.

use std::fmt;

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::FunctionName;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read metrics.
    Metrics,
    /// Everything.
    Full,
}

/// A secret of 32 random bytes, written as 64 hexadecimal digits. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Draws a new one.
    #[must_use]
    pub fn generate(random: [u8; 32]) -> Self {
        Self(hex::encode(random))
    }

    /// Reads one back from its file; surrounding white space does not count.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let good =
            text.len() >= 32 && text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic());
        good.then(|| Self(text.to_owned()))
    }

    /// The secret, to be written to its file or sent.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Makes and knows the tokens by which previews of functions are reached: one for each function, always the same, so that
/// a link can be handed on and opens nothing else. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct PreviewKey([u8; 32]);

impl PreviewKey {
    /// From 32 secret bytes.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// A function's token: 32 hexadecimal digits.
    #[must_use]
    pub fn token(&self, function: &FunctionName) -> String {
        let mut hmac = <Hmac<Sha256>>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        hmac.update(function.as_str().as_bytes());
        hex::encode(&hmac.finalize().into_bytes()[..16])
    }

    /// Whether this is a function's token; takes as long for a wrong one.
    #[must_use]
    pub fn opens(&self, function: &FunctionName, given: &[u8]) -> bool {
        self.token(function).as_bytes().ct_eq(given).into()
    }
}

impl fmt::Debug for PreviewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreviewKey(..)")
    }
}

/// The tokens a node accepts, kept as hashes so that a comparison reveals neither length nor prefix.
#[derive(Clone)]
pub struct Tokens {
    full: [u8; 32],
    metrics: [u8; 32],
}

impl Tokens {
    /// Accepts these two.
    #[must_use]
    pub fn new(full: &Token, metrics: &Token) -> Self {
        Self { full: hash(full.reveal()), metrics: hash(metrics.reveal()) }
    }

    /// What the value of an `Authorization` header grants.
    #[must_use]
    pub fn access(&self, authorization: Option<&[u8]>) -> Option<Access> {
        let value = std::str::from_utf8(authorization?).ok()?;
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let given = hash(token.trim());
        // Both are compared always, so that the time does not tell which one was nearly right.
        let full = given.ct_eq(&self.full);
        let metrics = given.ct_eq(&self.metrics);
        if bool::from(full) {
            Some(Access::Full)
        } else if bool::from(metrics) {
            Some(Access::Metrics)
        } else {
            None
        }
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_grants_its_own_access_and_nothing_else_does() {
        let (full, metrics) = (Token::generate([1; 32]), Token::generate([2; 32]));
        let tokens = Tokens::new(&full, &metrics);
        let header = |token: &str| format!("Bearer {token}").into_bytes();
        assert_eq!(tokens.access(Some(&header(full.reveal()))), Some(Access::Full));
        assert_eq!(tokens.access(Some(&header(metrics.reveal()))), Some(Access::Metrics));
        let lower = format!("bearer {}", full.reveal());
        assert_eq!(tokens.access(Some(lower.as_bytes())), Some(Access::Full));
        let short = &full.reveal()[..63];
        for bad in [
            b"".to_vec(),
            b"Bearer".to_vec(),
            b"Bearer ".to_vec(),
            full.reveal().into(),
            format!("Basic {}", full.reveal()).into(),
            header(short),
            header(&format!("{}0", full.reveal())),
            header(&full.reveal().to_uppercase()),
            b"Bearer \xff".to_vec(),
        ] {
            let upper_is_same = full.reveal().chars().all(|c| c.is_ascii_digit());
            if upper_is_same && bad == header(&full.reveal().to_uppercase()) {
                continue;
            }
            assert_eq!(tokens.access(Some(&bad)), None, "{bad:?}");
        }
        assert_eq!(tokens.access(None), None);
    }

    #[test]
    fn a_token_file_must_hold_a_token() {
        let token = Token::generate([7; 32]);
        assert_eq!(
            Token::from_text(&format!("{}\n", token.reveal())).unwrap().reveal(),
            token.reveal()
        );
        for bad in ["", "short", &"x".repeat(257), &format!("{} {}", token.reveal(), "x")] {
            assert!(Token::from_text(bad).is_none(), "{bad:?}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
