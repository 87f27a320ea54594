//! Certificates and keys from the files that the configuration names, and from the same files when they have changed.
//!
//! What is read is checked before it is shown to anybody. At a start what is wrong ends it; later the old pairs stay, and
//! the log says why.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, SystemTime};

use mayfly_core::limits::node;
use mayfly_core::units;
use mayfly_observe::clock::date;
use mayfly_observe::metrics::Metrics;
use mayfly_outbound::Roots;
use mayfly_serve::tls::{Authorities, Fault, Names, Pair, Terms, Tls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{ClientAuth, Config, SniKeys};

/// What is wrong with one of the files.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {}: {why}", path.display())]
pub struct CertificateError {
    /// The key of the configuration.
    key: String,
    /// The file that it names.
    path: PathBuf,
    /// What is wrong with it, and what to do.
    why: String,
}

/// Those of a node's listeners, as they were read.
#[derive(Debug, Default)]
pub struct Certificates {
    gateway: Option<Listener>,
    admin: Option<Listener>,
    /// Those of `outbound.ca`.
    authorities: Vec<CertificateDer<'static>>,
}

impl Certificates {
    /// Reads all files that the configuration names.
    ///
    /// # Errors
    /// [`CertificateError`] for the first one that is not good.
    pub fn load(config: &Config) -> Result<Self, CertificateError> {
        let (gateway, admin) = (Files::of_gateway(config), Files::of_admin(config));
        Ok(Self {
            gateway: gateway.map(Listener::load).transpose()?,
            admin: admin.map(Listener::load).transpose()?,
            authorities: config
                .outbound
                .ca
                .as_deref()
                .map_or_else(|| Ok(Vec::new()), authorities)?,
        })
    }

    /// By which origins of functions' calls are believed: the system's, and those of `outbound.ca`. The system's are read
    /// when a function first may call by TLS, which takes some milliseconds.
    #[must_use]
    pub fn roots(&self) -> Roots {
        let own = self.authorities.clone();
        Arc::new(move || {
            let system = rustls_native_certs::load_native_certs();
            for why in &system.errors {
                tracing::warn!(%why, "not all of the system's authorities are there: name others by outbound.ca");
            }
            system.certs.into_iter().chain(own.iter().cloned()).collect()
        })
    }

    /// What the gateway speaks, if that is TLS.
    #[must_use]
    pub fn gateway(&self) -> Option<Tls> {
        self.gateway.as_ref().map(|listener| listener.tls.clone())
    }

    /// What the admin API speaks, if that is TLS.
    #[must_use]
    pub fn admin(&self) -> Option<Tls> {
        self.admin.as_ref().map(|listener| listener.tls.clone())
    }

    /// Adds the metric of what is left of them, if there are any.
    pub fn add_gauge(&self, metrics: &Metrics) {
        let all: Vec<_> = self.gateway().into_iter().chain(self.admin()).collect();
        if all.is_empty() {
            return;
        }
        let help = "Seconds until the first of the certificates in use expires; negative since";
        metrics.gauge("mayfly_tls_expiry_seconds", help, move || {
            let first = all.iter().map(Tls::expires).min().unwrap_or_default();
            let until = SystemTime::UNIX_EPOCH + Duration::from_secs(first);
            match until.duration_since(SystemTime::now()) {
                Ok(left) => left.as_secs_f64(),
                Err(past) => -past.duration().as_secs_f64(),
            }
        });
    }

    /// Has the files looked at by a thread of their own, now and then and at each SIGHUP, if there are any; without any, a
    /// SIGHUP does what it does to any process.
    ///
    /// # Errors
    /// When there is no thread, or no signal to be had.
    pub fn follow(self, runtime: &Handle) -> io::Result<()> {
        let listeners: Vec<_> = self.gateway.into_iter().chain(self.admin).collect();
        if listeners.is_empty() {
            return Ok(());
        }
        let _entered = runtime.enter();
        let mut hangups = signal(SignalKind::hangup())?;
        // One that waits is as good as many.
        let (ask, asked) = sync_channel(1);
        std::thread::Builder::new()
            .name("mayfly-certs".into())
            .spawn(move || watch(listeners, &asked))?;
        runtime.spawn(async move {
            while hangups.recv().await.is_some() {
                let _ = ask.try_send(());
            }
        });
        Ok(())
    }
}

/// Looks at the files until nobody is there any more who could ask for it.
fn watch(mut listeners: Vec<Listener>, asked: &Receiver<()>) {
    loop {
        let asked = match asked.recv_timeout(node::TLS_RELOAD) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for listener in &mut listeners {
            listener.look(asked);
        }
    }
}

/// One listener's files, and what was made of them.
#[derive(Debug)]
struct Listener {
    files: Files,
    /// Of the files when they were last read.
    stamps: Vec<Stamp>,
    tls: Tls,
}

impl Listener {
    fn load(files: Files) -> Result<Self, CertificateError> {
        // Before they are read: what changes meanwhile is seen at the next look.
        let stamps = files.stamps();
        let tls = Tls::new(files.read()?).map_err(|why| files.cert_error(why.to_string()))?;
        Ok(Self { files, stamps, tls })
    }

    /// Reads the files again if they have changed, or somebody asks for it.
    fn look(&mut self, asked: bool) {
        let stamps = self.files.stamps();
        if stamps == self.stamps && !asked {
            return;
        }
        self.stamps = stamps;
        let change = |terms| {
            let changed = self.tls.change(terms);
            changed.map_err(|why| self.files.cert_error(why.to_string()))
        };
        let table = self.files.table;
        match self.files.read().and_then(change) {
            Ok(()) => {
                let expires = date(self.tls.expires());
                tracing::info!(%expires, "{table}: new connections get the certificates that were read now");
            }
            Err(why) => tracing::warn!("the certificates of {table} stay as they were: {why}"),
        }
    }
}

/// What tells a file from the one that was there before.
type Stamp = Option<(u64, u64, u64, u32, i64, i64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    // A link leads to what is meant: Kubernetes replaces a link to the directory.
    let of = fs::metadata(path).ok()?;
    let changed = (of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec());
    Some((of.dev(), of.ino(), of.size(), of.mode(), changed.0, changed.1, changed.2, changed.3))
}

/// The files of one listener.
#[derive(Debug)]
struct Files {
    /// `gateway.tls` or `admin.tls`.
    table: &'static str,
    cert: PathBuf,
    key: PathBuf,
    sni: Vec<SniKeys>,
    /// Whether clients must have a certificate, beside their authorities.
    clients: Option<(PathBuf, bool)>,
    h2: bool,
}

impl Files {
    fn of_gateway(config: &Config) -> Option<Self> {
        let tls = &config.gateway.tls;
        let required = tls.client_auth != Some(ClientAuth::Optional);
        Some(Self {
            table: "gateway.tls",
            cert: tls.pair.cert.clone()?,
            key: tls.pair.key.clone()?,
            sni: tls.sni.clone(),
            clients: tls.client_ca.clone().map(|path| (path, required)),
            h2: true,
        })
    }

    fn of_admin(config: &Config) -> Option<Self> {
        let tls = &config.admin.tls;
        let (cert, key) = (tls.cert.clone()?, tls.key.clone()?);
        Some(Self { table: "admin.tls", cert, key, sni: Vec::new(), clients: None, h2: false })
    }

    fn stamps(&self) -> Vec<Stamp> {
        let named = self.sni.iter().flat_map(|entry| [&entry.cert, &entry.key]);
        let clients = self.clients.iter().map(|(path, _)| path);
        [&self.cert, &self.key].into_iter().chain(named).chain(clients).map(|p| stamp(p)).collect()
    }

    fn read(&self) -> Result<Terms, CertificateError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = now.as_secs();
        let mut names = Names::new(self.pair(self.table, &self.cert, &self.key, now, None)?);
        for SniKeys { host, cert, key } in &self.sni {
            names.add(host, self.pair("gateway.tls.sni", cert, key, now, Some(host))?);
        }
        let authorities = |(path, required): &(PathBuf, bool)| {
            let wrong = error("gateway.tls.client-ca".into(), path);
            let pem = read(path, false).map_err(&wrong)?;
            Authorities::read(&pem, *required).map_err(wrong)
        };
        let clients = self.clients.as_ref().map(authorities).transpose()?;
        Ok(Terms { names, clients, h2: self.h2 })
    }

    fn pair(
        &self,
        table: &str,
        cert: &Path,
        key: &Path,
        now: u64,
        host: Option<&str>,
    ) -> Result<Pair, CertificateError> {
        let of = host.map_or_else(String::new, |host| format!(" of '{host}'"));
        let wrong_cert = error(format!("{table}.cert{of}"), cert);
        let wrong_key = error(format!("{table}.key{of}"), key);
        let chain = read(cert, false).map_err(&wrong_cert)?;
        let secret = read(key, true).map_err(&wrong_key)?;
        Pair::read(&chain, &secret, now, host).map_err(|fault| match fault {
            Fault::Certificate(why) => wrong_cert(why),
            Fault::Key(why) => wrong_key(why),
        })
    }

    fn cert_error(&self, why: String) -> CertificateError {
        error(format!("{}.cert", self.table), &self.cert)(why)
    }
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let wrong = error("outbound.ca".into(), path);
    let pem = read(path, false).map_err(&wrong)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let parsed = parsed.map_err(|why| wrong(format!("it is not PEM: {why}")))?;
    match parsed.is_empty() {
        true => Err(wrong("there is no certificate in it".to_owned())),
        false => Ok(parsed),
    }
}

fn error(key: String, path: &Path) -> impl Fn(String) -> CertificateError {
    move |why| CertificateError { key: key.clone(), path: path.to_owned(), why }
}

/// A file's bytes; a `secret` must be nobody's but its owner's and its group's.
fn read(path: &Path, secret: bool) -> Result<Vec<u8>, String> {
    let unreadable = |why: io::Error| format!("it cannot be read: {why}");
    // A pipe without a writer would be waited for when it is opened.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("it is no file".to_owned());
    }
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if secret && mode & 0o007 != 0 {
        return Err(format!(
            "everybody on this machine may use it (its mode is {mode:o}): `chmod o= {}` takes that back",
            path.display()
        ));
    }
    let mut bytes = Vec::new();
    file.take(node::TLS_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > node::TLS_FILE_BYTES {
        return Err(format!("it has more than {}", units::format_size(node::TLS_FILE_BYTES)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn write(path: &Path, bytes: &str, mode: u32) {
        let new = path.with_extension("new");
        fs::write(&new, bytes).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(new, path).unwrap();
    }

    fn pair(cert: &Path, key: &Path) {
        let secret = KeyPair::generate().unwrap();
        let made = CertificateParams::new(vec!["a.example".into()]).unwrap();
        write(cert, &made.self_signed(&secret).unwrap().pem(), 0o644);
        write(key, &secret.serialize_pem(), 0o640);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key_and_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let [cert, key, other] = ["a.pem", "a.key", "b.key"].map(|name| dir.path().join(name));
        pair(&dir.path().join("b.pem"), &other);
        pair(&cert, &key);
        let mut config = Config::default();
        let tls = &mut config.gateway.tls;
        (tls.pair.cert, tls.pair.key) = (Some(cert.clone()), Some(key.clone()));
        assert!(Certificates::load(&config).unwrap().gateway().is_some());
        let refused = |config: &Config, start: &str| {
            let error = Certificates::load(config).unwrap_err().to_string();
            assert!(error.starts_with(start), "{error}\nis not\n{start}");
        };
        let mut wrong = config.clone();
        wrong.gateway.tls.pair.key = Some(other.clone());
        let start = format!("gateway.tls.key: {}: it is the key of another", other.display());
        refused(&wrong, &start);
        wrong = config.clone();
        wrong.gateway.tls.pair.cert = Some("/nowhere".into());
        refused(&wrong, "gateway.tls.cert: /nowhere: it cannot be read");
        wrong.gateway.tls.pair.cert = Some(dir.path().into());
        refused(&wrong, &format!("gateway.tls.cert: {}: it is no file", dir.path().display()));
        wrong = config.clone();
        wrong.gateway.tls.client_ca = Some(key.clone());
        let start = format!("gateway.tls.client-ca: {}: no certificate is in it", key.display());
        refused(&wrong, &start);
        wrong = config.clone();
        let entry = SniKeys { host: "b.example".into(), cert: cert.clone(), key: key.clone() };
        wrong.gateway.tls.sni.push(entry);
        let of = format!("gateway.tls.sni.cert of 'b.example': {}: it is not for", cert.display());
        refused(&wrong, &of);
        wrong = config.clone();
        wrong.admin.tls = config.gateway.tls.pair.clone();
        write(&key, &fs::read_to_string(&key).unwrap(), 0o644);
        refused(&wrong, &format!("gateway.tls.key: {}: everybody on this", key.display()));
        wrong.gateway.tls.pair = Default::default();
        refused(&wrong, &format!("admin.tls.key: {}: everybody on this", key.display()));
        write(&key, &"x".repeat((1 << 20) + 1), 0o600);
        refused(&wrong, &format!("admin.tls.key: {}: it has more than 1MiB", key.display()));
    }

    #[test]
    fn a_change_is_seen_and_a_bad_one_leaves_the_old_pair() {
        let dir = tempfile::tempdir().unwrap();
        let [cert, key] = ["a.pem", "a.key"].map(|name| dir.path().join(name));
        pair(&cert, &key);
        let files = Files {
            table: "admin.tls",
            cert: cert.clone(),
            key: key.clone(),
            sni: Vec::new(),
            clients: None,
            h2: false,
        };
        let mut listener = Listener::load(files).unwrap();
        let first = listener.tls.expires();
        let soon = |until: i32| {
            let secret = KeyPair::generate().unwrap();
            let mut made = CertificateParams::new(vec![]).unwrap();
            made.not_after = rcgen::date_time_ymd(until, 1, 1);
            write(&cert, &made.self_signed(&secret).unwrap().pem(), 0o644);
            secret
        };
        // The certificate is there before its key is.
        let secret = soon(2100);
        listener.look(false);
        assert_eq!(listener.tls.expires(), first);
        write(&key, &secret.serialize_pem(), 0o600);
        listener.look(false);
        let second = listener.tls.expires();
        assert_eq!(second, 4_102_444_800);
        // Expired, gone, unchanged.
        let secret = soon(2020);
        write(&key, &secret.serialize_pem(), 0o600);
        listener.look(true);
        fs::remove_file(&key).unwrap();
        listener.look(false);
        listener.look(false);
        assert_eq!(listener.tls.expires(), second);
    }
}
