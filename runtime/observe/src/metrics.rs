//! Prometheus metrics under OpenTelemetry's names (`http.server.*`, `faas.*`; dots become underscores).
//!
//! Handles are resolved when a revision is published: a request touches atomics only, never a lock or a map.
//! Series of a guest-chosen label are bounded: a status outside `STATUSES` is counted under its class.

mod series;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mayfly_core::{FunctionName, Outcome};
use parking_lot::Mutex;
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, PullingGauge, Registry, TextEncoder, core::Collector,
};
use serde::Serialize;

use series::{Family, FunctionSeries};

/// Upper bounds in seconds. OpenTelemetry's start at 5 ms; an instance here is made in tens of microseconds.
const BUCKETS: [f64; 21] = [
    5e-6, 10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Statuses with a series of their own.
const STATUSES: [u16; 31] = [
    200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410,
    413, 414, 415, 422, 429, 431, 499, 500, 501, 502, 503, 504,
];

/// How long each phase of one invocation took, in nanoseconds; 0 for a phase that was not reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PhaseTimes {
    /// Waiting for a slot.
    pub queue_ns: u64,
    /// Waiting for the request's body, before there was a slot or by the guest.
    pub receive_ns: u64,
    /// From the slot to the instance being ready to be called.
    pub instantiate_ns: u64,
    /// The guest runs, or waits for anything but its request's body.
    pub call_ns: u64,
    /// The response's rest is on its way.
    pub respond_ns: u64,
    /// From the request's head to the end of the response.
    pub total_ns: u64,
}

/// A node's metrics. Cheap to share in an `Arc`.
pub struct Metrics {
    registry: Registry,
    family: Arc<Family>,
    functions: Mutex<HashMap<FunctionName, Arc<FunctionSeries>>>,
    /// Requests that reached no function.
    node: Arc<FunctionSeries>,
    /// `http.server.active_requests`: requests with a head and without an end.
    pub active_requests: IntGauge,
    /// Open connections to the gateway.
    pub connections: IntGauge,
    /// Connections that the gateway accepted.
    pub connections_total: IntCounter,
    /// Publishes by `result`: `ok`, or the stage that failed.
    pub publishes: IntCounterVec,
    /// Modules that a child process compiled; a restart must not raise it.
    pub compiles: IntCounter,
    /// Artifacts that failed verification and were rebuilt.
    pub artifact_rejects: IntCounter,
    /// Log records without room: the queue to the log thread was full, or their function was over its share.
    pub logs_dropped: IntCounter,
}

/// What one function's metrics say, for `mayfly inspect`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Requests that the function answered.
    pub invocations: u64,
    /// Requests that ended otherwise, by the outcome's label; zeroes left out.
    pub errors: std::collections::BTreeMap<&'static str, u64>,
    /// Upper bound of the bucket that holds the median time to make an instance, in microseconds.
    pub instantiate_p50_us: Option<f64>,
    /// The same for the guest's run.
    pub call_p50_us: Option<f64>,
    /// The same for the guest's run, 99th percentile.
    pub call_p99_us: Option<f64>,
}

/// What is counted of one version among several that share a function's requests.
#[derive(Debug, Clone)]
pub struct VersionCounters {
    /// Requests that it had.
    pub requests: IntCounter,
    /// Those that ended with a status of 500 and above.
    pub errors: IntCounter,
}

/// The handles of one function, resolved. Clones share counters.
#[derive(Clone)]
pub struct RevisionMetrics {
    series: Arc<FunctionSeries>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty set with a registry of its own, so that tests do not share one.
    ///
    /// # Panics
    /// Never with the names in this file: each is registered once (every test and every start runs this).
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let counter = |name, help| register(&registry, IntCounter::new(name, help));
        let gauge = |name, help| register(&registry, IntGauge::new(name, help));
        let family = Arc::new(Family::new(&registry));
        let node = FunctionSeries::new(&family, "");
        let build = register(
            &registry,
            IntGaugeVec::new(
                Opts::new("mayfly_build_info", "Always 1; the version is the label"),
                &["version"],
            ),
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            active_requests: gauge(
                "http_server_active_requests",
                "Requests with a head and without an end",
            ),
            connections: gauge("mayfly_connections", "Open connections to the gateway"),
            connections_total: counter(
                "mayfly_connections_total",
                "Connections that the gateway accepted",
            ),
            publishes: register(
                &registry,
                IntCounterVec::new(
                    Opts::new("mayfly_publishes_total", "Publishes: ok, or the stage that failed"),
                    &["result"],
                ),
            ),
            compiles: counter(
                "mayfly_compiles_total",
                "Modules that a child process compiled; a restart does not raise it",
            ),
            artifact_rejects: counter(
                "mayfly_artifact_rejects_total",
                "Artifacts that failed verification and were rebuilt",
            ),
            logs_dropped: counter(
                "mayfly_logs_dropped_total",
                "Log records without room: the queue was full, or their function was over its share",
            ),
            functions: Mutex::default(),
            node,
            family,
            registry,
        };
        metrics.gauge(
            "process_resident_memory_bytes",
            "Resident memory of this process",
            resident_bytes,
        );
        metrics
    }

    /// The handles of a function. Called at publish.
    pub fn function(&self, function: &FunctionName) -> RevisionMetrics {
        let series = Arc::clone(
            self.functions
                .lock()
                .entry(function.clone())
                .or_insert_with(|| FunctionSeries::new(&self.family, function.as_str())),
        );
        RevisionMetrics { series }
    }

    /// Sets the gauges of a function's main version and deployment.
    pub fn serves(&self, function: &FunctionName, version: u64, generation: u64) {
        let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let name = &[function.as_str()];
        self.family.revision.with_label_values(name).set(number(version));
        self.family.deployment.with_label_values(name).set(number(generation));
    }

    /// The counters of one version among several that share a function's requests.
    pub fn version(&self, function: &FunctionName, version: u64) -> VersionCounters {
        let labels = &[function.as_str(), &*version.to_string()];
        VersionCounters {
            requests: self.family.version_requests.with_label_values(labels),
            errors: self.family.version_errors.with_label_values(labels),
        }
    }

    /// Takes a version's counters out of the registry: there are at most [`mayfly_core::limits::node::SPLITS`] for each
    /// function.
    pub fn forget_version(&self, function: &FunctionName, version: u64) {
        let labels = &[function.as_str(), &*version.to_string()];
        let _ = self.family.version_requests.remove_label_values(labels);
        let _ = self.family.version_errors.remove_label_values(labels);
    }

    /// Counts a request that reached no function. `outcome_index` is [`Outcome::index`].
    pub fn observe_node(&self, outcome_index: usize, status: u16, times: &PhaseTimes) {
        self.node.observe(outcome_index, status, times);
    }

    /// Takes a removed function's series out of the registry; what is still in flight counts nowhere.
    pub fn remove(&self, function: &FunctionName) {
        if let Some(series) = self.functions.lock().remove(function) {
            series.remove();
        }
    }

    /// Adds a gauge whose value is asked for at each scrape. A second gauge of the same name is refused with a
    /// log line: metrics never bring a node down.
    pub fn gauge(&self, name: &str, help: &str, read: impl Fn() -> f64 + Send + Sync + 'static) {
        let added = PullingGauge::new(name, help, Box::new(read))
            .and_then(|gauge| self.registry.register(Box::new(gauge)));
        if let Err(error) = added {
            tracing::error!(name, %error, "a metric could not be registered");
        }
    }

    /// What one function's metrics say; `None` if it was never published here.
    #[must_use]
    pub fn summary(&self, function: &str) -> Option<Summary> {
        let series = Arc::clone(self.functions.lock().get(function)?);
        Some(series.summary())
    }

    /// All metrics in Prometheus' text format, version 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = Vec::with_capacity(16 << 10);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(%error, "metrics could not be written");
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl RevisionMetrics {
    /// Counts one invocation. `outcome_index` is [`Outcome::index`]; `status` is the response's.
    pub fn observe(&self, outcome_index: usize, status: u16, times: &PhaseTimes) {
        self.series.observe(outcome_index, status, times);
    }

    /// Counts a log record that found no room.
    pub fn log_dropped(&self) {
        self.series.log_dropped();
    }

    /// Counts the time that a reset off the workers took.
    pub fn reset(&self, took: Duration) {
        self.series.reset(took);
    }
}

impl fmt::Debug for RevisionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevisionMetrics").finish_non_exhaustive()
    }
}

/// Registers what was made. The names are constants of this module, so a failure is a bug that the first test meets.
fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    #[expect(clippy::expect_used, reason = "constant names; each start and each test runs this")]
    let collector = made.expect("a metric's name and labels are well formed");
    #[expect(clippy::expect_used, reason = "constant names; each start and each test runs this")]
    registry.register(Box::new(collector.clone())).expect("a metric is registered once");
    collector
}

fn histogram(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<HistogramVec> {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()), labels)
}

/// Field 2 of `/proc/self/statm` is in pages; 0 where there is no such file.
fn resident_bytes() -> f64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return 0.0 };
    let pages: f64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0);
    #[expect(clippy::cast_precision_loss, reason = "a page is a small power of two")]
    let page = rustix::param::page_size() as f64;
    pages * page
}

/// Where a status is counted: its own place in [`STATUSES`], or its class after them.
fn status_slot(status: u16) -> usize {
    if status == 200 {
        return 0;
    }
    STATUSES
        .iter()
        .position(|&s| s == status)
        .unwrap_or_else(|| STATUSES.len() + usize::from((status / 100).clamp(2, 5)) - 2)
}

const STATUS_SLOTS: usize = STATUSES.len() + 4;
const OUTCOME_SLOTS: usize = Outcome::LABELS.len();

fn status_label(slot: usize) -> String {
    match STATUSES.get(slot) {
        Some(status) => status.to_string(),
        None => format!("{}xx", slot - STATUSES.len() + 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(call_us: u64) -> PhaseTimes {
        PhaseTimes {
            queue_ns: 1_000,
            instantiate_ns: 15_000,
            call_ns: call_us * 1_000,
            respond_ns: 0,
            total_ns: call_us * 1_000 + 16_000,
            ..PhaseTimes::default()
        }
    }

    #[test]
    fn an_invocation_is_counted_under_its_function() {
        let metrics = Metrics::new();
        let name = FunctionName::new("hello").unwrap();
        let handles = metrics.function(&name);
        metrics.serves(&name, 3, 4);
        handles.observe(Outcome::Answered.index(), 200, &times(40));
        handles.observe(Outcome::Answered.index(), 299, &times(40));
        handles.observe(Outcome::CpuLimit { limit: String::new() }.index(), 504, &times(90));
        let text = metrics.text();
        for line in [
            r#"faas_invocations_total{faas_name="hello"} 2"#,
            r#"faas_errors_total{error_type="cpu-limit",faas_name="hello"} 1"#,
            r#"faas_timeouts_total{faas_name="hello"} 1"#,
            r#"faas_coldstarts_total{faas_name="hello"} 3"#,
            r#"faas_init_duration_seconds_bucket{faas_name="hello",le="0.00002"} 3"#,
            r#"http_response_status_code="2xx"} 1"#,
            r#"mayfly_function_revision{faas_name="hello"} 3"#,
            r#"mayfly_function_deployment{faas_name="hello"} 4"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let summary = metrics.summary("hello").unwrap();
        assert_eq!((summary.invocations, summary.errors["cpu-limit"]), (2, 1));
        assert_eq!((summary.call_p50_us, summary.call_p99_us), (Some(50.0), Some(100.0)));
        assert_eq!(summary.instantiate_p50_us, Some(20.0));
        // A trap after the head has the guest's status, whichever kind is seen first.
        for status in [200, 502, 502] {
            handles.observe(Outcome::Trap(String::new()).index(), status, &times(1));
        }
        let text = metrics.text();
        for (status, n) in [(200, 1), (502, 2)] {
            let line = format!(
                r#"_count{{error_type="trap",faas_name="hello",http_response_status_code="{status}"}} {n}"#
            );
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_new_revision_counts_on_and_a_removed_function_leaves_nothing() {
        let metrics = Metrics::new();
        let name = FunctionName::new("gone").unwrap();
        let first = metrics.function(&name);
        metrics.serves(&name, 1, 1);
        metrics.version(&name, 1).requests.inc();
        assert!(
            metrics
                .text()
                .contains(r#"mayfly_version_requests_total{faas_name="gone",faas_version="1"} 1"#)
        );
        metrics.forget_version(&name, 1);
        first.observe(0, 200, &times(1));
        metrics.function(&name).observe(0, 204, &times(1));
        assert_eq!(metrics.summary("gone").unwrap().invocations, 2);
        metrics.remove(&name);
        // An invocation that was in flight ends after the removal, with a status not seen before.
        first.observe(0, 201, &times(1));
        first.observe(16, 502, &times(1));
        assert!(!metrics.text().contains("gone"), "{}", metrics.text());
        assert!(metrics.summary("gone").is_none());
    }

    #[test]
    fn what_reaches_no_function_is_counted_without_a_name() {
        let metrics = Metrics::new();
        metrics.observe_node(Outcome::NotFound.index(), 404, &PhaseTimes::default());
        let text = metrics.text();
        assert!(text.contains(r#"error_type="not-found""#), "{text}");
        assert!(!text.contains("faas_coldstarts_total{"), "{text}");
    }

    #[test]
    fn each_status_has_a_slot_and_a_label() {
        for status in 0..=u16::MAX {
            assert!(status_slot(status) < STATUS_SLOTS);
        }
        for status in STATUSES {
            assert_eq!(status_label(status_slot(status)), status.to_string());
        }
        assert_eq!(status_label(status_slot(418)), "4xx");
        assert_eq!(status_label(status_slot(599)), "5xx");
    }

    #[test]
    fn a_gauge_is_asked_at_each_scrape() {
        let metrics = Metrics::new();
        metrics.gauge("mayfly_slots_in_use", "Slots in use", || 7.0);
        metrics.gauge("mayfly_slots_in_use", "Slots in use", || 8.0);
        assert!(metrics.text().contains("mayfly_slots_in_use 7"));
        assert!(resident_bytes() > 1e6);
    }
}
