//! One publish, from its turn in the queue to the catalog.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use mayfly_core::limits::node;
use mayfly_core::record::{Settings, Snapshot, StageTime};
use mayfly_core::{ArtifactKey, Digest, FunctionName};
use mayfly_host::catalog::Function;
use mayfly_host::program::Mapped;
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::Assets;
use mayfly_store::artifact::store::{Kind, Pins};
use mayfly_store::artifact::{Reject, VerifiedImage};
use mayfly_store::records::ArtifactRow;

use super::activate::{Stale, keep_assets};
use super::build::{Built, Code};
use super::change::Placement;
use super::error::{PublishError, PublishErrorKind, Stage};
use super::kept_code::open_code;
use super::report::{PublishReport, Times};
use super::validate::{Plan, Validated, validate_again};
use super::{PublishRequest, Shared, blocking};

/// One deploy among those that wait or run.
struct Waiting<'s>(&'s AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An upload and the name of what is made of it.
#[derive(Clone)]
pub(super) struct Upload {
    pub(super) wasm: Bytes,
    pub(super) digest: Digest,
    pub(super) key: ArtifactKey,
}

/// What is to be published.
pub(super) enum Wanted {
    Deploy(Box<PublishRequest>),
    /// What a revision has become, in its place.
    Learned {
        revision: Arc<Revision>,
        wasm: Bytes,
    },
}

impl Wanted {
    fn name(&self) -> &FunctionName {
        match self {
            Self::Deploy(request) => &request.name,
            Self::Learned { revision, .. } => &revision.record.function,
        }
    }
}

/// A deploy whose settings are known.
pub(super) struct Order {
    pub(super) name: FunctionName,
    wasm: Bytes,
    pub(super) settings: Settings,
    /// What of them was kept, in words.
    pub(super) kept: Vec<String>,
    /// What it gets of the requests.
    pub(super) placement: Placement,
    /// The revision that this one takes the place of, number and all.
    pub(super) learned: Option<Arc<Revision>>,
}

/// Code on disk that was verified, and what is known of it.
pub(super) struct Stored {
    pub(super) code: Arc<Mapped>,
    pub(super) image: Option<VerifiedImage>,
    pub(super) row: ArtifactRow,
    /// Until a row refers to the image, and to code that others share.
    _pins: Vec<Pins>,
    pub(super) log: String,
    pub(super) functions: (u64, u64),
    pub(super) reused: bool,
}

impl Shared {
    pub(super) async fn publish(
        &self,
        wanted: Wanted,
        progress: &(dyn Fn(&StageTime) + Send + Sync),
    ) -> Result<PublishReport, PublishError> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if waiting >= node::PUBLISH_QUEUE + node::PUBLISHES {
            return Err(PublishErrorKind::QueueFull.at(Stage::Queue));
        }
        // One name at a time, and in the order of arrival.
        let _turn = self.names.turn(wanted.name()).await;
        let slot = self.slots.acquire().await;
        let _slot = slot.map_err(|e| PublishErrorKind::Internal(e.to_string()).at(Stage::Queue))?;
        let mut times = Times::new(progress);
        let order = self.order(wanted)?;
        let (module, upload) = self.validate(&order, &mut times).await?;
        let _key = self.keys.turn(&upload.key).await;
        let _pins = self.pin(&upload);
        let stored = match self.reuse(&upload).await? {
            Some(stored) => stored,
            None => {
                let built = self.build(&module, &order.settings.limits, &mut times).await?;
                let start = Instant::now();
                let stored = self.keep(&upload, built).await?;
                times.finish(Stage::Store, start);
                stored
            }
        };
        self.activate(order, module, upload, stored, times).await
    }

    /// What is to be published. With the name's turn, so that nothing changes what is kept before it is replaced.
    fn order(&self, wanted: Wanted) -> Result<Order, PublishError> {
        let view = self.catalog.load();
        let (name, wasm, change) = match wanted {
            Wanted::Deploy(request) => {
                let PublishRequest { name, wasm, change } = *request;
                (name, wasm, change)
            }
            Wanted::Learned { revision, wasm } => {
                let record = &revision.record;
                let function = view.function(record.function.as_str());
                let now = function.and_then(|function| function.entry(record.number));
                if now.is_none_or(|now| now.record().wasm != record.wasm) {
                    return Err(PublishErrorKind::Superseded.at(Stage::Queue));
                }
                let (name, settings) = (record.function.clone(), record.settings.clone());
                return Ok(Order {
                    name,
                    wasm,
                    settings,
                    kept: Vec::new(),
                    placement: Placement::default(),
                    learned: Some(revision),
                });
            }
        };
        let placement = change.placement.clone();
        let function = view.function(name.as_str());
        self.place(&name, 0, &placement).map_err(|kind| kind.at(Stage::Validate))?;
        // Who deploys to a tag again goes on from what has it.
        let tagged =
            placement.tag.as_ref().zip(function).and_then(|(tag, function)| {
                function.entry(function.deployment.tags.get(tag)?.version)
            });
        let current = tagged.or(function.map(Function::main));
        let settled = change.onto(current.map(|entry| &entry.record().settings));
        let (settings, kept) =
            settled.map_err(|error| PublishErrorKind::from(error).at(Stage::Validate))?;
        self.check_secrets(&settings).map_err(|kind| kind.at(Stage::Validate))?;
        self.check_outbound(&settings).map_err(|kind| kind.at(Stage::Validate))?;
        Ok(Order { name, wasm, settings, kept, placement, learned: None })
    }

    async fn validate(
        &self,
        order: &Order,
        times: &mut Times<'_>,
    ) -> Result<(Validated, Upload), PublishError> {
        self.check_room(&order.name, 1)?;
        let (wasm, limits) = (order.wasm.clone(), order.settings.limits.clone());
        let known = self.known.clone();
        let work = blocking(Stage::Validate, move || {
            let module = validate_again(&wasm, &limits, &known)
                .map_err(|refusal| PublishErrorKind::from(refusal).at(Stage::Validate))?;
            Ok((module, Digest::of(&wasm)))
        });
        let (module, digest) = times.stage(Stage::Validate, work).await?;
        let key = self.key(digest, &order.settings.limits, module.plan != Plan::NoInit);
        Ok((module, Upload { wasm: order.wasm.clone(), digest, key }))
    }

    /// Whether the node may have so many versions of a function open: each costs descriptors.
    pub(super) fn check_room(
        &self,
        name: &FunctionName,
        versions: usize,
    ) -> Result<(), PublishError> {
        let (view, max) = (self.catalog.load(), self.functions);
        let before = view.function(name.as_str()).map_or(0, |f| f.entries().count());
        let (open, more) = (view.count_versions(), versions.saturating_sub(before));
        if more == 0 || open + more <= max {
            return Ok(());
        }
        Err(PublishErrorKind::TooManyFunctions { max }.at(Stage::Validate))
    }

    /// Keeps an upload's files from other publishes' and removals' housekeeping until a row refers to them.
    pub(super) fn pin(&self, upload: &Upload) -> Pins {
        self.store.pin(&[(Kind::Wasm, upload.digest), (Kind::Artifact, upload.key.0)])
    }

    /// What was built before of the same module, under the same engine.
    pub(super) async fn reuse(&self, upload: &Upload) -> Result<Option<Stored>, PublishError> {
        let at = |kind: PublishErrorKind| kind.at(Stage::Store);
        let row = self.records.artifact(upload.key).map_err(|error| at(error.into()))?;
        let Some(row) = row else { return Ok(None) };
        let (store, programs) = (self.store.clone(), self.programs.clone());
        let Upload { wasm, digest, key } = upload.clone();
        let code = row.code.unwrap_or(key);
        // Nobody makes shared code anew while it is judged.
        let _turn = match row.code {
            Some(code) => Some(self.keys.turn(&code).await),
            None => None,
        };
        let opened = blocking(Stage::Store, move || {
            let mut pins = vec![store.pin(&[(Kind::Artifact, code.0)])];
            pins.extend(row.image.map(|image| store.pin(&[(Kind::Image, image)])));
            let both = open_code(&store, &programs, code, &row.mac).and_then(|mapped| {
                Ok((mapped, row.image.map(|image| store.open_image(image)).transpose()?))
            });
            let (mapped, image) = match both {
                Ok(both) => both,
                Err(stale) => return Ok(Err(stale)),
            };
            store
                .put_wasm(digest, &wasm)
                .map_err(|error| PublishErrorKind::from(error).at(Stage::Store))?;
            Ok(Ok((mapped, image, row, pins)))
        });
        match opened.await? {
            Ok((code, image, row, pins)) => {
                let (log, functions) = (String::new(), (0, 0));
                Ok(Some(Stored { code, image, row, _pins: pins, log, functions, reused: true }))
            }
            Err(Stale::Rejected(Reject::Missing)) => Ok(None),
            Err(stale) => {
                self.reject_code(code, &stale);
                Ok(None)
            }
        }
    }

    /// Puts what was built on disk; the files have to be pinned.
    pub(super) async fn keep(&self, upload: &Upload, built: Built) -> Result<Stored, PublishError> {
        let at = |kind: PublishErrorKind| kind.at(Stage::Store);
        // What is written counts before the next publish asks for room.
        let _commit = self.commits.lock().await;
        let current = self.records.references(true).map_err(|error| at(error.into()))?;
        let (store, programs) = (self.store.clone(), self.programs.clone());
        let Upload { wasm, digest, key } = upload.clone();
        blocking(Stage::Store, move || {
            let at = |kind: PublishErrorKind| kind.at(Stage::Store);
            let layout = &built.layout;
            let parts = layout.parts(&built.data);
            let code_bytes = match &built.code {
                Code::Own(code) => code.len(),
                Code::Shared(_) => 0,
            };
            let needs = (code_bytes + wasm.len()) as u64 + layout.bytes;
            store.make_room(needs, &current).map_err(|error| at(error.into()))?;
            store.put_wasm(digest, &wasm).map_err(|error| at(error.into()))?;
            let (mapped, code, mut pins) = match built.code {
                Code::Own(code) => {
                    let mac = store.put_artifact(key, &code).map_err(|error| at(error.into()))?;
                    // Read back from the disk: what a restart would find is what serves now.
                    let artifact =
                        store.open_artifact(key, &mac).map_err(|reject| at(reject.into()))?;
                    let mapped = programs.map_code(&artifact).map_err(|error| at(error.into()))?;
                    (mapped, None, Vec::new())
                }
                Code::Shared(kept) => (kept.mapped, Some(kept.key), vec![kept.pins]),
            };
            let mut image = None;
            if layout.bytes > 0 {
                let pin = |image| store.pin(&[(Kind::Image, image)]);
                let put = store.put_image(layout.bytes, &parts, pin);
                let (digest, pinned) = put.map_err(|error| at(error.into()))?;
                image = Some(store.open_image(digest).map_err(|reject| at(reject.into()))?);
                pins.push(pinned);
            }
            let (mac, found) = (*mapped.mac(), image.as_ref().map(VerifiedImage::digest));
            let row = ArtifactRow { mac, snapshot: built.snapshot, image: found, code };
            let (log, functions) = (built.log, built.functions);
            Ok(Stored { code: mapped, image, row, _pins: pins, log, functions, reused: false })
        })
        .await
    }
}

/// Assets are for init, so only a revision whose init runs with each request has any.
pub(super) fn assets_at_run_time(snapshot: &Snapshot, assets: &Assets) -> Option<Arc<Assets>> {
    match snapshot {
        Snapshot::Refused { .. } => keep_assets(assets),
        Snapshot::NoInit | Snapshot::Taken { .. } => None,
    }
}
