//! What a publish tells of itself, while it runs and at its end.

use std::future::Future;
use std::time::Instant;

use mayfly_core::deployment::Deployment;
use mayfly_core::record::{RevisionRecord, StageTime};
use mayfly_host::catalog::{Leaves, Takes};
use serde::Serialize;

use super::error::Stage;

/// What a publish made.
#[derive(Debug, Clone, Serialize)]
pub struct PublishReport {
    /// The version that was made.
    pub record: RevisionRecord,
    /// The version that had the most requests before.
    pub replaced: Option<u64>,
    /// By which its function is served now.
    pub deployment: Deployment,
    /// What was not named and is as in the revision before, where that is not what it would be by default.
    pub kept: Vec<String>,
    /// What its new routes, or its name, take from others.
    pub takes: Vec<Takes>,
    /// What others keep below its new routes.
    pub leaves: Vec<Leaves>,
    /// Whether the code was there already, so that nothing was run or compiled.
    pub reused: bool,
    /// Functions of the module whose code came from the cache, over all compilations.
    pub functions_cached: u64,
    /// Functions that were compiled.
    pub functions_compiled: u64,
    /// What init wrote to stdout and stderr.
    pub init_log: String,
}

/// Measures stages and tells of each as it ends.
pub(super) struct Times<'p> {
    done: Vec<StageTime>,
    progress: &'p (dyn Fn(&StageTime) + Send + Sync),
}

impl<'p> Times<'p> {
    pub(super) fn new(progress: &'p (dyn Fn(&StageTime) + Send + Sync)) -> Self {
        Self { done: Vec::new(), progress }
    }

    /// Runs one stage; a stage that fails is told by its error.
    pub(super) async fn stage<T, E>(
        &mut self,
        stage: Stage,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let start = Instant::now();
        let result = work.await;
        if result.is_ok() {
            self.finish(stage, start);
        }
        result
    }

    /// Ends a stage that began at `start`.
    pub(super) fn finish(&mut self, stage: Stage, start: Instant) {
        let us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let time = StageTime { stage: stage.name().to_owned(), us };
        (self.progress)(&time);
        self.done.push(time);
    }

    /// The stages so far.
    pub(super) fn so_far(&self) -> Vec<StageTime> {
        self.done.clone()
    }
}
