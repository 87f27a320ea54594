use super::*;

fn rule(text: &str) -> Rule {
    text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
}

fn allows(text: &str, method: &str, url: &str) -> bool {
    Target::parse(url).is_ok_and(|target| rule(text).allows(method, &target))
}

#[test]
fn a_rule_allows_what_it_names_and_nothing_beside() {
    for (text, url, expect) in [
        ("https://api.example.com", "https://api.example.com/any?x=1", true),
        ("https://api.example.com", "https://API.EXAMPLE.COM:443", true),
        ("https://api.example.com", "http://api.example.com", false),
        ("https://api.example.com", "https://api.example.com:8443", false),
        ("https://api.example.com", "https://api.example.com.evil.example", false),
        ("https://api.example.com", "https://xapi.example.com", false),
        ("https://*.example.com:8443/v1/...", "https://a.b.example.com:8443/v1/x", true),
        ("https://*.example.com:8443/v1/...", "https://a.example.com:8443/v1", true),
        ("https://*.example.com:8443/v1/...", "https://a.example.com:8443/v10", false),
        ("https://*.example.com:8443/v1/...", "https://example.com:8443/v1/x", false),
        ("https://*.example.com:8443/v1/...", "https://evilexample.com:8443/v1/x", false),
        ("https://a.example/v1/...", "https://a.example/v1/../admin", false),
        ("https://a.example/v1/...", "https://a.example/v1/%2e%2E/admin", false),
        ("https://a.example/v1/...", "https://a.example/v1/..;/admin", false),
        ("https://a.example/v1/...", "https://a.example/v1/..%2fadmin", false),
        ("https://a.example/v1/...", "https://a.example/v1/%252e%252e/admin", false),
        ("https://a.example/v1", "https://a.example/v1?x", true),
        ("https://a.example/v1", "https://a.example/v1/", false),
        ("https://*", "https://anything.example/x", true),
        ("https://*", "https://anything.example:8443/x", false),
        ("https://*:8443", "https://anything.example:8443/x", true),
        ("http://10.1.2.3:8080", "http://10.1.2.3:8080/", true),
        ("https://[2606:4700::1]", "https://[2606:4700:0::1]/", true),
        ("mayfly://other/...", "mayfly://other/path", true),
        ("mayfly://other/...", "mayfly://another/path", false),
    ] {
        assert_eq!(allows(text, "GET", url), expect, "{text} for {url}");
    }
    assert!(allows("GET,post https://a.example", "POST", "https://a.example"));
    assert!(!allows("GET https://a.example", "POST", "https://a.example"));
}

#[test]
fn a_rule_is_written_as_it_is_read() {
    for text in [
        "https://api.example.com",
        "GET,POST https://*.example.com:8443/v1/...",
        "http://*",
        "https://[2606:4700::1]:99/x",
        "mayfly://other/a/...",
    ] {
        assert_eq!(rule(text).to_string(), text);
        assert_eq!(rule(&rule(text).to_string()), rule(text));
    }
}

#[test]
fn what_is_no_rule_is_told_how_it_is_written() {
    for (text, why, example) in [
        ("api.example.com", "no scheme", "https://api.example.com"),
        ("*", "no scheme", "https://*"),
        ("", "no scheme", "https://*"),
        ("ftp://a.example", "no scheme", "https://*"),
        ("https://*.com", "top-level domain", "https://api.example.com"),
        ("https://a.*.com", "'*' stands for", "https://api.example.com"),
        ("https://**", "'*' stands for", "https://api.example.com"),
        ("https://10.0.0.0/8", "outbound.private", "https://10.0.0.0"),
        ("https://[fd00::]/8", "outbound.private", "https://[fd00::]"),
        ("https://u:p@a.example", "user or password", "https://api.example.com"),
        ("https://a.example?x", "no query", "https://api.example.com"),
        ("https://a.example/x#y", "no query", "https://api.example.com"),
        ("https://a.example.", "ends in a dot", "https://api.example.com"),
        ("https://a.example:0", "port", "https://api.example.com"),
        ("https://a.example:99999", "port", "https://api.example.com"),
        ("https://0x7f.1", "four decimal", "https://api.example.com"),
        ("https://*.1.2.3.4", "not before an address", "https://api.example.com"),
        ("https://a.example/v1/*", "/path/...", "https://api.example.com/v1/..."),
        ("https://a.example/../x", "/path/...", "https://api.example.com/v1/..."),
        ("GET; https://a.example", "commas", "GET,POST https://"),
        ("mayfly://*", "is named", "mayfly://"),
        ("mayfly://Other", "name of a function", "mayfly://"),
        ("https://ä.example", "neither a name", "https://api.example.com"),
    ] {
        let error = text.parse::<Rule>().unwrap_err();
        assert!(error.why.contains(why), "{text}: {error}");
        assert!(error.example.contains(example), "{text}: {error}");
    }
}
