//! Tracing: what Mayfly says about itself, by way of the log thread.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock::timestamp;
use crate::logs::{Format, LogSink};

/// Checks a level or filter and gives it back.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_filter(text: &str) -> Result<String, String> {
    let text = text.trim();
    let plain = ["error", "warn", "info", "debug", "trace", "off"].contains(&text);
    // A bare word that is no level would be taken for a module's name, and everything else would fall silent.
    if !plain && !text.contains('=') {
        return Err(format!(
            "'{text}' is not a level: write error, warn, info, debug or trace, or a filter as in \
             info,mayfly=debug"
        ));
    }
    EnvFilter::try_new(text).map_err(|why| format!("'{text}' is not a filter: {why}"))?;
    Ok(text.to_owned())
}

/// What a filter says of `mayfly_runtime`, which was all of Mayfly, is said of all of it still: targets begin with
/// `mayfly`.
fn of_all_crates(filter: &str) -> String {
    let one = |directive: &str| {
        let after = directive.strip_prefix("mayfly_runtime")?;
        let end = after.find(['=', '[']).unwrap_or(after.len());
        Some(format!("mayfly{}", &after[end..]))
    };
    let all = filter.split(',').map(str::trim);
    all.map(|directive| one(directive).unwrap_or_else(|| directive.to_owned()))
        .collect::<Vec<_>>()
        .join(",")
}

/// Libraries that warn of what a client or a guest does, as often as it does it (h2: of each stray PING; wasmtime-wasi: of
/// each call on a socket), and make a span of each WASI call. Whoever wants to see that names them in the filter.
const QUIET: &str = "h2=off,wasmtime_wasi=off";

/// Sends everything that is traced from now on to `sink`. Once per process.
///
/// # Errors
/// When the filter is wrong or tracing is set up already.
pub fn init(sink: LogSink, format: Format, level: &str) -> Result<(), String> {
    let filter = format!("{QUIET},{}", of_all_crates(level));
    let filter = EnvFilter::try_new(filter).map_err(|why| why.to_string())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(Utc)
        .with_writer(Lines(sink))
        .with_target(true);
    let done = match format {
        Format::Human => builder.with_ansi(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    done.map_err(|why| why.to_string())?;
    std::panic::set_hook(Box::new(panicked));
    Ok(())
}

/// A panic's words by way of the log thread: std's own hook writes to stderr, and if nobody reads that, it holds up
/// the thread, which may be one that serves.
fn panicked(info: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let what = info.payload_as_str().unwrap_or("no message");
    tracing::error!(thread = name, place, "panicked: {what}");
}

/// The clock and form of the other log lines.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{}", timestamp(std::time::SystemTime::now()))
    }
}

struct Lines(LogSink);

/// Collects one event and sends it whole.
struct Line<'a> {
    sink: &'a LogSink,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;
    fn make_writer(&'a self) -> Line<'a> {
        Line { sink: &self.0, bytes: Vec::new() }
    }
}

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.sink.raw(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_or_a_filter() {
        for good in ["info", "trace", "off", "info,mayfly=debug", "hyper=warn"] {
            assert_eq!(check_filter(good).as_deref(), Ok(good));
        }
        for bad in ["", "loud", "infoo", "a=b=c"] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_filter_for_the_runtime_is_one_for_all_its_crates() {
        for (given, meant) in [
            ("info", "info"),
            ("info,mayfly_runtime=debug", "info,mayfly=debug"),
            ("mayfly_runtime::publish::restore=trace, hyper=warn", "mayfly=trace,hyper=warn"),
            ("mayfly_publish=debug", "mayfly_publish=debug"),
        ] {
            assert_eq!(of_all_crates(given), meant);
        }
    }
}
