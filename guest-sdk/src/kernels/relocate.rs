//! Moves weights down into the memory that the optimiser left free, so that a snapshot is one dense block.
//!
//! The weights that kernels run on are made while the file's own are still there, above them; then those below are
//! freed. An image reaches from the first byte that is not zero to the last: without this, a ResNet-18 of 75 MB has a
//! hole of 47 MB.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;

use super::conv::Conv;
use super::plane::Window;
use super::product::Product;

/// Smaller ones do not lie among weights.
const LARGE: usize = 4 << 10;

/// What a pass leaves free, the next one can use; models need two.
const PASSES: usize = 4;

/// Lets models hold equal tensors together, then makes a new copy of each tensor where that is lower in memory, the
/// highest first, and drops the old one.
pub fn relocate(models: &mut [TypedModel]) {
    if models.len() > 1 {
        share(models);
    }
    for _ in 0..PASSES {
        if !pass(models) {
            return;
        }
    }
}

/// Plans for other shapes have the same weights.
fn share(models: &mut [TypedModel]) {
    let mut known: HashMap<u64, Vec<Arc<Tensor>>> = HashMap::new();
    visit_all(models, &mut |slot| {
        if large(slot).is_none() {
            return;
        }
        let mut hasher = DefaultHasher::new();
        slot.datum_type().hash(&mut hasher);
        slot.shape().hash(&mut hasher);
        if let Ok(plain) = slot.try_as_plain_ram() {
            plain.as_bytes().hash(&mut hasher);
        }
        let alike = known.entry(hasher.finish()).or_default();
        match alike.iter().find(|known| Arc::ptr_eq(known, slot) || *known == slot) {
            Some(equal) => *slot = equal.clone(),
            None => alike.push(slot.clone()),
        }
    });
}

/// A tensor, the address of its numbers, who holds it, and how many of those are places in the graph.
struct Found {
    tensor: *const Tensor,
    data: usize,
    holders: usize,
    places: usize,
}

/// Whether anything was moved.
fn pass(models: &mut [TypedModel]) -> bool {
    let mut found: Vec<Found> = Vec::new();
    visit_all(models, &mut |slot| {
        let Some(data) = large(slot) else { return };
        let tensor = Arc::as_ptr(slot);
        match found.iter_mut().find(|known| known.tensor == tensor) {
            Some(known) => known.places += 1,
            None => {
                found.push(Found { tensor, data, holders: Arc::strong_count(slot), places: 1 });
            }
        }
    });
    // One that something else holds too would stay, and be there twice.
    found.retain(|tensor| tensor.holders == tensor.places);
    found.sort_unstable_by_key(|tensor| Reverse(tensor.data));
    let mut moved = false;
    for old in found {
        let mut copy: Option<Arc<Tensor>> = None;
        visit_all(models, &mut |slot| {
            if Arc::as_ptr(slot) != old.tensor {
                return;
            }
            let copy = copy.get_or_insert_with(|| Arc::new((**slot).clone()));
            if large(copy).is_some_and(|new| new < old.data) {
                *slot = copy.clone();
                moved = true;
            }
        });
    }
    moved
}

/// Where a tensor's numbers are, if they are many and plain.
fn large(tensor: &Tensor) -> Option<usize> {
    let bytes = tensor.try_as_plain_ram().ok()?.as_bytes();
    (bytes.len() >= LARGE).then(|| bytes.as_ptr().addr())
}

fn visit_all(models: &mut [TypedModel], look: &mut dyn FnMut(&mut Arc<Tensor>)) {
    models.iter_mut().for_each(|model| visit(model, look));
}

/// Shows every place that holds a tensor known at load; what is put there instead must be equal.
fn visit(model: &mut TypedModel, look: &mut dyn FnMut(&mut Arc<Tensor>)) {
    for node in &mut model.nodes {
        if let Some(constant) = node.op.downcast_ref::<Const>() {
            let mut tensor = Arc::clone(constant.val());
            // Until it is back, the clone is the constant's own hold on it.
            if constant.exotic_fact().is_none()
                && let Ok(hollow) = Const::new(Arc::default())
            {
                node.op = Box::new(hollow);
                look(&mut tensor);
                if let Ok(constant) = Const::new(tensor) {
                    node.op = Box::new(constant);
                }
            }
        } else if let Some(conv) = node.op.downcast_mut::<Conv>() {
            look(&mut conv.weights);
            conv.bias.iter_mut().for_each(&mut *look);
        } else if let Some(product) = node.op.downcast_mut::<Product>() {
            product.weights.iter_mut().for_each(|(_, weights)| look(&mut weights.packed));
            product.row_bias.iter_mut().chain(&mut product.col_bias).for_each(&mut *look);
        } else if let Some(window) = node.op.downcast_mut::<Window>() {
            window.weights.iter_mut().chain(&mut window.bias).for_each(&mut *look);
        }
        for output in &mut node.outputs {
            output.fact.konst.iter_mut().for_each(&mut *look);
        }
    }
}
