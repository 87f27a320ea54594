//! What a function sees of a request that came through a trusted proxy, whichever ABI it speaks.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::Request;
use http_body_util::BodyExt as _;
use mayfly_abi::RequestHead;
use mayfly_core::RequestId;
use mayfly_core::record::Settings;
use mayfly_host::sandbox::Inbound;
use mayfly_serve::forwarded::{self, Trusted};
use mayfly_serve::inference;

use crate::harness::Harness;

const ENVIRONMENT: &str = include_str!("../guests/environment.wat");
const FRAME: &str = include_str!("../guests/frame.wat");

/// Sends a GET from 10.0.0.1 to port 3000, as the gateway would hand it on; gives status and body.
async fn get(
    harness: &Harness,
    path: &str,
    headers: &[(&str, &str)],
    trusted: bool,
) -> (u16, Vec<u8>) {
    let mut request = Request::builder().uri(path).header("host", "inner:3000");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let parts = request.body(()).unwrap().into_parts().0;
    let peer = SocketAddr::from(([10, 0, 0, 1], 5000));
    let networks = ["10.0.0.0/8".parse().unwrap()];
    let proxies = Trusted::new(if trusted { &networks[..] } else { &[] });
    let seen = if trusted { forwarded::read(&parts, peer, &proxies) } else { Ok(None) };
    let local = ([127, 0, 0, 1], 3000).into();
    let mut inbound = Inbound::new(parts, peer, local, RequestId::from_random(7));
    match seen {
        Ok(Some(seen)) => (inbound.remote, inbound.forwarded) = (seen.client, seen.forwarded),
        Ok(None) => {}
        Err(why) => inbound.misled = Some(why),
    }
    let response = inference::handle(&harness.node, inbound, None).await;
    let status = response.status().as_u16();
    (status, response.into_body().collect().await.map_err(drop).unwrap().to_bytes().to_vec())
}

const SAID: [(&str, &str); 6] = [
    ("x-forwarded-for", "evil, 192.0.2.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "shop.example"),
    ("x-forwarded-port", "8443"),
    ("x-forwarded-prefix", "/app"),
    ("accept", "*/*"),
];

#[test]
fn a_command_sees_the_client_and_the_address_it_used() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("proxied-env", ENVIRONMENT, Settings::default()).await;
        let variables = async |headers: &[(&str, &str)], trusted| -> BTreeMap<String, String> {
            let (status, body) = get(harness, "/proxied-env/a%20b?c=d", headers, trusted).await;
            let text = String::from_utf8(body).unwrap();
            assert_eq!(status, 200, "{text}");
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        for (headers, trusted, expected) in [
            (
                &SAID[..],
                true,
                [
                    ("X_FULL_URL", Some("https://shop.example:8443/app/proxied-env/a%20b?c=d")),
                    ("HTTPS", Some("on")),
                    ("SERVER_NAME", Some("shop.example")),
                    ("SERVER_PORT", Some("8443")),
                    ("SCRIPT_NAME", Some("/app/proxied-env")),
                    ("PATH_INFO", Some("/a b")),
                    ("REMOTE_ADDR", Some("192.0.2.7")),
                ],
            ),
            (
                &[("forwarded", "for=\"[2001:db8::7]:99\";proto=https;host=shop.example")],
                true,
                [
                    ("X_FULL_URL", Some("https://shop.example/proxied-env/a%20b?c=d")),
                    ("HTTPS", Some("on")),
                    ("SERVER_NAME", Some("shop.example")),
                    ("SERVER_PORT", Some("443")),
                    ("SCRIPT_NAME", Some("/proxied-env")),
                    ("PATH_INFO", Some("/a b")),
                    ("REMOTE_ADDR", Some("2001:db8::7")),
                ],
            ),
            // From who is not trusted it is data, and no more.
            (
                &SAID[..],
                false,
                [
                    ("X_FULL_URL", Some("http://inner:3000/proxied-env/a%20b?c=d")),
                    ("HTTPS", None),
                    ("SERVER_NAME", Some("inner")),
                    ("SERVER_PORT", Some("3000")),
                    ("SCRIPT_NAME", Some("/proxied-env")),
                    ("HTTP_X_FORWARDED_PROTO", Some("https")),
                    ("REMOTE_ADDR", Some("10.0.0.1")),
                ],
            ),
        ] {
            let variables = variables(headers, trusted).await;
            for (name, value) in expected {
                assert_eq!(variables.get(name).map(String::as_str), value, "{name} {headers:?}");
            }
        }
    });
}

#[test]
fn a_reactor_sees_the_same() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("proxied-frame", FRAME, Settings::default()).await;
        let seen = async |headers: &[(&str, &str)], trusted| {
            let (status, body) = get(harness, "/proxied-frame/x?y", headers, trusted).await;
            assert_eq!(status, 200);
            let line = RequestHead::decode(&body).unwrap().line;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            [line.scheme, line.authority, line.base, line.target, line.remote].map(text)
        };
        assert_eq!(
            seen(&SAID, true).await,
            ["https", "shop.example:8443", "/app/proxied-frame", "/x?y", "192.0.2.7:0"]
        );
        assert_eq!(
            seen(&SAID, false).await,
            ["http", "inner:3000", "/proxied-frame", "/x?y", "10.0.0.1:5000"]
        );
    });
}

#[test]
fn a_long_host_and_prefix_fit_into_a_head() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("proxied-long", FRAME, Settings::default()).await;
        let (host, prefix) = ("h".repeat(8000), format!("/{}", "p".repeat(8000)));
        let said = [("x-forwarded-host", &*host), ("x-forwarded-prefix", &*prefix)];
        let (status, body) = get(harness, "/proxied-long", &said, true).await;
        assert_eq!((status, RequestHead::decode(&body).unwrap().line.authority.len()), (200, 8000));
    });
}

#[test]
fn what_a_proxy_says_in_a_way_that_cannot_be_read_is_refused_and_logged() {
    let harness = Harness::get();
    harness.run(async {
        harness.deploy_wat("proxied-bad", ENVIRONMENT, Settings::default()).await;
        let bad = [("forwarded", "for=\"junk, for=192.0.2.1")];
        let (status, body) = get(harness, "/proxied-bad", &bad, true).await;
        let body = String::from_utf8(body).unwrap();
        assert!(status == 400 && body.contains("the Forwarded header is malformed"), "{body}");
        assert_eq!(get(harness, "/v2", &bad, true).await.0, 400);
        assert_eq!(get(harness, "/proxied-bad", &bad, false).await.0, 200);
    });
}
