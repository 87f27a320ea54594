//! Restores a snapshot and asks it what it is like. Two restores are asked for a hash of the same key: equal answers
//! mean that every request would hash with the same seeds. And one is asked how much of it is weights.

use std::time::Duration;

use bytes::Bytes;
use mayfly_core::Limits;
use mayfly_core::limits::node;
use mayfly_host::engine::codegen::load_handed_down;
use mayfly_host::sandbox::Assets;
use serde::{Deserialize, Serialize};

use super::image::Layout;
use super::init_host::{self, Budget, Log, Phase};
use super::preinit::{engine, instantiate, runtime};
use crate::child::{Answer, Caps, ChildError, Children, Verb};

/// A restored instance only draws a few words and hashes.
const PROBE_TIME: Duration = Duration::from_secs(5);

/// What the child is asked for, beside the blobs `[code, module]`, the second of which has the data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    native_kernels: bool,
    memory_bytes: u64,
    table_elements: u64,
    ask: Ask,
}

/// Which of its exports are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// [`mayfly_abi::EXPORT_SEED_PROBE`].
    pub seeds: bool,
    /// [`mayfly_abi::EXPORT_WEIGHT_BYTES`].
    pub weights: bool,
}

/// What the child says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Report {
    /// The answers.
    Answers {
        /// Of two restores.
        seeds: Option<(i64, i64)>,
        /// Of one.
        weights: Option<i64>,
    },
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

/// Checks the code of a snapshot, and gives the bytes of weights that it says it keeps.
///
/// # Errors
/// [`ProbeError::Equal`] when seeds are frozen.
pub async fn probe(
    children: &Children,
    code: Bytes,
    module: Bytes,
    limits: &Limits,
    native_kernels: bool,
    ask: Ask,
) -> Result<Option<u64>, ProbeError> {
    let job = Job {
        native_kernels,
        memory_bytes: limits.memory_bytes,
        table_elements: limits.table_elements,
        ask,
    };
    let time = PROBE_TIME + node::CHILD_GRACE;
    let caps = Caps::of_node(time.as_secs());
    let (report, _) = children.run(Verb::Probe, job, vec![code, module], caps, time).await?;
    match report {
        Report::Answers { seeds: Some((first, second)), .. } if first == second => {
            Err(ProbeError::Equal(first))
        }
        // Whatever an untrusted guest says of itself: no more than it can have.
        Report::Answers { weights, .. } => Ok(weights
            .and_then(|bytes| u64::try_from(bytes).ok())
            .filter(|bytes| (1..=limits.memory_bytes).contains(bytes))),
        Report::Failed(why) => Err(ProbeError::Failed(why)),
    }
}

/// The child's side.
pub(crate) fn child(job: Job, blobs: Vec<Bytes>) -> anyhow::Result<Answer<Report>> {
    let [code, data] = <[Bytes; 2]>::try_from(blobs)
        .map_err(|blobs| anyhow::anyhow!("{} blobs instead of two", blobs.len()))?;
    let layout = Layout::of(&data)?;
    let engine = engine()?;
    let module = load_handed_down(&engine, &code)?;
    drop(code);
    let linker = init_host::linker(&engine, Phase::Restored, job.native_kernels)?;
    let budget = Budget {
        memory_bytes: job.memory_bytes,
        table_elements: job.table_elements,
        time: PROBE_TIME,
    };
    let answer = async |name: &str| {
        let mut store = init_host::store(&engine, Assets::default(), budget, &Log::default());
        let instance = instantiate(&mut store, &linker, &module).await?;
        if let Some(memory) = store.data().memory {
            for (at, part) in layout.parts(&data) {
                memory.write(&mut store, usize::try_from(at)?, part)?;
            }
        }
        instance.get_typed_func::<(), i64>(&mut store, name)?.call_async(&mut store, ()).await
    };
    let runtime = runtime()?;
    let answers: wasmtime::Result<_> = runtime.block_on(async {
        let seeds = match job.ask.seeds {
            true => {
                let name = mayfly_abi::EXPORT_SEED_PROBE;
                Some((answer(name).await?, answer(name).await?))
            }
            false => None,
        };
        let weights = match job.ask.weights {
            true => Some(answer(mayfly_abi::EXPORT_WEIGHT_BYTES).await?),
            false => None,
        };
        Ok((seeds, weights))
    });
    let report = match answers {
        Ok((seeds, weights)) => Report::Answers { seeds, weights },
        Err(error) => Report::Failed(error.root_cause().to_string().chars().take(500).collect()),
    };
    Ok((report, Vec::new()))
}
