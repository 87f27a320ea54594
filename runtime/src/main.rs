//! The `mayfly` binary. This file is the story of a node: configuration -> tracing -> engine -> catalog -> gateway and
//! admin -> ready -> signal -> drain. The other verbs are in [`cli`].
//!
//! Exit codes: see [`cli::Cli`].

mod advice;
mod at_start;
mod cli;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{CommandFactory as _, Parser as _};
use mayfly_admin::{self as admin, Admin, AdminState, NodeControl, Uploads};
use mayfly_core::auth::Tokens;
use mayfly_core::limits::node;
use mayfly_host::catalog::{Catalog, Entry};
use mayfly_host::descriptors::Descriptors;
use mayfly_host::engine::{Engine, EngineConfig, trim};
use mayfly_observe::logs::{LogConfig, LogSink, Output, escape_lines};
use mayfly_observe::metrics::Metrics;
use mayfly_observe::telemetry;
use mayfly_publish::{self as publish, Publisher, PublisherConfig, SecretsConfig, child};
use mayfly_runtime::assemble::{self, assemble};
use mayfly_runtime::certificates::Certificates;
use mayfly_runtime::config::{Config, Process};
use mayfly_serve::forwarded::Trusted;
use mayfly_serve::gateway::{self, Gateway, GatewayConfig, GatewayTls};
use mayfly_serve::node::{Node, NodeConfig};
use mayfly_serve::tls::Tls;
use mayfly_store::state_dir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use cli::{Cli, Failure, Serve, Verb, code};

/// How long the last log lines may take to be written.
const FLUSH: Duration = Duration::from_secs(2);

/// Functions whose URL is printed at start; the rest are in `mayfly list`.
const SHOWN: usize = 20;

fn main() -> ExitCode {
    // Before anything else: a child of publish reads no configuration and starts no threads.
    let verb = std::env::args().nth(1);
    if let Some(verb) = verb.as_deref().and_then(child::Verb::from_argument) {
        publish::child_main(verb);
    }
    let verb = match Cli::try_parse() {
        Ok(cli) => cli.verb,
        Err(error) => {
            let _ = error.print();
            // Asking for help is no mistake.
            return ExitCode::from(if error.use_stderr() { code::USAGE } else { 0 });
        }
    };
    let unknown = cli::misspelt_variables(&Cli::command());
    let done = match verb {
        Verb::Serve(arguments) => serve(&arguments, &unknown),
        verb => {
            unknown.iter().for_each(|words| eprintln!("warning: {}", escape_lines(words)));
            verb.run()
        }
    };
    let Err(failure) = done else { return ExitCode::SUCCESS };
    if !failure.text.is_empty() {
        eprintln!("error: {}", escape_lines(&failure.text));
    }
    ExitCode::from(failure.code)
}

fn serve(arguments: &Serve, unknown: &[String]) -> Result<(), Failure> {
    let config = Config::resolve(&arguments.config, &Process)
        .map_err(|error| Failure::new(code::CONFIG, error))?;
    if arguments.print_config {
        print!("{}", config.to_toml());
        return Ok(());
    }
    let certificates =
        Certificates::load(&config).map_err(|error| Failure::new(code::CONFIG, error))?;
    state_dir::make_files_private();
    trim::bound();
    let metrics = Arc::new(Metrics::new());
    let logs = start_logs(&config, &metrics).map_err(failed)?;
    unknown.iter().for_each(|words| tracing::warn!("{words}"));
    let done = run(&config, certificates, metrics, &logs);
    if let Err(error) = &done {
        tracing::error!("{error:#}");
    }
    logs.flush(FLUSH);
    // It is in the log: once is enough.
    done.map_err(|_| Failure::new(code::FAILED, ""))
}

fn failed(error: anyhow::Error) -> Failure {
    Failure::new(code::FAILED, format_args!("{error:#}"))
}

fn start_logs(config: &Config, metrics: &Metrics) -> anyhow::Result<LogSink> {
    let log = LogConfig {
        format: config.log.format,
        requests: config.log.requests,
        output: Output::Stderr,
    };
    let sink = LogSink::start(log, metrics.logs_dropped.clone()).context("no log thread")?;
    telemetry::init(sink.clone(), config.log.format, &config.log.level)
        .map_err(|why| anyhow!("tracing cannot be set up: {why}"))?;
    Ok(sink)
}

/// A node from its parts to its end.
fn run(
    config: &Config,
    certificates: Certificates,
    metrics: Arc<Metrics>,
    logs: &LogSink,
) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = config.gateway.workers.unwrap_or(cores);
    let descriptors = Descriptors::plan(config.gateway.connections, workers);
    // Neither a gateway worker nor the admin thread: publishes load code, and restoring takes every core.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("mayfly-main")
        .enable_all()
        .build()
        .context("no threads to start with")?;
    // Both from now on, so that a signal during a long start is not lost.
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let node = Arc::new(Parts::make(config, &certificates, metrics, logs, &runtime, descriptors)?);
    certificates.follow(runtime.handle()).context("no thread for certificates")?;
    let stopped = runtime.block_on(async {
        tokio::select! {
            signal = either(&mut terminate, &mut interrupt) => Ok(Err(signal)),
            started = node.start(config) => started.map(Ok),
        }
    })?;
    let signal = match stopped {
        Err(early) => early,
        Ok(()) => {
            node.announce();
            runtime.block_on(either(&mut terminate, &mut interrupt))
        }
    };
    tracing::info!(signal, "draining: requests under way end, new ones are refused");
    let drained = runtime.block_on(async {
        tokio::select! {
            drained = node.drain(config) => drained,
            signal = either(&mut terminate, &mut interrupt) => {
                tracing::warn!(signal, "asked twice: stopping at once");
                false
            }
        }
    });
    let _ = node.stop_admin.send(true);
    tracing::info!(drained, "stopped");
    logs.flush(FLUSH);
    // Guests that still run would be waited for; the state directory is good at every moment.
    runtime.shutdown_background();
    Ok(())
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// A node's parts, made and connected.
struct Parts {
    node: Arc<Node>,
    publisher: Publisher,
    /// Taken when its workers start.
    gateway: parking_lot::Mutex<Option<Gateway>>,
    running: parking_lot::Mutex<Option<mayfly_serve::gateway::Running>>,
    gateway_address: SocketAddr,
    /// Where the gateway speaks TLS, which may be the same.
    tls_address: Option<SocketAddr>,
    admin_address: SocketAddr,
    admin_url: String,
    ready: Arc<AtomicBool>,
    restored: Arc<AtomicBool>,
    stop_admin: watch::Sender<bool>,
}

impl Parts {
    /// Everything that can fail for want of an address, memory or access fails here, before the first request.
    fn make(
        config: &Config,
        certificates: &Certificates,
        metrics: Arc<Metrics>,
        logs: &LogSink,
        runtime: &tokio::runtime::Runtime,
        descriptors: Descriptors,
    ) -> anyhow::Result<Self> {
        let state = state_dir::prepare(&config.state_dir).with_context(|| {
            let dir = config.state_dir.display();
            format!("cannot use the state directory {dir}; name another with state-dir")
        })?;
        for mended in &state.mended {
            tracing::warn!("the state directory: {mended}");
        }
        let state_dir = &state.path;
        let (full, read_metrics) = admin::load_or_make(state_dir)?;
        let engine = Engine::new(&EngineConfig {
            slots: config.engine.slots,
            memory_budget: config.engine.memory_budget,
            native_kernels: config.engine.native_kernels,
            ..EngineConfig::default()
        })?;
        let (node, publisher) = assemble(assemble::Parts {
            engine,
            catalog: Catalog::new(config.parsed_routes()),
            publishing: PublisherConfig {
                functions: descriptors.functions,
                secrets: SecretsConfig {
                    key_file: config.secrets.key_file.clone(),
                    dir: config.secrets.dir.clone(),
                },
                outbound: config.outbound.resolve(certificates.roots(), descriptors.shared),
                ..PublisherConfig::new(state_dir)
            },
            serving: NodeConfig {
                queue_timeout: config.gateway.queue_timeout,
                guest_threads: config.engine.guest_threads,
                server_timing: config.server_timing,
                lists_models: config.gateway.list_models,
                has_front_page: config.gateway.front_page,
                body_idle_timeout: config.gateway.body_idle_timeout,
                previews: None,
            },
            metrics: metrics.clone(),
            logs: logs.clone(),
        })?;
        node.add_gauges();
        certificates.add_gauge(&metrics);
        // Its words have their cause in them already.
        let keys = gateway_config(config, certificates.gateway(), descriptors, &node);
        let gateway = Gateway::bind(keys, node.clone()).map_err(|error| anyhow!("{error}"))?;
        let listener = Admin::bind(config.admin.listen).with_context(|| {
            format!(
                "cannot listen on {}; change admin.listen, or stop what listens there",
                config.admin.listen
            )
        })?;
        let admin_tls = certificates.admin();
        let admin_url = admin::base_url(listener.address(), admin_tls.is_some());
        let listener = listener.with_connections(descriptors.admin()).with_tls(admin_tls);
        let (ready, restored) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (stop_admin, stop) = watch::channel(false);
        let (gateway_address, admin_address) = (gateway.address(), listener.address());
        let tls_address = gateway.tls_address();
        publisher.outbound().add_own([Some(gateway_address), tls_address, Some(admin_address)]);
        let state = AdminState {
            control: Arc::new(NodeControl {
                publisher: publisher.clone(),
                catalog: node.catalog.clone(),
                at_start: config.deploy.keys().cloned().collect(),
                runtime: runtime.handle().clone(),
            }),
            metrics,
            logs: logs.clone(),
            tokens: Tokens::new(&full, &read_metrics),
            hosts: config.admin.hosts.clone(),
            ready: ready.clone(),
            unready: {
                let node = node.clone();
                Box::new(move || node.unready())
            },
            restored: restored.clone(),
            gateway: admin::base_url(gateway_address, tls_address == Some(gateway_address)),
            limits: config.limits.clone(),
            limits_max: config.limits_max.clone(),
            package_bytes: admin::package_bytes(node.engine.plan().memory_budget),
            uploads: Uploads::default(),
        };
        // From now on: health answers while the rest starts. Deploys are refused until then.
        listener.start(Arc::new(state), stop).context("no thread for the admin API")?;
        Ok(Self {
            node,
            publisher,
            gateway: parking_lot::Mutex::new(Some(gateway)),
            running: parking_lot::Mutex::new(None),
            gateway_address,
            tls_address,
            admin_address,
            admin_url,
            ready,
            restored,
            stop_admin,
        })
    }

    /// Functions from the store, self-test, workers, functions of the configuration; then ready.
    async fn start(&self, config: &Config) -> anyhow::Result<()> {
        tracing::info!("starting: the gateway answers once the self-test has passed");
        let rehearsal =
            self.publisher.rehearsal().await.context("the self-test's guest cannot be made")?;
        rehearsal.run().await.context("the self-test failed")?;
        // After it, because what has to be rebuilt is tried out in the same pool.
        let found = self.publisher.restore().await.context("cannot read what was deployed")?;
        self.restored.store(true, Ordering::Release);
        let (publisher, met) = (self.publisher.clone(), self.node.met.clone());
        tokio::spawn(async move { publisher.learn(met, node::LEARN_PAUSE).await });
        let publisher = self.publisher.clone();
        tokio::spawn(async move { publisher.follow_secrets().await });
        tracing::info!(
            ready = found.ready,
            loading = found.loading,
            preparing = found.preparing,
            "functions restored"
        );
        let gateway = self.gateway.lock().take().context("the gateway was started already")?;
        self.node.set_starting(true);
        *self.running.lock() = Some(gateway.start()?);
        for (name, path) in &config.deploy {
            at_start::deploy(&self.publisher, name, path, &config.limits).await?;
        }
        for words in advice::of(config, &self.node.catalog.load()) {
            tracing::warn!("{words}");
        }
        self.node.set_starting(false);
        self.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Says on stdout where to go; for people, so it is not a log line.
    fn announce(&self) {
        let beside = self.tls_address.filter(|tls| *tls != self.gateway_address);
        let over_tls = self.tls_address.is_some() && beside.is_none();
        let gateway = admin::base_url(self.gateway_address, over_tls);
        let beside = beside.map(|address| admin::base_url(address, true));
        let (admin, tls) = (&self.admin_url, beside.as_deref());
        tracing::info!(%gateway, tls, %admin, slots = self.node.engine.plan().slots, "ready");
        let beside = tls.map_or_else(String::new, |url| format!(" and {url}"));
        let mut text = format!(
            "mayfly {} is ready: functions on {gateway}{beside}, admin API on {admin}\n",
            env!("CARGO_PKG_VERSION")
        );
        let view = self.node.catalog.load();
        let mut names: Vec<_> = view.iter().map(|(name, _)| name).collect();
        names.sort();
        for name in names.iter().take(SHOWN) {
            text += &format!("  curl {gateway}/{name}\n");
        }
        if names.is_empty() {
            text += "  mayfly deploy path/to/module.wasm\n";
        }
        // Whoever started us may have stopped listening; `println!` would end the node for that.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }

    /// Ends what is under way; says whether all of it ended in time.
    async fn drain(&self, config: &Config) -> bool {
        self.ready.store(false, Ordering::Release);
        self.node.drain();
        let Some(running) = self.running.lock().take() else { return true };
        let view = self.node.catalog.load();
        let walls = view.entries().filter_map(|entry| match entry {
            Entry::Ready(revision) => Some(revision.limits().wall()),
            Entry::Loading(loading) => Some(loading.record.settings.limits.wall()),
            Entry::Preparing(_) => None,
        });
        let longest = walls.max().unwrap_or(config.limits.wall());
        let drained = tokio::task::spawn_blocking(move || running.drain());
        tokio::time::timeout(config.drain_timeout(longest), drained).await.is_ok()
    }
}

fn gateway_config(
    config: &Config,
    tls: Option<Tls>,
    descriptors: Descriptors,
    node: &Node,
) -> GatewayConfig {
    let keys = &config.gateway;
    GatewayConfig {
        listen: keys.listen,
        tls: tls.map(|terms| GatewayTls { listen: keys.tls.listen, terms }),
        workers: keys.workers,
        trusted: Trusted::new(&keys.trusted_proxies),
        header_timeout: keys.header_timeout,
        keep_alive_timeout: keys.keep_alive_timeout,
        write_idle_timeout: keys.write_idle_timeout,
        connections: gateway::fitting(keys.connections, node.engine.plan().memory_budget),
        descriptors,
        // The longest that any deploy may ask for: the real one is known when the signal comes.
        drain_timeout: config.drain_timeout(config.limits_max.wall()),
    }
}
