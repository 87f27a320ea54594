//! Packages: a script that imports some is made one file by the esbuild that its author has.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::{Failure, code};

/// Where npm puts programs.
const BIN: &str = "node_modules/.bin/esbuild";

/// The script's own esbuild, in a `node_modules` beside it or above; else the one on the path.
pub(super) fn find(script: &Path) -> Option<PathBuf> {
    let script = std::path::absolute(script).ok()?;
    let own = script.ancestors().skip(1).map(|dir| dir.join(BIN)).find(|path| path.is_file());
    own.or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join("esbuild")).find(|path| path.is_file())
    })
}

/// The script and all that it imports as one module.
///
/// # Errors
/// What esbuild says.
pub(super) fn run(esbuild: &Path, script: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| {
        Failure::new(code::FAILED, format!("{} of {}: {why}", esbuild.display(), script.display()))
    };
    let done = Command::new(esbuild)
        .arg(script)
        .args(["--bundle", "--format=esm", "--target=es2023", "--platform=neutral"])
        .args(["--main-fields=module,main", "--conditions=worker,browser", "--log-level=warning"])
        .args([
            "--loader:.txt=text",
            "--loader:.html=text",
            "--loader:.css=text",
            "--loader:.md=text",
        ])
        .output()
        .map_err(|why| failed(why.to_string()))?;
    if !done.status.success() {
        return Err(failed(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
    }
    Ok(done.stdout)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_one_beside_the_script_is_taken_and_its_words_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("src/app.ts");
        let own = dir.path().join(BIN);
        for path in [&script, &own] {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        std::fs::write(&script, "").unwrap();
        std::fs::write(
            &own,
            "#!/bin/sh\ncase $1 in *app.ts) echo bundled;; *) echo no such >&2; exit 1;; esac\n",
        )
        .unwrap();
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(&script).as_deref(), Some(own.as_path()));
        assert_eq!(run(&own, &script).unwrap(), b"bundled\n");
        let why = run(&own, &dir.path().join("other.js")).unwrap_err().text;
        assert!(why.contains("other.js: no such"), "{why}");
    }
}
