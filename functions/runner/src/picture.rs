use mayfly::anyhow::{Context, bail, ensure};
use mayfly::image::{Layout, Picture};
use mayfly::onnx::Model;
use mayfly::{Body, Request, Response, Result};
use serde::Serialize;

use crate::config::{Fit, Image, Order};

/// Answers given of a model with labels.
const TOP: usize = 5;

/// How pictures are asked about.
pub(crate) struct Pictures {
    input: String,
    width: u32,
    height: u32,
    layout: Layout,
    image: Image,
    labels: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct Guess<'a> {
    label: &'a str,
    index: usize,
    score: f32,
}

#[derive(Debug, Serialize)]
struct Output<'a> {
    name: &'a str,
    shape: &'a [usize],
    data: &'a [f32],
}

impl Pictures {
    /// Checks that the model takes one picture.
    pub(crate) fn new(image: Image, labels: Option<String>, model: &Model) -> Result<Self> {
        let [port] = model.inputs() else {
            bail!(
                "a model that takes pictures has one input; this one has {}",
                model.inputs().len()
            )
        };
        let layout = match image.layout {
            Order::Nchw => Layout::Nchw,
            Order::Nhwc => Layout::Nhwc,
        };
        let shape =
            port.fixed_shape().with_context(|| format!("the input {port} has open dimensions"))?;
        let (height, width) = match (layout, shape.as_slice()) {
            (Layout::Nchw, &[1, 3, height, width]) | (Layout::Nhwc, &[1, height, width, 3]) => {
                (height, width)
            }
            (Layout::Nchw, _) => {
                bail!("the input {port} is no picture of the layout nchw: [1, 3, height, width]")
            }
            (Layout::Nhwc, _) => {
                bail!("the input {port} is no picture of the layout nhwc: [1, height, width, 3]")
            }
        };
        ensure!(image.scale.iter().all(|scale| *scale != 0.0), "a scale of 0 divides by zero");
        let input = port.name().to_owned();
        let (width, height) = (u32::try_from(width)?, u32::try_from(height)?);
        let labels = labels.map(|labels| labels.lines().map(str::to_owned).collect::<Vec<_>>());
        if let Some(labels) = &labels {
            let classes = model.outputs().first().and_then(|port| port.fixed_shape());
            let classes = classes.map(|shape| shape.iter().product::<usize>());
            if let Some(classes) = classes {
                ensure!(
                    classes == labels.len(),
                    "{} labels for an output of {classes} numbers",
                    labels.len()
                );
            }
        }
        Ok(Self { input, width, height, layout, image, labels })
    }

    /// How a picture becomes the input, for who sends tensors and wants the same numbers.
    pub(crate) fn describe(&self, model: &mut Model) {
        let numbers = |numbers: [f32; 3]| numbers.map(|number| number.to_string()).join(",");
        let fit = match self.image.fit {
            Fit::Crop => "crop",
            Fit::Stretch => "stretch",
        };
        let layout = match self.layout {
            Layout::Nchw => "nchw",
            Layout::Nhwc => "nhwc",
        };
        for (name, value) in [
            ("picture_size", format!("{}x{}", self.width, self.height)),
            ("picture_fit", fit.to_owned()),
            ("picture_filter", "bilinear".to_owned()),
            ("picture_colours", "RGB, 0 to 255".to_owned()),
            ("picture_mean", numbers(self.image.mean)),
            ("picture_scale", numbers(self.image.scale)),
            ("picture_layout", layout.to_owned()),
        ] {
            model.set_parameter(name, value);
        }
    }

    pub(crate) fn answer(&self, model: &Model, request: Request) -> Result<Response> {
        let file = request.into_body().bytes()?;
        let picture = Picture::decode(&file)?;
        let picture = match self.image.fit {
            Fit::Crop => picture.resize_to_fill(self.width, self.height),
            Fit::Stretch => picture.resize(self.width, self.height),
        };
        let tensor = picture.tensor(self.layout, self.image.mean, self.image.scale)?;
        let outputs = model.run([(self.input.as_str(), tensor)])?;
        if let Some(labels) = &self.labels {
            let (_, scores) = outputs.iter().next().context("the model gives nothing")?;
            let scores = probabilities(scores.as_slice()?);
            return Ok(Response::new(Body::from_json(&top(labels, &scores))?));
        }
        let outputs = outputs.iter().map(|(name, tensor)| {
            Ok(Output { name, shape: tensor.shape(), data: tensor.as_slice()? })
        });
        let outputs = outputs.collect::<Result<Vec<_>>>()?;
        Ok(Response::new(Body::from_json(&outputs)?))
    }
}

fn top<'a>(labels: &'a [String], scores: &[f32]) -> Vec<Guess<'a>> {
    let guesses = labels.iter().zip(scores).enumerate();
    let mut guesses: Vec<_> =
        guesses.map(|(index, (label, &score))| Guess { label, index, score }).collect();
    guesses.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
    guesses.truncate(TOP);
    guesses
}

/// Scores as they are if they are probabilities already, else their softmax.
fn probabilities(scores: &[f32]) -> Vec<f32> {
    let sum: f32 = scores.iter().sum();
    if scores.iter().all(|score| (0.0..=1.0).contains(score)) && (sum - 1.0).abs() < 1e-3 {
        return scores.to_vec();
    }
    // The largest becomes exp(0), so that none overflows.
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<_> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_stay_and_logits_become_some() {
        assert_eq!(probabilities(&[0.25, 0.75]), [0.25, 0.75]);
        let made = probabilities(&[1000.0, 1000.0, -1000.0]);
        assert!((made[0] - 0.5).abs() < 1e-6 && made[2] == 0.0, "{made:?}");
    }

    #[test]
    fn the_likeliest_come_first() {
        let labels: Vec<_> = ["a", "b", "c"].map(str::to_owned).into();
        let top = top(&labels, &[0.1, 0.7, 0.2]);
        let order: Vec<_> = top.iter().map(|guess| guess.label).collect();
        assert_eq!(order, ["b", "c", "a"]);
    }
}
