//! `mayfly inspect`.

use clap::Args;
use mayfly_core::FunctionName;
use mayfly_core::units::human_size;
use serde_json::Value;

use super::output::{self, line, number, text};
use super::{Connection, Failure, Printing, deployment, model};

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
        let mut function = self.connection.open()?.get(&path).await?;
        // What a model takes and gives is asked of itself, as any client would.
        if function["model"] == true
            && let Ok((_, metadata)) = model::metadata(text(&function, "/url")).await
        {
            function["metadata"] = metadata;
        }
        if self.printing.json() {
            return output::json(&function);
        }
        let revision = &function["revision"];
        line(format_args!(
            "{} version {} ({}), {}",
            self.name,
            number(revision, "/number"),
            text(&function, "/state"),
            text(&function, "/url")
        ))?;
        let now = &function["deployment"];
        let shares = deployment::splits(now);
        line(format_args!("  deployment {}: {shares}", number(now, "/generation")))?;
        if !text(&function, "/reason").is_empty() {
            line(format_args!("  no code    {}", text(&function, "/reason")))?;
        }
        show_revision(revision)?;
        model::ports(&function["metadata"])?;
        show_memory(&function)?;
        show_metrics(&function)?;
        line("history:")?;
        let history: Vec<_> =
            function["history"].as_array().into_iter().flatten().map(row).collect();
        line(output::table(&["VERSION", "CREATED", "WASM", "SIZE"], &history))
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
    if revision["secrets"].as_array().is_some_and(|secrets| !secrets.is_empty()) {
        line(format_args!("  secrets    {}", words("secrets")))?;
    }
    if revision["outbound"].is_array() {
        line(format_args!("  outbound   {}", words("outbound").replace(" https", ", https")))?;
    }
    // A program may be one of them: shown as one line, cut.
    let args: String = words("args").chars().take(100).collect();
    line(format_args!("  arguments  {}", mayfly_observe::logs::escape(args.as_bytes())))?;
    let switches =
        [("stream_body", "--stream-body"), ("pass_authorization", "--pass-authorization")];
    let on = switches.iter().filter(|(key, _)| revision[key].as_bool() == Some(true));
    let on: Vec<_> = on.map(|(_, flag)| *flag).collect();
    if !on.is_empty() {
        line(format_args!("  switches   {}", on.join(" ")))?;
    }
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

fn show_memory(function: &Value) -> Result<(), Failure> {
    for words in memory(function) {
        line(words)?;
    }
    Ok(())
}

/// What instances share and what a request costs, as far as it is known.
fn memory(function: &Value) -> Vec<String> {
    let (snapshot, measured) = (&function["revision"]["snapshot"], &function["memory"]);
    let mut lines = Vec::new();
    if text(snapshot, "/state") == "taken" {
        let runs = snapshot["image"].as_array().map_or(&[][..], Vec::as_slice);
        let edge = |run: Option<&Value>, side| run.and_then(|run| run[side].as_u64());
        let extent =
            edge(runs.last(), 1).unwrap_or(0).saturating_sub(edge(runs.first(), 0).unwrap_or(0));
        let weights = match snapshot["weight_bytes"].as_u64() {
            Some(bytes) => format!(", {} of it weights", human_size(bytes)),
            None => String::new(),
        };
        let image = human_size(number(snapshot, "/image_bytes"));
        lines.push(format!("  image      {image} within {}{weights}", human_size(extent)));
    }
    if measured.is_null() {
        lines.push("  memory     not measured yet: a request has to come first".to_owned());
        return lines;
    }
    let (dirty, runs) = (number(measured, "/most/dirty"), number(measured, "/most/runs"));
    let cow = match number(measured, "/most/shared") {
        0 => "nothing shared with other instances".to_owned(),
        shared => format!("copy-on-write: {} shared with all instances", human_size(shared << 12)),
    };
    let requests = number(measured, "/requests");
    lines.push(format!(
        "  memory     a request dirties {dirty} pages ({}) in {runs} runs at most; {cow} ({requests} measured)",
        human_size(dirty << 12)
    ));
    lines
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn memory_is_told_as_far_as_it_is_known() {
        let mut function = json!({"revision": {"snapshot": {
            "state": "taken", "memory_bytes": 8 << 20, "image_bytes": 3 << 20, "image": [[4096, 1052672], [3149824, 5246976]], "weight_bytes": 2 << 20,
        }}});
        assert_eq!(
            memory(&function),
            [
                "  image      3.0 MiB within 5.0 MiB, 2.0 MiB of it weights",
                "  memory     not measured yet: a request has to come first"
            ]
        );
        function["memory"] =
            json!({"requests": 2, "most": {"dirty": 512, "runs": 3, "shared": 256}, "last": {}});
        let told = memory(&function);
        assert_eq!(
            told[1],
            "  memory     a request dirties 512 pages (2.0 MiB) in 3 runs at most; copy-on-write: 1.0 MiB shared with all instances (2 measured)"
        );
        function["revision"]["snapshot"] = json!({"state": "no-init"});
        function["memory"]["most"]["shared"] = json!(0);
        let told = memory(&function);
        assert!(told.len() == 1 && told[0].contains("nothing shared"), "{told:?}");
    }
}
