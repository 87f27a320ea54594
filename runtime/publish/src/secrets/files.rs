//! A directory with a file for each secret.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use mayfly_core::limits::node;
use mayfly_core::record::check_secret_name;
use mayfly_store::secrets::Value;

use super::Kept;

/// What is in the directory: each file whose name may be a secret's. Links are followed, because Kubernetes swaps a link
/// to change all files at once. One line end at a file's end is no part of its value.
///
/// # Errors
/// Why the directory cannot be read.
pub(super) fn read(dir: &Path) -> Result<BTreeMap<String, Kept>, String> {
    let entries = fs::read_dir(dir)
        .map_err(|why| format!("secrets.dir: {} cannot be read: {why}", dir.display()))?;
    let named = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let is_file = fs::metadata(entry.path()).ok()?.is_file();
        (is_file && check_secret_name(&name).is_ok()).then(|| (name, entry.path()))
    });
    Ok(named.take(node::SECRETS).map(|(name, path)| (name, kept(&path))).collect())
}

/// The names of those that are not as they were.
pub(super) fn changed(
    before: &BTreeMap<String, Kept>,
    now: &BTreeMap<String, Kept>,
) -> Vec<String> {
    let value = |of: &BTreeMap<String, Kept>, name: &str| of.get(name).map(|k| k.value.clone());
    let names: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let changed = names.into_iter().filter(|name| value(before, name) != value(now, name));
    changed.cloned().collect()
}

fn kept(path: &Path) -> Kept {
    let modified = fs::metadata(path).and_then(|file| file.modified()).ok();
    let since = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let set_unix_s = since.map_or(0, |since| since.as_secs());
    Kept { value: value(path), set_unix_s }
}

fn value(path: &Path) -> Result<Value, String> {
    let told = |why: &dyn std::fmt::Display| format!("{} cannot be used: {why}", path.display());
    let mut text = String::new();
    // A pipe that nobody writes to is not waited for.
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|why| told(&why))?;
    let most = node::SECRET_BYTES as u64 + 2;
    file.take(most).read_to_string(&mut text).map_err(|why| told(&why))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || text.contains('\0') || text.len() > node::SECRET_BYTES {
        return Err(told(&"it is empty, has a NUL, or has more than 64 KiB"));
    }
    Ok(Value::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_their_changes_found() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("A", "one\n");
        write("B", "two\n\n");
        write("EMPTY", "\n");
        write("not-a-name", "x");
        fs::create_dir(dir.path().join("DIR")).unwrap();
        let before = read(dir.path()).unwrap();
        assert_eq!(before.keys().collect::<Vec<_>>(), ["A", "B", "EMPTY"]);
        assert_eq!(before["A"].value.as_ref().unwrap().reveal(), "one");
        assert_eq!(before["B"].value.as_ref().unwrap().reveal(), "two\n");
        assert!(before["EMPTY"].value.is_err());
        assert!(changed(&before, &read(dir.path()).unwrap()).is_empty());
        write("A", "other");
        write("C", "new");
        fs::remove_file(dir.path().join("B")).unwrap();
        assert_eq!(changed(&before, &read(dir.path()).unwrap()), ["A", "B", "C"]);
        assert!(read(&dir.path().join("nowhere")).unwrap_err().contains("nowhere"));
    }
}
