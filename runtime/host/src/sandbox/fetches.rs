//! One request's calls to others: its handles, and how much it has used of what it may.

use std::sync::Arc;

use mayfly_core::Limits;
use mayfly_outbound::{Access, Call, CallBody, Code, Fault, Fetch, Waiting};

/// Made at the first call; a request that makes none has none.
#[derive(Default)]
pub struct Fetches {
    open: Vec<(i32, Slot)>,
    made: u64,
    sent: u64,
    received: u64,
    /// Its place among the requests that may wait for others, for as long as it lives.
    waiting: Option<Waiting>,
    /// Why the last one failed that has no handle.
    last: Option<Fault>,
    /// Whether the log was told that something is not allowed.
    pub told: bool,
}

/// A call, and whether its guest has its head.
pub struct Slot {
    /// The call.
    pub fetch: Fetch,
    /// Whether the guest waits for its body next.
    pub head_was_read: bool,
}

impl Fetches {
    /// Begins a call and gives its handle.
    ///
    /// # Errors
    /// The fault that is the guest's answer; it is kept for its words.
    pub fn start(
        &mut self,
        access: &Arc<Access>,
        limits: &Limits,
        call: Call,
        body: CallBody,
    ) -> Result<i32, Fault> {
        self.made += 1;
        if self.made > limits.outbound_requests {
            return Err(over("outbound-requests", limits.outbound_requests, "calls were made"));
        }
        if self.open.len() as u64 >= limits.outbound_parallel {
            let open = "calls are open: drop those that are done";
            return Err(over("outbound-parallel", limits.outbound_parallel, open));
        }
        if self.waiting.is_none() {
            self.waiting = Some(access.wait()?);
        }
        let fetch = access.fetch(call, body)?;
        // Never as many as do not fit: `made` is bounded.
        let handle = i32::try_from(self.made).unwrap_or(i32::MAX);
        self.open.push((handle, Slot { fetch, head_was_read: false }));
        Ok(handle)
    }

    /// One of its calls.
    pub fn get(&mut self, handle: i32) -> Option<&mut Slot> {
        self.open.iter_mut().find(|(own, _)| *own == handle).map(|(_, slot)| slot)
    }

    /// Forgets a call, and ends it if it goes on.
    pub fn drop_one(&mut self, handle: i32) {
        self.open.retain(|(own, _)| *own != handle);
    }

    /// Counts bytes of a call's body.
    ///
    /// # Errors
    /// When they are more than the function may send.
    pub fn send(&mut self, bytes: u64, limits: &Limits) -> Result<(), Fault> {
        self.sent = self.sent.saturating_add(bytes);
        counted(self.sent, limits, "sent")
    }

    /// Counts bytes of an answer.
    ///
    /// # Errors
    /// When they are more than the function may receive.
    pub fn receive(&mut self, bytes: u64, limits: &Limits) -> Result<(), Fault> {
        self.received = self.received.saturating_add(bytes);
        counted(self.received, limits, "received")
    }

    /// Keeps the words of a failure that has no handle, and gives its number.
    pub fn refuse(&mut self, fault: Fault) -> i32 {
        let number = fault.code.number();
        self.last = Some(fault);
        number
    }

    /// The words of a call's failure, or of the last one that has no handle.
    pub fn words(&mut self, handle: i32) -> &str {
        let own = self.open.iter().find(|(own, _)| *own == handle);
        let fault = own.map_or(self.last.as_ref(), |(_, slot)| slot.fetch.fault());
        fault.map_or("", |fault| &fault.words)
    }
}

fn counted(bytes: u64, limits: &Limits, what: &str) -> Result<(), Fault> {
    if bytes <= limits.outbound_bytes {
        return Ok(());
    }
    let most = mayfly_core::units::format_size(limits.outbound_bytes);
    let words = format!(
        "more than {most} were {what} in calls of one request: --limit outbound-bytes=... allows more"
    );
    Err(Fault::new(Code::TooLarge, words))
}

fn over(key: &str, most: u64, what: &str) -> Fault {
    Fault::new(Code::Budget, format!("{most} {what}; --limit {key}=... allows more"))
}
