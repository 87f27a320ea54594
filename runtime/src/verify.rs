//! Isolation as something that can be asked for: `mayfly verify isolation`.
//!
//! Guests spoil everything that they can reach (memory, table, globals, stack, output, environment), and each new
//! instance looks for anything that it was not born with. All share one pool of as few slots as wanted, so that each
//! instance is made where another one has just been. It runs on the machine, kernel and build that will serve.

mod draws;
mod guest;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use mayfly_core::record::Settings;
use mayfly_core::{FunctionName, RequestId};
use mayfly_host::catalog::Entry;
use mayfly_host::engine::{Engine, EngineConfig};
use mayfly_host::exchange::RequestBody;
use mayfly_host::sandbox::Inbound;
use mayfly_observe::logs::Requests;
use mayfly_publish::child::Children;
use mayfly_publish::{PublishRequest, Publisher};
use mayfly_serve::invocation;
use mayfly_serve::node::Node;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::assemble::{Parts, assemble};
use guest::{KINDS, Kind, REPORT_BYTES};

/// Findings that are told one by one; the rest are counted.
const TOLD: usize = 20;

/// Until a slot of a small pool is free again: on a busy machine a request's second is sometimes too short.
const SLOT_TIMEOUT: Duration = Duration::from_secs(60);

/// What to verify, and how long.
#[derive(Debug, Clone)]
pub struct IsolationPlan {
    /// Instances to make, each of another kind than the one before.
    pub alternations: u64,
    /// Slots of the pool; one makes every instance follow another in the same memory.
    pub slots: usize,
    /// Makes the order of kinds; printed, so that a failure can be run again.
    pub seed: u64,
    /// A module of the operator's whose instances are asked for hashes too; it has to export `mayfly_seed_probe`.
    pub guest: Option<Bytes>,
}

/// What was found.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct IsolationReport {
    /// Instances that were made.
    pub alternations: u64,
    /// Of these, how many ended in a trap after they had spoilt everything.
    pub trapped: u64,
    /// Instances that saw something they were not born with.
    pub hits: u64,
    /// 128-bit numbers that guests drew.
    pub draws: u64,
    /// How many of them had been drawn before.
    pub repeats: u64,
    /// Hashes of one key, each in an instance of its own of one snapshot.
    pub hashes: u64,
    /// How many of them had been seen before.
    pub hash_repeats: u64,
    /// Slots of the pool.
    pub slots: usize,
    /// As given.
    pub seed: u64,
    /// The first findings, in words.
    pub findings: Vec<String>,
}

impl IsolationReport {
    /// Whether nothing was found.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.hits == 0 && self.repeats == 0 && self.hash_repeats == 0
    }

    fn find(&mut self, what: String) {
        self.hits += 1;
        if self.findings.len() < TOLD {
            self.findings.push(what);
        }
    }
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// No node could be made.
    #[error("no node to verify: {0}")]
    Start(String),
    /// A guest could not be deployed.
    #[error("a guest of the verification cannot be deployed: {0}")]
    Publish(#[from] mayfly_publish::PublishError),
    /// An instance that should hash does not.
    #[error("an instance that is asked for its seeds fails: {0}")]
    Draw(String),
    /// A guest did not report.
    #[error("the guest {guest} ended with status {status}: {body}")]
    Guest {
        /// Which one.
        guest: String,
        /// Its response's status.
        status: u16,
        /// Its response's body.
        body: String,
    },
}

/// Alternates guests over a pool of its own, in a process that has no other engine.
///
/// # Errors
/// [`VerifyError`] when there is no verdict; what is found is in the report.
pub async fn isolation(
    plan: &IsolationPlan,
    state: &Path,
    children: Children,
) -> Result<IsolationReport, VerifyError> {
    let bench = Bench::make(plan, state, children)?;
    for kind in KINDS {
        bench.deploy(kind).await?;
    }
    let mut report =
        IsolationReport { slots: plan.slots, seed: plan.seed, ..IsolationReport::default() };
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut drawn = HashSet::new();
    let mut last = KINDS.len();
    for number in 0..plan.alternations {
        let at = next_kind(&mut random, last);
        last = at;
        // One in eight traps once it has spoilt everything.
        let trap = random.random_ratio(1, 8);
        let Some(seen) = bench.call(&KINDS[at], trap).await? else {
            report.trapped += 1;
            report.alternations += 1;
            continue;
        };
        report.alternations += 1;
        if let Some(what) = KINDS[at].wrong(&seen) {
            report.find(format!("instance {number}, {}: {what}", KINDS[at].name));
        }
        report.draws += 1;
        let draw = &seen[REPORT_BYTES - 16..];
        if !drawn.insert(<[u8; 16]>::try_from(draw).unwrap_or_default()) {
            report.repeats += 1;
        }
    }
    for wasm in std::iter::once(Bytes::from_static(draws::GUEST)).chain(plan.guest.clone()) {
        report.hashes += plan.alternations;
        report.hash_repeats += bench.repeats(wasm, plan.alternations).await?;
    }
    Ok(report)
}

/// Another kind than the last; the large ones less often, because each costs a thousand times a small one.
fn next_kind(random: &mut StdRng, last: usize) -> usize {
    loop {
        let at = random.random_range(0..KINDS.len());
        if at != last && (!KINDS[at].is_large() || random.random_ratio(1, 20)) {
            return at;
        }
    }
}

struct Bench {
    node: Arc<Node>,
    publisher: Publisher,
}

impl Bench {
    fn make(plan: &IsolationPlan, state: &Path, children: Children) -> Result<Self, VerifyError> {
        let failed = |error: &dyn std::fmt::Display| VerifyError::Start(error.to_string());
        let config = EngineConfig { slots: Some(plan.slots), ..EngineConfig::default() };
        let engine = Engine::new(&config).map_err(|error| failed(&error))?;
        let mut parts =
            Parts::quiet(engine, state, Requests::Off).map_err(|error| failed(&error))?;
        parts.publishing.children = children;
        parts.serving.queue_timeout = SLOT_TIMEOUT;
        let (node, publisher) = assemble(parts).map_err(|error| failed(&error))?;
        Ok(Self { node, publisher })
    }

    async fn deploy(&self, kind: &Kind) -> Result<(), VerifyError> {
        let failed = |error: &dyn std::fmt::Display| VerifyError::Start(error.to_string());
        let wasm = kind.wasm().map_err(|error| failed(&error))?;
        let mut settings = Settings::default();
        // Told apart by their environments: none may see another's.
        settings.env.insert("KIND".into(), kind.name.into());
        self.publish(kind.name, wasm.into(), settings).await
    }

    async fn publish(
        &self,
        name: &str,
        wasm: Bytes,
        settings: Settings,
    ) -> Result<(), VerifyError> {
        let name = FunctionName::new(name).map_err(|e| VerifyError::Start(e.to_string()))?;
        self.publisher
            .publish(PublishRequest { name, wasm, change: settings.into() }, |_| {})
            .await?;
        Ok(())
    }

    /// Deploys a module with a seed probe, and counts hashes that come twice.
    async fn repeats(&self, wasm: Bytes, draws: u64) -> Result<u64, VerifyError> {
        const NAME: &str = "seeded";
        self.publish(NAME, wasm, Settings::default()).await?;
        let view = self.node.catalog.load();
        let Some(Entry::Ready(revision)) = view.get(NAME) else {
            return Err(VerifyError::Start(format!("{NAME} is not ready")));
        };
        draws::repeats(revision, &self.node.logs, draws).await
    }

    /// What an instance saw; nothing if it trapped as it was told to.
    async fn call(&self, kind: &Kind, trap: bool) -> Result<Option<Vec<u8>>, VerifyError> {
        let request = http::Request::post(format!("/{}", kind.name)).header("host", "verify");
        let request = request.body(()).map_err(|error| VerifyError::Start(error.to_string()))?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let inbound =
            Inbound::new(request.into_parts().0, nowhere, nowhere, RequestId::from_random(0));
        let body = Full::new(Bytes::from_static(if trap { b"1" } else { b"0" }));
        let body: RequestBody = Box::pin(body.map_err(|never| match never {}));
        let response = invocation::handle(&self.node, inbound, Some(body)).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map(|body| body.to_bytes());
        let body = body.unwrap_or_default();
        match (status, trap) {
            (502, true) => Ok(None),
            (200, false) if body.len() == REPORT_BYTES => Ok(Some(body.to_vec())),
            _ => Err(VerifyError::Guest {
                guest: kind.name.to_owned(),
                status,
                body: String::from_utf8_lossy(&body).into_owned(),
            }),
        }
    }
}
