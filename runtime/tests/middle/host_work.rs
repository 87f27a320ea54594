//! What a host function does before anybody looks at its guest's clock: every import is listed with its most, and those
//! whose work is a guest's number are called with huge ones. Counted are pieces, never times.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "the sizes in the tables below are small"
)]

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, Full};
use mayfly_core::limits::{Limits, node};
use mayfly_core::record::{RevisionRecord, Settings};
use mayfly_core::{Outcome, RequestId};
use mayfly_host::catalog::Entry;
use mayfly_host::exchange::{Caps, Exchange};
use mayfly_host::imports::MODULES;
use mayfly_host::meter::Meter;
use mayfly_host::revision::Revision;
use mayfly_host::sandbox::{Assets, Inbound, Sandbox, Stop};

use crate::harness::{Harness, request};

/// The most that one call does between two looks at the clock.
enum Most {
    /// About as much whatever the guest passes.
    Same(&'static str),
    /// So many bytes.
    Bytes(usize, &'static str),
    /// So many of what the text says.
    Count(usize, &'static str),
}
use Most::{Bytes as B, Count as N, Same};

const STDIO: usize = node::STDIO_PIECE_BYTES as usize;
const PIECE: usize = node::HOSTCALL_BYTES;
/// A call's frame.
const FRAME: usize = mayfly_core::limits::outbound::OUTBOUND_FRAME_BYTES;
const ENV: usize = node::ENV_VARS * node::ENV_VAR_BYTES + 8 * node::REQUEST_HEAD_BYTES;
const NO_FILE: Most = Same("no file is open: the descriptor is looked up first, and is not one");
const NO_DIRECTORY: Most =
    Same("no directory is open: the descriptor is looked up before the path is read");

#[rustfmt::skip]
const WORK: &[(&str, &str, Most)] = &[
    ("wasi_snapshot_preview1", "args_get", B(node::ARGS_BYTES + 128, "the function's arguments and its name")),
    ("wasi_snapshot_preview1", "args_sizes_get", B(node::ARGS_BYTES + 128, "as args_get: they are copied to be counted")),
    ("wasi_snapshot_preview1", "clock_res_get", Same("one number")),
    ("wasi_snapshot_preview1", "clock_time_get", Same("one number")),
    ("wasi_snapshot_preview1", "environ_get", B(ENV, "the function's variables, and what CGI makes of a request's head")),
    ("wasi_snapshot_preview1", "environ_sizes_get", B(ENV, "as environ_get: they are copied to be counted")),
    ("wasi_snapshot_preview1", "fd_advise", NO_FILE),
    ("wasi_snapshot_preview1", "fd_allocate", NO_FILE),
    ("wasi_snapshot_preview1", "fd_close", Same("one of three descriptors")),
    ("wasi_snapshot_preview1", "fd_datasync", NO_FILE),
    ("wasi_snapshot_preview1", "fd_fdstat_get", Same("one descriptor")),
    ("wasi_snapshot_preview1", "fd_fdstat_set_flags", NO_FILE),
    ("wasi_snapshot_preview1", "fd_fdstat_set_rights", NO_FILE),
    ("wasi_snapshot_preview1", "fd_filestat_get", Same("one descriptor")),
    ("wasi_snapshot_preview1", "fd_filestat_set_size", NO_FILE),
    ("wasi_snapshot_preview1", "fd_filestat_set_times", NO_FILE),
    ("wasi_snapshot_preview1", "fd_pread", N(node::IOVECS as usize, "buffers looked at; no file is open to read from")),
    ("wasi_snapshot_preview1", "fd_prestat_dir_name", Same("no directory is open")),
    ("wasi_snapshot_preview1", "fd_prestat_get", Same("no directory is open")),
    ("wasi_snapshot_preview1", "fd_pwrite", N(node::IOVECS as usize, "buffers looked at; no file is open to write to")),
    ("wasi_snapshot_preview1", "fd_read", B(PIECE, "one piece of the body, and 1,024 buffers looked at")),
    ("wasi_snapshot_preview1", "fd_readdir", NO_DIRECTORY),
    ("wasi_snapshot_preview1", "fd_renumber", Same("two of three descriptors")),
    ("wasi_snapshot_preview1", "fd_seek", Same("no file is open")),
    ("wasi_snapshot_preview1", "fd_sync", NO_FILE),
    ("wasi_snapshot_preview1", "fd_tell", Same("no file is open")),
    ("wasi_snapshot_preview1", "fd_write", B(STDIO, "one piece, of as many log lines at most; 1,024 buffers looked at")),
    ("wasi_snapshot_preview1", "path_create_directory", NO_DIRECTORY),
    ("wasi_snapshot_preview1", "path_filestat_get", NO_DIRECTORY),
    ("wasi_snapshot_preview1", "path_filestat_set_times", NO_DIRECTORY),
    ("wasi_snapshot_preview1", "path_link", NO_DIRECTORY),
    ("wasi_snapshot_preview1", "path_open", B(node::PATH_BYTES, "the path is read first; a longer one is refused")),
    ("wasi_snapshot_preview1", "path_readlink", NO_DIRECTORY),
    ("wasi_snapshot_preview1", "path_remove_directory", NO_DIRECTORY),
    ("wasi_snapshot_preview1", "path_rename", NO_DIRECTORY),
    ("wasi_snapshot_preview1", "path_symlink", NO_DIRECTORY),
    ("wasi_snapshot_preview1", "path_unlink_file", NO_DIRECTORY),
    ("wasi_snapshot_preview1", "poll_oneoff", N(node::GUEST_HANDLES, "things waited for; more are refused")),
    ("wasi_snapshot_preview1", "proc_exit", Same("it ends")),
    ("wasi_snapshot_preview1", "proc_raise", Same("an error code")),
    ("wasi_snapshot_preview1", "random_get", B(node::RANDOM_BYTES as usize, "a longer draw is refused")),
    ("wasi_snapshot_preview1", "sched_yield", Same("nothing")),
    ("wasi_snapshot_preview1", "sock_accept", Same("an error code")),
    ("wasi_snapshot_preview1", "sock_recv", Same("an error code; no buffer is looked at")),
    ("wasi_snapshot_preview1", "sock_send", Same("an error code; no buffer is looked at")),
    ("wasi_snapshot_preview1", "sock_shutdown", Same("an error code")),
    ("env", "emscripten_notify_memory_growth", Same("nothing")),
    ("mayfly_http_v1", "mark", Same("one number")),
    ("mayfly_http_v1", "request_body_read", B(PIECE, "one piece of the body")),
    ("mayfly_http_v1", "request_head", B(4 * node::REQUEST_HEAD_BYTES, "the head, twice if the guest has no room for it")),
    ("mayfly_http_v1", "response_start", B(mayfly_abi::limits::RESPONSE_HEAD_BYTES + PIECE, "a head, and one piece of the body")),
    ("mayfly_http_v1", "response_write", B(PIECE, "one piece of the body")),
    ("mayfly_asset_v1", "asset_len", B(mayfly_abi::limits::ASSET_NAME_BYTES, "a name; no asset has a longer one")),
    ("mayfly_asset_v1", "asset_read", B(PIECE, "one piece of the asset")),
    ("mayfly_fetch_v1", "begin", B(FRAME, "a frame; a longer one is refused by its length")),
    ("mayfly_fetch_v1", "drop", Same("one of at most a hundred calls")),
    ("mayfly_fetch_v1", "fetch", B(FRAME + PIECE, "a frame, and one piece of the body")),
    ("mayfly_fetch_v1", "fetch_error", B(FRAME, "the words of one error")),
    ("mayfly_fetch_v1", "finish", Same("one of at most a hundred calls")),
    ("mayfly_fetch_v1", "head", B(FRAME, "an answer's head: at most OUTBOUND_HEAD_BYTES came in")),
    ("mayfly_fetch_v1", "pipe", B(PIECE, "one piece of an answer")),
    ("mayfly_fetch_v1", "read", B(PIECE, "one piece of an answer")),
    ("mayfly_fetch_v1", "wait", N(100, "calls that may be open")),
    ("mayfly_fetch_v1", "write", B(PIECE, "one piece of the body")),
    ("mayfly_kernels_v1", "gemm", Same("bounded by its own count: see docs/kernels.md")),
    ("mayfly_kernels_v1", "map", Same("bounded by its own count: see docs/kernels.md")),
    ("mayfly_kernels_v1", "plane", Same("bounded by its own count: see docs/kernels.md")),
    ("mayfly_kernels_v1", "version", Same("one number")),
    ("mayfly_kernels_v1", "winograd", Same("bounded by its own count: see docs/kernels.md")),
];

#[test]
fn every_import_is_listed_and_does_a_millisecond_at_most() {
    let listed: Vec<_> = WORK.iter().map(|(module, name, _)| (*module, *name)).collect();
    let offered: Vec<_> = MODULES
        .iter()
        .flat_map(|(module, functions)| functions.iter().map(|(name, _)| (*module, *name)))
        .collect();
    assert_eq!(listed, offered, "a new import says here how much it does at most, and why");
    for (module, name, most) in WORK {
        // Copying a MiB takes 0.1 ms; a buffer, a handle or a line a microsecond at most.
        let (most, of, why) = match most {
            Same(why) => (1, 1, why),
            B(bytes, why) => (*bytes, 1 << 20, why),
            N(count, why) => (*count, 1_024, why),
        };
        assert!(most <= of && !why.is_empty(), "{module}::{name}: {most}");
    }
}

/// 64 MiB of memory, nearly all of it one buffer, or a list of 8 million empty ones.
const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pwrite" (func $fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_symlink"
        (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_readdir" (func $readdir (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_send" (func $sock_send (param i32 i32 i32 i32 i32) (result i32)))
    (import "mayfly_http_v1" "request_head" (func $head (param i32 i32) (result i32)))
    (import "mayfly_http_v1" "request_body_read" (func $body_read (param i32 i32) (result i32)))
    (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
    (import "mayfly_http_v1" "response_write" (func $write (param i32 i32) (result i32)))
    (import "mayfly_asset_v1" "asset_len" (func $asset_len (param i32 i32) (result i64)))
    (import "mayfly_asset_v1" "asset_read" (func $asset_read (param i32 i32 i64 i32 i32) (result i32)))
    (memory (export "memory") 1024)
    ;; A list of one buffer of 63 MiB, an asset's name, a status.
    (data (i32.const 0) "\00\00\10\00\00\00\f0\03")
    (data (i32.const 32) "big")
    (data (i32.const 48) "\c8\00\00\00")
    (func (export "stderr") (result i32)
        (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16)))
    (func (export "stdout") (result i32)
        (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
    (func (export "no-such-fd") (result i32)
        (call $fd_write (i32.const 77) (i32.const 0) (i32.const 1) (i32.const 16)))
    (func (export "pwrite") (result i32)
        (call $fd_pwrite (i32.const 1) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 16)))
    (func (export "empty-buffers") (result i32)
        (call $fd_write (i32.const 2) (i32.const 0x100000) (i32.const 8000000) (i32.const 16)))
    (func (export "empty-buffers-to-read") (result i32)
        (call $fd_read (i32.const 0) (i32.const 0x100000) (i32.const 8000000) (i32.const 16)))
    (func (export "empty-buffers-at") (result i32)
        (call $fd_pwrite (i32.const 1) (i32.const 0x100000) (i32.const 8000000) (i64.const 0) (i32.const 16)))
    (func (export "empty-buffers-to-read-at") (result i32)
        (call $fd_pread (i32.const 0) (i32.const 0x100000) (i32.const 8000000) (i64.const 0) (i32.const 16)))
    (func (export "path") (result i32)
        (call $path_open (i32.const 3) (i32.const 0) (i32.const 0x100000) (i32.const 0x3f00000)
            (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 16)))
    (func (export "short-path") (result i32)
        (call $path_open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 3)
            (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 16)))
    (func (export "symlink") (result i32)
        (call $path_symlink (i32.const 0x100000) (i32.const 0x3f00000) (i32.const 3)
            (i32.const 0x100000) (i32.const 0x3f00000)))
    (func (export "unlink") (result i32)
        (call $unlink (i32.const 3) (i32.const 0x100000) (i32.const 0x3f00000)))
    (func (export "readdir") (result i32)
        (call $readdir (i32.const 3) (i32.const 0) (i32.const -1) (i64.const 0) (i32.const 16)))
    (func (export "poll") (result i32)
        (call $poll (i32.const 0x100000) (i32.const 0x2000000) (i32.const 600000) (i32.const 16)))
    (func (export "random") (result i32) (call $random (i32.const 0x100000) (i32.const 0x3f00000)))
    (func (export "sock") (result i32)
        (call $sock_send (i32.const 1) (i32.const 0x100000) (i32.const -1) (i32.const 0) (i32.const 16)))
    (func (export "body") (result i32) (call $body_read (i32.const 0x100000) (i32.const 0x3f00000)))
    (func (export "stdin") (result i32)
        (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
    (func (export "start") (result i32)
        (call $start (i32.const 48) (i32.const 4) (i32.const 0x100000) (i32.const 0x3f00000)))
    (func (export "write") (result i32)
        (drop (call $start (i32.const 48) (i32.const 4) (i32.const 0) (i32.const 0)))
        (call $write (i32.const 0x100000) (i32.const 0x3f00000)))
    (func (export "asset") (result i32)
        (call $asset_read (i32.const 32) (i32.const 3) (i64.const 0) (i32.const 0x100000) (i32.const 0x3f00000)))
    (func (export "asset-name") (result i32)
        (i32.wrap_i64 (call $asset_len (i32.const 0x100000) (i32.const 0x3f00000))))
    (func (export "head-without-room") (result i32) (call $head (i32.const 0) (i32.const 0)))
    (func (export "mayfly_abi_1")) (func (export "mayfly_handle")))"#;

const HUGE: usize = 0x3f0_0000;

/// What must come of a call.
enum Comes {
    /// It is done in pieces of so many bytes.
    Pieces(usize),
    /// It is done, or refused, at once: this is its result.
    AtOnce(i32),
    /// It traps.
    Traps,
}

const CALLS: &[(&str, Comes)] = &[
    ("stderr", Comes::Pieces(STDIO)),
    ("stdout", Comes::Pieces(STDIO)),
    ("no-such-fd", Comes::AtOnce(8)),
    ("pwrite", Comes::AtOnce(70)),
    ("empty-buffers", Comes::AtOnce(28)),
    ("empty-buffers-to-read", Comes::AtOnce(28)),
    ("empty-buffers-at", Comes::AtOnce(28)),
    ("empty-buffers-to-read-at", Comes::AtOnce(28)),
    ("path", Comes::AtOnce(37)),
    ("short-path", Comes::AtOnce(8)),
    ("symlink", Comes::AtOnce(8)),
    ("unlink", Comes::AtOnce(8)),
    ("readdir", Comes::AtOnce(8)),
    ("poll", Comes::Traps),
    ("random", Comes::AtOnce(28)),
    ("sock", Comes::AtOnce(57)),
    ("body", Comes::AtOnce(PIECE as i32)),
    // A reactor has no stdin: wasmtime-wasi's is at its end.
    ("stdin", Comes::AtOnce(0)),
    ("start", Comes::Pieces(PIECE)),
    ("write", Comes::Pieces(PIECE)),
    ("asset", Comes::Pieces(PIECE)),
    ("asset-name", Comes::AtOnce(mayfly_abi::ERR_NO_ASSET)),
];

/// What a call did.
struct Done {
    result: wasmtime::Result<i32>,
    /// How often it let others run.
    yields: usize,
    /// Bytes of response.
    written: u64,
    /// Bytes of memory above 1 MiB that are not zero any more.
    copied: usize,
}

fn revision(harness: &Harness, name: &str) -> Arc<Revision> {
    let Some(Entry::Ready(revision)) = harness.node.catalog.load().get(name).cloned() else {
        panic!("{name} is not there")
    };
    let mut assets = Assets::default();
    assert!(assets.insert("big".into(), Bytes::from(vec![1; HUGE])));
    let mut module = revision.module.clone();
    module.assets = Some(Arc::new(assets));
    let metrics = harness.node.metrics.function(&revision.record.function);
    let record = RevisionRecord::clone(&revision.record);
    Revision::new(record, module, metrics, revision.terms.log.clone(), None)
}

fn call(harness: &Harness, revision: &Arc<Revision>, export: &str, meter: Meter) -> Done {
    let body = Full::new(Bytes::from(vec![1; HUGE])).map_err(|never| match never {});
    let caps = Caps {
        request_body: u64::MAX,
        response_body: u64::MAX,
        body_idle: node::BODY_IDLE_TIMEOUT,
    };
    let exchange = Exchange::new(Some(Box::pin(body)), caps);
    // Nobody buffers, so nothing ever waits for a client.
    exchange.discard();
    let here = SocketAddr::from(([127, 0, 0, 1], 80));
    let parts = request(Method::POST, "/host-work").into_parts().0;
    let inbound = Inbound::new(parts, here, here, RequestId::from_random(1));
    let sandbox = Sandbox::new(
        inbound,
        exchange.clone(),
        Arc::new(meter),
        revision.terms.clone(),
        harness.node.logs.clone(),
    );
    let mut store = revision.module.host(sandbox).unwrap();
    store.set_epoch_deadline(1_000_000);
    let (result, yields) = {
        let mut done = pin!(async {
            let instance = store.instantiate(&revision.module.pre).await?;
            let func = instance.get_typed_func::<(), i32>(&mut *store, export)?;
            let memory = instance.get_memory(&mut *store, "memory");
            store.data_mut().memory = memory;
            func.call_async(&mut *store, ()).await
        });
        let (mut cx, mut yields) = (Context::from_waker(Waker::noop()), 0);
        loop {
            match done.as_mut().poll(&mut cx) {
                Poll::Ready(result) => break (result, yields),
                Poll::Pending => yields += 1,
            }
        }
    };
    let memory = store.data().memory.unwrap();
    let copied = memory.data(&*store)[1 << 20..].iter().filter(|&&byte| byte != 0).count();
    Done { result, yields, written: exchange.response_bytes(), copied }
}

fn meter(wall: &str) -> Meter {
    let mut limits = Limits::default();
    limits.set(wall).unwrap();
    limits.set("cpu=60s").unwrap();
    // As if its one poll had begun two seconds ago.
    Meter::new(Instant::now() - Duration::from_secs(2), &limits)
}

#[test]
fn a_guests_number_never_makes_a_host_function_do_more_than_a_piece_without_a_look() {
    let harness = Harness::get();
    harness.run(async {
        let mut settings = Settings::default();
        settings.limits.set("memory=128MiB").unwrap();
        harness.deploy_wat("host-work", GUEST, settings).await;
        let revision = revision(harness, "host-work");
        for (export, comes) in CALLS {
            // Each look finds that it is time to let others run.
            let done = call(harness, &revision, export, meter("wall=60s"));
            // Each look finds that the guest is over its limit.
            let over = call(harness, &revision, export, meter("wall=1s"));
            match comes {
                Comes::Pieces(piece) => {
                    assert!(done.result.is_ok(), "{export}: {:?}", done.result);
                    assert_eq!(done.yields, HUGE.div_ceil(*piece) - 1, "{export}");
                    let error = over.result.unwrap_err();
                    let stop = error.downcast_ref::<Stop>();
                    assert!(matches!(stop, Some(Stop(Outcome::WallLimit { .. }))), "{export}");
                    assert!(over.written <= *piece as u64, "{export}: {}", over.written);
                    assert!(over.copied <= *piece, "{export}: {}", over.copied);
                }
                Comes::AtOnce(result) => {
                    assert_eq!((done.result.unwrap(), done.yields), (*result, 0), "{export}");
                    assert!(done.copied <= PIECE, "{export}: {}", done.copied);
                }
                Comes::Traps => assert!(done.result.is_err() && done.yields == 0, "{export}"),
            }
        }
        let head = call(harness, &revision, "head-without-room", meter("wall=60s"));
        assert!(head.result.unwrap() > 0);
        harness.remove("host-work").await;
    });
}
