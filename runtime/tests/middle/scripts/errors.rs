//! What is wrong with a script is told with its place: to who deploys, and in the log; never to a client.

use super::{Settings, pack_text};
use crate::harness::{Harness, body_of, get};

#[test]
fn a_deploy_says_where_the_script_is_wrong() {
    let harness = Harness::get();
    for (script, expected) in [
        ("const a = 1;\nlet a = 2;", "app.js:2:"),
        (
            "const a = {};\n  a.b.c();",
            "app.js:2:3: TypeError: cannot read property 'c' of undefined",
        ),
        ("export default {", "never closed"),
        ("export const a = 1;", "exports no handler: export default { async fetch("),
        (
            "await new Promise(() => {}); export default { fetch() {} }",
            "waits for a promise that is never settled",
        ),
        ("crypto.randomUUID(); export default { fetch() {} }", "drawn while a request is answered"),
        (
            "setTimeout(() => {}, 1); export default { fetch() {} }",
            "timers are set while a request is answered",
        ),
        (
            "export const warmup = '/'; export default { fetch() { throw new RangeError('cold') } }",
            "RangeError: cold",
        ),
        ("throw { toString() { throw 1 } }", "a value that cannot be shown"),
        ("throw null", "null"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.js");
        std::fs::write(&path, script).unwrap();
        let Some(packed) = super::pack(&path) else { return };
        let why = match packed {
            Err(why) => why,
            Ok(packed) => harness.run(async {
                let refused = harness.deploy("x-refused", packed, Settings::default()).await;
                refused.expect_err(script).with_hint()
            }),
        };
        assert!(why.contains(expected), "{script}: {why}");
    }
}

#[test]
fn a_client_is_told_nothing_of_an_error() {
    let harness = Harness::get();
    let script = "export default { async fetch(request) {\n  await null;\n  const secret = 's3cret';\n  throw new Error(secret, { cause: new TypeError('deep') });\n} };";
    let Some(packed) = pack_text(script) else { return };
    harness.run(async {
        harness.deploy("x-throws", packed, Settings::default()).await.unwrap();
        let reply = get(harness, "/x-throws").await;
        assert_eq!(reply.status.as_u16(), 502);
        assert!(!body_of(&reply).contains("s3cret"), "{}", body_of(&reply));
        let log = harness.log_of("x-throws");
        for words in ["app.js:4:", "Error: s3cret", "caused by app.js:4:", "TypeError: deep"] {
            assert!(log.contains(words), "{words}: {log}");
        }
    });
}

#[test]
fn what_is_not_there_is_named() {
    let harness = Harness::get();
    let cases = [
        (
            "fetch",
            "await fetch('https://example.com')",
            "is not allowed: deploy with --outbound 'https://example.com'",
        ),
        (
            "buffer",
            "Buffer.from('x')",
            "Buffer is not defined: Buffer is not in Mayfly; docs/javascript.md",
        ),
        ("rewriter", "new HTMLRewriter()", "HTMLRewriter is not in Mayfly"),
        (
            "aes",
            "await crypto.subtle.encrypt({ name: 'AES-GCM' }, null, null)",
            "crypto.subtle.encrypt is not in Mayfly",
        ),
    ];
    let handlers: Vec<_> =
        cases.iter().map(|(name, body, _)| format!("{name}: async () => {{ {body} }}")).collect();
    let script = format!(
        "const all = {{ {} }}; export default {{ fetch: (r) => all[new URL(r.url).pathname.slice(1)]() }};",
        handlers.join(", ")
    );
    let Some(packed) = pack_text(&script) else { return };
    harness.run(async {
        harness.deploy("x-missing", packed, Settings::default()).await.unwrap();
        for (name, _, expected) in cases {
            get(harness, &format!("/x-missing/{name}")).await;
            let log = harness.log_of("x-missing");
            assert!(log.contains(expected), "{name}: {log}");
        }
    });
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let harness = Harness::get();
    let script = r#"export default { fetch() {
        const stream = new ReadableStream({ async pull(controller) {
            controller.enqueue(new TextEncoder().encode("part"));
            await new Promise((resolve) => setTimeout(resolve, 20));
            throw new RangeError("no more");
        } });
        return new Response(stream);
    } };"#;
    let Some(packed) = pack_text(script) else { return };
    harness.run(async {
        harness.deploy("x-breaks", packed, Settings::default()).await.unwrap();
        let reply = get(harness, "/x-breaks").await;
        assert_eq!((reply.status.as_u16(), reply.broken), (200, true), "{}", body_of(&reply));
        let log = harness.log_of("x-breaks");
        assert!(log.contains("the response was cut off") && log.contains("no more"), "{log}");
    });
}
