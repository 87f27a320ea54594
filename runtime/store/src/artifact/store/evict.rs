//! Keeping within the budget and the disk: what is used least goes first, and nothing that serves ever does.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use mayfly_core::Digest;
use mayfly_core::limits::node;
use mayfly_core::units::human_size;

use super::{ArtifactStore, Kind, StoreError, TEMPORARY};

struct Listed {
    kind: Kind,
    digest: Option<Digest>,
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl ArtifactStore {
    /// Removes uploads and code that no revision refers to and no publish keeps.
    pub fn sweep(&self, referenced: &HashSet<(Kind, Digest)>) {
        for file in self.list() {
            let known = file.digest.is_some_and(|digest| referenced.contains(&(file.kind, digest)));
            if file.kind != Kind::Cache && !known {
                self.remove_unpinned(file.kind, file.digest, &file.path);
            }
        }
    }

    /// Makes room for `needs` more bytes, within the store's budget and on the disk, by removing what is used least.
    ///
    /// # Errors
    /// [`StoreError::Full`] when what is left belongs to current revisions.
    pub fn make_room(
        &self,
        needs: u64,
        current: &HashSet<(Kind, Digest)>,
    ) -> Result<(), StoreError> {
        self.evict(needs, |f| f.digest.is_none_or(|digest| !current.contains(&(f.kind, digest))))
    }

    /// Makes room for a cache by removing other caches only. No row refers to those, so it needs to know of none, and
    /// may be done while a publish is between its files and its row.
    ///
    /// # Errors
    /// [`StoreError::Full`] when uploads and code leave no room.
    pub(super) fn make_room_for_cache(&self, needs: u64) -> Result<(), StoreError> {
        self.evict(needs, |file| file.kind == Kind::Cache)
    }

    fn evict(&self, needs: u64, may_go: impl Fn(&Listed) -> bool) -> Result<(), StoreError> {
        let mut files = self.list();
        let mut used: u64 = files.iter().map(|file| file.bytes).sum();
        let mut free = self.free()?;
        let on_disk = needs.saturating_add(node::STORE_RESERVE_BYTES);
        files.retain(may_go);
        files.sort_by_key(|file| (file.kind, file.used));
        for file in files {
            if used.saturating_add(needs) <= self.budget && free >= on_disk {
                return Ok(());
            }
            if self.remove_unpinned(file.kind, file.digest, &file.path) {
                tracing::info!(path = %file.path.display(), bytes = file.bytes, "evicted from the store");
                used = used.saturating_sub(file.bytes);
                free = self.free()?;
            }
        }
        let full = |why| Err(StoreError::Full { needs, dir: self.dir.clone(), why });
        if used.saturating_add(needs) > self.budget {
            return full(format!(
                "current functions take {} of the store's {}",
                human_size(used),
                human_size(self.budget)
            ));
        }
        if free < on_disk {
            return Err(StoreError::disk(needs, &self.dir, free));
        }
        Ok(())
    }

    fn free(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::statvfs(&self.dir)
            .map_err(|e| StoreError::io("asking for room in", &self.dir, e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn list(&self) -> Vec<Listed> {
        let mut files = Vec::new();
        for kind in Kind::ALL {
            let Ok(entries) = fs::read_dir(self.dir.join(kind.dir())) else { continue };
            for entry in entries.flatten() {
                // Of the link itself, if it is one.
                let Ok(metadata) = entry.metadata() else { continue };
                let name = entry.file_name();
                let name = name.to_string_lossy();
                // Another publish is writing it.
                if !metadata.is_file() || name.starts_with(TEMPORARY) {
                    continue;
                }
                let digest = name.split('.').next().and_then(|digits| digits.parse().ok());
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push(Listed {
                    kind,
                    digest,
                    path: entry.path(),
                    bytes: metadata.len(),
                    used,
                });
            }
        }
        files
    }
}
