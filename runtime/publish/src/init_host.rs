//! What a guest meets while its init runs, in a child: an empty environment, a clock that stands still, randomness
//! that is the same each time, its assets, and a log. Everything else traps, by name.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mayfly_core::limits::{Limits, node};
use mayfly_host::imports::host::{Host, Range, memory};
use mayfly_host::imports::pieces::Timed;
use mayfly_host::imports::{
    FETCH_FUNCTIONS, HTTP_FUNCTIONS, WASI, WASI_FUNCTIONS, asset, linkable, wasi,
};
use mayfly_host::profile::Unwatched;
use mayfly_host::sandbox::{Assets, Limiter};
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime::{Caller, Engine, Linker, Memory, Result, Store, UpdateDeadline};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder, async_trait};

/// Whether randomness is real.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Init: a constant stream, so that a snapshot is the same each time it is made, and so that nobody takes what
    /// is in it for a secret.
    Init,
    /// After a restore: as for a request.
    Restored,
}

/// What one run may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Linear memory in bytes.
    pub memory_bytes: u64,
    /// Elements of a table.
    pub table_elements: u64,
    /// Wall time.
    pub time: Duration,
}

/// The store's data.
pub(super) struct Guest {
    wasi: WasiP1Ctx,
    /// The one memory, once there is an instance.
    pub memory: Option<Memory>,
    assets: Assets,
    /// Holds it to its budget of memory.
    pub limiter: Limiter,
    time: Duration,
    random: u64,
    began: Instant,
}

/// Init called something that only a request can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("init called {module}::{name}, which is not available at deploy")]
pub(super) struct Forbidden {
    /// Import module.
    pub module: &'static str,
    /// Function.
    pub name: &'static str,
}

/// Init took too long.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("out of time")]
pub(super) struct OutOfTime;

/// What the guest wrote to stdout and stderr.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    dropped: u64,
}

/// Makes a store that stops the guest when its time is up.
pub(super) fn store(engine: &Engine, assets: Assets, budget: Budget, log: &Log) -> Store<Guest> {
    let wasi = WasiCtxBuilder::new()
        .stdout(log.clone())
        .stderr(log.clone())
        .wall_clock(Still)
        .monotonic_clock(Still)
        .max_random_size(node::RANDOM_BYTES)
        .build_p1();
    let guest = Guest {
        wasi,
        memory: None,
        assets,
        limiter: Limiter::new(&Limits {
            memory_bytes: budget.memory_bytes,
            table_elements: budget.table_elements,
            ..Limits::default()
        }),
        time: budget.time,
        random: 0x6d61_7966_6c79,
        began: Instant::now(),
    };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.limiter);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut context| {
        context.data_mut().look()?;
        Ok(UpdateDeadline::Continue(1))
    });
    store
}

/// Links everything that a module may import.
pub(super) fn linker(engine: &Engine, phase: Phase, native_kernels: bool) -> Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.wasi, Unwatched)?;
    linker.allow_shadowing(true);
    if phase == Phase::Init {
        linker.func_wrap(WASI, "random_get", constant_random)?;
    }
    // These wait or talk to somebody; what they would answer must not end up in a snapshot.
    for (name, ty) in WASI_FUNCTIONS {
        if *name == "poll_oneoff" || name.starts_with("sock_") {
            forbid(&mut linker, WASI, name, ty)?;
        }
    }
    linker.allow_shadowing(false);
    for (name, ty) in HTTP_FUNCTIONS {
        if *name != "mark" {
            forbid(&mut linker, mayfly_abi::MODULE_HTTP, name, ty)?;
        }
    }
    for (name, ty) in FETCH_FUNCTIONS {
        forbid(&mut linker, mayfly_abi::MODULE_FETCH, name, ty)?;
    }
    linker.func_wrap(mayfly_abi::MODULE_HTTP, "mark", |_: i32| {})?;
    asset::add_to_linker(&mut linker, Unwatched)?;
    mayfly_host::kernels::add_to_linker(&mut linker, native_kernels, Guest::look, Unwatched)?;
    Ok(linker)
}

fn forbid(
    linker: &mut Linker<Guest>,
    module: &'static str,
    name: &'static str,
    letters: &str,
) -> Result<()> {
    let ty = linkable(linker.engine(), letters);
    linker.func_new(module, name, ty, move |_, _, _| Err(Forbidden { module, name }.into()))?;
    Ok(())
}

impl Timed for Guest {
    fn look(&mut self) -> Result<bool> {
        if self.began.elapsed() >= self.time {
            return Err(OutOfTime.into());
        }
        // The child is this guest's alone.
        Ok(false)
    }
}

impl Host for Guest {
    fn memory(&self) -> Option<Memory> {
        self.memory
    }

    fn assets(&self) -> Option<&Assets> {
        Some(&self.assets)
    }
}

/// SplitMix64 from a fixed state: distinct words, so that a guest that draws until it is satisfied ends.
fn constant_random(mut caller: Caller<'_, Guest>, at: u32, len: u32) -> Result<i32> {
    let memory = memory(&mut caller)?;
    let (memory, guest) = memory.data_and_store_mut(&mut caller);
    for piece in Range(at, len).of_mut(memory)?.chunks_mut(node::HOSTCALL_BYTES) {
        guest.look()?;
        for chunk in piece.chunks_mut(8) {
            guest.random = guest.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = guest.random;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^= word >> 31;
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
    }
    Ok(0)
}

/// 2020-01-01: plausible to libraries that refuse the epoch, and plainly not now.
struct Still;

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }
    fn now(&self) -> Duration {
        Duration::from_secs(1_577_836_800)
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1_000_000
    }
    fn now(&self) -> u64 {
        0
    }
}

impl Log {
    /// The text so far; what went over the cap is said at its end.
    #[must_use]
    pub(super) fn text(&self) -> String {
        let lines = self.0.lock();
        let mut text = String::from_utf8_lossy(&lines.text).into_owned();
        if lines.dropped > 0 {
            text.push_str(&format!("\n[{} more bytes were dropped]", lines.dropped));
        }
        text
    }

    /// Keeps what fits. A full log must not fail: Rust's `eprintln!` panics when stderr does.
    fn append(&self, bytes: &[u8]) {
        let mut lines = self.0.lock();
        let kept = bytes.len().min(node::INIT_LOG_BYTES - lines.text.len());
        lines.text.extend_from_slice(&bytes[..kept]);
        lines.dropped += (bytes.len() - kept) as u64;
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Log").field(&self.text()).finish()
    }
}

impl IsTerminal for Log {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Log {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Log {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Log {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(node::HOSTCALL_BYTES)
    }
}

impl AsyncWrite for Log {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use mayfly_host::engine::codegen;
    use mayfly_host::imports::MODULES;

    use super::*;

    #[test]
    fn what_is_listed_is_exactly_what_is_linked() {
        let engine = wasmtime::Engine::new(&codegen::base_config()).unwrap();
        let linker = super::linker(&engine, Phase::Restored, true).unwrap();
        let budget = Budget { memory_bytes: 0, table_elements: 0, time: Duration::ZERO };
        let mut store = super::store(&engine, Assets::default(), budget, &Log::default());
        let items: Vec<_> = linker
            .iter(&mut store)
            .map(|(module, name, item)| {
                (module.to_owned(), name.to_owned(), item.into_func().unwrap())
            })
            .collect();
        let letter = |ty: wasmtime::ValType| if ty.is_i64() { 'I' } else { 'i' };
        for (module, functions) in MODULES {
            let mut linked: Vec<(&str, String)> = Vec::new();
            for (_, name, func) in items.iter().filter(|(m, ..)| m == module) {
                let ty = func.ty(&store);
                let params: String = ty.params().map(letter).collect();
                let results: String = ty.results().map(letter).collect();
                linked.push((name, format!("{params}:{results}")));
            }
            linked.sort();
            let listed: Vec<(&str, String)> =
                functions.iter().map(|(n, t)| (*n, (*t).to_owned())).collect();
            assert_eq!(linked, listed, "{module}");
        }
        assert_eq!(
            items.len(),
            MODULES.iter().map(|(_, functions)| functions.len()).sum::<usize>()
        );
    }
}
