/// Why a request or an answer is refused. The text goes to the client as the protocol's `error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not JSON, or not of the protocol's form.
    #[error("the request's JSON: {0}")]
    Json(String),
    /// Inputs, outputs or parameters that the protocol does not allow.
    #[error("{0}")]
    Request(String),
    /// One input is wrong.
    #[error("input {name:?}: {why}")]
    Input {
        /// Its name.
        name: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// One output cannot be given in the form asked for.
    #[error("output {name:?}: {why}")]
    Output {
        /// Its name.
        name: String,
        /// What stands in the way.
        why: String,
    },
    /// More bytes than the model's function takes.
    #[error("the inputs take {bytes} bytes, and this model's request-body limit is {limit}")]
    TooLarge {
        /// Bytes of all inputs.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The model's function does not keep to the tensor frame.
    #[error("the model's function answered with something that is no tensor frame: {0}")]
    Frame(String),
}

impl Error {
    /// The status that goes with it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Json(_) | Self::Request(_) | Self::Input { .. } | Self::Output { .. } => 400,
            Self::TooLarge { .. } => 413,
            Self::Frame(_) => 502,
        }
    }

    pub(crate) fn input(name: &str, why: impl Into<String>) -> Self {
        Self::Input { name: shown(name), why: why.into() }
    }

    pub(crate) fn output(name: &str, why: impl Into<String>) -> Self {
        Self::Output { name: shown(name), why: why.into() }
    }
}

/// A name as a client gave it, short enough for a message.
pub(crate) fn shown(name: &str) -> String {
    const MOST: usize = 100;
    let mut short: String = name.chars().take(MOST).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    short
}
