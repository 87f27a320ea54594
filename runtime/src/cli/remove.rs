//! `mayfly remove`.

use bytes::Bytes;
use clap::Args;
use http::Method;
use mayfly_core::FunctionName;

use super::{Connection, Failure, Printing, client, output};

/// Remove a function and its history. Requests under way end first.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The function.
    name: FunctionName,
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    connection: Connection,
}

impl Remove {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let path = format!("/v1/functions/{}", self.name);
        let node = self.connection.open()?;
        let answer = node.send(Method::DELETE, &path, "application/json", Bytes::new()).await?;
        let removed = client::json(answer.into_body()).await?;
        if self.printing.json() {
            output::json(&removed)
        } else {
            output::line(format_args!("{} is removed", self.name))
        }
    }
}
