//! `mayfly list`.

use clap::Args;
use mayfly_core::units::human_size;
use serde_json::Value;

use super::output::{self, number, text};
use super::{Connection, Failure, Printing};

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
        let rows: Vec<_> = list["functions"].as_array().into_iter().flatten().map(row).collect();
        if rows.is_empty() {
            return output::line("no functions yet: `mayfly deploy path/to/module.wasm` makes one");
        }
        output::line(output::table(
            &["NAME", "REVISION", "STATE", "ABI", "WASM", "SIZE", "CREATED", "URL"],
            &rows,
        ))
    }
}

fn row(function: &Value) -> Vec<String> {
    let revision = &function["revision"];
    let own: Vec<_> =
        revision["routes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let url = [&[text(function, "/url")], &own[..]].concat().join(" ");
    vec![
        text(function, "/name").into(),
        number(revision, "/number").to_string(),
        text(function, "/state").into(),
        text(revision, "/abi").into(),
        text(revision, "/wasm").chars().take(12).collect(),
        human_size(number(revision, "/wasm_bytes")),
        text(revision, "/created").into(),
        url,
    ]
}
