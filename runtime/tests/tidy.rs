//! The house rules that a compiler does not know: sizes, where `unsafe` and the environment may be touched, which way
//! imports point, that modules make no circle, and what must not be left lying about.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file: one screenful more than fits in a reader's head. Tables of data may be longer.
const FILE_LINES: usize = 400;
/// Lines of a function.
const FUNCTION_LINES: usize = 70;

/// Files that are longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[
    ("guest-sdk/src/onnx/branch.rs", "one operator, before and after a request decides"),
    ("guest-sdk/kernels/src/winograd.rs", "the transforms and the loop that they are laid out for"),
];

/// Functions that are longer, each with its reason.
const LONG_FUNCTIONS: &[(&str, &str)] = &[
    ("fn words(&self)", "one match over all outcomes: a table, not a procedure"),
    ("fn make(", "the parts of a node, one after the other"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file of the repository's own crates, by its path from the root, with its text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for top in ["runtime", "guest-sdk", "functions", "bench"] {
        collect(&root().join(top), &mut found);
    }
    found.sort();
    found
}

fn collect(dir: &Path, found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The lines before a file's unit tests.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

fn complain(what: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{what}:\n  {}", complaints.join("\n  "));
}

#[test]
fn no_file_is_longer_than_it_has_reason_to_be() {
    let mut complaints = Vec::new();
    for (name, text) in sources() {
        // Tests are tables: long ones are read by looking up.
        if name.contains("/tests/") || name.ends_with("tests.rs") {
            continue;
        }
        let lines = without_tests(&text).lines().count();
        let excused = LONG_FILES.iter().any(|(file, _)| *file == name);
        if lines > FILE_LINES && !excused {
            complaints.push(format!("{name}: {lines} lines"));
        }
    }
    complain("split these, or give a reason in LONG_FILES", &complaints);
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut complaints = Vec::new();
    for (name, text) in sources() {
        let mut open: Option<(usize, String, String)> = None;
        for (at, line) in text.lines().enumerate() {
            let bare = line.trim_start();
            let indent = &line[..line.len() - bare.len()];
            let begins = bare.contains("fn ") && bare.contains('(') && !bare.starts_with("//");
            match &open {
                None if begins && !bare.ends_with(';') => {
                    open = Some((at, indent.to_owned(), bare.to_owned()));
                }
                Some((from, outer, head)) if line.starts_with(&format!("{outer}}}")) => {
                    let excused = LONG_FUNCTIONS.iter().any(|(start, _)| head.contains(start));
                    if at - from > FUNCTION_LINES && !excused {
                        complaints.push(format!(
                            "{name}:{}: {} lines: {head}",
                            from + 1,
                            at - from
                        ));
                    }
                    open = None;
                }
                _ => {}
            }
        }
    }
    complain("split these", &complaints);
}

#[test]
fn unsafe_stands_in_few_places_and_says_why() {
    // The engine loads native code; kernels do arithmetic on guest memory; the child sets up its own confinement;
    // guests cross their ABI.
    let allowed = [
        "runtime/host/src/engine",
        "runtime/host/src/kernels",
        "runtime/publish/src/child",
        // A mapping is as constant as its file, for which one type vouches.
        "runtime/store/src/artifact/mapped.rs",
        "guest-sdk/src/",
        // An engine in C, which hands out its bytes by pointer.
        "functions/script/src/",
        "bench/",
    ];
    let mut complaints = Vec::new();
    for (name, text) in sources() {
        if name.ends_with("tests/tidy.rs") {
            continue;
        }
        let used = without_tests(&text).lines().any(|line| {
            !line.trim_start().starts_with("//")
                && (line.contains("unsafe {") || line.contains("unsafe fn"))
        });
        if used && !allowed.iter().any(|place| name.starts_with(place)) {
            complaints.push(name);
        }
    }
    complain("unsafe outside its places", &complaints);
}

#[test]
fn only_configuration_reads_the_environment() {
    let allowed = [
        // How many modules its tests make.
        "runtime/publish/src/guard/tests/differential.rs",
        // Fault points exist in debug builds only.
        "runtime/store/src/artifact/fault.rs",
        "runtime/src/main.rs",
        "runtime/src/config",
        "runtime/src/cli",
        // Users' functions: a program that speaks CGI has its request there.
        "runtime/src/dev/templates",
        "runtime/publish/src/child",
        "bench/",
    ];
    let mut complaints = Vec::new();
    for (name, text) in sources() {
        let own = name.starts_with("runtime/")
            && name.contains("/src/")
            && !allowed.iter().any(|place| name.starts_with(place));
        if own
            && ["env::var(", "env::var_os(", "env::vars("]
                .iter()
                .any(|call| without_tests(&text).contains(call))
        {
            complaints.push(name);
        }
    }
    complain("these read the environment themselves", &complaints);
}

/// The crates of ARCHITECTURE.md's table in its order: directory, and the crates of ours that it says they import.
fn drawn() -> Vec<(String, BTreeSet<String>)> {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| `")?.split(" | ").collect();
        let (dir, _) = cells[0].split_once('`')?;
        let [_, _, imports] = cells[..] else { return None };
        let imports = imports.trim_end_matches('|').split(',').map(|name| name.trim().to_owned());
        Some((dir.to_owned(), imports.filter(|name| !name.is_empty()).collect()))
    });
    rows.filter(|(dir, _)| root().join(dir).join("Cargo.toml").is_file()).collect()
}

#[test]
fn crates_import_what_the_architecture_says() {
    let drawn = drawn();
    let mut above = BTreeSet::new();
    for (dir, imports) in &drawn {
        let manifest = fs::read_to_string(root().join(dir).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        let names = dependencies.into_iter().flatten().map(|(name, _)| name);
        let own: BTreeSet<_> =
            names.filter_map(|name| name.strip_prefix("mayfly-")).map(str::to_owned).collect();
        assert_eq!(&own, imports, "{dir}: Cargo.toml, and what ARCHITECTURE.md says");
        let missing: Vec<_> = own.difference(&above).collect();
        assert!(missing.is_empty(), "{dir} stands above what it imports: {missing:?}");
        let name = manifest["package"]["name"].as_str().unwrap();
        above.insert(name.trim_start_matches("mayfly-").to_owned());
    }
    for entry in fs::read_dir(root().join("runtime")).unwrap() {
        let dir = entry.unwrap().path();
        let name = format!("runtime/{}", dir.file_name().unwrap().to_string_lossy());
        let is_crate = dir.join("Cargo.toml").is_file() && name != "runtime/fuzz";
        assert!(!is_crate || drawn.iter().any(|(dir, _)| *dir == name), "{name} is not drawn");
    }
}

#[test]
fn modules_of_a_crate_make_no_circle() {
    for (dir, _) in drawn().iter().filter(|(dir, _)| dir.starts_with("runtime")) {
        let src = format!("{dir}/src/");
        let mut imports = BTreeMap::<String, BTreeSet<String>>::new();
        for (name, text) in sources() {
            let Some(path) = name.strip_prefix(&src) else { continue };
            let module = path.split(['/', '.']).next().unwrap();
            if ["lib", "main"].contains(&module) {
                continue;
            }
            let used = imports.entry(module.to_owned()).or_default();
            let code = without_tests(&text).lines().filter(|l| !l.trim_start().starts_with("//"));
            for after in code.flat_map(|line| line.split("crate::").skip(1)) {
                let end = after.find(|c: char| c != '_' && !c.is_ascii_lowercase());
                let other = &after[..end.unwrap_or(after.len())];
                if other != module {
                    used.insert(other.to_owned());
                }
            }
        }
        // Whoever imports only what was taken away is taken away; a circle stays.
        while let Some(leaf) = imports
            .iter()
            .find(|(_, used)| used.iter().all(|module| !imports.contains_key(module)))
            .map(|(module, _)| module.clone())
        {
            imports.remove(&leaf);
        }
        assert!(imports.is_empty(), "{dir}: modules that import each other: {imports:?}");
    }
}

#[test]
fn nothing_is_left_lying_about() {
    let mut complaints = Vec::new();
    for (name, text) in sources() {
        if name.ends_with("tests/tidy.rs") {
            continue;
        }
        for (at, line) in text.lines().enumerate() {
            for left in ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "#[ignore]", "dbg!("]
            {
                if line.contains(left) {
                    complaints.push(format!("{name}:{}: {left}", at + 1));
                }
            }
        }
    }
    complain("finish these", &complaints);
}

/// Modules that are built into the binary, as text and as bytes. `MAYFLY_BLESS=1` writes the bytes anew.
#[test]
fn embedded_modules_are_what_their_text_says() {
    for name in [
        "publish/src/self_test/guest",
        "src/verify/guests/plain",
        "src/verify/guests/snapshot",
        "src/verify/guests/draws",
    ] {
        let path = root().join("runtime").join(name);
        let wasm = wat::parse_file(path.with_extension("wat")).unwrap();
        let embedded = path.with_extension("wasm");
        if std::env::var_os("MAYFLY_BLESS").is_some() {
            fs::write(&embedded, &wasm).unwrap();
        }
        assert_eq!(
            fs::read(&embedded).ok(),
            Some(wasm),
            "{name}.wasm: run this test with MAYFLY_BLESS=1"
        );
    }
}
