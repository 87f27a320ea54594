//! Large bytes without a copy on the heap: files whose bytes stay as they are, mapped.
//!
//! A model's module goes through five hands at its deploy. On the heap each would hold all of it, and what the allocator
//! keeps of that afterwards was most of what a node had grown by.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mayfly_core::limits::node;
use memmap2::MmapOptions;
use rustix::fs::{SealFlags, fcntl_add_seals, fcntl_get_seals};

use super::store::StoreError;
use super::{Reject, own_plain_file};

/// A file whose bytes nobody changes or cuts any more. Made in this module alone.
struct Settled(File);

impl Settled {
    #[expect(
        unsafe_code,
        reason = "a mapping is only as constant as its file, which this type proves"
    )]
    fn map(mut self) -> io::Result<Bytes> {
        // Not by `metadata`: a confined child may ask for a position and for nothing else.
        let len = usize::try_from(self.0.seek(SeekFrom::End(0))?).map_err(io::Error::other)?;
        // SAFETY: the bytes below the mapping stay as they are. Each maker of a `Settled` says why: the kernel refuses
        // writes (a seal), or the file has no name and this is its only descriptor, or it lies in a directory that only
        // this user can write to and in which no file is ever changed in place. A private mapping that can be read only
        // gives nobody else a way in.
        let mapping = unsafe { MmapOptions::new().len(len).map_copy_read_only(&self.0) }?;
        Ok(Bytes::from_owner(mapping))
    }
}

/// Seals memory that this process or a child of it wrote.
///
/// # Errors
/// When somebody still has it mapped for writing, or it cannot be sealed.
pub fn seal(memory: &File) -> io::Result<()> {
    let wanted = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
    if !fcntl_get_seals(memory)?.contains(wanted) {
        fcntl_add_seals(memory, wanted | SealFlags::SEAL)?;
    }
    Ok(())
}

/// The bytes of memory that is sealed with this, if it was not.
///
/// # Errors
/// As [`seal`], and when there is no room in the address space.
pub fn sealed(memory: File) -> io::Result<Bytes> {
    seal(&memory)?;
    // The kernel refuses whatever would change it.
    Settled(memory).map()
}

/// The bytes of a file in the store, opened for reading.
pub(super) fn stored(file: File, most: u64) -> Result<Bytes, Reject> {
    if own_plain_file(&file)? > most {
        return Err(Reject::Changed);
    }
    // In the store files are written under another name, renamed, and never changed.
    Ok(Settled(file).map()?)
}

/// A file without a name, for bytes that arrive: whatever happens, it is gone with this process.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    dir: PathBuf,
}

impl Scratch {
    /// An empty one in `dir`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new_in(dir: &Path) -> Result<Self, StoreError> {
        let file = tempfile::tempfile_in(dir);
        let file = file.map_err(|source| StoreError::io("making a file in", dir, source))?;
        Ok(Self { file, dir: dir.to_owned() })
    }

    /// Adds to it. Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError::Full`] before the disk is so full that the database could not commit.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let (needs, dir) = (bytes.len() as u64, &self.dir);
        self.check_room(needs)?;
        self.file.write_all(bytes).map_err(|source| StoreError::written(needs, dir, dir, source))
    }

    pub(super) fn check_room(&self, needs: u64) -> Result<(), StoreError> {
        let dir = &self.dir;
        let room = rustix::fs::statvfs(dir)
            .map_err(|e| StoreError::io("asking for room in", dir, e.into()))?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        if free < needs.saturating_add(node::STORE_RESERVE_BYTES) {
            return Err(StoreError::disk(needs, dir, free));
        }
        Ok(())
    }

    /// All that was written.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn into_bytes(self) -> Result<Bytes, StoreError> {
        // It never had a name, and nobody else has a descriptor.
        let bytes = Settled(self.file).map();
        bytes.map_err(|source| StoreError::io("mapping a file in", &self.dir, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};

    fn memory(flags: MemfdFlags) -> File {
        let mut file = File::from(memfd_create("test", flags).unwrap());
        file.write_all(b"settled").unwrap();
        file
    }

    #[test]
    fn sealed_memory_is_read_and_changes_no_more() {
        let file = memory(MemfdFlags::ALLOW_SEALING);
        let mut other = file.try_clone().unwrap();
        assert_eq!(sealed(file).unwrap(), "settled");
        assert!(other.write_all(b"more").is_err() && other.set_len(1).is_err());
        assert_eq!(sealed(other).unwrap(), "settled", "a second time");
    }

    #[test]
    fn what_cannot_be_sealed_is_not_mapped() {
        assert!(sealed(memory(MemfdFlags::empty())).is_err());
    }

    #[test]
    fn a_scratch_file_is_what_was_written_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut scratch = Scratch::new_in(dir.path()).unwrap();
        scratch.write(b"one").unwrap();
        scratch.write(b"two").unwrap();
        let bytes = scratch.into_bytes().unwrap();
        assert_eq!(bytes.slice(2..4), "et");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(Scratch::new_in(dir.path()).unwrap().into_bytes().unwrap(), "");
    }
}
