//! `Cast` from text to numbers and back; between numbers it is tract's.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::attributes::Attributes;
use super::super::ml::{Kernel, Kind, OfNumbers, Operator, slice};

/// Which of the two it is, the input's type tells.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cast {
    to: DatumType,
    node: String,
}

pub(super) fn build(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let attributes = Attributes::new(context, node);
    let to: DatumType = node.get_attr("to").with_context(|| attributes.node())?;
    Ok((expand(Cast { to, node: attributes.node() }), Vec::new()))
}

impl Cast {
    /// Whether it is one between text and numbers, from numbers of this type or from text.
    fn is_ours(&self, from: DatumType) -> bool {
        (from == DatumType::String) != (self.to == DatumType::String)
    }

    /// What its output holds. A whole number may be a size, which is another type to tract.
    fn output(&self, from: DatumType) -> DatumType {
        match self.to {
            DatumType::I64 if !self.is_ours(from) => DatumType::TDim,
            to => to,
        }
    }

    fn operator(&self) -> Operator {
        let kernel: Arc<dyn Kernel> = match self.to {
            DatumType::String => Arc::new(ToText),
            to => Arc::new(FromText(to)),
        };
        Operator::new("Cast", self.node.clone(), kernel)
    }
}

impl Expansion for Cast {
    fn name(&self) -> StaticName {
        "Cast".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].rank, &inputs[0].rank)?;
        s.equals(&outputs[0].shape, &inputs[0].shape)?;
        s.given(&inputs[0].datum_type, move |s, from| {
            s.equals(&outputs[0].datum_type, self.output(from))
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let from = model.outlet_fact(inputs[0])?.datum_type;
        if self.is_ours(from) {
            return model.wire_node(prefix, self.operator(), inputs);
        }
        model.wire_node(prefix, tract_core::ops::cast::cast(self.output(from)), inputs)
    }
}

/// A number as C prints it with eight digits (`%.8g`), as ONNX Runtime does.
#[derive(Debug)]
struct ToText;

impl Kernel for ToText {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let [input] = inputs else { bail!("it takes one input, and has {}", inputs.len()) };
        ensure!(
            input.datum.is_number() || input.datum == DatumType::Bool,
            "its input holds {:?}, which is no number",
            input.datum
        );
        Ok(vec![Kind::new(DatumType::String, input.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let input = inputs[0];
        let texts: Vec<String> = if input.datum_type().is_float() {
            let input = input.cast_to::<f64>()?;
            slice::<f64>(&input)?.iter().map(|&x| general(x)).collect()
        } else if input.datum_type() == DatumType::U64 {
            slice::<u64>(input)?.iter().map(ToString::to_string).collect()
        } else {
            let input = input.cast_to::<i64>()?;
            slice::<i64>(&input)?.iter().map(ToString::to_string).collect()
        };
        Ok(vec![tensor1(&texts).into_shape(input.shape())?])
    }
}

fn general(x: f64) -> String {
    const DIGITS: i32 = 8;
    if x.is_nan() {
        return "NaN".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "INF" } else { "-INF" }.to_owned();
    }
    let whole = format!("{x:.7e}");
    let (mantissa, exponent) = whole.split_once('e').unwrap_or((&whole, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let short = |number: &str| match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => number.to_owned(),
    };
    match usize::try_from(DIGITS - 1 - exponent) {
        Ok(digits) if exponent >= -4 => short(&format!("{x:.digits$}")),
        _ => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", short(mantissa), exponent.unsigned_abs())
        }
    }
}

/// What a text says, if that is one number and nothing else.
#[derive(Debug)]
struct FromText(DatumType);

impl Kernel for FromText {
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        let input = super::text(inputs)?;
        ensure!(
            self.0.is_number() || self.0 == DatumType::Bool,
            "it makes {:?} of text, which is no number",
            self.0
        );
        Ok(vec![Kind::new(self.0, input.shape.clone())])
    }

    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>> {
        let texts = slice::<String>(inputs[0])?;
        let numbers = match self.0 {
            DatumType::F64 => tensor1(&floats(texts)?),
            DatumType::F32 | DatumType::F16 => {
                let numbers = tensor1(&floats(texts)?).cast_to::<f32>()?.into_owned();
                numbers.cast_to_dt(self.0)?.into_owned()
            }
            DatumType::I8 => tensor1(&wholes::<i8>(texts)?),
            DatumType::I16 => tensor1(&wholes::<i16>(texts)?),
            DatumType::I32 => tensor1(&wholes::<i32>(texts)?),
            DatumType::I64 => tensor1(&wholes::<i64>(texts)?),
            DatumType::U8 => tensor1(&wholes::<u8>(texts)?),
            DatumType::U16 => tensor1(&wholes::<u16>(texts)?),
            DatumType::U32 => tensor1(&wholes::<u32>(texts)?),
            DatumType::U64 => tensor1(&wholes::<u64>(texts)?),
            DatumType::Bool => {
                let wholes = wholes::<i64>(texts)?;
                tensor1(&wholes.iter().map(|&whole| whole != 0).collect::<Vec<_>>())
            }
            other => bail!("it makes {other:?} of text, which is no number"),
        };
        Ok(vec![numbers.into_shape(inputs[0].shape())?])
    }
}

/// Each text by what `read` makes of it without the spaces around it.
fn each<T>(texts: &[String], read: impl Fn(&str) -> Option<T>) -> TractResult<Vec<T>> {
    let read = |(at, text): (usize, &String)| {
        let number = read(text.trim_ascii());
        let wrong = || OfNumbers("a text is no number of the type that is made of it");
        number.ok_or_else(wrong).with_context(|| format!("element {at}"))
    };
    texts.iter().enumerate().map(read).collect()
}

fn floats(texts: &[String]) -> TractResult<Vec<f64>> {
    each(texts, |text| {
        let number: f64 = text.parse().ok()?;
        // Infinite is what says so, not what is too large.
        (!number.is_infinite() || !text.contains(|c: char| c.is_ascii_digit())).then_some(number)
    })
}

fn wholes<T: TryFrom<i128>>(texts: &[String]) -> TractResult<Vec<T>> {
    each(texts, |text| {
        // Of 1.5 it is 1, as to ONNX Runtime.
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| T::try_from(whole.parse::<i128>().ok()?).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_c_does() {
        let numbers = [
            0.0,
            -0.0,
            1.5,
            1e7,
            123_456_789.0,
            9.999_999_7e-6,
            1.0 / 3.0,
            1e-4,
            99_999_999.5,
            f64::NAN,
            f64::NEG_INFINITY,
        ];
        let right = [
            "0",
            "-0",
            "1.5",
            "10000000",
            "1.2345679e+08",
            "9.9999997e-06",
            "0.33333333",
            "0.0001",
            "1e+08",
            "NaN",
            "-INF",
        ];
        assert_eq!(numbers.map(general), right);
    }

    #[test]
    fn text_is_one_number_or_is_refused() {
        let read = |text: &str| floats(&[text.to_owned()]).ok().map(|numbers| numbers[0]);
        assert_eq!(read(" 1e3\n"), Some(1000.0));
        assert_eq!(read("-INF"), Some(f64::NEG_INFINITY));
        assert!(read("NaN").unwrap().is_nan());
        for wrong in ["", "12abc", "0x10", "1e400", "true", "1 2"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let read = |text: &str| wholes::<u8>(&[text.to_owned()]).ok().map(|numbers| numbers[0]);
        assert_eq!([read("7"), read("+7"), read("7.9")], [Some(7); 3]);
        for wrong in ["300", "-1", "1e1", "7.x", ".", "1.2.3"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
