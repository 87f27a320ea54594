//! The first stage: is this a module that Mayfly can run, and how?
//!
//! Reads untrusted bytes with wasmparser only; nothing is compiled or run here.

mod counts;
mod inspect;
mod known;
mod refusal;
mod startup;

use bytes::Bytes;
use mayfly_core::limits::node;
use mayfly_core::record::Abi;
use mayfly_core::{Digest, Limits};
use mayfly_host::engine::codegen::FEATURES;
use mayfly_host::sandbox::Assets;
use wasm_encoder::{Module, RawSection};
use wasmparser::types::Types;
use wasmparser::{Parser, Payload, ValidPayload, Validator};

use super::image::Layout;
pub use inspect::Inspection;
pub use known::Known;
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
    /// Its digest.
    pub digest: Digest,
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
    validate_again(wasm, limits, &Known::default())
}

/// The same, by one who remembers: of code that was valid before, which models and scripts share, no body is looked at
/// once more. That is nine tenths of the time for the stock runner.
///
/// # Errors
/// As [`validate`].
pub fn validate_again(wasm: &Bytes, limits: &Limits, known: &Known) -> Result<Validated, Refusal> {
    if wasm.len() as u64 > node::PACKAGE_BYTES {
        return Err(Refusal::TooLarge(wasm.len() as u64));
    }
    refusal::check_kind(wasm)?;
    counts::check(wasm)?;
    let code = Bytes::from(strip(wasm)?);
    let digest = Digest::of(&code);
    let before = known.obstacles(digest);
    let found = examine(wasm, limits, before.as_deref())?;
    if before.is_none() {
        known.remember(digest, &found.obstacles);
    }
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
    let (seed_probe, weight_bytes) = (found.seed_probe, found.weight_bytes);
    Ok(Validated { abi: found.abi, code, digest, assets, plan, seed_probe, weight_bytes })
}

/// What a module is made of, if it is one that the engine runs within these limits.
///
/// # Errors
/// [`Refusal`], as [`validate`].
pub fn check(wasm: &[u8], limits: &Limits) -> Result<Inspection, Refusal> {
    counts::check(wasm)?;
    examine(wasm, limits, None)
}

/// With what stands in a snapshot's way if that is known, and so is that its bodies are valid.
fn examine(
    wasm: &[u8],
    limits: &Limits,
    known: Option<&[&'static str]>,
) -> Result<Inspection, Refusal> {
    let types = types(wasm, known.is_some()).map_err(|error| Refusal::from_parser(&error))?;
    let found = inspect::inspect(wasm, types.as_ref(), known)?;
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

/// Validates a module, without the bodies of its functions if these are known to be valid.
fn types(wasm: &[u8], bodies_known: bool) -> wasmparser::Result<Types> {
    let mut validator = Validator::new_with_features(FEATURES);
    if !bodies_known {
        return validator.validate_all(wasm);
    }
    for payload in Parser::new(0).parse_all(wasm) {
        if let ValidPayload::End(types) = validator.payload(&payload?)? {
            return Ok(types);
        }
    }
    // Cut short: it says so itself.
    validator.validate_all(wasm)
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
