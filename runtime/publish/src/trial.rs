//! Trying a module before anybody is led to it: one instance is made and dropped.
//!
//! A start function is the only code of a guest's that runs then, and nobody knows what it does. So a trial has a slot
//! that no request waits for, a niced thread of its own, and a clock; who waits for it stops waiting by that clock too.

use std::sync::Arc;
use std::time::Duration;

use mayfly_core::limits::node;
use mayfly_host::admission::{GUEST_NICE, memory_is_short};
use mayfly_host::engine::EngineError;
use mayfly_host::engine::memory::OutOfArenas;
use mayfly_host::engine::ticker::TICK_EPOCHS;
use mayfly_host::meter::Tick;
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::{Sandbox, Stop};
use mayfly_observe::logs::LogSink;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use wasmtime::UpdateDeadline;

/// Beyond `START_TIMEOUT`, for an instance to be made and dropped on a machine that is busy.
const GRACE: Duration = Duration::from_millis(500);

/// Ends a trial for the sake of those that are served.
#[derive(Debug, thiserror::Error)]
#[error("the node's memory was nearly used up while its start function ran")]
struct OutOfMemory;

/// The slots of the pool that no request is put into.
#[derive(Debug)]
pub struct Trials(Arc<Semaphore>);

impl Default for Trials {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(node::PUBLISHES)))
    }
}

impl Trials {
    /// Makes one instance and drops it: proves that limits and image fit, and warms the code's pages.
    /// No guest code but a start function runs, and that for `START_TIMEOUT` at most.
    ///
    /// # Errors
    /// [`EngineError::Instantiate`], [`EngineError::StartTimeout`], [`EngineError::PoolFull`].
    pub async fn run(&self, revision: &Arc<Revision>, logs: &LogSink) -> Result<(), EngineError> {
        let patience = node::START_TIMEOUT + GRACE;
        // A publish has one of as many turns, so this waits only for a trial that went on when its publish had gone.
        let slot = tokio::time::timeout(patience, self.0.clone().acquire_owned()).await;
        let Ok(Ok(slot)) = slot else { return Err(EngineError::PoolFull) };
        let (revision, logs) = (revision.clone(), logs.clone());
        let ended = on_its_own_thread(slot, move || try_out(&revision, logs))
            .map_err(|error| EngineError::Engine(format!("no thread for a trial: {error}")))?;
        match tokio::time::timeout(patience, ended).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(EngineError::Engine("a trial panicked".into())),
            Err(_) => Err(EngineError::StartTimeout),
        }
    }
}

/// The slot is free when the work is done, whoever waits for that.
fn on_its_own_thread<T: Send + 'static>(
    slot: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<oneshot::Receiver<T>> {
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new().name("mayfly-trial".into()).spawn(move || {
        // A start function is a guest like others: a worker with a request in hand goes first.
        let _ = rustix::process::nice(GUEST_NICE);
        let result = work();
        drop(slot);
        let _ = done.send(result);
    })?;
    Ok(ended)
}

fn try_out(revision: &Revision, logs: LogSink) -> Result<(), EngineError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| EngineError::Engine(format!("no timer for a trial: {error}")))?;
    let sandbox = Sandbox::rehearsal(revision.terms.clone(), logs);
    let mut store = match revision.module.host(sandbox) {
        Ok(store) => store,
        Err(OutOfArenas::Lent) => return Err(EngineError::PoolFull),
        Err(error) => return Err(EngineError::Instantiate(error.to_string())),
    };
    store.set_epoch_deadline(TICK_EPOCHS);
    // By the clock: epochs come late when a host function takes its time.
    store.epoch_deadline_callback(|context| match context.data().meter.tick() {
        // No request's instance: it is not among those of which the greediest is chosen, but the first to end.
        Tick::GoOn | Tick::Yield if memory_is_short() => Err(OutOfMemory.into()),
        Tick::GoOn | Tick::Yield => Ok(UpdateDeadline::Continue(TICK_EPOCHS)),
        Tick::Over(outcome) => Err(Stop(outcome).into()),
    });
    let instance = store.instantiate(&revision.module.pre);
    // What sleeps in the host sees no epoch.
    let made =
        runtime.block_on(async { tokio::time::timeout(node::START_TIMEOUT, instance).await });
    match made {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.is::<Stop>() => Err(EngineError::StartTimeout),
        Ok(Err(error)) => Err(EngineError::Instantiate(format!("{error:#}"))),
        Err(_) => Err(EngineError::StartTimeout),
    }
}
