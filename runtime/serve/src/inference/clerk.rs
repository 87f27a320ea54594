//! Work on long JSON, off the workers and behind the guests.

use std::sync::Arc;
use std::time::Duration;

use mayfly_core::Outcome;
use mayfly_host::revision::Revision;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::refusal::Refusal;
use crate::node::Node;

/// Runs work that cannot be interrupted on a thread that everything else goes before: a megabyte of JSON takes a core
/// for about ten milliseconds. One function has half of those threads at most, and waits for them until its time is
/// over.
///
/// # Errors
/// The function's wall limit, or 500 when the work panicked.
pub(super) async fn aside<T: Send + 'static>(
    node: &Arc<Node>,
    revision: &Revision,
    deadline: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<(T, Duration), Refusal> {
    let done = tokio::time::timeout_at(deadline, async {
        let _permit = revision.shares.clerks.acquire().await.ok()?;
        node.clerks.spawn(async move { timed(work) }).join().await
    });
    let Ok(done) = done.await else {
        let limit = mayfly_core::units::format_duration(revision.limits().wall());
        return Err(Outcome::WallLimit { limit }.into());
    };
    done.ok_or_else(|| {
        let why = "Mayfly failed while it read or wrote tensors";
        Refusal::of(Outcome::Internal(why.to_owned()), why)
    })
}

/// What work gives, and the CPU time that it took.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = cpu_time();
    let done = work();
    (done, cpu_time().saturating_sub(began))
}

fn cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}
