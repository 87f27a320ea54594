//! Results as JUnit's XML, which every CI reads.

use std::fmt::Write as _;
use std::time::Duration;

/// How a case went.
#[derive(Debug)]
pub struct Result {
    /// What it is called.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// What was not as expected; nothing if it passed.
    pub wrong: Vec<String>,
}

/// The document.
#[must_use]
pub fn document(suite: &str, results: &[Result]) -> String {
    let failures = results.iter().filter(|result| !result.wrong.is_empty()).count();
    let time: Duration = results.iter().map(|result| result.took).sum();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" \
         time=\"{:.3}\">\n",
        escaped(suite),
        results.len(),
        time.as_secs_f64()
    );
    for Result { name, took, wrong } in results {
        let head = format!(
            "  <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
            escaped(suite),
            escaped(name),
            took.as_secs_f64()
        );
        let _ = match wrong.first() {
            None => writeln!(text, "{head}/>"),
            Some(first) => writeln!(
                text,
                "{head}>\n    <failure message=\"{}\">{}</failure>\n  </testcase>",
                escaped(first),
                escaped(&wrong.join("\n"))
            ),
        };
    }
    text + "</testsuite>\n"
}

/// Text as XML has it. Control characters are no part of XML 1.0 at all, escaped or not.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_its_words_and_no_word_breaks_the_document() {
        let took = Duration::from_millis(1500);
        let results = [
            Result { name: "good".into(), took, wrong: Vec::new() },
            Result {
                name: "a \"b\" <c>".into(),
                took,
                wrong: vec!["x & \u{1b}[31m".into(), "y".into()],
            },
        ];
        let text = document("hello", &results);
        assert!(text.contains("tests=\"2\" failures=\"1\" time=\"3.000\""), "{text}");
        assert!(text.contains("name=\"good\" time=\"1.500\"/>"), "{text}");
        assert!(text.contains("name=\"a &quot;b&quot; &lt;c&gt;\""), "{text}");
        assert!(text.contains(">x &amp; \u{fffd}[31m&#10;y</failure>"), "{text}");
    }
}
