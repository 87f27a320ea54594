//! Asks a restored snapshot what it is like, in the child that made it. Two restores are asked for a hash of the same key:
//! equal answers mean that every request would hash with the same seeds. And one is asked how much of it is weights.

use std::time::Duration;

use mayfly_host::sandbox::Assets;
use serde::{Deserialize, Serialize};
use wasmtime::{Engine, Linker, Module, Store};

use super::init_host::{self, Budget, Guest, Log};
use super::preinit::instantiate;
use super::snapshot::{HOST_PAGE, Left, Runs, global_name, is_zero};

/// A restored instance only draws a few words and hashes.
pub(super) const PROBE_TIME: Duration = Duration::from_secs(5);

/// Which of its exports are asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// [`mayfly_abi::EXPORT_SEED_PROBE`].
    pub seeds: bool,
    /// [`mayfly_abi::EXPORT_WEIGHT_BYTES`].
    pub weights: bool,
}

/// What it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// The answers.
    Answers {
        /// Of two restores.
        seeds: Option<(i64, i64)>,
        /// Of one.
        weights: Option<i64>,
    },
    /// A probe trapped.
    Failed(String),
}

/// Why the snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
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

impl Said {
    /// The bytes of weights that it says it keeps, if it says what can be.
    ///
    /// # Errors
    /// [`ProbeError::Equal`] when seeds are frozen.
    pub fn judge(self, memory_bytes: u64) -> Result<Option<u64>, ProbeError> {
        match self {
            Self::Answers { seeds: Some((first, second)), .. } if first == second => {
                Err(ProbeError::Equal(first))
            }
            // Whatever an untrusted guest says of itself: no more than it can have.
            Self::Answers { weights, .. } => Ok(weights
                .and_then(|bytes| u64::try_from(bytes).ok())
                .filter(|bytes| (1..=memory_bytes).contains(bytes))),
            Self::Failed(why) => Err(ProbeError::Failed(why)),
        }
    }
}

/// What instances of a snapshot are made of.
pub(super) struct Restorer<'s> {
    pub engine: &'s Engine,
    pub linker: &'s Linker<Guest>,
    pub module: &'s Module,
    pub left: &'s Left,
    pub runs: &'s Runs,
    pub budget: Budget,
}

impl Restorer<'_> {
    /// Asks.
    pub(super) async fn ask(&self, ask: Ask) -> anyhow::Result<Said> {
        let (mut seeds, mut weights) = (None, None);
        let mut answers = async || -> anyhow::Result<()> {
            if ask.seeds {
                let name = mayfly_abi::EXPORT_SEED_PROBE;
                seeds = Some((self.answer(name).await?, self.answer(name).await?));
            }
            if ask.weights {
                weights = Some(self.answer(mayfly_abi::EXPORT_WEIGHT_BYTES).await?);
            }
            Ok(())
        };
        if let Err(error) = answers().await {
            return Ok(Said::Failed(error.root_cause().to_string().chars().take(500).collect()));
        }
        Ok(Said::Answers { seeds, weights })
    }

    /// What an export of a fresh instance gives.
    async fn answer(&self, name: &str) -> anyhow::Result<i64> {
        let mut store =
            init_host::store(self.engine, Assets::default(), self.budget, &Log::default());
        let instance = instantiate(&mut store, self.linker, self.module).await?;
        self.restore_memory(&mut store).await?;
        for (number, value) in self.left.globals.iter().enumerate() {
            let global = instance.get_global(&mut store, &global_name(number));
            global.map(|global| global.set(&mut store, value.val())).transpose()?;
        }
        let export = instance.get_typed_func::<(), i64>(&mut store, name)?;
        Ok(export.call_async(&mut store, ()).await?)
    }

    async fn restore_memory(&self, store: &mut Store<Guest>) -> anyhow::Result<()> {
        let Some(memory) = store.data().memory else { return Ok(()) };
        // The module's own data are in it already, and init may have cleared them.
        for page in memory.data_mut(&mut *store).chunks_mut(HOST_PAGE) {
            if !is_zero(page) {
                page.fill(0);
            }
        }
        let more = self.left.memory_bytes.saturating_sub(memory.data_size(&*store) as u64);
        let pages = more / memory.page_size(&*store);
        memory.grow_async(&mut *store, pages).await?;
        for (at, range) in self.runs.parts(self.left.memory_bytes)? {
            memory.write(&mut *store, usize::try_from(at)?, &self.runs.contents[range])?;
        }
        Ok(())
    }
}
