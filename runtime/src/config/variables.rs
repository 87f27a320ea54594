//! Variables that look like Mayfly's and are none: most are one letter off.

use super::KEYS;

/// What all of Mayfly's variables begin with.
const PREFIX: &str = "MAYFLY_";
/// Letters by which a name may be off, and length of one that is looked at.
pub(super) const OFF: usize = 2;
const LONGEST: usize = 64;

/// A line for each name that is none of Mayfly's and close to one that is. Others are let be: Kubernetes makes variables of
/// services' names, `MAYFLY_PORT` among them. `known` are those beside the keys'.
#[must_use]
pub fn misspelt(given: impl IntoIterator<Item = String>, known: &[&str]) -> Vec<String> {
    let keys: Vec<_> = KEYS.iter().map(super::Key::env).collect();
    let all =
        || keys.iter().map(String::as_str).chain(["MAYFLY_CONFIG"]).chain(known.iter().copied());
    let mut names: Vec<_> = given
        .into_iter()
        .filter(|name| name.starts_with(PREFIX) && name.len() <= LONGEST)
        .filter(|name| !all().any(|known| known == name))
        .collect();
    names.sort();
    let lines = names.iter().filter_map(|name| {
        let nearest = all().min_by_key(|known| distance(name, known))?;
        let near = distance(name, nearest) <= OFF;
        // One that names a key without its table.
        let rest = name.strip_prefix("MAYFLY").unwrap_or_default();
        let meant = if near { Some(nearest) } else { all().find(|known| known.ends_with(rest)) };
        Some(format!("the variable {name} is none that Mayfly reads: did you mean {}?", meant?))
    });
    lines.collect()
}

/// Letters to add, drop or change (Levenshtein); underscores are free.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let letters = |name: &str| name.bytes().filter(|byte| *byte != b'_').collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = before + usize::from(x != y);
            before = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(before + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str) -> Option<String> {
        misspelt([name.to_owned()], &["MAYFLY_ADMIN", "MAYFLY_TOKEN"]).pop()
    }

    #[test]
    fn a_name_that_is_off_is_told_the_nearest() {
        for (name, meant) in [
            ("MAYFLY_STATEDIR", "MAYFLY_STATE_DIR"),
            ("MAYFLY_GATEWAY_LISTN", "MAYFLY_GATEWAY_LISTEN"),
            ("MAYFLY_LOG_LEVELS", "MAYFLY_LOG_LEVEL"),
            ("MAYFLY_TOKN", "MAYFLY_TOKEN"),
            ("MAYFLY_SLOTS", "MAYFLY_ENGINE_SLOTS"),
            ("MAYFLY_CONFG", "MAYFLY_CONFIG"),
        ] {
            assert!(told(name).unwrap().ends_with(&format!("did you mean {meant}?")), "{name}");
        }
    }

    #[test]
    fn what_is_right_or_somebody_elses_is_let_be() {
        for name in [
            "MAYFLY_ADMIN",
            "MAYFLY_CONFIG",
            "MAYFLY_LIMITS_MAX",
            "MAYFLY_PORT",
            "MAYFLY_PORT_3000_TCP",
            "MAYFLY_SERVICE_HOST",
            "MAYFLY_ADMIN_PORT",
            "MAYFLY_",
            "MAYFLIES",
            "HOME",
        ] {
            assert_eq!(told(name), None, "{name}");
        }
        assert_eq!(told(&format!("MAYFLY_TOKEN{}", "N".repeat(100))), None);
    }

    #[test]
    fn distances_count_letters() {
        let all = [
            ("ab", "ab"),
            ("a_b", "ab"),
            ("ab", "abc"),
            ("abc", "xbc"),
            ("", "abc"),
            ("kitten", "sitting"),
        ];
        assert_eq!(all.map(|(a, b)| distance(a, b)), [0, 0, 1, 1, 3, 3]);
    }
}
