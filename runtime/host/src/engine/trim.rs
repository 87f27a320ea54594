//! Memory that the allocator keeps is given back to the system.
//!
//! glibc keeps what lies below anything that is still used, in each of its arenas, for good: 330,000 streams of HTTP/2
//! left a node above its budget until it was restarted. It keeps the end of each arena as well, up to twice the largest
//! piece that it ever gave back: after four deploys of an 86 MiB model 120 of 126 MB were free, and no `malloc_trim`
//! returned them, because that looks at the first arena's end only.

use parking_lot::Mutex;

/// Bytes from which a piece is mapped for itself, and returned when it is freed. Without it the largest piece so far says.
const MAPPED_BYTES: i32 = 4 << 20;
/// Bytes that the end of each arena keeps: as much as two pieces that are just not mapped.
const KEPT_BYTES: i32 = 8 << 20;
/// The same beside a deploy, whose modules and code would stay in the arenas of the threads that it ran on.
const KEPT_BESIDE_BYTES: i32 = 128 << 10;

/// Deploys under way.
static THRIFTY: Mutex<usize> = Mutex::new(0);

/// Says what the allocator may keep; once per process.
pub fn bound() {
    set(option::M_MMAP_THRESHOLD, MAPPED_BYTES);
    set(option::M_TRIM_THRESHOLD, KEPT_BYTES);
}

/// While there is one, arenas keep next to nothing of what is freed. Dropping the last one takes milliseconds: not for a
/// thread that serves.
#[derive(Debug)]
pub struct Thrift(());

impl Thrift {
    /// From now on.
    #[must_use]
    pub fn begin() -> Self {
        let mut thrifty = THRIFTY.lock();
        *thrifty += 1;
        set(option::M_TRIM_THRESHOLD, KEPT_BESIDE_BYTES);
        Self(())
    }
}

impl Drop for Thrift {
    fn drop(&mut self) {
        trim();
        let mut thrifty = THRIFTY.lock();
        *thrifty -= 1;
        if *thrifty == 0 {
            set(option::M_TRIM_THRESHOLD, KEPT_BYTES);
        }
    }
}

/// Gives back every whole page of the heap that holds nothing. Takes about a millisecond for each ten MiB, during which
/// one arena after the other serves nobody: to be called when there is something to gain.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a call into the C library that takes no pointer")]
pub fn trim() {
    // SAFETY: it takes each arena's own lock, and touches pages only that no allocation lies in.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a call into the C library that takes no pointer")]
fn set(option: i32, value: i32) {
    // SAFETY: it takes the first arena's lock and writes a number that other threads read whole.
    unsafe { libc::mallopt(option, value) };
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
use libc as option;

/// Other allocators give back by themselves, or cannot be told.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn trim() {}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn set(_: i32, _: i32) {}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod option {
    pub const M_MMAP_THRESHOLD: i32 = 0;
    pub const M_TRIM_THRESHOLD: i32 = 0;
}
