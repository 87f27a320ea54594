//! Wasm to native code, in a child that never runs a guest.
//!
//! What is compiled is not what was uploaded: see [`guard`]. The child rewrites the module, and the parent
//! checks what the child says it compiled.
//!
//! Functions that were compiled before come from a cache: a snapshot differs from the module it was made of in data
//! only, and so do two functions that run different models on the same code.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mayfly_core::limits::node;
use mayfly_host::engine::codegen::base_config;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{guard, image, snapshot};
use crate::child::{Answer, ChildError, Children, Verb};

/// What the child is asked for, beside the blobs `[wasm, cache]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Whether its mutable globals are exported, as [`snapshot::instrument`] does.
    pub instrument: bool,
    /// Whether its data are left out: they are an image of their own.
    pub without_data: bool,
}

/// What the child says, beside the blobs `[code, cache, guarded]`; all are empty after an error. The last one is the module
/// that was compiled, without its data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The compiler's words, if it refused the module.
    pub error: Option<String>,
    /// Functions that the cache had.
    pub hits: u64,
    /// Functions that were compiled.
    pub misses: u64,
}

/// What a compile child made.
#[derive(Debug)]
pub struct Compiled {
    /// The code, an ELF file.
    pub code: Bytes,
    /// The cache with what was compiled, if anything was.
    pub cache: Option<Bytes>,
    /// Functions that the cache had, and those that it lacked.
    pub functions: (u64, u64),
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The child failed.
    #[error("compile {0}")]
    Child(#[from] ChildError),
    /// The compiler refused the module.
    #[error("the compiler refuses the module: {0}")]
    Refused(String),
    /// What was compiled could run past the limits of its time: a mistake of ours, and no code is made of it.
    #[error("the module was not rewritten as it must be: {0}")]
    Unguarded(String),
}

/// Compiles one module.
///
/// # Errors
/// [`CompileError::Child`] when a limit was reached, [`CompileError::Refused`] with the compiler's words,
/// [`CompileError::Unguarded`] when the child did not do its part.
pub async fn compile(
    children: &Children,
    wasm: Bytes,
    cache: Bytes,
    job: Job,
) -> Result<Compiled, CompileError> {
    let caps = children.compile_caps();
    let blobs = vec![wasm.clone(), cache];
    let run = children.run::<_, Report>(Verb::Compile, job, blobs, caps, node::CHILD_WALL);
    let (report, blobs) = run.await?;
    if let Some(error) = report.error {
        return Err(CompileError::Refused(error));
    }
    let mut blobs = blobs.into_iter();
    let code = blobs.next().unwrap_or_default();
    let cache = blobs.next().filter(|cache| !cache.is_empty());
    check(blobs.next().unwrap_or_default(), wasm).await?;
    Ok(Compiled { code, cache, functions: (report.hits, report.misses) })
}

/// Walks every path of the module: for one of several MiB that takes a while, so not on a thread that serves.
async fn check(guarded: Bytes, wasm: Bytes) -> Result<(), CompileError> {
    let checked = tokio::task::spawn_blocking(move || guard::check(&guarded, &wasm)).await;
    match checked {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(CompileError::Unguarded(error.to_string())),
        // A panic of ours, or a runtime that shuts down.
        Err(error) => Err(CompileError::Unguarded(error.to_string())),
    }
}

/// The child's side.
pub(crate) fn child(job: Job, blobs: Vec<Bytes>) -> anyhow::Result<Answer<Report>> {
    let [wasm, cache] = <[Bytes; 2]>::try_from(blobs)
        .map_err(|blobs| anyhow::anyhow!("{} blobs instead of two", blobs.len()))?;
    let store = Arc::new(FunctionCache::decode(&cache));
    drop(cache);
    let made = compile_here(&job, &wasm, &store);
    let mut report = Report { error: None, hits: store.hits(), misses: store.misses() };
    let blobs = match made {
        Ok((code, guarded)) => {
            let cache = if report.misses == 0 { Vec::new() } else { store.encode() };
            [code, cache, guarded].map(Bytes::from).to_vec()
        }
        Err(error) => {
            report.error = Some(format!("{error:#}").chars().take(2_000).collect());
            vec![Bytes::new(); 3]
        }
    };
    Ok((report, blobs))
}

fn compile_here(
    job: &Job,
    wasm: &[u8],
    cache: &Arc<FunctionCache>,
) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let mut config = base_config();
    config.enable_incremental_compilation(Arc::clone(cache) as _)?;
    let engine = wasmtime::Engine::new(&config)?;
    let guarded = match job.instrument {
        true => guard::guard(&snapshot::instrument(wasm)?)?,
        false => guard::guard(wasm)?,
    };
    let code = match job.without_data {
        true => engine.precompile_module(&image::without_data(&guarded)?)?,
        false => engine.precompile_module(&guarded)?,
    };
    Ok((code, guard::without_data(&guarded)?))
}

/// Compiled functions by the compiler's own key, which covers their code, the CPU and every setting.
#[derive(Debug, Default)]
struct FunctionCache {
    old: HashMap<Vec<u8>, Vec<u8>>,
    new: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    hits: AtomicU64,
}

impl wasmtime::CacheStore for FunctionCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let found = match self.old.get(key) {
            Some(value) => Some(Cow::Borrowed(value.as_slice())),
            None => self.new.lock().get(key).map(|value| Cow::Owned(value.clone())),
        };
        self.hits.fetch_add(u64::from(found.is_some()), Ordering::Relaxed);
        found
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.new.lock().insert(key.to_vec(), value);
        true
    }
}

impl FunctionCache {
    fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    fn misses(&self) -> u64 {
        self.new.lock().len() as u64
    }

    /// `(key_len:u32 value_len:u32 key value)*`. Whatever does not decode is left out: a cache may be empty.
    fn decode(mut bytes: &[u8]) -> Self {
        let mut old = HashMap::new();
        while let Some((key, value, rest)) = entry(bytes) {
            old.insert(key.to_vec(), value.to_vec());
            bytes = rest;
        }
        Self { old, ..Self::default() }
    }

    /// What was compiled now first: it is what the next publish of this code needs, should the cap cut the rest.
    fn encode(&self) -> Vec<u8> {
        let new = self.new.lock();
        let mut out = Vec::new();
        for (key, value) in new.iter().chain(&self.old) {
            if out.len() + 8 + key.len() + value.len() > node::CODE_CACHE_BYTES {
                break;
            }
            for part in [key, value] {
                out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            }
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
        out
    }
}

fn entry(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (lens, rest) = bytes.split_first_chunk::<8>()?;
    let len = |at: usize| u32::from_le_bytes([lens[at], lens[at + 1], lens[at + 2], lens[at + 3]]);
    let (key, rest) = rest.split_at_checked(len(0) as usize)?;
    let (value, rest) = rest.split_at_checked(len(4) as usize)?;
    Some((key, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = r#"(module (memory (export "memory") 1)
        (func (export "_start") (i32.store (i32.const 0) (i32.const 7))) (func (export "other") nop))"#;

    fn build(cache: Bytes) -> (Report, Vec<Bytes>) {
        let wasm = wat::parse_str(MODULE).unwrap();
        child(Job { instrument: false, without_data: true }, vec![wasm.into(), cache]).unwrap()
    }

    /// A key also covers the exception tables that an entry trampoline left in the scratch space it was compiled in
    /// (cranelift 0.135: `DataFlowGraph::clear` keeps them). Threads share out that space as they come, so now and then,
    /// in one of about twenty runs, a function is compiled under another key too; both are kept from then on.
    #[test]
    fn before_long_everything_comes_from_the_cache() {
        let (first, mut blobs) = build(Bytes::new());
        assert_eq!(first.error, None);
        assert!(first.misses >= 2, "{first:?}");
        assert!(blobs.pop().is_some(), "what was compiled");
        let (mut cache, code) = (blobs.pop().unwrap(), blobs.pop().unwrap());
        for _ in 0..20 {
            let (report, mut again) = build(cache.clone());
            assert!(again.pop().is_some(), "what was compiled");
            let kept = again.pop().unwrap();
            assert_eq!(again[0], code, "cached code is the same code");
            assert!(report.misses < first.misses, "{report:?}");
            if report.misses == 0 {
                assert!(kept.is_empty(), "an unchanged cache is not handed back");
                return;
            }
            cache = kept;
        }
        panic!("something is compiled each time");
    }

    #[test]
    fn a_cache_that_is_cut_is_only_smaller() {
        let (_, blobs) = build(Bytes::new());
        for cut in 0..blobs[1].len() {
            let decoded = FunctionCache::decode(&blobs[1][..cut]);
            assert!(decoded.old.len() < usize::try_from(build(Bytes::new()).0.misses).unwrap());
            if cut > 64 {
                break;
            }
        }
    }

    #[test]
    fn what_the_compiler_refuses_comes_back_as_words() {
        let wasm = Bytes::from_static(b"\0asm\x01\0\0\0\x01\x01");
        let (report, blobs) =
            child(Job { instrument: false, without_data: true }, vec![wasm, Bytes::new()]).unwrap();
        assert!(report.error.is_some());
        assert!(blobs[0].is_empty());
    }
}
