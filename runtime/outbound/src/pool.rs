//! One function's connections: those that are idle, how many there are, and which origins fail.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use mayfly_core::limits::outbound;
use mayfly_core::outbound::{Scheme, Target};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsConnector;

use crate::fault::{Code, Fault};
use crate::upload::CallBody;

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin(Scheme, String, u16);

impl Origin {
    pub(crate) fn of(target: &Target) -> Self {
        Self(target.scheme, target.host.clone(), target.port)
    }
}

/// A connection, and its place among the sockets.
pub(crate) struct Conn {
    pub(crate) sender: SendRequest<CallBody>,
    _places: Places,
}

/// What a socket has of its function and of the node.
pub(crate) struct Places {
    _own: OwnedSemaphorePermit,
    _node: OwnedSemaphorePermit,
}

impl Conn {
    pub(crate) fn new(sender: SendRequest<CallBody>, places: Places) -> Self {
        Self { sender, _places: places }
    }
}

pub(crate) struct Pool {
    origins: Mutex<HashMap<Origin, State>>,
    sockets: Arc<Semaphore>,
    tls: OnceLock<TlsConnector>,
}

impl Default for Pool {
    fn default() -> Self {
        let sockets = Arc::new(Semaphore::new(outbound::OUTBOUND_FUNCTION_SOCKETS));
        Self { origins: Mutex::default(), sockets, tls: OnceLock::new() }
    }
}

struct State {
    /// The one that was used last is at the end, and is the next to be used.
    idle: Vec<(Instant, Conn)>,
    failures: u32,
    failing_since: Instant,
    refuses_until: Option<Instant>,
    used: Instant,
}

impl State {
    fn new(now: Instant) -> Self {
        Self { idle: Vec::new(), failures: 0, failing_since: now, refuses_until: None, used: now }
    }
}

impl Pool {
    /// An idle connection, if there is one.
    ///
    /// # Errors
    /// While the origin is known to fail.
    pub(crate) fn take(&self, origin: &Origin) -> Result<Option<Conn>, Fault> {
        let now = Instant::now();
        let mut origins = self.origins.lock();
        let Some(state) = origins.get_mut(origin) else { return Ok(None) };
        state.used = now;
        while let Some((since, conn)) = state.idle.pop() {
            if now - since < outbound::OUTBOUND_KEEP_ALIVE && !conn.sender.is_closed() {
                return Ok(Some(conn));
            }
        }
        match state.refuses_until.filter(|until| now < *until) {
            None => Ok(None),
            Some(_) => Err(Fault::new(
                Code::Connect,
                format!(
                    "{} connections in turn have failed: none is tried for {}",
                    outbound::OUTBOUND_FAILURES,
                    mayfly_core::units::format_duration(outbound::OUTBOUND_REFUSES)
                ),
            )),
        }
    }

    /// Gives a connection back.
    pub(crate) fn put(&self, origin: Origin, conn: Conn) {
        let now = Instant::now();
        let mut origins = self.origins.lock();
        let state = state_of(&mut origins, origin, now);
        state.used = now;
        if state.idle.len() < outbound::OUTBOUND_ORIGIN_IDLE {
            state.idle.push((now, conn));
        }
    }

    /// Notes how a connection went that was tried.
    pub(crate) fn tried(&self, origin: &Origin, failed: bool) {
        let now = Instant::now();
        let mut origins = self.origins.lock();
        if !failed {
            if let Some(state) = origins.get_mut(origin) {
                (state.failures, state.refuses_until) = (0, None);
            }
            return;
        }
        let state = state_of(&mut origins, origin.clone(), now);
        state.used = now;
        if now - state.failing_since > outbound::OUTBOUND_FAILURES_IN {
            (state.failures, state.failing_since) = (0, now);
        }
        state.failures += 1;
        if state.failures >= outbound::OUTBOUND_FAILURES {
            state.refuses_until = Some(now + outbound::OUTBOUND_REFUSES);
        }
    }

    /// Room for one more socket, of this function's and of the node's; idle ones make it, this function's own first.
    pub(crate) fn places(
        &self,
        node: (&Arc<Semaphore>, usize),
        close_any: impl Fn() -> bool,
    ) -> Result<Places, Fault> {
        let most = outbound::OUTBOUND_FUNCTION_SOCKETS;
        let own = place(&self.sockets, || self.close_idlest(), ("this function", most))?;
        Ok(Places { _own: own, _node: place(node.0, close_any, ("this node", node.1))? })
    }

    pub(crate) fn tls(&self, make: impl FnOnce() -> TlsConnector) -> TlsConnector {
        self.tls.get_or_init(make).clone()
    }

    /// Since when the connection has been idle that was used the longest ago.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let origins = self.origins.lock();
        origins.values().filter_map(|state| state.idle.first()).map(|(since, _)| *since).min()
    }

    pub(crate) fn close_idlest(&self) -> bool {
        let mut origins = self.origins.lock();
        let with_idle = origins.values_mut().filter(|state| !state.idle.is_empty());
        let idlest = with_idle.min_by_key(|state| state.idle[0].0);
        idlest.map(|state| state.idle.remove(0)).is_some()
    }

    /// Closes what has been idle for so long.
    pub(crate) fn sweep(&self, age: Duration) {
        let now = Instant::now();
        self.origins.lock().retain(|_, state| {
            state.idle.retain(|(since, conn)| now - *since < age && !conn.sender.is_closed());
            !state.idle.is_empty() || now - state.used < age
        });
    }
}

fn place(
    sockets: &Arc<Semaphore>,
    close_one: impl Fn() -> bool,
    (whose, most): (&str, usize),
) -> Result<OwnedSemaphorePermit, Fault> {
    loop {
        if let Ok(place) = sockets.clone().try_acquire_owned() {
            return Ok(place);
        }
        if !close_one() {
            let words = format!(
                "{whose} has {most} sockets open for calls, the most that it may: try again"
            );
            return Err(Fault::new(Code::Budget, words));
        }
    }
}

fn state_of(origins: &mut HashMap<Origin, State>, origin: Origin, now: Instant) -> &mut State {
    if origins.len() >= outbound::OUTBOUND_ORIGINS && !origins.contains_key(&origin) {
        let oldest = origins.iter().min_by_key(|(_, state)| state.used);
        if let Some(oldest) = oldest.map(|(origin, _)| origin.clone()) {
            origins.remove(&oldest);
        }
    }
    origins.entry(origin).or_insert_with(|| State::new(now))
}
