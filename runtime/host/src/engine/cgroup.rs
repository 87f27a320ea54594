//! How much memory there is: the machine's, and the limit of the control group that this process is in.

use std::path::{Path, PathBuf};

/// The machine's memory in bytes.
pub fn machine_memory() -> Option<u64> {
    total(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The lowest limit in bytes between this process's group and the root of what it can see, if there is any: a limit
/// counts wherever above the process it was set.
pub fn memory_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    lowest(Path::new("/sys/fs/cgroup"), &groups)
}

/// `groups` has lines of `hierarchy:controllers:path`; version 2 names no controllers.
fn lowest(mount: &Path, groups: &str) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (root, file) = if controllers.is_empty() {
            (mount.to_owned(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (mount.join("memory"), "memory.limit_in_bytes")
        } else {
            return None;
        };
        lowest_above(&root, path, file)
    });
    limits.min()
}

/// Groups that are not there are not visible from in here (a container sees its own as the root).
fn lowest_above(root: &Path, path: &str, file: &str) -> Option<u64> {
    let below: PathBuf = path.split('/').filter(|part| !matches!(*part, "" | ".." | ".")).collect();
    let read = |group: &Path| {
        std::fs::read_to_string(root.join(group).join(file)).ok()?.trim().parse().ok()
    };
    below.ancestors().filter_map(read).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up mount: each path with what its file says.
    fn mount(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn the_machines_memory_is_in_kibibytes() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:        2048 kB\n"), Some(2 << 20));
        assert_eq!(total(""), None);
    }

    #[test]
    fn the_lowest_limit_above_the_process_counts() {
        let unit = mount(&[
            ("system.slice/memory.max", "4294967296\n"),
            ("system.slice/mayfly.service/memory.max", "1073741824\n"),
            ("user.slice/memory.max", "1\n"),
        ]);
        assert_eq!(lowest(unit.path(), "0::/system.slice/mayfly.service\n"), Some(1 << 30));
        let slice = mount(&[
            ("a/memory.max", "1000\n"),
            ("a/b/memory.max", "max\n"),
            ("a/b/c/memory.max", "2000\n"),
        ]);
        assert_eq!(lowest(slice.path(), "0::/a/b/c\n"), Some(1000));
        assert_eq!(lowest(slice.path(), "0::/\n"), None);
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let own = mount(&[("memory.max", "512\n")]);
        for path in ["/", "/docker/abc", "/../../docker/abc"] {
            assert_eq!(lowest(own.path(), &format!("0::{path}\n")), Some(512), "{path}");
        }
    }

    #[test]
    fn the_first_version_has_a_hierarchy_for_memory() {
        let first = mount(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/a/memory.limit_in_bytes", "700\n"),
        ]);
        let groups = "9:name=systemd:/x\n4:cpu,memory:/a\n3:cpuset:/\n0::/\n";
        assert_eq!(lowest(first.path(), groups), Some(700));
        assert_eq!(lowest(first.path(), ""), None);
    }
}
