//! Trees of questions about features, and what their leaves add up to.

use std::collections::HashMap;

use tract_onnx::tract_core::internal::*;

use super::attributes::Attributes;
use super::scores::narrow;

/// What a branch asks of a feature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Question {
    AtMost,
    Below,
    AtLeast,
    Above,
    Is,
    IsNot,
    /// Whether it is one of a set, by the set's number.
    Among(u32),
}

/// A branch or a leaf, by its number: one bit says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    const LEAF: u32 = 1 << 31;

    pub(super) fn branch(at: usize) -> TractResult<Self> {
        let at = u32::try_from(at).ok().filter(|at| *at < Self::LEAF);
        Ok(Self(at.context("it has too many nodes")?))
    }

    pub(super) fn leaf(at: usize) -> TractResult<Self> {
        Ok(Self(Self::branch(at)?.0 | Self::LEAF))
    }
}

#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub feature: u32,
    pub question: Question,
    /// Whether NaN goes the way of yes; else it goes as the comparison says.
    pub missing: bool,
    /// Exact, whether the file has f32 or f64.
    pub value: f64,
    pub yes: Place,
    pub no: Place,
}

/// What a leaf gives to a target or class.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight {
    pub target: u32,
    pub value: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// The sum of a target so far, if a leaf gave anything to it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Score {
    pub value: f64,
    pub known: bool,
}

impl Score {
    /// As scores are written: what is unknown is 0, whatever was added to it.
    pub(super) fn written(self) -> f32 {
        if self.known { narrow(self.value) } else { 0.0 }
    }
}

#[derive(Debug)]
pub(super) struct Forest {
    branches: Vec<Branch>,
    /// Where the weights of each leaf start; one more for the end of the last.
    leaves: Vec<u32>,
    weights: Vec<Weight>,
    roots: Vec<Place>,
    sets: Vec<Vec<f64>>,
    targets: usize,
    /// Columns that are looked at.
    pub(super) features: usize,
}

/// Arithmetic as ONNX Runtime does it for the input's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Single,
    Double,
}

impl Width {
    pub(super) fn of(datum: DatumType) -> Self {
        if datum == DatumType::F64 { Self::Double } else { Self::Single }
    }

    pub(super) fn add(self, a: f64, b: f64) -> f64 {
        if self == Self::Double { a + b } else { f64::from(narrow(a) + narrow(b)) }
    }

    fn divide(self, a: f64, b: f64) -> f64 {
        if self == Self::Double { a / b } else { f64::from(narrow(a) / narrow(b)) }
    }
}

/// A forest before it is checked. Weights are those of leaves, in any order.
pub(super) struct Draft {
    pub branches: Vec<Branch>,
    pub leaves: usize,
    pub weights: Vec<(Place, Weight)>,
    pub roots: Vec<Place>,
    pub sets: Vec<Vec<f64>>,
}

impl Forest {
    pub(super) fn new(draft: Draft, targets: usize) -> TractResult<Self> {
        let Draft { branches, leaves: count, mut weights, roots, sets } = draft;
        ensure!(!roots.is_empty(), "it has no tree");
        no_circles(&branches)?;
        if targets == 1 {
            // One that has none gives 0 to the only target, which a minimum sees.
            let mut bare = vec![true; count];
            weights.iter().for_each(|(leaf, _)| bare[(leaf.0 & !Place::LEAF) as usize] = false);
            for at in (0..count).filter(|&at| bare[at]) {
                weights.push((Place::leaf(at)?, Weight { target: 0, value: 0.0 }));
            }
        }
        // Stable: those of one leaf stay in the order of the file.
        weights.sort_by_key(|(leaf, _)| leaf.0);
        let mut leaves = vec![0u32; count + 1];
        for (leaf, weight) in &weights {
            let target = weight.target as usize;
            ensure!(target < targets, "a leaf's target {target} is none of the {targets}");
            leaves[(leaf.0 & !Place::LEAF) as usize + 1] += 1;
        }
        for at in 1..leaves.len() {
            leaves[at] += leaves[at - 1];
        }
        let features = branches.iter().map(|branch| branch.feature as usize + 1).max();
        let weights = weights.into_iter().map(|(_, weight)| weight).collect();
        let features = features.unwrap_or(0);
        Ok(Self { branches, leaves, weights, roots, sets, targets, features })
    }

    /// The most weights that a leaf has.
    pub(super) fn most_weights(&self) -> u32 {
        self.leaves.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }

    /// What a row's leaves make of each target.
    pub(super) fn scores(&self, row: &[f64], how: Aggregate, width: Width) -> Vec<Score> {
        let mut scores = vec![Score::default(); self.targets];
        for &root in &self.roots {
            for weight in self.weights_of(root, row) {
                let score = &mut scores[weight.target as usize];
                score.value = match how {
                    Aggregate::Sum | Aggregate::Average => width.add(score.value, weight.value),
                    Aggregate::Min if score.known && weight.value >= score.value => score.value,
                    Aggregate::Max if score.known && weight.value <= score.value => score.value,
                    Aggregate::Min | Aggregate::Max => weight.value,
                };
                score.known = true;
            }
        }
        if how == Aggregate::Average {
            #[expect(clippy::cast_precision_loss, reason = "there are far fewer trees than 2^24")]
            let trees = self.roots.len() as f64;
            scores.iter_mut().for_each(|score| score.value = width.divide(score.value, trees));
        }
        scores
    }

    fn weights_of(&self, root: Place, row: &[f64]) -> &[Weight] {
        let mut at = root.0;
        while at & Place::LEAF == 0 {
            let branch = &self.branches[at as usize];
            let x = row[branch.feature as usize];
            let yes = self.answer(branch, x) || (branch.missing && x.is_nan());
            at = if yes { branch.yes } else { branch.no }.0;
        }
        let leaf = (at & !Place::LEAF) as usize;
        &self.weights[self.leaves[leaf] as usize..self.leaves[leaf + 1] as usize]
    }

    #[expect(clippy::float_cmp, reason = "that is the question")]
    fn answer(&self, branch: &Branch, x: f64) -> bool {
        match branch.question {
            Question::AtMost => x <= branch.value,
            Question::Below => x < branch.value,
            Question::AtLeast => x >= branch.value,
            Question::Above => x > branch.value,
            Question::Is => x == branch.value,
            Question::IsNot => x != branch.value,
            Question::Among(set) => self.sets[set as usize].contains(&x),
        }
    }
}

/// Takes branches away that no branch leads to, until none are left.
fn no_circles(branches: &[Branch]) -> TractResult<()> {
    let mut ways = vec![0u32; branches.len()];
    let next = |at: usize| {
        let places = [branches[at].yes, branches[at].no];
        places.into_iter().filter(|place| place.0 & Place::LEAF == 0).map(|place| place.0 as usize)
    };
    (0..branches.len()).flat_map(next).for_each(|to| ways[to] += 1);
    let mut free: Vec<_> = (0..branches.len()).filter(|&at| ways[at] == 0).collect();
    let mut seen = 0;
    while let Some(at) = free.pop() {
        seen += 1;
        for to in next(at) {
            ways[to] -= 1;
            if ways[to] == 0 {
                free.push(to);
            }
        }
    }
    ensure!(seen == branches.len(), "its nodes lead in a circle");
    Ok(())
}

/// Reads the nodes of operator sets 1 to 4, and the weights of `what`, `class` or `target`.
pub(super) fn read(attributes: &Attributes<'_>, what: &str) -> TractResult<Draft> {
    let (trees, ids) = (attributes.ints("nodes_treeids"), attributes.ints("nodes_nodeids"));
    let modes = attributes.strings("nodes_modes")?;
    let values = attributes.doubles("nodes_values")?;
    let features = attributes.sizes("nodes_featureids")?;
    let (yes, no) = (attributes.ints("nodes_truenodeids"), attributes.ints("nodes_falsenodeids"));
    let missing = attributes.ints("nodes_missing_value_tracks_true");
    let lengths = [ids.len(), modes.len(), values.len(), features.len(), yes.len(), no.len()];
    ensure!(
        lengths.iter().all(|&len| len == trees.len()),
        "its `nodes_` attributes have {} and {lengths:?} entries",
        trees.len()
    );
    let (mut places, mut branches, mut leaves) = (HashMap::new(), 0, 0);
    let mut roots = Vec::new();
    for (at, (&tree, &id)) in trees.iter().zip(ids).enumerate() {
        let counter = if modes[at] == "LEAF" { &mut leaves } else { &mut branches };
        let number = *counter;
        *counter += 1;
        let place = if modes[at] == "LEAF" { Place::leaf(number)? } else { Place::branch(number)? };
        ensure!(places.insert((tree, id), place).is_none(), "its tree {tree} has two nodes {id}");
        if at == 0 || trees[at - 1] != tree {
            roots.push((tree, place));
        }
    }
    let place = |tree: i64, id: i64| {
        let place = places.get(&(tree, id)).copied();
        place.with_context(|| format!("its tree {tree} has no node {id}"))
    };
    let mut drawn = Vec::with_capacity(branches);
    for at in (0..trees.len()).filter(|&at| modes[at] != "LEAF") {
        drawn.push(Branch {
            feature: u32::try_from(features[at])?,
            question: question(&modes[at])?,
            missing: missing.get(at) == Some(&1),
            value: values[at],
            yes: place(trees[at], yes[at])?,
            no: place(trees[at], no[at])?,
        });
    }
    let name = |part: &str| format!("{what}_{part}");
    let (of_trees, of_nodes) =
        (attributes.ints(&name("treeids")), attributes.ints(&name("nodeids")));
    let (targets, values) =
        (attributes.sizes(&name("ids"))?, attributes.doubles(&name("weights"))?);
    let lengths = [of_nodes.len(), targets.len(), values.len()];
    ensure!(
        lengths.iter().all(|&len| len == of_trees.len()),
        "its `{what}_` attributes have {} and {lengths:?} entries",
        of_trees.len()
    );
    let mut weights = Vec::with_capacity(values.len());
    for (at, (&tree, &node)) in of_trees.iter().zip(of_nodes).enumerate() {
        let place = place(tree, node)?;
        // What a branch weighs is never asked.
        if place.0 & Place::LEAF != 0 {
            let weight = Weight { target: u32::try_from(targets[at])?, value: values[at] };
            weights.push((place, weight));
        }
    }
    let roots = whole_trees(roots, &drawn)?;
    Ok(Draft { branches: drawn, leaves, weights, roots, sets: Vec::new() })
}

/// The first node of each tree, if nothing leads to it and the tree stands in one piece.
fn whole_trees(roots: Vec<(i64, Place)>, branches: &[Branch]) -> TractResult<Vec<Place>> {
    let mut seen = std::collections::HashSet::new();
    for (tree, _) in &roots {
        ensure!(seen.insert(*tree), "the nodes of its tree {tree} are not next to each other");
    }
    let firsts: std::collections::HashMap<u32, i64> =
        roots.iter().map(|(tree, place)| (place.0, *tree)).collect();
    for place in branches.iter().flat_map(|branch| [branch.yes, branch.no]) {
        if let Some(tree) = firsts.get(&place.0) {
            bail!("the first node of its tree {tree} is not the root");
        }
    }
    Ok(roots.into_iter().map(|(_, place)| place).collect())
}

fn question(mode: &str) -> TractResult<Question> {
    Ok(match mode {
        "BRANCH_LEQ" => Question::AtMost,
        "BRANCH_LT" => Question::Below,
        "BRANCH_GTE" => Question::AtLeast,
        "BRANCH_GT" => Question::Above,
        "BRANCH_EQ" => Question::Is,
        "BRANCH_NEQ" => Question::IsNot,
        other => bail!("its node mode {other:?} is none of the standard's"),
    })
}
