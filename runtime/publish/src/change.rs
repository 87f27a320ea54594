//! What a deploy says of a function's settings, and what it leaves as it is.
//!
//! A name's publishes come one after the other, so what is kept is what the revision before this one had: nobody's change
//! is lost between a look and a deploy. And values of variables, which no answer of the node shows, can be kept at all.

use std::collections::BTreeMap;

use mayfly_core::deployment::{Percent, Remark, Tag};
use mayfly_core::limits::{LIMIT_KEYS, Limits};
use mayfly_core::outbound::{EdgeHeader, Rule};
use mayfly_core::record::{Settings, SettingsError};
use mayfly_core::router::Route;

/// One kind of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Caps of one invocation.
    Limits,
    /// Variables of its environment.
    Env,
    /// Secrets that it gets.
    Secrets,
    /// Arguments of a command.
    Args,
    /// Routes of its own.
    Routes,
    /// What it may call, and headers of its calls.
    Outbound,
    /// What is on or off.
    Switches,
}

impl Kind {
    /// All of them, in the order of their names' list in messages.
    pub const ALL: [Self; 7] = [
        Self::Limits,
        Self::Env,
        Self::Secrets,
        Self::Args,
        Self::Routes,
        Self::Outbound,
        Self::Switches,
    ];

    /// As in `--reset`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::Env => "env",
            Self::Secrets => "secrets",
            Self::Args => "args",
            Self::Routes => "routes",
            Self::Outbound => "outbound",
            Self::Switches => "switches",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a new version is given of its function's requests, and who says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// Its part; all of them if nothing is said. The others' parts shrink alike.
    pub percent: Option<Percent>,
    /// A second name for it, which is taken from another version if one has it.
    pub tag: Option<Tag>,
    /// Whether that name's preview needs no token.
    pub public: bool,
    /// The generation of the deployment that it is to follow; any if nothing is said.
    pub expected: Option<u64>,
    /// Who and why.
    pub remark: Remark,
}

/// What a deploy names, and what holds for the rest.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// What holds where nothing is named and nothing kept.
    pub base: Settings,
    /// What no deploy may exceed, if the node says so.
    pub most: Option<Limits>,
    /// Whether what is not named is kept from the current revision, if there is one.
    pub keeps: bool,
    /// Kinds that are not kept all the same.
    pub reset: Vec<Kind>,
    /// Limits, each as `key=value`.
    pub limits: Vec<String>,
    /// Variables; others are kept beside them.
    pub env: BTreeMap<String, String>,
    /// Names of secrets; others are kept beside them.
    pub secrets: Vec<String>,
    /// Arguments; any that are named stand for all.
    pub args: Vec<String>,
    /// Routes; any that are named stand for all.
    pub routes: Vec<String>,
    /// What it may call; any that are named stand for all.
    pub outbound: Vec<String>,
    /// Headers of its calls; any that are named stand for all.
    pub outbound_headers: Vec<EdgeHeader>,
    /// As in [`Settings`].
    pub stream_body: Option<bool>,
    /// As in [`Settings`].
    pub pass_authorization: Option<bool>,
    /// What the new version gets.
    pub placement: Placement,
}

/// All settings as they are here: nothing is kept.
impl From<Settings> for Change {
    fn from(base: Settings) -> Self {
        Self { base, ..Self::default() }
    }
}

impl Change {
    /// The settings that come of it, and in words what of them was kept and is not as by default.
    ///
    /// # Errors
    /// [`SettingsError`] for the first that cannot be.
    pub fn onto(
        self,
        current: Option<&Settings>,
    ) -> Result<(Settings, Vec<String>), SettingsError> {
        let current = current.filter(|_| self.keeps);
        let mut settings = current.unwrap_or(&self.base).clone();
        for kind in &self.reset {
            match kind {
                Kind::Limits => settings.limits = self.base.limits.clone(),
                Kind::Env => settings.env = self.base.env.clone(),
                Kind::Secrets => settings.secrets = self.base.secrets.clone(),
                Kind::Args => settings.args = self.base.args.clone(),
                Kind::Routes => settings.routes = self.base.routes.clone(),
                Kind::Outbound => {
                    settings.outbound = self.base.outbound.clone();
                    settings.outbound_headers = self.base.outbound_headers.clone();
                }
                Kind::Switches => {
                    settings.stream_body = self.base.stream_body;
                    settings.pass_authorization = self.base.pass_authorization;
                }
            }
        }
        let kept = if current.is_some() { self.kept(&settings) } else { Vec::new() };
        for limit in &self.limits {
            settings.limits.set(limit)?;
        }
        // What is named now goes before what was: a variable that becomes a secret, and the other way round.
        settings.secrets.retain(|name| !self.env.contains_key(name));
        settings.env.retain(|name, _| !self.secrets.contains(name));
        let more = self.secrets.into_iter().filter(|name| !settings.secrets.contains(name));
        let more: Vec<_> = more.collect();
        settings.secrets.extend(more);
        settings.env.extend(self.env);
        if !self.args.is_empty() {
            settings.args = self.args;
        }
        if !self.routes.is_empty() {
            settings.routes = self.routes;
        }
        if !self.outbound.is_empty() {
            settings.outbound = self.outbound;
        }
        if !self.outbound_headers.is_empty() {
            settings.outbound_headers = self.outbound_headers;
        }
        settings.stream_body = self.stream_body.unwrap_or(settings.stream_body);
        settings.pass_authorization =
            self.pass_authorization.unwrap_or(settings.pass_authorization);
        settings.check()?;
        // As they are compared: a host in lower case.
        for route in &mut settings.routes {
            *route = Route::new(route)?.to_string();
        }
        for rule in &mut settings.outbound {
            *rule = rule.parse::<Rule>()?.to_string();
        }
        if let Some(most) = &self.most {
            within(&settings.limits, most)?;
        }
        Ok((settings, kept))
    }

    /// What of these settings is not named anew, and is not what it would be by default.
    fn kept(&self, settings: &Settings) -> Vec<String> {
        let named = |name: &str| {
            self.limits
                .iter()
                .any(|limit| limit.split_once('=').is_some_and(|(given, _)| given.trim() == name))
        };
        let limits = LIMIT_KEYS.iter().filter_map(|key| {
            let value = key.get(&settings.limits);
            let own = value != key.get(&self.base.limits) && !named(key.name);
            own.then(|| format!("limit {}={}", key.name, key.format(value)))
        });
        let variables = settings.env.keys().filter(|name| !self.env.contains_key(*name));
        let mut kept: Vec<_> = limits.collect();
        kept.extend(variables.map(|name| format!("variable {name}")));
        let secrets = settings.secrets.iter().filter(|name| !self.secrets.contains(name));
        kept.extend(secrets.map(|name| format!("secret {name}")));
        if self.args.is_empty() && !settings.args.is_empty() {
            kept.push(match settings.args.len() {
                1 => "1 argument".to_owned(),
                count => format!("{count} arguments"),
            });
        }
        if self.routes.is_empty() {
            kept.extend(settings.routes.iter().map(|route| format!("route {route}")));
        }
        if self.outbound.is_empty() {
            kept.extend(settings.outbound.iter().map(|rule| format!("outbound {rule}")));
        }
        if self.outbound_headers.is_empty() {
            let names = settings.outbound_headers.iter().map(|header| &header.name);
            kept.extend(names.map(|name| format!("outbound-header {name}")));
        }
        for (name, is_on, named) in [
            ("stream-body", settings.stream_body, self.stream_body),
            ("pass-authorization", settings.pass_authorization, self.pass_authorization),
        ] {
            if is_on && named.is_none() {
                kept.push(format!("switch {name}"));
            }
        }
        kept
    }
}

fn within(limits: &Limits, most: &Limits) -> Result<(), SettingsError> {
    let over = LIMIT_KEYS.iter().find(|key| key.get(limits) > key.get(most));
    over.map_or(Ok(()), |key| {
        let (value, most) = (key.format(key.get(limits)), key.format(key.get(most)));
        Err(SettingsError::Over { key: key.name, value, most })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before() -> Settings {
        let mut settings = Settings {
            env: [("A", "1"), ("B", "2")].map(|(k, v)| (k.into(), v.into())).into(),
            args: vec!["-v".into(), "secret".into()],
            routes: vec!["/api/...".into()],
            ..Settings::default()
        };
        settings.limits.set("memory=1GiB").unwrap();
        settings
    }

    fn keeping() -> Change {
        Change { keeps: true, ..Change::default() }
    }

    #[test]
    fn what_is_not_named_is_kept_and_said() {
        let (settings, kept) = keeping().onto(Some(&before())).unwrap();
        assert_eq!(settings, before());
        assert_eq!(
            kept,
            ["limit memory=1GiB", "variable A", "variable B", "2 arguments", "route /api/..."]
        );
        // What is as by default is no news.
        assert!(keeping().onto(Some(&Settings::default())).unwrap().1.is_empty());
        assert_eq!(keeping().onto(None).unwrap(), (Settings::default(), Vec::new()));
    }

    #[test]
    fn what_is_named_is_changed_and_nothing_beside() {
        let change = Change {
            limits: vec!["wall=5s".into(), "memory = 64MiB".into()],
            env: [("B".to_owned(), "3".to_owned()), ("C".into(), "4".into())].into(),
            routes: vec!["/v2api/...".into()],
            ..keeping()
        };
        let (settings, kept) = change.onto(Some(&before())).unwrap();
        assert_eq!((settings.limits.memory_bytes, settings.limits.wall_us), (64 << 20, 5_000_000));
        let env: Vec<_> = settings.env.iter().map(|(k, v)| format!("{k}{v}")).collect();
        assert_eq!(env, ["A1", "B3", "C4"]);
        assert_eq!((settings.routes, settings.args), (vec!["/v2api/...".into()], before().args));
        assert_eq!(kept, ["variable A", "2 arguments"]);
    }

    #[test]
    fn a_variable_may_become_a_secret_and_the_other_way_round() {
        let secret = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let change = Change { secrets: secret(&["B", "KEY"]), ..keeping() };
        let (settings, kept) = change.onto(Some(&before())).unwrap();
        assert_eq!((&settings.secrets, settings.env.len()), (&secret(&["B", "KEY"]), 1));
        assert!(kept.contains(&"variable A".to_owned()) && !kept.contains(&"secret B".to_owned()));
        let env = [("B".to_owned(), "2".to_owned())].into();
        let back = Change { env, ..keeping() };
        let (settings, kept) = back.onto(Some(&settings)).unwrap();
        assert_eq!((settings.secrets, settings.env["B"].as_str()), (secret(&["KEY"]), "2"));
        assert!(kept.contains(&"secret KEY".to_owned()));
        for wrong in [&["1A"][..], &["A-B"], &[""], &["A", "A "]] {
            let change = Change { secrets: secret(wrong), ..Change::default() };
            assert!(change.onto(None).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_reset_is_of_a_kind_or_of_all() {
        let change = Change { reset: vec![Kind::Env, Kind::Routes], ..keeping() };
        let (settings, kept) = change.onto(Some(&before())).unwrap();
        assert!(settings.env.is_empty() && settings.routes.is_empty());
        assert_eq!(kept, ["limit memory=1GiB", "2 arguments"]);
        let (settings, kept) = Change::default().onto(Some(&before())).unwrap();
        assert_eq!((settings, kept), (Settings::default(), Vec::new()));
    }

    #[test]
    fn a_switch_stays_until_it_is_named_or_reset() {
        let on = Settings { stream_body: true, pass_authorization: true, ..Settings::default() };
        let (settings, kept) = keeping().onto(Some(&on)).unwrap();
        assert!(settings == on && kept == ["switch stream-body", "switch pass-authorization"]);
        let off = Change { stream_body: Some(false), ..keeping() };
        let (settings, kept) = off.onto(Some(&on)).unwrap();
        assert!(!settings.stream_body && settings.pass_authorization);
        assert_eq!(kept, ["switch pass-authorization"]);
        let reset = Change { reset: vec![Kind::Switches], ..keeping() };
        assert_eq!(reset.onto(Some(&on)).unwrap(), (Settings::default(), Vec::new()));
    }

    #[test]
    fn what_is_kept_has_to_be_allowed_still() {
        let mut most = Limits::default();
        most.set("memory=512MiB").unwrap();
        let change = Change { most: Some(most), ..keeping() };
        let error = change.clone().onto(Some(&before())).unwrap_err().to_string();
        assert_eq!(error, "limit memory is 1GiB; this node allows 512MiB at most");
        assert!(change.onto(None).is_ok());
    }
}
