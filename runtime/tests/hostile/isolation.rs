//! The quick part of `mayfly verify isolation`; `make soak` runs the long one.

use std::process::Command;

use crate::rig::soak;

#[test]
fn no_instance_sees_what_another_one_left() {
    for slots in ["1", "3"] {
        let alternations = (600 * soak()).to_string();
        // A process of its own: it has another pool, and a process has one engine.
        let done = Command::new(env!("CARGO_BIN_EXE_mayfly"))
            .args(["verify", "isolation", "--output", "json", "--alternations", &alternations])
            .args(["--slots", slots])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&report["hits"], &report["repeats"]), (&0.into(), &0.into()), "{text}");
        assert_eq!(report["alternations"], 600 * soak(), "{text}");
        assert_eq!(
            (&report["hashes"], &report["hash_repeats"]),
            (&(600 * soak()).into(), &0.into())
        );
    }
}
