//! `mayfly diff`.

use std::collections::BTreeMap;

use clap::Args;
use mayfly_core::FunctionName;
use serde_json::Value;

use super::output;
use super::{Connection, Failure, Printing, code};

/// Show in what two versions of a function differ: module, limits, variables (by name), arguments, routes.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The function.
    name: FunctionName,
    /// A version.
    from: u64,
    /// Another one.
    to: u64,
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    connection: Connection,
}

/// What says nothing of how a version behaves.
const LEFT_OUT: &[&str] =
    &["number", "created", "stages", "percent", "tags", "state", "reason", "artifact_bytes"];

impl Diff {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let path = format!("/v1/functions/{}/versions", self.name);
        let found = self.connection.open()?.get(&path).await?;
        let all = found["versions"].as_array().map_or(&[][..], Vec::as_slice);
        let version = |number: u64| {
            let found = all.iter().find(|version| version["number"] == number);
            found.map(fields).ok_or_else(|| {
                let kept: Vec<_> =
                    all.iter().map(|version| version["number"].to_string()).collect();
                let why =
                    format!("there is no version {number}; these are kept: {}", kept.join(", "));
                Failure::new(code::FAILED, why)
            })
        };
        let differences = differences(&version(self.from)?, &version(self.to)?);
        if self.printing.json() {
            let each = differences.iter().map(|(name, from, to)| {
                (name.clone(), serde_json::json!({ "from": from, "to": to }))
            });
            return output::json(&Value::Object(each.collect()));
        }
        if differences.is_empty() {
            return output::line(format_args!("{} and {} are alike", self.from, self.to));
        }
        let rows = differences.into_iter().map(|(name, from, to)| vec![name, from, to]);
        let rows: Vec<_> = rows.collect();
        let (from, to) = (format!("VERSION {}", self.from), format!("VERSION {}", self.to));
        output::line(output::table(&["", &from, &to], &rows))
    }
}

/// Each setting of a version under its name; one of a list or table under both names.
fn fields(version: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, value) in version.as_object().into_iter().flatten() {
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        match value {
            Value::Object(table) if name == "limits" => found
                .extend(table.iter().map(|(key, value)| (format!("limit {key}"), plain(value)))),
            Value::Array(all) if name == "secrets" => found.extend(
                all.iter().map(|key| (format!("secret {}", plain(key)), "is given".to_owned())),
            ),
            Value::Array(all) if name == "env_names" => found.extend(
                all.iter().map(|key| (format!("variable {}", plain(key)), "is set".to_owned())),
            ),
            Value::Object(table) if name == "snapshot" => {
                found.extend(table.get("state").map(|state| (name.clone(), plain(state))));
            }
            other => drop(found.insert(name.clone(), plain(other))),
        }
    }
    found
}

fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let short: String = text.chars().take(64).collect();
    mayfly_observe::logs::escape(short.as_bytes()).to_string()
}

fn differences(
    from: &BTreeMap<String, String>,
    to: &BTreeMap<String, String>,
) -> Vec<(String, String, String)> {
    let names: std::collections::BTreeSet<_> = from.keys().chain(to.keys()).collect();
    let of = |fields: &BTreeMap<String, String>, name: &str| {
        fields.get(name).cloned().unwrap_or_else(|| "-".to_owned())
    };
    let each = names.into_iter().map(|name| (name.clone(), of(from, name), of(to, name)));
    each.filter(|(_, from, to)| from != to).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_named_and_what_does_not_is_left_out() {
        let version = |wasm: &str, memory: &str, names: &[&str]| {
            fields(&json!({
                "number": 1, "wasm": wasm, "limits": { "memory": memory, "wall": "30s" },
                "env_names": names, "snapshot": { "state": "taken", "image_bytes": 7 },
            }))
        };
        let (one, two) = (version("aa", "64MiB", &["A"]), version("bb", "1GiB", &["B"]));
        let found = differences(&one, &two);
        let names: Vec<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["limit memory", "variable A", "variable B", "wasm"]);
        assert_eq!(found[0], ("limit memory".into(), "64MiB".into(), "1GiB".into()));
        assert_eq!(found[1].2, "-");
        assert!(differences(&one, &one).is_empty());
    }
}
