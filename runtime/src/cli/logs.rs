//! `mayfly logs`.

use bytes::Bytes;
use clap::Args;
use http::Method;
use mayfly_core::FunctionName;
use mayfly_core::limits::node;
use serde_json::Value;

use super::output::{self, number, text};
use super::{Connection, Failure, Printing, client, code};

/// Show a function's last log lines, and with -f those to come.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The function.
    name: FunctionName,
    /// Go on with lines as they come, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// How many of the last lines.
    #[arg(long, short = 'n', default_value_t = 100, value_name = "N")]
    tail: usize,
    /// Only lines of the request with this id, as X-Request-Id in its answer has it.
    #[arg(long, short, value_name = "ID")]
    request: Option<String>,
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    connection: Connection,
}

impl Logs {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let follow = u8::from(self.follow);
        // One request's lines may be anywhere among those that are kept.
        let tail =
            if self.request.is_some() { self.tail.max(node::LOG_LINES_KEPT) } else { self.tail };
        let path = format!("/v1/functions/{}/logs?tail={tail}&follow={follow}", self.name);
        let admin = self.connection.open()?;
        let answer = admin.send(Method::GET, &path, "application/x-ndjson", Bytes::new()).await?;
        let json = self.printing.json();
        let mut shown = 0;
        client::lines(answer.into_body(), |line| {
            if self.request.as_deref().is_some_and(|id| !is_of(id, line)) {
                return Ok(());
            }
            shown += 1;
            if json { output::json_line(line) } else { output::line(human(line)) }
        })
        .await?;
        match &self.request {
            Some(id) if shown == 0 => {
                let (name, kept) = (&self.name, node::LOG_LINES_KEPT);
                Err(Failure::new(
                    code::FAILED,
                    format!(
                        "none of the last {kept} lines of '{name}' is of the request '{id}'\nhint: an invocation that \
                         succeeded, or that its client was at fault for (4xx), has a line only if `log.requests` is all; a restart forgets lines, the node's own log does not"
                    ),
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a line is of the request with this id.
fn is_of(id: &str, line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|line| text(&line, "/request_id") == id)
}

/// A line as the node's own log has it, but for the function's name.
pub(super) fn human(line: &str) -> String {
    let Ok(entry) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
    if let Some(gap) = entry.get("gap") {
        return format!("-- {gap} lines left out: the terminal is too slow --");
    }
    if let Some(dropped) = entry.get("dropped") {
        let (time, level) = (text(&entry, "/timestamp"), text(&entry, "/level"));
        return format!("{time} {level:>5} {dropped} {}", text(&entry, "/message"));
    }
    let head = format!(
        "{} {:>5} #{} {}",
        text(&entry, "/timestamp"),
        text(&entry, "/level"),
        number(&entry, "/revision"),
        text(&entry, "/request_id")
    );
    if entry.get("outcome").is_none() {
        if entry.get("stream").is_none() {
            return format!("{head} {}", text(&entry, "/message"));
        }
        let cut = if entry["truncated"] == true { " [cut]" } else { "" };
        return format!("{head} {}: {}{cut}", text(&entry, "/stream"), text(&entry, "/message"));
    }
    let phases = ["total_us", "queue_us", "receive_us", "instantiate_us", "call_us", "respond_us"];
    let phases = mayfly_observe::logs::phases(phases.map(|key| nanos(&entry[key])));
    let detail = match text(&entry, "/detail") {
        "" => String::new(),
        detail => format!(": {detail}"),
    };
    let path = match text(&entry, "/path") {
        "" => "-",
        path => path,
    };
    format!(
        "{head} {} {} {path} {} {} {phases}, {} B in, {} B out{detail}",
        text(&entry, "/client"),
        text(&entry, "/method"),
        number(&entry, "/status"),
        text(&entry, "/outcome"),
        number(&entry, "/request_bytes"),
        number(&entry, "/response_bytes"),
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time that is no number of nanoseconds is shown as 0 or as the longest"
)]
fn nanos(us: &Value) -> u64 {
    (us.as_f64().unwrap_or_default() * 1e3).round() as u64
}
