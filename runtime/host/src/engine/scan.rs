//! How much of a range of this process's memory is really its own, asked of the kernel in one call.
//!
//! Unlike [`pages::measure`](super::pages::measure) it costs next to nothing for what was never touched: a guest that
//! grows its memory to 4 GiB and touches none of it delays nobody who counts.

use std::fs::File;
use std::sync::OnceLock;

use rustix::ioctl::{Updater, ioctl, opcode};

/// Runs that one call reports.
const REGIONS: usize = 512;

const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_ZERO: u64 = 1 << 5;

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    inverted: u64,
    mask: u64,
    any_of: u64,
    returned: u64,
}

/// `struct page_region` of `linux/fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// Bytes from `start` on that are resident and no file's: what taking the range away would give back. Nothing where the
/// kernel does not tell (before 6.7).
#[must_use]
pub fn private_bytes(start: usize, len: usize) -> Option<u64> {
    static PAGE_MAP: OnceLock<Option<File>> = OnceLock::new();
    let map = PAGE_MAP.get_or_init(|| File::open("/proc/self/pagemap").ok()).as_ref()?;
    let (mut at, end) = (start as u64 & !0xfff, (start as u64 + len as u64) & !0xfff);
    let mut bytes = 0;
    while at < end {
        let mut regions = [Region::default(); REGIONS];
        let walked = scan(map, at, end, &mut regions)?;
        bytes += regions.iter().map(|run| run.end.saturating_sub(run.start)).sum::<u64>();
        if walked <= at {
            return None;
        }
        at = walked;
    }
    Some(bytes)
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a call that reads page tables and writes to the array it is given")]
fn scan(map: &File, start: u64, end: u64, regions: &mut [Region; REGIONS]) -> Option<u64> {
    const SCAN: rustix::ioctl::Opcode = opcode::read_write::<Scan>(b'f', 16);
    let mut scan = Scan {
        size: size_of::<Scan>() as u64,
        start,
        end,
        vec: regions.as_mut_ptr().expose_provenance() as u64,
        vec_len: REGIONS as u64,
        inverted: IS_FILE | IS_ZERO,
        mask: IS_PRESENT | IS_FILE | IS_ZERO,
        returned: IS_PRESENT,
        ..Scan::default()
    };
    // SAFETY: the structure is the one that this request takes, its length is in it, and `vec` is an array of `vec_len`
    // entries that lives beyond the call. Without flags the call changes no page and no protection.
    unsafe { ioctl(map, Updater::<SCAN, Scan>::new(&mut scan)).ok()? };
    Some(scan.walk_end)
}

#[cfg(not(target_os = "linux"))]
fn scan(_: &File, _: u64, _: u64, _: &mut [Region; REGIONS]) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_counts_and_what_was_read_or_left_alone_does_not() {
        // Beyond the most that glibc's threshold for a mapping of its own can grow to: such a block is fresh.
        let mut block = vec![0u8; 64 << 20];
        let skip = block.as_ptr().align_offset(4096);
        let memory = &mut block[skip..][..40 << 20];
        let (start, len) = (memory.as_ptr().addr(), memory.len());
        let Some(before) = private_bytes(start, len) else { return };
        assert_eq!(before, 0);
        assert_eq!(memory[5 << 20], 0);
        // Every second page: more runs than one call reports.
        for page in (0..4096).step_by(2) {
            memory[page << 12] = 1;
        }
        assert_eq!(private_bytes(start, len), Some(2048 << 12));
        assert_eq!(private_bytes(start, 8 << 12), Some(4 << 12));
    }
}
