//! Uploads that are nearly modules, or no modules at all: each is refused in words or is a module like any other.

use bytes::Bytes;
use mayfly_core::limits::Limits;
use mayfly_publish::validate::validate;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::rig::{Rig, soak, talk};

fn guest(name: &str) -> Vec<u8> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/faults");
    wat::parse_file(format!("{dir}/{name}.wat")).unwrap()
}

fn accepted(wasm: &[u8]) -> bool {
    validate(&Bytes::copy_from_slice(wasm), &Limits::default()).is_ok()
}

#[test]
fn a_beginning_of_a_module_is_refused() {
    for name in ["answers", "cgi-answers", "recurses", "polls-a-million"] {
        let wasm = guest(name);
        assert!(accepted(&wasm), "{name}");
        // Two may be: that which lacks the data, and that which lacks the names.
        let modules = (0..wasm.len()).filter(|&cut| accepted(&wasm[..cut])).count();
        assert!(modules <= 2, "{name}: {modules} of {} beginnings", wasm.len());
    }
}

#[test]
fn what_is_no_module_is_refused() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_mayfly")).unwrap();
    let component = b"\0asm\x0d\0\x01\0";
    for (name, bytes) in [
        ("nothing", &b""[..]),
        ("a program", &program[..1 << 20]),
        ("a header alone", b"\0asm\x01\0\0\0"),
        ("another version", b"\0asm\x02\0\0\0"),
        ("a component", component),
        ("an archive", b"PK\x03\x04\x14\0\0\0\x08\0"),
        ("a gzip", b"\x1f\x8b\x08\0\0\0\0\0"),
        ("a page", b"<!DOCTYPE html><html><body>404</body></html>"),
        ("a script", b"#!/bin/sh\nexec sh\n"),
        ("text", b"(module)"),
        ("JSON", b"{\"wasm\": true}"),
        ("zeros", &[0; 1 << 20]),
        ("a model", b"\x08\x07\x12\x07pytorch"),
        ("bitcode", b"BC\xc0\xde"),
        ("a class", b"\xca\xfe\xba\xbe\0\0\0\x34"),
    ] {
        let error = validate(&Bytes::copy_from_slice(bytes), &Limits::default()).unwrap_err();
        assert!(!error.to_string().is_empty(), "{name}");
    }
}

/// Bytes changed at random; those that are still modules go all the way, and may do what they like.
#[test]
fn damaged_modules_break_nothing() {
    let rig = Rig::get();
    let mut random = StdRng::seed_from_u64(11);
    let originals: Vec<_> =
        ["answers", "cgi-answers", "counts-its-body", "grows-its-table"].map(guest).into();
    let mut survivors = Vec::new();
    for _ in 0..10_000 * soak() {
        let mut wasm = originals[random.random_range(0..originals.len())].clone();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..wasm.len());
            match random.random_range(0..4) {
                0 => wasm[at] = random.random(),
                1 => wasm[at] ^= 1 << random.random_range(0..8),
                2 => wasm.insert(at, random.random()),
                _ => drop(wasm.remove(at)),
            }
        }
        if accepted(&wasm) && survivors.len() < 12 * soak() {
            survivors.push(wasm);
        }
    }
    assert!(
        !survivors.is_empty(),
        "no mutant was a module: they test the parser's first check only"
    );
    run(rig, survivors);
}

/// Modules that are valid and mean something else.
#[test]
fn changed_modules_break_nothing() {
    let rig = Rig::get();
    let original = guest("counts-its-body");
    let mut survivors = Vec::new();
    for seed in 0..300 * soak() as u64 {
        let mut mutate = wasm_mutate::WasmMutate::default();
        let Ok(mutants) = mutate.seed(seed).fuel(1000).run(&original) else { continue };
        for mutant in mutants.take(4).flatten() {
            if accepted(&mutant) && survivors.len() < 12 * soak() {
                survivors.push(mutant);
            }
        }
    }
    assert!(survivors.len() >= 6, "{}", survivors.len());
    run(rig, survivors);
}

fn run(rig: &Rig, modules: Vec<Vec<u8>>) {
    for (number, wasm) in modules.into_iter().enumerate() {
        let limits = &["wall=200ms", "cpu=200ms", "memory=16MiB", "response-body=1MiB", "init=1s"];
        // Refused by a later stage, it ends there.
        if rig.deploy_wasm("mutant", wasm, limits).is_err() {
            continue;
        }
        let request = b"POST /mutant HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
        let got = talk(rig.patient, request);
        assert!(got.iter().all(|reply| reply.status != 500), "{number}: {got:?}");
    }
    rig.bystander();
}

/// Random modules of every shape: none has our exports, so all are refused, by reason and not by accident.
#[test]
fn random_modules_are_refused_by_name() {
    use wasm_smith::{Config, Module};
    let mut random = StdRng::seed_from_u64(12);
    let config = Config { gc_enabled: false, ..Config::default() };
    for _ in 0..300 * soak() {
        let bytes: Vec<u8> = (0..2048).map(|_| random.random()).collect();
        let mut source = arbitrary::Unstructured::new(&bytes);
        let Ok(module) = Module::new(config.clone(), &mut source) else { continue };
        let wasm = Bytes::from(module.to_bytes());
        let refusal = validate(&wasm, &Limits::default()).unwrap_err();
        assert!(!refusal.hint().is_empty(), "{refusal}");
    }
}

/// Modules that are small and take long to compile; `make soak` waits for them.
#[test]
fn a_bomb_ends_at_the_limits_of_its_child() {
    let rig = Rig::get();
    let n = if soak() > 1 { 20_000 } else { 500 };
    let loops = "(loop (br_if 0 (i32.const 0)))".repeat(n);
    let locals = "(local i64)".repeat(n.min(40_000));
    let deep = format!("{}{}", "(block ".repeat(n / 4), ")".repeat(n / 4));
    let table = format!("(block (br_table {} (i32.const 0)))", "0 ".repeat(n * 2));
    let functions = "(func)".repeat(n * 2);
    for (name, body, more) in [
        ("loops", loops.as_str(), ""),
        ("locals", locals.as_str(), ""),
        ("nesting", deep.as_str(), ""),
        ("a table", table.as_str(), ""),
        ("functions", "", functions.as_str()),
    ] {
        let wat = format!(
            r#"(module (memory (export "memory") 1) (func (export "mayfly_abi_1"))
            (func (export "mayfly_handle") {body}) {more})"#
        );
        let wasm = wat::parse_str(&wat).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Err(error) = rig.deploy_wasm("bomb", wasm, &[]) {
            assert_eq!(error.status(), 422, "{name}: {error}");
        }
        rig.bystander();
    }
}
