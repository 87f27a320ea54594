use super::*;

fn find(pattern: &str, text: &str) -> Option<(usize, usize)> {
    Regex::new(pattern).unwrap().find(&mut Search::default(), text, 0)
}

fn is_all(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).unwrap().is_all(&mut Search::default(), text)
}

#[test]
fn the_first_match_is_found_and_of_those_the_longest() {
    assert_eq!(find("a|ab|abc", "xxabcd"), Some((2, 5)));
    assert_eq!(find("[a-zA-Z0-9_]+", "  été x_1 "), Some((4, 5)));
    assert_eq!(find("a+?", "baaa"), Some((1, 4)));
    assert_eq!(find("", "abc"), Some((0, 0)));
    assert_eq!(find("b*", "abb"), Some((0, 0)));
    assert_eq!(find("z", "abc"), None);
    assert_eq!(find("(a|b)*c|d", "xabad"), Some((4, 5)));
}

#[test]
fn a_search_goes_on_behind_what_it_found_and_sees_what_is_before() {
    let word = Regex::new(r"\b\w\w+\b").unwrap();
    let (mut search, text) = (Search::default(), "it is a test");
    let (mut from, mut found) = (0, Vec::new());
    while let Some((start, end)) = word.find(&mut search, text, from) {
        found.push(&text[start..end]);
        from = end;
    }
    assert_eq!(found, ["it", "is", "test"]);
    assert_eq!(Regex::new(r"\bs").unwrap().find(&mut search, "is", 1), None);
    assert_eq!(Regex::new("^s").unwrap().find(&mut search, "is", 1), None);
}

#[test]
fn all_of_a_text_is_a_match_or_is_not() {
    for (pattern, text, right) in [
        (r"www.[\w.-]+\.\bcom\b", "www.google.com", true),
        (r"www.[\w.-]+\.\bcom\b", "www.google.com ", false),
        (r"(\W|^)[\w.\-]{0,25}@(yahoo|gmail)\.com(\W|$)", "a@gmail.com", true),
        ("a{2,3}", "aaaa", false),
        ("a{2,}", "aaaa", true),
        ("a{,2}", "a{,2}", true),
        ("x{0}", "", true),
        ("(?i)straSSe k", "STRAſſE \u{212a}", true),
        ("(?i:a)b", "AB", false),
        ("a(?i)b", "aB", true),
        ("(?s:.)(?-s:.)", "\n\n", false),
        ("a$^b", "a\nb", false),
        ("(?m)a$\n^b", "a\nb", true),
        ("[^a-c]", "d", true),
        ("[^a-c]", "\n", true),
        (".", "\n", false),
        ("[]a-]+", "]-a", true),
        (r"[\d\-x]+", "1-x", true),
        ("[[:alpha:]_]+", "aZ_", true),
        ("[[:^alpha:]]+", "1é", true),
        (r"\x41\x{e9}\101\.\Q.*\E", "AéA..*", true),
        (r"\D\S\W", "é\u{b}é", true),
        ("(?P<year>[0-9]{4})-(?<day>..)", "2026-11", true),
        ("a||b", "", true),
        ("", "", true),
        ("é+", "éé", true),
    ] {
        assert_eq!(is_all(pattern, text), right, "{pattern} {text}");
    }
}

#[test]
fn what_re2_refuses_or_needs_tables_for_is_refused() {
    for pattern in [
        "(",
        ")",
        "a**",
        "*",
        "[a",
        "[b-a]",
        r"\1",
        r"\p{Greek}",
        r"[\pL]",
        "(?=a)",
        "(?<!a)",
        "a{1001}",
        "a{3,2}",
        r"\y",
        r"\xg",
        "(?i)é",
        "(?u)a",
        "[[:letters:]]",
        "\\",
        r"[a-\d]",
    ] {
        let error = Regex::new(pattern).unwrap_err().to_string();
        assert!(error.contains("regular expression"), "{pattern}: {error}");
    }
}

#[test]
fn no_expression_is_too_much() {
    let deep = "(".repeat(5000) + &")".repeat(5000);
    assert!(Regex::new(&deep).is_err());
    assert!(Regex::new("((a{1000}){1000}){1000}").is_err());
    assert!(is_all("(((){1000}){1000}){1000}", ""));
    // By trying one way after the other it would take 2^40 steps.
    let (a, hard) = ("a".repeat(40), "(a?){40}a{40}");
    assert!(is_all(hard, &a) && !is_all(hard, &a[1..]));
}

#[test]
fn an_expression_knows_whether_it_can_be_nothing() {
    for (pattern, right) in
        [("a*", true), ("a+", false), (r"\b", true), ("a|", true), ("^a", false)]
    {
        assert_eq!(Regex::new(pattern).unwrap().may_be_empty(), right, "{pattern}");
    }
}
