//! Finds what the kernels can take over in a decluttered model, and puts our operators in its place.

use mayfly_kernels::pack;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::einsum::EinSum;

use super::conv::floats;
use super::fuse::fuse;
use super::images::image;
use super::indices::check;
use super::lookup::lookup;
use super::opaque::hide_tables;
use super::product::{Product, Side, Weights};
use super::tail::Tail;

/// Replaces the operators of `model`, as it comes from its file, by ours wherever they fit; the rest is decluttered.
///
/// # Errors
/// When tract cannot simplify the model, or a replacement does not type-check, which is a defect of this crate.
pub fn rewrite(mut model: TypedModel) -> TractResult<TypedModel> {
    // Images first: decluttering may turn convolutions of 1x1 into products, and move channels last to suit them.
    model.prop_consts()?;
    hide_tables(&mut model)?;
    let model = replace_all(model, &image)?;
    let model = replace_all(model.into_decluttered()?, &|model, node| {
        if let Some(patch) = image(model, node)? {
            return Ok(Some(patch));
        }
        if let Some(patch) = lookup(model, node)? {
            return Ok(Some(patch));
        }
        einsum(model, node)
    })?;
    fuse(replace_all(model, &check)?)
}

type Replace<'a> = &'a dyn Fn(&TypedModel, &TypedNode) -> TractResult<Option<TypedModelPatch>>;

fn replace_all(mut model: TypedModel, replace: Replace<'_>) -> TractResult<TypedModel> {
    for id in model.eval_order()? {
        let node = model.node(id);
        if !is_used(&model, node) {
            continue;
        }
        let patch = replace(&model, node).with_context(|| format!("the node {:?}", node.name));
        let Some(patch) = patch? else { continue };
        patch.apply(&mut model)?;
    }
    model.compact()?;
    Ok(model)
}

/// A node that an earlier patch made redundant has no readers left.
fn is_used(model: &TypedModel, node: &TypedNode) -> bool {
    node.outputs.iter().any(|output| !output.successors.is_empty())
        || model.outputs.iter().any(|outlet| outlet.node == node.id)
}

pub(super) fn all_floats(model: &TypedModel, node: &TypedNode) -> bool {
    node.inputs.iter().all(|&input| {
        model
            .outlet_fact(input)
            .is_ok_and(|fact| !fact.is_exotic() && fact.datum_type == f32::datum_type())
    })
}

fn einsum(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    match node.op_as::<EinSum>() {
        Some(op) if all_floats(model, node) => product(model, node, op),
        _ => Ok(None),
    }
}

/// Puts `op`, reading `inputs`, in the place of everything from `node` to the end of `tail`.
pub(super) fn splice(
    model: &TypedModel,
    node: &TypedNode,
    inputs: &[OutletId],
    end: OutletId,
    op: impl Into<Box<dyn TypedOp>>,
) -> TractResult<Option<TypedModelPatch>> {
    let mut patch = TypedModelPatch::default();
    let taps = patch.taps(model, inputs)?;
    let out = patch.wire_node(&node.name, op.into(), &taps)?;
    patch.shunt_outside(model, end, out[0])?;
    Ok(Some(patch))
}

pub(super) fn konst(model: &TypedModel, outlet: OutletId) -> TractResult<Option<Arc<Tensor>>> {
    Ok(model.outlet_fact(outlet)?.konst.clone())
}

/// Names of the axes of one operand, if each has one.
fn names(axes: &AxesMapping, slot: InOut) -> TVec<char> {
    (0..axes.rank(slot)).filter_map(|i| axes.axis((slot, i)).ok().map(|axis| axis.repr)).collect()
}

fn unique(names: &[char]) -> bool {
    names.iter().enumerate().all(|(i, name)| !names[..i].contains(name))
}

fn product(
    model: &TypedModel,
    node: &TypedNode,
    op: &EinSum,
) -> TractResult<Option<TypedModelPatch>> {
    if node.inputs.len() != 2 || op.q_params.is_some() || op.operating_dt != f32::datum_type() {
        return Ok(None);
    }
    let slots = [InOut::In(0), InOut::In(1), InOut::Out(0)].map(|slot| names(&op.axes, slot));
    let facts = [model.outlet_fact(node.inputs[0])?, model.outlet_fact(node.inputs[1])?];
    let out_shape = &model.outlet_fact(OutletId::new(node.id, 0))?.shape;
    let shapes = [&facts[0].shape, &facts[1].shape, out_shape];
    let walkable = slots.iter().zip(shapes).all(|(names, shape)| {
        // An axis that only one operand has is no part of a product, unless it is one long.
        let shared = |a: &char| slots.iter().filter(|other| other.contains(a)).count() >= 2;
        let plain = names.iter().zip(shape.iter()).all(|(a, dim)| shared(a) || *dim == 1.to_dim());
        unique(names) && plain
    });
    if !walkable {
        return Ok(None);
    }
    // The innermost axis of the output that is longer than one decides who has the columns.
    let innermost = (0..slots[2].len()).rev().find(|&i| out_shape[i] != 1.to_dim());
    let [a, b, out] = &slots;
    let right = match innermost.map(|i| out[i]) {
        Some(axis) if a.contains(&axis) && b.contains(&axis) => return Ok(None),
        Some(axis) if a.contains(&axis) => 0,
        Some(_) => 1,
        // A dot product: the weights, if there are any, on the right.
        None => usize::from(facts[1].konst.is_some()),
    };
    Builder { model, node, slots: &slots, facts, right }.build()
}

struct Builder<'a> {
    model: &'a TypedModel,
    node: &'a TypedNode,
    slots: &'a [TVec<char>; 3],
    facts: [&'a TypedFact; 2],
    right: usize,
}

impl Builder<'_> {
    fn build(&self) -> TractResult<Option<TypedModelPatch>> {
        let [left, right] = [1 - self.right, self.right];
        let mut product = Product {
            left: self.slots[left].clone(),
            right: self.slots[right].clone(),
            out: self.slots[2].clone(),
            weights: None,
            swapped: left == 1,
            row_bias: None,
            col_bias: None,
            residual: false,
            bounds: [f32::NEG_INFINITY.to_bits(), f32::INFINITY.to_bits()],
        };
        let mut inputs = self.node.inputs.clone();
        let mut channel = None;
        let sides = [(Side::Left, left), (Side::Right, right)];
        for (side, i) in sides.into_iter().rev() {
            let Some(konst) = &self.facts[i].konst else { continue };
            let Some((weights, axis)) = self.pack(side, i, konst)? else { continue };
            product.weights = Some((side, weights));
            inputs = vec![self.node.inputs[1 - i]];
            channel = axis.map(|axis| (side, axis));
            break;
        }
        if !self.fits(&product) {
            return Ok(None);
        }
        let tail = Tail::collect(self.model, self.node, channel.map(|(_, axis)| axis))?;
        if let (Some(bias), Some((side, _))) = (&tail.bias, channel) {
            let bias = Some(tensor1(bias).into_arc_tensor());
            match side {
                Side::Left => product.row_bias = bias,
                Side::Right => product.col_bias = bias,
            }
        }
        inputs.extend(tail.add);
        product.residual = tail.add.is_some();
        product.bounds = [tail.lo.to_bits(), tail.hi.to_bits()];
        splice(self.model, self.node, &inputs, tail.end, product)
    }

    /// Packs the known operand, if its axes split into summed ones and one of its own; with that one's place in the
    /// output.
    fn pack(
        &self,
        side: Side,
        i: usize,
        konst: &Arc<Tensor>,
    ) -> TractResult<Option<(Weights, Option<usize>)>> {
        let (own, other, out) = (&self.slots[i], &self.slots[1 - i], &self.slots[2]);
        let shape: TVec<usize> = konst.shape().into();
        let long = |axis: &char| own.iter().position(|a| a == axis).is_some_and(|p| shape[p] > 1);
        let shared_out = own.iter().any(|a| long(a) && out.contains(a) && other.contains(a));
        let outer: TVec<char> =
            own.iter().filter(|a| out.contains(a) && !other.contains(a)).copied().collect();
        let wide: TVec<char> = outer.iter().filter(|a| long(a)).copied().collect();
        if shared_out || wide.len() > 1 {
            return Ok(None);
        }
        // The order in which the left operand's walk merges the summed axes.
        let walked = if side == Side::Left { own } else { other };
        let summed: TVec<char> =
            walked.iter().filter(|a| own.contains(a) && !out.contains(a)).copied().collect();
        let batch: TVec<char> =
            own.iter().filter(|a| out.contains(a) && other.contains(a)).copied().collect();
        let alone = own.iter().filter(|a| !out.contains(a) && !other.contains(a));
        let order: TVec<usize> = alone
            .chain(&batch)
            .chain(&outer)
            .chain(&summed)
            .filter_map(|a| own.iter().position(|b| a == b))
            .collect();
        let k: usize = summed
            .iter()
            .filter_map(|a| own.iter().position(|b| a == b))
            .map(|p| shape[p])
            .product();
        let mn = konst.len() / k.max(1);
        // Copied only if its walk is none of the usual two: the weights of one layer may be half of all memory.
        let long: TVec<usize> = order.iter().copied().filter(|&axis| shape[axis] > 1).collect();
        let moved;
        let (data, own_step, summed_step) = match long[..] {
            ref axes if axes.is_sorted() => (floats(konst)?, k, 1),
            // The other way round: its own axis is the inner one.
            [own, summed] if own > summed && shape[own] == mn => (floats(konst)?, 1, mn),
            _ => {
                moved = konst.as_ref().clone().permute_axes(&order)?;
                (floats(&moved)?, k, 1)
            }
        };
        let length = match side {
            Side::Left => pack::left_len(mn, k),
            Side::Right => pack::right_len(k, mn),
        };
        let mut packed = Tensor::zero::<f32>(&[length])?;
        let mut plain = packed.try_as_plain_ram_mut()?;
        let to = plain.as_slice_mut::<f32>()?;
        match side {
            Side::Left => pack::left(data, mn, k, own_step, summed_step, to),
            Side::Right => pack::right(data, k, mn, summed_step, own_step, to),
        }
        let axis = wide.first().or(outer.first()).and_then(|a| out.iter().position(|b| a == b));
        Ok(Some((Weights { packed: packed.into_arc_tensor(), shape }, axis)))
    }

    /// Whether the sizes known now can be walked. With open ones, a single axis of each kind always can.
    fn fits(&self, product: &Product) -> bool {
        let [left, right] = [1 - self.right, self.right].map(|i| self.facts[i].shape.as_concrete());
        if let (Some(left), Some(right)) = (left, right) {
            return product.can_walk(left, right);
        }
        // An axis of one beside one that is open is repeated along it, which a walk cannot do. What is summed over is
        // equal unless one is one.
        let [a, b] = self.facts.map(|fact| &fact.shape);
        let one = 1.to_dim();
        let same = self.slots[0].iter().enumerate().all(|(i, axis)| {
            let Some(j) = self.slots[1].iter().position(|other| other == axis) else { return true };
            let summed = !product.out.contains(axis) && a[i] != one && b[j] != one;
            a[i] == b[j] || summed
        });
        let summed = product.left.iter().filter(|a| !product.out.contains(a)).count();
        let last = product.out.last();
        same && summed <= 1 && last.is_some_and(|a| product.right.contains(a))
    }
}
