//! `docs/limits.md`, made from the constants.

use super::{Duration, LIMIT_KEYS, Limits, node, outbound};

/// One cap of [`super::node`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cap {
    /// Its constant.
    pub name: &'static str,
    /// Its value: `10s`, `64KiB`, `100`.
    pub value: String,
    /// What it bounds, and why there.
    pub reason: &'static str,
}

pub(super) fn written_duration(value: Duration) -> String {
    crate::units::format_duration(value)
}

pub(super) fn written_size(value: impl TryInto<u64>) -> String {
    crate::units::format_size(value.try_into().unwrap_or(u64::MAX))
}

pub(super) fn written_count(value: impl std::fmt::Display) -> String {
    value.to_string()
}

/// `docs/limits.md`, made from this file.
#[must_use]
pub fn document() -> String {
    use std::fmt::Write as _;
    let mut page = String::from(
        "# Limits\n\nMade from `runtime/core/src/limits.rs`; a test holds the two together.\n\n\
         ## Of a function\n\nSet by `mayfly deploy --limit key=value`, up to the node's largest.\n\n\
         | key | default | smallest | largest | what is counted | why |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    let defaults = Limits::default();
    for key in LIMIT_KEYS {
        let (value, min, max) = (key.get(&defaults), key.min, key.max);
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} |",
            key.name,
            key.format(value),
            key.format(min),
            key.format(max),
            key.counts,
            key.reason
        );
    }
    page.push_str("\n## Of a node\n\n| cap | value | what and why |\n| --- | --- | --- |\n");
    for cap in node::all().into_iter().chain(outbound::all()) {
        let _ = writeln!(page, "| `{}` | {} | {} |", cap.name, cap.value, cap.reason);
    }
    page.push_str(
        "\nWhat happens at each limit: a client's excess is 4xx, a function's 502 or 504, the node's 503; each by its label in \
         [troubleshooting.md](troubleshooting.md#by-outcome).\n",
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_the_constants_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/limits.md");
        if std::env::var_os("MAYFLY_BLESS").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(
            page == document(),
            "docs/limits.md is stale: run `MAYFLY_BLESS=1 cargo test -p mayfly-core`"
        );
    }
}
