//! The generator's loop.
//!
//! Open loop: arrivals follow a schedule made in advance (exponential gaps, seeded), and a request's latency counts
//! from when it was *due*, sent or not. A slow server therefore cannot slow its own test down (coordinated omission):
//! what waits for a free connection has been waiting since it was due. What is unfinished when time is up is counted,
//! with the time it has waited so far.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::Request;
use super::connection::{Connection, Underway};

/// Requests that may be due and unsent; a schedule over this is refused, not cut.
const BACKLOG: usize = 4_000_000;

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Each connection sends its next request when the last one is answered.
    Closed,
    /// Requests are due at random moments, this many a second on average.
    Open {
        /// Arrivals per second.
        per_second: f64,
    },
}

/// What to do to a server.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// When requests are sent.
    pub pace: Pace,
    /// Connections; requests under way at most.
    pub connections: usize,
    /// Not measured.
    pub warm_up: Duration,
    /// Measured.
    pub time: Duration,
    /// Of the schedule.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Due to answered, in microseconds, of each request that was due in the measured time.
    pub latency_us: Vec<f64>,
    /// From when a request was due and a connection was free until it was sent, in microseconds: what the generator adds.
    pub lag_us: Vec<f64>,
    /// Answered in the measured time.
    pub answered: u64,
    /// Of those, answers that were not 2xx.
    pub failed: u64,
    /// Not answered when time was up; they are in `latency_us` with the time they had waited.
    pub unfinished: u64,
    /// Measured time, in seconds.
    pub seconds: f64,
    /// Share of the measured time in which the generator found something to do.
    pub generator_busy: f64,
}

/// Runs a load on the calling thread, which should be pinned to a core of its own.
///
/// `mark` is called when the measured time begins and when it ends.
///
/// # Errors
/// When the server cannot be reached, breaks a connection or breaks HTTP.
pub fn generate(
    request: &Request,
    load: &Load,
    mut mark: impl FnMut(),
) -> anyhow::Result<Measured> {
    let poll = Poll::new()?;
    let mut connections = Vec::with_capacity(load.connections);
    for i in 0..load.connections {
        connections.push(Connection::open(request.address, Token(i), poll.registry())?);
    }
    let mut run = Running::new(request, load, poll, connections)?;
    while Instant::now() < run.begin {
        run.turn()?;
    }
    mark();
    run.measured = Measured::default();
    run.busy = Duration::ZERO;
    while Instant::now() < run.end {
        run.turn()?;
    }
    mark();
    Ok(run.finish())
}

struct Running<'a> {
    bytes: &'a [u8],
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    /// Since when `idle` has not been empty: while it is, what is due waits for the server, not for the generator.
    free_since: Instant,
    /// Due and not sent.
    due: VecDeque<Instant>,
    schedule: Option<Schedule>,
    begin: Instant,
    end: Instant,
    measured: Measured,
    busy: Duration,
}

impl<'a> Running<'a> {
    fn new(
        request: &'a Request,
        load: &Load,
        poll: Poll,
        connections: Vec<Connection>,
    ) -> anyhow::Result<Self> {
        let start = Instant::now();
        let begin = start + load.warm_up;
        let schedule = match load.pace {
            Pace::Closed => None,
            Pace::Open { per_second } => {
                let all = per_second * (load.warm_up + load.time).as_secs_f64();
                anyhow::ensure!(all < BACKLOG as f64, "a schedule of {all} requests is too long");
                Some(Schedule { next: start, rng: StdRng::seed_from_u64(load.seed), per_second })
            }
        };
        Ok(Self {
            bytes: &request.bytes,
            poll,
            events: Events::with_capacity(1024),
            idle: (0..connections.len()).collect(),
            free_since: start,
            connections,
            due: VecDeque::new(),
            schedule,
            begin,
            end: begin + load.time,
            measured: Measured::default(),
            busy: Duration::ZERO,
        })
    }

    /// Sends what is due, takes what has come.
    fn turn(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        if let Some(schedule) = &mut self.schedule {
            schedule.until(now, &mut self.due);
        }
        let mut worked = false;
        while let Some(&i) = self.idle.last() {
            let due = match self.schedule {
                None => Instant::now(),
                Some(_) => match self.due.pop_front() {
                    Some(due) => due,
                    None => break,
                },
            };
            self.idle.pop();
            self.connections[i].send(self.bytes, due, due.max(self.free_since))?;
            worked = true;
        }
        // Never sleeps: waking up costs up to 50 microseconds on a virtual machine, and would be in every sample.
        self.poll.poll(&mut self.events, Some(Duration::ZERO))?;
        for event in &self.events {
            let i = event.token().0;
            let answered = self.connections[i].ready(self.bytes, self.poll.registry())?;
            worked |= event.is_readable();
            if let Some(status) = answered
                && let Some(request) = self.connections[i].busy.take()
            {
                self.measured.answer(request, status, self.begin);
                if self.idle.is_empty() {
                    self.free_since = Instant::now();
                }
                self.idle.push(i);
            }
        }
        if worked {
            self.busy += now.elapsed();
        }
        Ok(())
    }

    fn finish(self) -> Measured {
        let now = Instant::now();
        let mut measured = self.measured;
        let waiting = self.connections.iter().filter_map(|c| c.busy.map(|request| request.due));
        let open = self.schedule.is_some();
        for due in waiting.chain(self.due.iter().copied()).filter(|due| open && *due >= self.begin)
        {
            measured.latency_us.push(us(now - due));
            measured.unfinished += 1;
        }
        measured.seconds = (now - self.begin).as_secs_f64();
        measured.generator_busy = self.busy.as_secs_f64() / measured.seconds;
        measured
    }
}

impl Measured {
    fn answer(&mut self, request: Underway, status: u16, begin: Instant) {
        self.answered += 1;
        self.failed += u64::from(!(200..300).contains(&status));
        // What was due before the measured time counts for throughput, not for latency.
        if request.due >= begin {
            self.latency_us.push(us(request.due.elapsed()));
            self.lag_us.push(us(request.sent - request.able));
        }
    }

    /// Answers per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.answered as f64 / self.seconds } else { 0.0 }
    }
}

/// Arrivals with exponential gaps: what many clients make who know nothing of each other.
struct Schedule {
    next: Instant,
    rng: StdRng,
    per_second: f64,
}

impl Schedule {
    fn until(&mut self, now: Instant, due: &mut VecDeque<Instant>) {
        while self.next <= now {
            due.push_back(self.next);
            let gap = -(1.0 - self.rng.random::<f64>()).ln() / self.per_second;
            self.next += Duration::from_secs_f64(gap);
        }
    }
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    /// Answers each request after `pause`, one connection at a time.
    fn server(pause: Duration) -> Request {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 1024];
            while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                std::thread::sleep(pause);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            }
        });
        Request::new(address, "/", None)
    }

    fn load(pace: Pace) -> Load {
        let (warm_up, time) = (Duration::from_millis(20), Duration::from_millis(200));
        Load { pace, connections: 1, warm_up, time, seed: 1 }
    }

    #[test]
    fn a_closed_loop_goes_as_fast_as_the_server() {
        let measured = generate(&server(Duration::ZERO), &load(Pace::Closed), || {}).unwrap();
        // Thousands on a quiet machine; a busy one may give client and server a turn each now and then.
        assert!(measured.answered > 10 && measured.failed == 0, "{}", measured.answered);
        assert_eq!(measured.unfinished, 0);
    }

    #[test]
    fn an_overloaded_server_shows_the_wait_and_not_its_own_time() {
        // 5 ms each on one connection: 200 a second. At 1,000 a second a client must see the queue grow.
        let pace = Pace::Open { per_second: 1_000.0 };
        let once = || generate(&server(Duration::from_millis(5)), &load(pace), || {}).unwrap();
        // A busy machine may keep the server off its cores for all of a round.
        let measured = (0..10).map(|_| once()).find(|measured| !measured.lag_us.is_empty());
        let measured = measured.expect("no round in which the server answered");
        let median = crate::stats::median(&measured.latency_us);
        assert!(median > 40_000.0, "median {median} us, as if only answered requests counted");
        assert!(measured.unfinished > 100, "{}", measured.unfinished);
        // That queue is the server's: each request went out as soon as the one connection was free again. A busy machine
        // may interrupt the generator, but not at every request.
        let lag = crate::stats::median(&measured.lag_us);
        assert!(!measured.lag_us.is_empty() && lag < 5_000.0, "lag {lag} us");
    }
}
