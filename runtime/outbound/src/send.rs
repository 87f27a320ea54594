//! One call over a connection that stands, or over a new one.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use mayfly_core::limits::outbound;
use mayfly_core::outbound::Target;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::client::Client;
use crate::connect::connect;
use crate::fault::{Code, Fault};
use crate::fetch::AnswerBody;
use crate::pool::{Conn, Origin, Pool};
use crate::upload::{BoxError, CallBody, Upload};

/// Sends a call and waits for its answer's head.
pub(crate) async fn send(
    client: Arc<Client>,
    pool: Arc<Pool>,
    target: Arc<Target>,
    mut request: Request<CallBody>,
) -> Result<Response<AnswerBody>, Fault> {
    let origin = Origin::of(&target);
    let interim = Interim::watch(&mut request);
    let upload = match request.body() {
        CallBody::Whole(_) => None,
        CallBody::Stream(upload) => Some(upload.clone()),
    };
    loop {
        let kept = pool.take(&origin)?;
        let fresh = kept.is_none();
        let mut conn = match kept {
            Some(conn) => conn,
            None => connect(client.clone(), pool.clone(), target.clone()).await?,
        };
        if conn.sender.ready().await.is_err() {
            if fresh {
                return Err(Fault::new(
                    Code::Closed,
                    format!("{} closed the connection", target.authority()),
                ));
            }
            continue;
        }
        let sending = conn.sender.try_send_request(request);
        match head(sending, upload.as_ref(), &interim, &target).await? {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                let lease = Lease { body, conn: Some(conn), pool, origin, client };
                return Ok(Response::from_parts(parts, Box::pin(lease)));
            }
            Err(mut failed) => match failed.take_message() {
                // Nothing of it was sent: a kept connection had ended meanwhile.
                Some(again) if !fresh => request = again,
                Some(_) | None => return Err(fault_of(&failed.into_error(), &target)),
            },
        }
    }
}

/// Counts interim answers.
#[derive(Default)]
struct Interim {
    seen: AtomicUsize,
    too_many: Notify,
}

impl Interim {
    fn watch(request: &mut Request<CallBody>) -> Arc<Self> {
        let interim = Arc::new(Self::default());
        let counting = interim.clone();
        hyper::ext::on_informational(request, move |_| {
            if counting.seen.fetch_add(1, Ordering::Relaxed) == outbound::OUTBOUND_INTERIM {
                counting.too_many.notify_one();
            }
        });
        interim
    }
}

type Sent = Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<CallBody>>>;

/// Waits for a head: its clock runs from when the call is written whole.
async fn head(
    sending: impl Future<Output = Sent>,
    upload: Option<&Upload>,
    interim: &Interim,
    target: &Target,
) -> Result<Sent, Fault> {
    let mut sending = pin!(sending);
    let mut too_many = pin!(interim.too_many.notified());
    let mut clock = pin!(sleep_until(Instant::now() + outbound::OUTBOUND_FIRST_BYTE));
    let mut uploading = upload.is_some();
    poll_fn(|cx| {
        if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
            return Poll::Ready(Ok(sent));
        }
        if too_many.as_mut().poll(cx).is_ready() {
            let most = outbound::OUTBOUND_INTERIM;
            let words =
                format!("{} sent more than {most} interim answers (1xx)", target.authority());
            return Poll::Ready(Err(Fault::new(Code::TooLarge, words)));
        }
        if uploading && upload.is_none_or(Upload::has_ended) {
            uploading = false;
            clock.as_mut().reset(Instant::now() + outbound::OUTBOUND_FIRST_BYTE);
        }
        if uploading {
            return Poll::Pending;
        }
        ready!(clock.as_mut().poll(cx));
        let most = mayfly_core::units::format_duration(outbound::OUTBOUND_FIRST_BYTE);
        let words = format!("{} has sent no answer within {most}", target.authority());
        Poll::Ready(Err(Fault::new(Code::Timeout, words)))
    })
    .await
}

pub(crate) fn fault_of(why: &hyper::Error, target: &Target) -> Fault {
    let host = target.authority();
    if why.is_parse_too_large() {
        let words = format!(
            "{host} answered with a head of more than {} headers or {}",
            outbound::OUTBOUND_HEAD_LINES,
            mayfly_core::units::format_size(outbound::OUTBOUND_HEAD_BYTES as u64)
        );
        return Fault::new(Code::TooLarge, words);
    }
    let words = match why.is_parse() {
        true => format!("{host} answered with something that is not HTTP: {why}"),
        false => format!("{host} broke off: {why}"),
    };
    Fault::new(Code::Closed, words)
}

/// An answer's body; its connection goes back at its end, and is closed if nobody reads to there.
struct Lease {
    body: Incoming,
    conn: Option<Conn>,
    pool: Arc<Pool>,
    origin: Origin,
    client: Arc<Client>,
}

impl Lease {
    fn give_back(&mut self) {
        if let Some(conn) = self.conn.take()
            && !conn.sender.is_closed()
        {
            self.pool.put(self.origin.clone(), conn);
            self.client.sweep();
        }
    }
}

impl Body for Lease {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            None => {
                this.give_back();
                Poll::Ready(None)
            }
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(why)) => {
                this.conn = None;
                Poll::Ready(Some(Err(why.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A body without bytes is at its end unread.
        if self.body.is_end_stream() {
            self.give_back();
        }
    }
}
