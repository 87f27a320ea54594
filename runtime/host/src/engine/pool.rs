//! How many instances fit this machine, decided once and said aloud.
//!
//! Every total of the pool derives from one number, the slots. Each costs 4 GiB and some of address space, and up to
//! `keep_resident` and `idle_bytes` of memory while it is idle.

use mayfly_core::limits::node;
use mayfly_core::units::{format_size, human_size};
use wasmtime::{Config, Enabled, PoolingAllocationConfig};

use super::{EngineConfig, EngineError, cgroup};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Address space of one slot: wasmtime's reservation of 4 GiB and a guard of 32 MiB, plus table and stack.
const SLOT_ADDRESS_BYTES: u64 = 4 * GIB + 40 * MIB;
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
/// Dirty memory that a slot keeps and resets in place: with the scan only dirty pages count, so a whole inference's
/// scratch fits; without it the lowest bytes are reset blindly.
const KEEP_RESIDENT_SCAN: u64 = 16 * MIB;
const KEEP_RESIDENT_BLIND: u64 = 256 << 10;
/// Dirty memory that an idle slot has ready for the next request, where the scan keeps none: 5 MiB are a ResNet-18's.
const IDLE_BYTES_MAX: u64 = 16 * MIB;
/// Slots beside those that serve: one for each publish at once, so that no trial waits for a request or takes its
/// place.
const TRIALS: u64 = node::PUBLISHES as u64;
/// Elements of one table, at most; 8 bytes of address space each.
const TABLE_ELEMENTS: usize = 100_000;

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
    /// The operator asked for the scan and the kernel has none, or swap makes it unsafe.
    #[error("engine.pagemap-scan is on, but {0}: turn it off or leave it out")]
    Scan(&'static str),
}

/// The pool's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPlan {
    /// Instances at once that serve; publish has some more to try modules in.
    pub slots: usize,
    /// Memory that the node may use, in bytes.
    pub memory_budget: u64,
    /// Whether the kernel says which pages a guest dirtied.
    pub pagemap_scan: bool,
    /// Bytes of a slot that stay mapped between requests.
    pub keep_resident: usize,
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
        let need = SLOTS_MIN * KEEP_RESIDENT_BLIND * IDLE_SHARE + 64 * MIB;
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
        let pagemap_scan = match (config.pagemap_scan, machine.scan) {
            (Some(true), Err(why)) => return Err(PoolError::Scan(why)),
            (Some(wanted), _) => wanted,
            // The scan misses pages that the kernel is moving (wasmtime#14357): with memory being compacted, 28 of
            // 100,000 instances saw another one's bytes (`mayfly verify isolation --compact`), without the scan none.
            (None, _) => false,
        };
        let wanted = if pagemap_scan { KEEP_RESIDENT_SCAN } else { KEEP_RESIDENT_BLIND };
        let keep_resident = wanted.min(memory_budget / IDLE_SHARE / (slots + TRIALS)) & !0xfff;
        let usize_of = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(Self {
            slots: usize_of(slots),
            memory_budget,
            pagemap_scan,
            keep_resident: usize_of(keep_resident),
        })
    }

    /// Instances that the pool has room for: those that serve, and those that publish tries.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.slots + node::PUBLISHES
    }

    /// Bytes that each idle slot may hold besides `keep_resident`: all together stay within their share of the budget.
    #[must_use]
    pub fn idle_bytes(&self) -> u64 {
        if self.pagemap_scan {
            // The slot keeps what was dirtied by itself.
            return 0;
        }
        let share = self.memory_budget / IDLE_SHARE / self.instances() as u64;
        share.saturating_sub(self.keep_resident as u64).min(IDLE_BYTES_MAX) & !0xfff
    }

    /// Puts the plan into a wasmtime configuration.
    pub fn apply(&self, config: &mut Config) {
        let slots = u32::try_from(self.instances()).unwrap_or(u32::MAX);
        let mut pool = PoolingAllocationConfig::default();
        pool.total_core_instances(slots)
            .total_memories(slots)
            .total_tables(slots)
            .total_stacks(slots)
            .max_memories_per_module(1)
            .max_tables_per_module(1)
            .table_elements(TABLE_ELEMENTS)
            .max_core_instance_size(4 << 20)
            // Every slot may stay warm: what that costs is bounded by `keep_resident` and `idle_bytes`.
            .max_unused_warm_slots(slots)
            .linear_memory_keep_resident(self.keep_resident)
            .table_keep_resident(64 << 10)
            .pagemap_scan(if self.pagemap_scan { Enabled::Yes } else { Enabled::No });
        config.allocation_strategy(pool);
    }

    /// Says why the engine could not be made, in the pool's terms.
    #[must_use]
    pub fn explain(&self, error: &wasmtime::Error) -> EngineError {
        let need = human_size(self.instances() as u64 * SLOT_ADDRESS_BYTES);
        EngineError::Engine(format!(
            "{error:#} ({} slots reserve {need} of address space: lower engine.slots, or raise `ulimit -v` and vm.max_map_count)",
            self.slots
        ))
    }
}

/// What the machine has.
#[derive(Debug, Clone)]
struct Machine {
    memory: u64,
    address_space: u64,
    scan: Result<(), &'static str>,
}

impl Machine {
    fn probe() -> Self {
        let total = cgroup::machine_memory().unwrap_or(GIB);
        // 47 bits on x86-64, of which a quarter stays for everything else.
        let bits = 3u64 << 45;
        let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
        let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
        let swap = swaps.lines().count() > 1;
        let scan = if swap {
            // A swapped-out page is not reported as dirty: the next guest would read it (wasmtime#14357).
            Err("this machine has swap")
        } else if PoolingAllocationConfig::is_pagemap_scan_available() {
            Ok(())
        } else {
            Err("this kernel has no PAGEMAP_SCAN")
        };
        Self {
            memory: cgroup::memory_limit().map_or(total, |limit| limit.min(total)),
            address_space: limit.map_or(bits, |limit| (limit / 4 * 3).min(bits)),
            scan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(memory: u64) -> Machine {
        Machine { memory, address_space: 3 << 45, scan: Ok(()) }
    }

    #[test]
    fn small_and_large_machines_both_get_a_pool() {
        let config = EngineConfig::default();
        let small = PoolPlan::for_machine(&config, &machine(GIB)).unwrap();
        assert_eq!(small.slots, 25);
        assert!(
            small.slots as u64 * (small.keep_resident as u64 + small.idle_bytes())
                <= small.memory_budget / IDLE_SHARE
        );
        let large = PoolPlan::for_machine(&config, &machine(64 * GIB)).unwrap();
        assert_eq!((large.slots, large.keep_resident as u64), (512, KEEP_RESIDENT_BLIND));
        let scanning = EngineConfig { pagemap_scan: Some(true), ..EngineConfig::default() };
        let scanning = PoolPlan::for_machine(&scanning, &machine(64 * GIB)).unwrap();
        assert_eq!((scanning.slots, scanning.keep_resident as u64), (512, KEEP_RESIDENT_SCAN));
        assert_eq!((large.idle_bytes(), scanning.idle_bytes()), (IDLE_BYTES_MAX, 0));
        assert!(
            !large.pagemap_scan,
            "unless it is asked for: it does not hold while memory is compacted"
        );
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
    fn swap_turns_the_scan_off_and_forbids_turning_it_on() {
        let swap = Machine { scan: Err("this machine has swap"), ..machine(GIB) };
        let auto = PoolPlan::for_machine(&EngineConfig::default(), &swap).unwrap();
        assert!(!auto.pagemap_scan && auto.keep_resident as u64 == KEEP_RESIDENT_BLIND);
        let forced = EngineConfig { pagemap_scan: Some(true), ..EngineConfig::default() };
        assert!(PoolPlan::for_machine(&forced, &swap).is_err());
    }

    #[test]
    fn a_narrow_address_space_takes_fewer_slots_by_itself() {
        let narrow = Machine { address_space: 64 * GIB, ..machine(64 * GIB) };
        let plan = PoolPlan::for_machine(&EngineConfig::default(), &narrow).unwrap();
        assert_eq!((plan.slots, plan.instances()), (13, 15));
    }
}
