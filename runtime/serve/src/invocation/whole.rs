//! A command's body that comes without a length: chunked, or as HTTP/2 may send it.
//!
//! CGI tells a program how long its body is, and most programs read as much and no more: without a length, none. So such a
//! body is received before there is an instance, counted as it comes, and then has one. A function may ask for the stream
//! instead.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response};
use http_body_util::{BodyExt as _, Full};
use mayfly_core::record::Abi;
use mayfly_core::{Outcome, units};
use mayfly_host::exchange::{BodyError, RequestBody, ResponseBody};
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::Inbound;

use super::{Placed, respond};
use crate::hold::Hold;
use crate::node::Node;

/// Whether a body of this request is to be received whole.
pub fn is_due(inbound: &Inbound, revision: &Revision) -> bool {
    let record = &revision.record;
    record.abi == Abi::Command
        && !record.settings.stream_body
        && !inbound.parts.headers.contains_key(CONTENT_LENGTH)
}

/// Receives the body, then runs the guest.
pub async fn run(
    mut placed: Placed,
    node: &Arc<Node>,
    mut inbound: Box<Inbound>,
    body: RequestBody,
) -> Response<ResponseBody> {
    let began = Instant::now();
    let received = receive(node, &placed.revision, &inbound, body).await;
    placed.received(began.elapsed());
    let body = match received {
        Ok(body) => body,
        Err(outcome) => return respond::refuse(placed.ledger, outcome),
    };
    inbound.parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let body = Full::new(body).map_err(|never: Infallible| match never {});
    placed.run(node, inbound, Some(Box::pin(body))).await
}

async fn receive(
    node: &Arc<Node>,
    revision: &Revision,
    inbound: &Inbound,
    body: RequestBody,
) -> Result<Bytes, Outcome> {
    let (client, shares) = (inbound.remote.ip(), &revision.shares);
    let mut receiving = node.rooms.receiving.grant(Some(shares.receiving.clone()), client);
    if !receiving.grow(1) {
        return Err(Outcome::NodeFull);
    }
    let hold = Hold::new(node.rooms.bodies.grant(Some(shares.bodies.clone()), client));
    let limits = revision.limits();
    // The wall's time has begun, whoever uses it up.
    let deadline = tokio::time::Instant::from_std(inbound.arrived + limits.wall());
    let read = read(body, limits.request_body_bytes, node.body_idle_timeout, hold);
    let late = |_| Outcome::WallLimit { limit: units::format_duration(limits.wall()) };
    tokio::time::timeout_at(deadline, read).await.map_err(late)?
}

/// All of a body, in one piece: one that comes in pieces of a byte takes no more memory than any other.
async fn read(
    mut body: RequestBody,
    limit_bytes: u64,
    idle: Duration,
    mut hold: Hold,
) -> Result<Bytes, Outcome> {
    let most = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
    let mut all = Vec::new();
    loop {
        let next = tokio::time::timeout(idle, body.frame()).await;
        let Some(frame) = next.map_err(|_| Outcome::BodyTimeout)? else { break };
        // Trailers are dropped: CGI has no place for them.
        let Ok(data) = frame.map_err(|error| broken(&*error))?.into_data() else { continue };
        if data.len() > most - all.len() {
            return Err(Outcome::RequestTooLarge { limit_bytes });
        }
        hold.extend(&mut all, &data, most).map_err(|_| Outcome::BodiesFull)?;
    }
    Ok(hold.around(all))
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Outcome {
    match BodyError::of(error) {
        BodyError::Idle => Outcome::BodyTimeout,
        BodyError::Malformed => Outcome::BadRequest("the request's body is malformed"),
        BodyError::Broken | BodyError::TooLarge => Outcome::ClientGone,
    }
}

#[cfg(test)]
mod tests {
    use mayfly_host::exchange::BoxError;

    use super::*;
    use crate::hold;

    /// A body of these pieces, and then of an error if there is one.
    struct Pieces(Vec<Result<Bytes, BoxError>>, bool);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
            if self.0.is_empty() {
                // Nobody will wake it: the time does.
                return if self.1 {
                    std::task::Poll::Pending
                } else {
                    std::task::Poll::Ready(None)
                };
            }
            std::task::Poll::Ready(Some(self.0.remove(0).map(http_body::Frame::data)))
        }
    }

    async fn receive(
        pieces: Vec<Result<Bytes, BoxError>>,
        stops: bool,
        room: usize,
    ) -> (Result<Bytes, Outcome>, usize) {
        let (pot, hold) = hold::tests::of(room);
        let body = Box::pin(Pieces(pieces, stops));
        let read = read(body, 100, Duration::from_millis(20), hold).await;
        (read, room - pot.free())
    }

    fn pieces(lengths: &[usize]) -> Vec<Result<Bytes, BoxError>> {
        lengths.iter().map(|length| Ok(vec![7; *length].into())).collect()
    }

    #[tokio::test]
    async fn a_body_is_one_piece_whose_room_is_held_until_it_is_gone() {
        let (body, held) = receive(pieces(&[30, 0, 40]), false, 10_000).await;
        let body = body.unwrap();
        assert_eq!(body, vec![7; 70]);
        assert!((70..=100).contains(&held), "{held}");
        assert_eq!(receive(pieces(&[100]), false, 10_000).await.0.unwrap().len(), 100);
        assert_eq!(receive(pieces(&[]), false, 10_000).await, (Ok(Bytes::new()), 0));
    }

    #[tokio::test]
    async fn what_ends_it_is_told_apart_and_gives_all_back() {
        let too_large = Outcome::RequestTooLarge { limit_bytes: 100 };
        let malformed = Outcome::BadRequest("the request's body is malformed");
        let error = |error: BoxError| pieces(&[3]).into_iter().chain([Err(error)]).collect();
        let bad = std::io::Error::from(std::io::ErrorKind::InvalidData);
        for (pieces, stops, room, expected) in [
            (pieces(&[60, 41]), false, 10_000, too_large.clone()),
            (pieces(&[101]), false, 10_000, too_large),
            (pieces(&[50, 30]), false, 110, Outcome::BodiesFull),
            (pieces(&[3]), true, 10_000, Outcome::BodyTimeout),
            (error(BodyError::Idle.into()), false, 10_000, Outcome::BodyTimeout),
            (error(bad.into()), false, 10_000, malformed),
            (error("gone".into()), false, 10_000, Outcome::ClientGone),
        ] {
            assert_eq!(receive(pieces, stops, room).await, (Err(expected), 0));
        }
    }
}
