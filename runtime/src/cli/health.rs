//! `mayfly health`.

use bytes::Bytes;
use clap::Args;
use http::Method;

use super::{Connection, Failure, output};

/// Ask whether the node is ready. Needs no token; exit code 0 if it is.
#[derive(Debug, Args)]
pub(crate) struct Health {
    #[command(flatten)]
    connection: Connection,
}

impl Health {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let node = self.connection.open_without_token()?;
        node.send(Method::GET, "/readyz", "text/plain", Bytes::new()).await?;
        output::line("ready")
    }
}
