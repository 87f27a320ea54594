//! What the verbs of versions and deployments share: what they ask for, and how a deployment is printed.

use bytes::Bytes;
use clap::Args;
use http::Method;
use mayfly_core::FunctionName;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::output::{self, number, text};
use super::{Connection, Failure, Printing};

/// A change of how a function is served.
#[derive(Debug, Args)]
pub(super) struct Change {
    /// Why; it is shown by `mayfly deployments`.
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Only if this deployment serves: nobody else's change in between is undone.
    #[arg(long, value_name = "GENERATION")]
    after: Option<u64>,
    #[command(flatten)]
    pub(super) printing: Printing,
    #[command(flatten)]
    pub(super) connection: Connection,
}

impl Change {
    /// Asks the node for it and gives its answer.
    pub(super) async fn send(
        &self,
        method: Method,
        name: &FunctionName,
        what: &str,
        mut asked: Value,
    ) -> Result<(Client, Value), Failure> {
        let client = self.connection.open()?;
        if let Some(fields) = asked.as_object_mut() {
            fields.extend(remark(self.message.as_deref()));
        }
        let path = format!("/v1/functions/{name}/{what}");
        let body = Bytes::from(asked.to_string());
        let answer = client.change(method, &path, self.after, body).await?;
        Ok((client, answer))
    }

    /// The same, and prints which deployment serves now.
    pub(super) async fn switch(
        &self,
        method: Method,
        name: &FunctionName,
        what: &str,
        asked: Value,
    ) -> Result<(), Failure> {
        let (_, answer) = self.send(method, name, what, asked).await?;
        if self.printing.json() {
            return output::json(&answer);
        }
        let (now, before) = (&answer["deployment"], number(&answer, "/before/generation"));
        output::line(format_args!(
            "{name}: deployment {} (was {before}): {}, in {}",
            number(now, "/generation"),
            splits(now),
            output::time(number(&answer, "/us"))
        ))
    }
}

/// What is said of a change beside it: why, and whose shell it came from.
pub(super) fn remark(message: Option<&str>) -> Map<String, Value> {
    let mut fields = Map::new();
    if let Some(message) = message {
        fields.insert("message".into(), json!(message));
    }
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    if let Some(user) = user.filter(|user| !user.is_empty() && user.len() <= 64) {
        fields.insert("by".into(), json!(user));
    }
    fields
}

/// The versions of a deployment and what each has, as in `8 10 %, 7 90 %`.
pub(super) fn splits(deployment: &Value) -> String {
    let all = deployment["splits"].as_array().into_iter().flatten();
    let each = all.map(|split| format!("{} {} %", number(split, "/version"), split["percent"]));
    each.map(|each| each.replace(".0 %", " %")).collect::<Vec<_>>().join(", ")
}

/// How previews of a function are called, if its deployment has any.
pub(super) fn preview(deployment: &Value, url: &str) -> Result<(), Failure> {
    output::line(format_args!(
        "  preview    curl -H 'Mayfly-Preview: {}' {url}",
        text(deployment, "/preview_token")
    ))
}
