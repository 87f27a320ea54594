//! Accesses to a page that the frame has been to weigh less after a deep call, and nothing else does.

use super::*;

/// So many accesses fit after a deep call; `one` is text for each of them, by its number.
fn fits(one: impl Fn(u32) -> String) -> u32 {
    let module = |count: u32| {
        let body: String = (0..count).map(&one).collect();
        wasm(&format!(
            "(module (memory 1) (global $g (mut i32) (i32.const 0)) (func $f (local $a i32) (local $b i32)
                (if (i32.load (i32.const 0)) (then (call $f))) {body}))"
        ))
    };
    (1..).find(|count| checks(&guarded(&module(count + 1))) > 0).unwrap()
}

fn store(offset: u32) -> String {
    format!("(i32.store offset={offset} (local.get $a) (i32.const 7))")
}

#[test]
fn a_window_behind_one_local_is_met_twice() {
    // Two at 96 and the rest at 8, each with two instructions more.
    let known = fits(|at| store(4 * at));
    assert_eq!(known, 59);
    let copied = |at: u32| {
        format!(
            "(i64.store offset={0} (local.get $a) (i64.load offset={0} (local.get $b)))",
            // Never 64: an alignment of 3, that, and the end look like a check.
            8 * at + 4
        )
    };
    assert!((20..40).contains(&fits(copied)), "{}", fits(copied));
    // Of a value that is computed in between.
    let computed = |at: u32| {
        format!(
            "(i32.store offset={} (local.get $a) (i32.mul (i32.const 3) (global.get $g)))",
            4 * at
        )
    };
    assert!(fits(computed) > 40);
    // Before a block, what was known is known behind it.
    let blocks = |at: u32| {
        format!("(if (local.get $b) (then (local.set $b (i32.const 0)))) {}", store(4 * at))
    };
    assert!(fits(blocks) > 40, "{}", fits(blocks));
    // Where it has been before the call, it need not go for the first time.
    let before = wasm(&format!(
        "(module (memory 1) (func $f (param $a i32) {0} {0} (call $f (i32.const 9)) {1}))",
        store(4),
        (1..70).map(|at| store(4 * at + 1)).collect::<String>()
    ));
    assert_eq!(checks(&guarded(&before)), 0);
}

#[test]
fn what_may_be_another_page_weighs_what_it_did() {
    let unknown = fits(|_| STORE.into());
    assert_eq!(unknown, 7);
    let elsewhere: [(&str, &dyn Fn(u32) -> String); 9] = [
        ("another window each time", &|at| store(2_048 * at)),
        ("three windows in turn would be four pages", &|at| store(2_048 * (at % 17))),
        ("the local is set", &|_| format!("(local.set $a (global.get $g)) {}", store(0))),
        ("the local is set by tee", &|_| {
            "(i32.store (local.tee $a (global.get $g)) (i32.const 7))".into()
        }),
        ("set between address and value", &|_| {
            "(i32.store (local.get $a) (local.tee $a (global.get $g)))".into()
        }),
        ("another base each time", &|_| "(i32.store (global.get $g) (i32.const 7))".into()),
        ("an address that is computed", &|_| {
            "(i32.store (i32.add (local.get $a) (global.get $g)) (i32.const 7))".into()
        }),
        ("paths that meet", &|_| {
            format!("(if (local.get $b) (then {}) (else {}))", store(0), store(8))
        }),
        ("the local is set on one of two paths", &|_| {
            format!("(if (local.get $b) (then (local.set $a (global.get $g)))) {}", store(0))
        }),
    ];
    for (what, one) in elsewhere {
        assert!(fits(one) <= unknown, "{what}: {}", fits(one));
    }
    // A branch past what was accessed: three that count, and two if the branch were not seen.
    let past = |_| {
        let inside = store(0) + &store(4);
        format!(
            "(local.set $a (global.get $g)) (block (br_if 0 (local.get $b)) {inside}) {}",
            store(8)
        )
    };
    assert_eq!(fits(past), 2);
}
