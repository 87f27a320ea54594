//! `Attention`, `QAttention` and `MultiHeadAttention`: where queries, keys and values come from.

use tract_onnx::tract_core::internal::*;

use super::build::{Build, Outputs};
use super::heads::{Heads, Scoring, Sizes, by_heads, causal, padding};
use super::integers::{self, Steps};

const UNFUSED: &str = "export the model with attention spelt out";

/// `Attention`: one product makes queries, keys and values.
pub(super) fn attention(b: &mut Build<'_>) -> TractResult<Outputs> {
    b.absent(6, "past_sequence_length", UNFUSED)?;
    let (x, weights) = (b.input(0)?, b.input(1)?);
    let bias = b.optional(2)?;
    let all = b.matmul(x, weights, [false; 2])?;
    let (mask, past, addend) = (b.optional(3)?, b.optional(4)?, b.optional(5)?);
    projected(b, all, bias, mask, past, addend)
}

/// `QAttention`: the same of quantised numbers.
pub(super) fn quantised(b: &mut Build<'_>) -> TractResult<Outputs> {
    let (x, weights) = (b.input(0)?, b.input(1)?);
    let scale = b.input(3)?;
    let scale = integers::scalar(b, scale, "input_scale")?;
    let zero = b.optional(6)?;
    let zero = zero.map(|zero| integers::scalar(b, zero, "input_zero_point")).transpose()?;
    let of_weights = Steps { scale: b.input(4)?, zero: b.optional(7)? }.along(b, 1, 2)?;
    let x = integers::whole(b, x, zero)?;
    let weights = integers::whole(b, weights, of_weights.zero)?;
    let sums = b.matmul(x, weights, [false; 2])?;
    let factor = b.mul(scale, of_weights.scale)?;
    let all = b.mul(sums, factor)?;
    let (bias, mask, past) = (b.optional(2)?, b.optional(5)?, b.optional(8)?);
    projected(b, all, bias, mask, past, None)
}

/// Of `all`, `[batch, place, queries keys values]`.
fn projected(
    b: &mut Build<'_>,
    mut all: OutletId,
    bias: Option<OutletId>,
    mask: Option<OutletId>,
    past: Option<OutletId>,
    addend: Option<OutletId>,
) -> TractResult<Outputs> {
    b.node.without(&["do_rotary", "past_present_share_buffer"], UNFUSED)?;
    if let Some(bias) = bias {
        all = b.add(all, bias)?;
    }
    let [_, _, whole] = b.sized(all)?;
    let whole = whole.to_usize().context("the size of its weights is open")?;
    let sizes = b.node.sizes("qkv_hidden_sizes")?;
    let sizes = sizes.unwrap_or_else(|| tvec!(whole / 3; 3));
    ensure!(
        sizes.len() == 3 && sizes.iter().sum::<usize>() == whole,
        "queries, keys and values of {sizes:?} numbers are not the {whole} that its weights make"
    );
    let heads = b.node.count("num_heads")?;
    let mut from = 0;
    let mut parts = tvec!();
    for size in sizes {
        let part = b.slice(all, 2, from, from + size)?;
        parts.push(by_heads(b, part, heads)?);
        from += size;
    }
    let new = Heads { queries: parts[0], keys: parts[1], values: parts[2] };
    let past = past.map(|past| unstack(b, past)).transpose()?;
    let (heads, sizes) = new.after(b, past)?;
    let scoring = scoring(b, mask, addend, &sizes)?;
    let y = heads.attend(b, &scoring)?;
    let mut outputs = tvec!(Some(y));
    if b.node.wanted().any(|i| i == 1) {
        let keys = b.unsqueeze(heads.keys, 0)?;
        let values = b.unsqueeze(heads.values, 0)?;
        outputs.push(Some(b.concat(&[keys, values], 0)?));
    }
    Ok(outputs)
}

/// The two halves of a tensor that has keys and values in its first axis.
fn unstack(b: &mut Build<'_>, past: OutletId) -> TractResult<[OutletId; 2]> {
    let mut half = |i: usize| {
        let half = b.slice(past, 0, i, i + 1)?;
        b.squeeze(half, 0)
    };
    Ok([half(0)?, half(1)?])
}

/// What the attributes of all three say, and their masks.
fn scoring(
    b: &mut Build<'_>,
    mask: Option<OutletId>,
    addend: Option<OutletId>,
    sizes: &Sizes,
) -> TractResult<Scoring> {
    let mut addends = Vec::new();
    if b.node.flag("unidirectional") {
        addends.push(causal(b, sizes, None)?);
    }
    if let Some(mask) = mask {
        addends.push(padding(b, mask, sizes, b.node.float("mask_filter_value", -10_000.0))?);
    }
    addends.extend(addend);
    Ok(Scoring { scale: b.node.float("scale", 0.0), addends, ..Scoring::default() })
}

/// `MultiHeadAttention`
pub(super) fn multi_head(b: &mut Build<'_>) -> TractResult<Outputs> {
    b.absent(8, "past_sequence_length", UNFUSED)?;
    b.absent(9, "cache_indirection", UNFUSED)?;
    let heads = b.node.count("num_heads")?;
    let new = given(b, heads)?;
    let past = match (b.optional(6)?, b.optional(7)?) {
        (Some(keys), Some(values)) => Some([keys, values]),
        (None, None) => None,
        _ => bail!("it has a past of keys or of values, and not of both"),
    };
    let (heads, sizes) = new.after(b, past)?;
    let (mask, addend) = (b.optional(4)?, b.optional(5)?);
    let scoring = scoring(b, mask, addend, &sizes)?;
    let y = heads.attend(b, &scoring)?;
    Ok(tvec!(Some(y), Some(heads.keys), Some(heads.values)))
}

/// Queries, keys and values by heads, their biases added, in any of the forms that they come in.
fn given(b: &mut Build<'_>, heads: usize) -> TractResult<Heads> {
    let (queries, keys, values) = (b.input(0)?, b.optional(1)?, b.optional(2)?);
    let bias = b.optional(3)?;
    ensure!(
        b.rank(queries)? == 3 && keys.is_none_or(|keys| b.rank(keys).unwrap_or(0) < 5),
        "its queries, keys or values are packed into one input, which ONNX Runtime's CPU does not take either; \
         export them apart"
    );
    let [_, _, width] = b.sized(queries)?;
    let biased = |b: &mut Build<'_>, x: OutletId, from: TDim, to: TDim| match bias {
        Some(bias) => {
            let part = b.slice(bias, 0, from, to)?;
            b.add(x, part)
        }
        None => Ok(x),
    };
    let queries = biased(b, queries, 0.to_dim(), width.clone())?;
    let queries = by_heads(b, queries, heads)?;
    let keys = keys.context("it has queries and no keys")?;
    let (keys, values) = match (b.rank(keys)?, values) {
        // What cross attention keeps of another sequence, its bias in it.
        (4, Some(values)) => (keys, values),
        (_, Some(values)) => {
            let [_, _, of_values] = b.sized(values)?;
            let (first, second) = (width.clone(), width * 2);
            let keys = biased(b, keys, first, second.clone())?;
            let values = biased(b, values, second.clone(), second + of_values)?;
            (by_heads(b, keys, heads)?, by_heads(b, values, heads)?)
        }
        (_, None) => bail!("it has keys and no values"),
    };
    Ok(Heads { queries, keys, values })
}
