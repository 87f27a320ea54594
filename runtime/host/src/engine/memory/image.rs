//! The first bytes of every fresh memory of a revision, in a file of their own: code and image are kept apart, so all that
//! have the same image share its pages.
#![expect(unsafe_code, reason = "maps a file that is not written to, read-only")]

use std::fs::File;
use std::io;
use std::sync::Arc;

use mayfly_store::artifact::VerifiedImage;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// An image, mapped once for its contents; arenas map its file again.
#[derive(Debug)]
pub struct Image {
    file: File,
    base: *mut u8,
    bytes: usize,
}

// SAFETY: nobody writes through the pointer, and what it points at is unmapped only by the drop.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    /// Maps an image; none if it is empty.
    ///
    /// # Errors
    /// When the system has no address space or no descriptor for it.
    pub fn map(image: &VerifiedImage) -> io::Result<Option<Arc<Self>>> {
        let bytes = usize::try_from(image.bytes()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if bytes == 0 {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self::of(image.open_file()?, bytes)?)))
    }

    /// Of these bytes, in a file of memory.
    #[cfg(test)]
    pub(super) fn of_bytes(contents: &[u8]) -> Arc<Self> {
        use std::io::Write as _;
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::memfd_create("image", flags).unwrap());
        file.write_all(contents).unwrap();
        Arc::new(Self::of(file, contents.len()).unwrap())
    }

    fn of(file: File, bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping. The file is not written to while it is mapped: it is sealed, or one of the store's,
        // which are never changed in place.
        let base = unsafe {
            mmap(std::ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, &file, 0)
        }?;
        Ok(Self { file, base: base.cast(), bytes })
    }

    /// What arenas map.
    #[must_use]
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Its length: whole pages of wasm.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of it.
    #[must_use]
    pub fn contents(&self) -> &[u8] {
        // SAFETY: mapped for as long as this lives, and written to by nobody.
        unsafe { std::slice::from_raw_parts(self.base, self.bytes) }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: our own mapping, into which nobody has a reference any more.
        let _ = unsafe { munmap(self.base.cast(), self.bytes) };
    }
}
