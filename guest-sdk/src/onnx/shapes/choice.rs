//! Which sizes plans are made ready for, and which are tried.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::READY;
use crate::onnx::load::Options;
use crate::onnx::model::Port;
use crate::onnx::source::{Sizes, Source};

/// How many sizes of a dimension are tried at most.
pub(super) const TRIES: usize = 6;
/// Sizes that are tried for a dimension of which nobody said what suits the model: the outermost, which is a batch; those
/// of pictures; others. Two that work are needed.
const BATCHES: [usize; TRIES] = [1, 2, 3, 4, 1, 2];
const PICTURES: [usize; TRIES] = [64, 96, 224, 256, 32, 320];
const OTHERS: [usize; TRIES] = [16, 5, 8, 32, 3, 64];
/// An input of so many dimensions is a picture.
const PICTURE_RANK: usize = 4;

/// The sizes to make ready.
pub(super) struct Choice {
    pub(super) ready: Vec<Sizes>,
    /// Those that do not say the size of each dimension.
    pub(super) partial: Vec<Sizes>,
    pub(super) listed: BTreeMap<String, Vec<usize>>,
    /// Whether a dimension may have any size.
    pub(super) open: bool,
    pub(super) names: Vec<String>,
}

impl Choice {
    pub(super) fn of(options: &Options, source: &Source) -> Result<Self> {
        let names = source.open();
        let mut listed = BTreeMap::new();
        let mut ready = vec![Sizes::new()];
        let mut open = false;
        for name in &names {
            let given = |all: &[(String, Vec<usize>)]| {
                all.iter().find(|(given, _)| given == name).map(|(_, sizes)| sizes.clone())
            };
            let sizes = match given(&options.dims) {
                Some(sizes) => {
                    ensure!(
                        !sizes.is_empty(),
                        "the list of sizes for the dimension {name:?} is empty"
                    );
                    listed.insert(name.clone(), sizes.clone());
                    sizes
                }
                None => {
                    open = true;
                    given(&options.any).unwrap_or_default()
                }
            };
            if !sizes.is_empty() {
                let with = |known: &Sizes| {
                    let known = known.clone();
                    sizes.iter().map(move |&size| (known.clone(), size)).collect::<Vec<_>>()
                };
                ready = ready
                    .iter()
                    .flat_map(with)
                    .map(|(mut known, size)| {
                        known.insert(name.clone(), size);
                        known
                    })
                    .collect();
            }
            ensure!(
                ready.len() <= READY,
                "the lists of sizes make {} shapes or more together, and at most {READY} are made ready",
                ready.len()
            );
        }
        // A dimension without sizes gets one that is tried.
        let whole = |sizes: &Sizes| sizes.len() == names.len();
        let (ready, partial) = ready.into_iter().partition(whole);
        Ok(Self { ready, partial, listed, open, names })
    }

    /// The sizes of shapes that requests came with, if the model may have them.
    pub(super) fn met(&self, source: &Source, met: &[(String, Vec<usize>)]) -> Option<Sizes> {
        let ports = source.ports();
        let shape = |port: &Port| {
            let of_it = |(name, _): &&(String, Vec<usize>)| name == port.name();
            let shape = met.iter().find(of_it).map(|(_, shape)| &**shape);
            shape.filter(|shape| shape.len() == port.sizes().count())
        };
        let shapes: Option<Vec<&[usize]>> = ports.iter().map(shape).collect();
        let sizes = source.sizes(&shapes?).ok()?;
        let listed = self.listed.iter().all(|(name, listed)| listed.contains(&sizes[name]));
        listed.then_some(sizes)
    }

    /// Sizes to try, some of which suit any model.
    pub(super) fn rung(&self, source: &Source, given: &Options, rung: usize) -> Sizes {
        let size = |name: &String| {
            let known = [&given.dims, &given.any].into_iter().flatten();
            let known = known.filter(|(given, _)| given == name).flat_map(|(_, sizes)| sizes);
            let ladder = match (source.is_batch(name), source.rank(name) >= PICTURE_RANK) {
                (true, _) => BATCHES,
                (false, true) => PICTURES,
                (false, false) => OTHERS,
            };
            let listed = self.listed.contains_key(name);
            let mut sizes = known.copied().chain(ladder.into_iter().filter(|_| !listed));
            let count = known_len(given, name);
            let at = if listed { rung % count.max(1) } else { rung };
            (name.clone(), sizes.nth(at).unwrap_or(ladder[0]))
        };
        self.names.iter().map(size).collect()
    }
}

fn known_len(options: &Options, name: &str) -> usize {
    let all = [&options.dims, &options.any].into_iter().flatten();
    all.filter(|(given, _)| given == name).map(|(_, sizes)| sizes.len()).sum()
}
