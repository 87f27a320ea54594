//! The thread that raises the engine's epoch each `TICK`.
//!
//! A thread of its own, not a task: a guest that loops on an executor would keep the executor from ever ticking.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;

use mayfly_core::limits::node::TICK;
use wasmtime::Engine;

/// Ticks until it is dropped, or the engine is gone.
pub struct Ticker {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(engine: &Engine) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel::<()>(0);
        let engine = engine.weak();
        let thread = std::thread::Builder::new().name("mayfly-ticker".into()).spawn(move || {
            // A tick that comes late is not made up for: deadlines are checked against clocks, not counts.
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It may be the ticker itself that drops the last handle.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}
