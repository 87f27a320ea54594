//! The secret that vouches for compiled code.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mayfly_core::MacKey;

use super::{StoreError, TEMPORARY};

/// Bytes that it has.
pub(super) const BYTES: usize = 32;

/// The node's secret; made at first start.
pub(super) fn load_or_make(dir: &Path) -> Result<MacKey, StoreError> {
    let path = dir.join("mac.key");
    let io = |doing| move |source| StoreError::io(doing, &path_of(dir), source);
    match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path) {
        Ok(file) => {
            let metadata = file.metadata().map_err(io("looking at"))?;
            if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 != 0
            {
                return Err(StoreError::Unsafe {
                    path,
                    why: "others may read or write it; it needs mode 0600",
                });
            }
            let mut bytes = Vec::new();
            let most = BYTES as u64 + 1;
            file.take(most).read_to_end(&mut bytes).map_err(io("reading"))?;
            let whole = <[u8; BYTES]>::try_from(bytes);
            whole.map(MacKey::new).map_err(|bytes| StoreError::Secret { path, bytes: bytes.len() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes: [u8; BYTES] = rand::random();
            let mut file = tempfile::Builder::new()
                .prefix(TEMPORARY)
                .tempfile_in(dir)
                .map_err(io("writing"))?;
            file.write_all(&bytes).map_err(io("writing"))?;
            file.as_file().sync_all().map_err(io("writing"))?;
            file.persist(&path).map_err(|e| io("writing")(e.error))?;
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("flushing"))?;
            Ok(MacKey::new(bytes))
        }
        Err(error) => Err(StoreError::io("opening", &path, error)),
    }
}

fn path_of(dir: &Path) -> PathBuf {
    dir.join("mac.key")
}
