//! How scripts end that go too far: each in an outcome of its own, with their line in the log.

use http::StatusCode;

use super::{limited, pack_text};
use crate::harness::{Harness, get};

/// Deploys a handler's body and calls it: the status, and the log.
fn ends(name: &str, handler: &str, limits: &[&str]) -> Option<(StatusCode, String)> {
    let harness = Harness::get();
    let packed =
        pack_text(&format!("export default {{ async fetch(request) {{\n{handler}\n}} }};"))?;
    Some(harness.run(async {
        harness.deploy(name, packed, limited(limits)).await.unwrap();
        let reply = get(harness, &format!("/{name}")).await;
        (reply.status, harness.log_of(name))
    }))
}

fn expect(name: &str, handler: &str, limits: &[&str], status: u16, words: &[&str]) {
    let Some((own, log)) = ends(name, handler, limits) else { return };
    assert_eq!(own.as_u16(), status, "{name}: {log}");
    for word in words {
        assert!(log.contains(word), "{name}: no {word:?} in {log}");
    }
}

#[test]
fn a_recursion_uses_up_its_stack_and_no_more() {
    let recursions = [
        ("x-deep", "const f = (n) => f(n + 1) + 1; f(0);"),
        ("x-deep-getter", "const o = { get a() { return this.a } }; o.a;"),
        ("x-deep-proxy", "const p = new Proxy({}, { get: (t, k) => p[k] }); p.a;"),
        ("x-deep-json", "const o = { toJSON() { return JSON.stringify(o) } }; JSON.stringify(o);"),
        ("x-deep-map", "const f = () => [1].map(f); f();"),
        ("x-deep-sort", "const f = () => [2, 1].sort(f); f();"),
        ("x-deep-replace", "const f = () => 'a'.replace(/a/, f); f();"),
        ("x-deep-string", "const o = { toString() { return `${o}` } }; `${o}`;"),
        ("x-deep-bound", "const f = () => f.call.call(f.bind(null)); f();"),
        ("x-deep-new", "class A { constructor() { new A() } } new A();"),
        ("x-deep-iterator", "const f = function* () { yield* f() }; [...f()];"),
        ("x-deep-reflect", "const f = () => Reflect.apply(f, null, []); f();"),
        ("x-deep-eval", "const f = () => (0, eval)('globalThis.f()'); globalThis.f = f; f();"),
    ];
    for (name, script) in recursions {
        expect(
            name,
            script,
            &[],
            502,
            &["app.js:2:", "RangeError: Maximum call stack size exceeded", "stack-overflow"],
        );
    }
    // It can be caught, and then nothing has happened.
    let caught = "const f = () => f() + 1; try { f() } catch (e) { return new Response(e.name) }";
    expect("x-deep-caught", caught, &[], 200, &[]);
    // Texts that are nested deeply are refused by their parsers, and not by a trap.
    for (name, script) in [
        (
            "x-nested-json",
            "try { JSON.parse('['.repeat(1e5)) } catch (e) { return new Response(e.name) }",
        ),
        (
            "x-nested-code",
            "try { new Function('('.repeat(1e5)) } catch (e) { return new Response(e.name) }",
        ),
        (
            "x-nested-regex",
            "try { new RegExp('('.repeat(1e5)) } catch (e) { return new Response(e.name) }",
        ),
    ] {
        expect(name, script, &[], 200, &[]);
    }
}

#[test]
fn a_script_that_takes_all_memory_ends_at_its_limit() {
    let limits = &["memory=16MiB"];
    for (name, script) in [
        ("x-fills", "const all = []; while (true) all.push(new Array(1000).fill(0));"),
        ("x-fills-text", "let text = 'x'; while (true) text += text + 1;"),
        ("x-fills-buffer", "const all = []; while (true) all.push(new Uint8Array(1e6));"),
    ] {
        let Some((status, log)) = ends(name, script, limits) else { return };
        assert_eq!(status.as_u16(), 502, "{name}: {log}");
        assert!(log.contains("app.js:2:"), "{name}: {log}");
    }
    expect(
        "x-fills-all",
        "const all = []; while (true) all.push({ a: all.length });",
        limits,
        502,
        &["app.js:2:", "memory-limit"],
    );
}

#[test]
fn a_loop_ends_at_its_limit_and_says_where_it_was() {
    expect(
        "x-loops",
        "let n = 0;\nwhile (true) n++;",
        &["cpu=900ms"],
        504,
        &["still running after 250 ms: at fetch (app.js:3:", "cpu-limit"],
    );
    let promises = "const f = () => Promise.resolve().then(f); f(); await new Promise(() => {});";
    expect("x-loops-jobs", promises, &["cpu=900ms"], 504, &["cpu-limit"]);
    let regex = "/^(a+)+$/.test('a'.repeat(40) + 'b');";
    expect("x-loops-regex", regex, &["cpu=900ms"], 504, &["cpu-limit"]);
    let sleeps = "setInterval(() => {}, 10); await new Promise(() => {});";
    expect("x-sleeps", sleeps, &["wall=500ms"], 504, &["timeout"]);
}

#[test]
fn what_is_never_answered_is_told() {
    expect("x-hangs", "await new Promise(() => {});", &[], 502, &["the handler never answered"]);
    expect("x-nothing", "", &[], 502, &["the handler gave nothing, where it must give a Response"]);
    expect(
        "x-number",
        "return 5;",
        &[],
        502,
        &["the handler gave 5, where it must give a Response"],
    );
    expect(
        "x-text-stream",
        "return new Response(ReadableStream.from(['a']));",
        &[],
        502,
        &["only takes bytes"],
    );
    let rejected = "Promise.reject(new Error('lost')); return new Response('x');";
    expect(
        "x-rejected",
        rejected,
        &[],
        200,
        &["nobody looked after it", "app.js:2:", "Error: lost"],
    );
}
