//! A product outside of a graph: rows times weights known at load.

use mayfly_kernels::pack;
use tract_onnx::tract_core::internal::*;

use super::product::{Product, Side, Weights};

/// Weights that rows are multiplied with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows(Product);

impl Rows {
    /// `depth` x `columns` numbers, row by row.
    pub(crate) fn new(weights: &[f32], depth: usize, columns: usize) -> TractResult<Self> {
        ensure!(depth.checked_mul(columns) == Some(weights.len()), "weights of another size");
        let mut packed = vec![0.0; pack::right_len(depth, columns)];
        pack::right(weights, depth, columns, columns, 1, &mut packed);
        let packed = tensor1(&packed).into_arc_tensor();
        Ok(Self(Product {
            left: tvec!('m', 'k'),
            right: tvec!('k', 'n'),
            out: tvec!('m', 'n'),
            weights: Some((Side::Right, Weights { packed, shape: tvec!(depth, columns) })),
            swapped: false,
            row_bias: None,
            col_bias: None,
            residual: false,
            bounds: [f32::NEG_INFINITY.to_bits(), f32::INFINITY.to_bits()],
        }))
    }

    /// `rows` x `columns` of `rows` x `depth`.
    pub(crate) fn times(&self, rows: usize, numbers: &[f32]) -> TractResult<Tensor> {
        let depth = numbers.len() / rows.max(1);
        let numbers = Tensor::from_shape(&[rows, depth], numbers)?.into_tvalue();
        let mut outputs = self.0.eval(&EvalContext::out_of_plan(), tvec!(numbers))?;
        Ok(outputs.remove(0).into_tensor())
    }
}
