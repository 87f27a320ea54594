//! What makes a model slow here, said at deploy with a figure.

use tract_onnx::tract_core::internal::*;

/// What tract computes products and convolutions by; ours have other names.
const PRODUCTS: [&str; 6] =
    ["MatMul", "Im2col", "DepthWiseConv", "DirectSpatialConv", "BlockedConv", "conv_nhwc"];

/// Notes on `model`, which is as it runs.
pub(super) fn notes(model: &TypedModel) -> Vec<String> {
    let products = model.nodes().iter().filter(|node| is_product(node));
    let (mut halves, mut wholes) = (Vec::new(), Vec::new());
    for node in products {
        let gives = |is: fn(DatumType) -> bool| {
            node.outputs.iter().any(|output| is(output.fact.datum_type))
        };
        if gives(|datum| datum == DatumType::F16) {
            halves.push(node);
        } else if gives(|datum| datum.is_quantized() || datum == DatumType::I32) {
            wholes.push(node);
        }
    }
    let mut notes = Vec::new();
    if let [first, ..] = *halves {
        notes.push(format!(
            "it will be slow: {} compute in f16, which is emulated; a MiniLM took 59 times as long as in f32. Export it \
             in f32; weights may stay f16 behind a Cast, which is done once",
            count(halves.len(), first)
        ));
    }
    if let [first, ..] = *wholes {
        notes.push(format!(
            "it will be slow: {} multiply whole numbers, for which there is no kernel; such models took 9 to 25 times as \
             long as in f32. Export it in f32; weights may stay int8 behind a DequantizeLinear, which is done once",
            count(wholes.len(), first)
        ));
    }
    notes
}

fn count(nodes: usize, first: &TypedNode) -> String {
    format!("{nodes} of its products (the first is {:?}, {})", first.name, first.op.name())
}

fn is_product(node: &TypedNode) -> bool {
    let name = node.op.name();
    !name.starts_with("Mayfly") && PRODUCTS.iter().any(|part| name.contains(part))
}
