//! An instance and its slot, taken down together however an invocation ends: at its end, with its client, or doomed.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use mayfly_host::admission::Slot;
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::Sandbox;
use wasmtime::Store;

use crate::node::{Ended, Node};

/// A call shorter than this has touched few pages, and is reset where it ran: 50 us are two hundred faults, whose reset
/// costs about as much as waking another thread.
const QUICK: Duration = Duration::from_micros(50);

/// A store whose drop costs a worker little.
pub struct Housed {
    node: Arc<Node>,
    revision: Arc<Revision>,
    store: Option<Store<Sandbox>>,
    call: Option<Duration>,
    warm: bool,
}

impl Housed {
    /// Takes charge of a store that an instance of this revision is made in.
    pub fn new(node: Arc<Node>, revision: Arc<Revision>, store: Store<Sandbox>) -> Self {
        Self { node, revision, store: Some(store), call: None, warm: false }
    }

    /// The call came to its end and took so much CPU time; `warm` if its slot is to be made ready for the next. Gives
    /// the slot, if it is reset by now.
    pub fn called(mut self, call: Duration, warm: bool) -> Option<Slot> {
        self.call = Some(call);
        self.warm = warm;
        self.take_down()
    }

    fn take_down(&mut self) -> Option<Slot> {
        let mut store = self.store.take()?;
        let slot = store.data_mut().take_slot();
        let quick = self.call.is_some_and(|call| call < QUICK) && !self.revision.has_large_image();
        match slot {
            Some(slot) if self.warm || slot.is_large() && !quick => {
                let (node, revision) = (self.node.clone(), self.revision.clone());
                let (call, warm) = (self.call, self.warm);
                self.node.resets.take(Ended { node, revision, store, slot, call, warm });
                None
            }
            slot => {
                let memory = store.data().memory.filter(|_| self.call.is_some());
                if let (Some(memory), Some(slot)) = (memory, &slot) {
                    slot.note(memory.data(&store), true);
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
