//! The imports of `docs/abi.md` behind safe functions.
//! Off wasm there is no host: they answer as one that has no request, so that docs and unit tests build anywhere.

#[cfg(target_family = "wasm")]
mod imports {
    #[link(wasm_import_module = "mayfly_http_v1")]
    unsafe extern "C" {
        pub(crate) fn request_head(ptr: *mut u8, cap: usize) -> i32;
        pub(crate) fn request_body_read(ptr: *mut u8, cap: usize) -> i32;
        pub(crate) fn response_start(
            head: *const u8,
            head_len: usize,
            body: *const u8,
            len: usize,
        ) -> i32;
        pub(crate) fn response_write(ptr: *const u8, len: usize) -> i32;
        pub(crate) fn mark(id: i32);
    }

    #[link(wasm_import_module = "mayfly_asset_v1")]
    unsafe extern "C" {
        pub(crate) fn asset_len(name: *const u8, name_len: usize) -> i64;
        pub(crate) fn asset_read(
            name: *const u8,
            name_len: usize,
            offset: i64,
            ptr: *mut u8,
            len: usize,
        ) -> i32;
    }

    #[link(wasm_import_module = "mayfly_fetch_v1")]
    unsafe extern "C" {
        #[link_name = "fetch"]
        pub(crate) fn fetch_start(
            call: *const u8,
            call_len: usize,
            body: *const u8,
            len: usize,
        ) -> i32;
        #[link_name = "begin"]
        pub(crate) fn fetch_begin(call: *const u8, call_len: usize) -> i32;
        #[link_name = "write"]
        pub(crate) fn fetch_write(handle: i32, ptr: *const u8, len: usize) -> i32;
        #[link_name = "finish"]
        pub(crate) fn fetch_finish(handle: i32) -> i32;
        #[link_name = "wait"]
        pub(crate) fn fetch_wait(handles: *const i32, count: usize, timeout_ms: i32) -> i32;
        #[link_name = "head"]
        pub(crate) fn fetch_head(handle: i32, ptr: *mut u8, cap: usize) -> i32;
        #[link_name = "read"]
        pub(crate) fn fetch_read(handle: i32, ptr: *mut u8, cap: usize) -> i32;
        #[link_name = "pipe"]
        pub(crate) fn fetch_pipe(handle: i32) -> i32;
        #[link_name = "drop"]
        pub(crate) fn fetch_drop(handle: i32);
        pub(crate) fn fetch_error(handle: i32, ptr: *mut u8, cap: usize) -> i32;
    }

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub(crate) fn random_get(ptr: *mut u8, len: usize) -> i32;
        pub(crate) fn proc_exit(code: i32) -> !;
    }

    unsafe extern "C" {
        pub(crate) fn __wasm_call_ctors();
        pub(crate) fn __wasilibc_deinitialize_environ();
    }
}

#[cfg(not(target_family = "wasm"))]
mod imports {
    use mayfly_abi::{ERR_FETCH_CLOSED, ERR_FETCH_DENIED, ERR_NO_ASSET, ERR_STATE};

    pub(crate) unsafe fn fetch_start(_: *const u8, _: usize, _: *const u8, _: usize) -> i32 {
        ERR_FETCH_DENIED
    }
    pub(crate) unsafe fn fetch_begin(_: *const u8, _: usize) -> i32 {
        ERR_FETCH_DENIED
    }
    pub(crate) unsafe fn fetch_write(_: i32, _: *const u8, _: usize) -> i32 {
        ERR_FETCH_CLOSED
    }
    pub(crate) unsafe fn fetch_finish(_: i32) -> i32 {
        ERR_FETCH_CLOSED
    }
    pub(crate) unsafe fn fetch_wait(_: *const i32, _: usize, _: i32) -> i32 {
        -1
    }
    pub(crate) unsafe fn fetch_head(_: i32, _: *mut u8, _: usize) -> i32 {
        ERR_FETCH_CLOSED
    }
    pub(crate) unsafe fn fetch_read(_: i32, _: *mut u8, _: usize) -> i32 {
        ERR_FETCH_CLOSED
    }
    pub(crate) unsafe fn fetch_pipe(_: i32) -> i32 {
        ERR_FETCH_CLOSED
    }
    pub(crate) unsafe fn fetch_drop(_: i32) {}
    pub(crate) unsafe fn fetch_error(_: i32, _: *mut u8, _: usize) -> i32 {
        0
    }

    pub(crate) unsafe fn request_head(_: *mut u8, _: usize) -> i32 {
        0
    }
    pub(crate) unsafe fn request_body_read(_: *mut u8, _: usize) -> i32 {
        0
    }
    pub(crate) unsafe fn response_start(_: *const u8, _: usize, _: *const u8, _: usize) -> i32 {
        ERR_STATE
    }
    pub(crate) unsafe fn response_write(_: *const u8, _: usize) -> i32 {
        ERR_STATE
    }
    pub(crate) unsafe fn mark(_: i32) {}
    pub(crate) unsafe fn asset_len(_: *const u8, _: usize) -> i64 {
        ERR_NO_ASSET.into()
    }
    pub(crate) unsafe fn asset_read(_: *const u8, _: usize, _: i64, _: *mut u8, _: usize) -> i32 {
        ERR_NO_ASSET
    }
    pub(crate) unsafe fn random_get(_: *mut u8, _: usize) -> i32 {
        1
    }
    pub(crate) unsafe fn proc_exit(code: i32) -> ! {
        std::process::exit(code)
    }
    pub(crate) unsafe fn __wasm_call_ctors() {}
    pub(crate) unsafe fn __wasilibc_deinitialize_environ() {}
}

/// A negative number that an import answered.
pub(crate) type Refused = i32;

fn count(answer: i32) -> Result<usize, Refused> {
    usize::try_from(answer).map_err(|_| answer)
}

pub(crate) fn request_head(buffer: &mut [u8]) -> usize {
    // SAFETY: the host writes at most `len` bytes into a buffer that we hold exclusively.
    count(unsafe { imports::request_head(buffer.as_mut_ptr(), buffer.len()) }).unwrap_or(0)
}

pub(crate) fn request_body_read(buffer: &mut [u8]) -> Result<usize, Refused> {
    // SAFETY: as above.
    count(unsafe { imports::request_body_read(buffer.as_mut_ptr(), buffer.len()) })
}

pub(crate) fn response_start(head: &[u8], body: &[u8]) -> Result<(), Refused> {
    // SAFETY: the host only reads both ranges, and only during the call.
    let answer =
        unsafe { imports::response_start(head.as_ptr(), head.len(), body.as_ptr(), body.len()) };
    count(answer).map(drop)
}

pub(crate) fn response_write(bytes: &[u8]) -> Result<(), Refused> {
    // SAFETY: as above.
    count(unsafe { imports::response_write(bytes.as_ptr(), bytes.len()) }).map(drop)
}

pub(crate) fn mark(id: u8) {
    // SAFETY: takes a number and touches no memory.
    unsafe { imports::mark(id.into()) }
}

pub(crate) fn asset_len(name: &str) -> Option<u64> {
    // SAFETY: the host only reads the name, and only during the call.
    u64::try_from(unsafe { imports::asset_len(name.as_ptr(), name.len()) }).ok()
}

pub(crate) fn asset_read(name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, Refused> {
    let offset = offset.cast_signed();
    let (ptr, len) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: the host reads the name and writes at most `len` bytes into a buffer that we hold exclusively.
    count(unsafe { imports::asset_read(name.as_ptr(), name.len(), offset, ptr, len) })
}

/// Starts a call and gives its handle.
pub(crate) fn fetch_start(call: &[u8], body: &[u8]) -> Result<i32, Refused> {
    // SAFETY: the host only reads both ranges, and only during the call.
    let handle =
        unsafe { imports::fetch_start(call.as_ptr(), call.len(), body.as_ptr(), body.len()) };
    count(handle).map(|_| handle)
}

pub(crate) fn fetch_begin(call: &[u8]) -> Result<i32, Refused> {
    // SAFETY: as above.
    let handle = unsafe { imports::fetch_begin(call.as_ptr(), call.len()) };
    count(handle).map(|_| handle)
}

pub(crate) fn fetch_write(handle: i32, bytes: &[u8]) -> Result<(), Refused> {
    // SAFETY: as above.
    count(unsafe { imports::fetch_write(handle, bytes.as_ptr(), bytes.len()) }).map(drop)
}

pub(crate) fn fetch_finish(handle: i32) -> Result<(), Refused> {
    // SAFETY: takes a number and touches no memory.
    count(unsafe { imports::fetch_finish(handle) }).map(drop)
}

/// The index of the first of these calls of which something is there; nothing if none is in time.
pub(crate) fn fetch_wait(handles: &[i32], timeout_ms: i32) -> Result<Option<usize>, Refused> {
    // SAFETY: the host only reads the handles, and only during the call.
    match unsafe { imports::fetch_wait(handles.as_ptr(), handles.len(), timeout_ms) } {
        -1 => Ok(None),
        answer => count(answer).map(Some),
    }
}

pub(crate) fn fetch_head(handle: i32, buffer: &mut [u8]) -> Result<usize, Refused> {
    // SAFETY: the host writes at most `len` bytes into a buffer that we hold exclusively.
    count(unsafe { imports::fetch_head(handle, buffer.as_mut_ptr(), buffer.len()) })
}

pub(crate) fn fetch_read(handle: i32, buffer: &mut [u8]) -> Result<usize, Refused> {
    // SAFETY: as above.
    count(unsafe { imports::fetch_read(handle, buffer.as_mut_ptr(), buffer.len()) })
}

pub(crate) fn fetch_pipe(handle: i32) -> Result<(), Refused> {
    // SAFETY: takes a number and touches no memory.
    count(unsafe { imports::fetch_pipe(handle) }).map(drop)
}

pub(crate) fn fetch_drop(handle: i32) {
    // SAFETY: as above.
    unsafe { imports::fetch_drop(handle) }
}

/// The words of a call's failure; of the last one that has no handle if `handle` is none.
pub(crate) fn fetch_error(handle: i32, buffer: &mut [u8]) -> usize {
    // SAFETY: the host writes at most `len` bytes into a buffer that we hold exclusively.
    count(unsafe { imports::fetch_error(handle, buffer.as_mut_ptr(), buffer.len()) }).unwrap_or(0)
}

/// Fills `buffer` with fresh random bytes; false when the host has none.
pub(crate) fn random(buffer: &mut [u8]) -> bool {
    // SAFETY: the host writes `len` bytes into a buffer that we hold exclusively.
    unsafe { imports::random_get(buffer.as_mut_ptr(), buffer.len()) == 0 }
}

/// Ends the instance. Nothing of it outlives this, so no destructor and no `atexit` hook needs to run.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: does not return and touches no memory.
    unsafe { imports::proc_exit(code) }
}

/// Runs the module's constructors. wasm-ld would otherwise wrap every export with a call of them (8 us each).
pub(crate) fn construct() {
    // SAFETY: made by the linker; the caller sees to it that it runs once.
    unsafe { imports::__wasm_call_ctors() }
}

/// Makes wasi-libc read the environment again when it is next asked: init ran with an empty one, and cached it.
pub(crate) fn forget_environment() {
    // SAFETY: only resets libc's pointer; an instance has one thread and nothing holds a borrow of the environment.
    unsafe { imports::__wasilibc_deinitialize_environ() }
}
