//! Attention itself: queries, keys and values by heads, and what hides some keys from some queries.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::logic::{comp_gt, comp_gte, comp_lt, comp_lte};
use tract_onnx::tract_core::ops::math::tanh;

use super::build::Build;

/// Each `[batch, head, place, number]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) queries: OutletId,
    pub(super) keys: OutletId,
    pub(super) values: OutletId,
}

/// The sizes of one attention.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub(super) batch: TDim,
    /// Queries.
    pub(super) length: TDim,
    /// Keys, those of the past among them.
    pub(super) total: TDim,
    pub(super) past: TDim,
}

/// What is done to the scores of queries and keys.
#[derive(Debug, Default)]
pub(super) struct Scoring {
    /// One over the root of a head's size if it is 0.
    pub(super) scale: f32,
    /// None if it is 0.
    pub(super) cap: f32,
    /// Added to the scores.
    pub(super) addends: Vec<OutletId>,
    /// A score for each head, `[1, head, 1, 1]`, that takes its part of the weights and has no value.
    pub(super) sink: Option<OutletId>,
}

/// `[batch, place, heads x number]` by heads.
pub(super) fn by_heads(b: &mut Build<'_>, x: OutletId, heads: usize) -> TractResult<OutletId> {
    let [_, _, whole] = b.sized(x)?;
    let size = head_size(&whole, heads)?;
    let x = b.split(x, 2, tvec!(heads.to_dim(), size))?;
    b.moved(x, 2, 1)
}

/// What each of `heads` has of `whole` numbers.
pub(super) fn head_size(whole: &TDim, heads: usize) -> TractResult<TDim> {
    let known =
        whole.to_usize().with_context(|| format!("the size {whole} of its heads is open"))?;
    ensure!(known % heads == 0, "its {known} numbers are no multiple of its {heads} heads");
    Ok((known / heads).to_dim())
}

/// `[batch, place, heads x number]` again.
fn together(b: &mut Build<'_>, x: OutletId) -> TractResult<OutletId> {
    let x = b.moved(x, 1, 2)?;
    b.join(x, 2, 2)
}

impl Heads {
    /// With the keys and values of the past before these.
    pub(super) fn after(
        self,
        b: &mut Build<'_>,
        past: Option<[OutletId; 2]>,
    ) -> TractResult<(Self, Sizes)> {
        let [batch, _, length, _] = b.sized(self.queries)?;
        let mut heads = self;
        let mut before = 0.to_dim();
        if let Some([keys, values]) = past {
            let [_, _, keys_past, _] = b.sized(keys)?;
            before = keys_past;
            heads.keys = b.concat(&[keys, self.keys], 2)?;
            heads.values = b.concat(&[values, self.values], 2)?;
        }
        let [_, _, total, _] = b.sized(heads.keys)?;
        Ok((heads, Sizes { batch, length, total, past: before }))
    }

    /// The weighted values, `[batch, place, heads x number]`.
    pub(super) fn attend(self, b: &mut Build<'_>, scoring: &Scoring) -> TractResult<OutletId> {
        let [_, _, _, size] = b.sized(self.queries)?;
        let scale = match scoring.scale {
            0.0 => f32::from(u16::try_from(size.to_usize()?).context("a head")?).sqrt().recip(),
            scale => scale,
        };
        let mut scores = b.matmul(self.queries, self.keys, [false, true])?;
        scores = b.times(scores, scale)?;
        if scoring.cap != 0.0 {
            scores = b.times(scores, scoring.cap.recip())?;
            scores = b.op(tanh(), &[scores])?;
            scores = b.times(scores, scoring.cap)?;
        }
        for &addend in &scoring.addends {
            scores = b.add(scores, addend)?;
        }
        let weights = match scoring.sink {
            Some(sink) => {
                let [batch, heads, queries, keys] = b.sized(scores)?;
                let sink = b.stretch(sink, tvec!(batch, heads, queries, 1.to_dim()))?;
                let scores = b.concat(&[scores, sink], 3)?;
                let weights = b.softmax(scores, tvec!(3))?;
                b.slice(weights, 3, 0, keys)?
            }
            None => b.softmax(scores, tvec!(3))?,
        };
        let y = b.matmul(weights, self.values, [false; 2])?;
        together(b, y)
    }
}

/// 0 where `passes` is true, and `hidden` elsewhere.
pub(super) fn addend(b: &mut Build<'_>, passes: OutletId, hidden: f32) -> TractResult<OutletId> {
    let zero = b.constant(tensor0(0f32))?;
    let hidden = b.constant(tensor0(hidden))?;
    b.choose(passes, zero, hidden)
}

/// Hides from each query the keys after its own place; with a `window`, all but so many up to that place.
pub(super) fn causal(
    b: &mut Build<'_>,
    sizes: &Sizes,
    window: Option<usize>,
) -> TractResult<OutletId> {
    ensure!(
        sizes.total == sizes.past.clone() + &sizes.length,
        "it is causal, and its keys are not those of its queries' places, which is not supported; use a mask"
    );
    let keys = b.count_to(&sizes.total)?;
    let places = b.count_to(&sizes.length)?;
    let past = b.constant(tensor0(sizes.past.clone()))?;
    let past = b.cast(past, DatumType::I64)?;
    let places = b.add(places, past)?;
    let places = b.unsqueeze(places, 1)?;
    let passes = b.compare(comp_lte(), keys, places)?;
    let mut mask = addend(b, passes, f32::MIN)?;
    if let Some(window) = window {
        let window = b.constant(tensor0(i64::try_from(window)?))?;
        let from = b.sub(places, window)?;
        let passes = b.compare(comp_gt(), keys, from)?;
        let near = addend(b, passes, f32::MIN)?;
        mask = b.min(mask, near)?;
    }
    Ok(mask)
}

/// Hides the keys from `ends` on, one number for each line of the batch.
pub(super) fn until(
    b: &mut Build<'_>,
    ends: OutletId,
    sizes: &Sizes,
    hidden: f32,
) -> TractResult<OutletId> {
    let keys = b.count_to(&sizes.total)?;
    let ends = lines(b, ends)?;
    let passes = b.compare(comp_lt(), keys, ends)?;
    addend(b, passes, hidden)
}

/// One whole number for each line, `[batch, 1, 1, 1]`.
fn lines(b: &mut Build<'_>, x: OutletId) -> TractResult<OutletId> {
    let mut x = b.cast(x, DatumType::I64)?;
    for axis in 1..4 {
        x = b.unsqueeze(x, axis)?;
    }
    Ok(x)
}

/// What hides keys that are padding, in any of its forms.
pub(super) fn padding(
    b: &mut Build<'_>,
    mask: OutletId,
    sizes: &Sizes,
    hidden: f32,
) -> TractResult<OutletId> {
    let shape = b.shape(mask)?;
    let unknown =
        || format!("its mask has the shape {shape:?}, which is not supported; use [batch, keys]");
    let (batch, total) = (sizes.batch.clone(), sizes.total.clone());
    match &shape[..] {
        [ends] if *ends == batch => until(b, mask, sizes, hidden),
        [both] if *both == batch.clone() * 2 => {
            let ends = b.slice(mask, 0, 0, batch.clone())?;
            let starts = b.slice(mask, 0, batch.clone(), batch * 2)?;
            let ends = until(b, ends, sizes, hidden)?;
            let keys = b.count_to(&total)?;
            let starts = lines(b, starts)?;
            let passes = b.compare(comp_gte(), keys, starts)?;
            let starts = addend(b, passes, hidden)?;
            // Either of them hides a key, and both do no more.
            b.min(ends, starts)
        }
        [lines, keys] if *lines == batch && *keys == total => {
            let mask = b.unsqueeze(mask, 1)?;
            let mask = b.unsqueeze(mask, 1)?;
            of_flags(b, mask, hidden)
        }
        [lines, queries, keys] if *lines == batch && *queries == sizes.length && *keys == total => {
            let mask = b.unsqueeze(mask, 1)?;
            of_flags(b, mask, hidden)
        }
        _ => bail!("{}", unknown()),
    }
}

fn of_flags(b: &mut Build<'_>, mask: OutletId, hidden: f32) -> TractResult<OutletId> {
    let zero = b.scalar(0.0, mask)?;
    let passes = b.compare(comp_gt(), mask, zero)?;
    addend(b, passes, hidden)
}
