//! What a Mayfly host and a guest agree on: names, numbers and the two frames that cross between them.
//!
//! The prose version, for authors of SDKs in other languages, is `docs/abi.md`.
//! No allocation and no dependency: the host encodes requests and decodes responses,
//! a guest does the reverse, and both obey the caps in [`limits`].
#![no_std]
#![forbid(unsafe_code)]

mod frame;
mod tensor;

pub use frame::{
    FetchHead, FetchLine, FrameError, HeadReader, HeadWriter, RequestHead, RequestLine,
    ResponseHead, Truncated,
};
pub use tensor::{
    CONTENT_TYPE_MODEL, CONTENT_TYPE_TENSORS, DataType, EXPORT_TENSORS_V1, TENSORS_PREFIX_BYTES,
    TensorError, TensorInfo, TensorsHead, TensorsWriter,
};

/// Export that marks a module as speaking version 1 of the reactor ABI: a function `[] -> []` that is never called.
pub const EXPORT_ABI_V1: &str = "mayfly_abi_1";
/// Export run once at deploy, before the snapshot is taken: `[] -> []`. Optional.
pub const EXPORT_INIT: &str = "mayfly_init";
/// The name other tools give the same thing; accepted in command modules too.
pub const EXPORT_INIT_WIZER: &str = "wizer-initialize";
/// Export run for each request in a fresh instance: `[] -> []`.
pub const EXPORT_HANDLE: &str = "mayfly_handle";
/// Export that hashes a fixed key with a fresh hasher, `[] -> [i64]`: two restores of one snapshot must differ. Optional.
pub const EXPORT_SEED_PROBE: &str = "mayfly_seed_probe";
/// Export that says how many bytes of weights the snapshot keeps, `[] -> [i64]`; for people only. Optional.
pub const EXPORT_WEIGHT_BYTES: &str = "mayfly_weight_bytes";

/// Import module of the request and response functions.
pub const MODULE_HTTP: &str = "mayfly_http_v1";
/// Import module of the asset functions.
pub const MODULE_ASSET: &str = "mayfly_asset_v1";
/// Import module of the native kernels.
pub const MODULE_KERNELS: &str = "mayfly_kernels_v1";

/// Import module of calls to others.
pub const MODULE_FETCH: &str = "mayfly_fetch_v1";

/// A custom section of this name plus an asset's name carries that asset.
pub const ASSET_SECTION_PREFIX: &str = "mayfly.asset/";

/// Custom section of the stock runner: [`RUNNER_CONFIG`] as four bytes, little end first.
pub const SECTION_RUNNER: &str = "mayfly.runner";
/// Custom section of the stock runner: a line `domain NAME` for each domain that it knows beside the standard's own, and one
/// for each operator that it has, whatever its domain.
pub const SECTION_OPERATORS: &str = "mayfly.operators";
/// Version of the configuration that `mayfly deploy model.onnx` packs into the stock runner. It goes up with each change of
/// `functions/runner/src/config.rs`, so that a runner of another build is not uploaded.
pub const RUNNER_CONFIG: u32 = 1;

/// Custom section of the stock script runner: [`SCRIPT_CONFIG`] as four bytes, little end first.
pub const SECTION_SCRIPT: &str = "mayfly.script";
/// Version of the configuration that `mayfly deploy app.js` packs into the stock script runner. It goes up with each change
/// of `functions/script/src/config.rs`.
pub const SCRIPT_CONFIG: u32 = 1;

/// Returned by `request_body_read` when the client went away or sent a malformed body.
pub const ERR_BODY: i32 = -1;
/// Returned by `response_start` and `response_write` when the client no longer listens.
pub const ERR_CLOSED: i32 = -2;
/// Returned by `response_start` when a response was started already, and by `response_write` before one was.
pub const ERR_STATE: i32 = -3;
/// Returned by the asset functions when there is no such asset, or it is not available in this phase.
pub const ERR_NO_ASSET: i32 = -4;

/// No rule allows the call.
pub const ERR_FETCH_DENIED: i32 = -10;
/// The call is malformed, or its host has no address.
pub const ERR_FETCH_NAME: i32 = -11;
/// Its host has an address that nobody may call.
pub const ERR_FETCH_ADDRESS: i32 = -12;
/// No connection.
pub const ERR_FETCH_CONNECT: i32 = -13;
/// No TLS.
pub const ERR_FETCH_TLS: i32 = -14;
/// A clock ran out.
pub const ERR_FETCH_TIMEOUT: i32 = -15;
/// More than a limit allows.
pub const ERR_FETCH_TOO_LARGE: i32 = -16;
/// A number of calls, sockets or slots is used up.
pub const ERR_FETCH_BUDGET: i32 = -17;
/// The other side broke off, or there is no such call.
pub const ERR_FETCH_CLOSED: i32 = -18;
/// Functions that call each other in a circle.
pub const ERR_FETCH_LOOP: i32 = -19;

/// Caps that both sides obey.
pub mod limits {
    /// Bytes of an encoded response head: a status, 100 headers and 64 KiB of them fit with room to spare.
    pub const RESPONSE_HEAD_BYTES: usize = 96 * 1024;
    /// Headers in a response: the same bound that clients have to obey.
    pub const RESPONSE_HEADERS: usize = 100;
    /// Bytes of an asset's name.
    pub const ASSET_NAME_BYTES: usize = 128;
    /// Bytes of a tensor frame's head: hundreds of inputs with names of usual length.
    pub const TENSOR_HEAD_BYTES: usize = 64 * 1024;
    /// Dimensions of a tensor: ONNX has no limit, and its operators stop at eight.
    pub const TENSOR_RANK: usize = 16;
    /// Assets in one module.
    pub const ASSETS: usize = 64;
}
