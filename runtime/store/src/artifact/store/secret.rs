//! Files of 32 secret bytes: the one that vouches for compiled code, and the one that seals secrets.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use mayfly_core::MacKey;

use super::{StoreError, TEMPORARY};

/// No link is followed, and a pipe that nobody writes to is not waited for.
const FLAGS: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK;

/// Bytes that it has.
pub(super) const BYTES: usize = 32;

/// The secret that vouches for the node's code; made at first start.
pub(super) fn load_or_make(dir: &Path) -> Result<MacKey, StoreError> {
    bytes_at(&dir.join("mac.key")).map(MacKey::new)
}

/// The bytes of such a file, which nobody else may read; drawn and written if there is none.
pub(crate) fn bytes_at(path: &Path) -> Result<[u8; BYTES], StoreError> {
    let io = |doing| move |source| StoreError::io(doing, path, source);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match OpenOptions::new().read(true).custom_flags(FLAGS).open(path) {
        Ok(file) => {
            let metadata = file.metadata().map_err(io("looking at"))?;
            if !metadata.is_file() {
                return Err(StoreError::Secret { path: path.to_owned(), bytes: 0 });
            }
            if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 != 0
            {
                return Err(StoreError::Readable { path: path.to_owned() });
            }
            let mut bytes = Vec::new();
            let most = BYTES as u64 + 1;
            file.take(most).read_to_end(&mut bytes).map_err(io("reading"))?;
            <[u8; BYTES]>::try_from(bytes)
                .map_err(|bytes| StoreError::Secret { path: path.to_owned(), bytes: bytes.len() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes: [u8; BYTES] = rand::random();
            let mut file = tempfile::Builder::new()
                .prefix(TEMPORARY)
                .tempfile_in(dir)
                .map_err(io("writing"))?;
            file.write_all(&bytes).map_err(io("writing"))?;
            file.as_file().sync_all().map_err(io("writing"))?;
            file.persist(path).map_err(|e| io("writing")(e.error))?;
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("flushing"))?;
            Ok(bytes)
        }
        Err(error) => Err(StoreError::io("opening", path, error)),
    }
}
