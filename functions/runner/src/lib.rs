//! Serves a model that comes without code: `mayfly deploy model.onnx` adds the model and what was said about it to
//! this module as assets.
//!
//! `GET /` describes the model, `POST /` runs it: on a tensor frame (that is how the gateway's `/v2/models/` reaches
//! it), and on a picture if the deploy said how a picture becomes the model's input.

mod config;
mod picture;

use mayfly::http::{Method, header};
use mayfly::onnx::Model;
use mayfly::{Error, Function, Request, Response, Result, asset};

use config::Config;
use picture::Pictures;

/// What `mayfly deploy` calls the assets.
const MODEL: &str = "model.onnx";
const CONFIG: &str = "config.json";
const LABELS: &str = "labels.txt";

struct Runner {
    model: Model,
    pictures: Option<Pictures>,
}

impl Function for Runner {
    fn init() -> Result<Self> {
        let config = Config::load(CONFIG)?;
        let model = config.options().load(MODEL)?;
        // Fails here rather than at the first request if a type cannot be carried.
        model.metadata()?;
        let labels = if config.labels { Some(String::from_utf8(asset(LABELS)?)?) } else { None };
        let pictures =
            config.image.map(|image| Pictures::new(image, labels, &model)).transpose()?;
        Ok(Self { model, pictures })
    }

    fn handle(&self, request: Request) -> Result<Response> {
        if request.uri().path() != "/" {
            return Err(Error::not_found("a model has no paths of its own").into());
        }
        match &self.pictures {
            Some(pictures) if request.method() == Method::POST && is_picture(&request) => {
                pictures.answer(&self.model, request)
            }
            _ => self.model.serve(request),
        }
    }
}

/// `curl --data-binary` says that everything is a form, so only what is surely something else is taken for that.
fn is_picture(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_none_or(|kind| {
        kind.starts_with("image/")
            || kind == "application/octet-stream"
            || kind == "application/x-www-form-urlencoded"
    })
}

mayfly::export!(Runner);
mayfly::export_model!();
