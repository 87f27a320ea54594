//! Why there is no answer, as a number for the guest and in words for its author.

use std::fmt;

/// Kinds of failure; the numbers of `docs/abi.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// No rule allows it.
    Denied,
    /// The call is malformed, or its host has no address.
    Name,
    /// Its host has an address that nobody reaches.
    Address,
    /// No connection.
    Connect,
    /// No TLS.
    Tls,
    /// A clock ran out.
    Timeout,
    /// More than a limit allows.
    TooLarge,
    /// A number of calls, sockets or slots is used up.
    Budget,
    /// The other side broke off.
    Closed,
    /// Functions that call each other in a circle.
    Loop,
}

impl Code {
    /// As a guest gets it.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::Denied => mayfly_abi::ERR_FETCH_DENIED,
            Self::Name => mayfly_abi::ERR_FETCH_NAME,
            Self::Address => mayfly_abi::ERR_FETCH_ADDRESS,
            Self::Connect => mayfly_abi::ERR_FETCH_CONNECT,
            Self::Tls => mayfly_abi::ERR_FETCH_TLS,
            Self::Timeout => mayfly_abi::ERR_FETCH_TIMEOUT,
            Self::TooLarge => mayfly_abi::ERR_FETCH_TOO_LARGE,
            Self::Budget => mayfly_abi::ERR_FETCH_BUDGET,
            Self::Closed => mayfly_abi::ERR_FETCH_CLOSED,
            Self::Loop => mayfly_abi::ERR_FETCH_LOOP,
        }
    }
}

/// A call that has no answer, or none that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub code: Code,
    /// What happened, and what to do.
    pub words: String,
}

impl Fault {
    /// One of this kind.
    pub fn new(code: Code, words: impl Into<String>) -> Self {
        Self { code, words: words.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Fault {}
