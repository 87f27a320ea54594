//! ONNX models, run by [tract](https://docs.rs/tract-onnx) inside the sandbox.
//!
//! Load the model in init: parsing, optimising and packing it takes seconds, and the snapshot keeps
//! the result. A request then finds a model that is ready to run.
//!
//! ```no_run
//! use mayfly::onnx::{Model, Tensor};
//! use mayfly::{Body, Function, Request, Response, Result};
//!
//! # /*
//! mayfly::asset!("iris.onnx", "../iris.onnx");
//! # */
//!
//! struct Iris(Model);
//!
//! impl Function for Iris {
//!     fn init() -> Result<Self> {
//!         // The model's `N` is how many flowers it is asked about at once.
//!         Ok(Self(Model::options().dim("N", 1).load("iris.onnx")?))
//!     }
//!
//!     fn handle(&self, request: Request) -> Result<Response> {
//!         let flower: [f32; 4] = [5.1, 3.5, 1.4, 0.2];
//!         let outputs = self.0.run([("input", Tensor::new(&[1, 4], &flower)?)])?;
//!         let scores = outputs.get("probabilities")?.as_slice::<f32>()?;
//!         Ok(Response::new(format!("{scores:?}").into()))
//!     }
//! }
//!
//! mayfly::export!(Iris);
//! ```
//!
//! What a model may hold: ONNX operator sets 9 to 18, all weights in the one file. Weights stored as
//! int8 or f16 and expanded by `DequantizeLinear` or `Cast` are folded into f32 at load, so they make
//! the file smaller and the arithmetic no slower.

mod advice;
mod blame;
mod branch;
mod check;
mod constants;
mod contrib;
mod flatten;
mod load;
mod ml;
mod model;
mod narrow;
mod operators;
mod plan;
mod proto;
mod serve;
mod shapes;
mod slow;
mod source;
mod squeeze;
mod standard;
mod strings;
mod tensor;
mod text;
mod windows;

pub use tract_onnx as tract;

/// The content type of a tensor frame: what [`Model::serve`] takes, and only the gateway sends.
pub use mayfly_abi::CONTENT_TYPE_TENSORS as TENSORS;

pub use load::{ALL_SIZES, CHECK, Options, WARM_UP};
pub use model::{Model, Outputs, Port};
pub use tensor::{Element, Tensor};

#[cfg(test)]
mod tests;
