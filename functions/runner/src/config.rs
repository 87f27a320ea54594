use std::collections::BTreeMap;

use mayfly::anyhow::Context;
use mayfly::onnx::{Model, Options};
use mayfly::{Result, asset};
use serde::Deserialize;

/// What was said at deploy. The other side is `runtime/src/cli/model`; a change of either raises
/// [`mayfly_abi::RUNNER_CONFIG`].
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Sizes of named dimensions.
    pub(crate) dims: BTreeMap<String, Sizes>,
    /// Whole shapes of inputs; nothing for a size that is left open.
    pub(crate) shapes: BTreeMap<String, Vec<Option<usize>>>,
    /// Shapes of all inputs that requests came with.
    pub(crate) met: Vec<BTreeMap<String, Vec<usize>>>,
    /// What panicked in init when it was tried.
    pub(crate) left_out: Vec<String>,
    /// How a picture becomes the input, if it does.
    pub(crate) image: Option<Image>,
    /// Whether there is an asset with a label a line.
    pub(crate) labels: bool,
}

/// The sizes that a dimension may have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sizes {
    /// Those that plans are made ready for.
    sizes: Vec<usize>,
    /// Whether it may have others.
    any: bool,
}

/// How a picture becomes the model's input.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    /// Taken off each of red, green and blue, which are 0 to 255.
    pub(crate) mean: [f32; 3],
    /// What the difference is divided by.
    pub(crate) scale: [f32; 3],
    /// Whether the colours' planes come one after the other.
    pub(crate) layout: Order,
    /// How a picture of other proportions becomes one of the input's.
    #[serde(default)]
    pub(crate) fit: Fit,
}

/// How a picture of other proportions becomes one of the input's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fit {
    /// The largest piece of the input's proportions is cut out of its middle.
    #[default]
    Crop,
    /// All of it is stretched.
    Stretch,
}

/// Order of a picture's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    Nchw,
    Nhwc,
}

impl Config {
    pub(crate) fn load(name: &str) -> Result<Self> {
        let text = String::from_utf8(asset(name)?)?;
        mayfly::Body::from(text).json().context("the runner's configuration")
    }

    pub(crate) fn options(&self) -> Options {
        let mut options = Model::options();
        for (name, Sizes { sizes, any }) in &self.dims {
            options = match any {
                true => options.any(name, sizes.clone()),
                false => options.dims(name, sizes.clone()),
            };
        }
        for (name, shape) in &self.shapes {
            options = options.open_shape(name, shape.clone());
        }
        for shapes in &self.met {
            options = options.met(shapes.clone());
        }
        for what in &self.left_out {
            options = options.leave_out(what);
        }
        options
    }
}
