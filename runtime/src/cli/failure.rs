//! How a verb fails: what to print, and the exit code.

use std::fmt::Display;

/// Exit codes, as sysexits.h has them.
pub(crate) mod code {
    /// Refused or failed.
    pub(crate) const FAILED: u8 = 1;
    /// Wrong usage.
    pub(crate) const USAGE: u8 = 64;
    /// The node cannot be reached.
    pub(crate) const UNREACHABLE: u8 = 69;
    /// No token, or not the right one.
    pub(crate) const TOKEN: u8 = 77;
    /// Wrong configuration.
    pub(crate) const CONFIG: u8 = 78;
}

/// Why a verb did not do it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// What to print; empty for nothing.
    pub(crate) text: String,
}

impl Failure {
    /// A failure with this exit code.
    pub(crate) fn new(code: u8, text: impl Display) -> Self {
        Self { code, text: text.to_string() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // `mayfly logs | head`: the reader has had enough, which is no failure.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(0, "");
        }
        Self::new(code::FAILED, error)
    }
}
