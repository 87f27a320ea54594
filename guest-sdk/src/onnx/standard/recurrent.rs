//! `LSTM`, `GRU` and `RNN` as the standard has them. tract takes no notice of the direction of one that goes backwards
//! only, of its activations, and of `clip`. Those of an LSTM are fixed.

use tract_onnx::model::ParsingContext;
use tract_onnx::ops::rec::common::{CommonRec, WireBody};
use tract_onnx::ops::rec::{gru::GRU, lstm::LSTM, rnn::RNN};
use tract_onnx::pb::{AttributeProto, NodeProto};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_onnx::tract_core::ops::math::tanh;
use tract_onnx::tract_core::ops::nn::sigmoid;
use tract_onnx::tract_hir::internal::*;

use super::around::Around;
use super::flip::Flip;
use super::{Built, called};

pub(super) fn recurrent(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let direction = attribute("direction").map_or(&b"forward"[..], |attribute| &attribute.s);
    ensure!(
        attribute("clip").is_none() && attribute("input_forget").is_none_or(|flag| flag.i == 0),
        "{}: `clip` and `input_forget` are not supported; export it without them",
        called(node)
    );
    let own = attribute("activations").map_or(&[][..], |given| &given.strings);
    let usual = |name: &[u8], at: usize| {
        name.eq_ignore_ascii_case([&b"sigmoid"[..], b"tanh", b"tanh"][at % 3])
    };
    // Its one step of all four gates has these written into it.
    ensure!(
        node.op_type != "LSTM" || own.iter().enumerate().all(|(at, name)| usual(name, at)),
        "{}: other activations than Sigmoid, Tanh, Tanh are not supported; export it with those",
        called(node)
    );
    let mut functions = activations(node, attribute("activations"), direction)?.into_iter();
    let mut next =
        || functions.next().with_context(|| format!("{}: too few activations", called(node)));
    let body: Box<dyn WireBody> = match node.op_type.as_str() {
        "LSTM" => Box::new(LSTM { f: next()?, g: next()?, h: next()? }),
        "GRU" => {
            let before = attribute("linear_before_reset").is_some_and(|flag| flag.i != 0);
            Box::new(GRU { f: next()?, g: next()?, linear_before_reset: before })
        }
        _ => {
            let function = next()?;
            Box::new(RNN { fore: function.clone(), back: function })
        }
    };
    let common = CommonRec::from_node_and_options(node, 3, 0, body)?;
    if direction != b"reverse" {
        return Ok((expand(common), vec![]));
    }
    // From the last step to the first.
    let (steps, y) = (Flip(usize::from(common.batch_first)), common.optional_y_output);
    let wire =
        move |tracts: &dyn Expansion, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]| {
            let mut inputs: TVec<OutletId> = inputs.into();
            inputs[0] =
                model.wire_node(format!("{prefix}.backwards"), steps.clone(), &inputs[..1])?[0];
            let mut outputs = tracts.wire(prefix, model, &inputs)?;
            if let Some(y) = y {
                let forwards = format!("{prefix}.forwards");
                outputs[y] = model.wire_node(forwards, steps.clone(), &[outputs[y]])?[0];
            }
            Ok(outputs)
        };
    Ok((expand(Around { tracts: Box::new(common), wire }), vec![]))
}

/// The functions of one direction; both are to have the same.
fn activations(
    node: &NodeProto,
    given: Option<&AttributeProto>,
    direction: &[u8],
) -> TractResult<Vec<Box<dyn TypedOp>>> {
    let usual: &[&str] = match node.op_type.as_str() {
        "LSTM" => &["sigmoid", "tanh", "tanh"],
        "GRU" => &["sigmoid", "tanh"],
        _ => &["tanh"],
    };
    let names = given.map_or_else(
        || usual.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(),
        |given| {
            given.strings.iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect()
        },
    );
    let names = match names.split_at_checked(usual.len()) {
        Some((fore, [])) => fore,
        Some((fore, back)) if direction == b"bidirectional" && fore == back => fore,
        _ => bail!(
            "{}: {} activations for {} functions; other ones for each direction are not supported",
            called(node),
            names.len(),
            usual.len()
        ),
    };
    let function = |name: &String| -> TractResult<Box<dyn TypedOp>> {
        match name.as_str() {
            "sigmoid" => Ok(Box::new(sigmoid())),
            "tanh" => Ok(Box::new(tanh())),
            "relu" => Ok(Box::new(ElementWiseOp(Box::new(Rectify), None))),
            other => bail!(
                "{}: the activation {other:?} is not supported; sigmoid, tanh and relu are",
                called(node)
            ),
        }
    };
    names.iter().map(function).collect()
}

/// 0 where a number is less. tract has it of two operands only, and a cell's function has one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rectify;

impl ElementWiseMiniOp for Rectify {
    fn name(&self) -> String {
        "MayflyRectify".to_owned()
    }

    fn eval_in_place(&self, tensor: &mut Tensor, _: Option<DatumType>) -> TractResult<()> {
        match tensor.datum_type() {
            DatumType::F32 => rectify::<f32>(tensor),
            DatumType::F64 => rectify::<f64>(tensor),
            other => bail!("a recurrent cell of {other:?} is not supported; cast it to float"),
        }
    }
}

fn rectify<T: Datum + Copy + Default + PartialOrd>(tensor: &mut Tensor) -> TractResult<()> {
    let mut plain = tensor.try_as_plain_ram_mut()?;
    let negative = plain.as_slice_mut::<T>()?.iter_mut().filter(|number| **number <= T::default());
    negative.for_each(|number| *number = T::default());
    Ok(())
}
