//! What the rewriting does, and that the check sees what it must.

mod differential;
mod growth;
mod places;
mod search;

use super::path::{Callee, Path, Since};
use super::work::{Class, all};
use super::*;

const IMPORT: &str = r#"(import "wasi_snapshot_preview1" "sched_yield" (func $host (result i32)))"#;

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Rewrites a module; what comes of it is valid, passes the check, and is not rewritten further.
pub(super) fn guarded(wasm: &[u8]) -> Vec<u8> {
    let rewritten = guard(wasm).unwrap();
    wasmparser::Validator::new_with_features(mayfly_host::engine::codegen::FEATURES)
        .validate_all(&rewritten)
        .unwrap();
    check(&without_data(&rewritten).unwrap(), wasm).unwrap();
    rewritten
}

/// How many times these bytes stand in a module: a check is `loop end`, and nothing else in these tests is.
fn checks(wasm: &[u8]) -> usize {
    wasm.windows(3).filter(|bytes| *bytes == [0x03, 0x40, 0x0b]).count()
}

fn function(body: &str) -> Vec<u8> {
    wasm(&format!("(module {IMPORT} (memory 1) (func $f (export \"f\") {body}))"))
}

const STORE: &str = "(i32.store (i32.const 0) (i32.const 7))";

#[test]
fn every_use_of_an_import_moves_to_its_thunk() {
    let module = wasm(&format!(
        r#"(module {IMPORT} (import "wasi_snapshot_preview1" "begin" (func $begin))
        (table 4 funcref) (global $g funcref (ref.func $host))
        (export "e" (func $host)) (start $begin)
        (elem (i32.const 0) func $host $f) (elem (i32.const 2) funcref (ref.func $host) (ref.null func))
        (elem declare func $host $begin) (elem func $begin)
        (func $f (drop (call $host)) (drop (ref.func $host)) (call $begin))
        (func (export "t") (drop (call_indirect (result i32) (i32.const 0)))))"#
    ));
    assert!(matches!(check(&module, &module), Err(Unguarded::Import { import: 0, .. })));
    guarded(&module);
}

#[test]
fn an_import_that_is_used_past_its_thunk_is_seen_wherever_it_is() {
    for (place, with) in [
        ("code", "(func (drop (call $host)))"),
        ("an element segment", "(elem declare func $host) (func (drop (ref.func $host)))"),
        ("an export", "(export \"e\" (func $host))"),
        ("a global", "(global funcref (ref.func $host))"),
        ("an element segment", "(table 1 funcref) (elem (i32.const 0) func $host)"),
        ("an element segment", "(table 1 funcref) (elem (i32.const 0) funcref (ref.func $host))"),
        ("an element segment", "(elem func $host)"),
        ("an element segment", "(elem declare func $host)"),
        ("the start function", "(import \"a\" \"b\" (func $b)) (start $b)"),
    ] {
        let module = wasm(&format!("(module {IMPORT} {with})"));
        let error = check(&module, &module).unwrap_err();
        assert!(
            matches!(error, Unguarded::Import { place: found, .. } if found == place),
            "{error}"
        );
        guarded(&module);
    }
}

#[test]
fn a_thunk_that_does_more_is_none() {
    for body in ["(drop (call $host)) (call $host)", "(call $host) nop", "nop (call $host)"] {
        let module = wasm(&format!("(module {IMPORT} (func (result i32) {body}))"));
        assert!(check(&module, &module).is_err(), "{body}");
    }
    let module = wasm(&format!("(module {IMPORT} (func (result i32) (call $host)))"));
    check(&module, &module).unwrap();
}

#[test]
fn a_straight_line_is_cut_each_thousand_instructions() {
    let short = function(&STORE.repeat(300));
    assert_eq!(checks(&guarded(&short)), 0);
    let long = function(&STORE.repeat(10_000));
    assert!(matches!(check(&long, &long), Err(Unguarded::Long { function: 0 })));
    let checks = checks(&guarded(&long));
    assert!((29..=31).contains(&checks), "{checks}");
}

/// Each check of a linear count would stand in code that is jumped over.
#[test]
fn jumping_over_checks_does_not_help() {
    for over in ["(br 0)", "(br_if 0 (i32.const 1))", "(br_table 0 0 (i32.const 0))"] {
        let block = format!("(block {STORE} {over} {})", STORE.repeat(400));
        let module = function(&block.repeat(2_000));
        assert!(matches!(check(&module, &module), Err(Unguarded::Long { .. })), "{over}");
        let checks = checks(&guarded(&module));
        // Each 1,000 instructions of the way round, of which a block has five or six; besides those in the blocks.
        assert!(checks >= 2_000 * 5 / 1_001, "{over}: {checks}");
    }
    let either = format!("(if (i32.const 0) (then {}) (else {STORE}))", STORE.repeat(200));
    let module = function(&either.repeat(500));
    assert!(check(&module, &module).is_err());
    guarded(&module);
}

#[test]
fn dead_code_and_loops_need_none() {
    let dead = function(&format!(
        "(block (br 0) {}) unreachable {}",
        STORE.repeat(5_000),
        STORE.repeat(5_000)
    ));
    assert_eq!(checks(&guarded(&dead)), 0);
    let loops =
        function(&format!("(loop {STORE} (loop {STORE} (br_if 1 (i32.const 0))))").repeat(500));
    assert_eq!(checks(&guarded(&loops)), 0, "a loop's head is a check");
}

#[test]
fn what_is_done_after_a_deep_call_is_short() {
    let recursive =
        |tail: &str| function(&format!("(if (i32.load (i32.const 0)) (then (call $f))) {tail}"));
    assert_eq!(checks(&guarded(&recursive(&STORE.repeat(7)))), 0);
    let long = recursive(&STORE.repeat(8));
    assert!(matches!(check(&long, &long), Err(Unguarded::Long { .. })));
    assert_eq!(checks(&guarded(&long)), 1);
    // Through a table, and through another function.
    let indirect = wasm(&format!(
        "(module (memory 1) (table 1 funcref) (func (call_indirect (i32.const 0)) {}))",
        STORE.repeat(8)
    ));
    assert_eq!(checks(&guarded(&indirect)), 1);
    let mutual = wasm(&format!(
        "(module (memory 1) (func $a (call $b) {0}) (func $b (call $a) {0}))",
        STORE.repeat(8)
    ));
    assert_eq!(checks(&guarded(&mutual)), 2);
}

/// A chain of functions that each do something after the next has returned, and none of them calls itself.
#[test]
fn ends_of_callees_count_for_their_callers() {
    let stores = STORE.repeat(100);
    let mut module = format!("(module (memory 1) (func $f0 {stores})");
    for at in 1..100 {
        module += &format!("(func $f{at} (call $f{}) {stores})", at - 1);
    }
    let module = wasm(&(module + ")"));
    assert!(matches!(check(&module, &module), Err(Unguarded::Long { .. })));
    let checks = checks(&guarded(&module));
    assert!((25..=40).contains(&checks), "{checks}");
}

#[test]
fn memory_moves_in_pieces_unless_it_is_little() {
    let operations = |length: &str| {
        wasm(&format!(
            r#"(module (memory 1) (data $d "abc") (func (param i32)
            (memory.fill (i32.const 0) (i32.const 0) {length})
            (memory.copy (i32.const 0) (i32.const 0) {length})
            (memory.init $d (i32.const 0) (i32.const 0) {length})))"#
        ))
    };
    for length in ["(local.get 0)", "(i32.const 65537)", "(i32.const -1)"] {
        let module = operations(length);
        assert!(
            matches!(check(&module, &module), Err(Unguarded::Bulk { function: 0 })),
            "{length}"
        );
        guarded(&module);
    }
    let small = operations("(i32.const 65536)");
    // Nothing but the names of what the test calls `$d` is gone.
    assert!(small.starts_with(&guarded(&small)));
    // Many of them in a line.
    let many = function(&"(memory.fill (i32.const 0) (i32.const 0) (i32.const 65536))".repeat(100));
    assert!(check(&many, &many).is_err());
    assert!(checks(&guarded(&many)) >= 25);
}

/// A length that only looks like a constant.
#[test]
fn a_constant_before_another_instruction_is_no_length() {
    for length in [
        "(i32.add (local.get 0) (i32.const 1))",
        "(block (result i32) (local.get 0) (br_if 0 (i32.const 1)) drop (i32.const 1))",
    ] {
        let module = wasm(&format!(
            "(module (memory 1) (func (param i32) (memory.fill (i32.const 0) (i32.const 0) {length})))"
        ));
        assert!(matches!(check(&module, &module), Err(Unguarded::Bulk { .. })), "{length}");
        guarded(&module);
    }
}

#[test]
fn a_helper_that_was_changed_is_seen() {
    let original = wasm(
        "(module (memory 1) (func (param i32) (memory.copy (i32.const 0) (i32.const 0) (local.get 0))))",
    );
    let good = guarded(&original);
    let helper = super::bulk::Helper::Copy.body(0);
    let at = good.windows(helper.len()).position(|bytes| bytes == helper).unwrap();
    let mut refused = 0;
    for place in at..at + helper.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[place] ^= 1 << bit;
            refused += usize::from(check(&bad, &original).is_err());
        }
    }
    assert_eq!(refused, 8 * helper.len());
}

#[test]
fn table_operations_and_growth_in_a_line_are_cut() {
    for operation in [
        "(table.fill (i32.const 0) (ref.null func) (i32.const 1))",
        "(table.copy (i32.const 0) (i32.const 0) (i32.const 1))",
        "(table.init $e (i32.const 0) (i32.const 0) (i32.const 1))",
        "(drop (table.grow (ref.null func) (i32.const 1)))",
        "(drop (memory.grow (i32.const 1)))",
    ] {
        let module = wasm(&format!(
            "(module (memory 1) (table 1 funcref) (elem $e func) (func {}))",
            operation.repeat(100)
        ));
        assert!(check(&module, &module).is_err());
        assert!(checks(&guarded(&module)) >= 49, "{operation}");
    }
}

/// Every instruction is classified: this fails when a new parser knows more of those that are on. Decide then what
/// each may do in one go (`work.rs`), and set the number anew.
#[test]
fn every_instruction_has_a_class() {
    let of = |class: Class| all().into_iter().filter(move |(_, _, found)| *found == class);
    let names = |class| of(class).map(|(_, name, _)| name).collect::<Vec<_>>().join(" ");
    assert_eq!(names(Class::MemoryBulk), "MemoryInit MemoryCopy MemoryFill");
    assert_eq!(names(Class::TableBulk), "TableInit TableCopy TableFill");
    assert_eq!(names(Class::Grow), "MemoryGrow TableGrow");
    assert_eq!(names(Class::Call), "Call CallIndirect");
    assert_eq!(names(Class::Control), "Unreachable Block Loop If Else End Br BrIf BrTable Return");
    assert_eq!(of(Class::Access).count(), 14 + 9 + 22 + 2);
    let on = all().into_iter().filter(|(_, _, class)| *class != Class::Off).count();
    assert_eq!(on, 458, "{:?}", all());
}

/// The largest work of one instruction, in bytes or elements; everything else is a few machine instructions.
#[test]
fn no_instruction_does_more_than_its_class_allows() {
    let table = mayfly_core::Limits::default().table_elements;
    for (_, name, class) in all() {
        let bytes = match class {
            Class::Plain | Class::Control | Class::Call | Class::Off => 0,
            Class::Access => 16,
            Class::MemoryBulk => u64::from(PIECE_BYTES),
            Class::TableBulk | Class::Grow => table * 8,
        };
        assert!(bytes <= 1 << 20, "{name}: {bytes}");
    }
}

#[test]
fn a_path_is_the_longest_one() {
    use wasmparser::{BlockType, Operator};
    let mut path = Path::new();
    let never = |_| Callee::Deep;
    path.step(&Operator::Block { blockty: BlockType::Empty }, never);
    for _ in 0..10 {
        path.step(&Operator::Nop, never);
    }
    path.step(&Operator::BrIf { relative_depth: 0 }, never);
    path.step(&Operator::Loop { blockty: BlockType::Empty }, never);
    path.step(&Operator::End, never);
    path.step(&Operator::End, never);
    // 12 through the branch, and 2 through the loop.
    assert_eq!(path.at_return(), Since { steps: 12, tail: None });
}
