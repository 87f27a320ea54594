//! `mayfly rollout`.

use std::time::Duration;

use clap::Args;
use http::Method;
use mayfly_core::FunctionName;
use mayfly_core::deployment::{Percent, Sticky};
use mayfly_core::units::parse_duration;
use serde_json::{Value, json};

use super::deployment::Change;
use super::output::{self, number, text};
use super::{Failure, code};

/// Give a version more and more of a function's requests, and none if it does worse than the one before.
///
/// The node does it: this returns when the first step serves, and a rollout goes on after a restart of the node. Any other
/// change of the function's deployment ends it. Without a version, the rollout under way is shown.
#[derive(Debug, Args)]
pub(crate) struct Rollout {
    /// The function.
    name: FunctionName,
    /// The version.
    version: Option<u64>,
    /// Its percentages, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1,10,50,100", value_name = "PERCENT,...")]
    steps: Vec<Percent>,
    /// Between two steps, as in 30s, 2m or 1h.
    #[arg(long, default_value = "2m", value_parser = parse_duration, value_name = "TIME")]
    every: Duration,
    /// What it may not do: errors=1% is so much more of failed requests than the version before has, p99=2x so many times
    /// its 99th percentile. Looked at from 200 requests on; `none` for no guard.
    #[arg(long, default_value = "errors=1%,p99=2x")]
    guard: String,
    /// As in `mayfly traffic`.
    #[arg(long)]
    sticky: Option<Sticky>,
    /// End the rollout that is under way where it is.
    #[arg(long, conflicts_with = "version")]
    halt: bool,
    #[command(flatten)]
    change: Change,
}

impl Rollout {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let name = &self.name;
        if self.halt {
            let (_, answer) = self.change.send(Method::DELETE, name, "rollout", json!({})).await?;
            return match self.change.printing.json() {
                true => output::json(&answer),
                false => output::line(format_args!("{name}: its rollout has ended where it is")),
            };
        }
        let Some(version) = self.version else { return self.show().await };
        if self.every.subsec_nanos() != 0 {
            return Err(Failure::new(code::USAGE, "--every takes whole seconds"));
        }
        let steps: Vec<_> = self.steps.iter().map(ToString::to_string).collect();
        let asked = json!({
            "version": version,
            "steps": steps,
            "every_s": self.every.as_secs(),
            "guard": (self.guard != "none").then_some(&self.guard),
            "sticky": self.sticky.as_ref().map(ToString::to_string),
        });
        let (_, rollout) = self.change.send(Method::PUT, name, "rollout", asked).await?;
        self.print(&rollout)
    }

    async fn show(&self) -> Result<(), Failure> {
        let path = format!("/v1/functions/{}/rollout", self.name);
        let rollout = self.change.connection.open()?.get(&path).await?;
        self.print(&rollout)
    }

    fn print(&self, rollout: &Value) -> Result<(), Failure> {
        if self.change.printing.json() {
            return output::json(rollout);
        }
        let steps = rollout["steps"].as_array().map_or(&[][..], Vec::as_slice);
        let at = usize::try_from(number(rollout, "/at")).unwrap_or(0);
        let now = steps.get(at).map(Value::to_string).unwrap_or_default();
        let (now, due) = (now.trim_end_matches(".0"), text(rollout, "/due"));
        let next = match at + 1 < steps.len() {
            true => format!(", {} the rest; next at {due}", number(rollout, "/from")),
            false => format!("; ends at {due}"),
        };
        output::line(format_args!(
            "{}: version {} has {now} % (step {} of {}){next}",
            self.name,
            number(rollout, "/version"),
            at + 1,
            steps.len(),
        ))?;
        output::line(format_args!("  follow     mayfly deployments {}", self.name))
    }
}
