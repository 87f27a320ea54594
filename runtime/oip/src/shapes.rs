//! Which shapes a model is ready for, where they are not fixed: what its function says of that among its parameters.

use std::collections::BTreeMap;

use crate::InferRequest;

/// The shape of each input, by its name.
pub type InputShapes = BTreeMap<String, Vec<u64>>;

/// Shapes that are ready at most; more are passed over.
pub const READY: usize = 16;

/// What a model with open dimensions says of shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shapes {
    /// Those that it answers fastest.
    pub ready: Vec<InputShapes>,
    /// What the others get.
    pub others: Others,
}

/// What shapes get that a model is not ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// An error.
    Refused,
    /// An answer of a plan for all shapes, which is slower than one for its own.
    OnePlan,
    /// A plan that is made while the request waits.
    WhenMet,
}

impl Shapes {
    /// Reads a model's parameters; nothing if they say nothing of it, or nonsense.
    pub(crate) fn of(parameters: &BTreeMap<String, String>) -> Option<Self> {
        let others = match parameters.get("other_shapes")?.as_str() {
            "refused" => Others::Refused,
            "one plan for all" => Others::OnePlan,
            "a plan when they are met" => Others::WhenMet,
            _ => return None,
        };
        let mut ready: Vec<InputShapes> =
            serde_json::from_str(parameters.get("ready_shapes")?).ok()?;
        ready.truncate(READY);
        Some(Self { ready, others })
    }

    /// Which of those that are ready a request has.
    #[must_use]
    pub fn position(&self, request: &InferRequest) -> Option<usize> {
        let has = |ready: &InputShapes| {
            request.inputs.iter().all(|input| ready.get(&input.name) == Some(&input.shape))
        };
        self.ready.iter().position(has)
    }

    /// The shapes of a request.
    #[must_use]
    pub fn of_request(request: &InferRequest) -> InputShapes {
        request.inputs.iter().map(|input| (input.name.clone(), input.shape.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(ready: &str, others: &str) -> BTreeMap<String, String> {
        [("ready_shapes", ready), ("other_shapes", others)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn what_a_model_says_of_its_shapes_is_read_and_nonsense_passed_over() {
        let said = Shapes::of(&parameters(r#"[{"x":[1,4]},{"x":[8,4]}]"#, "refused")).unwrap();
        assert_eq!((said.ready.len(), said.others), (2, Others::Refused));
        assert_eq!(said.ready[1]["x"], [8, 4]);
        for (ready, others) in [("[{", "refused"), ("[{\"x\":[-1]}]", "refused"), ("[]", "maybe")] {
            assert_eq!(Shapes::of(&parameters(ready, others)), None, "{ready} {others}");
        }
        assert_eq!(Shapes::of(&BTreeMap::new()), None);
        let many = format!("[{}]", vec!["{}"; 100].join(","));
        assert_eq!(Shapes::of(&parameters(&many, "refused")).unwrap().ready.len(), READY);
    }
}
