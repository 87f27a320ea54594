//! The first stage: is this a module that Mayfly can run, and how?
//!
//! Reads untrusted bytes with wasmparser only; nothing is compiled or run here.

mod counts;
mod inspect;
mod refusal;
mod startup;

use bytes::Bytes;
use mayfly_core::Limits;
use mayfly_core::limits::node;
use mayfly_core::record::Abi;
use mayfly_host::engine::codegen::FEATURES;
use mayfly_host::sandbox::Assets;
use wasm_encoder::{Module, RawSection};
use wasmparser::{Parser, Payload, Validator};

use super::image::Layout;
pub use inspect::Inspection;
pub use refusal::Refusal;

/// What happens to the module's init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// There is none.
    NoInit,
    /// It runs at deploy, and its work goes into a snapshot.
    Snapshot {
        /// The export to run.
        init: &'static str,
    },
    /// It runs for each request, because of this.
    Refused {
        /// What stands in the way of a snapshot.
        reason: String,
    },
}

/// A module that passed, taken apart.
#[derive(Debug, Clone)]
pub struct Validated {
    /// How a request reaches it.
    pub abi: Abi,
    /// The module without custom sections: what is compiled.
    pub code: Bytes,
    /// What the custom sections carried for init.
    pub assets: Assets,
    /// What happens to its init.
    pub plan: Plan,
    /// Whether it can prove that its seeds differ after a restore.
    pub seed_probe: bool,
    /// Whether its snapshot says what it keeps of weights.
    pub weight_bytes: bool,
}

/// Checks an upload against what the engine runs and what the function's limits allow.
///
/// # Errors
/// [`Refusal`] names the first thing that is wrong.
pub fn validate(wasm: &Bytes, limits: &Limits) -> Result<Validated, Refusal> {
    if wasm.len() as u64 > node::PACKAGE_BYTES {
        return Err(Refusal::TooLarge(wasm.len() as u64));
    }
    refusal::check_kind(wasm)?;
    let found = check(wasm, limits)?;
    let plan = match (found.init, found.obstacles.is_empty()) {
        (None, _) => Plan::NoInit,
        (Some(init), true) => Plan::Snapshot { init },
        (Some(init), false) => Plan::Refused {
            reason: format!(
                "the module uses {}, which a snapshot cannot keep; `{init}` runs for each request",
                found.obstacles.join(", ")
            ),
        },
    };
    let mut assets = Assets::default();
    for (name, range) in &found.assets {
        if !assets.insert(name.clone(), wasm.slice(range.clone())) {
            return Err(Refusal::AssetTwice(name.clone()));
        }
    }
    Ok(Validated {
        abi: found.abi,
        code: strip(wasm)?.into(),
        assets,
        plan,
        seed_probe: found.seed_probe,
        weight_bytes: found.weight_bytes,
    })
}

/// Checks a module that a preinit child handed back: untrusted as any other, and held to the same rules.
///
/// # Errors
/// [`Refusal`], as for an upload.
pub fn validate_snapshot(wasm: &[u8], limits: &Limits) -> Result<Inspection, Refusal> {
    check(wasm, limits)
}

fn check(wasm: &[u8], limits: &Limits) -> Result<Inspection, Refusal> {
    counts::check(wasm)?;
    let mut validator = Validator::new_with_features(FEATURES);
    let types = validator.validate_all(wasm).map_err(|error| Refusal::from_parser(&error))?;
    let found = inspect::inspect(wasm, types.as_ref())?;
    startup::check(wasm)?;
    Layout::of(wasm)?;
    if found.memory_bytes > limits.memory_bytes {
        return Err(Refusal::Memory { needs: found.memory_bytes, limit: limits.memory_bytes });
    }
    if found.table_elements > limits.table_elements {
        return Err(Refusal::Table { needs: found.table_elements, limit: limits.table_elements });
    }
    Ok(found)
}

/// The module without its custom sections. Names and debug sections never reach the compiler, so that two builds that
/// differ in them alone share compiled code; assets would be copied into every snapshot.
fn strip(wasm: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(|error| Refusal::from_parser(&error))?;
        if matches!(payload, Payload::CustomSection(_)) {
            continue;
        }
        if let Some((id, range)) = payload.as_section() {
            module.section(&RawSection { id, data: &wasm[range] });
        }
    }
    Ok(module.finish())
}

#[cfg(test)]
mod tests;
