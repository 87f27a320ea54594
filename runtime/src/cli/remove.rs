//! `mayfly remove`.

use bytes::Bytes;
use clap::Args;
use http::Method;
use mayfly_core::FunctionName;

use super::{Connection, Failure, Printing, client, output};

/// Remove a function and its history. New requests find it no more; those under way run to their end.
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
            let under_way = match output::number(&removed, "/under_way") {
                0 => String::new(),
                count => format!(
                    "; {count} of its requests run to their end, {} at the longest",
                    output::text(&removed, "/wall")
                ),
            };
            output::line(format_args!("{} is removed{under_way}", self.name))
        }
    }
}
