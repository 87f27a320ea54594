//! A node in this process, for `dev` and `test`: all of it, gateway and admin API too, on this machine's own addresses.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mayfly_core::record::Settings;
use mayfly_host::descriptors::Descriptors;
use mayfly_host::engine::trim;
use mayfly_observe::logs::{Format, LogConfig, LogSink, Output, Requests};
use mayfly_observe::metrics::Metrics;
use mayfly_observe::telemetry;
use mayfly_publish::{Change, PublishReport, PublishRequest, Publisher};
use mayfly_runtime::certificates::Certificates;
use mayfly_runtime::config::Config;
use mayfly_runtime::dev::listener;
use mayfly_runtime::dev::manifest::Model;
use mayfly_runtime::dev::project::{Built, Project};
use tokio::runtime::Runtime;

use super::model::ModelArgs;
use super::script::ScriptArgs;
use super::{Failure, code};
use crate::Parts;

/// The last requests' answers; who ends a dev server does not wait for more.
const DRAIN: Duration = Duration::from_secs(1);

/// A running node.
pub(super) struct Local {
    config: Config,
    parts: Parts,
    logs: LogSink,
    runtime: Runtime,
}

impl Local {
    /// Starts one and waits until it serves.
    ///
    /// # Errors
    /// Why it does not, and what to do.
    pub(super) fn start(
        state_dir: &Path,
        gateway: SocketAddr,
        admin: SocketAddr,
    ) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| Failure::new(code::FAILED, why);
        let mut config = Config { state_dir: state_dir.to_owned(), ..Config::default() };
        config.gateway.listen = gateway;
        config.admin.listen = admin;
        config.gateway.drain_timeout = Some(DRAIN);
        // For a few requests at once; each slot that stands ready costs the start 0.1 ms.
        config.engine.slots = Some(64);
        trim::bound();
        let metrics = Arc::new(Metrics::new());
        let sink = |output, requests| {
            let log = LogConfig { format: Format::Human, requests, output };
            LogSink::start(log, metrics.logs_dropped.clone()).map_err(|why| failed(&why))
        };
        // What the node itself warns of goes to stderr; what functions do is shown by whoever follows them.
        let own = sink(Output::Stderr, Requests::Off)?;
        telemetry::init(own, Format::Human, "warn").map_err(|why| failed(&why))?;
        let logs = sink(Output::Discard, Requests::All)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("mayfly-main")
            .enable_all()
            .build()
            .map_err(|why| failed(&why))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let descriptors = Descriptors::plan(config.gateway.connections, cores);
        let parts =
            Parts::make(&config, &Certificates::default(), metrics, &logs, &runtime, descriptors);
        let parts = parts.map_err(|why| failed(&format_args!("{why:#}")))?;
        let started = runtime.block_on(parts.start(&config));
        started.map_err(|why| failed(&format_args!("{why:#}")))?;
        Ok(Self { config, parts, logs, runtime })
    }

    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(super) fn logs(&self) -> &LogSink {
        &self.logs
    }

    pub(super) fn publisher(&self) -> &Publisher {
        &self.parts.publisher
    }

    /// Where clients connect to, as a URL.
    pub(super) fn gateway(&self) -> String {
        mayfly_admin::base_url(self.parts.gateway_address, false)
    }

    /// Where the verbs connect to, as a URL.
    pub(super) fn admin(&self) -> String {
        mayfly_admin::base_url(self.parts.admin_address, false)
    }

    /// Deploys what a build made, with the settings of its file and no others.
    ///
    /// # Errors
    /// At which stage, why, and what to do.
    pub(super) fn publish(
        &self,
        project: &Project,
        built: Built,
    ) -> Result<(PublishReport, Vec<String>), Failure> {
        let failed = |why: &dyn std::fmt::Display| Failure::new(code::FAILED, why);
        let manifest = &project.manifest;
        let args = manifest.deploy.arguments(&project.dir).map_err(|why| failed(&why))?;
        let mut settings =
            manifest.deploy.settings(Settings::default(), args).map_err(|why| failed(&why))?;
        let publish = |wasm: Vec<u8>, settings: Settings| {
            let change = Change::from(settings);
            let request = PublishRequest { name: manifest.name.clone(), wasm: wasm.into(), change };
            let done = self.runtime.block_on(self.publisher().publish(request, |_| ()));
            done.map_err(|why| Failure::new(code::FAILED, why.with_hint()))
        };
        let model = match built {
            Built::Module(wasm, _) => return Ok((publish(wasm.into(), settings)?, Vec::new())),
            Built::Script => {
                let packed = ScriptArgs::default().pack(&project.output())?;
                return Ok((publish(packed.wasm, settings)?, packed.notes));
            }
            Built::Model(model) => model,
        };
        let mut arguments = model_arguments(&manifest.model, &project.dir);
        let names_memory =
            manifest.deploy.limits.iter().flatten().any(|(name, _)| name == "memory");
        let mut notes = Vec::new();
        loop {
            let packed = arguments.pack(&project.output(), &model)?;
            if !names_memory {
                settings.limits.memory_bytes =
                    settings.limits.memory_bytes.max(packed.memory_bytes);
            }
            notes.extend(packed.notes);
            match publish(packed.wasm, settings.clone()) {
                Ok(report) => return Ok((report, notes)),
                Err(failure) if arguments.leaves_out(&failure.text) => {
                    notes.push(arguments.left_out_note());
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Ends it.
    pub(super) fn stop(self) {
        let _ = self.runtime.block_on(self.parts.drain(&self.config));
        self.runtime.shutdown_background();
    }
}

/// A model's options out of the file, as a deploy has them as flags.
pub(super) fn model_arguments(model: &Model, dir: &Path) -> ModelArgs {
    let mut arguments = ModelArgs::default();
    arguments.fill(model, dir);
    arguments
}

/// An address to listen on: the one that was asked for, or this one if nobody listens there, or any.
///
/// # Errors
/// Who listens on the one that was asked for.
pub(super) fn address(
    asked: Option<SocketAddr>,
    usual: SocketAddr,
    flag: &str,
) -> Result<(SocketAddr, Option<String>), Failure> {
    let address = asked.unwrap_or(usual);
    // Port 0 is anybody's.
    let taken = (address.port() != 0).then(|| listener::on(address.port())).flatten();
    match (taken, asked) {
        (None, _) => Ok((address, None)),
        (Some(who), None) => {
            let note = format!("port {} is taken by {who}: another is used", address.port());
            Ok((SocketAddr::new(address.ip(), 0), Some(note)))
        }
        (Some(who), Some(_)) => Err(Failure::new(
            code::FAILED,
            format!(
                "cannot listen on {address}: {who} does\nhint: stop that, or name another port with {flag}; without \
                 {flag} a free one is found"
            ),
        )),
    }
}
