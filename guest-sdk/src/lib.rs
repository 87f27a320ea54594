//! Write [Mayfly](https://github.com/mayfly-runtime/mayfly) functions in Rust.
//!
//! ```
//! use mayfly::{Request, Response, Result};
//!
//! fn hello(_: Request) -> Result<Response> {
//!     Ok(Response::new("Hello from a fresh sandbox\n".into()))
//! }
//!
//! mayfly::export!(fn hello);
//! ```
//!
//! Put that into a crate with `crate-type = ["cdylib"]`, build it for `wasm32-wasip1` and deploy it:
//!
//! ```text
//! cargo build --release --target wasm32-wasip1
//! mayfly deploy target/wasm32-wasip1/release/hello.wasm
//! curl http://127.0.0.1:3000/hello
//! ```
//!
//! # Every request gets a new instance
//!
//! Nothing that a request leaves behind is there for the next one. What is worth keeping is made once,
//! at deploy, by [`Function::init`]: the host runs it, takes a snapshot of the instance's memory, and
//! starts each request from a copy of that snapshot within microseconds. So read models and tables,
//! build indexes, and warm up there:
//!
//! ```
//! use std::collections::HashMap;
//!
//! use mayfly::{Error, Function, Request, Response, Result};
//!
//! struct Capitals(HashMap<&'static str, &'static str>);
//!
//! impl Function for Capitals {
//!     fn init() -> Result<Self> {
//!         Ok(Self(HashMap::from([("france", "Paris"), ("japan", "Tokyo")])))
//!     }
//!
//!     fn handle(&self, request: Request) -> Result<Response> {
//!         let country = request.uri().path().trim_start_matches('/');
//!         let city = self.0.get(country).ok_or_else(|| Error::not_found("no such country"))?;
//!         Ok(Response::new((*city).into()))
//!     }
//! }
//!
//! mayfly::export!(Capitals);
//! # // A function is a plain type, so its tests need no host.
//! # let request = Request::new(mayfly::Body::empty());
//! # assert!(Capitals::init()?.handle(request).is_err());
//! # mayfly::anyhow::Ok(())
//! ```
//!
//! In init the clock stands still, the environment is empty, and random numbers are a constant that is
//! the same in every instance: make keys and secrets in `handle`. Hash maps made in `handle` have seeds
//! of their own in each instance; the ones made in init share theirs.
//!
//! # Calling others
//!
//! [`fetch`] calls what the function was allowed to call when it was deployed, with `--outbound`.
//!
//! # Errors
//!
//! [`Result`] is [`anyhow::Result`], so `?`, `bail!` and `.context("…")` work on everything. An
//! [`Error`] anywhere in the chain has a status and is shown to the client; any other error, and a
//! panic, is logged, and the client gets a 502 that tells nothing of it.
//!
//! # Testing
//!
//! Off wasm there is no host, but a function is a plain type, a [`Request`] can be built from bytes,
//! and a response's [`Body`] can be read, streams included:
//!
//! ```
//! # use mayfly::{Body, Request, Response, Result};
//! # fn shout(request: Request) -> Result<Response> {
//! #     Ok(Response::new(request.into_body().text()?.to_uppercase().into()))
//! # }
//! let response = shout(Request::new("hello".into()))?;
//! assert_eq!(response.into_body().text()?, "HELLO");
//! # mayfly::anyhow::Ok(())
//! ```
//!
//! # Building small and fast
//!
//! ```toml
//! [profile.release]
//! lto = "fat"
//! codegen-units = 1
//! panic = "abort"
//! strip = "symbols"
//! ```
//!
//! Models are slow without SIMD, which `.cargo/config.toml` turns on; relaxed SIMD is what has a fused
//! multiply-add:
//!
//! ```toml
//! [target.wasm32-wasip1]
//! rustflags = ["-C", "target-feature=+simd128,+relaxed-simd"]
//! ```
//!
//! # Features
//!
//! None is on by default; `hello` is below 128 KiB.
//!
//! | feature | gives |
//! | --- | --- |
//! | `json` | `Body::json` and `Body::from_json`, by serde |
//! | `onnx` | `onnx::Model`, run by tract; turns on `kernels` and `alloc` |
//! | `image` | `image::Picture`: PNG and JPEG to tensors |
//! | `alloc` | a global allocator that keeps the snapshot of a large init small |
//! | `kernels` | `onnx` by the host's native kernels where it offers them; without, always in wasm |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_docs)]

mod asset;
mod body;
mod error;
pub mod fetch;
mod host;
mod request;
mod response;
mod seed;

#[cfg(feature = "alloc")]
pub mod alloc;
#[cfg(feature = "image")]
pub mod image;
#[cfg(feature = "onnx")]
pub mod kernels;
#[cfg(feature = "onnx")]
pub mod onnx;

#[doc(hidden)]
#[path = "entry.rs"]
pub mod __entry;

pub use anyhow;
pub use http;

pub use asset::asset;
pub use body::{Body, BodyWriter};
pub use error::Error;
pub use request::{Context, context};

/// A request: the [`http`] crate's type with a streamed [`Body`].
///
/// Its URI is the path below the route and the query; [`context`] has the rest.
pub type Request = http::Request<Body>;

/// A response: the [`http`] crate's type with a [`Body`] of bytes or a stream.
///
/// The host owns framing: it sets `Content-Length` or chunks by itself, and drops the function's.
pub type Response = http::Response<Body>;

/// What can fail in a function; see [Errors](crate#errors).
pub type Result<T, E = anyhow::Error> = std::result::Result<T, E>;

/// A function: state that is made once, at deploy, and a handler that each request calls in an instance of its own.
pub trait Function: Sized + 'static {
    /// Makes the state. Runs at deploy; what it leaves in memory is in the snapshot that every request starts from.
    ///
    /// # Errors
    /// An error fails the deploy and is shown to who deploys.
    fn init() -> Result<Self>;

    /// Handles one request.
    ///
    /// # Errors
    /// See [Errors](crate#errors).
    fn handle(&self, request: Request) -> Result<Response>;

    /// A number that a generator of the function's own gives first in an instance, if it has one: publish asks for it in
    /// two restores of the snapshot, and they must differ. Rust's hash seeds are looked at in any case.
    fn seed(&self) -> Option<u64> {
        None
    }
}

/// Fills `buffer` with fresh random bytes. In [`Function::init`] they are a constant.
pub fn fill_random(buffer: &mut [u8]) {
    // A host that has none ends the instance rather than giving zeros for secrets.
    assert!(host::random(buffer), "the host has no random numbers");
}

/// Notes the time since the request's arrival under `id` (0 to 7); the host shows it in `Server-Timing`.
pub fn mark(id: u8) {
    host::mark(id);
}

/// Makes a [`Function`], or `fn name` for one without state, what this module exports. Once in a crate.
///
/// ```
/// # use mayfly::{Request, Response, Result};
/// fn hello(_: Request) -> Result<Response> {
///     Ok(Response::new("hello\n".into()))
/// }
///
/// mayfly::export!(fn hello);
/// ```
#[macro_export]
macro_rules! export {
    (fn $handle:path) => {
        struct MayflyFunction;

        impl $crate::Function for MayflyFunction {
            fn init() -> $crate::Result<Self> {
                Ok(Self)
            }

            fn handle(&self, request: $crate::Request) -> $crate::Result<$crate::Response> {
                $handle(request)
            }
        }

        $crate::export!(MayflyFunction);
    };
    ($function:ty) => {
        const _: () = {
            use $crate::__entry as entry;

            ::std::thread_local! {
                static FUNCTION: ::std::cell::OnceCell<&'static $function> =
                    const { ::std::cell::OnceCell::new() };
            }

            fn function() -> &'static $function {
                FUNCTION.with(|function| *function.get_or_init(entry::init::<$function>))
            }

            #[cfg_attr(target_family = "wasm", unsafe(no_mangle))]
            extern "C" fn mayfly_abi_1() {}

            #[cfg_attr(target_family = "wasm", unsafe(no_mangle))]
            extern "C" fn _initialize() {
                entry::construct();
            }

            #[cfg_attr(target_family = "wasm", unsafe(no_mangle))]
            extern "C" fn mayfly_init() {
                function();
                entry::seal();
            }

            #[cfg_attr(target_family = "wasm", unsafe(no_mangle))]
            extern "C" fn mayfly_handle() {
                entry::restore();
                entry::handle(function());
            }

            #[cfg_attr(target_family = "wasm", unsafe(no_mangle))]
            extern "C" fn mayfly_seed_probe() -> i64 {
                entry::seed_probe(function())
            }

            #[cfg_attr(target_family = "wasm", unsafe(no_mangle))]
            extern "C" fn mayfly_weight_bytes() -> i64 {
                entry::weight_bytes()
            }

            // Off wasm nothing is exported, and nothing may be reported as unused.
            const _: [extern "C" fn(); 4] = [mayfly_abi_1, _initialize, mayfly_init, mayfly_handle];
            const _: [extern "C" fn() -> i64; 2] = [mayfly_seed_probe, mayfly_weight_bytes];
        };
    };
}
