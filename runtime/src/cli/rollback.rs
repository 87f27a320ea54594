//! `mayfly rollback`.

use clap::Args;
use http::Method;
use mayfly_core::FunctionName;
use serde_json::json;

use super::Failure;
use super::deployment::Change;

/// Serve a function as an earlier deployment did: its versions, its shares, its routes.
///
/// It is a deployment of its own, with the next generation: nothing is forgotten, and --to leads to any that is remembered.
/// Once more, it goes further back. Nothing is compiled for the last three deployments.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The function.
    name: FunctionName,
    /// The deployment to go back to [default: the last one that served otherwise].
    #[arg(long, value_name = "GENERATION")]
    to: Option<u64>,
    #[command(flatten)]
    change: Change,
}

impl Rollback {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let asked = json!({ "to": self.to });
        self.change.switch(Method::POST, &self.name, "rollback", asked).await
    }
}
