//! Operators of the standard that tract has and, by ONNX Runtime's answers, has wrong: put right beside it, or refused
//! where the model is loaded.
//!
//! Each was found by `make soak-models`. A guard knows the types and shapes of a node's inputs; a node that it does not let
//! pass would have been answered with other numbers, or would have ended the instance.

mod activations;
mod around;
mod flip;
mod guard;
mod halves;
mod logs;
mod narrow;
mod one_hot;
mod pools;
mod quantise;
mod range;
mod recurrent;
mod whole;

use std::sync::LazyLock;

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::*;

use around::{around, taken_over};

/// What a builder of an operator gives: the operator, and what it reads beside the node's inputs.
type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// tract's own operators.
static TRACT: LazyLock<Onnx> = LazyLock::new(tract_onnx::onnx);

pub(super) fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("Celu", activations::celu);
    onnx.op_register.insert("Softplus", activations::softplus);
    onnx.op_register.insert("GlobalLpPool", pools::global_lp_pool);
    onnx.op_register.insert("OneHot", one_hot::one_hot);
    onnx.op_register.insert("LogSoftmax", logs::log_softmax);
    onnx.op_register.insert("DynamicQuantizeLinear", quantise::dynamic_quantize_linear);
    onnx.op_register.insert("QuantizeLinear", quantise::quantize_linear);
    onnx.op_register.insert("DequantizeLinear", quantise::dequantize_linear);
    onnx.op_register.insert("Range", range::range);
    onnx.op_register.insert("ReduceLogSumExp", logs::reduce_log_sum_exp);
    for name in ["GRU", "LSTM", "RNN"] {
        onnx.op_register.insert(name, recurrent::recurrent);
    }
    let alphas = ["Elu", "HardSigmoid", "LeakyRelu", "Selu", "ThresholdedRelu"];
    for name in alphas.into_iter().chain(["AveragePool", "Conv", "GlobalAveragePool"]) {
        onnx.op_register.insert(name, halves::in_f32);
    }
    for name in ["Add", "Div", "Mod", "Mul", "Pow", "Sub"] {
        onnx.op_register.insert(name, whole::whole);
    }
    guard::register(onnx);
}

/// The operator `name` as tract has it.
pub(super) fn tracts(name: &str, context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let known = TRACT.op_register.0.get(name);
    known.with_context(|| format!("tract has no operator {name}"))?(context, node)
}

/// How errors call the node: a name is optional in ONNX, and that of what it makes is not.
pub(super) fn called(node: &NodeProto) -> String {
    let made = node.output.iter().find(|name| !name.is_empty());
    let name = if node.name.is_empty() { made } else { Some(&node.name) };
    format!("the {} {:?}", node.op_type, name.map_or("", String::as_str))
}

/// One number in the type and rank of `like`.
fn scalar<T: Datum>(
    model: &mut TypedModel,
    name: &str,
    like: OutletId,
    value: T,
) -> TractResult<OutletId> {
    let fact = model.outlet_fact(like)?;
    let (datum, rank) = (fact.datum_type, fact.rank());
    let tensor = tensor0(value).cast_to_dt(datum)?.into_owned().broadcast_into_rank(rank)?;
    model.add_const(name, tensor)
}
