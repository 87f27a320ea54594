use wasmparser::Validator;

use super::*;

const MODULE: &str = r#"(module
    (memory (export "memory") 1 4)
    (global $a (mut i32) (i32.const 7)) (global $b i64 (i64.const 8)) (global $c (mut f64) (f64.const 0.5))
    (func $start) (start $start)
    (func (export "_initialize")) (func (export "mayfly_init")) (func (export "mayfly_handle") (drop (global.get $a)))
    (data (i32.const 10) "data"))"#;

fn module() -> Vec<u8> {
    wat::parse_str(MODULE).unwrap()
}

fn exports(wasm: &[u8]) -> Vec<String> {
    Validator::new().validate_all(wasm).unwrap();
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::ExportSection(section) = payload.unwrap() {
            names.extend(section.into_iter().map(|export| export.unwrap().name.to_owned()));
        }
    }
    names
}

fn left() -> Left {
    let globals = vec![Value::I32(7), Value::F64(0.5_f64.to_bits())];
    Left { memory_bytes: 2 << 16, globals }
}

#[test]
fn what_runs_init_shows_its_mutable_globals() {
    let names = exports(&instrument(&module()).unwrap());
    assert_eq!(names[4..], ["mayfly:global:0", "mayfly:global:1"]);
}

#[test]
fn what_goes_on_has_neither_init_nor_data_and_is_the_same_for_equal_globals() {
    let resume = |globals: &[Value]| resumed(&module(), "mayfly_init", globals).unwrap();
    let wasm = resume(&left().globals);
    assert_eq!(exports(&wasm), ["memory", "mayfly_handle"]);
    let sections: Vec<u8> = Parser::new(0)
        .parse_all(&wasm)
        .filter_map(|payload| payload.unwrap().as_section().map(|(id, _)| id))
        .collect();
    assert!(!sections.contains(&8) && !sections.contains(&11), "{sections:?}");
    let other = resume(&[Value::I32(9), Value::F64(0)]);
    exports(&other);
    assert!(wasm == resume(&left().globals) && wasm != other);
}

#[test]
fn segments_that_code_names_keep_their_numbers() {
    let wasm = wat::parse_str(
        r#"(module (memory (export "memory") 1) (func (export "mayfly_init"))
            (data (i32.const 0) "gone") (data $kept "kept")
            (func (export "f") (memory.init $kept (i32.const 0) (i32.const 0) (i32.const 4))))"#,
    );
    let wasm = resumed(&wasm.unwrap(), "mayfly_init", &[]).unwrap();
    exports(&wasm);
    for payload in Parser::new(0).parse_all(&wasm) {
        if let Payload::DataSection(section) = payload.unwrap() {
            let data: Vec<_> = section.into_iter().map(|segment| segment.unwrap().data).collect();
            assert_eq!(data, [&b""[..], b"kept"]);
        }
    }
}

#[test]
fn runs_are_whole_pages_that_are_not_zero() {
    let mut memory = vec![0; 16 * HOST_PAGE];
    for at in [0, 3 * HOST_PAGE + 5, 5 * HOST_PAGE - 1, 15 * HOST_PAGE] {
        memory[at] = 1;
    }
    let (places, contents) = Runs::of(&memory);
    let runs = Runs { places: places.into(), contents: contents.into() };
    let parts = runs.parts(memory.len() as u64).unwrap();
    let page = |n: usize| n * HOST_PAGE;
    let starts: Vec<_> =
        parts.iter().map(|(at, range)| (usize::try_from(*at).unwrap(), range.len())).collect();
    assert_eq!(starts, [(0, page(1)), (page(3), page(2)), (page(15), page(1))]);
    let mut again = vec![0; memory.len()];
    for (at, range) in parts {
        let at = usize::try_from(at).unwrap();
        again[at..at + range.len()].copy_from_slice(&runs.contents[range]);
    }
    assert!(again == memory);
    let nothing = Runs::of(&[0; 100]);
    assert!(nothing.0.is_empty() && nothing.1.is_empty());
}

#[test]
fn runs_that_no_memory_has_are_refused() {
    let refused = |places: &[u64], contents: usize| {
        let places: Vec<u8> = places.iter().flat_map(|number| number.to_le_bytes()).collect();
        let runs = Runs { places: places.into(), contents: vec![1; contents].into() };
        runs.parts(1 << 16).is_err()
    };
    assert!(!refused(&[0, 4096], 4096) && !refused(&[], 0));
    assert!(refused(&[0, 4096], 4095) && refused(&[0, 4096], 4097), "not so many bytes");
    assert!(refused(&[4096, 4096, 0, 4096], 8192), "not in order");
    assert!(refused(&[0, 4096, 4095, 1], 4097), "twice the same");
    assert!(refused(&[0, 0], 0), "an empty one");
    assert!(refused(&[61440, 8192], 8192), "beyond the memory");
    assert!(refused(&[u64::MAX, 2], 2) && refused(&[0, u64::MAX], 2), "beyond numbers");
    let cut = Runs { places: vec![0; 15].into(), contents: Bytes::new() };
    assert!(cut.parts(1 << 16).is_err());
}

#[test]
fn what_init_left_is_held_to_the_module_and_to_the_limits() {
    let limits = Limits::default();
    let checked = |change: fn(&mut Left)| {
        let mut left = left();
        change(&mut left);
        check(&module(), &left, &limits).is_ok()
    };
    assert!(checked(|_| {}) && checked(|left| left.memory_bytes = 4 << 16));
    assert!(!checked(|left| left.memory_bytes = 0), "less than it began with");
    assert!(!checked(|left| left.memory_bytes = 5 << 16), "more than its maximum");
    assert!(!checked(|left| left.memory_bytes += 1), "no whole page");
    assert!(!checked(|left| left.globals.truncate(1)), "one is missing");
    assert!(!checked(|left| left.globals.push(Value::I32(1))), "one too many");
    assert!(!checked(|left| left.globals[0] = Value::I64(1)), "of another type");
    let open = wat::parse_str(r#"(module (memory (export "memory") 1))"#).unwrap();
    let huge = Left { memory_bytes: limits.memory_bytes + WASM_PAGE, globals: Vec::new() };
    assert!(check(&open, &huge, &limits).is_err(), "beyond the limit");
}
