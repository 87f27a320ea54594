//! An immutable revision of a function as it is served: its record, its code, and what is counted of it.

mod met;
mod recording;
mod tally;
mod vitals;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use mayfly_core::Limits;
use mayfly_core::record::RevisionRecord;
use mayfly_core::shares::Share;
use mayfly_observe::logs::Source;
use mayfly_observe::metrics::{RevisionMetrics, VersionCounters};
use mayfly_oip::Model;
use mayfly_outbound::Access;
use tokio::sync::{OnceCell, Semaphore};

use crate::admission::{Tenant, Usage};
use crate::program::LoadedModule;
use crate::sandbox::Terms;
pub use met::{Due, Met};
pub use recording::{Busy, Profiled, Recording};
pub use tally::Tally;
pub use vitals::{Counted, Vitals};

/// What a revision has of the node's rooms, by kind.
#[derive(Debug)]
pub struct Shares {
    /// Requests that are being received.
    pub receiving: Arc<Share>,
    /// Bytes of inference requests and answers.
    pub buffers: Arc<Share>,
    /// Bytes of bodies that came without a length.
    pub bodies: Arc<Share>,
    /// Its long pieces of JSON that may be read or written at once.
    pub clerks: Semaphore,
}

impl Default for Shares {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            receiving: Arc::default(),
            buffers: Arc::default(),
            bodies: Arc::default(),
            // Half of those there are: another function's are not behind all of this one's.
            clerks: Semaphore::new((cores / 2).max(1)),
        }
    }
}

/// A revision as it is served. Immutable but for counters; shared by every worker.
pub struct Revision {
    /// What it is.
    pub record: Arc<RevisionRecord>,
    /// Its code, linked once: all that a request does is instantiate it.
    pub module: LoadedModule,
    /// Metric handles, resolved at publish.
    pub metrics: RevisionMetrics,
    /// What its guests may have.
    pub terms: Arc<Terms>,
    /// What its invocations have of the node.
    pub tenant: Arc<Tenant>,
    /// What its model takes and gives, if it is one and was asked.
    pub model: OnceCell<Arc<Model>>,
    /// What its inferences took, if it is a model.
    pub tally: Tally,
    /// Shapes that they had and nothing is ready for.
    pub met: Met,
    /// What it has of the node's rooms.
    pub shares: Shares,
    /// What is counted of it alone, once it shares its function's requests with another version.
    pub vitals: OnceLock<Box<Vitals>>,
    /// Whether the last invocation ran beyond its first tick: the next one starts off the I/O workers.
    pub slow: AtomicBool,
    /// What invocations begin with while it is profiled; asked only if `terms.profiling` is on.
    pub profiled: ArcSwapOption<Profiled>,
}

impl Revision {
    /// Puts a loaded module and its record together.
    #[must_use]
    pub fn new(
        record: RevisionRecord,
        module: LoadedModule,
        metrics: RevisionMetrics,
        log: Arc<Source>,
        outbound: Option<Arc<Access>>,
    ) -> Arc<Self> {
        let record = Arc::new(record);
        let usage = Usage::new(record.function.clone(), module.template.bytes());
        Arc::new(Self {
            terms: Terms::new(record.clone(), log, module.assets.clone(), outbound),
            tenant: Tenant::new(usage, record.settings.limits.concurrency),
            record,
            module,
            metrics,
            model: OnceCell::new(),
            tally: Tally::default(),
            met: Met::default(),
            shares: Shares::default(),
            vitals: OnceLock::new(),
            slow: AtomicBool::new(false),
            profiled: ArcSwapOption::empty(),
        })
    }

    /// Counts of it alone from now on, if it does not already.
    pub fn watch(&self, counters: impl FnOnce() -> VersionCounters) {
        self.vitals.get_or_init(|| Box::new(Vitals::new(counters())));
    }

    /// Caps of one invocation.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.record.settings.limits
    }
}

impl std::fmt::Debug for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Revision({}#{})", self.record.function, self.record.number)
    }
}
