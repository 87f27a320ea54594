//! How scripts end that go too far: each in an outcome of its own, with their line in the log.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use mayfly_core::record::Settings;

use super::{limited, pack_text};
use crate::harness::{Harness, get};

/// Handlers by name: a deploy of a script takes seconds where others build, so all are one.
const HANDLERS: &[(&str, &str)] = &[
    ("deep", "const f = (n) => f(n + 1) + 1; f(0);"),
    ("deep-getter", "const o = { get a() { return this.a } }; o.a;"),
    ("deep-proxy", "const p = new Proxy({}, { get: (t, k) => p[k] }); p.a;"),
    ("deep-json", "const o = { toJSON() { return JSON.stringify(o) } }; JSON.stringify(o);"),
    ("deep-map", "const f = () => [1].map(f); f();"),
    ("deep-sort", "const f = () => [2, 1].sort(f); f();"),
    ("deep-replace", "const f = () => 'a'.replace(/a/, f); f();"),
    ("deep-text", "const o = { toString() { return `${o}` } }; `${o}`;"),
    ("deep-new", "class A { constructor() { new A() } } new A();"),
    ("deep-iterator", "const f = function* () { yield* f() }; [...f()];"),
    ("deep-reflect", "const f = () => Reflect.apply(f, null, []); f();"),
    ("deep-eval", "globalThis.f = () => (0, eval)('globalThis.f()'); f();"),
    ("caught", "const f = () => f() + 1; try { f() } catch (e) { return new Response(e.name) }"),
    (
        "nested-json",
        "try { JSON.parse('['.repeat(1e5)) } catch (e) { return new Response(e.name) }",
    ),
    (
        "nested-code",
        "try { new Function('('.repeat(1e5)) } catch (e) { return new Response(e.name) }",
    ),
    (
        "nested-regex",
        "try { new RegExp('('.repeat(1e5)) } catch (e) { return new Response(e.name) }",
    ),
    ("fills", "const all = []; while (true) all.push({ a: all.length });"),
    ("fills-lists", "const all = []; while (true) all.push(new Array(1000).fill(0));"),
    ("fills-text", "let text = 'x'; while (true) text += text + 1;"),
    ("fills-buffers", "const all = []; while (true) all.push(new Uint8Array(1e6));"),
    ("loops", "let n = 0; while (true) n++;"),
    ("loops-jobs", "const f = () => queueMicrotask(f); f(); await new Promise(() => {});"),
    ("loops-regex", "/^(a+)+$/.test('a'.repeat(40) + 'b');"),
    ("sleeps", "setInterval(() => {}, 10); await new Promise(() => {});"),
    ("hangs", "await new Promise(() => {});"),
    ("nothing", ""),
    ("number", "return 5;"),
    ("rejected", "Promise.reject(new Error('lost')); return new Response('x');"),
];

/// All handlers in one script, each on a line of its own.
fn script() -> String {
    let mut text = "const handlers = {\n".to_owned();
    for (name, body) in HANDLERS {
        writeln!(text, "'{name}': async () => {{ {body} }},").unwrap();
    }
    text + "};\nexport default { fetch: (request) => handlers[new URL(request.url).pathname.slice(1)]() };"
}

/// Calls handlers of a deploy with these limits; for each its status, and words that the log has to have.
fn expect(function: &str, limits: &[&str], cases: &[(&str, u16, &[&str])]) {
    let harness = Harness::get();
    let Some(packed) = pack_text(&script()) else { return };
    harness.run(async {
        let settings: Settings = limited(limits);
        harness.deploy(function, packed, settings).await.unwrap();
        for (name, status, words) in cases {
            let before = harness.log_of(function).len();
            let reply = get(harness, &format!("/{function}/{name}")).await;
            let log = || harness.log_of(function).split_off(before);
            assert_eq!(reply.status.as_u16(), *status, "{name}: {}", log());
            // The outcome's line may come behind the answer.
            let patience = Instant::now() + Duration::from_secs(10);
            for word in *words {
                while !log().contains(word) {
                    assert!(Instant::now() < patience, "{name}: no {word:?} in {}", log());
                    tokio::task::yield_now().await;
                }
            }
        }
    });
}

#[test]
fn a_recursion_uses_up_its_stack_and_no_more() {
    let deep = HANDLERS.iter().filter(|(name, _)| name.starts_with("deep"));
    let words: &[&str] =
        &["app.js:", "RangeError: Maximum call stack size exceeded", "stack-overflow"];
    let mut cases: Vec<_> = deep.map(|(name, _)| (*name, 502, words)).collect();
    // It can be caught, and then nothing has happened; texts that are nested very deeply use up the native stack.
    cases.extend([("caught", 200, &[][..]), ("nested-regex", 200, &[])]);
    cases.extend(["nested-json", "nested-code"].map(|name| (name, 502, &["stack-overflow"][..])));
    expect("x-deep", &[], &cases);
}

#[test]
fn a_script_that_takes_all_memory_ends_at_its_limit() {
    let words: &[&str] = &["app.js:"];
    let all: &[&str] = &["app.js:", "memory-limit"];
    let cases: &[(&str, u16, &[&str])] = &[
        // Its objects are so small that there is no room for an error, and the engine throws null.
        ("fills", 502, &[]),
        ("fills-lists", 502, all),
        ("fills-text", 502, words),
        ("fills-buffers", 502, all),
    ];
    expect("x-fills", &["memory=16MiB"], cases);
}

#[test]
fn a_loop_ends_at_its_limit_and_says_where_it_was() {
    let cases: &[(&str, u16, &[&str])] = &[
        ("loops", 504, &["still running after 250 ms: at loops (app.js:"]),
        ("loops-jobs", 504, &[]),
        ("loops-regex", 504, &[]),
    ];
    expect("x-loops", &["cpu=900ms"], cases);
    expect("x-sleeps", &["wall=500ms"], &[("sleeps", 504, &[])]);
}

#[test]
fn what_is_never_answered_is_told() {
    let cases: &[(&str, u16, &[&str])] = &[
        ("hangs", 502, &["the handler never answered"]),
        ("nothing", 502, &["the handler gave nothing, where it must give a Response"]),
        ("number", 502, &["the handler gave 5, where it must give a Response"]),
        ("rejected", 200, &["nobody looked after it: app.js:", "Error: lost"]),
    ];
    expect("x-nothing", &[], cases);
}
