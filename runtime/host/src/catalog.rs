//! Function name to what serves it: the one value at which publishing and serving meet.
//!
//! Readers load a pointer; a writer builds a new map and swaps it whole. An in-flight request keeps the revision
//! it started with alive through its own `Arc`.

mod function;
mod loading;
mod overlap;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use mayfly_core::FunctionName;
use mayfly_core::deployment::Deployment;
use mayfly_core::record::RevisionRecord;
use mayfly_core::router::{Match, Route, Router, split_name, split_version};
use parking_lot::Mutex;

use crate::revision::Revision;
pub use function::{Function, Reached};
pub use loading::Loading;
pub use overlap::{Clash, ClashKind, Leaves, Lost, Overlaps, Takes};

/// What a version of a function is at this moment.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A revision that answers.
    Ready(Arc<Revision>),
    /// A revision that answers as soon as it is asked for: whoever asks waits until it is loaded.
    Loading(Arc<Loading>),
    /// A revision whose artifact is being rebuilt; 503 meanwhile.
    Preparing(Arc<Preparing>),
}

/// A revision without code.
#[derive(Debug)]
pub struct Preparing {
    /// What it is.
    pub record: RevisionRecord,
    /// Why the last try to make its code failed, if there was one.
    pub failed: Option<Failed>,
}

/// A try that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub why: String,
    /// Whether there will be another try; if not, only a new deploy helps.
    pub again: bool,
}

impl Entry {
    /// What it is, with or without code.
    #[must_use]
    pub fn record(&self) -> &RevisionRecord {
        match self {
            Self::Ready(revision) => &revision.record,
            Self::Loading(loading) => &loading.record,
            Self::Preparing(preparing) => &preparing.record,
        }
    }
}

/// One state of the catalog.
#[derive(Debug, Default)]
pub struct View {
    functions: HashMap<FunctionName, Function>,
    routes: Router<FunctionName>,
    is_loading: bool,
}

/// A found function and how its path was split.
#[derive(Debug)]
pub struct Found<'c, 'p> {
    /// The function.
    pub function: &'c Function,
    /// Which of its versions the path names, if it does.
    pub preview: Option<&'c Entry>,
    /// The part of the path that the route took.
    pub base: &'p str,
    /// The part below it: empty, or starting with `/`.
    pub rest: &'p str,
}

impl View {
    /// The function that serves a path: that of the longest route, where `/{name}/...` is a route of each function.
    ///
    /// Without other routes it is one look-up of a name; with some, those that are at least as long as the name's are
    /// looked at as well. A deploy of an equal one is refused, but a start may find one that the configuration gives to
    /// another function: what somebody wrote down then goes before what a name implies, and `mayfly list` shows it.
    ///
    /// Routes of the request's host go before all others.
    ///
    /// A path may name a version of a function, as `/hello@7/...`; `may_see` says whether its sender may have it. If not,
    /// it is a path like any other.
    #[must_use]
    pub fn find<'p, 'h>(
        &self,
        path: &'p str,
        host: impl FnOnce() -> &'h [u8],
        may_see: impl Fn(&FunctionName, Reached) -> bool,
    ) -> Option<Found<'_, 'p>> {
        let preview = || {
            let (name, version, base, rest) = split_version(path)?;
            let function = self.functions.get(name)?;
            let reached = function.reach(version)?;
            let preview = function.entry(reached.version);
            may_see(&function.deployment.function, reached).then_some(Found {
                function,
                preview,
                base,
                rest,
            })
        };
        // Who names a version, and may, must not reach what serves on a host.
        if self.routes.has_hosts()
            && let Some(found) = preview()
        {
            return Some(found);
        }
        if self.routes.has_hosts()
            && let Some(Match { target, base, rest }) = self.routes.find_on(host(), path)
        {
            let function = self.functions.get(target)?;
            return Some(Found { function, preview: None, base, rest });
        }
        let named = split_name(path)
            .and_then(|(name, base, rest)| Some((self.functions.get(name)?, base, rest)));
        if named.is_none()
            && let Some(found) = preview()
        {
            return Some(found);
        }
        if !self.routes.is_empty() {
            let least = named.map_or(0, |(_, base, _)| base.len());
            if let Some(Match { target, base, rest }) = self.routes.find_from(path, least) {
                // One that the configuration names, and that is not deployed: its paths are nobody else's meanwhile.
                let function = self.functions.get(target)?;
                return Some(Found { function, preview: None, base, rest });
            }
        }
        let (function, base, rest) = named?;
        Some(Found { function, preview: None, base, rest })
    }

    /// One function by its name.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name)
    }

    /// The main version of a function: the one with the most requests.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.functions.get(name).map(Function::main)
    }

    /// How many functions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.functions.len()
    }

    /// How many versions of all functions can be reached; each costs a descriptor or two.
    #[must_use]
    pub fn count_versions(&self) -> usize {
        self.functions.values().map(|function| function.entries().count()).sum()
    }

    /// Whether there are any whose code is not loaded yet.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.is_loading
    }

    /// Those whose code is not loaded yet.
    pub fn loading(&self) -> impl Iterator<Item = &Arc<Loading>> {
        self.entries().filter_map(|entry| match entry {
            Entry::Loading(loading) => Some(loading),
            Entry::Ready(_) | Entry::Preparing(_) => None,
        })
    }

    /// All functions, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&FunctionName, &Function)> {
        self.functions.iter()
    }

    /// All versions of all functions, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.functions.values().flat_map(Function::entries)
    }
}

/// The current [`View`], swapped whole.
#[derive(Debug, Default)]
pub struct Catalog {
    current: ArcSwap<View>,
    /// Routes from `mayfly.toml`; those of revisions come on top.
    configured: Vec<(Route, FunctionName)>,
    writer: Mutex<()>,
}

impl Catalog {
    /// An empty catalog with the routes of the node's configuration.
    #[must_use]
    pub fn new(configured: Vec<(Route, FunctionName)>) -> Self {
        Self { configured, ..Self::default() }
    }

    /// The current state; lock-free, held for the length of a look-up.
    pub fn load(&self) -> Guard<Arc<View>> {
        self.current.load()
    }

    /// The current state, for longer than a look-up.
    pub fn load_full(&self) -> Arc<View> {
        self.current.load_full()
    }

    /// The routes of the node's configuration.
    #[must_use]
    pub fn configured(&self) -> &[(Route, FunctionName)] {
        &self.configured
    }

    /// Makes all requests of a function go to one version from the next one on.
    pub fn insert(&self, name: FunctionName, entry: Entry) {
        let record = entry.record();
        let routes = record.settings.routes.clone();
        let deployment = Deployment::whole(name, record.number, routes);
        self.deploy(deployment, [entry]);
    }

    /// Serves a function by a deployment from the next request on. `fresh` has those of its versions that are not in the
    /// catalog under its name, or takes their place.
    pub fn deploy(&self, deployment: Deployment, fresh: impl IntoIterator<Item = Entry>) {
        let fresh: Vec<_> = fresh.into_iter().collect();
        self.extend([(deployment, fresh)]);
    }

    /// The same for many at once: each change copies the map.
    pub fn extend(&self, deployments: impl IntoIterator<Item = (Deployment, Vec<Entry>)>) {
        self.update(|functions| {
            for (deployment, fresh) in deployments {
                let name = deployment.function.clone();
                if let Some(function) = Function::new(deployment, fresh, functions.get(&name)) {
                    functions.insert(name, function);
                }
            }
        });
    }

    /// Puts another state of a version in its place, if its function has that version now; says whether it has.
    pub fn replace(&self, name: &FunctionName, entry: Entry) -> bool {
        let mut replaced = false;
        self.update(|functions| {
            let function = functions.get_mut(name);
            replaced = function.is_some_and(|function| function.put(entry, |_| true));
        });
        replaced
    }

    /// Puts what came of a load in its place, unless a deploy or a removal was first; says whether it did.
    pub fn settle(&self, loading: &Arc<Loading>, entry: Entry) -> bool {
        let mut settled = false;
        self.update(|functions| {
            let is_it =
                |now: &Entry| matches!(now, Entry::Loading(now) if Arc::ptr_eq(now, loading));
            let function = functions.get_mut(&loading.record.function);
            settled = function.is_some_and(|function| function.put(entry, is_it));
        });
        loading.done();
        settled
    }

    /// Makes `name` lead nowhere; says whether it led somewhere.
    pub fn remove(&self, name: &FunctionName) -> bool {
        let mut removed = false;
        self.update(|functions| removed = functions.remove(name).is_some());
        removed
    }

    fn update(&self, change: impl FnOnce(&mut HashMap<FunctionName, Function>)) {
        let _writer = self.writer.lock();
        let mut functions = self.current.load().functions.clone();
        change(&mut functions);
        let mut routes = self.configured.clone();
        for (name, function) in &functions {
            // Without code as well: its paths would lead to other functions meanwhile.
            let own = &function.deployment.routes;
            routes.extend(own.iter().filter_map(|r| Some((Route::new(r).ok()?, name.clone()))));
        }
        let is_loading = functions
            .values()
            .flat_map(Function::entries)
            .any(|entry| matches!(entry, Entry::Loading(_)));
        self.current.store(Arc::new(View { functions, routes: Router::new(routes), is_loading }));
    }
}
