//! Nodes that tract takes and then computes otherwise, or ends the instance on, by the types and shapes that they read.

mod images;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::*;

use super::halves::in_f32;
use super::narrow::Narrow;
use super::{Built, called, tracts};

/// What is known of an input so far.
struct Seen {
    datum: Option<DatumType>,
    shape: Option<TVec<TDim>>,
    value: Option<Arc<Tensor>>,
}

impl Seen {
    fn is(&self, what: impl Fn(DatumType) -> bool) -> bool {
        self.datum.is_some_and(what)
    }

    fn is_empty(&self) -> bool {
        self.shape.as_ref().is_some_and(|shape| shape.iter().any(|size| *size == 0.to_dim()))
    }
}

/// Why a node is refused, and what to do; nothing if it is right.
type Check = fn(&NodeProto, i64, &[Seen]) -> Option<&'static str>;

const GUARDS: [(&str, Check); 34] = [
    ("Clip", sizes),
    ("Concat", beside),
    ("ConvTranspose", images::transposed),
    ("Einsum", product),
    ("Equal", beside),
    ("Greater", beside),
    ("GreaterOrEqual", beside),
    ("GridSample", beyond),
    ("Hardmax", reduction),
    ("Gemm", product),
    ("Less", beside),
    ("LessOrEqual", beside),
    ("LpNormalization", reduction),
    ("MatMul", product),
    ("Max", beside),
    ("MaxPool", places),
    ("Min", beside),
    ("Pad", cropped),
    ("ReduceL1", reduction),
    ("ReduceL2", root),
    ("ReduceLogSum", root),
    ("ReduceMax", reduction),
    ("ReduceMean", reduction),
    ("ReduceMin", reduction),
    ("ReduceProd", reduction),
    ("ReduceSum", reduction),
    ("ReduceSumSquare", root),
    ("ArgMax", reduction),
    ("ArgMin", reduction),
    ("Resize", resize),
    ("Shrink", fractions),
    ("Softmax", nothing),
    ("Upsample", resize),
    ("Where", beside),
];

pub(super) fn register(onnx: &mut tract_onnx::Onnx) {
    for (name, _) in GUARDS {
        onnx.op_register.insert(name, guarded);
    }
}

fn guarded(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let known = GUARDS.iter().find(|(name, _)| *name == node.op_type);
    let (_, check) = known.with_context(|| format!("{} has no guard", called(node)))?;
    let (inner, more) = match node.op_type.as_str() {
        // Ours, with factors of f16.
        "Gemm" => crate::onnx::contrib::build(context, node)?,
        "Upsample" => crate::onnx::operators::upsample(context, node)?,
        "Clip" if context.onnx_operator_set_version < 11 => {
            let mut node = node.clone();
            finite(&mut node);
            tracts("Clip", context, &node)?
        }
        "Resize" if context.onnx_operator_set_version == 10 => {
            let mut node = node.clone();
            crate::onnx::operators::as_until_10(&mut node);
            tracts("Resize", context, &node)?
        }
        "ReduceMax" | "ReduceMin" => tracts(&node.op_type, context, node)?,
        "ConvTranspose" | "Einsum" | "MatMul" | "Softmax" => in_f32(context, node)?,
        name if name.starts_with("Reduce") => in_f32(context, node)?,
        _ => tracts(&node.op_type, context, node)?,
    };
    // Without weights, which a Constant's attributes may be; these operators have none.
    let guard = Guarded {
        inner,
        node: node.clone(),
        set: context.onnx_operator_set_version,
        check: *check,
    };
    Ok((Box::new(guard), more))
}

/// Until operator set 10 a bound that was not given was the last finite number.
fn finite(node: &mut NodeProto) {
    for (name, bound) in [("min", f32::MIN), ("max", f32::MAX)] {
        if !node.attribute.iter().any(|attribute| attribute.name == name) {
            node.attribute.push(AttributeProto {
                name: name.to_owned(),
                r#type: AttributeType::Float as i32,
                f: bound,
                ..AttributeProto::default()
            });
        }
    }
}

const WHOLE_PRODUCT: &str = "its products are of whole numbers, which are not supported; cast its inputs to float and \
     the result back, or use MatMulInteger";
const FRACTIONS: &str =
    "it is not supported for whole numbers; put a Cast to float before it and one back behind it";
const EMPTY: &str = "its input has a dimension of 0, which is not supported; give it one element or more with --input";

fn product(_: &NodeProto, _: i64, inputs: &[Seen]) -> Option<&'static str> {
    inputs.iter().any(|input| input.is(|datum| !datum.is_float())).then_some(WHOLE_PRODUCT)
}

fn fractions(_: &NodeProto, _: i64, inputs: &[Seen]) -> Option<&'static str> {
    inputs[0].is(|datum| !datum.is_float()).then_some(FRACTIONS)
}

fn root(node: &NodeProto, set: i64, inputs: &[Seen]) -> Option<&'static str> {
    fractions(node, set, inputs).or_else(|| reduction(node, set, inputs))
}

fn reduction(node: &NodeProto, _: i64, inputs: &[Seen]) -> Option<&'static str> {
    let last = inputs[0].shape.as_ref().and_then(|shape| shape.last());
    let last = last.is_some_and(|size| *size == 0.to_dim());
    let means = matches!(node.op_type.as_str(), "ReduceMean" | "Hardmax")
        || inputs[0].is(|datum| datum == DatumType::F16);
    (last || inputs[0].is_empty() && means).then_some(EMPTY)
}

/// tract's own `Softmax` ends the instance on nothing; the kernels' takes 32 bits only.
fn nothing(_: &NodeProto, _: i64, inputs: &[Seen]) -> Option<&'static str> {
    (inputs[0].is_empty() && !inputs[0].is(|datum| datum == DatumType::F32)).then_some(EMPTY)
}

/// tract takes what is to be cut off for a size of 2^32 and more.
fn cropped(node: &NodeProto, _: i64, inputs: &[Seen]) -> Option<&'static str> {
    let pads = node.attribute.iter().find(|attribute| attribute.name == "pads");
    let negative = |value: &Arc<Tensor>| {
        let pads = value.cast_to::<i64>().ok()?;
        Some(pads.try_as_plain_ram().ok()?.as_slice::<i64>().ok()?.iter().any(|pad| *pad < 0))
    };
    let given = inputs.get(1).and_then(|pads| pads.value.as_ref()).and_then(negative);
    let cut = pads.is_some_and(|pads| pads.ints.iter().any(|pad| *pad < 0)) || given == Some(true);
    cut.then_some("pads below 0 are not supported; cut with Slice")
}

/// Sizes are no numbers to tract until it runs, and it compares those with bounds of 53 bits and more wrongly.
fn sizes(_: &NodeProto, _: i64, inputs: &[Seen]) -> Option<&'static str> {
    let large = |value: &Arc<Tensor>| {
        let bound = value.cast_to_scalar::<f64>().ok()?;
        Some(bound.abs() >= 9_007_199_254_740_992.0 && value.datum_type().is_integer())
    };
    let bounds = inputs.iter().skip(1).filter_map(|bound| bound.value.as_ref());
    let of_sizes = inputs[0].is(|datum| datum == DatumType::TDim);
    (of_sizes && bounds.filter_map(large).any(|large| large)).then_some(
        "its input is a size of a tensor, and its bounds are beyond every size; leave such a bound out",
    )
}

/// Cubic neighbours beyond the border: tract brings the place into the picture, and not each of them.
fn beyond(node: &NodeProto, _: i64, _: &[Seen]) -> Option<&'static str> {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let cubic = attribute("mode").is_some_and(|mode| mode.s.ends_with(b"cubic"));
    let padded = attribute("padding_mode").is_some_and(|mode| mode.s != b"zeros");
    (cubic && padded).then_some(
        "cubic with a padding_mode of border or reflection is not supported; use zeros, or linear",
    )
}

/// tract takes a whole number for one of 32 bits where it meets a size.
fn beside(_: &NodeProto, _: i64, inputs: &[Seen]) -> Option<&'static str> {
    let beyond = |value: &Arc<Tensor>| {
        let whole = value.datum_type().is_signed() || value.datum_type().is_unsigned();
        let numbers = value.cast_to::<i64>().ok().filter(|_| whole)?;
        let numbers = numbers.try_as_plain_ram().ok()?.as_slice::<i64>().ok()?.to_vec();
        Some(numbers.iter().any(|number| i32::try_from(*number).is_err()))
    };
    let sizes = inputs.iter().any(|input| input.is(|datum| datum == DatumType::TDim));
    let large = inputs.iter().filter_map(|input| input.value.as_ref().and_then(beyond));
    (sizes && large.into_iter().any(|large| large)).then_some(
        "one of its inputs is a size of a tensor, and another a constant of more than 32 bits, which is not supported; \
         give it a smaller one",
    )
}

/// The lowest number of a whole type is never found to be the largest of a window.
fn places(node: &NodeProto, _: i64, inputs: &[Seen]) -> Option<&'static str> {
    let wanted = node.output.get(1).is_some_and(|name| !name.is_empty());
    (wanted && inputs[0].is(|datum| !datum.is_float())).then_some(
        "its second output is not supported for whole numbers; put a Cast to float before it",
    )
}

fn resize(node: &NodeProto, set: i64, inputs: &[Seen]) -> Option<&'static str> {
    if let Some(why) = images::single(node, inputs) {
        return Some(why);
    }
    let mode = node.attribute.iter().find(|attribute| attribute.name == "mode");
    if mode.is_some_and(|mode| mode.s != b"nearest") {
        let whole = inputs[0].is(|datum| !datum.is_float());
        return whole.then_some(
            "between whole numbers it is not supported; put a Cast to float before it and one back behind it",
        );
    }
    let smaller = |value: &Arc<Tensor>| {
        let scales = value.cast_to::<f32>().ok()?;
        let scales = scales.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec();
        Some(scales.iter().any(|scale| *scale < 1.0 && scale.recip().fract() != 0.0))
    };
    let scales = inputs.get(1).and_then(|input| input.value.as_ref());
    (set == 10 && scales.and_then(smaller) == Some(true)).then_some(
        "in operator set 10 it is not supported for scales below 1 that are no half, third or other whole part; export \
         it with operator set 11",
    )
}

/// An operator of tract's that is asked about each input before it is believed.
#[derive(Clone)]
struct Guarded {
    inner: Box<dyn InferenceOp>,
    node: NodeProto,
    set: i64,
    check: Check,
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for Guarded {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Guarded {}

impl Guarded {
    fn ask(&self, inputs: &[Seen]) -> TractResult<()> {
        match (self.check)(&self.node, self.set, inputs) {
            Some(why) => bail!("{}: {why}", called(&self.node)),
            None => Ok(()),
        }
    }
}

impl Op for Guarded {
    fn name(&self) -> StaticName {
        self.inner.as_op().name()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.inner.as_op().info()
    }

    fn validation(&self) -> Validation {
        self.inner.as_op().validation()
    }

    not_a_typed_op!();
}

impl EvalOp for Guarded {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.inner.as_op().eval(context, inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.inner.as_op().eval_out_of_plan(inputs)
    }
}

impl InferenceOp for Guarded {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        // Before anything is worked out of constants.
        let seen = inputs.iter().map(|fact| Seen {
            datum: fact.datum_type.concretize(),
            shape: fact.shape.concretize(),
            value: fact.value.concretize(),
        });
        self.ask(&seen.collect::<Vec<_>>())?;
        self.inner.infer(inputs, outputs, observed)
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.inner.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Vec<OutletId>> {
        self.inner.observe_outlets(model, node)
    }

    fn incorporate(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Option<InferenceModelPatch>> {
        self.inner.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.inner.nboutputs()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let facts = node.inputs.iter().map(|outlet| target.outlet_fact(mapping[outlet]));
        let seen = facts.map(|fact| {
            let fact = fact?;
            Ok(Seen {
                datum: Some(fact.datum_type),
                shape: Some(fact.shape.to_tvec()),
                value: fact.konst.clone(),
            })
        });
        let seen = seen.collect::<TractResult<Vec<_>>>()?;
        self.ask(&seen)?;
        let datums: Vec<_> = seen.iter().filter_map(|seen| seen.datum).collect();
        let mut narrowed = Vec::new();
        for (at, outlet) in node.inputs.iter().enumerate() {
            let input = mapping[outlet];
            if Narrow::is_needed(target.outlet_fact(input)?, &datums) {
                let name = format!("{}.narrow.{at}", node.name);
                let narrow = Narrow { label: called(&self.node) };
                narrowed.push((*outlet, target.wire_node(name, narrow, &[input])?[0]));
            }
        }
        if narrowed.is_empty() {
            return self.inner.to_typed(source, node, target, mapping);
        }
        let mut mapping = mapping.clone();
        mapping.extend(narrowed);
        self.inner.to_typed(source, node, target, &mapping)
    }

    as_op!();
}
