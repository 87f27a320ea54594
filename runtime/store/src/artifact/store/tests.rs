use std::collections::HashSet;
use std::io::Read as _;
use std::os::unix::fs::symlink;

use super::*;

fn open(dir: &Path) -> ArtifactStore {
    ArtifactStore::open(dir, 1 << 30).unwrap()
}

fn key(n: u8) -> ArtifactKey {
    ArtifactKey(Digest::of(&[n]))
}

fn private() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn what_is_put_is_found_again_after_a_restart() {
    let dir = private();
    let store = open(dir.path());
    let mac = store.put_artifact(key(1), b"code").unwrap();
    let digest = Digest::of(b"wasm");
    store.put_wasm(digest, b"wasm").unwrap();
    drop(store);
    let store = open(dir.path());
    let artifact = store.open_artifact(key(1), &mac).unwrap();
    let mut code = Vec::new();
    artifact.open_file().unwrap().read_to_end(&mut code).unwrap();
    assert_eq!((code.as_slice(), artifact.bytes()), (&b"code"[..], 4));
    assert_eq!(store.read_wasm(digest).unwrap(), "wasm");
}

/// Replaces a file's contents as an intruder would, its mode notwithstanding.
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn every_bit_of_an_artifact_counts() {
    let dir = private();
    let store = open(dir.path());
    let code: Vec<u8> = (0..700_u32).map(|n| n.wrapping_mul(37).to_le_bytes()[0]).collect();
    let mac = store.put_artifact(key(1), &code).unwrap();
    let path = store.path(Kind::Artifact, key(1).0);
    let mut refused = 0;
    for bit in 0..8 * code.len() {
        let mut bad = code.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        overwrite(&path, &bad);
        refused += usize::from(store.open_artifact(key(1), &mac).is_err());
    }
    assert_eq!(refused, 5600);
    overwrite(&path, &code);
    assert!(store.open_artifact(key(1), &mac).is_ok());
}

#[test]
fn every_change_to_an_artifact_is_noticed() {
    let dir = private();
    let store = open(dir.path());
    let mac = store.put_artifact(key(1), b"native code").unwrap();
    let other = store.put_artifact(key(2), b"other code!").unwrap();
    let path = store.path(Kind::Artifact, key(1).0);
    for byte in 0..11 {
        let mut bad = b"native code".to_vec();
        bad[byte] ^= 1;
        overwrite(&path, &bad);
        assert!(matches!(store.open_artifact(key(1), &mac), Err(Reject::Changed)), "{byte}");
    }
    for bad in [&b"native cod"[..], b"native code.", b""] {
        overwrite(&path, bad);
        assert!(matches!(store.open_artifact(key(1), &mac), Err(Reject::Changed)));
    }
    overwrite(&path, b"other code!");
    assert!(store.open_artifact(key(1), &other).is_err(), "two functions' files swapped");
    overwrite(&path, b"native code");
    assert!(store.open_artifact(key(1), &mac).is_ok());
}

#[test]
fn links_and_files_that_others_may_write_are_refused() {
    let dir = private();
    let store = open(dir.path());
    let mac = store.put_artifact(key(1), b"code").unwrap();
    let path = store.path(Kind::Artifact, key(1).0);
    fs::set_permissions(&path, Permissions::from_mode(0o420)).unwrap();
    assert!(matches!(store.open_artifact(key(1), &mac), Err(Reject::NotOurs)));
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    assert!(matches!(store.open_artifact(key(1), &mac), Err(Reject::NotOurs)));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(store.open_artifact(key(1), &mac).is_err());
    fs::remove_dir(&path).unwrap();
    assert!(matches!(store.open_artifact(key(1), &mac), Err(Reject::Missing)));
}

#[test]
fn a_secret_of_another_node_proves_nothing() {
    let (one, two) = (private(), private());
    let mac = open(one.path()).put_artifact(key(1), b"code").unwrap();
    let store = open(two.path());
    store.put_artifact(key(1), b"code").unwrap();
    assert!(matches!(store.open_artifact(key(1), &mac), Err(Reject::Changed)));
}

#[test]
fn a_damaged_upload_is_noticed_and_replaced() {
    let dir = private();
    let store = open(dir.path());
    let digest = Digest::of(b"wasm");
    store.put_wasm(digest, b"wasm").unwrap();
    overwrite(&store.path(Kind::Wasm, digest), b"wasn");
    assert!(matches!(store.read_wasm(digest), Err(Reject::Changed)));
    store.put_wasm(digest, b"wasm").unwrap();
    assert_eq!(store.read_wasm(digest).unwrap(), "wasm");
}

#[test]
fn a_cache_that_was_changed_is_an_empty_one() {
    let dir = private();
    let store = open(dir.path());
    store.put_cache(key(1), b"compiled functions").unwrap();
    assert_eq!(store.read_cache(key(1)), "compiled functions");
    let path = store.path(Kind::Cache, key(1).0);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    overwrite(&path, &bytes);
    assert_eq!(store.read_cache(key(1)), "");
    assert!(!path.exists(), "it is purged");
    overwrite_new(&path, b"short");
    assert_eq!(store.read_cache(key(1)), "");
    assert_eq!(store.read_cache(key(2)), "");
}

fn overwrite_new(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn unfinished_files_are_removed_at_start() {
    let dir = private();
    let store = open(dir.path());
    let stale = dir.path().join("artifacts/tmp-half");
    fs::write(&stale, b"half").unwrap();
    drop(store);
    open(dir.path());
    assert!(!stale.exists());
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let dir = private();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let error = ArtifactStore::open(dir.path(), 1 << 30).unwrap_err();
    assert!(error.to_string().contains("others may write to it"), "{error}");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    open(dir.path());
    let secret = dir.path().join("mac.key");
    let whole = fs::read(&secret).unwrap();
    for bytes in [0, 31, 33] {
        fs::write(&secret, vec![7; bytes]).unwrap();
        let error = ArtifactStore::open(dir.path(), 1 << 20).map(drop).unwrap_err().to_string();
        let named = format!("{} is damaged: it has {bytes} bytes", secret.display());
        assert!(error.starts_with(&named) && error.contains("or remove it"), "{error}");
    }
    fs::write(&secret, whole).unwrap();
    assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o600);
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
    assert!(ArtifactStore::open(dir.path(), 1 << 30).is_err());
}

#[test]
fn the_least_used_goes_first_and_what_is_current_stays() {
    let dir = private();
    let store = ArtifactStore::open(dir.path(), 1000).unwrap();
    let blob = |n: u8| vec![n; 200];
    for n in 1..=3 {
        store.put_artifact(key(n), &blob(n)).unwrap();
        let file = File::open(store.path(Kind::Artifact, key(n).0)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n.into()))
            .unwrap();
    }
    store.put_cache(key(9), &blob(9)).unwrap();
    let current = HashSet::from([(Kind::Artifact, key(1).0)]);
    let there = |kind, n: u8| store.path(kind, key(n).0).exists();
    store.make_room(100, &current).unwrap();
    assert!(there(Kind::Cache, 9), "there was room");
    store.make_room(300, &current).unwrap();
    assert!(!there(Kind::Cache, 9), "caches go first");
    assert!(there(Kind::Artifact, 2));
    store.make_room(500, &current).unwrap();
    assert!(!there(Kind::Artifact, 2) && there(Kind::Artifact, 3), "then the oldest artifact");
    let error = store.make_room(900, &current).unwrap_err();
    assert!(there(Kind::Artifact, 1), "never what is current");
    assert!(error.to_string().contains("current functions take"), "{error}");
}

#[test]
fn caches_stay_within_the_budget_and_cost_caches_only() {
    let dir = private();
    let store = ArtifactStore::open(dir.path(), 1000).unwrap();
    store.put_artifact(key(1), &[1; 400]).unwrap();
    let there = |kind, n: u8| store.path(kind, key(n).0).exists();
    for n in 2..=6 {
        store.put_cache(key(n), &[n; 200]).unwrap();
        let file = File::open(store.path(Kind::Cache, key(n).0)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n.into()))
            .unwrap();
        let files = fs::read_dir(dir.path().join("cache")).unwrap().flatten();
        let used: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
        assert!(used <= 600, "{used} bytes of caches");
    }
    assert!(there(Kind::Cache, 6) && there(Kind::Cache, 5) && !there(Kind::Cache, 4));
    assert!(matches!(store.put_cache(key(7), &[7; 700]), Err(StoreError::Full { .. })));
    assert!(there(Kind::Artifact, 1) && !there(Kind::Cache, 7), "code is worth more");
    store.put_cache(key(8), &vec![0; node::CODE_CACHE_BYTES + 1]).unwrap();
    assert!(!there(Kind::Cache, 8), "what would not be read back is not kept");
}

#[test]
fn a_sweep_removes_what_nobody_refers_to() {
    let dir = private();
    let store = open(dir.path());
    store.put_artifact(key(1), b"a").unwrap();
    store.put_artifact(key(2), b"b").unwrap();
    store.put_cache(key(3), b"c").unwrap();
    store.sweep(&HashSet::from([(Kind::Artifact, key(1).0)]));
    assert!(store.path(Kind::Artifact, key(1).0).exists());
    assert!(!store.path(Kind::Artifact, key(2).0).exists());
    assert!(store.path(Kind::Cache, key(3).0).exists());
}

#[test]
fn neither_a_sweep_nor_want_of_room_takes_what_is_pinned() {
    let dir = private();
    let store = open(dir.path());
    let path = store.path(Kind::Artifact, key(1).0);
    // Before there is a file: whoever pins writes after that.
    let pins = store.pin(&[(Kind::Artifact, key(1).0)]);
    let twice = store.pin(&[(Kind::Artifact, key(1).0)]);
    store.put_artifact(key(1), b"a").unwrap();
    store.put_artifact(key(2), b"b").unwrap();
    drop(twice);
    store.sweep(&HashSet::new());
    assert!(path.exists() && !store.path(Kind::Artifact, key(2).0).exists());
    assert!(store.make_room(1 << 30, &HashSet::new()).is_err());
    assert!(path.exists());
    drop(pins);
    store.sweep(&HashSet::new());
    assert!(!path.exists());
}
