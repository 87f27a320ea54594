//! Tells the type of any bytes by what they look like: a body of any length in, its likeliest type out.
//!
//! The model is Magika's; see `NOTICE.md`. What is done around it follows Magika's own Python package.

mod kinds;
mod sample;

use mayfly::http::Method;
use mayfly::onnx::{Model, Tensor};
use mayfly::{Body, Error, Function, Request, Response, Result};
use serde::Serialize;

use kinds::Kinds;
use sample::Sample;

mayfly::asset!("magika.onnx", "../magika.onnx");

struct FileType {
    model: Model,
    kinds: Kinds,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    label: &'a str,
    description: &'a str,
    mime: &'a str,
    score: f32,
}

impl Function for FileType {
    fn init() -> Result<Self> {
        let model = Model::options().shape("bytes", [1, sample::FEATURES]).load("magika.onnx")?;
        Ok(Self { model, kinds: Kinds::read(include_str!("../kinds.tsv"))? })
    }

    fn handle(&self, request: Request) -> Result<Response> {
        if request.method() != Method::POST {
            return Err(Error::method_not_allowed("POST the bytes to look at").into());
        }
        let answer = self.tell(&Sample::read(request.into_body())?)?;
        Ok(Response::new(Body::from_json(&answer)?))
    }
}

impl FileType {
    fn tell(&self, sample: &Sample) -> Result<Answer<'_>> {
        let (kind, score) = if sample.is_empty() {
            (self.kinds.empty(), 1.0)
        } else if let Some(features) = sample.features() {
            let input = Tensor::new(&[1, sample::FEATURES], &features)?;
            let outputs = self.model.run([("bytes", input)])?;
            self.kinds.choose(outputs.get("target_label")?.as_slice()?)?
        } else {
            // Too little for the model to see anything in.
            (self.kinds.generic(sample.is_text()), 1.0)
        };
        let kinds::Kind { label, description, mime, .. } = kind;
        Ok(Answer { label, description, mime, score })
    }
}

mayfly::export!(FileType);
