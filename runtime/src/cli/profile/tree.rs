//! Stacks by what they have in common.

use std::collections::BTreeMap;

use mayfly_admin::profile::Frame;

use super::{Taken, frames};

/// A frame, below the frames that led to it.
#[derive(Debug, Default)]
pub(super) struct Node<'t> {
    /// In it and in what it called.
    pub(super) samples: u64,
    /// What it called.
    pub(super) below: BTreeMap<&'t Frame, Node<'t>>,
}

impl<'t> Node<'t> {
    /// The frame that all stacks have in common, which is none.
    pub(super) fn root(taken: &'t Taken) -> Self {
        let mut root = Self::default();
        for stack in &taken.stacks {
            root.samples += stack.samples;
            let mut at = &mut root;
            for frame in frames(taken, &stack.frames) {
                at = at.below.entry(frame).or_default();
                at.samples += stack.samples;
            }
        }
        root
    }

    /// How many frames lie above one another at the most.
    pub(super) fn height(&self) -> usize {
        self.below.values().map(|node| 1 + node.height()).max().unwrap_or(0)
    }
}
