use mayfly::http::Method;
use mayfly::onnx::{Model, Tensor};
use mayfly::{Body, Error, Function, Request, Response, Result};
use serde::{Deserialize, Serialize};

mayfly::asset!("model.onnx", "../model.onnx");

struct Scores {
    model: Model,
}

#[derive(Deserialize)]
struct Question {
    x: [f32; 3],
}

#[derive(Serialize)]
struct Answer {
    y: Vec<f32>,
}

impl Function for Scores {
    /// Runs once, at deploy: each request starts from a snapshot with the model loaded and ready.
    fn init() -> Result<Self> {
        Ok(Self { model: Model::options().shape("x", [1, 3]).load("model.onnx")? })
    }

    fn handle(&self, request: Request) -> Result<Response> {
        if request.method() != Method::POST {
            return Err(Error::method_not_allowed("POST {\"x\": [1, 2, 3]}").into());
        }
        let Question { x } = request.into_body().json()?;
        let outputs = self.model.run([("x", Tensor::new(&[1, 3], &x)?)])?;
        let y = outputs.get("y")?.as_slice::<f32>()?.to_vec();
        Ok(Response::new(Body::from_json(&Answer { y })?))
    }
}

mayfly::export!(Scores);
