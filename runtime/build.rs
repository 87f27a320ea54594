//! Packs what `mayfly new` writes, templates and SDKs, into one compressed file: 1.1 MB of text are 0.26 in the binary.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Directories and files, from the repository's root, and what their files are called in the pack.
const PACKED: &[(&str, &str)] = &[
    ("runtime/src/dev/templates", "templates"),
    ("Cargo.toml", "sdk/Cargo.toml"),
    ("guest-sdk", "sdk/guest-sdk"),
];

fn main() -> io::Result<()> {
    // Asked when it runs: a checkout that was moved keeps the script that was compiled where it stood before.
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..");
    let mut files = Vec::new();
    for (from, to) in PACKED {
        println!("cargo::rerun-if-changed=../{from}");
        collect(&root.join(from), Path::new(to), &mut files)?;
    }
    files.sort();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("pack.gz");
    let mut pack = GzEncoder::new(fs::File::create(out)?, Compression::best());
    for (name, path) in files {
        let bytes = fs::read(&path)?;
        // `src/dev/template.rs` reads this.
        writeln!(pack, "{} {}", bytes.len(), name.display())?;
        pack.write_all(&bytes)?;
    }
    pack.finish()?.sync_all()
}

fn collect(path: &Path, name: &Path, files: &mut Vec<(PathBuf, PathBuf)>) -> io::Result<()> {
    if !path.is_dir() {
        files.push((name.to_owned(), path.to_owned()));
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let inner = entry.file_name();
        // Tests of the SDK are ours, and a build there is nobody's.
        let left_out = ["tests", "tests.rs", "examples", "target"].iter().any(|out| inner == *out);
        if !(left_out && name.starts_with("sdk")) {
            collect(&entry.path(), &name.join(&inner), files)?;
        }
    }
    Ok(())
}
