//! A node without its listeners, put together in this one place: for `mayfly serve`, `mayfly verify`, the bench, and
//! every test that wants a whole node.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mayfly_host::catalog::Catalog;
use mayfly_host::engine::Engine;
use mayfly_observe::logs::{Format, LogConfig, LogSink, Output, Requests};
use mayfly_observe::metrics::Metrics;
use mayfly_publish::{OpenError, Publisher, PublisherConfig};
use mayfly_serve::inside::Within;
use mayfly_serve::node::{Node, NodeConfig};

/// What a node is made of.
pub struct Parts {
    /// Runs guests.
    pub engine: Engine,
    /// Without functions; the publisher fills it.
    pub catalog: Catalog,
    /// Where functions are kept, and how they are built.
    pub publishing: PublisherConfig,
    /// How they are served.
    pub serving: NodeConfig,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Takes log lines.
    pub logs: LogSink,
}

impl Parts {
    /// Defaults, with a log that is kept for `mayfly logs` and written nowhere.
    ///
    /// # Errors
    /// When there is no thread for the log.
    pub fn quiet(engine: Engine, state_dir: &Path, requests: Requests) -> io::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let log = LogConfig { format: Format::Json, requests, output: Output::Discard };
        let logs = LogSink::start(log, metrics.logs_dropped.clone())?;
        Ok(Self {
            engine,
            catalog: Catalog::default(),
            publishing: PublisherConfig::new(state_dir),
            serving: NodeConfig::default(),
            metrics,
            logs,
        })
    }
}

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// What is kept cannot be opened.
    #[error("cannot use the state directory {}", .dir.display())]
    State {
        /// Where it is.
        dir: PathBuf,
        /// What is wrong.
        source: OpenError,
    },
    /// The system gives none.
    #[error("no threads for guests")]
    Threads(#[source] io::Error),
}

/// Connects the parts: what serves, and what changes what is served.
///
/// # Errors
/// [`AssembleError`] is for the operator.
pub fn assemble(parts: Parts) -> Result<(Arc<Node>, Publisher), AssembleError> {
    let Parts { engine, catalog, publishing, serving, metrics, logs } = parts;
    let catalog = Arc::new(catalog);
    let publisher = Publisher::open(
        &publishing,
        engine.clone(),
        catalog.clone(),
        metrics.clone(),
        logs.clone(),
    )
    .map_err(|source| AssembleError::State { dir: publishing.state_dir, source })?;
    let calls = publisher.outbound().clone();
    let serving = NodeConfig { previews: Some(publisher.preview_key()), ..serving };
    let node = Node::new(&serving, engine, catalog, metrics, logs);
    let node = node.map_err(AssembleError::Threads)?;
    calls.set_inside(Within::new(&node));
    Ok((node, publisher))
}
