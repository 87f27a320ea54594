use std::cell::Cell;

use anyhow::{bail, ensure};
use mayfly_abi::limits;

use crate::{Result, host};

/// Bytes asked for at once. The host copies them in one go, so this only bounds how long one call takes.
const CHUNK: usize = 1 << 20;

thread_local! {
    static INIT_IS_OVER: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn close() {
    INIT_IS_OVER.set(true);
}

/// Packs a file into the module under a name, to be read by [`asset`](crate::asset()) in init.
///
/// The file goes into a custom section of the `.wasm` and stays out of linear memory, so what init
/// does not keep of it costs nothing when a request is served. The path is relative to the source
/// file, as in [`include_bytes!`]. At most 64 assets, with names of at most 128 bytes.
///
/// ```
/// mayfly::asset!("manifest.toml", "../Cargo.toml");
/// ```
#[macro_export]
macro_rules! asset {
    ($name:literal, $path:expr $(,)?) => {
        const _: () = {
            // Neither `#[used]` nor an exported name: either one puts the bytes into the data
            // segments as well, and so into every snapshot.
            #[allow(dead_code, reason = "the section is read by the host, not by code")]
            #[cfg_attr(target_family = "wasm", unsafe(link_section = concat!("mayfly.asset/", $name)))]
            pub static ASSET: [u8; include_bytes!($path).len()] = *include_bytes!($path);
        };
    };
}

/// Puts bytes into a custom section of the `.wasm`, for who reads the file.
#[doc(hidden)]
#[macro_export]
macro_rules! section {
    ($name:literal, $bytes:expr $(,)?) => {
        const _: () = {
            #[allow(dead_code, reason = "the section is read by the host, not by code")]
            #[cfg_attr(target_family = "wasm", unsafe(link_section = $name))]
            pub static SECTION: [u8; $bytes.len()] = *$bytes;
        };
    };
}

/// The bytes of an asset that [`asset!`](crate::asset!) packed into this module. In init only.
///
/// # Errors
/// When the module carries no such asset, and when called while a request is handled: by then the
/// host has let go of the assets. Keep what you need in the function's state.
pub fn asset(name: &str) -> Result<Vec<u8>> {
    ensure!(
        !INIT_IS_OVER.get(),
        "asset {name:?} was asked for while handling a request; read it in init and keep it"
    );
    ensure!(
        name.len() <= limits::ASSET_NAME_BYTES,
        "asset name {name:?} is over {} bytes",
        limits::ASSET_NAME_BYTES
    );
    let Some(length) = host::asset_len(name) else {
        bail!(
            "no asset {name:?} in this module; add `mayfly::asset!({name:?}, \"path/to/file\");`"
        );
    };
    let mut bytes = vec![0; usize::try_from(length)?];
    let mut read = 0;
    while read < bytes.len() {
        let end = bytes.len().min(read + CHUNK);
        match host::asset_read(name, u64::try_from(read)?, &mut bytes[read..end]) {
            Ok(0) => bail!("asset {name:?} ends at byte {read}, {length} were promised"),
            Ok(n) => read += n,
            Err(code) => bail!("reading asset {name:?} at byte {read}: the host refused ({code})"),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_missing_asset_is_named_with_the_way_to_add_it() {
        let error = crate::asset("model.onnx").unwrap_err().to_string();
        assert!(error.contains("mayfly::asset!(\"model.onnx\""), "{error}");
    }
}
