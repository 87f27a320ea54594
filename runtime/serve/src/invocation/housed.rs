//! An instance and its slot, taken down together however an invocation ends: at its end, with its client, or doomed.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use mayfly_host::admission::Slot;
use mayfly_host::engine::memory::Hosted;
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::Sandbox;
use wasmtime::{Instance, InstancePre, Store};

use crate::node::{Ended, Node};

/// A memory of which more than this has to be made fresh is seen to on another thread: 256 KiB are 20 us, about what it
/// costs to wake one.
const HEAVY_BYTES: usize = 256 << 10;

/// A store whose drop costs a worker little.
pub struct Housed {
    node: Arc<Node>,
    revision: Arc<Revision>,
    store: Option<Hosted<Sandbox>>,
    ended: bool,
}

impl Housed {
    /// Takes charge of a store that an instance of this revision is made in.
    pub fn new(node: Arc<Node>, revision: Arc<Revision>, store: Hosted<Sandbox>) -> Self {
        Self { node, revision, store: Some(store), ended: false }
    }

    /// Makes the instance, of the revision's code as it is linked for this invocation.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn instantiate(&mut self, pre: &InstancePre<Sandbox>) -> wasmtime::Result<Instance> {
        match &mut self.store {
            Some(store) => store.instantiate(pre).await,
            None => unreachable!("it is taken only when dropped"),
        }
    }

    /// Whether making its memory fresh is work.
    pub fn is_heavy(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.work_bytes() > HEAVY_BYTES)
    }

    /// The call came to its end. Gives the slot, if it is reset by now.
    pub fn called(mut self) -> Option<Slot> {
        self.ended = true;
        self.take_down()
    }

    fn take_down(&mut self) -> Option<Slot> {
        let is_heavy = self.is_heavy();
        let mut store = self.store.take()?;
        let slot = store.data_mut().take_slot();
        match slot {
            Some(slot) if is_heavy => {
                let (node, revision) = (self.node.clone(), self.revision.clone());
                self.node.resets.take(Ended { node, revision, store, slot, finished: self.ended });
                None
            }
            slot => {
                let memory = store.data().memory.filter(|_| self.ended);
                if let (Some(memory), Some(slot)) = (memory, &slot) {
                    slot.note(memory.data(&*store), true);
                }
                drop(store);
                slot
            }
        }
    }
}

impl Deref for Housed {
    type Target = Store<Sandbox>;

    fn deref(&self) -> &Store<Sandbox> {
        match &self.store {
            Some(store) => store,
            None => unreachable!("it is taken only when dropped"),
        }
    }
}

impl DerefMut for Housed {
    fn deref_mut(&mut self) -> &mut Store<Sandbox> {
        match &mut self.store {
            Some(store) => store,
            None => unreachable!("it is taken only when dropped"),
        }
    }
}

impl Drop for Housed {
    fn drop(&mut self) {
        drop(self.take_down());
    }
}
