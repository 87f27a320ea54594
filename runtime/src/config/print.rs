//! A configuration as TOML that gives it again.

use std::fmt::Write as _;

use super::Config;
use super::keys::{KEYS, Printed};

pub(super) fn to_toml(config: &Config) -> String {
    let mut out = String::new();
    let mut current = "";
    for key in KEYS {
        let (table, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if table != current && !table.is_empty() {
            let _ = write!(out, "\n[{table}]\n");
            current = table;
        }
        let _ = match (key.get)(config) {
            Printed::Text(text) => writeln!(out, "{name} = {}", quote(&text)),
            Printed::Bare(text) => writeln!(out, "{name} = {text}"),
            Printed::List(items) => {
                let items: Vec<_> = items.iter().map(|item| quote(item)).collect();
                writeln!(out, "{name} = [{}]", items.join(", "))
            }
            Printed::Tables(tables) => {
                let field = |(name, value): &(&str, String)| format!("{name} = {}", quote(value));
                let row = |row: &Vec<_>| {
                    format!("{{ {} }}", row.iter().map(field).collect::<Vec<_>>().join(", "))
                };
                let rows: Vec<_> = tables.iter().map(row).collect();
                writeln!(out, "{name} = [{}]", rows.join(", "))
            }
            Printed::Pairs(pairs) => {
                let line = |(key, value): &(String, String)| {
                    format!("{} = {}\n", bare_or_quoted(key), quote(value))
                };
                write!(out, "\n[{name}]\n{}", pairs.iter().map(line).collect::<String>())
            }
        };
    }
    out
}

fn bare_or_quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if bare { key.to_owned() } else { quote(key) }
}

/// A TOML string; paths may hold anything.
fn quote(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}
