//! `mayfly inspect`.

use clap::Args;
use mayfly_core::FunctionName;
use mayfly_core::units::human_size;
use serde_json::Value;

use super::output::{self, line, number, text};
use super::{Connection, Failure, Printing};

/// Show one function.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The function.
    name: FunctionName,
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    connection: Connection,
}

impl Inspect {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let path = format!("/v1/functions/{}", self.name);
        let function = self.connection.open()?.get(&path).await?;
        if self.printing.json() {
            return output::json(&function);
        }
        let revision = &function["revision"];
        line(format_args!(
            "{} revision {} ({}), {}",
            self.name,
            number(revision, "/number"),
            text(&function, "/state"),
            text(&function, "/url")
        ))?;
        show_revision(revision)?;
        show_metrics(&function)?;
        line("history:")?;
        let history: Vec<_> =
            function["history"].as_array().into_iter().flatten().map(row).collect();
        line(output::table(&["REVISION", "CREATED", "WASM", "SIZE"], &history))
    }
}

fn show_revision(revision: &Value) -> Result<(), Failure> {
    line(format_args!("  created    {}", text(revision, "/created")))?;
    line(format_args!(
        "  wasm       sha256:{} ({})",
        text(revision, "/wasm"),
        human_size(number(revision, "/wasm_bytes"))
    ))?;
    line(format_args!("  code       {}", human_size(number(revision, "/artifact_bytes"))))?;
    line(format_args!("  abi        {}", text(revision, "/abi")))?;
    line(format_args!("  snapshot   {}", output::snapshot(revision)))?;
    let words = |key: &str| {
        let values = revision[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        let all = values.collect::<Vec<_>>().join(" ");
        if all.is_empty() { "none".to_owned() } else { all }
    };
    line(format_args!("  routes     {}", words("routes")))?;
    line(format_args!("  variables  {}", words("env_names")))?;
    // A program may be one of them: shown as one line, cut.
    let args: String = words("args").chars().take(100).collect();
    line(format_args!("  arguments  {}", mayfly_runtime::logs::escape(args.as_bytes())))?;
    let limits = revision["limits"].as_object().into_iter().flatten();
    let limits: Vec<_> = limits
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    line(format_args!("  limits     {}", limits.join(" ")))?;
    let stages = revision["stages"].as_array().into_iter().flatten();
    let stages: Vec<_> = stages
        .map(|stage| format!("{} {}", text(stage, "/stage"), output::time(number(stage, "/us"))))
        .collect();
    line(format_args!("  stages     {}", stages.join(", ")))
}

fn show_metrics(function: &Value) -> Result<(), Failure> {
    let metrics = &function["metrics"];
    let errors = metrics["errors"].as_object().into_iter().flatten();
    let errors: Vec<_> = errors.map(|(kind, count)| format!("{kind} {count}")).collect();
    let errors = if errors.is_empty() { "none".to_owned() } else { errors.join(", ") };
    line(format_args!(
        "since start: {} answered, {} in flight, errors: {errors}",
        number(metrics, "/invocations"),
        number(function, "/in_flight"),
    ))?;
    let us = |key: &str| metrics[key].as_f64();
    if let (Some(made), Some(half), Some(most)) =
        (us("instantiate_p50_us"), us("call_p50_us"), us("call_p99_us"))
    {
        line(format_args!(
            "  instantiate p50 <= {made} us, call p50 <= {half} us, p99 <= {most} us (bounds of buckets)"
        ))?;
    }
    Ok(())
}

fn row(revision: &Value) -> Vec<String> {
    vec![
        number(revision, "/number").to_string(),
        text(revision, "/created").into(),
        text(revision, "/wasm").chars().take(12).collect(),
        human_size(number(revision, "/wasm_bytes")),
    ]
}
