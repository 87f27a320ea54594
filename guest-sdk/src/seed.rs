//! Hash seeds after a restore.
//!
//! std draws two random words once per thread and derives every [`RandomState`] from them. A snapshot
//! freezes them, so all restored instances would hash alike, and a client who learns one seed could
//! flood every map of every request. There is no API to draw them again; but in an instance they lie
//! at a fixed place in static memory. Init looks for that place by what it does (its first word
//! counts up with each new `RandomState`), and a restore overwrites it.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::host;

/// Address of std's keys, or 0 when they were not found.
static SLOT: AtomicUsize = AtomicUsize::new(0);

/// A hash of a fixed key: it differs where seeds do.
pub(crate) fn probe() -> u64 {
    RandomState::new().hash_one("mayfly")
}

/// Finds std's keys and keeps their address for [`renew`]; false when they are not where they should be.
pub(crate) fn locate() -> bool {
    let before = words();
    let keys = words();
    // The slot already holds the keys of the state that comes next.
    let next = std::array::from_fn(|n| keys[n].wrapping_add(keys[n].wrapping_sub(before[n])));
    let found = static_data().step_by(8).find(|&address| holds(address, next) && follows(address));
    SLOT.store(found.unwrap_or(0), Ordering::Relaxed);
    found.is_some()
}

/// Whether [`renew`] has something to draw anew.
pub(crate) fn is_located() -> bool {
    SLOT.load(Ordering::Relaxed) != 0
}

/// Draws new keys; does nothing if [`locate`] found none, so that a host without init still serves.
pub(crate) fn renew() {
    let address = SLOT.load(Ordering::Relaxed);
    if address == 0 {
        return;
    }
    let mut keys = [0; 16];
    if host::random(&mut keys) {
        write(address, keys);
    }
}

/// Addresses, from a multiple of 8, at which 16 bytes of static data can be read.
#[cfg(target_family = "wasm")]
fn static_data() -> Range<usize> {
    unsafe extern "C" {
        // Set by the linker. Only their addresses mean something.
        static __global_base: u8;
        static __heap_base: u8;
    }
    let start = (&raw const __global_base).addr().next_multiple_of(8);
    start..(&raw const __heap_base).addr().saturating_sub(15)
}

/// Off wasm there is no snapshot, and static data is not one range.
#[cfg(not(target_family = "wasm"))]
fn static_data() -> Range<usize> {
    0..0
}

/// Whether a write to `address` is what the next `RandomState` sees. Leaves the keys as they were.
fn follows(address: usize) -> bool {
    const TRIAL: [u64; 2] = [0x6d61_7966_6c79_0001, 0x6b65_7973_0000_0002];
    let saved = read(address);
    let mut trial = [0; 16];
    trial[..8].copy_from_slice(&TRIAL[0].to_le_bytes());
    trial[8..].copy_from_slice(&TRIAL[1].to_le_bytes());
    write(address, trial);
    let seen = same(words(), TRIAL);
    write(address, saved);
    seen
}

fn holds(address: usize, keys: [u64; 2]) -> bool {
    let bytes = read(address);
    let word = |n: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[8 * n + i]));
    same([word(0), word(1)], keys)
}

/// The order of a Rust struct's fields is the compiler's choice.
fn same(a: [u64; 2], b: [u64; 2]) -> bool {
    a == b || a == [b[1], b[0]]
}

/// The keys of a new `RandomState`, which is two words whatever their order.
fn words() -> [u64; 2] {
    const { assert!(size_of::<RandomState>() == 16) };
    // SAFETY: same size, and every bit pattern is a pair of integers.
    unsafe { std::mem::transmute::<RandomState, [u64; 2]>(RandomState::new()) }
}

fn read(address: usize) -> [u8; 16] {
    // SAFETY: within `static_data`, which is always mapped; volatile because the compiler must not
    // assume that nobody else writes there.
    unsafe { std::ptr::read_volatile(std::ptr::with_exposed_provenance::<[u8; 16]>(address)) }
}

fn write(address: usize, keys: [u8; 16]) {
    // SAFETY: within `static_data`, and found to hold std's keys: a `Cell` of two integers with no
    // borrow that outlives a call of `RandomState::new`, in a module that has one thread. `locate`
    // also writes where it only seems to hold them, but puts back what was there.
    unsafe {
        std::ptr::write_volatile(std::ptr::with_exposed_provenance_mut::<[u8; 16]>(address), keys);
    }
}
