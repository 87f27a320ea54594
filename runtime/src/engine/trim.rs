//! Memory that the allocator keeps after a flood is given back to the system.
//!
//! glibc keeps what lies below anything that is still used, in each of its arenas, for good: 330,000 streams of HTTP/2
//! left a node above its budget until it was restarted.

/// Gives back every whole page of the heap that holds nothing. Takes about a millisecond for each ten MiB, during which
/// one arena after the other serves nobody: to be called when there is something to gain.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a call into the C library that takes no pointer")]
pub fn trim() {
    // SAFETY: it takes each arena's own lock, and touches pages only that no allocation lies in.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give back by themselves, or cannot be told.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn trim() {}
