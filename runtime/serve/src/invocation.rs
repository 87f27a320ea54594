//! One request: admit, instantiate, call, respond.
//!
//! A guest starts on the worker that has its request, and most end there, in the same poll. One that waits becomes a
//! task; one that runs beyond its tick goes on among the guest threads. Whatever happens, an invocation's `Ledger`
//! writes down how it ended, once.

mod choose;
mod find;
mod front;
mod housed;
mod judge;
mod ledger;
mod life;
mod own;
mod respond;
mod timing;
mod whole;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use http::{Method, Response};
use mayfly_core::limits::node;
use mayfly_core::{FunctionName, Outcome};
use mayfly_host::admission::Place;
use mayfly_host::exchange::{Caps, Exchange, RequestBody, ResponseBody, Verdict};
use mayfly_host::meter::{Meter, Order};
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::{Inbound, Sandbox};

use crate::node::{Node, Task};
pub use choose::{choose, has_token};
pub use find::vet;
use find::{find, loaded, named};
use ledger::Ledger;
pub use ledger::{note, refuse};
pub use respond::{X_REQUEST_ID, add_id};
use timing::Clock;

/// Runs the function that a request is for and gives its response, or the one that says why there is none.
pub async fn handle(
    node: &Arc<Node>,
    mut inbound: Box<Inbound>,
    body: Option<RequestBody>,
) -> Response<ResponseBody> {
    if let Some(response) = own::answer(node, &inbound) {
        return response;
    }
    let ledger = Ledger::open(node, &inbound);
    let mut found = find(node, &mut inbound);
    if matches!(found, Err(Outcome::Preparing)) && node.catalog.load().is_loading() {
        // Boxed, as below; once for each function after a start.
        Box::pin(loaded(node, &inbound)).await;
        found = find(node, &mut inbound);
    }
    match found {
        Err(Outcome::NotFound) if own::asks_options(&inbound.parts) => own::options(ledger),
        Err(Outcome::NotFound) if node.has_front_page && front::is_asked(&inbound.parts) => {
            front::page(ledger, &inbound.parts)
        }
        Ok((revision, mark)) => {
            let mut response = admit(node, ledger, revision, inbound, body).await;
            if let Some(mark) = mark {
                mark.put(&mut response);
            }
            response
        }
        Err(outcome) => respond::refuse(ledger, outcome),
    }
}

/// Runs a function that another one calls by its name; nothing if there is none of that name.
pub async fn within(
    node: &Arc<Node>,
    function: &FunctionName,
    inbound: Box<Inbound>,
    body: Option<RequestBody>,
) -> Option<Response<ResponseBody>> {
    let found = match named(node, function, &inbound) {
        Err(Outcome::Preparing) if node.catalog.load().is_loading() => {
            loaded(node, &inbound).await;
            named(node, function, &inbound)
        }
        found => found,
    };
    let ledger = match &found {
        Err(Outcome::NotFound) => return None,
        Ok(_) | Err(_) => Ledger::open(node, &inbound),
    };
    Some(match found {
        Ok(revision) => admit(node, ledger, revision, inbound, body).await,
        Err(outcome) => respond::refuse(ledger, outcome),
    })
}

async fn admit(
    node: &Arc<Node>,
    mut ledger: Ledger,
    revision: Arc<Revision>,
    inbound: Box<Inbound>,
    body: Option<RequestBody>,
) -> Response<ResponseBody> {
    ledger.found(&revision);
    if let Some(outcome) = too_large(&inbound, &revision) {
        return respond::refuse(ledger, outcome);
    }
    let placed = match node.admission.place(&revision.tenant) {
        Ok(place) => Placed { ledger, revision, place },
        Err(outcome) => return respond::refuse(ledger, outcome),
    };
    match body {
        // Boxed, so that other requests do not pay for this future's size.
        Some(body) if whole::is_due(&inbound, &placed.revision) => {
            Box::pin(whole::run(placed, node, inbound, body)).await
        }
        body => placed.run(node, inbound, body).await,
    }
}

/// A request that has its place in a revision, whatever is still to be done before its guest runs. Dropped, it says in
/// the metrics that its client went away.
pub struct Placed {
    ledger: Ledger,
    revision: Arc<Revision>,
    place: Place,
}

impl Placed {
    /// Takes the place; `inbound.base_len` is the caller's.
    ///
    /// # Errors
    /// The outcome that says why there is none; it is written down.
    pub fn take(
        node: &Arc<Node>,
        revision: &Arc<Revision>,
        inbound: &Inbound,
    ) -> Result<Self, Outcome> {
        let mut ledger = Ledger::open(node, inbound);
        ledger.found(revision);
        match node.admission.place(&revision.tenant) {
            Ok(place) => Ok(Self { ledger, revision: revision.clone(), place }),
            Err(outcome) => {
                ledger.close(Verdict::of(outcome.clone()));
                Err(outcome)
            }
        }
    }

    /// The request is an inference over the protocol.
    pub fn infers(&mut self) {
        self.ledger.infers();
    }

    /// The request is refused without a guest, and so its client is told.
    pub fn refuse(mut self, outcome: Outcome, told: Option<(u16, &str)>) {
        self.ledger.tells(told);
        self.ledger.close(Verdict::of(outcome));
    }

    /// Its body was waited for so long before it asks for a slot.
    pub fn received(&mut self, time: Duration) {
        self.ledger.received(time);
    }

    /// CPU time that was used on the function's behalf already.
    pub fn spend(&mut self, time: Duration) {
        self.ledger.spend(time);
    }

    /// Waits for a slot, and runs the guest.
    pub async fn run(
        self,
        node: &Arc<Node>,
        inbound: Box<Inbound>,
        body: Option<RequestBody>,
    ) -> Response<ResponseBody> {
        let Self { mut ledger, revision, place } = self;
        if ledger.spent() >= revision.limits().cpu() {
            let limit = mayfly_core::units::format_duration(revision.limits().cpu());
            return respond::refuse(ledger, Outcome::CpuLimit { limit });
        }
        let slot = match node.admission.enter(place).await {
            Ok(slot) => slot,
            Err(outcome) => return respond::refuse(ledger, outcome),
        };
        ledger.admitted();
        let limits = revision.limits();
        let caps = Caps {
            request_body: limits.request_body_bytes,
            response_body: limits.response_body_bytes,
            body_idle: node.body_idle_timeout,
        };
        let exchange = Exchange::new(body, caps);
        let meter = Arc::new(Meter::new(inbound.arrived, limits));
        meter.spend(ledger.spent());
        let head_only = inbound.parts.method == Method::HEAD;
        exchange.expect_no_body(head_only);
        ledger.attach(exchange.clone());
        let (mine, logs) = (exchange.clone(), node.logs.clone());
        let mut sandbox = Sandbox::new(inbound, mine, meter.clone(), revision.terms.clone(), logs);
        sandbox.put_into(slot);
        let guest = begin(node, &revision, sandbox);
        Run { node: node.clone(), revision, exchange, meter, guest, ledger }.drive(head_only).await
    }
}

/// A body that says it is too large is refused before anything is made for it.
fn too_large(inbound: &Inbound, revision: &Revision) -> Option<Outcome> {
    let length = inbound.parts.headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?;
    let limit_bytes = revision.limits().request_body_bytes;
    (length.parse::<u64>().ok()? > limit_bytes).then_some(Outcome::RequestTooLarge { limit_bytes })
}

type Guest = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// The guest's life, and while its function is profiled, a probe in it.
fn begin(node: &Arc<Node>, revision: &Arc<Revision>, mut sandbox: Sandbox) -> Guest {
    let (node, revision) = (node.clone(), revision.clone());
    if revision.terms.profiling.is_on()
        && let Some(profiled) = revision.profiled.load_full()
    {
        let probe = profiled.probe(&sandbox.meter);
        sandbox.probe = Some(probe.clone());
        return Box::pin(probe.over(life::run(node, revision, sandbox, Some(profiled))));
    }
    Box::pin(life::run(node, revision, sandbox, None))
}

/// An admitted invocation.
struct Run {
    node: Arc<Node>,
    revision: Arc<Revision>,
    exchange: Arc<Exchange>,
    meter: Arc<Meter>,
    guest: Guest,
    ledger: Ledger,
}

/// Where a guest stands after its time on the worker.
enum Stand {
    Ended(Verdict),
    Waits,
    Overran,
}

impl Run {
    async fn drive(mut self, head_only: bool) -> Response<ResponseBody> {
        let clock = self.node.server_timing.then(|| Clock::start(self.ledger.queue_ns()));
        // A revision that ran long last time spares the worker the first tick.
        let stand = if self.revision.slow.load(Ordering::Relaxed) {
            Stand::Overran
        } else {
            std::future::poll_fn(|cx| Poll::Ready(self.poll_guest(cx))).await
        };
        if let Stand::Ended(verdict) = stand {
            return respond::at_once(self.ledger, &self.exchange, verdict, head_only, clock);
        }
        let (id, exchange) = (self.ledger.request_id, self.exchange.clone());
        let task = match stand {
            Stand::Overran => self.move_to_guests(),
            _ => Task::new(tokio::spawn(self.supervise())),
        };
        respond::when_started(exchange, task, id, head_only, clock).await
    }

    /// One poll, timed; a panic of ours ends this request and no other.
    ///
    /// By the clock too, because what cannot be interrupted sees no tick: a revision whose poll held a worker up for
    /// longer than one begins elsewhere from now on.
    fn poll_guest(&mut self, cx: &mut std::task::Context<'_>) -> Stand {
        self.meter.begin();
        let guest = self.guest.as_mut();
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| guest.poll(cx)));
        if self.meter.end() > node::TICK && !self.meter.is_off_worker() {
            self.revision.slow.store(true, Ordering::Relaxed);
            self.exchange.set_overran();
        }
        if matches!(polled, Ok(Poll::Pending)) {
            self.exchange.wake_client();
        }
        match polled {
            Ok(Poll::Ready(verdict)) => Stand::Ended(verdict),
            Ok(Poll::Pending) if self.exchange.overran() => Stand::Overran,
            Ok(Poll::Pending) => Stand::Waits,
            Err(panic) => Stand::Ended(Verdict::of(Outcome::Internal(panic_text(&*panic)))),
        }
    }

    /// A later poll than the first: a guest that waits sees no tick, so its fate is asked here. One that is held is not
    /// polled at all.
    fn poll_watched(&mut self, cx: &mut std::task::Context<'_>) -> Stand {
        match self.meter.fate.watch(cx) {
            Order::GoOn => self.poll_guest(cx),
            Order::Wait => Stand::Waits,
            Order::End => Stand::Ended(self.doomed()),
        }
    }

    /// The verdict of a guest that was ended for its memory: its own if only its reset is left.
    fn doomed(&self) -> Verdict {
        let outcome = self.meter.fate.outcome().unwrap_or_else(|| self.meter.wall_over());
        self.exchange.verdict().unwrap_or_else(|| Verdict::of(outcome))
    }

    /// Takes a guest that waits to its end, on this worker as long as it does not overrun.
    async fn supervise(mut self) {
        // Host waits (a sleep, a slow body) are where no tick reaches a guest: the timer does.
        let deadline = tokio::time::Instant::from_std(self.meter.deadline());
        let on_worker = std::future::poll_fn(|cx| {
            // Of hundreds that slept together each would take the worker for its first tick.
            if self.revision.slow.load(Ordering::Relaxed) {
                return Poll::Ready(None);
            }
            match self.poll_watched(cx) {
                Stand::Ended(verdict) => Poll::Ready(Some(verdict)),
                Stand::Overran => Poll::Ready(None),
                Stand::Waits => Poll::Pending,
            }
        });
        match tokio::time::timeout_at(deadline, on_worker).await {
            Ok(Some(verdict)) => self.ledger.close(verdict),
            Err(_) => {
                let over = self.over();
                self.ledger.close(over);
            }
            Ok(None) => {
                self.move_to_guests().join().await;
            }
        }
    }

    /// The verdict at the end of the wall's time: the guest's own if only its reset is left.
    fn over(&self) -> Verdict {
        let late = || match self.exchange.is_kept_waiting() {
            // Its client has sent nothing for so long that this is whose fault it is.
            true => Outcome::BodyTimeout,
            false => self.meter.wall_over(),
        };
        self.exchange.verdict().unwrap_or_else(|| Verdict::of(late()))
    }

    fn move_to_guests(self) -> Task<()> {
        self.meter.move_off_worker();
        self.revision.slow.store(true, Ordering::Relaxed);
        // The ledger goes along: it is written where the guest ends, even if nobody waits any more.
        self.node.clone().guests.spawn(self.among_guests())
    }

    async fn among_guests(mut self) {
        let deadline = tokio::time::Instant::from_std(self.meter.deadline());
        let to_the_end = std::future::poll_fn(|cx| match self.poll_watched(cx) {
            Stand::Ended(verdict) => Poll::Ready(verdict),
            Stand::Waits | Stand::Overran => Poll::Pending,
        });
        let verdict = match tokio::time::timeout_at(deadline, to_the_end).await {
            Ok(verdict) => verdict,
            Err(_) => self.over(),
        };
        // A function that has become quick starts on a worker again.
        if self.meter.used() < node::TICK / 2 {
            self.revision.slow.store(false, Ordering::Relaxed);
        }
        self.ledger.close(verdict);
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("no message"))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
