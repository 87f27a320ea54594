//! Code that was found to be valid: the stock runners', which many functions share.

use std::collections::VecDeque;

use mayfly_core::Digest;
use mayfly_core::limits::node::KNOWN_CODE;
use parking_lot::Mutex;

/// What stands in the way of a snapshot of some code, by the code's digest: the last that were seen.
#[derive(Debug, Default)]
pub struct Known(Mutex<VecDeque<(Digest, Vec<&'static str>)>>);

impl Known {
    pub(super) fn obstacles(&self, code: Digest) -> Option<Vec<&'static str>> {
        let known = self.0.lock();
        known.iter().find(|(digest, _)| *digest == code).map(|(_, found)| found.clone())
    }

    pub(super) fn remember(&self, code: Digest, obstacles: &[&'static str]) {
        let mut known = self.0.lock();
        known.truncate(KNOWN_CODE - 1);
        known.push_front((code, obstacles.to_vec()));
    }
}
