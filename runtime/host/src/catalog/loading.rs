//! Code that is there, and that nobody has asked for since the node started.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mayfly_core::limits::node;
use mayfly_core::record::RevisionRecord;
use tokio::sync::Semaphore;

/// A revision whose code is on disk, and is verified, mapped and linked when somebody first asks for it: 50 MB of a
/// model are hashed in 30 ms, which a start does not wait for.
pub struct Loading {
    /// What it is.
    pub record: RevisionRecord,
    begin: Box<dyn Fn(Arc<Self>) + Send + Sync>,
    begun: AtomicBool,
    /// Closed when the catalog has what came of it.
    done: Semaphore,
}

impl Loading {
    /// `begin` is called once, and must see to it that [`Loading::done`] is called, whatever happens.
    pub fn new(
        record: RevisionRecord,
        begin: impl Fn(Arc<Self>) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (begun, done) = (AtomicBool::new(false), Semaphore::new(0));
        Arc::new(Self { record, begin: Box::new(begin), begun, done })
    }

    /// Has it loaded, and waits until the catalog has something else under its name, or for [`node::LOAD_WAIT`].
    pub async fn wait(self: &Arc<Self>) {
        if !self.begun.swap(true, Ordering::Relaxed) {
            (self.begin)(self.clone());
        }
        // Nobody gives a permit: it ends by being closed.
        let _ = tokio::time::timeout(node::LOAD_WAIT, self.done.acquire()).await;
    }

    /// Those who wait look into the catalog again.
    pub fn done(&self) {
        self.done.close();
    }
}

impl std::fmt::Debug for Loading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loading").field("record", &self.record).finish_non_exhaustive()
    }
}
