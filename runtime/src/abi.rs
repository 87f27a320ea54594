//! How a request reaches a guest: the two ABIs of `docs/abi.md`, and the one linker that serves both.

pub mod cgi;
pub mod head;
pub mod pieces;
pub mod reactor;
pub mod stdio;
pub mod wasi;

use wasmtime::Linker;
use wasmtime_wasi::I32Exit;

use crate::publish::imports::WASI;
use crate::sandbox::Sandbox;

/// Every import that a guest may have, linked once per process.
///
/// # Errors
/// Only if two definitions clash, which a test rules out.
pub fn linker(
    engine: &wasmtime::Engine,
    native_kernels: bool,
) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker, Sandbox::wasi)?;
    // Ours replace two of WASI's. A fresh draw costs no context, which most SDK guests never need.
    linker.allow_shadowing(true);
    linker.func_wrap(WASI, "random_get", reactor::random_get)?;
    // WASI's takes a code above 125 for a trap; programs exit with 255 and -1, and mean it.
    linker.func_wrap(WASI, "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(I32Exit(code).into())
    })?;
    linker.allow_shadowing(false);
    reactor::add_to_linker(&mut linker)?;
    crate::kernels::add_to_linker(&mut linker, native_kernels, Sandbox::memory, Sandbox::pause)?;
    Ok(linker)
}
