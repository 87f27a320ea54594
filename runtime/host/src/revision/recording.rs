//! A profile of one revision while it lasts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::InstancePre;

use super::Revision;
use crate::engine::ticker::{Beats, Quick};
use crate::meter::Meter;
use crate::profile::{Probe, Profile, Taken};
use crate::sandbox::Sandbox;

/// Why a profile does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// Its function has one.
    #[error("the function is being profiled already")]
    Function,
    /// The node has as many as it may.
    #[error(
        "the node has {} profiles under way, and no more at once",
        mayfly_core::limits::node::PROFILES
    )]
    Node,
}

/// What an invocation needs that begins under a profile.
pub struct Profiled {
    profile: Arc<Profile>,
    beats: Arc<Beats>,
    /// The revision's code, linked with imports that tell the probe of their calls.
    pub pre: InstancePre<Sandbox>,
}

impl Profiled {
    /// For one invocation.
    #[must_use]
    pub fn probe(&self, meter: &Arc<Meter>) -> Arc<Probe> {
        Probe::new(self.profile.clone(), self.beats.clone(), meter.clone())
    }
}

/// Ends its profile when it is dropped: one that nobody waits for is not taken.
pub struct Recording {
    revision: Arc<Revision>,
    profile: Arc<Profile>,
    began: Instant,
    _quick: Quick,
}

impl Recording {
    /// Begins a profile; `pre` is the revision's code as [`Profiled`] has it.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn begin(
        revision: &Arc<Revision>,
        quick: Option<Quick>,
        pre: InstancePre<Sandbox>,
    ) -> Result<Self, Busy> {
        let quick = quick.ok_or(Busy::Node)?;
        let profile = Arc::<Profile>::default();
        let profiled = Profiled { profile: profile.clone(), beats: quick.beats(), pre };
        if !revision.terms.profiling.set(&profile) {
            return Err(Busy::Function);
        }
        revision.profiled.store(Some(Arc::new(profiled)));
        let (revision, began) = (revision.clone(), Instant::now());
        Ok(Self { revision, profile, began, _quick: quick })
    }

    /// What is profiled.
    #[must_use]
    pub fn revision(&self) -> &Arc<Revision> {
        &self.revision
    }

    /// Ends it: what was counted, and how long that took.
    #[must_use]
    pub fn end(self) -> (Taken, Duration) {
        (self.profile.close(), self.began.elapsed())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // Invocations under way have the profile still, and count nothing more in it.
        let _ = self.profile.close();
        self.revision.profiled.store(None);
        self.revision.terms.profiling.clear();
    }
}
