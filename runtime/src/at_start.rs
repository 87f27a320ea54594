//! The modules of `deploy` in the configuration, deployed at start.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use mayfly_core::deployment::Deployment;
use mayfly_core::limits::{Limits, node};
use mayfly_core::record::{RevisionRecord, Settings};
use mayfly_core::{Digest, FunctionName};
use mayfly_publish::{Change, PublishRequest, Publisher};

/// Deploys one, unless it is what the name has already. An error is fatal only if the name then leads nowhere: a node that
/// has an earlier revision serves that.
pub(crate) async fn deploy(
    publisher: &Publisher,
    name: &FunctionName,
    path: &Path,
    limits: &Limits,
) -> anyhow::Result<()> {
    let file = path.display();
    let current = current(publisher, name);
    let wasm = match std::fs::read(path) {
        Ok(wasm) => wasm,
        // A file that has gone is no reason for all functions to be down.
        Err(error) if current.is_some() => {
            tracing::error!(function = %name, "deploy.{name}: cannot read {file}: {error}; what is deployed serves on");
            return Ok(());
        }
        Err(error) => {
            return Err(error).with_context(|| format!("deploy.{name}: cannot read {file}"));
        }
    };
    if wasm.len() as u64 > node::PACKAGE_BYTES {
        bail!("deploy.{name}: {file} is larger than {} bytes", node::PACKAGE_BYTES);
    }
    if current.is_some_and(|current| current.contains(&Digest::of(&wasm))) {
        return Ok(());
    }
    // A start that is silent for minutes looks like one that hangs.
    let meanwhile = match current {
        Some(_) => "its old revision serves meanwhile",
        None => "the gateway serves what is deployed meanwhile, and /readyz is 503 until all is",
    };
    tracing::info!(
        function = %name, %file, "deploying: init and compilation take seconds, of large models minutes; {meanwhile}"
    );
    // As by the command line: what was set since then stays.
    let base = Settings { limits: limits.clone(), ..Settings::default() };
    let change = Change { base, keeps: true, ..Change::default() };
    let request = PublishRequest { name: name.clone(), wasm: wasm.into(), change };
    match publisher.publish(request, |_| ()).await {
        Ok(report) => {
            tracing::info!(function = %name, revision = report.record.number, "deployed");
            Ok(())
        }
        Err(error) if current.is_some() => {
            tracing::error!(function = %name, "{}; its old revision serves on", error.with_hint());
            Ok(())
        }
        Err(error) => Err(anyhow!("deploy.{name}: {}", error.with_hint())),
    }
}

/// The modules of the newest version and of the one that has the most requests: a start takes back neither a rollback
/// nor a version that is being tried.
fn current(publisher: &Publisher, name: &FunctionName) -> Option<[Digest; 2]> {
    let history = publisher.history(name).ok()?;
    let module = |record: &RevisionRecord| record.learned_from.unwrap_or(record.wasm);
    let newest = module(history.first()?);
    let main = publisher.deployments(name).ok()?.first().map(Deployment::main);
    let serving = history.iter().find(|record| Some(record.number) == main);
    Some([newest, serving.map_or(newest, module)])
}
