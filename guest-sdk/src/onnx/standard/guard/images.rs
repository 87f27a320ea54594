//! Convolutions and resizings whose attributes tract reads otherwise.

use tract_onnx::pb::NodeProto;

use super::Seen;

/// tract leaves `output_padding` out of the sizes that `auto_pad` asks for, and counts on from `output_shape` in whole
/// numbers without a sign.
pub(super) fn transposed(node: &NodeProto, _: i64, inputs: &[Seen]) -> Option<&'static str> {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let ints = |name: &str| attribute(name).map_or(&[][..], |attribute| &attribute.ints);
    let same = attribute("auto_pad").is_some_and(|auto| auto.s.starts_with(b"SAME"));
    let wanted = ints("output_shape");
    if same && (!wanted.is_empty() || ints("output_padding").iter().any(|more| *more != 0)) {
        return Some(
            "auto_pad with output_padding or output_shape is not supported; give it pads in place of auto_pad",
        );
    }
    let shape = |at: usize| -> Option<Vec<i64>> {
        let shape = inputs.get(at)?.shape.as_ref()?;
        shape.iter().skip(2).map(|size| size.to_i64().ok()).collect()
    };
    let (image, kernel) = (shape(0)?, shape(1)?);
    let pads = ints("pads");
    let at = |all: &[i64], axis: usize, none: i64| all.get(axis).copied().unwrap_or(none);
    let small = wanted.iter().enumerate().any(|(axis, wanted)| {
        let window = (at(&kernel, axis, 1) - 1) * at(ints("dilations"), axis, 1) + 1;
        let pads = at(pads, axis, 0) + at(pads, axis + kernel.len(), 0);
        *wanted < at(ints("strides"), axis, 1) * (at(&image, axis, 1) - 1) + window - pads
    });
    small.then_some(
        "an output_shape smaller than what its kernel makes is not supported; give it pads instead",
    )
}

/// Where one number is left of an axis, the standard takes it from the first place, and tract from half a place before.
pub(super) fn single(node: &NodeProto, inputs: &[Seen]) -> Option<&'static str> {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let says = |name: &str, what: &[u8]| attribute(name).is_some_and(|given| given.s == what);
    let wide = says("mode", b"cubic") || attribute("antialias").is_some_and(|flag| flag.i != 0);
    if !wide || !says("coordinate_transformation_mode", b"pytorch_half_pixel") {
        return None;
    }
    let shape = inputs[0].shape.as_ref()?;
    let rank = i64::try_from(shape.len()).ok().filter(|rank| *rank > 0)?;
    let axes = attribute("axes").map_or_else(|| (0..rank).collect(), |axes| axes.ints.clone());
    let image = axes.iter().map(|axis| usize::try_from(axis.rem_euclid(rank)).unwrap_or(0));
    let size = |axis: usize| Some(f64::from(i32::try_from(shape.get(axis)?.to_i64().ok()?).ok()?));
    let image: Option<Vec<f64>> = image.map(size).collect();
    let image = image?;
    // What is asked for are scales or sizes, whichever are there; a region has twice as many numbers.
    let one = |seen: &Seen| {
        let asked = seen.value.as_ref()?.cast_to::<f64>().ok()?.into_owned();
        let asked = asked.try_as_plain_ram().ok()?.as_slice::<f64>().ok()?.to_vec();
        let scales = seen.is(|datum| datum.is_float());
        let size = |(image, asked): (&f64, &f64)| if scales { image * asked } else { *asked };
        let one = image.iter().zip(&asked).any(|pair| *pair.0 > 1.0 && size(pair) < 2.0);
        Some(one && asked.len() == image.len())
    };
    inputs[1..].iter().filter_map(one).any(|one| one).then_some(
        "pytorch_half_pixel to a size of 1 is not supported when cubic or antialiased; use half_pixel or linear",
    )
}
