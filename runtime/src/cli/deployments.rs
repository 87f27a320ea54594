//! `mayfly deployments`.

use clap::Args;
use mayfly_core::FunctionName;
use serde_json::Value;

use super::deployment::splits;
use super::output::{self, number, text};
use super::{Connection, Failure, Printing};

/// Show a function's deployments, the newest first: which versions served, who said so, and why.
#[derive(Debug, Args)]
pub(crate) struct Deployments {
    /// The function.
    name: FunctionName,
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    connection: Connection,
}

impl Deployments {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let path = format!("/v1/functions/{}/deployments", self.name);
        let found = self.connection.open()?.get(&path).await?;
        if self.printing.json() {
            return output::json(&found);
        }
        let all = found["deployments"].as_array().map_or(&[][..], Vec::as_slice);
        let rows: Vec<_> = all.iter().map(row).collect();
        output::line(output::table(&["DEPLOYMENT", "AT", "VERSIONS", "BY", "MESSAGE"], &rows))
    }
}

fn row(deployment: &Value) -> Vec<String> {
    // Whoever made it chose these words.
    let said = |field| {
        let said = text(deployment, field);
        let said = mayfly_observe::logs::escape(said.as_bytes()).to_string();
        if said.is_empty() { "-".to_owned() } else { said }
    };
    vec![
        number(deployment, "/generation").to_string(),
        text(deployment, "/at").into(),
        splits(deployment),
        said("/by"),
        said("/message"),
    ]
}
