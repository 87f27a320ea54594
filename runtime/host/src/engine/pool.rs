//! How many instances fit this machine, decided once and said aloud.
//!
//! Everything derives from one number, the slots. Each costs 4 GiB and some of address space, and up to `idle_bytes` of
//! memory while it is idle.

use mayfly_core::limits::node;
use mayfly_core::units::{format_size, human_size};

use super::{EngineConfig, cgroup};
use crate::engine::memory::{ARENA_BYTES, Arenas, NoRoom};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Address space of one slot: its memory's, and a stack.
const SLOT_ADDRESS_BYTES: u64 = ARENA_BYTES as u64 + 8 * MIB;
/// Memory that one slot is expected to need while busy: most functions dirty far less.
const SLOT_MEMORY_BYTES: u64 = 32 * MIB;
/// And at most, in an instance that is too small to be watched: 2 MiB of memory, a table, a stack, a response's buffer. The
/// stack stays when the slot is idle. No more slots than the budget has room for so many of them.
const SLOT_SMALL_BYTES: u64 = 4 * MIB;
/// Beyond this, more slots do not help a node: they only hide a queue.
const SLOTS_MAX: u64 = 512;
const SLOTS_MIN: u64 = 8;
/// Part of the budget that idle slots may hold resident.
const IDLE_SHARE: u64 = 4;
/// Memory that a slot keeps of its hot pages, which the next request writes again: 5 MiB are a ResNet-18's.
const IDLE_BYTES_MAX: u64 = 16 * MIB;
/// And in the smallest budget there is.
const IDLE_BYTES_LEAST: u64 = 256 << 10;
/// Slots beside those that serve: one for each publish at once, so that no trial waits for a request or takes its
/// place.
const TRIALS: u64 = node::PUBLISHES as u64;
/// Memories beyond those: one that is being cleared is neither lent nor there for others, and costs only address space.
const IN_TRANSIT: usize = 8;

/// Why no pool can be had.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The slots do not fit the address space.
    #[error(
        "{slots} slots need {} of address space, and only {} is available: lower engine.slots to {fit}, or raise `ulimit -v`",
        human_size(*.need), human_size(*.have)
    )]
    AddressSpace {
        /// Slots asked for.
        slots: u64,
        /// Bytes they need.
        need: u64,
        /// Bytes there are.
        have: u64,
        /// Slots that would fit.
        fit: u64,
    },
    /// The slots may use more than the budget although each of their instances is small.
    #[error(
        "{slots} slots may use {} each in instances that are too small to be watched, and engine.memory-budget is {}: lower engine.slots to {fit}, or raise the budget",
        human_size(SLOT_SMALL_BYTES), human_size(*.have)
    )]
    Slots {
        /// Slots asked for.
        slots: u64,
        /// Bytes of the budget.
        have: u64,
        /// Slots that would fit.
        fit: u64,
    },
    /// The budget is too small for even the fewest slots.
    #[error("a memory budget of {} is too small: engine.memory-budget must be {} at least", format_size(*.have), format_size(*.need))]
    Budget {
        /// Bytes there are.
        have: u64,
        /// Bytes needed.
        need: u64,
    },
    /// Something else that each slot needs is short.
    #[error(transparent)]
    Room(NoRoom),
}

/// The pool's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPlan {
    /// Instances at once that serve; publish has some more to try modules in.
    pub slots: usize,
    /// Memory that the node may use, in bytes.
    pub memory_budget: u64,
}

impl PoolPlan {
    /// Sizes the pool for this machine.
    ///
    /// # Errors
    /// [`PoolError`] says what does not fit and which key to change.
    pub fn new(config: &EngineConfig) -> Result<Self, PoolError> {
        Self::for_machine(config, &Machine::probe())
    }

    fn for_machine(config: &EngineConfig, machine: &Machine) -> Result<Self, PoolError> {
        // A fifth stays for the code of modules, connections and everything else.
        let memory_budget = config.memory_budget.unwrap_or(machine.memory / 5 * 4);
        let need = SLOTS_MIN * IDLE_BYTES_LEAST * IDLE_SHARE + 64 * MIB;
        if memory_budget < need {
            return Err(PoolError::Budget { have: memory_budget, need });
        }
        let auto = (memory_budget / SLOT_MEMORY_BYTES).clamp(SLOTS_MIN, SLOTS_MAX);
        let fit = (machine.address_space / SLOT_ADDRESS_BYTES).saturating_sub(TRIALS);
        let slots = match config.slots {
            Some(slots) => slots as u64,
            None => auto.min(fit.max(SLOTS_MIN)),
        };
        let small = (memory_budget / SLOT_SMALL_BYTES).max(SLOTS_MIN);
        if slots > small {
            return Err(PoolError::Slots { slots, have: memory_budget, fit: small });
        }
        if slots > fit {
            let need = slots.saturating_add(TRIALS).saturating_mul(SLOT_ADDRESS_BYTES);
            let have = machine.address_space;
            return Err(PoolError::AddressSpace { slots, need, have, fit });
        }
        Ok(Self { slots: usize::try_from(slots).unwrap_or(usize::MAX), memory_budget })
    }

    /// Instances that the pool has room for: those that serve, and those that publish tries.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.slots + node::PUBLISHES
    }

    /// Address space for all of them.
    ///
    /// # Errors
    /// [`PoolError::Room`].
    pub fn reserve(&self) -> Result<Arenas, PoolError> {
        // None in the smallest pools, in which tests want each instance to follow another one in the same memory.
        let more = (self.slots / 16).min(IN_TRANSIT);
        let reserved = Arenas::reserve(self.instances() + more, self.idle_bytes());
        reserved.map_err(|error| PoolError::Room(error.besides(node::PUBLISHES + more)))
    }

    /// Bytes that each idle slot may hold: all together stay within their share of the budget.
    #[must_use]
    pub fn idle_bytes(&self) -> u64 {
        (self.memory_budget / IDLE_SHARE / self.instances() as u64).min(IDLE_BYTES_MAX)
    }
}

/// What the machine has.
#[derive(Debug, Clone)]
struct Machine {
    memory: u64,
    address_space: u64,
}

impl Machine {
    fn probe() -> Self {
        let total = cgroup::machine_memory().unwrap_or(GIB);
        // 47 bits on x86-64, of which a quarter stays for everything else.
        let bits = 3u64 << 45;
        let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
        Self {
            memory: cgroup::memory_limit().map_or(total, |limit| limit.min(total)),
            address_space: limit.map_or(bits, |limit| (limit / 4 * 3).min(bits)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(memory: u64) -> Machine {
        Machine { memory, address_space: 3 << 45 }
    }

    #[test]
    fn small_and_large_machines_both_get_a_pool() {
        let config = EngineConfig::default();
        let small = PoolPlan::for_machine(&config, &machine(GIB)).unwrap();
        assert_eq!(small.slots, 25);
        let idle = small.instances() as u64 * small.idle_bytes();
        assert!(idle <= small.memory_budget / IDLE_SHARE);
        let large = PoolPlan::for_machine(&config, &machine(64 * GIB)).unwrap();
        assert_eq!((large.slots, large.idle_bytes()), (512, IDLE_BYTES_MAX));
    }

    #[test]
    fn what_does_not_fit_says_what_would() {
        let config = EngineConfig { slots: Some(100_000), ..EngineConfig::default() };
        let error = PoolPlan::for_machine(&config, &machine(GIB)).unwrap_err().to_string();
        assert!(error.contains("lower engine.slots to"), "{error}");
        // As many as fit if each is as large as it may be without being watched.
        let slots = |slots| EngineConfig {
            slots: Some(slots),
            memory_budget: Some(512 * MIB),
            ..EngineConfig::default()
        };
        assert_eq!(PoolPlan::for_machine(&slots(128), &machine(GIB)).unwrap().slots, 128);
        let error = PoolPlan::for_machine(&slots(129), &machine(GIB)).unwrap_err().to_string();
        assert!(error.contains("lower engine.slots to 128"), "{error}");
        let config = EngineConfig { memory_budget: Some(MIB), ..EngineConfig::default() };
        let error = PoolPlan::for_machine(&config, &machine(GIB)).unwrap_err().to_string();
        assert!(error.contains("engine.memory-budget must be"), "{error}");
    }

    #[test]
    fn a_narrow_address_space_takes_fewer_slots_by_itself() {
        let narrow = Machine { address_space: 64 * GIB, ..machine(64 * GIB) };
        let plan = PoolPlan::for_machine(&EngineConfig::default(), &narrow).unwrap();
        assert_eq!((plan.slots, plan.instances()), (13, 15));
    }
}
