//! Rotary embeddings: pairs of numbers turned by an angle that their place says.

use tract_onnx::tract_core::internal::*;

use super::build::{Build, Outputs, one};

/// The angles of a tensor's places, by their cosine and sine; stretched over its heads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Angles {
    cos: OutletId,
    sin: OutletId,
}

impl Angles {
    /// Of places `[batch or 1, length]`; the heads are before them in the tensor, or behind.
    pub(super) fn look_up(
        b: &mut Build<'_>,
        [cos, sin]: [OutletId; 2],
        places: OutletId,
        heads_first: bool,
    ) -> TractResult<Self> {
        let axis = if heads_first { 1 } else { 2 };
        let mut rows = |table| {
            let rows = b.rows(table, places)?;
            b.unsqueeze(rows, axis)
        };
        Ok(Self { cos: rows(cos)?, sin: rows(sin)? })
    }

    /// The first numbers of each head turned, two for each angle; the others stay.
    pub(super) fn turn(
        self,
        b: &mut Build<'_>,
        x: OutletId,
        interleaved: bool,
    ) -> TractResult<OutletId> {
        let [_, _, _, size] = b.sized(x)?;
        let [_, _, _, half] = b.sized(self.cos)?;
        let turned = half.clone() * 2;
        let x1;
        let x2;
        if interleaved {
            let pairs = b.slice(x, 3, 0, turned.clone())?;
            let pairs = b.split(pairs, 3, tvec!(half.clone(), 2.to_dim()))?;
            let mut of = |i: usize| {
                let one = b.slice(pairs, 4, i, i + 1)?;
                b.squeeze(one, 4)
            };
            (x1, x2) = (of(0)?, of(1)?);
        } else {
            x1 = b.slice(x, 3, 0, half.clone())?;
            x2 = b.slice(x, 3, half.clone(), turned.clone())?;
        }
        let [a, c] = [b.mul(x1, self.cos)?, b.mul(x2, self.sin)?];
        let y1 = b.sub(a, c)?;
        let [a, c] = [b.mul(x1, self.sin)?, b.mul(x2, self.cos)?];
        let y2 = b.add(a, c)?;
        let y = if interleaved {
            let y1 = b.unsqueeze(y1, 4)?;
            let y2 = b.unsqueeze(y2, 4)?;
            let pairs = b.concat(&[y1, y2], 4)?;
            b.join(pairs, 3, 2)?
        } else {
            b.concat(&[y1, y2], 3)?
        };
        if turned == size {
            return Ok(y);
        }
        let rest = b.slice(x, 3, turned, size)?;
        b.concat(&[y, rest], 3)
    }
}

/// `RotaryEmbedding` of `com.microsoft`.
pub(super) fn rotary(b: &mut Build<'_>) -> TractResult<Outputs> {
    b.node.without(&["is_packed_batching"], "export the model with a batch of one length")?;
    let scale = b.node.float("scale", 1.0);
    ensure!(scale == 1.0, "its scale = {scale} is not supported; it has to be 1");
    let (x, places) = (b.input(0)?, b.input(1)?);
    let tables = [b.input(2)?, b.input(3)?];
    let heads_first = b.rank(x)? == 4;
    let interleaved = b.node.flag("interleaved");
    let [_, half] = b.sized(tables[0])?;
    let length = b.shape(x)?[if heads_first { 2 } else { 1 }].clone();
    let places = match b.rank(places)? {
        // The place of the first.
        1 => {
            let more = b.count_to(&length)?;
            let places = b.cast(places, DatumType::I64)?;
            let places = b.add(more, places)?;
            b.unsqueeze(places, 0)?
        }
        _ => places,
    };
    let angles = Angles::look_up(b, tables, places, heads_first)?;
    if heads_first {
        return Ok(one(angles.turn(b, x, interleaved)?));
    }
    let [_, _, whole] = b.sized(x)?;
    let whole = whole.to_usize().context("the size of its heads is open")?;
    let size = match b.node.int("rotary_embedding_dim", 0) {
        0 => half.to_usize().context("the size of its angles is open")? * 2,
        _ => whole / b.node.count("num_heads")?,
    };
    ensure!(size > 0 && whole % size == 0, "its {whole} numbers are no heads of {size}");
    let x = b.split(x, 2, tvec!((whole / size).to_dim(), size.to_dim()))?;
    let y = angles.turn(b, x, interleaved)?;
    Ok(one(b.join(y, 2, 2)?))
}
