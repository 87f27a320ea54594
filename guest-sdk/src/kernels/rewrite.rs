//! Finds what the kernels can take over in a decluttered model, and puts our operators in its place.

use mayfly_kernels::pack;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{self, KernelFormat, MaxPool, PoolSpec};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::nn::DataFormat;

use super::conv::{Conv, Way, floats, pack_weights};
use super::lookup::lookup;
use super::plane::Window;
use super::product::{Product, Side, Weights};
use super::tail::Tail;

/// Channels and tiles from which Winograd's fewer multiplications outweigh its transforms.
const WINOGRAD_CHANNELS: usize = 24;
const WINOGRAD_TILES: usize = 12;

/// Replaces the operators of `model`, as it comes from its file, by ours wherever they fit; the rest is decluttered.
///
/// # Errors
/// When tract cannot simplify the model, or a replacement does not type-check, which is a defect of this crate.
pub fn rewrite(mut model: TypedModel) -> TractResult<TypedModel> {
    // Images first: decluttering may turn convolutions of 1x1 into products, and move channels last to suit them.
    model.prop_consts()?;
    let model = replace_all(model, &image)?;
    replace_all(model.into_decluttered()?, &|model, node| {
        if let Some(patch) = image(model, node)? {
            return Ok(Some(patch));
        }
        if let Some(patch) = lookup(model, node)? {
            return Ok(Some(patch));
        }
        einsum(model, node)
    })
}

type Replace<'a> = &'a dyn Fn(&TypedModel, &TypedNode) -> TractResult<Option<TypedModelPatch>>;

fn replace_all(mut model: TypedModel, replace: Replace<'_>) -> TractResult<TypedModel> {
    for id in model.eval_order()? {
        let node = model.node(id);
        if !is_used(&model, node) {
            continue;
        }
        let Some(patch) = replace(&model, node)? else { continue };
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

fn all_floats(model: &TypedModel, node: &TypedNode) -> bool {
    node.inputs.iter().all(|&input| {
        model
            .outlet_fact(input)
            .is_ok_and(|fact| !fact.is_exotic() && fact.datum_type == f32::datum_type())
    })
}

fn image(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    if !all_floats(model, node) {
        return Ok(None);
    }
    if let Some(op) = node.op_as::<cnn::Conv>() {
        return convolution(model, node, op);
    }
    if let Some(op) = node.op_as::<MaxPool>() {
        return max_pool(model, node, op);
    }
    Ok(None)
}

fn einsum(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    match node.op_as::<EinSum>() {
        Some(op) if all_floats(model, node) => product(model, node, op),
        _ => Ok(None),
    }
}

/// As [`splice`], for an operator over images: ours want the channels first.
fn splice_image(
    model: &TypedModel,
    node: &TypedNode,
    inputs: &[OutletId],
    end: OutletId,
    spec: &PoolSpec,
    op: impl Into<Box<dyn TypedOp>>,
) -> TractResult<Option<TypedModelPatch>> {
    if !spec.data_format.c_is_last() {
        return splice(model, node, inputs, end, op);
    }
    let first = usize::from(spec.data_format.has_n());
    let last = channel_axis(spec);
    let mut patch = TypedModelPatch::default();
    let mut taps = patch.taps(model, inputs)?;
    let name = format!("{}.channels-first", node.name);
    taps[0] = patch.wire_node(name, AxisOp::Move(last, first), &taps[..1])?[0];
    let out = patch.wire_node(&node.name, op.into(), &taps)?;
    let name = format!("{}.channels-last", node.name);
    let out = patch.wire_node(name, AxisOp::Move(first, last), &out)?;
    patch.shunt_outside(model, end, out[0])?;
    Ok(Some(patch))
}

/// Puts `op`, reading `inputs`, in the place of everything from `node` to the end of `tail`.
fn splice(
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

fn konst(model: &TypedModel, outlet: OutletId) -> TractResult<Option<Arc<Tensor>>> {
    Ok(model.outlet_fact(outlet)?.konst.clone())
}

/// Whether the images of a pool or convolution are laid out as the kernels read them.
fn supported(spec: &PoolSpec) -> bool {
    (1..=2).contains(&spec.kernel_shape.len())
}

/// The same window over images with their channels first.
fn channels_first(spec: &PoolSpec) -> PoolSpec {
    let data_format = match spec.data_format {
        DataFormat::NCHW | DataFormat::NHWC => DataFormat::NCHW,
        DataFormat::CHW | DataFormat::HWC => DataFormat::CHW,
    };
    PoolSpec { data_format, ..spec.clone() }
}

fn channel_axis(spec: &PoolSpec) -> usize {
    let first = usize::from(spec.data_format.has_n());
    if spec.data_format.c_is_last() { first + spec.kernel_shape.len() } else { first }
}

fn convolution(
    model: &TypedModel,
    node: &TypedNode,
    op: &cnn::Conv,
) -> TractResult<Option<TypedModelPatch>> {
    let spec = &op.pool_spec;
    let [_, kernel, bias] = *node.inputs else { return Ok(None) };
    let (Some(kernel), Some(bias)) = (konst(model, kernel)?, konst(model, bias)?) else {
        return Ok(None);
    };
    if op.q_params.is_some() || op.kernel_fmt != KernelFormat::OIHW || !supported(spec) {
        return Ok(None);
    }
    let mut bias = floats(&bias)?.to_vec();
    let filters = spec.output_channels;
    if bias.len() == 1 {
        bias = vec![bias[0]; filters];
    }
    if bias.len() != filters {
        return Ok(None);
    }
    let depthwise = op.group == spec.input_channels && op.group == filters && op.group > 1;
    let mut tail = Tail::collect(model, node, Some(channel_axis(spec)))?;
    // A residual of another layout cannot be added in the same pass, and a depthwise kernel adds none.
    if (depthwise || spec.data_format.c_is_last()) && tail.add.is_some() {
        tail = Tail::without_residual(model, node, Some(channel_axis(spec)))?;
    }
    if let Some(more) = &tail.bias {
        bias.iter_mut().zip(more).for_each(|(bias, more)| *bias += more);
    }
    let bias = Some(tensor1(&bias).into_arc_tensor());
    let bounds = [tail.lo.to_bits(), tail.hi.to_bits()];
    let mut inputs = tvec!(node.inputs[0]);
    if depthwise {
        let weights = Some(tensor1(floats(&kernel)?).into_arc_tensor());
        let op = Window { spec: channels_first(spec), weights, bias, bounds };
        return splice_image(model, node, &inputs, tail.end, spec, op);
    }
    inputs.extend(tail.add);
    let way = way(model, node, op)?;
    let weights = pack_weights(spec, op.group, way, floats(&kernel)?).into_arc_tensor();
    let residual = tail.add.is_some();
    let (first, group) = (channels_first(spec), op.group);
    let op = Conv { spec: first, group, way, weights, bias, residual, bounds };
    splice_image(model, node, &inputs, tail.end, spec, op)
}

fn way(model: &TypedModel, node: &TypedNode, op: &cnn::Conv) -> TractResult<Way> {
    let spec = &op.pool_spec;
    let square = *spec.kernel_shape == [3, 3]
        && spec.strides().iter().all(|&s| s == 1)
        && spec.dilations().iter().all(|&d| d == 1);
    let wide = spec.input_channels / op.group >= WINOGRAD_CHANNELS
        && spec.output_channels / op.group >= WINOGRAD_CHANNELS;
    let shape = &model.outlet_fact(OutletId::new(node.id, 0))?.shape;
    let Some(shape) = shape.as_concrete() else { return Ok(Way::Direct) };
    let shape = spec.data_format.shape(shape)?;
    let hw = shape.hw_dims();
    let tiles: usize = hw.iter().map(|side| side.div_ceil(4)).product();
    let fits = square && wide && tiles >= WINOGRAD_TILES;
    Ok(if fits { Way::Winograd } else { Way::Direct })
}

fn max_pool(
    model: &TypedModel,
    node: &TypedNode,
    op: &MaxPool,
) -> TractResult<Option<TypedModelPatch>> {
    if op.with_index_outputs.is_some() || !supported(&op.pool_spec) {
        return Ok(None);
    }
    let spec = channels_first(&op.pool_spec);
    let tail = Tail::without_residual(model, node, None)?;
    let bounds = [tail.lo.to_bits(), tail.hi.to_bits()];
    let window = Window { spec, weights: None, bias: None, bounds };
    splice_image(model, node, &[node.inputs[0]], tail.end, &op.pool_spec, window)
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
        let canonical = konst.as_ref().clone().permute_axes(&order)?;
        let data = floats(&canonical)?;
        let k: usize = summed
            .iter()
            .filter_map(|a| own.iter().position(|b| a == b))
            .map(|p| shape[p])
            .product();
        let mn = data.len() / k.max(1);
        let mut packed = match side {
            Side::Left => vec![0.0; pack::left_len(mn, k)],
            Side::Right => vec![0.0; pack::right_len(k, mn)],
        };
        match side {
            Side::Left => pack::left(data, mn, k, k, 1, &mut packed),
            Side::Right => pack::right(data, k, mn, 1, k, &mut packed),
        }
        let axis = wide.first().or(outer.first()).and_then(|a| out.iter().position(|b| a == b));
        Ok(Some((Weights { packed: tensor1(&packed).into_arc_tensor(), shape }, axis)))
    }

    /// Whether the sizes known now can be walked. With open ones, a single axis of each kind always can.
    fn fits(&self, product: &Product) -> bool {
        let [left, right] = [1 - self.right, self.right].map(|i| self.facts[i].shape.as_concrete());
        if let (Some(left), Some(right)) = (left, right) {
            return product.can_walk(left, right);
        }
        let summed = product.left.iter().filter(|a| !product.out.contains(a)).count();
        let last = product.out.last();
        summed <= 1 && last.is_some_and(|a| product.right.contains(a))
    }
}
