//! One request's host-side state: what a guest may reach, and how much of it.
//!
//! Nothing here outlives the request. WASI's context is built at the first call that needs one, which most SDK guests
//! never make.

mod assets;
pub mod cgi;
mod fetches;
pub mod head;
mod inbound;
pub mod stdio;
mod terms;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mayfly_core::limits::{Limits, node};
use mayfly_core::record::Abi;
use mayfly_core::{Outcome, RequestId};
use mayfly_observe::logs::{LogSink, Stream};
use parking_lot::Mutex;
use wasmtime::{Memory, ResourceLimiter};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxBuilder, WasiView as _};

use crate::admission::Slot;
use crate::exchange::{Caps, Exchange};
use crate::meter::{Meter, Tick};
use crate::profile::Probe;
pub use assets::Assets;
pub use fetches::{Fetches, Slot as Fetching};
pub use inbound::{Forwarded, Inbound, default_port};
use stdio::{CgiOut, GuestLog, LogStream, SharedCgi, Stdin};
pub use terms::Terms;

/// Of a request that another function made in the node: within how many such calls it is.
#[derive(Debug, Clone, Copy)]
pub struct Hops(pub u8);

/// The data of one request's wasmtime store.
pub struct Sandbox {
    /// The request's head.
    pub inbound: Box<Inbound>,
    /// Where its body comes from and the response goes.
    pub exchange: Arc<Exchange>,
    /// Its time.
    pub meter: Arc<Meter>,
    /// What is being run.
    pub terms: Arc<Terms>,
    /// The guest's one memory, once it is instantiated.
    pub memory: Option<Memory>,
    /// Told by its imports when they begin and end, if they are linked so.
    pub probe: Option<Arc<Probe>>,
    limiter: Limiter,
    logs: LogSink,
    log: Option<Arc<Mutex<GuestLog>>>,
    cgi: Option<Arc<CgiOut>>,
    wasi: Option<Box<WasiP1Ctx>>,
    fetches: Option<Box<Fetches>>,
}

impl Sandbox {
    /// A sandbox for one request.
    #[must_use]
    pub fn new(
        inbound: Box<Inbound>,
        exchange: Arc<Exchange>,
        meter: Arc<Meter>,
        terms: Arc<Terms>,
        logs: LogSink,
    ) -> Self {
        let limiter = Limiter::new(terms.limits());
        Self {
            inbound,
            exchange,
            meter,
            terms,
            memory: None,
            probe: None,
            limiter,
            logs,
            log: None,
            cgi: None,
            wasi: None,
            fetches: None,
        }
    }

    /// A sandbox for an instance that gets no request: publish makes one to see that it can be made, which is to take
    /// `START_TIMEOUT` at most.
    #[must_use]
    pub fn rehearsal(terms: Arc<Terms>, logs: LogSink) -> Self {
        let parts = http::Request::new(()).into_parts().0;
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let inbound = Inbound::new(parts, nowhere, nowhere, RequestId::from_random(0));
        let most = u64::try_from(node::START_TIMEOUT.as_micros()).unwrap_or(u64::MAX);
        let limits = Limits { wall_us: most, cpu_us: most, ..terms.limits().clone() };
        let meter = Arc::new(Meter::new(inbound.arrived, &limits));
        let exchange = Exchange::new(
            None,
            Caps { request_body: 0, response_body: 0, body_idle: node::BODY_IDLE_TIMEOUT },
        );
        Self::new(inbound, exchange, meter, terms, logs)
    }

    /// The WASI context, built at first use.
    pub fn wasi(&mut self) -> &mut WasiP1Ctx {
        // Two steps, because building borrows all of the sandbox.
        if self.wasi.is_none() {
            self.wasi = Some(Box::new(self.build_wasi()));
        }
        let Some(wasi) = &mut self.wasi else { unreachable!("set just above") };
        wasi
    }

    /// Its calls to others; made at the first.
    pub fn fetches(&mut self) -> &mut Fetches {
        self.fetches.get_or_insert_default()
    }

    /// How many calls of functions it is within.
    #[must_use]
    pub fn hops(&self) -> u8 {
        self.inbound.parts.extensions.get::<Hops>().map_or(0, |hops| hops.0)
    }

    /// Puts a line of the host's into its function's log.
    pub fn say(&mut self, words: &str) {
        let log = self.log();
        log.lock().write(Stream::Stderr, format!("mayfly: {words}\n").as_bytes());
    }

    /// What [`crate::kernels`] ask in the middle of a long call, as a tick would.
    pub fn pause(&mut self) -> wasmtime::Result<bool> {
        self.exchange.wake_client();
        match self.meter.tick() {
            Tick::GoOn => Ok(false),
            Tick::Yield => Ok(true),
            Tick::Over(outcome) => Err(Stop(outcome).into()),
        }
    }

    /// Its memory has so many bytes from the first, whatever its code asks for: the limiter counts these.
    pub fn begins_with(&mut self, bytes: u64) {
        self.limiter.memory_least = usize::try_from(bytes).unwrap_or(usize::MAX);
    }

    /// The limiter, for wasmtime.
    pub fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.limiter
    }

    /// Whether a growth of memory was refused.
    #[must_use]
    pub fn memory_denied(&self) -> bool {
        self.limiter.memory_denied
    }

    /// The slot that the instance is in: growth of its memory is counted there.
    pub fn put_into(&mut self, slot: Slot) {
        self.limiter.slot = Some((slot, self.meter.clone()));
    }

    /// The slot, for as long as the instance is in it.
    pub fn slot(&mut self) -> Option<&mut Slot> {
        self.limiter.slot.as_mut().map(|(slot, _)| slot)
    }

    /// The slot of an instance that is about to be dropped.
    pub fn take_slot(&mut self) -> Option<Slot> {
        self.limiter.slot.take().map(|(slot, _)| slot)
    }

    /// Bytes of log output that were dropped because of the limit, after writing out a last unfinished line.
    pub fn finish_logs(&mut self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.lock().finish())
    }

    /// The words for what a command module has written in place of a head, if it ended before one was complete.
    #[must_use]
    pub fn cgi_unfinished(&self) -> Option<String> {
        self.cgi.as_ref().and_then(|cgi| cgi.unfinished())
    }

    fn build_wasi(&mut self) -> WasiP1Ctx {
        let mut builder = wasi_builder();
        builder.stderr(LogStream::new(self.log(), Stream::Stderr));
        match self.terms.record.abi {
            Abi::Reactor => {
                builder.envs(&self.terms.env);
                if let Some(secrets) = self.terms.secrets() {
                    builder.envs(&secrets);
                }
                builder.stdout(LogStream::new(self.log(), Stream::Stdout));
            }
            Abi::Command => {
                builder.envs(&cgi::environment(&self.inbound, &self.terms));
                builder.arg(self.terms.record.function.as_str());
                builder.args(&self.terms.record.settings.args);
                builder.stdin(Stdin(self.exchange.clone()));
                let out = Arc::new(CgiOut::new(self.exchange.clone()));
                builder.stdout(SharedCgi(out.clone()));
                self.cgi = Some(out);
            }
        }
        build_wasi(builder)
    }

    fn log(&mut self) -> Arc<Mutex<GuestLog>> {
        let terms = &self.terms;
        let (logs, id) = (&self.logs, self.inbound.request_id);
        self.log
            .get_or_insert_with(|| {
                Arc::new(Mutex::new(GuestLog::new(terms.clone(), id, logs.clone())))
            })
            .clone()
    }
}

/// WASI as every guest gets it: no directory, capped draws, a clock that starts with it. Its streams are the caller's.
#[must_use]
pub fn wasi_builder() -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder.max_random_size(node::RANDOM_BYTES);
    builder.monotonic_clock(CoarseClock(Instant::now()));
    builder.wall_clock(CoarseCalendar);
    builder
}

/// What [`wasi_builder`] began, with a cap on what a guest may hold open.
#[must_use]
pub fn build_wasi(mut builder: WasiCtxBuilder) -> WasiP1Ctx {
    let mut wasi = builder.build_p1();
    wasi.ctx().table.set_max_capacity(node::GUEST_HANDLES);
    wasi
}

/// Caps memory and tables, and remembers what it refused so that the error can say so.
pub struct Limiter {
    memory_bytes: usize,
    table_elements: usize,
    memory_denied: bool,
    /// Bytes that the memory has from the first, whatever the code asks for.
    memory_least: usize,
    slot: Option<(Slot, Arc<Meter>)>,
}

impl Limiter {
    /// With these caps, of an instance that is in no slot.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let cap = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            memory_bytes: cap(limits.memory_bytes),
            table_elements: cap(limits.table_elements),
            memory_denied: false,
            memory_least: 0,
            slot: None,
        }
    }

    /// Whether a growth of memory was refused.
    #[must_use]
    pub fn memory_denied(&self) -> bool {
        self.memory_denied
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let desired = desired.max(self.memory_least);
        // Beyond the module's own maximum it fails anyway, and that is not our limit's doing.
        let own_maximum = maximum.is_some_and(|maximum| desired > maximum);
        let allowed = desired <= self.memory_bytes;
        self.memory_denied |= !allowed && !own_maximum;
        if allowed
            && !own_maximum
            && let Some((slot, meter)) = &mut self.slot
        {
            slot.grow(meter, desired);
        }
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= self.table_elements)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        8
    }
}

/// A monotonic clock in steps of `CLOCK_GRANULARITY` that starts at each request: no oracle, no uptime.
struct CoarseClock(Instant);

impl wasmtime_wasi::HostMonotonicClock for CoarseClock {
    fn resolution(&self) -> u64 {
        u64::try_from(node::CLOCK_GRANULARITY.as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        let ns = u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Starts at one step: some programs take zero for "no time".
        ns - ns % self.resolution() + self.resolution()
    }
}

/// The time of day in the same steps. A machine whose clock is before 1970 has 1970.
struct CoarseCalendar;

impl wasmtime_wasi::HostWallClock for CoarseCalendar {
    fn resolution(&self) -> Duration {
        node::CLOCK_GRANULARITY
    }

    fn now(&self) -> Duration {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let step = self.resolution().as_nanos();
        let beyond = u64::try_from(now.as_nanos() % step).unwrap_or(0);
        now.saturating_sub(Duration::from_nanos(beyond))
    }
}

/// Stops a guest from the host's side: carries the outcome through wasmtime's error.
#[derive(Debug, thiserror::Error)]
#[error("stopped by the host: {}", .0.label())]
pub struct Stop(pub Outcome);

#[cfg(test)]
mod tests {
    use wasmtime_wasi::HostWallClock as _;

    use super::*;

    #[test]
    fn the_time_of_day_has_the_steps_of_the_other_clock() {
        let step = node::CLOCK_GRANULARITY.as_nanos();
        let now = CoarseCalendar.now();
        assert_eq!(now.as_nanos() % step, 0);
        let really = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert!(really.checked_sub(now).unwrap() < Duration::from_secs(60));
    }
}
