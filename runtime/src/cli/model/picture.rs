//! How a picture becomes a model's input: what was said of it, what can be seen of it, and what to say where nothing was.

use serde_json::{Value, json};

use super::onnx::{Dim, Onnx};
use super::{ModelArgs, Shapes};

impl ModelArgs {
    /// What was said of pictures, for the runner.
    pub(super) fn image(&self, onnx: &Onnx, shapes: &Shapes) -> Result<Option<Value>, String> {
        let Self { mean, scale, layout, fit, .. } = self;
        if [mean, scale, layout, fit].iter().all(|given| given.is_none()) {
            if self.labels.is_some() {
                return Err("--labels needs to know how a picture becomes the input: add --mean and --scale".into());
            }
            return Ok(None);
        }
        let mean = three("--mean", mean.as_deref().unwrap_or("0"))?;
        let scale = three("--scale", scale.as_deref().unwrap_or("1"))?;
        if scale.contains(&0.0) {
            return Err("--scale 0 would divide by zero".into());
        }
        let fit = match fit.as_deref().map(str::to_ascii_lowercase) {
            Some(fit) if fit == "crop" || fit == "stretch" => fit,
            Some(fit) => return Err(format!("--fit {fit}: write crop or stretch")),
            None => "crop".to_owned(),
        };
        let layout = match layout.as_deref().map(str::to_ascii_lowercase) {
            Some(layout) if layout == "nchw" || layout == "nhwc" => layout,
            Some(layout) => return Err(format!("--layout {layout}: write nchw or nhwc")),
            None => guess_layout(onnx, shapes)?.to_owned(),
        };
        Ok(Some(json!({ "mean": mean, "scale": scale, "layout": layout, "fit": fit })))
    }
}

fn three(flag: &str, text: &str) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    match numbers.as_deref() {
        Ok(&[one]) => Ok([one; 3]),
        Ok(&[red, green, blue]) => Ok([red, green, blue]),
        _ => Err(format!("{flag} {text}: write one number, or three with commas between")),
    }
}

fn guess_layout(onnx: &Onnx, shapes: &Shapes) -> Result<&'static str, String> {
    let [input] = onnx.inputs.as_slice() else {
        return Err(format!(
            "a model that takes pictures has one input, and this one has\n{}",
            onnx.list()
        ));
    };
    let size = |i: usize| match shapes.get(&input.name) {
        Some(shape) => shape.get(i).copied().flatten(),
        None => input.shape.get(i).and_then(Dim::size),
    };
    match (size(1), size(3)) {
        (Some(3), _) => Ok("nchw"),
        (_, Some(3)) => Ok("nhwc"),
        _ => Err(format!(
            "the input is no picture of three colours; its inputs are\n{}",
            onnx.list()
        )),
    }
}

/// What is to be said at deploy: how a picture becomes the input, or that one could.
pub(super) fn note(onnx: &Onnx, shapes: &Shapes, image: Option<&Value>) -> Option<String> {
    match image {
        Some(image) => {
            let fit = match image["fit"].as_str() {
                Some("stretch") => "is stretched",
                _ => "has the middle cut out in its proportions, which is resized",
            };
            Some(format!(
                "a picture sent by POST {fit} to the input's size; its red, green and blue, 0 to 255, become (colour - {}) / \
                 {}, {}",
                image["mean"], image["scale"], image["layout"].as_str().unwrap_or_default()
            ))
        }
        None if onnx.inputs.iter().all(|input| input.shape.len() == 4)
            && guess_layout(onnx, shapes).is_ok() =>
        {
            Some(
            "its input looks like a picture: with --mean and --scale it takes a JPEG or PNG by POST as well; without them \
             it takes tensors only, and nothing is resized or normalised here"
                .to_owned(),
            )
        }
        None => None,
    }
}
