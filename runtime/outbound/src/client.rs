//! What all functions' calls share: the node's ceiling, its own addresses, resolver, and how many sockets there may be.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use http::{Request, Response};
use ipnet::IpNet;
use mayfly_core::FunctionName;
use mayfly_core::limits::outbound;
use mayfly_core::outbound::{Rules, Scheme, Target, address};
use parking_lot::{Mutex, RwLock};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;

use crate::fault::{Code, Fault};
use crate::fetch::AnswerBody;
use crate::names::{Hickory, Names};
use crate::pool::Pool;
use crate::upload::CallBody;

/// Certificates of the authorities that are believed; asked once, when a function first may call by TLS.
pub type Roots = Arc<dyn Fn() -> Vec<CertificateDer<'static>> + Send + Sync>;

/// What the operator decides about calls.
#[derive(Clone)]
pub struct OutboundConfig {
    /// What no function's list goes beyond; without any rule there is no such bound.
    pub allow: Rules,
    /// What is refused whatever is allowed.
    pub deny: Rules,
    /// Networks that are not the public internet's, and may be called all the same.
    pub private: Vec<IpNet>,
    /// Who is believed.
    pub roots: Roots,
    /// Sockets at once.
    pub sockets: usize,
    /// Instances at once, of which so many may wait for others as `OUTBOUND_SLOT_QUARTERS` says.
    pub slots: usize,
    /// In place of the system's resolver.
    pub names: Option<Arc<dyn Names>>,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            allow: Rules::default(),
            deny: Rules::default(),
            private: Vec::new(),
            roots: Arc::new(Vec::new),
            sockets: outbound::OUTBOUND_SOCKETS,
            slots: usize::MAX,
            names: None,
        }
    }
}

impl std::fmt::Debug for OutboundConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { allow, deny, private, sockets, slots, roots: _, names: _ } = self;
        write!(f, "OutboundConfig({allow:?}, {deny:?}, {private:?}, {sockets}, {slots})")
    }
}

/// Calls another function of this node.
pub trait Inside: Send + Sync {
    /// Its answer. `hops` is how many calls this one is within, itself among them.
    fn call(
        &self,
        function: FunctionName,
        request: Request<CallBody>,
        hops: u8,
    ) -> Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Fault>> + Send>>;
}

/// One per process.
pub struct Client {
    config: OutboundConfig,
    own: RwLock<Vec<SocketAddr>>,
    names: OnceLock<Arc<dyn Names>>,
    roots: OnceLock<Arc<RootCertStore>>,
    pub(crate) sockets: Arc<Semaphore>,
    pools: Mutex<HashMap<FunctionName, Weak<Pool>>>,
    waiting: AtomicUsize,
    inside: OnceLock<Box<dyn Inside>>,
    sweeps: AtomicUsize,
}

impl Client {
    /// With nothing made yet.
    #[must_use]
    pub fn new(config: OutboundConfig) -> Arc<Self> {
        let sockets = Arc::new(Semaphore::new(config.sockets.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self {
            config,
            own: RwLock::default(),
            names: OnceLock::new(),
            roots: OnceLock::new(),
            sockets,
            pools: Mutex::default(),
            waiting: AtomicUsize::new(0),
            inside: OnceLock::new(),
            sweeps: AtomicUsize::new(0),
        })
    }

    /// The node listens here: nobody reaches it from within.
    pub fn add_own(&self, addresses: impl IntoIterator<Item = Option<SocketAddr>>) {
        self.own.write().extend(addresses.into_iter().flatten());
    }

    /// By whom `mayfly://` is answered; the first counts.
    pub fn set_inside(&self, inside: Box<dyn Inside>) {
        let _ = self.inside.set(inside);
    }

    /// Sockets at once.
    pub(crate) fn most_sockets(&self) -> usize {
        self.config.sockets
    }

    pub(crate) fn inside(&self) -> Option<&dyn Inside> {
        self.inside.get().map(|inside| &**inside)
    }

    pub(crate) fn names(&self) -> Result<Arc<dyn Names>, Fault> {
        if let Some(names) = self.config.names.as_ref().or(self.names.get()) {
            return Ok(names.clone());
        }
        let made: Arc<dyn Names> = Arc::new(Hickory::of_system()?);
        Ok(self.names.get_or_init(|| made).clone())
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let make = || {
            let mut store = RootCertStore::empty();
            let (added, ignored) = store.add_parsable_certificates((self.config.roots)());
            tracing::debug!(added, ignored, "authorities for calls of functions");
            Arc::new(store)
        };
        self.roots.get_or_init(make).clone()
    }

    /// Whether the node lets anybody make this call.
    pub(crate) fn ceiling(&self, method: &str, target: &Target) -> Result<(), &'static str> {
        if self.config.deny.allow(method, target) {
            return Err("the node's outbound.deny refuses it");
        }
        // What stays in the node is not what a list of others bounds.
        let inside = target.scheme == Scheme::Mayfly;
        match inside || self.config.allow.is_empty() || self.config.allow.allow(method, target) {
            true => Ok(()),
            false => Err("the node's outbound.allow does not have it"),
        }
    }

    /// Whether a socket may be opened to an address.
    ///
    /// # Errors
    /// What it is instead, in words.
    pub fn judge(&self, address: SocketAddr) -> Result<(), String> {
        let (itself, within) = address::meanings(address.ip().to_canonical());
        for ip in [Some(itself), within].into_iter().flatten() {
            if self.is_own(ip, address.port()) {
                return Err(format!("{address} is a listener of this node itself"));
            }
        }
        let may = |ip: IpAddr| {
            let private = self.config.private.iter().any(|net| net.contains(&ip));
            if private { Ok(()) } else { address::check(ip) }
        };
        let judged = within.map_or(Ok(()), may).and_then(|()| match (may(itself), within) {
            // What wraps a private address that is allowed is as good as it.
            (Err(_), Some(inner)) if self.config.private.iter().any(|net| net.contains(&inner)) => {
                Ok(())
            }
            (judged, _) => judged,
        });
        judged.map_err(|why| {
            format!("{} is {why}; the operator can allow it by outbound.private", address.ip())
        })
    }

    /// Whether no rule names an address that it would never reach.
    ///
    /// # Errors
    /// The rule, and what its address is.
    pub fn check_rules(&self, rules: &Rules) -> Result<(), (String, String)> {
        for rule in &rules.0 {
            let Some(ip) = rule.address() else { continue };
            let judged = self.judge(SocketAddr::new(ip, rule.port));
            judged.map_err(|why| (rule.to_string(), why))?;
        }
        Ok(())
    }

    fn is_own(&self, ip: IpAddr, port: u16) -> bool {
        let listens = |own: &SocketAddr| {
            if own.port() != port {
                return false;
            }
            let listener = own.ip().to_canonical();
            let everywhere = listener.is_unspecified();
            // Whoever connects to no address reaches this machine.
            let here = ip.is_loopback() || ip.is_unspecified();
            listener == ip
                || (everywhere && (here || is_local(ip)))
                || (ip.is_unspecified() && listener.is_loopback())
        };
        self.own.read().iter().any(listens)
    }

    /// Takes one of the slots that may wait for others.
    pub fn wait(self: &Arc<Self>) -> Result<Waiting, Fault> {
        let most = (self.config.slots / 4).saturating_mul(outbound::OUTBOUND_SLOT_QUARTERS).max(1);
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(self.clone());
        if before >= most {
            let words = format!(
                "{most} requests of this node wait for others already, three quarters of its slots: try again, or \
                 raise engine.slots"
            );
            return Err(Fault::new(Code::Budget, words));
        }
        Ok(waiting)
    }

    /// A function's connections; the same for all its versions.
    pub(crate) fn pool(&self, function: &FunctionName) -> Arc<Pool> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(function).and_then(Weak::upgrade) {
            return pool;
        }
        pools.retain(|_, pool| pool.strong_count() > 0);
        let pool = Arc::new(Pool::default());
        pools.insert(function.clone(), Arc::downgrade(&pool));
        pool
    }

    /// Closes the connection that has been idle for the longest, whosever it is; false if none is idle.
    pub(crate) fn close_idlest(&self) -> bool {
        let pools: Vec<_> = self.pools.lock().values().filter_map(Weak::upgrade).collect();
        let idlest = pools.iter().filter_map(|pool| Some((pool.idle_since()?, pool)));
        idlest.min_by_key(|(since, _)| *since).is_some_and(|(_, pool)| pool.close_idlest())
    }

    /// Sees to it that idle connections end in time, wherever one was just left idle.
    pub(crate) fn sweep(self: &Arc<Self>) {
        if self.sweeps.swap(1, Ordering::Relaxed) == 1 {
            return;
        }
        let client = Arc::downgrade(self);
        tokio::spawn(async move {
            // Dropped with the runtime that it was spawned on: then the next one begins another.
            let _again = Again(client.clone());
            loop {
                tokio::time::sleep(outbound::OUTBOUND_KEEP_ALIVE / 9).await;
                let Some(client) = client.upgrade() else { return };
                let pools: Vec<_> =
                    client.pools.lock().values().filter_map(Weak::upgrade).collect();
                pools.iter().for_each(|pool| pool.sweep(outbound::OUTBOUND_KEEP_ALIVE));
            }
        });
    }
}

struct Again(Weak<Client>);

impl Drop for Again {
    fn drop(&mut self) {
        if let Some(client) = self.0.upgrade() {
            client.sweeps.store(0, Ordering::Relaxed);
        }
    }
}

/// Whether an address is this machine's: the one that the system itself would send from. Nothing is sent for it.
fn is_local(ip: IpAddr) -> bool {
    let any: SocketAddr = match ip {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let source = UdpSocket::bind(any).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == ip)
}

/// A request that waits for others, among those that may.
pub struct Waiting(Arc<Client>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a part of a call may take.
pub(crate) async fn within<T>(
    time: Duration,
    what: impl FnOnce() -> String,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(time, work).await {
        Ok(done) => done,
        Err(_) => Err(Fault::new(Code::Timeout, what())),
    }
}
