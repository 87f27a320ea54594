//! `PUT /v1/functions/{name}`: takes a module in and publishes it.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, header};
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mayfly_core::FunctionName;
use mayfly_core::limits::node;
use mayfly_core::record::StageTime;
use mayfly_core::units::human_size;
use mayfly_publish::Change;
use mayfly_serve::unread::Pace;
use mayfly_store::artifact::mapped::Scratch;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::body::AdminBody;
use super::control::{Control, Progress, Published, Refused};
use super::handlers::{blocking, json};
use super::problem::Problem;
use super::view::PublishedView;
use super::{AdminState, Uploads, guard, settings, versions};

/// Lines of progress under way to a client: more than a publish has stages, so none is lost.
const LINES: usize = 64;

pub(super) async fn deploy<B>(
    state: &Arc<AdminState>,
    name: FunctionName,
    query: Option<&str>,
    headers: &HeaderMap,
    body: B,
) -> Result<Response<AdminBody>, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    guard::check_content_type(headers)?;
    let mut change = settings::change(query, &state.limits, &state.limits_max)?;
    change.placement.expected = versions::expected(headers)?;
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse().ok());
    let most = state.package_bytes;
    if declared.is_some_and(|bytes: u64| bytes > most) {
        return Err(too_large(most));
    }
    let permit = state.uploads.turn().await?;
    let reading = tokio::time::timeout(
        node::ADMIN_UPLOAD_TIMEOUT,
        read(body, declared, most, &state.control),
    );
    let wasm = reading.await.map_err(|_| {
        Problem::new(408, "upload-timeout", "The module took too long to arrive").close()
    })??;
    let job = Job { state: state.clone(), name, wasm, change, permit };
    let lines = headers.get(header::ACCEPT).is_some_and(|a| a == "application/x-ndjson");
    if lines {
        return Ok(job.in_lines());
    }
    let published = blocking(move || job.run(Box::new(|_| ()))).await?;
    let token = state.control.preview_token(&published.record.function);
    Ok(json(200, &PublishedView::of(&published, &state.gateway, token)))
}

impl Uploads {
    /// Waits for room. A client is not read from meanwhile, so that waiting costs no memory.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        struct Waiting<'a>(&'a Uploads);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.waiting.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(self);
        let full = || Problem::new(503, "publish-queue", "Too many deploys are waiting").close();
        if before >= node::PUBLISH_QUEUE {
            return Err(full().hint("retry in a few seconds"));
        }
        self.permits.clone().acquire_owned().await.map_err(|_| full())
    }
}

fn too_large(most: u64) -> Problem {
    let problem = Problem::new(413, "package-size", "The module is too large")
        .detail(format!("a module with its assets has at most {} on this node", human_size(most)));
    let problem = if most < node::PACKAGE_BYTES {
        let parts = node::PACKAGE_MEMORY_PARTS;
        problem.hint(format!("that is 1/{parts} of engine.memory-budget: raise it there"))
    } else {
        problem
    };
    problem.close()
}

fn too_slow() -> Problem {
    Problem::new(408, "upload-timeout", "The module stopped arriving, or comes too slowly").close()
}

/// Reads a module to its end: what is beyond [`node::UPLOAD_PIECE_BYTES`] lies on the disk, not in memory.
async fn read<B>(
    body: B,
    declared: Option<u64>,
    most: u64,
    control: &Arc<dyn Control>,
) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let broken = |why: &dyn Display| {
        Problem::new(400, "upload", "The module did not arrive whole")
            .detail(why.to_string())
            .close()
    };
    let mut body = Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX));
    let mut arrived = Arrived { control, declared, piece: BytesMut::new(), file: None };
    let (mut pace, mut since) = (Pace::default(), Instant::now());
    loop {
        let next = tokio::time::timeout(node::BODY_IDLE_TIMEOUT, body.frame()).await;
        let Some(frame) = next.map_err(|_| too_slow())? else {
            return arrived.into_bytes().await;
        };
        match frame {
            Ok(frame) => {
                let data = frame.data_ref().map_or(&[][..], |data| data);
                // Two uploads at a time have their turn: one of a byte every five seconds would hold up all others.
                if !pace.holds(since.elapsed(), data.len()) {
                    return Err(too_slow());
                }
                arrived.take(data).await?;
                since = Instant::now();
            }
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large(most)),
            Err(error) => return Err(broken(&error)),
        }
    }
}

/// What arrived of a module: a small one whole in memory, of a large one the last piece.
struct Arrived<'a> {
    control: &'a Arc<dyn Control>,
    declared: Option<u64>,
    piece: BytesMut,
    file: Option<Scratch>,
}

impl Arrived<'_> {
    async fn take(&mut self, data: &[u8]) -> Result<(), Problem> {
        self.piece.extend_from_slice(data);
        if self.piece.len() < node::UPLOAD_PIECE_BYTES { Ok(()) } else { self.put_aside().await }
    }

    async fn put_aside(&mut self) -> Result<(), Problem> {
        let (control, file) = (self.control.clone(), self.file.take());
        let piece = std::mem::take(&mut self.piece);
        let needs = self.declared.unwrap_or(piece.len() as u64);
        let written = blocking(move || {
            let mut file = file.map_or_else(|| control.scratch(needs), Ok)?;
            file.write(&piece)?;
            Ok((file, piece))
        });
        let (file, mut piece) = written.await.map_err(Problem::close)?;
        piece.clear();
        (self.file, self.piece) = (Some(file), piece);
        Ok(())
    }

    async fn into_bytes(mut self) -> Result<Bytes, Problem> {
        if self.file.is_some() && !self.piece.is_empty() {
            self.put_aside().await?;
        }
        match self.file {
            None => Ok(self.piece.freeze()),
            Some(file) => blocking(move || Ok(file.into_bytes()?)).await,
        }
    }
}

/// One publish, and the room it takes.
struct Job {
    state: Arc<AdminState>,
    name: FunctionName,
    wasm: Bytes,
    change: Change,
    permit: OwnedSemaphorePermit,
}

impl Job {
    /// Blocks until the function is published or not.
    fn run(self, progress: Progress) -> Result<Published, Refused> {
        let Self { state, name, wasm, change, permit } = self;
        let digest = mayfly_core::Digest::of(&wasm);
        let done = state.control.publish(&name, wasm, change, progress);
        match &done {
            Ok(published) => tracing::info!(
                function = %name, revision = published.record.number, wasm = digest.short(), "deployed"
            ),
            Err(refused) => tracing::warn!(
                function = %name, wasm = digest.short(), stage = refused.stage.as_deref().unwrap_or("-"),
                "deploy refused: {}", mayfly_observe::logs::escape(refused.why.as_bytes())
            ),
        }
        drop(permit);
        done
    }

    /// Answers at once, with a line for each stage as it ends and one for the result.
    fn in_lines(self) -> Response<AdminBody> {
        let (lines, receiver) = mpsc::channel(LINES);
        let gateway = self.state.gateway.clone();
        let token = self.state.control.preview_token(&self.name);
        // Goes on when the client goes away: a deploy is not half done.
        tokio::task::spawn_blocking(move || {
            let each = lines.clone();
            match self.run(Box::new(move |stage: &StageTime| send(&each, stage))) {
                Ok(published) => {
                    let view = PublishedView::of(&published, &gateway, token);
                    send(&lines, &serde_json::json!({ "published": view }));
                }
                Err(refused) => {
                    send(&lines, &serde_json::json!({ "problem": Problem::from(refused) }));
                }
            }
        });
        let mut response = Response::new(AdminBody::Lines(receiver));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/x-ndjson"));
        response
    }
}

fn send(lines: &mpsc::Sender<Bytes>, line: &impl Serialize) {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    // Full or closed: the client reads no more, and the publish does not wait for it.
    let _ = lines.try_send(text.into());
}
