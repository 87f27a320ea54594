use mayfly_core::Limits;

use super::*;

const ENTRY: &str = r#"(memory (export "memory") 1) (func (export "_start"))"#;

fn wasm(module: &str) -> Bytes {
    wat::parse_str(module).unwrap().into()
}

fn check(module: &str) -> Result<Validated, Refusal> {
    validate(&wasm(module), &Limits::default())
}

fn command(rest: &str) -> Result<Validated, Refusal> {
    check(&format!("(module {rest} {ENTRY})"))
}

fn reactor(rest: &str) -> Result<Validated, Refusal> {
    check(&format!(
        r#"(module {rest} (memory (export "memory") 1)
            (func (export "mayfly_abi_1")) (func (export "mayfly_handle")))"#
    ))
}

#[track_caller]
fn refused(result: Result<Validated, Refusal>, message: &str, hint: &str) {
    let refusal = result.unwrap_err();
    assert!(refusal.to_string().contains(message), "{refusal}");
    assert!(refusal.hint().contains(hint), "{}", refusal.hint());
}

fn custom(name: &str, data: &[u8]) -> Vec<u8> {
    use wasm_encoder::Encode as _;
    let section = wasm_encoder::CustomSection { name: name.into(), data: data.into() };
    let mut bytes = vec![0];
    section.encode(&mut bytes);
    bytes
}

#[test]
fn both_kinds_of_module_pass() {
    let module = command("").unwrap();
    assert_eq!((module.abi, module.plan), (Abi::Command, Plan::NoInit));
    let module = reactor(r#"(func (export "mayfly_init"))"#).unwrap();
    assert_eq!((module.abi, module.plan), (Abi::Reactor, Plan::Snapshot { init: "mayfly_init" }));
    let module = command(r#"(func (export "wizer-initialize"))"#).unwrap();
    assert_eq!(module.plan, Plan::Snapshot { init: "wizer-initialize" });
}

#[test]
fn what_is_no_module_is_refused_by_name() {
    let is = |bytes: &[u8], what: &str| {
        let refusal = validate(&Bytes::copy_from_slice(bytes), &Limits::default()).unwrap_err();
        assert!(refusal.to_string().contains(what), "{refusal}");
        assert!(!refusal.hint().is_empty());
    };
    is(b"", "an empty file");
    is(b"\0asm", "the first bytes of a WebAssembly module");
    is(b"\0asm\x0d\0\x01\0", "a WebAssembly component");
    is(b"\0asm\x02\0\0\0", "an unknown version");
    is(b"\x7fELF\x02\x01\x01", "native code");
    is(b"PK\x03\x04rest", "a zip archive");
    is(b"\x1f\x8b\x08", "gzip");
    is(b"(module)", "WebAssembly text");
    is(b" \n<!DOCTYPE html>", "an HTML or XML page");
    is(b"{\"error\":1}", "JSON");
    is(b"#!/bin/sh", "a script");
    is(b"version https://git-lfs.github.com/spec/v1", "Git LFS");
    is(b"\xde\xad\xbe\xef", "it starts with deadbeef");
    is(b"\0as", "it starts with 006173");
}

#[test]
fn precompiled_code_is_refused() {
    let engine = wasmtime::Engine::new(&mayfly_host::engine::codegen::base_config()).unwrap();
    let code = engine.precompile_module(&wasm("(module)")).unwrap();
    refused(validate(&code.into(), &Limits::default()), "native code", "deploy the .wasm");
}

#[test]
fn every_prefix_of_a_module_is_refused() {
    let whole = wasm(&format!("(module {ENTRY})"));
    for cut in 0..whole.len() {
        assert!(validate(&whole.slice(..cut), &Limits::default()).is_err(), "{cut}");
    }
    assert!(validate(&whole, &Limits::default()).is_ok());
}

#[test]
fn an_import_that_is_not_offered_is_named() {
    refused(command(r#"(import "env" "puts" (func))"#), "env::puts", "wasm32-wasip1");
    refused(
        command(r#"(import "wasi_snapshot_preview1" "sock_open" (func))"#),
        "wasi_snapshot_preview1::sock_open",
        "docs/abi.md",
    );
    refused(
        command(r#"(import "wasi_snapshot_preview1" "sched_yield" (func))"#),
        "sched_yield, which Mayfly does not offer as [] -> []: its type is [] -> [i32]",
        "docs/abi.md",
    );
    refused(
        command(r#"(import "mayfly_http_v9" "x" (func))"#),
        "mayfly_http_v9::x",
        "update Mayfly",
    );
    refused(command(r#"(import "wasi" "thread-spawn" (func))"#), "wasi::thread-spawn", "threads");
    refused(command(r#"(import "a" "b" (global i32))"#), "the global a::b", "link");
    let imports = r#"(import "mayfly_http_v1" "mark" (func (param i32)))
        (import "mayfly_kernels_v1" "version" (func (result i32)))
        (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))"#;
    assert!(command(imports).is_ok());
}

#[test]
fn an_imported_memory_is_refused() {
    let module = r#"(module (import "env" "memory" (memory 1)) (func (export "_start")))"#;
    refused(check(module), "the memory env::memory", "its own memory");
}

#[test]
fn a_module_without_an_entry_is_refused_with_what_it_has() {
    let module = r#"(module (memory (export "memory") 1) (func (export "run")))"#;
    refused(check(module), "its functions: run", "mayfly::export!");
    refused(check("(module)"), "it exports no function", "main");
}

#[test]
fn another_version_of_the_abi_is_named() {
    let handle = |marker: &str| {
        check(&format!(
            r#"(module (memory (export "memory") 1) (func (export "mayfly_handle")) {marker})"#
        ))
    };
    refused(handle(r#"(func (export "mayfly_abi_2"))"#), "`mayfly_abi_2`", "update");
    refused(handle(""), "not `mayfly_abi_1`", "update");
    assert!(handle(r#"(func (export "mayfly_abi_1")) (func (export "mayfly_abi_2"))"#).is_ok());
}

#[test]
fn an_export_of_a_wrong_type_is_named() {
    let module = r#"(module (memory (export "memory") 1) (func (export "_start") (param i32)))"#;
    refused(check(module), "`_start` must be a function [] -> []", "docs/abi.md");
    let bad = r#"(func (export "mayfly_seed_probe") (result i32) i32.const 0)"#;
    refused(reactor(bad), "`mayfly_seed_probe` must be a function [] -> [i64]", "docs/abi.md");
    let good = r#"(func (export "mayfly_seed_probe") (result i64) i64.const 0)"#;
    assert!(reactor(good).unwrap().seed_probe);
}

#[test]
fn memory_has_to_be_there_and_within_the_limit() {
    refused(check(r#"(module (func (export "_start")))"#), "export it as `memory`", "docs/abi.md");
    let hidden = r#"(module (memory 1) (func (export "_start")))"#;
    refused(check(hidden), "export it as `memory`", "docs/abi.md");
    let big = r#"(module (memory (export "memory") 2049) (func (export "_start")))"#;
    refused(check(big), "needs 128.1 MiB of memory, and the limit is 128 MiB", "memory=129MiB");
    let fits = r#"(module (memory (export "memory") 2048) (func (export "_start")))"#;
    assert!(check(fits).is_ok());
}

#[test]
fn tables_are_bounded() {
    refused(command("(table 100001 funcref)"), "a table of 100001 elements", "table=100001");
    refused(command("(table 1 funcref) (table 1 funcref)"), "has 2 tables", "one table");
}

#[test]
fn a_proposal_that_is_off_is_refused_with_the_way_out() {
    refused(command("(func $f return_call $f)"), "not valid", "keeps off");
    let shared = r#"(module (memory (export "memory") 1 1 shared) (func (export "_start")))"#;
    refused(check(shared), "not valid", "keeps off");
}

#[test]
fn what_a_snapshot_cannot_keep_is_named_and_the_module_passes() {
    let module = command(
        r#"(table 2 funcref) (func (export "wizer-initialize")
            (table.set (i32.const 0) (ref.null func)) (table.set (i32.const 0) (ref.null func))
            (table.fill (i32.const 0) (ref.null func) (i32.const 1)))"#,
    );
    let Plan::Refused { reason } = module.unwrap().plan else { panic!() };
    assert!(reason.contains("table.set, table.fill,"), "{reason}");
    let module =
        command(r#"(func (export "wizer-initialize")) (global (mut funcref) ref.null func)"#);
    let Plan::Refused { reason } = module.unwrap().plan else { panic!() };
    assert!(reason.contains("mutable global"), "{reason}");
    let without_init =
        command("(table 2 funcref) (func (table.set (i32.const 0) (ref.null func)))");
    assert_eq!(without_init.unwrap().plan, Plan::NoInit);
}

#[test]
fn assets_are_taken_out_and_everything_custom_is_left_behind() {
    let plain = wasm(&format!("(module {ENTRY})"));
    let mut bytes = plain.to_vec();
    bytes.extend(custom("mayfly.asset/model.onnx", b"weights"));
    bytes.extend(custom("mayfly.asset/empty", b""));
    bytes.extend(custom(".debug_info", b"secret source"));
    let module = validate(&bytes.into(), &Limits::default()).unwrap();
    assert_eq!(module.assets.len(), 2);
    assert_eq!(module.assets.get("model.onnx").unwrap(), "weights");
    assert_eq!(module.assets.get("empty").unwrap(), "");
    assert_eq!(module.code, validate(&plain, &Limits::default()).unwrap().code);
}

#[test]
fn assets_are_bounded() {
    let with = |sections: &[Vec<u8>]| {
        let bytes = [wasm(&format!("(module {ENTRY})")).to_vec(), sections.concat()].concat();
        validate(&bytes.into(), &Limits::default())
    };
    let twice = custom("mayfly.asset/a", b"x");
    refused(with(&[twice.clone(), twice]), "the asset 'a' twice", "mayfly::asset!");
    refused(with(&[custom("mayfly.asset/", b"x")]), "name is empty", "mayfly::asset!");
    let long = format!("mayfly.asset/{}", "n".repeat(129));
    refused(with(&[custom(&long, b"x")]), "over 128 bytes", "mayfly::asset!");
    let many: Vec<_> = (0..65).map(|n| custom(&format!("mayfly.asset/{n}"), b"")).collect();
    refused(with(&many), "carries 65 assets", "mayfly::asset!");
}

#[test]
fn a_snapshot_is_measured_in_pages() {
    let module = wasm(&format!(
        r#"(module {ENTRY} (data (i32.const 10) "a") (data (i32.const 4000) "{}") (data (i32.const 60000) "b"))"#,
        "x".repeat(200)
    ));
    let found = super::check(&module, &Limits::default()).unwrap();
    assert_eq!((found.image_bytes, found.memory_bytes), (3 * 4096, 65536));
    assert_eq!(found.image, [[0, 15 * 4096]]);
}

#[test]
fn a_module_over_the_package_limit_is_refused_by_its_size() {
    let bytes = vec![0; usize::try_from(node::PACKAGE_BYTES).unwrap() + 1];
    refused(validate(&bytes.into(), &Limits::default()), "the limit is 640", "strip");
}

#[test]
fn passive_elements_are_made_for_each_request_and_counted_so() {
    let module = |elements: usize| {
        let names = "$f ".repeat(elements);
        wasm(&format!("(module {ENTRY} (func $f) (elem func {names}))"))
    };
    validate(&module(9_000), &Limits::default()).unwrap();
    refused(validate(&module(30_000), &Limits::default()), "300010 steps", "");
    let empty = "(elem func)".repeat(9_999);
    validate(&wasm(&format!("(module {ENTRY} {empty})")), &Limits::default()).unwrap();
    let one = "(elem func $f)".repeat(9_999);
    let module = wasm(&format!("(module {ENTRY} (func $f) {one} {one})"));
    refused(validate(&module, &Limits::default()), "more than 10000 element segments", "link");
}

/// A section of this id with this content.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    use wasm_encoder::Encode as _;
    let mut bytes = vec![id];
    content.encode(&mut bytes);
    bytes
}

#[test]
fn what_the_validator_would_keep_by_the_million_is_refused_before_it_does() {
    let head = b"\0asm\x01\0\0\0".to_vec();
    // Each with a thousand parameters.
    let wide = [&[0x60, 0xe8, 0x07][..], &[0x7f; 1000], &[0]].concat();
    let types = [&[0xac, 0x02][..], &wide.repeat(300)].concat();
    for (module, what) in [
        ([head.clone(), section(1, &types)].concat(), "200000 parameters and results"),
        ([head.clone(), section(1, &[0x91, 0x4e])].concat(), "10000 types"),
        ([head.clone(), section(6, &[0x91, 0x4e])].concat(), "10000 globals"),
        ([head.clone(), section(0, &[1, b'x']).repeat(10_001)].concat(), "sections"),
    ] {
        refused(validate(&module.into(), &Limits::default()), what, "--gc-sections");
    }
}

#[test]
fn data_anywhere_in_a_memory_are_an_image() {
    let module = |offset: &str| {
        wasm(&format!(
            r#"(module (memory (export "memory") 65536) (func (export "_start"))
                (data (i32.const 0) "a") (data ({offset}) "x"))"#
        ))
    };
    let mut limits = Limits::default();
    limits.set("memory=4GiB").unwrap();
    validate(&module("i32.const -1"), &limits).unwrap();
    validate(&module("i32.sub (i32.const 10) (i32.const 4)"), &limits).unwrap();
    let small = wasm(&format!(r#"(module {ENTRY} (data (i32.const 65536) "x"))"#));
    refused(
        validate(&small, &limits),
        "ends at byte 65537 of a memory of 65536",
        "within the memory",
    );
    let many = [b"\0asm\x01\0\0\0".to_vec(), section(11, &[0xa1, 0x8d, 0x06])].concat();
    refused(validate(&many.into(), &limits), "100000 data segments", "--gc-sections");
}

#[test]
fn code_that_is_known_is_not_looked_at_again_and_all_else_is() {
    let module = |rest: &str| {
        wasm(&format!(
            r#"(module {rest} {ENTRY} (table 2 funcref) (func (export "wizer-initialize")
                (drop (table.grow (ref.null func) (i32.const 1)))))"#
        ))
    };
    let known = Known::default();
    let again = |wasm: &Bytes| validate_again(wasm, &Limits::default(), &known);
    let first = again(&module("")).unwrap();
    let asset = r#"(@custom "mayfly.asset/a" "x")"#;
    let second = again(&module(asset)).unwrap();
    assert_eq!(first.digest, second.digest, "assets are no code");
    assert!(matches!(first.plan, Plan::Refused { .. }) && first.plan == second.plan);
    assert_eq!(second.assets.iter().count(), 1);
    refused(again(&module(r#"(import "host" "exec" (func))"#)), "", "");
    refused(again(&module("(func (result i32))")), "", "");
    let small = Limits { table_elements: 1, ..Limits::default() };
    refused(validate_again(&module(""), &small, &known), "table", "");
}
