//! `GroupQueryAttention`: several heads of queries for one of keys and values, which a cache keeps.

use tract_onnx::tract_core::internal::*;

use super::build::{Build, Outputs};
use super::heads::{Heads, Scoring, Sizes, by_heads, causal, head_size};
use super::norms;
use super::rotary::Angles;
use crate::onnx::ml::OfNumbers;

const UNFUSED: &str = "export the model with attention spelt out";

pub(super) fn grouped(b: &mut Build<'_>) -> TractResult<Outputs> {
    let quantised = ["kv_cache_bit_width", "sliding_window_cache", "qk_output"];
    b.node.without(&quantised, "export the model with a cache of floats")?;
    for (place, what) in [(12, "k_scale"), (13, "v_scale"), (16, "query_seqlens")] {
        b.absent(place, what, UNFUSED)?;
    }
    let (heads, of_keys) = (b.node.count("num_heads")?, b.node.count("kv_num_heads")?);
    ensure!(heads % of_keys == 0, "its {heads} heads are no multiple of the {of_keys} of keys");
    let mut new = given(b, heads, of_keys)?;
    if let (Some(of_q), Some(of_k)) = (b.optional(14)?, b.optional(15)?) {
        let epsilon = b.node.float("qk_norm_epsilon", 1e-6);
        let (q, k) =
            (b.node.float("q_norm_epsilon", epsilon), b.node.float("k_norm_epsilon", epsilon));
        new.queries = norms::of_heads(b, new.queries, of_q, q)?;
        new.keys = norms::of_heads(b, new.keys, of_k, k)?;
    }
    let past = match (b.optional(3)?, b.optional(4)?) {
        (Some(keys), Some(values)) => Some([keys, values]),
        _ => None,
    };
    let before = match past {
        Some([keys, _]) => b.shape(keys)?.get(2).cloned().context("its past has no places")?,
        None => 0.to_dim(),
    };
    if b.node.flag("do_rotary") {
        let angles = angles(b, new.queries, &before)?;
        let interleaved = b.node.flag("rotary_interleaved");
        new.queries = angles.turn(b, new.queries, interleaved)?;
        new.keys = angles.turn(b, new.keys, interleaved)?;
    }
    let (mut all, sizes) = new.after(b, past)?;
    let (ends, total) = (b.input(5)?, b.input(6)?);
    all.keys = b.op(Full { past: before != 0.to_dim() }, &[all.keys, ends, total])?;
    let scoring = scoring(b, &sizes)?;
    let each = heads / of_keys;
    let repeated = Heads {
        queries: all.queries,
        keys: repeat(b, all.keys, each)?,
        values: repeat(b, all.values, each)?,
    };
    let y = repeated.attend(b, &scoring)?;
    Ok(tvec!(Some(y), Some(all.keys), Some(all.values)))
}

/// Queries, keys and values by heads, out of one input or of three.
fn given(b: &mut Build<'_>, heads: usize, of_keys: usize) -> TractResult<Heads> {
    let queries = b.input(0)?;
    let (queries, keys, values) = match (b.optional(1)?, b.optional(2)?) {
        (Some(keys), Some(values)) => (queries, keys, values),
        (None, None) => {
            let [_, _, whole] = b.sized(queries)?;
            let size = head_size(&whole, heads + 2 * of_keys)?;
            let ends = [heads, heads + of_keys, heads + 2 * of_keys].map(|end| size.clone() * end);
            let [first, second, third] = ends;
            (
                b.slice(queries, 2, 0, first.clone())?,
                b.slice(queries, 2, first, second.clone())?,
                b.slice(queries, 2, second, third)?,
            )
        }
        _ => bail!("it has keys or values, and not both"),
    };
    Ok(Heads {
        queries: by_heads(b, queries, heads)?,
        keys: by_heads(b, keys, of_keys)?,
        values: by_heads(b, values, of_keys)?,
    })
}

/// Those of the new places, which follow the past unless the inputs say where they are.
fn angles(b: &mut Build<'_>, queries: OutletId, before: &TDim) -> TractResult<Angles> {
    let tables = [b.input(7)?, b.input(8)?];
    let [_, _, length, _] = b.sized(queries)?;
    let places = match b.optional(9)? {
        Some(places) if *before != 0.to_dim() => places,
        // Of the first sequence ONNX Runtime reads the first place only.
        first => {
            let more = b.count_to(&length)?;
            let first = match first {
                Some(places) => {
                    let first = b.slice(places, 0, 0, 1)?;
                    b.slice(first, 1, 0, 1)?
                }
                None => {
                    let before = b.constant(tensor0(before.clone()))?;
                    b.cast(before, DatumType::I64)?
                }
            };
            let places = b.add(more, first)?;
            if b.rank(places)? == 1 { b.unsqueeze(places, 0)? } else { places }
        }
    };
    Angles::look_up(b, tables, places, true)
}

fn scoring(b: &mut Build<'_>, sizes: &Sizes) -> TractResult<Scoring> {
    let mut addends = Vec::new();
    let window = usize::try_from(b.node.int("local_window_size", -1)).ok();
    if b.node.int("causal", 1) != 0 {
        addends.push(causal(b, sizes, window)?);
    }
    addends.extend(b.optional(10)?);
    let sink = match b.optional(11)? {
        Some(sink) => {
            let sink = b.unsqueeze(sink, 1)?;
            let sink = b.unsqueeze(sink, 2)?;
            Some(b.unsqueeze(sink, 0)?)
        }
        None if b.node.int("smooth_softmax", -1) > 0 => {
            let heads = b.node.count("num_heads")?;
            Some(b.constant(Tensor::zero::<f32>(&[1, heads, 1, 1])?)?)
        }
        None => None,
    };
    let (scale, cap) = (b.node.float("scale", 0.0), b.node.float("softcap", 0.0));
    Ok(Scoring { scale, cap, addends, sink })
}

/// Each head `times` over.
fn repeat(b: &mut Build<'_>, x: OutletId, times: usize) -> TractResult<OutletId> {
    if times == 1 {
        return Ok(x);
    }
    let [batch, heads, places, size] = b.sized(x)?;
    let x = b.unsqueeze(x, 2)?;
    let x = b.stretch(x, tvec!(batch, heads, times.to_dim(), places, size))?;
    b.join(x, 1, 2)
}

/// Keys, if the lengths that come with them say that there are as many: a cache that is not full has its new keys
/// somewhere in it, which is not supported.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Full {
    past: bool,
}

impl Op for Full {
    fn name(&self) -> StaticName {
        "MayflyFull".into()
    }
    op_as_typed_op!();
}

impl EvalOp for Full {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (keys, ends, total) = args_3!(inputs);
        let length = i64::try_from(keys.shape()[2])?;
        let ends = ends.cast_to::<i64>()?;
        // Without a past what is padding comes after every query that is none.
        let fits = |end: &i64| if self.past { end + 1 == length } else { *end < length };
        let all = ends.try_as_plain_ram()?.as_slice::<i64>()?.iter().all(fits);
        if !all || total.cast_to_scalar::<i64>()? != length {
            bail!(OfNumbers(
                "its `seqlens_k` and `total_sequence_length` have to be those of the whole cache and the new \
                 places: fix the cache's length so that it is full"
            ));
        }
        Ok(tvec!(keys))
    }
}

impl TypedOp for Full {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].datum_type.fact(inputs[0].shape.clone())))
    }
    as_op!();
}
