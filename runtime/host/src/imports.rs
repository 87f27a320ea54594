//! What a guest may import: the list that `validate` holds modules to, and the one linker that serves both ABIs of
//! `docs/abi.md`.

pub mod asset;
pub mod fetch;
pub mod host;
pub mod pieces;
pub mod reactor;
pub mod wasi;

use wasmparser::{FuncType, ValType};
use wasmtime::{Caller, Linker};
use wasmtime_wasi::I32Exit;

use crate::kernels;
use crate::profile::{Span, Unwatched, Watch};
use crate::sandbox::Sandbox;

/// Import module of WASI preview 1.
pub const WASI: &str = "wasi_snapshot_preview1";

/// Import module of what a C linker or another toolchain left to the host.
pub const ENV: &str = "env";

/// Import module of native kernels.
pub const KERNELS: &str = mayfly_abi::MODULE_KERNELS;

/// Name and type of each function of one import module. A type is written as its parameters, a colon, its results:
/// `i` is i32, `I` is i64.
pub type Functions = &'static [(&'static str, &'static str)];

/// All of WASI preview 1. Files and sockets among them fail with an error code: no directory is open.
pub const WASI_FUNCTIONS: Functions = &[
    ("args_get", "ii:i"),
    ("args_sizes_get", "ii:i"),
    ("clock_res_get", "ii:i"),
    ("clock_time_get", "iIi:i"),
    ("environ_get", "ii:i"),
    ("environ_sizes_get", "ii:i"),
    ("fd_advise", "iIIi:i"),
    ("fd_allocate", "iII:i"),
    ("fd_close", "i:i"),
    ("fd_datasync", "i:i"),
    ("fd_fdstat_get", "ii:i"),
    ("fd_fdstat_set_flags", "ii:i"),
    ("fd_fdstat_set_rights", "iII:i"),
    ("fd_filestat_get", "ii:i"),
    ("fd_filestat_set_size", "iI:i"),
    ("fd_filestat_set_times", "iIIi:i"),
    ("fd_pread", "iiiIi:i"),
    ("fd_prestat_dir_name", "iii:i"),
    ("fd_prestat_get", "ii:i"),
    ("fd_pwrite", "iiiIi:i"),
    ("fd_read", "iiii:i"),
    ("fd_readdir", "iiiIi:i"),
    ("fd_renumber", "ii:i"),
    ("fd_seek", "iIii:i"),
    ("fd_sync", "i:i"),
    ("fd_tell", "ii:i"),
    ("fd_write", "iiii:i"),
    ("path_create_directory", "iii:i"),
    ("path_filestat_get", "iiiii:i"),
    ("path_filestat_set_times", "iiiiIIi:i"),
    ("path_link", "iiiiiii:i"),
    ("path_open", "iiiiiIIii:i"),
    ("path_readlink", "iiiiii:i"),
    ("path_remove_directory", "iii:i"),
    ("path_rename", "iiiiii:i"),
    ("path_symlink", "iiiii:i"),
    ("path_unlink_file", "iii:i"),
    ("poll_oneoff", "iiii:i"),
    ("proc_exit", "i:"),
    ("proc_raise", "i:i"),
    ("random_get", "ii:i"),
    ("sched_yield", ":i"),
    ("sock_accept", "iii:i"),
    ("sock_recv", "iiiiii:i"),
    ("sock_send", "iiiii:i"),
    ("sock_shutdown", "ii:i"),
];

/// Request and response; see `docs/abi.md`.
pub const HTTP_FUNCTIONS: Functions = &[
    ("mark", "i:"),
    ("request_body_read", "ii:i"),
    ("request_head", "ii:i"),
    ("response_start", "iiii:i"),
    ("response_write", "ii:i"),
];

/// Assets; see `docs/abi.md`.
pub const ASSET_FUNCTIONS: Functions = &[("asset_len", "ii:I"), ("asset_read", "iiIii:i")];

/// Calls to others; see `docs/abi.md`.
pub const FETCH_FUNCTIONS: Functions = &[
    ("begin", "ii:i"),
    ("drop", "i:"),
    ("fetch", "iiii:i"),
    ("fetch_error", "iii:i"),
    ("finish", "i:i"),
    ("head", "iii:i"),
    ("pipe", "i:i"),
    ("read", "iii:i"),
    ("wait", "iii:i"),
    ("write", "iii:i"),
];

/// Native kernels; see `docs/kernels.md`.
pub const KERNEL_FUNCTIONS: Functions =
    &[("gemm", "i:"), ("map", "i:"), ("plane", "i:"), ("version", ":i"), ("winograd", "i:")];

/// What Emscripten's programs import beside WASI (`-sSTANDALONE_WASM` with memory that grows); it does nothing.
pub const ENV_FUNCTIONS: Functions = &[("emscripten_notify_memory_growth", "i:")];

/// Every import module.
pub const MODULES: [(&str, Functions); 6] = [
    (WASI, WASI_FUNCTIONS),
    (ENV, ENV_FUNCTIONS),
    (mayfly_abi::MODULE_HTTP, HTTP_FUNCTIONS),
    (mayfly_abi::MODULE_ASSET, ASSET_FUNCTIONS),
    (mayfly_abi::MODULE_FETCH, FETCH_FUNCTIONS),
    (KERNELS, KERNEL_FUNCTIONS),
];

/// Why an import is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportError {
    /// No import module of that name; the text says what may be meant.
    Module(&'static str),
    /// The module has no such function.
    Name,
    /// It has, but of another type.
    Type {
        /// As it is imported, in WebAssembly's notation.
        found: String,
        /// As it has to be.
        expected: String,
    },
}

/// Checks one imported function.
///
/// # Errors
/// [`ImportError`] says whether module, name or type is unknown.
pub fn check(module: &str, name: &str, found: &FuncType) -> Result<(), ImportError> {
    let foreign = || ImportError::Module(meaning(module, name, found));
    let (_, functions) = MODULES.iter().find(|(known, _)| *known == module).ok_or_else(foreign)?;
    // What else is in `env` is nothing that we could have.
    let unknown = || if module == ENV { foreign() } else { ImportError::Name };
    let (_, expected) = functions.iter().find(|(n, _)| *n == name).ok_or_else(unknown)?;
    let (params, results) = expected.split_once(':').unwrap_or((expected, ""));
    let same = found.params().iter().copied().eq(types(params))
        && found.results().iter().copied().eq(types(results));
    if same {
        return Ok(());
    }
    Err(ImportError::Type {
        found: show(found.params().iter().copied(), found.results().iter().copied()),
        expected: show(types(params), types(results)),
    })
}

fn types(letters: &str) -> impl Iterator<Item = ValType> + '_ {
    letters.chars().map(|letter| match letter {
        'I' => ValType::I64,
        _ => ValType::I32,
    })
}

fn show(params: impl Iterator<Item = ValType>, results: impl Iterator<Item = ValType>) -> String {
    let join = |types: Vec<String>| types.join(" ");
    let params = join(params.map(|t| t.to_string()).collect());
    let results = join(results.map(|t| t.to_string()).collect());
    format!("[{params}] -> [{results}]")
}

/// The same type for the engine, to link a function of the lists above.
#[must_use]
pub fn linkable(engine: &wasmtime::Engine, letters: &str) -> wasmtime::FuncType {
    let (params, results) = letters.split_once(':').unwrap_or((letters, ""));
    let types = |letters: &str| -> Vec<wasmtime::ValType> {
        let one =
            |letter| if letter == 'I' { wasmtime::ValType::I64 } else { wasmtime::ValType::I32 };
        letters.chars().map(one).collect()
    };
    wasmtime::FuncType::new(engine, types(params), types(results))
}

/// What the author of a module with a foreign import probably did.
fn meaning(module: &str, name: &str, found: &FuncType) -> &'static str {
    match module {
        "wasi_unstable" => "it was made for an early draft of WASI; build it for wasm32-wasip1",
        // C's `abort` takes nothing, AssemblyScript's a message and a place.
        ENV if matches!((name, found.params().len()), ("abort", 4) | ("seed" | "trace", _)) => {
            "AssemblyScript left it to a host in JavaScript; build with its shim for WASI, by `asc --config \
             node_modules/@assemblyscript/wasi-shim/asconfig.json`"
        }
        ENV => {
            "the linker left a C symbol or an Emscripten import unresolved; build for wasm32-wasip1 and link it"
        }
        "wbg" | "__wbindgen_placeholder__" | "__wbindgen_externref_xform__" => {
            "it was made for a browser by wasm-bindgen; build it for wasm32-wasip1 without wasm-bindgen"
        }
        "rb-js-abi-host" | "canonical_abi" => {
            "it was made for a host in JavaScript, as Ruby's npm packages are; see docs/languages.md"
        }
        "gojs" | "go" => "it was made for a browser by Go; build it with GOOS=wasip1",
        "wasi_nn" | "wasi_ephemeral_nn" => {
            "Mayfly has no wasi-nn: run the model inside, by the crate `mayfly`"
        }
        "wasi" => {
            "threads are not offered; build it for wasm32-wasip1, not for wasm32-wasip1-threads"
        }
        name if name.starts_with("wasi:") => {
            "it is half of a component; build it for wasm32-wasip1"
        }
        name if name.starts_with("mayfly_") => {
            "this Mayfly does not know that version of its imports; update Mayfly, or use an older SDK"
        }
        _ => "Mayfly offers wasi_snapshot_preview1 and its own imports in docs/abi.md",
    }
}

/// Every import that a guest may have, linked once per process.
///
/// # Errors
/// Only if two definitions clash, which a test rules out.
pub fn linker(
    engine: &wasmtime::Engine,
    native_kernels: bool,
) -> wasmtime::Result<Linker<Sandbox>> {
    linker_with(engine, native_kernels, Unwatched)
}

/// The same for instances of a profile: each import tells its sandbox's probe when it begins and ends.
///
/// # Errors
/// As above.
pub fn watched_linker(
    engine: &wasmtime::Engine,
    native_kernels: bool,
) -> wasmtime::Result<Linker<Sandbox>> {
    linker_with(engine, native_kernels, Watched)
}

#[derive(Clone, Copy)]
struct Watched;

impl Watch<Sandbox> for Watched {
    type Span = Option<Span>;

    fn begin(
        self,
        caller: &Caller<'_, Sandbox>,
        module: &'static str,
        name: &'static str,
    ) -> Self::Span {
        let probe = caller.data().probe.clone()?;
        Some(Span::begin(probe, caller, module, name))
    }
}

fn linker_with(
    engine: &wasmtime::Engine,
    native_kernels: bool,
    watch: impl Watch<Sandbox>,
) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker, Sandbox::wasi, watch)?;
    linker.allow_shadowing(true);
    // WASI's takes a code above 125 for a trap; programs exit with 255 and -1, and mean it.
    linker.func_wrap(WASI, "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(I32Exit(code).into())
    })?;
    linker.allow_shadowing(false);
    reactor::add_to_linker(&mut linker, watch)?;
    asset::add_to_linker(&mut linker, watch)?;
    fetch::add_to_linker(&mut linker, watch)?;
    kernels::add_to_linker(&mut linker, native_kernels, Sandbox::pause, watch)?;
    Ok(linker)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn func(params: &str, results: &str) -> FuncType {
        FuncType::new(types(params), types(results))
    }

    #[test]
    fn a_refusal_says_what_is_unknown() {
        assert_eq!(check(WASI, "proc_exit", &func("i", "")), Ok(()));
        assert_eq!(check(WASI, "proc_exec", &func("i", "")), Err(ImportError::Name));
        assert!(matches!(
            check("wasi:http/types", "x", &func("", "")),
            Err(ImportError::Module(_))
        ));
        let wrong = check(mayfly_abi::MODULE_ASSET, "asset_len", &func("ii", "i"));
        let (found, expected) = ("[i32 i32] -> [i32]".into(), "[i32 i32] -> [i64]".into());
        assert_eq!(wrong, Err(ImportError::Type { found, expected }));
    }

    #[test]
    fn what_is_left_to_env_is_told_apart_by_who_left_it() {
        assert_eq!(check(ENV, "emscripten_notify_memory_growth", &func("i", "")), Ok(()));
        for (name, params, results, word) in [
            ("abort", "iiii", "", "AssemblyScript"),
            ("abort", "", "", "C symbol"),
            ("emscripten_resize_heap", "i", "i", "C symbol"),
            ("nope", "", "", "C symbol"),
        ] {
            let Err(ImportError::Module(meaning)) = check(ENV, name, &func(params, results)) else {
                panic!("{name} is taken")
            };
            assert!(meaning.contains(word), "{name}: {meaning}");
        }
    }
}
