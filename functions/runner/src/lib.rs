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

// What `mayfly` looks at before it packs a model: of which build this is, and which operators it has.
mayfly::section!("mayfly.runner", &mayfly_abi::RUNNER_CONFIG.to_le_bytes());
mayfly::section!("mayfly.operators", include_bytes!("../../../guest-sdk/src/onnx/operators.txt"));

struct Runner {
    model: Model,
    pictures: Option<Pictures>,
}

impl Function for Runner {
    fn init() -> Result<Self> {
        let config = Config::load(CONFIG)?;
        let mut model = config.options().load(MODEL)?;
        model.notes().iter().for_each(|note| eprintln!("note: {note}"));
        // Fails here rather than at the first request if a type cannot be carried.
        model.metadata()?;
        let labels = if config.labels { Some(String::from_utf8(asset(LABELS)?)?) } else { None };
        let pictures =
            config.image.map(|image| Pictures::new(image, labels, &model)).transpose()?;
        if let Some(pictures) = &pictures {
            pictures.describe(&mut model);
        }
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
            _ if is_misguided(&request) => {
                Err(Error::unsupported_media_type(self.guide(&request)).into())
            }
            _ => self.model.serve(request),
        }
    }
}

impl Runner {
    /// What to send in place of what was.
    fn guide(&self, request: &Request) -> String {
        let form = kind(request).is_some_and(|kind| kind.starts_with("multipart/"));
        match (&self.pictures, form) {
            (Some(_), true) => {
                "this is a form: send the picture itself, with curl by --data-binary @cat.jpg in place of -F".to_owned()
            }
            (Some(_), false) => {
                "send a JPEG or a PNG, or tensors by the inference protocol at /v2/models/NAME/infer".to_owned()
            }
            (None, _) => {
                "this model takes tensors, by the inference protocol at /v2/models/NAME/infer; it takes pictures if it is \
                 deployed with --mean and --scale"
                    .to_owned()
            }
        }
    }
}

fn kind(request: &Request) -> Option<&str> {
    request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok())
}

/// Whether somebody posts what is no tensor frame, which only the gateway sends.
fn is_misguided(request: &Request) -> bool {
    request.method() == Method::POST && kind(request) != Some(mayfly::onnx::TENSORS)
}

/// `curl --data-binary` says that everything is a form, so only what is surely something else is taken for that.
fn is_picture(request: &Request) -> bool {
    kind(request).is_none_or(|kind| {
        kind.starts_with("image/")
            || kind == "application/octet-stream"
            || kind == "application/x-www-form-urlencoded"
    })
}

mayfly::export!(Runner);
mayfly::export_model!();
