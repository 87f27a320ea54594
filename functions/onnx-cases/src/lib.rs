//! Runs a model that comes with the request: the guest of `make onnx-conformance`, which has a few thousand models of
//! one node each, none of which is worth a deploy.
//!
//! `POST /` of the model's length (`u32`, little-endian), the ONNX file, and a tensor frame of its inputs. The answer
//! is a tensor frame of its outputs; 422 says that the model cannot be loaded, and 400 that it cannot be run.

use mayfly::http::{Request as HttpRequest, header};
use mayfly::onnx::Model;
use mayfly::{Body, Error, Function, Request, Response, Result};

/// What [`Model::serve`] takes.
const TENSORS: &str = "application/vnd.mayfly.tensors";

struct Cases;

impl Function for Cases {
    fn init() -> Result<Self> {
        Ok(Self)
    }

    fn handle(&self, request: Request) -> Result<Response> {
        let body = request.into_body().bytes()?;
        let (model, frame) = split(&body)
            .ok_or_else(|| Error::bad_request("the body ends before the model that it promises"))?;
        // On zeros a model may fail that runs on the inputs of its case.
        let model = Model::options()
            .warm_up(false)
            .check(false)
            .parse("case", model)
            .map_err(|why| Error::unprocessable(format!("{why:#}")))?;
        let request = HttpRequest::post("/")
            .header(header::CONTENT_TYPE, TENSORS)
            .body(Body::from(frame.to_vec()))?;
        model.serve(request)
    }
}

fn split(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = body.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

mayfly::export!(Cases);
