//! Operators that ONNX Runtime's own optimiser and quantiser write (`com.microsoft`), and those of the standard that
//! tract reads more narrowly than it, each written as several operators that tract has.
//!
//! What tract knows by then (types, ranks, known tensors) decides how a node is written, so one function is enough for
//! every form of an operator, in subgraphs too. Small integers are multiplied as floats, which is exact below 2^24, and
//! it is the native kernels that do it. ONNX Runtime's answer is the right one; what it does not take, or what is not
//! supported here, is refused.

use std::sync::Arc;

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::*;

mod activations;
mod attention;
mod build;
mod conv;
mod grouped;
mod heads;
mod integers;
mod lstm;
mod node;
mod norms;
mod products;
mod quantised;
mod recurrence;
mod rotary;

use build::{Build, Outputs};
use node::Node;

/// Writes a node's operators; gives its outputs in the schema's order.
type Write = fn(&mut Build<'_>) -> TractResult<Outputs>;

const DOMAIN: &str = "com.microsoft";

/// Of that domain, and known by their plain name: the standard's as well, tract's own, or for text.
const SHARED: [&str; 7] =
    ["GatherBlockQuantized", "GridSample", "MatMulNBits", "Pad", "Range", "Tokenizer", "Trilu"];

/// By the name that [`claim`] gives them: tract goes by names alone, and some are the standard's as well.
const OPERATORS: [(&str, Write); 42] = [
    ("BatchNormalization", norms::batch),
    ("CumSum", norms::running_sum),
    ("Gemm", products::gemm),
    ("QLinearConv", conv::quantised),
    ("QLinearMatMul", products::quantised),
    ("SimplifiedLayerNormalization", norms::simplified),
    ("com.microsoft.Attention", attention::attention),
    ("com.microsoft.BiasGelu", activations::bias_gelu),
    ("com.microsoft.DequantizeLinear", quantised::dequantize),
    ("com.microsoft.DynamicQuantizeLSTM", lstm::dynamic),
    ("com.microsoft.DynamicQuantizeMatMul", products::dynamic),
    ("com.microsoft.EmbedLayerNormalization", norms::embed),
    ("com.microsoft.FastGelu", activations::fast_gelu),
    ("com.microsoft.FusedConv", conv::fused),
    ("com.microsoft.FusedGemm", products::gemm),
    ("com.microsoft.FusedMatMul", products::fused),
    ("com.microsoft.FusedMatMulActivation", products::fused),
    ("com.microsoft.Gelu", activations::gelu),
    ("com.microsoft.GroupQueryAttention", grouped::grouped),
    ("com.microsoft.MatMulIntegerToFloat", products::to_float),
    ("com.microsoft.MultiHeadAttention", attention::multi_head),
    ("com.microsoft.NhwcMaxPool", conv::max_pool),
    ("com.microsoft.QAttention", attention::quantised),
    ("com.microsoft.QEmbedLayerNormalization", norms::embed_quantised),
    ("com.microsoft.QGemm", products::quantised_gemm),
    ("com.microsoft.QLinearAdd", quantised::add),
    ("com.microsoft.QLinearAveragePool", conv::average_pool),
    ("com.microsoft.QLinearConcat", quantised::concat),
    ("com.microsoft.QLinearConv", conv::quantised),
    ("com.microsoft.QLinearGlobalAveragePool", quantised::global_average),
    ("com.microsoft.QLinearLeakyRelu", quantised::leaky_relu),
    ("com.microsoft.QLinearMul", quantised::mul),
    ("com.microsoft.QLinearSigmoid", quantised::sigmoid),
    ("com.microsoft.QLinearSoftmax", quantised::softmax),
    ("com.microsoft.QLinearWhere", quantised::choose),
    ("com.microsoft.QuantizeLinear", quantised::quantize),
    ("com.microsoft.QuickGelu", activations::quick_gelu),
    ("com.microsoft.RotaryEmbedding", rotary::rotary),
    ("com.microsoft.SimplifiedLayerNormalization", norms::simplified),
    ("com.microsoft.SkipLayerNormalization", norms::skip),
    ("com.microsoft.SkipSimplifiedLayerNormalization", norms::skip_simplified),
    ("com.microsoft.TransposeMatMul", products::fused),
];

/// Names the operators that are known here by their domain, in the graph and in those inside it.
pub(super) fn claim(graph: &mut GraphProto) {
    for node in &mut graph.node {
        let name = format!("{DOMAIN}.{}", node.op_type);
        if node.domain == DOMAIN && OPERATORS.iter().any(|(known, _)| *known == name) {
            node.op_type = name;
            node.domain.clear();
        }
        node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()).for_each(claim);
    }
}

/// Whether a node that nobody has claimed is another operator than the one of its name.
pub(super) fn unknown(node: &NodeProto) -> bool {
    node.domain == DOMAIN && !SHARED.contains(&&*node.op_type)
}

/// Teaches tract these operators, its own versions of some among them.
pub(super) fn register(onnx: &mut Onnx) {
    for (name, _) in OPERATORS {
        onnx.op_register.insert(name, build);
    }
}

/// One of these operators.
pub(super) fn build(
    _: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let known = OPERATORS.iter().find(|(name, _)| *name == node.op_type);
    let &(name, write) = known.with_context(|| format!("no operator {}", node.op_type))?;
    Ok((expand(Operator { name, node: Arc::new(Node::new(node)), write }), Vec::new()))
}

/// A node that is still to be written.
#[derive(Debug, Clone)]
struct Operator {
    name: &'static str,
    node: Arc<Node>,
    write: Write,
}

impl Operator {
    fn write(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
        sizing: bool,
    ) -> TractResult<TVec<OutletId>> {
        let mut build = Build::new(&self.node, prefix, model, inputs, sizing);
        let outputs = (self.write)(&mut build).and_then(|outputs| build.finish(&outputs));
        outputs.with_context(|| self.node.label())
    }
}

impl Expansion for Operator {
    fn name(&self) -> StaticName {
        self.name.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.node.wanted().count())
    }

    /// Types and shapes are those of the operators, written for once into a model of their own.
    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, self.node.wanted().count())?;
        let types = inputs.iter().map(|input| &input.datum_type);
        s.given_all(types, move |s, types| {
            let shapes = inputs.iter().map(|input| &input.shape);
            s.given_all(shapes, move |s, shapes| {
                let mut model = TypedModel::default();
                let sources = types.iter().zip(shapes).enumerate().map(|(i, (datum, shape))| {
                    model.add_source(format!("input {i}"), datum.fact(&*shape))
                });
                let sources = sources.collect::<TractResult<Vec<_>>>()?;
                let made = self.write("sizes", &mut model, &sources, true)?;
                for (output, made) in outputs.iter().zip(made) {
                    let fact = model.outlet_fact(made)?;
                    s.equals(&output.datum_type, fact.datum_type)?;
                    s.equals(&output.shape, fact.shape.to_tvec())?;
                }
                Ok(())
            })
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        self.write(prefix, model, inputs, false)
    }
}
