//! What the model's outputs stand for, and when to believe them.

use std::collections::HashMap;

use mayfly::Result;
use mayfly::anyhow::{Context, bail, ensure};

/// A type of file.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) label: &'static str,
    pub(crate) description: &'static str,
    pub(crate) mime: &'static str,
    is_text: bool,
}

/// An output of the model.
#[derive(Debug)]
struct Class {
    /// Below this score the type is taken for too uncertain to be named.
    threshold: f32,
    /// Mostly the class's own type; random bytes are shown as unknown ones.
    shown: usize,
}

#[derive(Debug)]
pub(crate) struct Kinds {
    kinds: Vec<Kind>,
    classes: Vec<Class>,
    empty: usize,
    text: usize,
    unknown: usize,
}

impl Kinds {
    /// Reads the table that `remake.py` writes: a line for each of the model's outputs in their order
    /// (label, label to show, threshold, `text` or `binary`, MIME type, description), then lines for
    /// types that the model does not know (with `-` as their threshold).
    pub(crate) fn read(table: &'static str) -> Result<Self> {
        let rows: Vec<Vec<_>> = table.lines().map(|line| line.split('\t').collect()).collect();
        let mut at = HashMap::with_capacity(rows.len());
        let mut kinds = Vec::with_capacity(rows.len());
        for row in &rows {
            let [label, _, _, nature, mime, description] = row[..] else {
                bail!("kinds.tsv: a line of {} columns: {row:?}", row.len());
            };
            at.insert(label, kinds.len());
            kinds.push(Kind { label, description, mime, is_text: nature == "text" });
        }
        let find = |label: &str| {
            at.get(label).copied().with_context(|| format!("kinds.tsv: no type {label:?}"))
        };
        let mut classes = Vec::with_capacity(rows.len());
        for row in rows.iter().filter(|row| row[2] != "-") {
            let threshold = row[2].parse().with_context(|| format!("kinds.tsv: {row:?}"))?;
            classes.push(Class { threshold, shown: find(row[1])? });
        }
        let (empty, text, unknown) = (find("empty")?, find("txt")?, find("unknown")?);
        Ok(Self { kinds, classes, empty, text, unknown })
    }

    /// The type that the model's scores stand for, and its score.
    pub(crate) fn choose(&self, scores: &[f32]) -> Result<(&Kind, f32)> {
        let classes = self.classes.len();
        ensure!(classes == scores.len(), "{} scores for {classes} classes", scores.len());
        let likeliest = scores.iter().zip(&self.classes).max_by(|a, b| a.0.total_cmp(b.0));
        let (&score, class) = likeliest.context("no classes")?;
        let shown = &self.kinds[class.shown];
        let kind = if score >= class.threshold { shown } else { self.generic(shown.is_text) };
        Ok((kind, score))
    }

    /// What is said of bytes of which no more is known.
    pub(crate) fn generic(&self, is_text: bool) -> &Kind {
        &self.kinds[if is_text { self.text } else { self.unknown }]
    }

    pub(crate) fn empty(&self) -> &Kind {
        &self.kinds[self.empty]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> Kinds {
        Kinds::read(include_str!("../kinds.tsv")).unwrap()
    }

    fn scores(kinds: &Kinds, label: &str, score: f32) -> Vec<f32> {
        let at = kinds.kinds.iter().position(|kind| kind.label == label).unwrap();
        let mut scores = vec![0.0; kinds.classes.len()];
        scores[at] = score;
        scores
    }

    #[test]
    fn a_sure_answer_is_named_and_an_unsure_one_is_not() {
        let kinds = kinds();
        assert_eq!(kinds.classes.len(), 214);
        let answer = |label, score| kinds.choose(&scores(&kinds, label, score)).unwrap().0.label;
        assert_eq!(answer("png", 0.6), "png");
        assert_eq!(answer("png", 0.4), "unknown");
        assert_eq!(answer("python", 0.4), "txt");
        // Markdown needs more than most.
        assert_eq!(answer("markdown", 0.6), "txt");
        assert_eq!(answer("randombytes", 0.9), "unknown");
    }

    #[test]
    fn a_model_of_another_size_is_refused() {
        assert!(kinds().choose(&[1.0]).is_err());
    }
}
