//! The Open Inference Protocol v2 (KServe's, also Triton's) as values, with its binary tensor extension.
//!
//! Pure: bytes in, values out. What a client sends is checked against what the model says of itself before a guest is
//! made for it, and reaches the guest as a tensor frame (`mayfly-abi`), never as JSON.
//! The prose version is `docs/inference-protocol.md`.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod error;
mod model;
mod numbers;
mod path;
mod request;
mod response;
mod shapes;
mod stats;
mod text;

pub use error::Error;
pub use model::{Model, Port};
pub use path::{ModelPath, Resource};
pub use request::{Bounds, Data, InferRequest, Input, Wanted};
pub use response::{Encoded, Output, decode_frame, encode, most_bytes};
pub use shapes::{InputShapes, Others, READY, Shapes};
pub use stats::{Spent, Stats};

/// Header that says how many bytes of a body are JSON, when tensors follow it.
pub const HEADER_LENGTH: &str = "inference-header-content-length";
/// What this server speaks beyond the protocol's core.
pub const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "model_configuration", "statistics"];
/// What kind of model this is, in the protocol's words.
pub const PLATFORM: &str = "onnx_onnxv1";
/// The same in the words of Triton's configuration.
pub const CONFIG_PLATFORM: &str = "onnxruntime_onnx";

/// The protocol's error body.
#[must_use]
pub fn error_body(message: &str) -> Vec<u8> {
    // A map of strings always serialises.
    serde_json::to_vec(&serde_json::json!({ "error": message })).unwrap_or_default()
}
