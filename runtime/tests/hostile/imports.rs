//! Every import that a guest may have, called with hostile numbers over hostile memory, and from the end of the stack.
//!
//! The list is the one that the engine links, so an import that is added is fuzzed without a change here.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use mayfly_core::RequestId;
use mayfly_host::exchange::RequestBody;
use mayfly_host::imports::MODULES;
use mayfly_host::sandbox::Inbound;
use mayfly_serve::invocation;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::rig::{Rig, soak};

/// Calls of one request, if none of them ends it.
const CALLS: usize = 8;
/// Bytes of memory that a request fills: structures first, then the arguments.
const IMAGE: usize = 8 << 10;
const ARGUMENTS: usize = 6 << 10;
/// Slots of 8 bytes for one call's arguments; no import has more than nine.
const ARGUMENT_BYTES: usize = 80;
/// The guest has two pages.
const MEMORY: u64 = 128 << 10;

/// One import: where it is, and its parameters and results as letters.
struct Import {
    module: &'static str,
    name: &'static str,
    params: &'static str,
    results: &'static str,
}

fn imports() -> Vec<Import> {
    let all = MODULES.iter().flat_map(|(module, functions)| {
        functions.iter().map(|(name, signature)| {
            let (params, results) = signature.split_once(':').unwrap();
            Import { module, name, params, results }
        })
    });
    all.collect()
}

fn types(letters: &str) -> String {
    letters.chars().map(|letter| if letter == 'I' { " i64" } else { " i32" }).collect()
}

impl Import {
    fn declare(&self) -> String {
        let Self { module, name, params, results } = self;
        format!(
            r#"(import "{module}" "{name}" (func $target (param{}) (result{})))"#,
            types(params),
            types(results)
        )
    }

    /// The call, its arguments from this address on.
    fn call(&self, at: &str) -> String {
        let arguments: String = self
            .params
            .chars()
            .enumerate()
            .map(|(i, letter)| {
                let offset = i * 8;
                if letter == 'I' {
                    format!("(i64.load offset={offset} {at})")
                } else {
                    format!("(i32.load offset={offset} {at})")
                }
            })
            .collect();
        let drops = "drop ".repeat(self.results.len());
        format!("(call $target {arguments}) {drops}")
    }

    /// Fills its memory with its request's body, then makes the calls that it finds there.
    fn caller(&self, command: bool) -> String {
        let (reader, read, entry) = if command {
            (
                r#"(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))"#,
                "(i32.store (i32.const 131000) (local.get $at))
                 (i32.store (i32.const 131004) (i32.const 8192))
                 (drop (call $read (i32.const 0) (i32.const 131000) (i32.const 1) (i32.const 131008)))
                 (local.set $n (i32.load (i32.const 131008)))",
                r#"(export "_start")"#,
            )
        } else {
            (
                r#"(import "mayfly_http_v1" "request_body_read" (func $read (param i32 i32) (result i32)))"#,
                "(local.set $n (call $read (local.get $at) (i32.const 8192)))",
                r#"(export "mayfly_handle")"#,
            )
        };
        let marker = if command { "" } else { r#"(func (export "mayfly_abi_1"))"# };
        let (declare, call) = (self.declare(), self.call("(local.get $at)"));
        format!(
            r#"(module {declare} {reader} (memory (export "memory") 2 4) {marker}
            (func {entry} (local $at i32) (local $n i32) (local $i i32)
              (loop $more {read}
                (local.set $at (i32.add (local.get $at) (local.get $n)))
                (br_if $more (i32.gt_s (local.get $n) (i32.const 0))))
              (local.set $at (i32.const {ARGUMENTS}))
              (loop $again {call}
                (local.set $at (i32.add (local.get $at) (i32.const {ARGUMENT_BYTES})))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $i) (i32.const {CALLS}))))))"#
        )
    }

    /// Calls, with plain arguments, at every depth of a recursion without end.
    fn at_the_end_of_the_stack(&self) -> String {
        let (declare, call) = (self.declare(), self.call("(i32.const 1024)"));
        format!(
            r#"(module {declare} (memory (export "memory") 2)
            (func (export "mayfly_abi_1"))
            (data (i32.const 1024) "\00\08\00\00\00\00\00\00\08\00\00\00\00\00\00\00\00\09\00\00\00\00\00\00")
            (func $deep (param i64 i64) (result i64) {call}
              (i64.add (local.get 0) (call $deep (local.get 1) (local.get 0))))
            (func (export "mayfly_handle") (drop (call $deep (i64.const 1) (i64.const 2)))))"#
        )
    }
}

/// A number that hostile guests like: at an edge, or anything.
fn number(random: &mut StdRng) -> u64 {
    let near = [0, 1 << 16, MEMORY, 1 << 31, 1 << 32, 1 << 63, ARGUMENTS as u64, 1024];
    match random.random_range(0..10) {
        0..=3 => random.random_range(0..8),
        4..=6 => {
            near.choose(random).unwrap().wrapping_add(random.random_range(0..17)).wrapping_sub(8)
        }
        7 | 8 => random.random_range(0..MEMORY),
        _ => random.random(),
    }
}

/// Memory as one request leaves it: words to be read as structures, then as arguments.
fn image(random: &mut StdRng) -> Bytes {
    let mut image = Vec::with_capacity(IMAGE);
    while image.len() < IMAGE {
        let number = number(random);
        if image.len() < ARGUMENTS && random.random_bool(0.7) {
            image.extend_from_slice(&number.to_le_bytes()[..4]);
        } else {
            // Arguments are eight bytes each, wherever a run of words has ended.
            image.resize(image.len().next_multiple_of(8), 0);
            image.extend_from_slice(&number.to_le_bytes());
        }
    }
    image.truncate(IMAGE);
    image.into()
}

async fn send(rig: &Rig, path: &str, body: Bytes) -> (u16, String) {
    let request = http::Request::builder()
        .uri(path)
        .header("host", "a")
        .header("content-length", body.len())
        .body(())
        .unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    let inbound = Inbound::new(request.into_parts().0, address, address, RequestId::from_random(6));
    let body: RequestBody = Box::pin(Full::new(body).map_err(|never| match never {}));
    let response = invocation::handle(&rig.node, inbound, Some(body)).await;
    let status = response.status().as_u16();
    // A body that breaks off is as good as any other.
    let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

#[test]
fn no_import_can_be_broken_by_its_arguments() {
    let rig = Rig::get();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let before = resident_mib();
    for (index, import) in imports().iter().enumerate() {
        for command in [false, true] {
            if command && import.module != "wasi_snapshot_preview1" {
                continue;
            }
            rig.deploy("fuzzed", &import.caller(command), &["wall=20ms", "response-body=64KiB"]);
            for round in 0..40 * soak() as u64 {
                let seed = (index as u64) << 32 | round;
                let body = image(&mut StdRng::seed_from_u64(seed));
                let (status, said) = runtime.block_on(send(rig, "/fuzzed", body));
                // 500 is a panic or another defect of ours.
                assert_ne!(status, 500, "{} seed {seed}: {said}", import.name);
            }
        }
    }
    // Nothing that a guest asks for is kept: 8 MiB for each of the few that run at once, and the allocator's slack.
    let after = resident_mib();
    assert!(after < before + 256, "{before} MiB before, {after} MiB after");
    // The last one's reset comes after its response, on the runtime that it ran on.
    runtime.block_on(async {
        while rig.in_flight("fuzzed") > 0 {
            tokio::task::yield_now().await;
        }
    });
    rig.bystander();
}

#[test]
fn an_import_called_at_the_end_of_the_stack_traps() {
    let rig = Rig::get();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for import in imports() {
        rig.deploy("deep", &import.at_the_end_of_the_stack(), &["wall=5s"]);
        let (status, said) = runtime.block_on(send(rig, "/deep", Bytes::new()));
        // Some end the guest at their first call; all others go down to the end.
        let ends_at_once = said.contains("outcome:trap")
            || said.contains("outcome:exit-code")
            || said.contains("outcome:no-response")
            || said.contains("outcome:bad-response");
        assert!(
            status == 502 && (said.contains("stack-overflow") || ends_at_once),
            "{}: {status} {said}",
            import.name
        );
    }
    rig.bystander();
}
