//! `fetch`: scripts that call others.

use super::{Settings, pack_text};
use crate::harness::{Harness, body_of, get};
use crate::outbound::{Origin, rules, say};

/// Answers by path: `/to` leads to `/echo`, `/slow` takes its time, everything else says what it got.
fn origin() -> Origin {
    Origin::start(|head, body, stream| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (status, more, text) = match path {
            "/to" => ("303 See Other", "Location: /echo?again\r\n".to_owned(), String::new()),
            "/round" => ("302 Found", "Location: /round\r\n".to_owned(), String::new()),
            "/none" => ("204 No Content", String::new(), String::new()),
            "/slow" => {
                std::thread::sleep(std::time::Duration::from_millis(300));
                ("200 OK", String::new(), "slow".to_owned())
            }
            _ => {
                let text = format!("{head}{}", String::from_utf8_lossy(body));
                ("200 OK", "X-Own: kept\r\n".to_owned(), text)
            }
        };
        let length = text.len();
        say(stream, &format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\n\r\n{text}"))
    })
}

const SCRIPT: &str = r#"
const kinds = {
  async json(at) {
    const answer = await fetch(`${at}/echo`, {
      method: "POST", body: JSON.stringify({ a: 1 }), headers: { "x-mine": "1", authorization: "Bearer t" },
    });
    return [answer.status, answer.ok, answer.redirected, answer.headers.get("x-own"), (await answer.text()).toLowerCase()];
  },
  async redirect(at) {
    const answer = await fetch(`${at}/to`, { method: "POST", body: "b" });
    return [answer.status, answer.redirected, new URL(answer.url).pathname, (await answer.text()).split("\r\n")[0]];
  },
  async manual(at) {
    const answer = await fetch(`${at}/to`, { redirect: "manual" });
    return [answer.status, answer.headers.get("location")];
  },
  async round(at) { return fetch(`${at}/round`).catch((error) => `${error}`); },
  async none(at) {
    const answer = await fetch(new Request(`${at}/none`));
    return [answer.status, answer.body];
  },
  async many(at) {
    return Promise.all(["/slow", "/slow", "/echo"].map((path) => fetch(at + path).then((r) => r.status)));
  },
  async timeout(at) {
    const late = fetch(`${at}/slow`, { signal: AbortSignal.timeout(50) });
    return late.then(() => "no", (error) => error.name);
  },
  async timers(at) {
    const order = [];
    setTimeout(() => order.push("timer"), 20);
    await fetch(`${at}/slow`).then((r) => order.push(r.status));
    return order;
  },
  async denied() { return fetch("https://example.com/").catch((error) => `${error}`); },
  async strange() { return fetch("ftp://example.com/").catch((error) => error.name); },
};
export default {
  async fetch(request, env) {
    const kind = new URL(request.url).pathname.slice(1);
    if (kind === "passed") return fetch(`${env.AT}/echo`);
    return Response.json(await kinds[kind](env.AT));
  },
};"#;

#[test]
fn a_script_calls_others_as_it_would_elsewhere() {
    let harness = Harness::get();
    let Some(packed) = pack_text(SCRIPT) else { return };
    let origin = origin();
    harness.run(async {
        let mut settings = rules(&[&origin.url()], &["wall=10s"]);
        settings.env.insert("AT".into(), origin.url());
        harness.deploy("x-calls", packed, settings).await.unwrap();
        let asks = async |kind: &str| {
            let reply = get(harness, &format!("/x-calls/{kind}")).await;
            let log = harness.log_of("x-calls");
            assert_eq!(reply.status.as_u16(), 200, "{kind}: {}\n{log}", body_of(&reply));
            body_of(&reply)
        };
        let json = asks("json").await;
        for part in [
            r#"[200,true,false,"kept","post /echo http/1.1"#,
            "x-mine: 1",
            "authorization: bearer t",
            "content-type: text/plain;charset=utf-8",
            r#"{\"a\":1}"#,
        ] {
            assert!(json.contains(part), "{part}: {json}");
        }
        assert_eq!(asks("redirect").await, r#"[200,true,"/echo","GET /echo?again HTTP/1.1"]"#);
        assert_eq!(asks("manual").await, r#"[303,"/echo?again"]"#);
        assert!(asks("round").await.contains("more than 20 redirects"));
        assert_eq!(asks("none").await, "[204,null]");
        let before = origin.connections();
        assert_eq!(asks("many").await, "[200,200,200]");
        assert!(origin.connections() > before, "they are under way together");
        assert_eq!(asks("timeout").await, r#""TimeoutError""#);
        assert_eq!(asks("timers").await, r#"["timer",200]"#);
        assert!(asks("denied").await.contains("--outbound 'https://example.com'"));
        assert_eq!(asks("strange").await, r#""TypeError""#);
        let reply = get(harness, "/x-calls/passed").await;
        assert_eq!(reply.headers.get("x-own").unwrap(), "kept");
        assert!(body_of(&reply).starts_with("GET /echo HTTP/1.1"), "{}", body_of(&reply));
    });
}

#[test]
fn a_call_at_the_top_level_is_refused_at_the_deploy() {
    let harness = Harness::get();
    let script = "await fetch('https://example.com/'); export default { fetch() {} }";
    let Some(packed) = pack_text(script) else { return };
    let refused = harness.run(harness.deploy("x-early", packed, Settings::default()));
    let why = refused.expect_err(script).with_hint();
    assert!(why.contains("fetch is called while a request is answered"), "{why}");
}
