//! What the gateway answers itself: health, readiness, and what it can do at all.

use http::{Method, Version};
use mayfly_core::record::Settings;

use crate::harness::{Harness, Reply, body_of, read, request, send};

async fn ask(harness: &Harness, method: Method, path: &str) -> Reply {
    read(send(harness, request(method, path), None).await).await
}

#[test]
fn health_is_answered_whatever_routes_there_are() {
    let harness = Harness::get();
    harness.run(async {
        for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
            for method in [Method::GET, Method::OPTIONS] {
                let reply = ask(harness, method, path).await;
                assert_eq!((reply.status.as_u16(), body_of(&reply)), (200, body.into()), "{path}");
                assert_eq!(reply.headers["cache-control"], "no-store");
                assert!(reply.headers.contains_key("x-request-id"));
            }
            let reply = ask(harness, Method::HEAD, path).await;
            assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0), "{path}");
            let reply = ask(harness, Method::POST, path).await;
            assert_eq!(reply.status, 405, "{path}");
            assert!(reply.headers["allow"].to_str().unwrap().starts_with("GET, HEAD"), "{path}");
            // As HAProxy asks, unless it is told of a host.
            let mut bare = request(Method::GET, path);
            (*bare.version_mut(), _) = (Version::HTTP_10, bare.headers_mut().remove("host"));
            assert_eq!(read(send(harness, bare, None).await).await.status, 200, "{path}");
        }
        for path in ["/healthz/", "/healthz/x", "/livez"] {
            assert_eq!(ask(harness, Method::GET, path).await.status, 404, "{path}");
        }
    });
}

#[test]
fn options_say_what_the_gateway_can_do_and_a_functions_own_come_first() {
    let harness = Harness::get();
    harness.run(async {
        for path in ["*", "/"] {
            let reply = ask(harness, Method::OPTIONS, path).await;
            assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0), "{path}");
            assert_eq!(reply.headers["allow"], "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        }
        see_front_page(harness).await;
        assert_eq!(ask(harness, Method::GET, "*").await.status, 400);
        assert_eq!(ask(harness, Method::OPTIONS, "/nobody").await.status, 404);
        let settings = Settings { routes: vec!["/".into()], ..Settings::default() };
        let answers = r#"(module
            (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\c8\00\00\00")
            (func (export "mayfly_abi_1"))
            (func (export "mayfly_handle")
                (drop (call $start (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 1)))))"#;
        harness.deploy_wat("own-root", answers, settings).await;
        assert_eq!(ask(harness, Method::OPTIONS, "/").await.status, 200, "the function's");
        let reply = ask(harness, Method::GET, "/").await;
        assert!(reply.status == 200 && !reply.headers.contains_key("vary"), "the function's");
        assert_eq!(ask(harness, Method::OPTIONS, "*").await.status, 204);
        harness.remove("own-root").await;
    });
}

/// While nobody has `/`: for people and for programs.
async fn see_front_page(harness: &Harness) {
    let browser = "text/html,application/xhtml+xml,*/*;q=0.8";
    for (accept, kind) in [
        (Some(browser), "text/html; charset=utf-8"),
        (Some("application/json"), "application/json"),
        (Some("*/*"), "application/json"),
        (Some("text/html;q=0, */*"), "application/json"),
        (None, "application/json"),
    ] {
        let mut asked = request(Method::GET, "/");
        if let Some(accept) = accept {
            asked.headers_mut().insert("accept", accept.parse().unwrap());
        }
        let reply = read(send(harness, asked, None).await).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.headers["content-type"]),
            (200, &kind.parse().unwrap())
        );
        assert_eq!(
            (&reply.headers["vary"], &reply.headers["cache-control"]),
            (&"Accept".parse().unwrap(), &"no-store".parse().unwrap())
        );
        assert!(body_of(&reply).contains("mayfly deploy model.onnx"));
    }
    let told: serde_json::Value =
        serde_json::from_slice(&ask(harness, Method::GET, "/?x").await.body).unwrap();
    assert_eq!(told["functions"], "/NAME");
    assert!(ask(harness, Method::HEAD, "/").await.body.is_empty());
    assert_eq!(ask(harness, Method::POST, "/").await.status, 404);
    assert_eq!(ask(harness, Method::GET, "//").await.status, 404);
}
