//! Why a module is not taken, in words for the person who deploys it.

use crate::image::LayoutError;
use mayfly_core::limits::node;
use mayfly_core::units::human_size;
use mayfly_host::imports::ImportError;

/// Why a module is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Over the package limit.
    #[error("the module has {}, and the limit is {}", human_size(*.0), human_size(node::PACKAGE_BYTES))]
    TooLarge(u64),
    /// Something else than a core module.
    #[error("this is {what}, not a WebAssembly module")]
    Kind {
        /// What it looks like.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// Not valid under the features that are on.
    #[error("the module is not valid: {message} (at byte {offset})")]
    Invalid {
        /// The parser's words.
        message: String,
        /// Where in the file.
        offset: usize,
    },
    /// An import that is not a known function.
    #[error("the module imports {module}::{name}, which Mayfly does not offer{detail}", detail = import_detail(.error))]
    Import {
        /// Import module.
        module: String,
        /// Its item.
        name: String,
        /// What is wrong with it.
        error: ImportError,
    },
    /// An imported memory, table, global or tag.
    #[error("the module imports the {kind} {module}::{name}; only functions can be imported")]
    ImportKind {
        /// What it is.
        kind: &'static str,
        /// Import module.
        module: String,
        /// Its item.
        name: String,
    },
    /// None of the entry exports.
    #[error("the module has no entry: it exports neither `_start` nor `mayfly_handle`{}", exports(.0))]
    NoEntry(Vec<String>),
    /// A reactor without, or of another version of, the ABI's marker.
    #[error("{0}")]
    AbiVersion(String),
    /// An entry of a wrong type.
    #[error("the export `{name}` must be a function {expected}")]
    ExportType {
        /// The export.
        name: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// No memory, or not exported.
    #[error("the module must define one memory and export it as `memory`")]
    NoMemory,
    /// The memory it starts with is over the limit.
    #[error("the module needs {} of memory, and the limit is {}", mib(*.needs), mib(*.limit))]
    Memory {
        /// Bytes it starts with.
        needs: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The table it starts with is over the limit.
    #[error("the module needs a table of {needs} elements, and the limit is {limit}")]
    Table {
        /// Elements it starts with.
        needs: u64,
        /// Elements allowed.
        limit: u64,
    },
    /// More tables than a pool slot has.
    #[error("the module has {0} tables, and at most {max} can be used", max = node::TABLES)]
    Tables(usize),
    /// Data that are not within the memory.
    #[error(transparent)]
    Data(#[from] LayoutError),
    /// Globals, tables and segments that take too many steps to make.
    #[error("each request would take {0} steps to make the module's globals and tables, and at most {max} are allowed", max = node::STARTUP_STEPS)]
    Startup(u64),
    /// More of something than any compiler makes.
    #[error("the module has more than {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        most: usize,
    },
    /// Two sections of one name.
    #[error("the module carries the asset '{0}' twice")]
    AssetTwice(String),
    /// A name that is empty, too long or not UTF-8.
    #[error("the module carries an asset whose name is {0}")]
    AssetName(&'static str),
    /// Too many of them.
    #[error("the module carries {0} assets, and at most {max} are allowed", max = mayfly_abi::limits::ASSETS)]
    Assets(usize),
}

fn mib(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes.is_multiple_of(MIB) {
        return format!("{} MiB", bytes / MIB);
    }
    // Rounded up, so that the number is also one that suffices as a limit.
    format!("{}.{} MiB", bytes / MIB, (bytes % MIB * 10).div_ceil(MIB).min(9))
}

fn import_detail(error: &ImportError) -> String {
    match error {
        ImportError::Module(_) | ImportError::Name => String::new(),
        ImportError::Type { found, expected } => {
            format!(" as {found}: its type is {expected}")
        }
    }
}

fn exports(names: &[String]) -> String {
    match names {
        [] => " (it exports no function)".into(),
        _ => format!(" (its functions: {})", names.join(", ")),
    }
}

impl Refusal {
    /// The parser's error, which says nothing secret.
    #[must_use]
    pub fn from_parser(error: &wasmparser::BinaryReaderError) -> Self {
        Self::Invalid { message: error.message().to_owned(), offset: error.offset() }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::TooLarge(_) => "strip debug sections (`strip = true` in the profile), or make the model smaller".into(),
            Self::Kind { hint, .. } => (*hint).into(),
            Self::Invalid { message, .. } => invalid_hint(message).into(),
            Self::Import { error: ImportError::Module(meaning), .. } => (*meaning).into(),
            Self::Import { .. } => "the imports that there are stand in docs/abi.md; an SDK that is newer than this \
                Mayfly may want more"
                .into(),
            Self::ImportKind { .. } => "link the module so that it defines its own memory and tables".into(),
            Self::NoEntry(_) => "build a program with `main` for wasm32-wasip1, or a library with the crate `mayfly` \
                and `mayfly::export!`; see docs/abi.md"
                .into(),
            Self::AbiVersion(_) => "update Mayfly or the crate `mayfly`, so that both speak one version".into(),
            Self::ExportType { .. } | Self::NoMemory => "see the table of exports in docs/abi.md".into(),
            Self::Memory { needs, .. } => format!(
                "deploy with `--limit memory={}MiB`, or link with a smaller initial memory",
                needs.div_ceil(1 << 20)
            ),
            Self::Table { needs, .. } => format!("deploy with `--limit table={needs}`, if the node allows as many"),
            Self::Tables(_) => "link with one table for indirect calls, as current toolchains do".into(),
            Self::Data(_) => "give each data segment a place within the memory that the module starts with".into(),
            Self::Startup(_) => "give each element segment a constant offset within the table and a list of functions, and \
                each global a constant"
                .into(),
            Self::TooMany { .. } => "link it without what it does not use (`--gc-sections`, no `--export-all`), and without \
                what is made by the thousand"
                .into(),
            Self::AssetTwice(_) | Self::AssetName(_) | Self::Assets(_) => {
                "an asset is a custom section `mayfly.asset/<name>`, made by `mayfly::asset!`".into()
            }
        }
    }
}

fn invalid_hint(message: &str) -> &'static str {
    let off = [
        "threads",
        "shared",
        "memory64",
        "exceptions",
        "tail call",
        "multi-memory",
        "multiple memories",
        "gc",
    ];
    if message.contains("support is not enabled") || off.iter().any(|word| message.contains(word)) {
        return "the module uses a proposal that Mayfly keeps off; build it for wasm32-wasip1 with the default features \
            of your toolchain, plus simd128 and relaxed-simd if you like";
    }
    "the file may be damaged: build or copy it again"
}

/// Refuses what is not a core module, by the name of what it is.
pub(super) fn check_kind(bytes: &[u8]) -> Result<(), Refusal> {
    const BUILD: &str = "deploy the .wasm that `cargo build --target wasm32-wasip1` makes";
    const COMPONENT: &str = "Mayfly runs core modules: build for wasm32-wasip1, not wasm32-wasip2, and without \
        `wasm-tools component new`";
    let text = bytes.trim_ascii_start();
    let (what, hint) = match bytes {
        [] => ("an empty file", BUILD),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => return Ok(()),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => ("a WebAssembly component", COMPONENT),
        [0, b'a', b's', b'm', _, _, _, _, ..] => ("WebAssembly of an unknown version", BUILD),
        [0, b'a', b's', b'm', ..] => {
            ("the first bytes of a WebAssembly module", "the file is cut short: copy it again")
        }
        [0x7f, b'E', b'L', b'F', ..] => (
            "native code (an ELF file: a program, or a precompiled .cwasm)",
            "Mayfly runs no native code but what it compiled itself: deploy the .wasm",
        ),
        [b'M', b'Z', ..] => ("a Windows program", BUILD),
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => {
            ("a macOS program", BUILD)
        }
        [b'P', b'K', 3 | 5, ..] => ("a zip archive", "unpack it and deploy the .wasm inside"),
        [0x1f, 0x8b, ..] => ("gzip-compressed", "unpack it with gunzip first"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("zstd-compressed", "unpack it with unzstd first"),
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => ("a static library (.a)", BUILD),
        [b'#', b'!', ..] => ("a script", BUILD),
        _ if text.starts_with(b"(module")
            || text.starts_with(b"(component")
            || text.starts_with(b";;") =>
        {
            ("WebAssembly text", "make it binary with `wat2wasm` or `wasm-tools parse`")
        }
        _ if text.starts_with(b"<") => (
            "an HTML or XML page",
            "it may be a server's error page that was saved in place of the file",
        ),
        _ if text.starts_with(b"{") || text.starts_with(b"[") => ("JSON", BUILD),
        _ if text.starts_with(b"version https://git-lfs") => {
            ("a Git LFS pointer", "run `git lfs pull` first")
        }
        _ => {
            let start = hex::encode(&bytes[..bytes.len().min(4)]);
            return Err(Refusal::Kind {
                what: format!("an unknown kind of file (it starts with {start})"),
                hint: BUILD,
            });
        }
    };
    Err(Refusal::Kind { what: what.into(), hint })
}
