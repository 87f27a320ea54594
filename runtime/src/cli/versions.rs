//! `mayfly versions`.

use clap::Args;
use mayfly_core::FunctionName;
use mayfly_core::units::human_size;
use serde_json::Value;

use super::output::{self, number, text};
use super::{Connection, Failure, Printing};

/// Show a function's versions: what each has of the requests, its tags, and whether it is ready.
#[derive(Debug, Args)]
pub(crate) struct Versions {
    /// The function.
    name: FunctionName,
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    connection: Connection,
}

impl Versions {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let path = format!("/v1/functions/{}/versions", self.name);
        let found = self.connection.open()?.get(&path).await?;
        if self.printing.json() {
            return output::json(&found);
        }
        let rows: Vec<_> = found["versions"].as_array().into_iter().flatten().map(row).collect();
        output::line(output::table(
            &["VERSION", "PERCENT", "TAGS", "STATE", "CREATED", "WASM", "SIZE"],
            &rows,
        ))
    }
}

fn row(version: &Value) -> Vec<String> {
    let percent = version["percent"].to_string();
    let tags = version["tags"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let tags = tags.collect::<Vec<_>>().join(" ");
    vec![
        number(version, "/number").to_string(),
        percent.trim_end_matches(".0").to_owned(),
        if tags.is_empty() { "-".to_owned() } else { tags },
        text(version, "/state").into(),
        text(version, "/created").into(),
        text(version, "/wasm").chars().take(12).collect(),
        human_size(number(version, "/wasm_bytes")),
    ]
}
