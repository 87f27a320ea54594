//! `mayfly list`.

use std::collections::BTreeMap;

use clap::Args;
use mayfly_core::units::human_size;
use serde_json::Value;

use super::output::{self, number, text};
use super::{Connection, Failure, Printing, deployment};

/// List the deployed functions.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    connection: Connection,
}

impl List {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let list = self.connection.open()?.get("/v1/functions").await?;
        if self.printing.json() {
            return output::json(&list);
        }
        let functions: Vec<_> = list["functions"].as_array().into_iter().flatten().collect();
        if functions.is_empty() {
            return output::line("no functions yet: `mayfly deploy path/to/module.wasm` makes one");
        }
        let rows: Vec<_> = functions.iter().copied().map(row).collect();
        output::line(output::table(
            &["NAME", "VERSION", "STATE", "ABI", "WASM", "SIZE", "CREATED", "URL"],
            &rows,
        ))?;
        overlaps(&functions).into_iter().try_for_each(output::line)
    }
}

/// Routes that are shown of those which lie within one; JSON has all.
const SHOWN: usize = 5;

/// Lines below the table: paths that are not where their function's address says, and paths that would be another's.
fn overlaps(functions: &[&Value]) -> Vec<String> {
    let each = |field: &'static str| {
        functions.iter().flat_map(move |function| {
            let all = function[field].as_array().into_iter().flatten();
            all.map(|overlap| (text(function, "/name"), overlap))
        })
    };
    let mut lines: Vec<_> = each("lost")
        .map(|(name, lost)| {
            format!("{} leads to '{}' and not to '{name}'", text(lost, "/route"), text(lost, "/to"))
        })
        .collect();
    let mut within = BTreeMap::<_, Vec<_>>::new();
    for (name, takes) in each("takes") {
        let around = (text(takes, "/from"), text(takes, "/within"));
        within.entry(around).or_default().push(format!("{} of '{name}'", text(takes, "/route")));
    }
    lines.extend(within.into_iter().map(|((from, around), routes)| {
        let more = match routes.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let shown = &routes[..routes.len().min(SHOWN)];
        format!("taken out of {around} of '{from}': {}{more}", shown.join(", "))
    }));
    lines
}

/// The version that has all requests, or what each has.
fn version(function: &Value) -> String {
    let splits = function["deployment"]["splits"].as_array().map_or(&[][..], Vec::as_slice);
    let serving = splits.iter().filter(|split| split["percent"].as_f64().is_some_and(|p| p > 0.0));
    match serving.count() {
        0 | 1 => number(function, "/revision/number").to_string(),
        _ => deployment::splits(&function["deployment"]),
    }
}

fn row(function: &Value) -> Vec<String> {
    let revision = &function["revision"];
    let own: Vec<_> =
        revision["routes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let url = [&[text(function, "/url")], &own[..]].concat().join(" ");
    vec![
        text(function, "/name").into(),
        version(function),
        text(function, "/state").into(),
        text(revision, "/abi").into(),
        text(revision, "/wasm").chars().take(12).collect(),
        human_size(number(revision, "/wasm_bytes")),
        text(revision, "/created").into(),
        url,
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_takes_from_whom_is_said_once_for_each_route_around() {
        let within = |name: &str| {
            let takes =
                [json!({"route": format!("/{name}/..."), "from": "site", "within": "/..."})];
            json!({"name": name, "takes": takes})
        };
        let mut functions: Vec<_> = ('a'..='g').map(|name| within(&name.to_string())).collect();
        functions.push(json!({"name": "site"}));
        functions.push(json!({"name": "old", "lost": [{"route": "/old/...", "to": "new"}]}));
        let lines = overlaps(&functions.iter().collect::<Vec<_>>());
        assert_eq!(
            lines,
            [
                "/old/... leads to 'new' and not to 'old'",
                "taken out of /... of 'site': /a/... of 'a', /b/... of 'b', /c/... of 'c', /d/... of 'd', \
                 /e/... of 'e' and 2 more"
            ]
        );
        assert!(overlaps(&[&json!({"name": "site"})]).is_empty());
    }
}
