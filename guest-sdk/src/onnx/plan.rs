//! From a typed model to one that runs fast, and what the plain one gives on the same numbers.

use anyhow::Result;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::TractResult;
use tract_onnx::tract_core::optim::Optimizer;

use super::blame::stage;
use super::branch;

pub(super) type Plan = std::sync::Arc<TypedRunnableModel>;

/// The model with our kernels, simplified and packed.
pub(super) fn optimise(typed: TypedModel) -> Result<TypedModel> {
    let fast = stage("choosing kernels", || crate::kernels::rewrite(typed))?;
    let mut optimised = stage("optimising", || fast.into_optimized())?;
    let inner = |body| crate::kernels::rewrite(body)?.into_optimized();
    stage("optimising a branch", || branch::plan(&mut optimised, &inner))?;
    Ok(optimised)
}

/// The model as its file says it: no kernels, nothing simplified. Products and convolutions are lowered to what tract
/// computes them by, because its plain ones take minutes.
pub(super) fn plain(mut typed: TypedModel) -> TractResult<Plan> {
    let mut lower = Optimizer::codegen();
    lower.passes.retain(|pass| is_lowering(&format!("{pass:?}")));
    lower.optimize(&mut typed)?;
    typed.into_runnable()
}

fn is_lowering(pass: &str) -> bool {
    pass.starts_with("PropConst")
        || pass.starts_with("MergeConsecutive")
        || pass.contains("codegen")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tract_has_the_passes_that_lower() {
        let passes = Optimizer::codegen().passes;
        let kept: Vec<_> = passes.iter().map(|pass| is_lowering(&format!("{pass:?}"))).collect();
        assert_eq!(kept, [true, true, true, false, false, false], "{passes:?}");
    }
}
