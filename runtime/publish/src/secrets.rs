//! Secrets: set once on a node, named by functions, given to their guests as variables with each request and never in init,
//! so that none is in a snapshot, an argument, an answer of the API or a line of the log.
//!
//! They lie sealed in the database; with a directory of files, as Kubernetes and Vault's agents write them, those come
//! first, and are looked at again and again.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use mayfly_core::limits::node;
use mayfly_core::record::{RevisionRecord, Settings, check_secret_name};
use mayfly_host::catalog::{Entry, Function, Preparing};
use mayfly_host::revision::Revision;
use mayfly_store::records::Records;
use mayfly_store::secrets::{Sealer, Value};
use parking_lot::RwLock;

use super::error::{PublishError, PublishErrorKind, Stage};
use super::{Publisher, Shared, blocking};

/// Where secrets come from.
#[derive(Debug, Clone, Default)]
pub struct SecretsConfig {
    /// The key that seals them; `secrets.key` of the state directory if nothing is said.
    pub key_file: Option<PathBuf>,
    /// A directory with a file for each.
    pub dir: Option<PathBuf>,
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// Seconds since 1970 at which it was set here, or last seen changed in its file.
    pub set_unix_s: u64,
    /// Whether it is a file's.
    pub is_file: bool,
    /// Why it cannot be used, if it cannot.
    pub fault: Option<String>,
    /// Functions of whose reachable versions one at least names it.
    pub users: Vec<String>,
}

/// All secrets of the node.
pub(super) struct Secrets {
    sealer: Sealer,
    kept: RwLock<BTreeMap<String, Kept>>,
    /// Of the directory; these go first.
    files: RwLock<BTreeMap<String, Kept>>,
    dir: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq)]
struct Kept {
    value: Result<Value, String>,
    set_unix_s: u64,
}

impl Secrets {
    pub(super) fn open(
        config: &SecretsConfig,
        state_dir: &std::path::Path,
        records: &Records,
    ) -> Result<Self, super::OpenError> {
        let own = state_dir.join("secrets.key");
        let sealer = Sealer::open(config.key_file.as_deref().unwrap_or(&own))?;
        let mut kept = BTreeMap::new();
        for (name, sealed) in records.secrets()? {
            let value = sealer.open_sealed(&name, &sealed).map_err(|why| why.to_string());
            if let Err(why) = &value {
                tracing::error!(secret = name, "{why}");
            }
            kept.insert(name, Kept { value, set_unix_s: sealed.set_unix_s });
        }
        let files = config.dir.as_deref().map_or_else(|| Ok(BTreeMap::new()), files::read);
        let files = files.unwrap_or_else(|why| {
            tracing::error!("{why}");
            BTreeMap::new()
        });
        let dir = config.dir.clone();
        Ok(Self { sealer, kept: RwLock::new(kept), files: RwLock::new(files), dir })
    }

    fn get(&self, name: &str) -> Option<Kept> {
        let file = self.files.read().get(name).cloned();
        file.or_else(|| self.kept.read().get(name).cloned())
    }

    /// The values of what a version names, for its guests or for headers of their calls.
    fn of(&self, settings: &Settings) -> Result<Vec<(String, String)>, PublishErrorKind> {
        let one = |name: &str| match self.get(name) {
            Some(Kept { value: Ok(value), .. }) => Ok((name.to_owned(), value.reveal().to_owned())),
            Some(Kept { value: Err(why), .. }) => {
                Err(PublishErrorKind::SecretFault { name: name.to_owned(), why })
            }
            None => Err(PublishErrorKind::SecretMissing(name.to_owned())),
        };
        settings.needed_secrets().map(one).collect()
    }
}

impl Publisher {
    /// Sets a secret, or sets it anew: guests have the new value from the next request on.
    ///
    /// # Errors
    /// [`PublishError`] says why not.
    pub async fn set_secret(&self, name: &str, value: &str) -> Result<(), PublishError> {
        let at = |kind: PublishErrorKind| kind.at(Stage::Switch);
        check(name, value).map_err(at)?;
        let secrets = &self.shared.secrets;
        if secrets.files.read().contains_key(name) {
            return Err(at(PublishErrorKind::SecretIsFile(name.to_owned())));
        }
        let is_new = !secrets.kept.read().contains_key(name);
        if is_new && secrets.kept.read().len() >= node::SECRETS {
            return Err(at(PublishErrorKind::Secret("this node has 1000 secrets already")));
        }
        let (value, set_unix_s) = (Value::new(value), RevisionRecord::now_unix_s());
        let sealed = secrets.sealer.seal(name, &value, set_unix_s);
        let sealed = sealed.map_err(|why| at(PublishErrorKind::Internal(why.to_string())))?;
        // One after the other, and with no deploy between its look at the secrets and the catalog.
        let _commit = self.shared.commits.lock().await;
        let (shared, owned) = (self.shared.clone(), name.to_owned());
        blocking(Stage::Switch, move || {
            let written = shared.records.put_secret(&owned, Some(&sealed));
            written.map_err(|error| PublishErrorKind::from(error).at(Stage::Switch))
        })
        .await?;
        secrets.kept.write().insert(name.to_owned(), Kept { value: Ok(value), set_unix_s });
        self.shared.give_anew(&[name.to_owned()]);
        Ok(())
    }

    /// Forgets a secret that no function names; false if there is none.
    ///
    /// # Errors
    /// [`PublishError`] names the functions.
    pub async fn remove_secret(&self, name: &str) -> Result<bool, PublishError> {
        let at = |kind: PublishErrorKind| kind.at(Stage::Switch);
        if self.shared.secrets.files.read().contains_key(name) {
            return Err(at(PublishErrorKind::SecretIsFile(name.to_owned())));
        }
        if !self.shared.secrets.kept.read().contains_key(name) {
            return Ok(false);
        }
        let _commit = self.shared.commits.lock().await;
        let users = self.shared.users(name);
        if !users.is_empty() {
            return Err(at(PublishErrorKind::SecretInUse { name: name.to_owned(), users }));
        }
        let (shared, owned) = (self.shared.clone(), name.to_owned());
        blocking(Stage::Switch, move || {
            let written = shared.records.put_secret(&owned, None);
            written.map_err(|error| PublishErrorKind::from(error).at(Stage::Switch))
        })
        .await?;
        Ok(self.shared.secrets.kept.write().remove(name).is_some())
    }

    /// All secrets by name, without their values.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let secrets = &self.shared.secrets;
        let one = |is_file: bool, (name, kept): (&String, &Kept)| Secret {
            name: name.clone(),
            set_unix_s: kept.set_unix_s,
            is_file,
            fault: kept.value.as_ref().err().cloned(),
            users: self.shared.users(name),
        };
        let files = secrets.files.read();
        let mut all: Vec<_> = files.iter().map(|each| one(true, each)).collect();
        let kept = secrets.kept.read();
        let own = kept.iter().filter(|(name, _)| !files.contains_key(*name));
        all.extend(own.map(|each| one(false, each)));
        let missing =
            self.shared.named().into_iter().filter(|name| all.iter().all(|s| s.name != *name));
        let missing: Vec<_> = missing.collect();
        all.extend(missing.into_iter().map(|name| Secret {
            users: self.shared.users(&name),
            fault: Some("missing; live functions have its last value until the node ends".into()),
            name,
            set_unix_s: 0,
            is_file: false,
        }));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Looks at the directory of secrets until the node ends, if there is one.
    pub async fn follow_secrets(&self) {
        let Some(dir) = self.shared.secrets.dir.clone() else { return };
        let mut told = None;
        loop {
            tokio::time::sleep(node::SECRETS_LOOK).await;
            let at = dir.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || files::read(&at)).await else {
                return;
            };
            // What was read last holds on: a mount that is away for a moment takes nobody's secrets.
            let now = match read {
                Ok(now) => now,
                Err(why) => {
                    if told.as_ref() != Some(&why) {
                        tracing::error!("{why}");
                    }
                    told = Some(why);
                    continue;
                }
            };
            told = None;
            let changed = files::changed(&self.shared.secrets.files.read(), &now);
            if !changed.is_empty() {
                *self.shared.secrets.files.write() = now;
                let gone = changed.iter().filter(|name| self.shared.secrets.get(name).is_none());
                let gone: Vec<_> = gone.cloned().collect();
                tracing::info!(secrets = changed.join(" "), "secrets have changed");
                if !gone.is_empty() {
                    tracing::warn!(
                        secrets = gone.join(" "),
                        "files of secrets are gone; functions that name them have the last value until the node ends"
                    );
                }
                self.shared.give_anew(&changed);
            }
        }
    }
}

impl Shared {
    /// Whether all secrets are there that a version names.
    pub(super) fn check_secrets(&self, settings: &Settings) -> Result<(), PublishErrorKind> {
        self.secrets.of(settings).map(drop)
    }

    /// Gives a revision its secrets, and its function's log what must not be in it.
    pub(super) fn give_secrets(&self, revision: &Revision) {
        let settings = &revision.record.settings;
        if settings.needed_secrets().next().is_none() {
            return;
        }
        // Who is missing one was refused, or has lost it meanwhile and keeps what it has.
        let Ok(mut values) = self.secrets.of(settings) else { return };
        let hidden = values.iter().map(|(_, value)| value.as_bytes().to_vec());
        revision.terms.log.hide(hidden);
        if let Some(access) = &revision.terms.outbound {
            let value = |name: &str| {
                values.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
            };
            access.set_secrets(value);
        }
        // A secret of a header only is no guest's to see.
        values.truncate(settings.secrets.len());
        revision.terms.set_secrets(values);
    }

    /// Gives these secrets to all that name one of them, and goes on with those that had to wait for one.
    fn give_anew(self: &Arc<Self>, names: &[String]) {
        let view = self.catalog.load_full();
        let names_one = |entry: &&Entry| {
            entry.record().settings.needed_secrets().any(|name| names.iter().any(|n| n == name))
        };
        for entry in view.entries().filter(names_one) {
            match entry {
                Entry::Ready(revision) => self.give_secrets(revision),
                Entry::Preparing(preparing) => self.rebuild_again(preparing.clone()),
                // They are read when it is loaded.
                Entry::Loading(_) => {}
            }
        }
    }

    fn rebuild_again(self: &Arc<Self>, preparing: Arc<Preparing>) {
        let shared = self.clone();
        tokio::spawn(async move { shared.rebuild(preparing).await });
    }

    /// Secrets that functions name.
    fn named(&self) -> BTreeSet<String> {
        let view = self.catalog.load();
        let named = |entry: &Entry| {
            entry.record().settings.needed_secrets().map(str::to_owned).collect::<Vec<_>>()
        };
        view.entries().flat_map(named).collect()
    }

    fn users(&self, name: &str) -> Vec<String> {
        let view = self.catalog.load();
        let names_it = |function: &Function| {
            function
                .entries()
                .any(|entry| entry.record().settings.needed_secrets().any(|s| s == name))
        };
        let users = view.iter().filter(|(_, function)| names_it(function));
        let mut users: Vec<_> = users.map(|(function, _)| function.to_string()).collect();
        users.sort_unstable();
        users
    }
}

fn check(name: &str, value: &str) -> Result<(), PublishErrorKind> {
    let refuse = |why| Err(PublishErrorKind::Secret(why));
    if let Err(why) = check_secret_name(name) {
        return refuse(why);
    }
    if value.is_empty() {
        return refuse("it is empty");
    }
    if value.len() > node::SECRET_BYTES {
        return refuse("it has more than 64 KiB");
    }
    if value.contains('\0') {
        return refuse("it has a NUL, which no variable can hold");
    }
    Ok(())
}
