//! `mayfly health`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use http::Method;
use mayfly_core::units::parse_duration;

use super::{Connection, Failure, output};

/// Between two looks at a node that is waited for.
const PAUSE: Duration = Duration::from_millis(100);

/// Ask whether the node is ready. Needs no token; exit code 0 if it is.
#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Wait until it is, so long at most, as in 30s; for scripts that have just started it.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    wait: Option<Duration>,
    #[command(flatten)]
    connection: Connection,
}

impl Health {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let node = self.connection.open_without_token()?;
        let until = Instant::now() + self.wait.unwrap_or_default();
        while let Err(why) = node.send(Method::GET, "/readyz", "text/plain", Bytes::new()).await {
            if Instant::now() >= until {
                return Err(why);
            }
            tokio::time::sleep(PAUSE).await;
        }
        output::line("ready")
    }
}
