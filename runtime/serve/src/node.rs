//! What all invocations of a process share: engine, catalog, slots, and where guests go that take long.

mod gauges;
mod heartbeats;
mod resets;
mod rooms;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mayfly_core::auth::PreviewKey;
use mayfly_core::limits::node;
use mayfly_host::admission::{Admission, GUEST_NICE};
use mayfly_host::catalog::Catalog;
use mayfly_host::engine::Engine;
use mayfly_host::exchange::Guest;
use mayfly_observe::logs::LogSink;
use mayfly_observe::metrics::Metrics;
use tokio::sync::Notify;

use resets::Resets;

pub use heartbeats::{Heartbeat, Heartbeats};
pub use resets::Ended;
pub use rooms::Rooms;

/// How niced a thread is that reads and writes long JSON: that cannot be interrupted, so guests go first as well.
const CLERK_NICE: i32 = 15;

/// What the operator decides about invocations.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// How long a request may wait for a slot.
    pub queue_timeout: Duration,
    /// Threads for guests that run longer than a tick; two more than twice the cores if not given.
    pub guest_threads: Option<usize>,
    /// Whether responses carry `Server-Timing`.
    pub server_timing: bool,
    /// Whether anybody may ask which models there are.
    pub lists_models: bool,
    /// Whether `GET /` has an answer while no function has that path.
    pub has_front_page: bool,
    /// Between two pieces of a request's body.
    pub body_idle_timeout: Duration,
    /// By which previews are reached; without it only those that need no token.
    pub previews: Option<PreviewKey>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            queue_timeout: node::QUEUE_TIMEOUT,
            guest_threads: None,
            server_timing: false,
            lists_models: true,
            has_front_page: true,
            body_idle_timeout: node::BODY_IDLE_TIMEOUT,
            previews: None,
        }
    }
}

/// The shared state; one per process.
pub struct Node {
    /// Makes instances.
    pub engine: Engine,
    /// Gives out its slots.
    pub admission: Arc<Admission>,
    /// Finds revisions.
    pub catalog: Arc<Catalog>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Takes log lines.
    pub logs: LogSink,
    /// Runs guests that took longer than a tick.
    pub guests: Guests,
    /// Reads and writes long JSON, behind everything else.
    pub clerks: Guests,
    /// What requests have of the node while they hold no slot.
    pub rooms: Rooms,
    /// Whether the gateway's workers get round to their work.
    pub heartbeats: Heartbeats,
    /// Whether responses carry `Server-Timing`.
    pub server_timing: bool,
    /// Whether anybody may ask which models there are.
    pub lists_models: bool,
    /// Whether `GET /` has an answer while no function has that path.
    pub has_front_page: bool,
    /// Between two pieces of a request's body.
    pub body_idle_timeout: Duration,
    /// By which previews are reached.
    pub previews: Option<PreviewKey>,
    /// Told when a model's requests have shapes that should be made ready.
    pub met: Arc<Notify>,
    /// Takes large instances down.
    pub resets: Resets,
    draining: AtomicBool,
    starting: AtomicBool,
}

impl Node {
    /// Puts the parts together and starts the guest threads.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(
        config: &NodeConfig,
        engine: Engine,
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
        logs: LogSink,
    ) -> std::io::Result<Arc<Self>> {
        let slots = engine.plan().slots;
        let admission = Admission::new(engine.clone(), metrics.clone(), config.queue_timeout)?;
        Ok(Arc::new(Self {
            engine,
            admission,
            catalog,
            metrics,
            logs,
            guests: Guests::start(config.guest_threads)?,
            clerks: Guests::clerks()?,
            rooms: Rooms::new(slots),
            heartbeats: Heartbeats::default(),
            server_timing: config.server_timing,
            lists_models: config.lists_models,
            has_front_page: config.has_front_page,
            body_idle_timeout: config.body_idle_timeout,
            previews: config.previews.clone(),
            met: Arc::default(),
            resets: Resets::start()?,
            draining: AtomicBool::new(false),
            starting: AtomicBool::new(false),
        }))
    }

    /// From now on every request is refused with `Draining`; those under way go on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the node is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether functions of the configuration are still being deployed, although requests are answered already.
    pub fn set_starting(&self, starting: bool) {
        self.starting.store(starting, Ordering::Relaxed);
    }

    /// Whether it is not yet what it will be.
    pub fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Relaxed)
    }

    /// Why requests should go to another node, if they should.
    pub fn unready(&self) -> Option<String> {
        let silent = self.heartbeats.silent();
        if silent > 0 {
            let limit = mayfly_core::units::format_duration(node::WORKER_SILENCE);
            return Some(format!(
                "{silent} of the gateway's workers held up for more than {limit}"
            ));
        }
        self.refuses_everybody().then(|| "memory is used up: every request is refused".into())
    }

    /// Slots that nobody uses.
    pub fn free_slots(&self) -> usize {
        self.admission.free_slots()
    }

    /// Whether everybody has been refused for want of memory for longer than a moment.
    pub fn refuses_everybody(&self) -> bool {
        self.admission.refuses_everybody()
    }
}

/// The runtime of guests that run long: more threads than cores, so that a bulk operation, which cannot be
/// interrupted, holds up one thread and not one core's worth of guests.
pub struct Guests(Option<tokio::runtime::Runtime>);

impl Guests {
    fn start(threads: Option<usize>) -> std::io::Result<Self> {
        // Without being niced guests merely compete with the gateway on equal terms.
        Self::named("mayfly-guest", threads.unwrap_or(2 * cores() + 2), GUEST_NICE)
    }

    fn clerks() -> std::io::Result<Self> {
        Self::named("mayfly-clerk", cores(), CLERK_NICE)
    }

    fn named(name: &str, threads: usize, nice: i32) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name(name)
            .on_thread_start(move || {
                let _ = rustix::process::nice(nice);
            })
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs a future here; dropping the handle cancels it.
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match &self.0 {
            Some(runtime) => Task::new(runtime.spawn(future)),
            None => unreachable!("the runtime is taken only when dropped"),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Drop for Guests {
    fn drop(&mut self) {
        // The last handle may go inside another runtime, where waiting for threads would panic.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A spawned future that ends with its handle.
pub struct Task<T>(Option<tokio::task::JoinHandle<T>>);

impl<T> Task<T> {
    /// Ties a spawned future to this handle.
    pub fn new(handle: tokio::task::JoinHandle<T>) -> Self {
        Self(Some(handle))
    }

    /// Waits for the end; `None` if it panicked or was cancelled.
    pub async fn join(mut self) -> Option<T> {
        match self.0.as_mut() {
            Some(handle) => handle.await.ok(),
            None => None,
        }
    }

    /// Lets it end by itself.
    pub fn detach(mut self) {
        self.0 = None;
    }
}

impl Guest for Task<()> {
    fn let_go(self: Box<Self>) {
        self.detach();
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}
