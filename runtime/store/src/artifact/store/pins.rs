//! Files that a publish is about to refer to. No row names them until its trial has ended, which takes seconds, and no
//! other publish's or removal's housekeeping may take them meanwhile.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use mayfly_core::Digest;
use parking_lot::Mutex;

use super::{ArtifactStore, Kind};

/// Files, and how many hold each.
pub(super) type Pinned = Arc<Mutex<HashMap<(Kind, Digest), usize>>>;

/// Keeps some files from being removed; they are free again when this is dropped.
#[derive(Debug)]
pub struct Pins {
    pinned: Pinned,
    files: Vec<(Kind, Digest)>,
}

impl ArtifactStore {
    /// Keeps these files, whether they are there already or not.
    #[must_use]
    pub fn pin(&self, files: &[(Kind, Digest)]) -> Pins {
        let mut pinned = self.pinned.lock();
        for file in files {
            *pinned.entry(*file).or_default() += 1;
        }
        Pins { pinned: self.pinned.clone(), files: files.to_vec() }
    }

    /// Removes a file that nobody keeps; says whether it did. Under the lock: who pins a file that is being removed
    /// writes it anew after that.
    pub(super) fn remove_unpinned(&self, kind: Kind, digest: Option<Digest>, path: &Path) -> bool {
        let pinned = self.pinned.lock();
        let kept = digest.is_some_and(|digest| pinned.contains_key(&(kind, digest)));
        !kept && fs::remove_file(path).is_ok()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut pinned = self.pinned.lock();
        for file in &self.files {
            if let Some(holders) = pinned.get_mut(file) {
                *holders -= 1;
                if *holders == 0 {
                    pinned.remove(file);
                }
            }
        }
    }
}
