//! Which paths of one function lie within another's route, and which it should have and another has.
//!
//! That the longest route wins is good for who wrote it, and a surprise to everybody else. So a deploy says what it takes,
//! `mayfly list` shows it, and what would be two functions' at once is refused.

use std::collections::{BTreeSet, HashSet};

use mayfly_core::FunctionName;
use mayfly_core::router::Route;
use serde::Serialize;

use super::{Catalog, View};

/// A route whose paths would be another function's if it were not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Takes {
    /// The route; `/{name}/...` for the name itself.
    pub route: String,
    /// The other function.
    pub from: FunctionName,
    /// Its route.
    pub within: String,
}

/// A route that leads to another function, because that one's comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The route; `/{name}/...` for the name itself.
    pub route: String,
    /// Where it leads.
    pub to: FunctionName,
}

/// How a function's routes and those of others lie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Overlaps {
    /// What it takes from others.
    pub takes: Vec<Takes>,
    /// What others have that is its own by name or deploy; only a start can find it so.
    pub lost: Vec<Lost>,
}

/// A route below which other functions keep paths, because theirs are longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leaves {
    /// The route.
    pub route: String,
    /// The functions, by name.
    pub to: Vec<FunctionName>,
}

/// A route that would be two functions'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// Whose it is.
    pub owner: FunctionName,
    /// How the two meet.
    pub kind: ClashKind,
}

/// What is another's already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClashKind {
    /// A route that was asked for is one of the other function's, or its name's.
    Route(String),
    /// A route that was asked for is the other function's by the node's configuration.
    RouteConfigured(String),
    /// `/{name}/...` is a route of the other function's.
    Name,
    /// `/{name}/...` is the other function's by the node's configuration.
    NameConfigured,
}

impl Catalog {
    /// Whether a function of this name and with these routes would have one that is another's. What has no code counts
    /// as well.
    #[must_use]
    pub fn clash(&self, name: &FunctionName, routes: &[String]) -> Option<Clash> {
        let own: HashSet<&str> = routes.iter().map(String::as_str).collect();
        let by_name = Route::of_name(name).to_string();
        for (route, owner) in self.configured().iter().filter(|(_, owner)| owner != name) {
            let route = route.to_string();
            let kind = match own.contains(route.as_str()) {
                true => ClashKind::RouteConfigured(route),
                false if route == by_name => ClashKind::NameConfigured,
                false => continue,
            };
            return Some(Clash { owner: owner.clone(), kind });
        }
        let view = self.load();
        let others = view.iter().filter(|(owner, _)| *owner != name);
        others.into_iter().find_map(|(owner, function)| {
            let clash = |kind| Some(Clash { owner: owner.clone(), kind });
            let theirs = &function.deployment.routes;
            if let Some(route) = theirs.iter().find(|route| own.contains(route.as_str())) {
                return clash(ClashKind::Route(route.clone()));
            }
            if theirs.contains(&by_name) {
                return clash(ClashKind::Name);
            }
            let their_name = Route::of_name(owner).to_string();
            own.contains(their_name.as_str()).then(|| clash(ClashKind::Route(their_name)))?
        })
    }
}

impl View {
    /// What a function's routes take from others, and which of them lead elsewhere.
    #[must_use]
    pub fn overlaps(&self, name: &FunctionName) -> Overlaps {
        let mut overlaps = Overlaps::default();
        if self.routes.is_empty() || !self.functions.contains_key(name.as_str()) {
            return overlaps;
        }
        let mut own = vec![Route::of_name(name)];
        own.extend(self.routes_of(name));
        for route in own {
            if let Some((_, to)) = self.routes.iter().find(|(other, _)| *other == route)
                && to != name
            {
                overlaps.lost.push(Lost { route: route.to_string(), to: to.clone() });
            } else if let Some((within, from)) = self.around(&route)
                && from != *name
            {
                let (route, within) = (route.to_string(), within.to_string());
                overlaps.takes.push(Takes { route, from, within });
            }
        }
        overlaps
    }

    /// The other functions that keep paths below a route, because theirs are longer.
    #[must_use]
    pub fn leaves(&self, name: &FunctionName, route: &Route) -> Leaves {
        let routed = self.routes.iter().filter(|(inner, _)| route.covers(inner));
        let named = self.functions.keys().filter(|other| route.covers(&Route::of_name(other)));
        let all: BTreeSet<_> = routed.map(|(_, owner)| owner).chain(named).collect();
        let to = all.into_iter().filter(|other| *other != name).cloned().collect();
        Leaves { route: route.to_string(), to }
    }

    /// The routes that a function has beside its name, by its deploy and by the configuration, each once.
    fn routes_of(&self, name: &FunctionName) -> BTreeSet<Route> {
        let configured =
            self.routes.iter().filter(|(_, owner)| owner == name).map(|(route, _)| route.clone());
        let function = self.functions.get(name.as_str());
        let deployed = function.map_or(&[][..], |function| &function.deployment.routes[..]);
        configured.chain(deployed.iter().filter_map(|route| Route::new(route).ok())).collect()
    }

    /// The longest route that covers another one and is not it, and whose it is.
    fn around(&self, route: &Route) -> Option<(Route, FunctionName)> {
        let covering = self.routes.iter().find(|(outer, _)| outer != route && outer.covers(route));
        let by_name = route.first_name().and_then(|first| self.functions.get_key_value(first));
        let by_name = by_name.map(|(name, _)| (Route::of_name(name), name.clone()));
        let by_name = by_name.filter(|(outer, _)| outer != route);
        match (covering, by_name) {
            (Some((outer, _)), Some(named)) if named.0.length() > outer.length() => Some(named),
            (Some((outer, owner)), _) => Some((outer.clone(), owner.clone())),
            (None, named) => named,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mayfly_core::record::{Abi, RevisionRecord, Settings, Snapshot};
    use mayfly_core::{ArtifactKey, Digest, Mac};

    use super::super::{Entry, Preparing};
    use super::*;

    fn name(name: &str) -> FunctionName {
        FunctionName::new(name).unwrap()
    }

    fn texts(routes: &[&str]) -> Vec<String> {
        routes.iter().map(|route| (*route).to_owned()).collect()
    }

    /// A catalog with routes of the configuration, and functions with theirs.
    fn catalog(configured: &[(&str, &str)], functions: &[(&str, &[&str])]) -> Catalog {
        let configured =
            configured.iter().map(|(route, to)| (Route::new(route).unwrap(), name(to)));
        let catalog = Catalog::new(configured.collect());
        for (function, routes) in functions {
            let record = RevisionRecord {
                function: name(function),
                number: 1,
                wasm: Digest::of(b""),
                wasm_bytes: 0,
                artifact: ArtifactKey(Digest::of(b"")),
                artifact_mac: Mac::from_bytes([0; 32]),
                artifact_bytes: 0,
                code: None,
                image: None,
                abi: Abi::Command,
                snapshot: Snapshot::NoInit,
                settings: Settings { routes: texts(routes), ..Settings::default() },
                created_unix_s: 0,
                stages: Vec::new(),
                learned_from: None,
            };
            let entry = Entry::Preparing(Arc::new(Preparing { record, failed: None }));
            catalog.insert(name(function), entry);
        }
        catalog
    }

    fn found(catalog: &Catalog, path: &str) -> Option<(String, String, String)> {
        let view = catalog.load();
        let found = view.find(path, || &[], |_, _| false)?;
        let function = found.function.deployment.function.to_string();
        Some((function, found.base.into(), found.rest.into()))
    }

    #[test]
    fn a_name_is_a_route_and_the_longest_wins() {
        let catalog = catalog(
            &[("/conf/...", "hello"), ("/gone/...", "nobody")],
            &[
                ("site", &["/...", "/deep/er/..."]),
                ("hello", &["/"]),
                ("admin", &["/hello/admin/...", "/hello/exact"]),
                ("greet", &["/hello"]),
            ],
        );
        for (path, function, base, rest) in [
            ("/", "hello", "", "/"),
            ("/x", "site", "", "/x"),
            ("/hello", "greet", "/hello", ""),
            ("/hello/", "hello", "/hello", "/"),
            ("/hello/a", "hello", "/hello", "/a"),
            ("/hello/administrator", "hello", "/hello", "/administrator"),
            ("/hello/admin", "admin", "/hello/admin", ""),
            ("/hello/admin/x", "admin", "/hello/admin", "/x"),
            ("/hello/exact", "admin", "/hello/exact", ""),
            ("/hello/exact/x", "hello", "/hello", "/exact/x"),
            ("/admin", "admin", "/admin", ""),
            ("/deep", "site", "", "/deep"),
            ("/conf/x", "hello", "/conf", "/x"),
            ("/Hello", "site", "", "/Hello"),
        ] {
            let expected = (function.to_owned(), base.to_owned(), rest.to_owned());
            assert_eq!(found(&catalog, path), Some(expected), "{path}");
        }
        assert_eq!(found(&catalog, "/gone/x"), None, "not the site's, but nobody's");
    }

    #[test]
    fn without_routes_a_name_is_looked_up() {
        let catalog = catalog(&[], &[("hello", &[])]);
        assert_eq!(found(&catalog, "/hello/a").unwrap().1, "/hello");
        assert_eq!((found(&catalog, "/"), found(&catalog, "/other")), (None, None));
    }

    #[test]
    fn what_is_taken_from_others_is_known() {
        let catalog = catalog(
            &[("/a/b/...", "conf")],
            &[
                ("site", &["/..."]),
                ("hello", &["/hello/own/..."]),
                ("admin", &["/hello/admin/...", "/hello/own/x", "/free/..."]),
                ("a", &[]),
                ("conf", &[]),
            ],
        );
        let view = catalog.load();
        let takes = |of: &str| -> Vec<_> {
            let overlaps = view.overlaps(&name(of));
            assert!(overlaps.lost.is_empty(), "{of}");
            overlaps.takes.into_iter().map(|t| (t.route, t.from.to_string(), t.within)).collect()
        };
        let expected = |all: &[(&str, &str, &str)]| -> Vec<_> {
            all.iter().map(|(r, f, w)| ((*r).into(), (*f).into(), (*w).into())).collect()
        };
        assert_eq!(takes("site"), expected(&[]));
        assert_eq!(takes("hello"), expected(&[("/hello/...", "site", "/...")]));
        assert_eq!(
            takes("conf"),
            expected(&[("/conf/...", "site", "/..."), ("/a/b/...", "a", "/a/...")])
        );
        assert_eq!(
            takes("admin"),
            expected(&[
                ("/admin/...", "site", "/..."),
                ("/free/...", "site", "/..."),
                ("/hello/admin/...", "hello", "/hello/..."),
                ("/hello/own/x", "hello", "/hello/own/..."),
            ])
        );
        let leaves = |of: &str, route: &str| view.leaves(&name(of), &Route::new(route).unwrap()).to;
        assert_eq!(leaves("site", "/..."), ["a", "admin", "conf", "hello"].map(name));
        assert_eq!(leaves("a", "/a/..."), [name("conf")]);
        assert!(leaves("admin", "/hello/admin/...").is_empty());
    }

    #[test]
    fn what_the_configuration_gives_to_others_is_lost() {
        let configured = [("/hello/...", "other"), ("/api/...", "other"), ("/hello/x", "hello")];
        let catalog = catalog(&configured, &[("hello", &["/api/..."]), ("other", &[])]);
        let lost = catalog.load().overlaps(&name("hello")).lost;
        let lost: Vec<_> = lost.iter().map(|l| (l.route.as_str(), l.to.as_str())).collect();
        assert_eq!(lost, [("/hello/...", "other"), ("/api/...", "other")]);
        assert_eq!(found(&catalog, "/hello/y").unwrap().0, "other");
        assert_eq!(found(&catalog, "/hello/x").unwrap().0, "hello");
        assert_eq!(catalog.load().overlaps(&name("nobody")), Overlaps::default());
    }

    #[test]
    fn what_would_be_two_functions_is_a_clash() {
        let catalog = catalog(
            &[("/conf/...", "conf"), ("/x/...", "conf")],
            &[("hello", &["/api/...", "/later/..."]), ("conf", &[])],
        );
        let clash = |of: &str, routes: &[&str]| {
            let clash = catalog.clash(&name(of), &texts(routes))?;
            Some((clash.owner.to_string(), clash.kind))
        };
        let hello = |kind| Some(("hello".to_owned(), kind));
        let conf = |kind| Some(("conf".to_owned(), kind));
        assert_eq!(clash("new", &["/api/..."]), hello(ClashKind::Route("/api/...".into())));
        assert_eq!(clash("new", &["/hello/..."]), hello(ClashKind::Route("/hello/...".into())));
        assert_eq!(clash("later", &[]), hello(ClashKind::Name));
        assert_eq!(clash("x", &[]), conf(ClashKind::NameConfigured));
        assert_eq!(clash("new", &["/x/..."]), conf(ClashKind::RouteConfigured("/x/...".into())));
        for (of, routes) in [
            ("hello", &["/api/...", "/hello/..."][..]),
            ("conf", &["/x/..."]),
            ("new", &["/...", "/api", "/hello", "/hello/below/...", "/new/..."]),
        ] {
            assert_eq!(clash(of, routes), None, "{of} {routes:?}");
        }
    }
}
