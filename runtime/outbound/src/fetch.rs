//! A call under way, as its guest's side drives it: nothing runs unless somebody waits for it, and dropping it ends it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::response::Parts;
use http_body::Body;
use mayfly_core::limits::outbound;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::fault::{Code, Fault};
use crate::upload::{BoxError, Upload};

/// An answer's body.
pub type AnswerBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

type Answering = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Fault>> + Send>>;

/// One call.
pub struct Fetch {
    state: State,
    upload: Option<Upload>,
    deadline: Option<Instant>,
    timeout: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Since when the next piece of the answer is waited for.
    idle_since: Option<Instant>,
}

enum State {
    Asked(Answering),
    Answered(Box<Answer>),
    Failed(Fault),
}

struct Answer {
    head: Parts,
    body: Option<AnswerBody>,
    rest: Bytes,
}

impl Fetch {
    pub(crate) fn new(
        answering: Answering,
        upload: Option<Upload>,
        timeout: Option<Duration>,
    ) -> Self {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        Self {
            state: State::Asked(answering),
            upload,
            deadline,
            timeout,
            sleep: None,
            idle_since: None,
        }
    }

    /// Where its body is written, if it is streamed and not ended.
    #[must_use]
    pub fn upload(&self) -> Option<&Upload> {
        self.upload.as_ref()
    }

    /// Nothing more of its body comes.
    pub fn end_upload(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.end();
        }
    }

    /// Why there is no answer, if that is known.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match &self.state {
            State::Failed(fault) => Some(fault),
            State::Asked(_) | State::Answered(_) => None,
        }
    }

    /// Ends it so, from outside.
    pub fn fail(&mut self, fault: Fault) {
        self.upload = None;
        self.state = State::Failed(fault);
    }

    /// Drives it on; ready when the head of its answer is there, or never will be.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<&Parts, Fault>> {
        if let State::Asked(answering) = &mut self.state {
            match answering.as_mut().poll(cx) {
                Poll::Ready(Ok(answer)) => {
                    let (head, body) = answer.into_parts();
                    let answer = Answer { head, body: Some(body), rest: Bytes::new() };
                    self.state = State::Answered(Box::new(answer));
                }
                Poll::Ready(Err(fault)) => self.fail(fault),
                Poll::Pending => {
                    let Some(deadline) = self.deadline else { return Poll::Pending };
                    ready!(self.poll_until(cx, deadline));
                    self.out_of_time();
                }
            }
        }
        match &self.state {
            State::Answered(answer) => Poll::Ready(Ok(&answer.head)),
            State::Failed(fault) => Poll::Ready(Err(fault.clone())),
            State::Asked(_) => Poll::Pending,
        }
    }

    /// Up to `max` more bytes of the answer's body; none at its end. `None` of a piece's length is all that is there.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Bytes, Fault>> {
        ready!(self.poll_head(cx)).map(drop)?;
        loop {
            let State::Answered(answer) = &mut self.state else {
                return Poll::Ready(Err(self.fault().cloned().unwrap_or_else(gone)));
            };
            if !answer.rest.is_empty() {
                let n = answer.rest.len().min(max);
                return Poll::Ready(Ok(answer.rest.split_to(n)));
            }
            let Some(body) = answer.body.as_mut() else { return Poll::Ready(Ok(Bytes::new())) };
            match body.as_mut().poll_frame(cx) {
                Poll::Ready(None) => answer.body = None,
                Poll::Ready(Some(Ok(frame))) => {
                    self.idle_since = None;
                    // Trailers have no place in the frame.
                    answer.rest = frame.into_data().unwrap_or_default();
                }
                Poll::Ready(Some(Err(why))) => {
                    self.fail(Fault::new(Code::Closed, format!("the answer broke off: {why}")));
                }
                Poll::Pending => {
                    let since = *self.idle_since.get_or_insert_with(Instant::now);
                    let idle = since + outbound::OUTBOUND_IDLE;
                    let until = self.deadline.map_or(idle, |deadline| deadline.min(idle));
                    ready!(self.poll_until(cx, until));
                    self.out_of_time();
                }
            }
        }
    }

    /// Whether something can be done with it that does not wait: a head, or a piece of the body of one that was read.
    pub fn poll_progress(&mut self, cx: &mut Context<'_>, head_was_read: bool) -> Poll<()> {
        if !head_was_read {
            return self.poll_head(cx).map(drop);
        }
        match ready!(self.poll_read(cx, usize::MAX)) {
            Ok(bytes) => {
                if let State::Answered(answer) = &mut self.state {
                    answer.rest = bytes;
                }
            }
            Err(fault) => self.fail(fault),
        }
        Poll::Ready(())
    }

    fn out_of_time(&mut self) {
        let own = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        let time = if own { self.timeout.unwrap_or_default() } else { outbound::OUTBOUND_IDLE };
        let time = mayfly_core::units::format_duration(time);
        let words = match own {
            true => format!("the call was not over within its own timeout of {time}"),
            false => format!("nothing of the answer came for {time}"),
        };
        self.fail(Fault::new(Code::Timeout, words));
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut().poll(cx)
    }
}

fn gone() -> Fault {
    Fault::new(Code::Closed, "the call has ended")
}
