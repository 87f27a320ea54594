use http::{HeaderValue, Request};

use super::*;

/// Proxies at 10.0.0.0/8 and ::1 are trusted; the peer is 10.0.0.1.
fn trusted() -> Trusted {
    Trusted::new(&["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()])
}

fn parts(headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri("/x").header("host", "inner:3000");
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request.body(()).unwrap().into_parts().0
}

fn seen(headers: &[(&str, &str)]) -> Result<Option<Seen>, &'static str> {
    read(&parts(headers), SocketAddr::from(([10, 0, 0, 1], 5000)), &trusted())
}

fn client(headers: &[(&str, &str)]) -> String {
    seen(headers).unwrap().unwrap().client.to_string()
}

/// Scheme, authority and prefix, as far as they were said.
fn address(headers: &[(&str, &str)]) -> (Option<bool>, Option<String>, String) {
    let forwarded = seen(headers).unwrap().unwrap().forwarded.map(|boxed| *boxed);
    let Forwarded { secure, authority, prefix } = forwarded.unwrap_or_default();
    (secure, authority, prefix)
}

#[test]
fn only_networks_that_are_named_are_trusted() {
    let trusted = trusted();
    for (address, expected) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("::1", true),
        ("11.0.0.1", false),
        ("::2", false),
        ("127.0.0.1", false),
    ] {
        assert_eq!(trusted.contains(address.parse().unwrap()), expected, "{address}");
    }
    assert!(!Trusted::default().contains([127, 0, 0, 1].into()));
}

#[test]
fn who_says_nothing_is_the_client() {
    assert_eq!(seen(&[]), Ok(None));
    assert_eq!(seen(&[("x-forwarded-by", "1.2.3.4"), ("x-real-ip", "1.2.3.4")]), Ok(None));
    assert_eq!(client(&[("x-forwarded-proto", "https")]), "10.0.0.1:5000");
}

#[test]
fn the_client_is_the_last_from_the_right_that_is_no_proxy() {
    for (value, expected) in [
        ("192.0.2.1", "192.0.2.1:0"),
        ("192.0.2.1:99", "192.0.2.1:99"),
        ("2001:db8::1", "[2001:db8::1]:0"),
        ("[2001:db8::1]:99", "[2001:db8::1]:99"),
        ("[2001:db8::1]", "[2001:db8::1]:0"),
        ("::ffff:192.0.2.1", "192.0.2.1:0"),
        // What the client wrote itself, and what proxies added.
        ("127.0.0.1, 192.0.2.1", "192.0.2.1:0"),
        ("junk \"(, 10.9.9.9, 192.0.2.1", "192.0.2.1:0"),
        ("192.0.2.1, 10.0.0.2, ::1", "192.0.2.1:0"),
        ("192.0.2.1, 10.0.0.2, 192.0.2.2, 10.0.0.3", "192.0.2.2:0"),
        // Nobody but proxies: the first of them asks for itself.
        ("10.0.0.3, 10.0.0.2", "10.0.0.3:0"),
        // Who is hidden stays so.
        ("unknown", "10.0.0.1:5000"),
        ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2:0"),
        (" , 192.0.2.1 ,", "192.0.2.1:0"),
    ] {
        assert_eq!(client(&[("x-forwarded-for", value)]), expected, "{value}");
    }
    let lines = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "192.0.2.1, 10.0.0.2")];
    assert_eq!(client(&lines), "192.0.2.1:0");
    let standard = |value| client(&[("forwarded", value)]);
    assert_eq!(
        standard("for=1.1.1.1, For=\"[2001:db8::1]:99\";proto=http, for=10.0.0.2"),
        "[2001:db8::1]:99"
    );
    assert_eq!(standard("for=_hidden, for=10.0.0.2;by=_me"), "10.0.0.2:0");
    assert_eq!(standard("proto=https"), "10.0.0.1:5000");
}

#[test]
fn scheme_host_port_and_prefix_are_the_clients() {
    let some = |text: &str| Some(text.to_owned());
    let host = ("x-forwarded-host", "a.example");
    for (headers, expected) in [
        (&[("x-forwarded-proto", "https")][..], (Some(true), None, "")),
        (&[("x-forwarded-proto", "HTTP")], (Some(false), None, "")),
        (&[host], (None, some("a.example"), "")),
        (&[("x-forwarded-host", "a.example:8443")], (None, some("a.example:8443"), "")),
        // The scheme's own port is not named, and any other is; it goes before the host's.
        (
            &[host, ("x-forwarded-port", "443"), ("x-forwarded-proto", "https")],
            (Some(true), some("a.example"), ""),
        ),
        (&[host, ("x-forwarded-port", "443")], (None, some("a.example:443"), "")),
        (&[("x-forwarded-port", "8080")], (None, some("inner:8080"), "")),
        (&[("x-forwarded-port", "80")], (None, some("inner"), "")),
        (&[("x-forwarded-prefix", "/app")], (None, None, "/app")),
        (&[("x-forwarded-prefix", "/app/v1/")], (None, None, "/app/v1")),
        (&[("x-forwarded-prefix", "/")], (None, None, "")),
        (&[("x-forwarded-prefix", "")], (None, None, "")),
        // Values of the client's hop, where each proxy added one.
        (
            &[
                ("x-forwarded-for", "1.1.1.1, 192.0.2.1, 10.0.0.2"),
                ("x-forwarded-proto", "http, https, http"),
                ("x-forwarded-host", "evil.example, a.example, b.example"),
                ("x-forwarded-prefix", "/evil, /outer, /inner"),
            ],
            (Some(true), some("a.example"), "/outer/inner"),
        ),
        // And of the only one, where the last has set it anew.
        (
            &[("x-forwarded-for", "192.0.2.1, 10.0.0.2"), ("x-forwarded-proto", "https")],
            (Some(true), None, ""),
        ),
        (
            &[(
                "forwarded",
                "for=192.0.2.1;proto=https;host=\"a.example:8443\", for=10.0.0.2;proto=http;host=b",
            )],
            (Some(true), some("a.example:8443"), ""),
        ),
        (
            &[("forwarded", "proto=https"), ("x-forwarded-prefix", "/app")],
            (Some(true), None, "/app"),
        ),
    ] {
        let (secure, authority, prefix) = expected;
        assert_eq!(address(headers), (secure, authority, prefix.to_owned()), "{headers:?}");
    }
}

#[test]
fn what_cannot_be_read_in_one_way_is_refused() {
    for (name, value) in [
        ("x-forwarded-for", "somebody"),
        ("x-forwarded-for", "192.0.2.1, a b"),
        ("x-forwarded-for", "192.0.2.1:x"),
        ("x-forwarded-for", "192.0.2.256"),
        ("x-forwarded-for", "[::1"),
        ("x-forwarded-for", "\u{e9}, 192.0.2.1"),
        ("x-forwarded-proto", "ftp"),
        ("x-forwarded-host", "a.example/x"),
        ("x-forwarded-host", "user@a.example"),
        ("x-forwarded-host", ":80"),
        ("x-forwarded-port", "0"),
        ("x-forwarded-port", "+80"),
        ("x-forwarded-port", "65536"),
        ("x-forwarded-prefix", "app"),
        ("x-forwarded-prefix", "//evil.example"),
        ("x-forwarded-prefix", "/a/../b"),
        ("x-forwarded-prefix", "/a?b"),
        ("x-forwarded-prefix", "/a%2fb"),
        ("forwarded", "for"),
        ("forwarded", "for="),
        ("forwarded", "=x"),
        ("forwarded", "for=192.0.2.1 for=192.0.2.2"),
        ("forwarded", "for=192.0.2.1;for=192.0.2.2"),
        ("forwarded", "for=\"192.0.2.1"),
        ("forwarded", "for=\"junk, for=192.0.2.1"),
        ("forwarded", "for=192.0.2.1\"x\""),
        ("forwarded", "for = 192.0.2.1"),
        ("forwarded", "for=somebody"),
        ("forwarded", "proto=ftp"),
        ("forwarded", "by=?"),
        ("forwarded", "host=\"a/b\""),
    ] {
        assert!(seen(&[(name, value)]).is_err(), "{name}: {value}");
    }
}

#[test]
fn both_families_must_say_the_same() {
    let standard = ("forwarded", "for=192.0.2.1;proto=https;host=A.example");
    let same = [
        standard,
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.example"),
    ];
    assert_eq!(client(&same), "192.0.2.1:0");
    assert_eq!(address(&same), (Some(true), Some("A.example".into()), String::new()));
    for other in [
        ("x-forwarded-for", "192.0.2.2"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "b.example"),
    ] {
        let error = seen(&[standard, other]).unwrap_err();
        assert!(error.contains("say different things"), "{error}");
    }
}

#[test]
fn lists_have_bounds() {
    let long = |one: &str, n: usize| vec![one; n].join(",");
    for (name, one) in [("x-forwarded-for", "10.0.0.2"), ("forwarded", "for=10.0.0.2")] {
        assert_eq!(client(&[(name, &long(one, MOST))]), "10.0.0.2:0", "{name}");
        assert!(seen(&[(name, &long(one, MOST + 1))]).is_err(), "{name}");
    }
    let parameters =
        |n: usize| (0..n).map(|i| format!("x{i}=y;")).collect::<String>() + "for=192.0.2.1";
    assert_eq!(client(&[("forwarded", &parameters(15))]), "192.0.2.1:0");
    assert!(seen(&[("forwarded", &parameters(16))]).is_err());
}

#[test]
fn the_grammar_is_read_to_the_letter() {
    let hops = |text: &str| {
        let mut hops = Vec::new();
        element::parse(text, &mut hops).map(|()| hops)
    };
    let address = |text: &str| Some(Node::Address(text.parse().unwrap(), None));
    let one = |hop: Hop| Ok(vec![hop]);
    assert_eq!(hops(""), Ok(vec![]));
    assert_eq!(hops(" ,, "), Ok(vec![]));
    assert_eq!(hops("for=192.0.2.1"), one(Hop { node: address("192.0.2.1"), ..Hop::default() }));
    assert_eq!(
        hops("for=\"[2001:db8::1]\""),
        one(Hop { node: address("2001:db8::1"), ..Hop::default() })
    );
    // Without its quotes, as some write it.
    assert_eq!(
        hops("for=[2001:db8::1]"),
        one(Hop { node: address("2001:db8::1"), ..Hop::default() })
    );
    assert_eq!(hops("for=\"_a:_b\""), one(Hop { node: Some(Node::Hidden), ..Hop::default() }));
    assert_eq!(
        hops("for=\"192.0.2.1:_b\""),
        one(Hop { node: address("192.0.2.1"), ..Hop::default() })
    );
    let host = Some("a\"b".to_owned());
    assert_eq!(
        hops("host=\"a\\\"b\" ; proto=HTTPS;"),
        one(Hop { host, secure: Some(true), node: None })
    );
    assert_eq!(hops("secret=\"a,b;c\";by=_p, for=unknown").unwrap().len(), 2);
}
