//! A model's options out of `function.toml`.

use std::path::Path;

use mayfly_runtime::dev::manifest::Model;

use super::super::Failure;
use super::ModelArgs;
use super::runner::Runner;

impl ModelArgs {
    /// Takes from the file what was not said as a flag; paths in it are from its directory.
    pub(in super::super) fn fill(&mut self, file: &Model, dir: &Path) {
        let Model { input, dim, mean, scale, fit, layout, labels } = file;
        for (own, other) in [(&mut self.input, input), (&mut self.dim, dim)] {
            if own.is_empty() {
                own.clone_from(other);
            }
        }
        let texts = [
            (&mut self.mean, mean),
            (&mut self.scale, scale),
            (&mut self.fit, fit),
            (&mut self.layout, layout),
        ];
        for (own, other) in texts {
            if own.is_none() {
                own.clone_from(other);
            }
        }
        if self.labels.is_none() {
            self.labels = labels.as_ref().map(|labels| dir.join(labels));
        }
    }

    /// Whether there is a runner to pack a model into.
    ///
    /// # Errors
    /// Where it was looked for, and what to do.
    pub(in super::super) fn runner_found(&self) -> Result<(), Failure> {
        Runner::find(self.runner.as_deref()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_goes_before_the_file() {
        let mut arguments = ModelArgs { mean: Some("1".into()), ..ModelArgs::default() };
        let file = Model {
            input: vec!["x=1x3".into()],
            mean: Some("2".into()),
            labels: Some("labels.txt".into()),
            ..Model::default()
        };
        arguments.fill(&file, Path::new("/f"));
        assert_eq!((arguments.input.len(), arguments.mean.as_deref()), (1, Some("1")));
        assert_eq!(arguments.labels.as_deref(), Some(Path::new("/f/labels.txt")));
    }
}
