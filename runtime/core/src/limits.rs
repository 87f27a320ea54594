//! Every cap in Mayfly: name, unit, default and reason. `docs/limits.md` is checked against this file by a test.

/// Constants, and a list of them for the documentation.
macro_rules! caps {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $value:expr, $unit:ident;)*) => {
        $($(#[doc = $doc])+ pub const $name: $type = $value;)*
        /// Every cap with its value as it is written and its reason, for the documentation.
        #[must_use]
        pub fn all() -> Vec<crate::limits::page::Cap> {
            vec![$(crate::limits::page::Cap {
                name: stringify!($name),
                value: $unit($name),
                reason: concat!($($doc),+).trim(),
            }),*]
        }
    };
}

pub mod node;
pub mod outbound;
pub mod page;

use std::time::Duration;

use serde::{Deserialize, Serialize};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What one invocation of a function may use. Part of its revision; set by `mayfly deploy --limit key=value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// From the arrival of the request's head to the end of its guest, in microseconds.
    pub wall_us: u64,
    /// Time spent running guest code, in microseconds.
    pub cpu_us: u64,
    /// Linear memory, in bytes.
    pub memory_bytes: u64,
    /// Elements of all tables.
    pub table_elements: u64,
    /// Body of the request, in bytes.
    pub request_body_bytes: u64,
    /// Body of the response, in bytes.
    pub response_body_bytes: u64,
    /// Log output of one invocation, in bytes; what is over is dropped and counted.
    pub log_bytes: u64,
    /// Invocations of this function at once.
    pub concurrency: u64,
    /// Time that the init at deploy may run, in microseconds of wall and of CPU time.
    pub init_us: u64,
    /// Calls to others of one invocation.
    pub outbound_requests: u64,
    /// Such calls at once.
    pub outbound_parallel: u64,
    /// Bytes of bodies of all such calls, of each direction.
    pub outbound_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall_us: 30_000_000,
            cpu_us: 10_000_000,
            memory_bytes: 128 * MIB,
            table_elements: 100_000,
            request_body_bytes: 10 * MIB,
            response_body_bytes: 10 * MIB,
            log_bytes: 64 * KIB,
            concurrency: 1_000,
            init_us: 60_000_000,
            outbound_requests: 50,
            outbound_parallel: 6,
            outbound_bytes: 10 * MIB,
        }
    }
}

/// How a limit is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `30s`, `250ms`.
    Duration,
    /// `128MiB`.
    Size,
    /// A plain number.
    Count,
}

/// One key of [`Limits`].
pub struct LimitKey {
    /// As in `--limit name=value`.
    pub name: &'static str,
    /// How its value is written.
    pub unit: Unit,
    /// Smallest value that makes sense.
    pub min: u64,
    /// What no function can be given more of, whoever asks.
    pub max: u64,
    /// What is counted, and of what.
    pub counts: &'static str,
    /// Why there is such a limit, in one line.
    pub reason: &'static str,
    get: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
}

macro_rules! key {
    ($name:literal, $field:ident, $unit:ident, $min:expr, $max:expr, $counts:literal, $reason:literal) => {
        LimitKey {
            name: $name,
            unit: Unit::$unit,
            min: $min,
            max: $max,
            counts: $counts,
            reason: $reason,
            get: |limits| limits.$field,
            set: |limits, value| limits.$field = value,
        }
    };
}

/// All keys of [`Limits`], in the order they are documented.
pub const LIMIT_KEYS: &[LimitKey] = &[
    key!(
        "wall",
        wall_us,
        Duration,
        1_000,
        900_000_000,
        "time of one request, from the arrival of its whole head until its guest has ended, waiting included",
        "a client that waits holds a connection and a slot"
    ),
    key!(
        "cpu",
        cpu_us,
        Duration,
        1_000,
        300_000_000,
        "CPU time of one request's guest, and of what the node computes for it",
        "a loop takes a core from everybody else"
    ),
    key!(
        "memory",
        memory_bytes,
        Size,
        64 * KIB,
        4 * GIB,
        "linear memory of one instance, so of one request: what it starts with and what it grows by",
        "an instance's memory is the node's memory"
    ),
    key!(
        "table",
        table_elements,
        Count,
        1,
        100_000,
        "elements of one instance's table",
        "tables are host memory, eight bytes an element"
    ),
    key!(
        "request-body",
        request_body_bytes,
        Size,
        0,
        GIB,
        "bytes of one request's body, without the framing of chunks; of an inference, also of the tensors made of it",
        "a body that nobody needs costs bandwidth and time"
    ),
    key!(
        "response-body",
        response_body_bytes,
        Size,
        0,
        GIB,
        "bytes of one answer's body as its guest writes them",
        "a guest could fill a client's disk, and our egress"
    ),
    key!(
        "log",
        log_bytes,
        Size,
        0,
        MIB,
        "bytes that one request writes to its log, and 64 more for each line; what is over is dropped and counted",
        "a log flood would hide other functions' lines"
    ),
    key!(
        "concurrency",
        concurrency,
        Count,
        1,
        100_000,
        "requests of the function that are not answered yet, those that wait for a slot among them",
        "one function must not take every slot"
    ),
    key!(
        "init",
        init_us,
        Duration,
        1_000,
        600_000_000,
        "wall time of the init of one deploy",
        "init is untrusted code as well, run once per deploy"
    ),
    key!(
        "outbound-requests",
        outbound_requests,
        Count,
        0,
        10_000,
        "calls that one request makes to others, those that failed among them",
        "one request must not become a flood of them"
    ),
    key!(
        "outbound-parallel",
        outbound_parallel,
        Count,
        1,
        100,
        "calls of one request at once; a further one is refused until one has ended",
        "each is a socket and a buffer"
    ),
    key!(
        "outbound-bytes",
        outbound_bytes,
        Size,
        0,
        GIB,
        "bytes of bodies that one request sends in its calls, and as many that it receives",
        "it is the node's bandwidth on both sides"
    ),
];

/// A limit that cannot be set so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Not `key=value`.
    #[error("'{0}' is not a limit: write key=value, as in memory=256MiB")]
    Form(String),
    /// No such key.
    #[error("there is no limit '{0}': the keys are {keys}", keys = key_names())]
    Key(String),
    /// Not a value of the key's unit.
    #[error("limit {key}: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with the value.
        why: String,
    },
    /// Outside what the node allows.
    #[error("limit {key} must be {min} to {max}, not {value}")]
    Range {
        /// The key.
        key: &'static str,
        /// Smallest value allowed.
        min: String,
        /// Largest value allowed.
        max: String,
        /// The value given.
        value: String,
    },
}

impl LimitKey {
    /// This key's value in `limits`, as a number of its unit's base (microseconds, bytes, one).
    #[must_use]
    pub fn get(&self, limits: &Limits) -> u64 {
        (self.get)(limits)
    }

    /// A value of this key as it is written: `30s`, `128MiB`, `1000`.
    #[must_use]
    pub fn format(&self, value: u64) -> String {
        match self.unit {
            Unit::Duration => crate::units::format_duration(Duration::from_micros(value)),
            Unit::Size => crate::units::format_size(value),
            Unit::Count => value.to_string(),
        }
    }

    fn parse(&self, text: &str) -> Result<u64, LimitError> {
        let wrong = |why: String| LimitError::Value { key: self.name, why };
        let value = match self.unit {
            Unit::Duration => {
                let duration =
                    crate::units::parse_duration(text).map_err(|e| wrong(e.to_string()))?;
                u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
            }
            Unit::Size => crate::units::parse_size(text).map_err(|e| wrong(e.to_string()))?,
            Unit::Count => {
                text.trim().parse().map_err(|_| wrong(format!("'{text}' is not a whole number")))?
            }
        };
        self.check(value)?;
        Ok(value)
    }

    fn check(&self, value: u64) -> Result<(), LimitError> {
        if (self.min..=self.max).contains(&value) {
            return Ok(());
        }
        Err(LimitError::Range {
            key: self.name,
            min: self.format(self.min),
            max: self.format(self.max),
            value: self.format(value),
        })
    }
}

impl Limits {
    /// Sets one limit from `key=value`.
    ///
    /// # Errors
    /// [`LimitError`] names the key and what it takes.
    pub fn set(&mut self, assignment: &str) -> Result<(), LimitError> {
        let (name, value) =
            assignment.split_once('=').ok_or_else(|| LimitError::Form(assignment.into()))?;
        let key = LIMIT_KEYS
            .iter()
            .find(|key| key.name == name.trim())
            .ok_or_else(|| LimitError::Key(name.trim().into()))?;
        (key.set)(self, key.parse(value)?);
        Ok(())
    }

    /// Checks limits that came from a file or an API against the node's bounds.
    ///
    /// # Errors
    /// [`LimitError::Range`] for the first that is out of bounds.
    pub fn check(&self) -> Result<(), LimitError> {
        LIMIT_KEYS.iter().try_for_each(|key| key.check(key.get(self)))
    }

    /// Each key with its value as it is written, in documented order.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        LIMIT_KEYS.iter().map(|key| (key.name, key.format(key.get(self))))
    }

    /// [`Limits::wall_us`] as a duration.
    #[must_use]
    pub fn wall(&self) -> Duration {
        Duration::from_micros(self.wall_us)
    }

    /// [`Limits::cpu_us`] as a duration.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        Duration::from_micros(self.cpu_us)
    }

    /// [`Limits::init_us`] as a duration.
    #[must_use]
    pub fn init(&self) -> Duration {
        Duration::from_micros(self.init_us)
    }
}

fn key_names() -> String {
    LIMIT_KEYS.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_own_bounds() {
        assert_eq!(Limits::default().check(), Ok(()));
    }

    #[test]
    fn a_limit_is_set_by_its_key() {
        let mut limits = Limits::default();
        limits.set("memory=256MiB").unwrap();
        limits.set("wall = 5s").unwrap();
        limits.set("concurrency=3").unwrap();
        assert_eq!(
            (limits.memory_bytes, limits.wall_us, limits.concurrency),
            (256 * MIB, 5_000_000, 3)
        );
        assert!(limits.entries().any(|entry| entry == ("memory", "256MiB".into())));
    }

    #[test]
    fn what_cannot_be_set_says_why() {
        let mut limits = Limits::default();
        for (bad, expect) in [
            ("memory", "write key=value"),
            ("mem=1", "the keys are wall, cpu, memory"),
            ("memory=lots", "is not a size"),
            ("memory=5GiB", "must be 64KiB to 4GiB, not 5GiB"),
            ("memory=63KiB", "must be 64KiB"),
            ("wall=1h", "must be 1ms to 900s"),
            ("concurrency=0", "must be 1 to 100000"),
            ("concurrency=many", "not a whole number"),
        ] {
            let error = limits.set(bad).unwrap_err().to_string();
            assert!(error.contains(expect), "{bad}: {error}");
        }
        assert_eq!(limits, Limits::default());
    }

    #[test]
    fn each_key_is_settable_at_both_bounds_and_not_beyond() {
        for key in LIMIT_KEYS {
            for value in [key.min, key.max] {
                let mut limits = Limits::default();
                (key.set)(&mut limits, value);
                assert_eq!(limits.check(), Ok(()), "{}", key.name);
                assert_eq!(key.get(&limits), value);
            }
            let mut limits = Limits::default();
            (key.set)(&mut limits, key.max + 1);
            assert!(limits.check().is_err(), "{}", key.name);
        }
    }

    #[test]
    fn times_are_in_microseconds() {
        let limits = Limits { wall_us: 1, cpu_us: 2, init_us: 3, ..Limits::default() };
        let us = [limits.wall(), limits.cpu(), limits.init()].map(|time| time.as_micros());
        assert_eq!(us, [1, 2, 3]);
    }
}
