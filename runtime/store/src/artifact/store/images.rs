//! Images of memories: files with holes where they are zero, named by the digest of what they hold.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use mayfly_core::{Digest, DigestBuilder};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};

use super::{ArtifactStore, Kind, StoreError, TEMPORARY};
use crate::artifact::fault::point;
use crate::artifact::{Reject, VerifiedImage, mapped};

/// Where some bytes of an image are.
pub type Part<'b> = (u64, &'b [u8]);

/// What is hashed at once, and left out if it is zero: a page of wasm.
const CHUNK: usize = 64 << 10;

impl ArtifactStore {
    /// Keeps an image of so many bytes: the parts in their order, zeros elsewhere. `pin` is told its digest before it is
    /// there for others to remove.
    ///
    /// # Errors
    /// [`StoreError::Full`], or what the file system says.
    pub fn put_image<P>(
        &self,
        bytes: u64,
        parts: &[Part<'_>],
        pin: impl FnOnce(Digest) -> P,
    ) -> Result<(Digest, P), StoreError> {
        let dir = self.dir.join(Kind::Image.dir());
        let failed = |source| StoreError::written(bytes, &self.dir, &dir, source);
        let step = |at: &str| point(&format!("image-{at}")).map_err(failed);
        let temporary = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&dir);
        let temporary = temporary.map_err(failed)?;
        write(temporary.as_file(), bytes, parts).map_err(failed)?;
        step("written")?;
        let digest = digest(temporary.as_file()).map_err(failed)?;
        let pin = pin(digest);
        if self.open_image(digest).is_ok() {
            return Ok((digest, pin));
        }
        temporary.as_file().set_permissions(Permissions::from_mode(0o400)).map_err(failed)?;
        temporary.as_file().sync_all().map_err(failed)?;
        step("flushed")?;
        temporary.persist(self.path(Kind::Image, digest)).map_err(|error| failed(error.error))?;
        step("renamed")?;
        File::open(&dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        step("done")?;
        Ok((digest, pin))
    }

    /// Opens an image and verifies it.
    ///
    /// # Errors
    /// [`Reject`]; the caller makes it anew then.
    pub fn open_image(&self, digest: Digest) -> Result<VerifiedImage, Reject> {
        VerifiedImage::verify(self.open_file(Kind::Image, digest)?, digest)
    }

    /// An image that needs no file, for as long as it is mapped.
    ///
    /// # Errors
    /// [`Reject::Io`] when the system gives no memory for it.
    pub fn image_in_memory(&self, bytes: u64, parts: &[Part<'_>]) -> Result<VerifiedImage, Reject> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create("image", flags).map_err(io::Error::from)?);
        write(&file, bytes, parts)?;
        file.set_permissions(Permissions::from_mode(0o400))?;
        mapped::seal(&file)?;
        let digest = digest(&file)?;
        VerifiedImage::verify(file, digest)
    }
}

fn write(file: &File, bytes: u64, parts: &[Part<'_>]) -> io::Result<()> {
    file.set_len(bytes)?;
    for (at, part) in parts {
        file.write_all_at(part, *at)?;
    }
    Ok(())
}

/// The digest of an image: of its length, and of the place and the bytes of each chunk that is not zero. So a memory
/// of 4 GiB with a byte at its end costs as little as it holds, and holes, which read as zeros, are not read.
pub(in crate::artifact) fn digest(file: &File) -> io::Result<Digest> {
    let bytes = file.metadata()?.len();
    let (mut hash, mut chunk, mut at) = (DigestBuilder::default(), vec![0; CHUNK], 0);
    hash.add(&bytes.to_le_bytes());
    while at < bytes {
        at = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data - data % CHUNK as u64,
            // Nothing but a hole is left.
            Err(rustix::io::Errno::NXIO) => break,
            // A file system that does not tell.
            Err(_) => at,
        };
        let part = &mut chunk[..usize::try_from(bytes - at).unwrap_or(CHUNK).min(CHUNK)];
        file.read_exact_at(part, at)?;
        if part.iter().any(|byte| *byte != 0) {
            hash.add(&at.to_le_bytes());
            hash.add(part);
        }
        at += part.len() as u64;
    }
    Ok(hash.finish())
}
