//! What the guest's side can meet.

/// Why no more of a request's body can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client broke off.
    #[error("the client broke off its body")]
    Broken,
    /// The client sent something that is no body.
    #[error("the request's body is malformed")]
    Malformed,
    /// Nothing came for `BODY_IDLE_TIMEOUT`.
    #[error("the client stopped sending its body")]
    Idle,
    /// Over the function's limit.
    #[error("the request's body is over the limit")]
    TooLarge,
}

impl BodyError {
    /// What an error of the gateway's body means: bytes that cannot be, or none.
    #[must_use]
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        use std::io::ErrorKind::{InvalidData, InvalidInput};
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(own) = error.downcast_ref::<Self>() {
                return *own;
            }
            let io = error.downcast_ref::<std::io::Error>();
            if io.is_some_and(|io| matches!(io.kind(), InvalidData | InvalidInput)) {
                return Self::Malformed;
            }
            cause = error.source();
        }
        Self::Broken
    }
}

/// Why a guest cannot write its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The client is gone.
    #[error("the client is gone")]
    Gone,
    /// A response was started already, or none was.
    #[error("the response is not in the state for this")]
    State,
    /// Over the function's limit.
    #[error("the response's body is over the limit")]
    TooLarge,
}
