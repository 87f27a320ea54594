//! The directory that holds the node's secrets, its functions' variables among them: nobody else's to read, whatever it
//! was before.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The folder inside of a directory that is not the node's alone: the root of a volume, which belongs to who mounts it.
const INSIDE: &str = "mayfly";

/// Files that say that a directory is a node's.
const OURS: [&str; 3] = ["mac.key", "token", "mayfly.redb"];

/// Where state is kept, and what had to be done for it to be private.
#[derive(Debug)]
pub struct StateDir {
    /// The directory.
    pub path: PathBuf,
    /// For the log; empty if nothing had to be done.
    pub mended: Vec<String>,
}

/// From now on what this process makes is its user's alone.
pub fn make_files_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Makes the directory that the operator names, with mode 0700. One of our own that others could enter is closed, with
/// what is in it. In one that is another's, or holds other things, a folder is made.
///
/// # Errors
/// What the file system says.
pub fn prepare(named: &Path) -> io::Result<StateDir> {
    DirBuilder::new().recursive(true).mode(0o700).create(named)?;
    let mut mended = Vec::new();
    let mut path = named.to_owned();
    if !is_ours(named)? {
        path.push(INSIDE);
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let metadata = fs::symlink_metadata(&path)?;
        // A link that somebody else has put there would lead the node's secrets to them.
        if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
            let why = format!("{} is not a directory of this user", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        mended.push(format!(
            "{} is not this node's alone: its state is in {}",
            named.display(),
            path.display()
        ));
    }
    close(&path, 0o700, &mut mended)?;
    // Once nobody else can enter, what is in it cannot change under us.
    for entry in fs::read_dir(&path)?.flatten() {
        close_inside(&entry.path(), &mut mended)?;
    }
    Ok(StateDir { path, mended })
}

/// Where a file of the state directory is, for the command line, which may be another user.
#[must_use]
pub fn locate(named: &Path, file: &str) -> PathBuf {
    let (outside, inside) = (named.join(file), named.join(INSIDE).join(file));
    if !outside.exists() && inside.exists() { inside } else { outside }
}

/// Whether a directory belongs to us and holds a node's state, or nothing yet.
fn is_ours(dir: &Path) -> io::Result<bool> {
    if fs::metadata(dir)?.uid() != geteuid().as_raw() {
        return Ok(false);
    }
    Ok(OURS.iter().any(|file| dir.join(file).exists()) || fs::read_dir(dir)?.next().is_none())
}

/// Closes a file, or a directory of files: a volume's group may have been given all of them while it was mounted.
fn close_inside(path: &Path, mended: &mut Vec<String>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.uid() != geteuid().as_raw() {
        return Ok(());
    }
    if metadata.is_file() {
        return close(path, metadata.mode() & 0o600, mended);
    }
    if metadata.is_dir() {
        close(path, 0o700, mended)?;
        let mut files = 0;
        for entry in fs::read_dir(path)?.flatten() {
            let metadata = entry.metadata()?;
            if metadata.is_file()
                && metadata.uid() == geteuid().as_raw()
                && metadata.mode() & 0o077 != 0
            {
                // Written whole and never changed.
                fs::set_permissions(entry.path(), Permissions::from_mode(0o400))?;
                files += 1;
            }
        }
        if files > 0 {
            mended.push(format!("{files} files in {} were open to others", path.display()));
        }
    }
    Ok(())
}

fn close(path: &Path, mode: u32, mended: &mut Vec<String>) -> io::Result<()> {
    let now = fs::metadata(path)?.mode() & 0o777;
    if now & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        mended.push(format!("{} had mode {now:04o}, and has {mode:04o} now", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn open_to_all(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_of_our_own_is_closed_with_all_that_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("a/state");
        let state = prepare(&named).unwrap();
        assert_eq!((&state.path, state.mended.len(), mode(&named)), (&named, 0, 0o700));
        let (wasm, file) = (named.join("wasm"), named.join("wasm/x.wasm"));
        fs::create_dir(&wasm).unwrap();
        for path in [&named.join("token"), &named.join("mayfly.redb"), &file] {
            fs::write(path, "x").unwrap();
            open_to_all(path, 0o664);
        }
        open_to_all(&wasm, 0o2775);
        open_to_all(&named, 0o755);
        let state = prepare(&named).unwrap();
        assert_eq!(state.path, named);
        assert_eq!(state.mended.len(), 5, "{:?}", state.mended);
        let modes = ["", "token", "mayfly.redb", "wasm"].map(|name| mode(&named.join(name)));
        assert_eq!((modes, mode(&file)), ([0o700, 0o600, 0o600, 0o700], 0o400));
        assert!(prepare(&named).unwrap().mended.is_empty());
        assert_eq!(locate(&named, "token"), named.join("token"));
    }

    #[test]
    fn in_a_directory_with_other_things_a_folder_is_made() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        open_to_all(dir.path(), 0o2775);
        let state = prepare(dir.path()).unwrap();
        assert_eq!((state.path.clone(), state.mended.len()), (dir.path().join(INSIDE), 1));
        assert_eq!((mode(&state.path), mode(dir.path())), (0o700, 0o775));
        fs::write(state.path.join("token"), "x").unwrap();
        assert_eq!(prepare(dir.path()).unwrap().path, state.path);
        assert_eq!(locate(dir.path(), "token"), state.path.join("token"));
        // Somebody who can write there must not be able to choose where secrets go.
        fs::remove_dir_all(&state.path).unwrap();
        std::os::unix::fs::symlink(dir.path().join("lost+found"), &state.path).unwrap();
        assert!(prepare(dir.path()).is_err());
    }

    #[test]
    fn in_a_volume_that_is_anothers_a_folder_is_made() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(12_345), Some(12_345)).unwrap();
        open_to_all(dir.path(), 0o2775);
        let state = prepare(dir.path()).unwrap();
        assert_eq!((mode(&state.path), mode(dir.path())), (0o700, 0o775));
        assert_eq!(state.path, dir.path().join(INSIDE));
    }
}
