//! `TfIdfVectorizer`: how often each sequence of a pool is found in a row.

use std::collections::HashMap;

use tract_onnx::tract_core::internal::*;

use super::super::ml::attributes::Attributes;
use super::super::ml::{Kernel, Kind, OfNumbers, slice};

/// Columns that a file may ask for.
const COLUMNS_MAX: usize = 1 << 24;

#[derive(Debug)]
struct Vectorizer {
    items: Items,
    pool: Pool,
    /// Lengths of sequences that count.
    lengths: (usize, usize),
    /// Elements that may lie between two of a sequence.
    skips: usize,
    columns: usize,
    mode: Mode,
    /// For each column; none if all are 1.
    weights: Vec<f32>,
}

/// What the pool's elements are called in it.
#[derive(Debug)]
enum Items {
    Text(HashMap<String, u32>),
    Whole(HashMap<i64, u32>),
}

/// Sequences as ways through states, by one element after the other.
#[derive(Debug, Default)]
struct Pool {
    ways: HashMap<(u32, u32), u32>,
    /// Which column a sequence that ends in a state counts for.
    columns: HashMap<u32, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Count,
    Presence,
    Both,
}

pub(super) fn vectorizer(attributes: &Attributes<'_>) -> TractResult<Box<dyn Kernel>> {
    let mode = match attributes.string("mode", "")? {
        "TF" => Mode::Count,
        "IDF" => Mode::Presence,
        "TFIDF" => Mode::Both,
        other => bail!("its mode {other:?} is none of TF, IDF and TFIDF"),
    };
    let size = |name: &str, least: usize| {
        let size = attributes.has(name).then(|| attributes.int(name, 0));
        let size = size.and_then(|size| usize::try_from(size).ok()).filter(|&size| size >= least);
        size.with_context(|| format!("its `{name}` is missing, or less than {least}"))
    };
    let lengths = (size("min_gram_length", 1)?, size("max_gram_length", 1)?);
    let skips = size("max_skip_count", 0)?;
    let indexes = attributes.sizes("ngram_indexes")?;
    let columns = indexes.iter().max().map_or(0, |&last| last.saturating_add(1));
    ensure!(
        (1..=COLUMNS_MAX).contains(&columns),
        "its `ngram_indexes` ask for {columns} columns, and there are 1 to {COLUMNS_MAX}"
    );
    let weights = by_column(attributes.floats("weights"), &indexes, columns)?;
    let text = attributes.strings("pool_strings")?;
    let (items, ids) = if text.is_empty() {
        let (items, ids) = named(attributes.ints("pool_int64s").iter().copied());
        (Items::Whole(items), ids)
    } else {
        let (items, ids) = named(text.into_iter());
        (Items::Text(items), ids)
    };
    ensure!(!ids.is_empty(), "it needs one of `pool_strings` and `pool_int64s`");
    let pool = Pool::new(&ids, &attributes.sizes("ngram_counts")?, &indexes, lengths)?;
    Ok(Box::new(Vectorizer { items, pool, lengths, skips, columns, mode, weights }))
}

/// The weights of sequences, by the columns that those count for.
fn by_column(weights: &[f32], indexes: &[usize], columns: usize) -> TractResult<Vec<f32>> {
    if weights.is_empty() {
        return Ok(Vec::new());
    }
    ensure!(
        weights.len() == indexes.len(),
        "its `weights` are {} for {} `ngram_indexes`",
        weights.len(),
        indexes.len()
    );
    let mut all = vec![None; columns];
    for (&weight, &column) in weights.iter().zip(indexes) {
        let known = *all[column].get_or_insert(weight);
        ensure!(known == weight, "two of its sequences count for column {column}, by two weights");
    }
    Ok(all.into_iter().map(|weight| weight.unwrap_or(1.0)).collect())
}

/// A number for each of the elements that differ; and the elements by their numbers.
fn named<T: std::hash::Hash + Eq>(
    elements: impl Iterator<Item = T>,
) -> (HashMap<T, u32>, Vec<u32>) {
    let mut names = HashMap::new();
    let mut ids = Vec::new();
    for element in elements {
        // A file has far fewer than 2^32 elements.
        let next = u32::try_from(names.len()).unwrap_or(u32::MAX);
        ids.push(*names.entry(element).or_insert(next));
    }
    (names, ids)
}

impl Pool {
    /// Of elements one after the other; `counts` says where the sequences of each length begin.
    fn new(
        ids: &[u32],
        counts: &[usize],
        indexes: &[usize],
        (least, most): (usize, usize),
    ) -> TractResult<Self> {
        ensure!(
            least <= most && most <= counts.len(),
            "it counts sequences of {least} to {most} elements, and its `ngram_counts` has {}",
            counts.len()
        );
        let (mut pool, mut states, mut column) = (Self::default(), 0u32, indexes.iter());
        for (at, &from) in counts.iter().enumerate() {
            let length = at + 1;
            let to = counts.get(at + 1).copied().unwrap_or(ids.len());
            let all = ids.get(from..to);
            let all = all.filter(|all| all.len().is_multiple_of(length)).with_context(|| {
                format!("its `ngram_counts` has no whole sequences of {length} from {from} to {to}")
            })?;
            for sequence in all.chunks_exact(length) {
                let &column = column.next().context("its pool has more than `ngram_indexes`")?;
                if !(least..=most).contains(&length) {
                    continue;
                }
                let mut state = 0;
                for &id in sequence {
                    state = *pool.ways.entry((state, id)).or_insert_with(|| {
                        states += 1;
                        states
                    });
                }
                let twice = pool.columns.insert(state, column).is_some();
                ensure!(!twice, "its pool has a sequence of {length} elements twice");
            }
        }
        Ok(pool)
    }

    /// Counts in `row` what begins with the first of `ids` and has at least `least` elements and at most `most`.
    fn count<'i>(
        &self,
        ids: impl Iterator<Item = &'i Option<u32>>,
        (least, most): (usize, usize),
        row: &mut [f32],
    ) {
        let mut state = 0;
        for (id, length) in ids.zip(1..=most) {
            let Some(&next) = id.and_then(|id| self.ways.get(&(state, id))) else { return };
            state = next;
            if length >= least
                && let Some(&column) = self.columns.get(&state)
            {
                row[column] += 1.0;
            }
        }
    }
}

impl Kernel for Vectorizer {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let [input] = inputs else { bail!("it takes one input, and has {}", inputs.len()) };
        input.among(match self.items {
            Items::Text(_) => &[DatumType::String],
            Items::Whole(_) => &[DatumType::I64, DatumType::I32],
        })?;
        let columns = self.columns.to_dim();
        let shape = match input.shape.as_slice() {
            [] | [_] => tvec!(columns),
            [rows, _] => tvec!(rows.clone(), columns),
            _ => bail!("it takes [N] or [rows, N], and its input is {:?}", input.shape),
        };
        Ok(vec![Kind::new(DatumType::F32, shape)])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let ids: Vec<Option<u32>> = match &self.items {
            Items::Text(names) => {
                let texts = slice::<String>(inputs[0])?.iter();
                texts.map(|text| names.get(text).copied()).collect()
            }
            Items::Whole(names) => {
                let input = inputs[0].cast_to::<i64>()?;
                slice::<i64>(&input)?.iter().map(|whole| names.get(whole).copied()).collect()
            }
        };
        let (rows, width) = match *inputs[0].shape() {
            [rows, width] => (Some(rows), width),
            _ => (None, ids.len()),
        };
        let mut counts = Vec::new();
        let all = rows.unwrap_or(1).checked_mul(self.columns);
        if all.is_none_or(|all| counts.try_reserve_exact(all).is_err()) {
            bail!(OfNumbers("there is no memory for a column of each sequence and row"));
        }
        counts.resize(rows.unwrap_or(1) * self.columns, 0.0);
        for (row, ids) in counts.chunks_exact_mut(self.columns).zip(ids.chunks_exact(width.max(1)))
        {
            self.count(ids, row);
        }
        let shape = [rows.as_slice(), &[self.columns]].concat();
        Ok(vec![Tensor::from_shape(&shape, &counts)?])
    }
}

impl Vectorizer {
    fn count(&self, ids: &[Option<u32>], row: &mut [f32]) {
        let (least, most) = self.lengths;
        if least == 1 {
            // Of one element nothing is skipped, so they count once.
            (0..ids.len()).for_each(|at| self.pool.count(ids[at..].iter(), (1, 1), row));
        }
        let least = least.max(2);
        for step in 1..=self.skips + 1 {
            // Where a sequence of at least that many still fits.
            let reach = step.saturating_mul(least - 1);
            for at in 0..ids.len().saturating_sub(reach) {
                self.pool.count(ids[at..].iter().step_by(step), (least, most), row);
            }
            if reach >= ids.len() {
                break;
            }
        }
        for (at, cell) in row.iter_mut().enumerate() {
            let weight = self.weights.get(at).copied().unwrap_or(1.0);
            match self.mode {
                Mode::Count => {}
                Mode::Presence if *cell > 0.0 => *cell = weight,
                Mode::Presence => {}
                Mode::Both => *cell *= weight,
            }
        }
    }
}
