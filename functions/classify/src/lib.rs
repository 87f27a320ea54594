//! Names what a picture shows: a PNG or JPEG of any size in, the five likeliest of the 1,000 ImageNet classes out.
//!
//! The model is EfficientNet-Lite0; see `NOTICE.md`.

use mayfly::http::Method;
use mayfly::image::{Layout, Picture};
use mayfly::onnx::Model;
use mayfly::{Body, Error, Function, Request, Response, Result};
use serde::Serialize;

mayfly::asset!("model.onnx", "../efficientnet_lite0_w8.onnx");

/// One class a line, most usual name first.
const LABELS: &str = include_str!("../labels.txt");

/// The side of the square that the model looks at, in pixels.
const SIDE: u32 = 224;

/// Answers given.
const TOP: usize = 5;

struct Classify {
    model: Model,
    labels: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Guess {
    label: &'static str,
    index: usize,
    score: f32,
}

impl Function for Classify {
    fn init() -> Result<Self> {
        let labels: Vec<_> = LABELS.lines().collect();
        Ok(Self { model: Model::load("model.onnx")?, labels })
    }

    fn handle(&self, request: Request) -> Result<Response> {
        if request.method() != Method::POST {
            return Err(Error::method_not_allowed("POST a PNG or a JPEG").into());
        }
        let file = request.into_body().bytes()?;
        let picture = Picture::decode(&file)?.resize_to_fill(SIDE, SIDE);
        // The range that the model was trained on: -1 to 1, with 127 in the middle.
        let input = picture.tensor(Layout::Nchw, [127.0; 3], [128.0; 3])?;
        let outputs = self.model.run([("input", input)])?;
        let scores = softmax(outputs.get("logits")?.as_slice()?);
        Ok(Response::new(Body::from_json(&self.top(&scores))?))
    }
}

impl Classify {
    fn top(&self, scores: &[f32]) -> Vec<Guess> {
        let mut guesses: Vec<_> = self
            .labels
            .iter()
            .zip(scores)
            .enumerate()
            .map(|(index, (label, &score))| Guess { label: usual(label), index, score })
            .collect();
        guesses.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
        guesses.truncate(TOP);
        guesses
    }
}

/// The first of a class's names.
fn usual(names: &'static str) -> &'static str {
    names.split_once(',').map_or(names, |(first, _)| first)
}

/// Makes scores of logits: positive, and 1 together.
fn softmax(logits: &[f32]) -> Vec<f32> {
    // The largest becomes exp(0), so that none overflows.
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<_> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

mayfly::export!(Classify);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_add_up_to_one_however_large_the_logits() {
        let scores = softmax(&[1000.0, 1000.0, 0.0]);
        assert!((scores[0] - 0.5).abs() < 1e-6 && (scores[1] - 0.5).abs() < 1e-6);
        assert!(scores[2].abs() < 1e-6);
    }

    #[test]
    fn there_is_a_name_for_each_class_and_the_first_is_used() {
        let labels: Vec<_> = LABELS.lines().collect();
        assert_eq!(labels.len(), 1000);
        assert_eq!(labels[285], "Egyptian cat");
        assert_eq!(usual(labels[0]), "tench");
    }
}
