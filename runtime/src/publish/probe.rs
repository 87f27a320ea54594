//! Restores a snapshot twice and asks both for a hash of the same key: equal answers mean that every request would
//! hash with the same seeds.

use std::time::Duration;

use bytes::Bytes;
use mayfly_core::Limits;
use mayfly_core::limits::node;
use serde::{Deserialize, Serialize};

use super::assets::Assets;
use super::init_host::{self, Budget, Log, Phase};
use super::preinit::{engine, instantiate, runtime};
use crate::child::{Answer, Caps, ChildError, Children, Verb};
use crate::engine::codegen::load_handed_down;

/// A restored instance only draws a few words and hashes.
const PROBE_TIME: Duration = Duration::from_secs(5);

/// What the child is asked for, beside the blob `[code]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    native_kernels: bool,
    memory_bytes: u64,
    table_elements: u64,
}

/// What the child says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Report {
    /// The two answers.
    Answers(i64, i64),
    /// The probe trapped.
    Failed(String),
}

/// Why the snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The child failed.
    #[error("seed probe: {0}")]
    Child(#[from] ChildError),
    /// The probe trapped.
    #[error("`{export}` failed: {0}", export = mayfly_abi::EXPORT_SEED_PROBE)]
    Failed(String),
    /// Two restores hash alike.
    #[error(
        "two instances of the snapshot hash alike: `{export}` gave {0} in both",
        export = mayfly_abi::EXPORT_SEED_PROBE
    )]
    Equal(i64),
}

/// Checks the code of a snapshot whose module exports the probe.
///
/// # Errors
/// [`ProbeError::Equal`] when seeds are frozen.
pub async fn probe(
    children: &Children,
    code: Bytes,
    limits: &Limits,
    native_kernels: bool,
) -> Result<(), ProbeError> {
    let job = Job {
        native_kernels,
        memory_bytes: limits.memory_bytes,
        table_elements: limits.table_elements,
    };
    let time = PROBE_TIME + node::CHILD_GRACE;
    let caps = Caps {
        cpu_s: time.as_secs(),
        data_bytes: node::CHILD_DATA_BYTES,
        output_bytes: node::CHILD_OUTPUT_BYTES,
    };
    let (report, _) = children.run(Verb::Probe, job, vec![code], caps, time).await?;
    match report {
        Report::Answers(first, second) if first == second => Err(ProbeError::Equal(first)),
        Report::Answers(..) => Ok(()),
        Report::Failed(why) => Err(ProbeError::Failed(why)),
    }
}

/// The child's side.
pub(crate) fn child(job: Job, blobs: Vec<Vec<u8>>) -> anyhow::Result<Answer<Report>> {
    let [code] = <[Vec<u8>; 1]>::try_from(blobs)
        .map_err(|blobs| anyhow::anyhow!("{} blobs instead of one", blobs.len()))?;
    let engine = engine()?;
    let module = load_handed_down(&engine, &code)?;
    drop(code);
    let linker = init_host::linker(&engine, Phase::Restored, job.native_kernels)?;
    let budget = Budget {
        memory_bytes: job.memory_bytes,
        table_elements: job.table_elements,
        time: PROBE_TIME,
    };
    let restore = async || {
        let mut store = init_host::store(&engine, Assets::default(), budget, &Log::default());
        let instance = instantiate(&mut store, &linker, &module).await?;
        let name = mayfly_abi::EXPORT_SEED_PROBE;
        instance.get_typed_func::<(), i64>(&mut store, name)?.call_async(&mut store, ()).await
    };
    let runtime = runtime()?;
    let answers: wasmtime::Result<_> =
        runtime.block_on(async { Ok((restore().await?, restore().await?)) });
    let report = match answers {
        Ok((first, second)) => Report::Answers(first, second),
        Err(error) => Report::Failed(error.root_cause().to_string().chars().take(500).collect()),
    };
    Ok((report, Vec::new()))
}
