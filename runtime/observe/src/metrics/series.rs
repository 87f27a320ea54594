//! One function's series, made when first needed and taken away when the function is removed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mayfly_core::Outcome;
use prometheus::core::Metric as _;
use prometheus::{
    Counter, CounterVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry,
};

use super::{
    OUTCOME_SLOTS, PhaseTimes, STATUS_SLOTS, Summary, histogram, register, status_label,
    status_slot,
};

/// The metrics that have one series per function.
pub(super) struct Family {
    requests: HistogramVec,
    invocations: IntCounterVec,
    errors: IntCounterVec,
    timeouts: IntCounterVec,
    coldstarts: IntCounterVec,
    queue: HistogramVec,
    init: HistogramVec,
    invoke: HistogramVec,
    logs_dropped: IntCounterVec,
    resets: CounterVec,
    pub(super) revision: IntGaugeVec,
    pub(super) deployment: IntGaugeVec,
    pub(super) version_requests: IntCounterVec,
    pub(super) version_errors: IntCounterVec,
}

impl Family {
    pub(super) fn new(registry: &Registry) -> Self {
        let name = &["faas_name"];
        let counter = |metric: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(metric, help), labels))
        };
        let seconds =
            |metric, help, labels: &[&str]| register(registry, histogram(metric, help, labels));
        Self {
            requests: seconds(
                "http_server_request_duration_seconds",
                "From a request's head to the end of its response",
                &["faas_name", "http_response_status_code", "error_type"],
            ),
            invocations: counter(
                "faas_invocations_total",
                "Requests that the function answered",
                name,
            ),
            errors: counter(
                "faas_errors_total",
                "Requests that ended otherwise, by outcome",
                &["faas_name", "error_type"],
            ),
            timeouts: counter(
                "faas_timeouts_total",
                "Requests that ran into the wall or cpu limit",
                name,
            ),
            coldstarts: counter(
                "faas_coldstarts_total",
                "Instances made: one for each request that reached its function",
                name,
            ),
            queue: seconds("mayfly_queue_duration_seconds", "Waiting for a slot", name),
            init: seconds(
                "faas_init_duration_seconds",
                "From the slot to the instance being ready to be called",
                name,
            ),
            invoke: seconds("faas_invoke_duration_seconds", "The guest runs", name),
            logs_dropped: counter(
                "mayfly_function_logs_dropped_total",
                "Log records over the function's share of the log",
                name,
            ),
            resets: resets(registry, name),
            version_requests: versions(
                registry,
                "mayfly_version_requests_total",
                "Requests of each version, where several share a function's",
            ),
            version_errors: versions(
                registry,
                "mayfly_version_errors_total",
                "Those of them that ended with a status of 500 and above",
            ),
            deployment: number(
                registry,
                "mayfly_function_deployment",
                "Generation of the current deployment",
            ),
            revision: number(
                registry,
                "mayfly_function_revision",
                "Number of the version with the most requests",
            ),
        }
    }
}

fn resets(registry: &Registry, labels: &[&str]) -> CounterVec {
    let help = "Taking large instances down and making their slots ready, off the workers";
    register(registry, CounterVec::new(Opts::new("mayfly_reset_seconds_total", help), labels))
}

fn versions(registry: &Registry, metric: &str, help: &str) -> IntCounterVec {
    let counter = IntCounterVec::new(Opts::new(metric, help), &["faas_name", "faas_version"]);
    register(registry, counter)
}

fn number(registry: &Registry, metric: &str, help: &str) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(metric, help), &["faas_name"]))
}

/// The handles that every invocation of a function touches.
struct Instances {
    coldstarts: IntCounter,
    queue: Histogram,
    init: Histogram,
    invoke: Histogram,
}

/// Handles of one function; the empty name stands for requests that reached none.
pub(super) struct FunctionSeries {
    family: Arc<Family>,
    name: Box<str>,
    removed: AtomicBool,
    answered: OnceLock<IntCounter>,
    resets: OnceLock<Counter>,
    instances: OnceLock<Instances>,
    logs_dropped: OnceLock<IntCounter>,
    by_status: [OnceLock<Histogram>; STATUS_SLOTS],
    by_outcome: [OnceLock<Failed>; OUTCOME_SLOTS],
}

struct Failed {
    /// Of the status that the outcome was first seen with, and mostly is.
    requests: Histogram,
    slot: usize,
    errors: IntCounter,
    timeouts: Option<IntCounter>,
}

impl FunctionSeries {
    pub(super) fn new(family: &Arc<Family>, name: &str) -> Arc<Self> {
        Arc::new(Self {
            family: Arc::clone(family),
            name: name.into(),
            removed: AtomicBool::new(false),
            answered: OnceLock::new(),
            resets: OnceLock::new(),
            instances: OnceLock::new(),
            logs_dropped: OnceLock::new(),
            by_status: [const { OnceLock::new() }; STATUS_SLOTS],
            by_outcome: [const { OnceLock::new() }; OUTCOME_SLOTS],
        })
    }

    pub(super) fn observe(&self, outcome: usize, status: u16, times: &PhaseTimes) {
        // The function may be there again under its name by now, with series that are not these.
        if self.removed.load(Ordering::Acquire) {
            return;
        }
        let total = seconds(times.total_ns);
        if outcome == Outcome::Answered.index() {
            self.answered
                .get_or_init(|| self.family.invocations.with_label_values(&[&*self.name]))
                .inc();
            self.status(status_slot(status)).observe(total);
        } else if outcome < OUTCOME_SLOTS {
            let failed = self.by_outcome[outcome].get_or_init(|| self.failed(outcome, status));
            if failed.slot == status_slot(status) {
                failed.requests.observe(total);
            } else {
                // An end after the head has the guest's status: too rare for handles of its own.
                self.requests(status_slot(status), outcome).observe(total);
            }
            failed.errors.inc();
            if let Some(timeouts) = &failed.timeouts {
                timeouts.inc();
            }
        }
        if times.instantiate_ns > 0 {
            let instances = self.instances.get_or_init(|| self.instances());
            instances.coldstarts.inc();
            instances.queue.observe(seconds(times.queue_ns));
            instances.init.observe(seconds(times.instantiate_ns));
            instances.invoke.observe(seconds(times.call_ns));
        }
    }

    pub(super) fn log_dropped(&self) {
        if self.removed.load(Ordering::Acquire) {
            return;
        }
        let counter = || self.family.logs_dropped.with_label_values(&[&*self.name]);
        self.logs_dropped.get_or_init(counter).inc();
    }

    fn status(&self, slot: usize) -> &Histogram {
        self.by_status[slot].get_or_init(|| {
            let status = status_label(slot);
            self.family.requests.with_label_values(&[&*self.name, &status, ""])
        })
    }

    fn instances(&self) -> Instances {
        let name = &[&*self.name];
        Instances {
            coldstarts: self.family.coldstarts.with_label_values(name),
            queue: self.family.queue.with_label_values(name),
            init: self.family.init.with_label_values(name),
            invoke: self.family.invoke.with_label_values(name),
        }
    }

    fn failed(&self, outcome: usize, status: u16) -> Failed {
        let label = Outcome::LABELS[outcome];
        let slot = status_slot(status);
        let timeout = Outcome::STATUSES[outcome] == 504;
        Failed {
            requests: self.requests(slot, outcome),
            slot,
            errors: self.family.errors.with_label_values(&[&*self.name, label]),
            timeouts: timeout.then(|| self.family.timeouts.with_label_values(&[&*self.name])),
        }
    }

    fn requests(&self, slot: usize, outcome: usize) -> Histogram {
        let label = Outcome::LABELS[outcome];
        self.family.requests.with_label_values(&[&*self.name, &status_label(slot), label])
    }

    pub(super) fn reset(&self, took: Duration) {
        if !self.removed.load(Ordering::Acquire) {
            let counter = || self.family.resets.with_label_values(&[&*self.name]);
            self.resets.get_or_init(counter).inc_by(took.as_secs_f64());
        }
    }

    pub(super) fn remove(&self) {
        self.removed.store(true, Ordering::Release);
        self.take_away();
    }

    /// Unregisters every series this function may have; those that it has not are no error.
    fn take_away(&self) {
        let (family, name) = (&self.family, &[&*self.name]);
        for slot in 0..STATUS_SLOTS {
            let status = status_label(slot);
            let _ = family.requests.remove_label_values(&[&*self.name, &status, ""]);
            for label in Outcome::LABELS {
                let _ = family.requests.remove_label_values(&[&*self.name, &status, label]);
            }
        }
        for label in Outcome::LABELS {
            let _ = family.errors.remove_label_values(&[&*self.name, label]);
        }
        let _ = family.invocations.remove_label_values(name);
        let _ = family.timeouts.remove_label_values(name);
        let _ = family.coldstarts.remove_label_values(name);
        let _ = family.queue.remove_label_values(name);
        let _ = family.init.remove_label_values(name);
        let _ = family.invoke.remove_label_values(name);
        let _ = family.logs_dropped.remove_label_values(name);
        let _ = family.resets.remove_label_values(name);
        let _ = family.revision.remove_label_values(name);
        let _ = family.deployment.remove_label_values(name);
    }

    pub(super) fn summary(&self) -> Summary {
        let errors = Outcome::LABELS.iter().zip(&self.by_outcome).filter_map(|(label, failed)| {
            let count = failed.get()?.errors.get();
            (count > 0).then_some((*label, count))
        });
        let quantile =
            |pick: fn(&Instances) -> &Histogram, q| quantile_us(pick(self.instances.get()?), q);
        Summary {
            invocations: self.answered.get().map_or(0, IntCounter::get),
            errors: errors.collect(),
            instantiate_p50_us: quantile(|i| &i.init, 0.5),
            call_p50_us: quantile(|i| &i.invoke, 0.5),
            call_p99_us: quantile(|i| &i.invoke, 0.99),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "52 bits of nanoseconds are 52 days")]
fn seconds(ns: u64) -> f64 {
    ns as f64 * 1e-9
}

/// Upper bound in microseconds of the bucket that holds the quantile; `None` when empty or beyond the last bucket.
fn quantile_us(histogram: &Histogram, quantile: f64) -> Option<f64> {
    let metric = histogram.metric();
    let data = metric.get_histogram();
    #[expect(clippy::cast_precision_loss, reason = "a rank needs no more than 52 bits")]
    let rank = (data.get_sample_count() as f64 * quantile).max(1.0);
    #[expect(clippy::cast_precision_loss, reason = "a rank needs no more than 52 bits")]
    let holds = |count: u64| count as f64 >= rank;
    let bucket = data.get_bucket().iter().find(|bucket| holds(bucket.cumulative_count()))?;
    // Rounded, because 5e-6 * 1e6 is 4.999999999999999.
    Some((bucket.upper_bound() * 1e7).round() / 10.0)
}
