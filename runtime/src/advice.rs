//! What of a node's configuration has not the effect that one would think of, said at its start.

use mayfly_core::limits::{LIMIT_KEYS, LimitKey, Limits};
use mayfly_core::record::RevisionRecord;
use mayfly_host::catalog::{Entry, View};
use mayfly_runtime::config::Config;

/// Functions that are named in one line.
const SHOWN: usize = 10;

/// A line for each such thing.
pub(crate) fn of(config: &Config, view: &View) -> Vec<String> {
    let nowhere = config.routes.iter().filter(|(_, to)| view.get(to.as_str()).is_none());
    let nowhere = nowhere.map(|(route, to)| {
        format!(
            "routes: '{route}' leads to the function '{to}', which is not deployed: 404 until it is"
        )
    });
    let mut records: Vec<_> = view.entries().map(Entry::record).collect();
    records.sort_by(|a, b| a.function.cmp(&b.function));
    // Defaults that nobody set are nobody's wish.
    let defaults = (config.limits != Limits::default()).then_some(("limits", &config.limits));
    let tables = [("limits-max", &config.limits_max)].into_iter().chain(defaults);
    let over = tables.filter_map(|(table, limits)| over(table, limits, &records));
    open_admin(config).into_iter().chain(nowhere).chain(over).collect()
}

/// No error, because a network of containers may be nobody else's, and a proxy there may end TLS.
fn open_admin(config: &Config) -> Option<String> {
    let listen = config.admin.listen;
    let open = !listen.ip().is_loopback() && config.admin.tls.cert.is_none();
    open.then(|| {
        format!(
            "admin.listen: {listen} is not this machine's alone, and without TLS whoever sees its traffic has the token, \
             and with that the node: set admin.tls.cert and admin.tls.key, or listen on 127.0.0.1"
        )
    })
}

/// A deploy settles what a function may take, so a table that was lowered later says nothing to it.
fn over(table: &str, limits: &Limits, records: &[&RevisionRecord]) -> Option<String> {
    let higher = |key: &&LimitKey, own: &Limits| key.get(own) > key.get(limits);
    let over = records.iter().filter_map(|record| {
        let own = &record.settings.limits;
        let key = LIMIT_KEYS.iter().find(|key| higher(key, own))?;
        Some(format!("'{}' ({}={})", record.function, key.name, key.format(key.get(own))))
    });
    let over: Vec<_> = over.collect();
    let more = match over.len().checked_sub(SHOWN) {
        None | Some(0) => String::new(),
        Some(more) => format!(" and {more} more"),
    };
    let shown = over[..over.len().min(SHOWN)].join(", ");
    (!over.is_empty()).then(|| {
        format!(
            "{table}: lower than what was deployed before, which stays until it is deployed again with --reset=limits: \
             {shown}{more}"
        )
    })
}

#[cfg(test)]
mod tests {
    use mayfly_core::record::{Abi, Settings, Snapshot};
    use mayfly_core::{ArtifactKey, Digest, FunctionName, Mac};

    use super::*;

    fn record(name: &str, limit: &str) -> RevisionRecord {
        let mut settings = Settings::default();
        settings.limits.set(limit).unwrap();
        RevisionRecord {
            function: FunctionName::new(name).unwrap(),
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
            settings,
            created_unix_s: 0,
            stages: Vec::new(),
            learned_from: None,
        }
    }

    #[test]
    fn a_table_that_was_lowered_names_who_has_more() {
        let mut limits = Limits::default();
        limits.set("memory=64MiB").unwrap();
        let (less, more) = (record("less", "memory=32MiB"), record("more", "memory=1GiB"));
        assert_eq!(over("limits", &limits, &[&less]), None);
        let words = over("limits", &limits, &[&less, &more]).unwrap();
        assert!(words.ends_with("--reset=limits: 'more' (memory=1GiB)"), "{words}");
        let many = vec![&more; SHOWN + 2];
        assert!(over("limits", &limits, &many).unwrap().ends_with(" and 2 more"));
    }

    #[test]
    fn an_admin_api_beyond_loopback_wants_tls() {
        let mut config = Config::default();
        assert!(of(&config, &View::default()).is_empty());
        config.admin.listen = "0.0.0.0:3001".parse().unwrap();
        let words = of(&config, &View::default());
        assert!(
            words.len() == 1 && words[0].starts_with("admin.listen: 0.0.0.0:3001"),
            "{words:?}"
        );
        config.admin.tls.cert = Some("a.pem".into());
        assert!(of(&config, &View::default()).is_empty());
    }

    #[test]
    fn a_route_to_nowhere_is_named() {
        let mut config = Config::default();
        config.routes.insert("/api/...".into(), FunctionName::new("missing").unwrap());
        let words = of(&config, &View::default());
        assert_eq!(words.len(), 1);
        assert!(words[0].contains("'/api/...'") && words[0].contains("'missing'"), "{words:?}");
    }
}
