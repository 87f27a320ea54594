//! What a script imports.

use super::lex::{Kind, Tokens, tokens};
use super::strip::Refused;

/// A file that is asked for by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) name: String,
    /// `with { type: "json" }`
    pub(super) kind: Option<String>,
    /// Where its name is.
    pub(super) at: usize,
}

/// All imports of JavaScript with names that are known before it runs.
///
/// # Errors
/// Where the text cannot be read.
pub(super) fn of(text: &str) -> Result<Vec<Import>, Refused> {
    let tokens = tokens(text)?;
    let mut found = Vec::new();
    let mut depth = 0usize;
    for at in 0..tokens.all.len() {
        let token = tokens.all[at];
        let word = tokens.text(at);
        match token.kind {
            // Pieces between two holes close one and open the next.
            Kind::TemplateOpen => depth += usize::from(word.starts_with('`')),
            Kind::Punct if matches!(word, "(" | "[" | "{") => depth += 1,
            Kind::Punct if matches!(word, ")" | "]" | "}") => depth = depth.saturating_sub(1),
            Kind::Template if tokens.other[at] != usize::MAX => depth = depth.saturating_sub(1),
            Kind::Word if at > 0 && matches!(tokens.text(at - 1), "." | "?.") => {}
            Kind::Word if word == "import" && tokens.is(at + 1, "(") => {
                let is_text = tokens.all[at + 2].kind == Kind::Text;
                let is_whole = tokens.is(at + 3, ")") || tokens.is(at + 3, ",");
                found.extend((is_text && is_whole).then(|| import(&tokens, at + 2)).flatten());
            }
            Kind::Word if depth == 0 && (word == "import" || word == "export") => {
                found.extend(source_of(&tokens, at).and_then(|at| import(&tokens, at)));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Where the name of the file is that an import or export statement is from.
pub(super) fn source_of(tokens: &Tokens<'_>, statement: usize) -> Option<usize> {
    let mut at = statement + 1;
    if tokens.all[at].kind == Kind::Text && tokens.text(statement) == "import" {
        return Some(at);
    }
    loop {
        let token = tokens.all[at];
        match token.kind {
            Kind::Word if tokens.text(at) == "from" && tokens.all[at + 1].kind == Kind::Text => {
                return Some(at + 1);
            }
            // What comes between is names, braces and commas.
            Kind::Word
                if at > statement + 1
                    && token.newline
                    && !tokens.is(at - 1, "as")
                    && !tokens.is(at - 1, ",")
                    && !tokens.is(at, "from")
                    && !tokens.is(at, "as") =>
            {
                return None;
            }
            Kind::Word | Kind::Text => at += 1,
            Kind::Punct if tokens.is(at, "{") && tokens.other[at] != usize::MAX => {
                at = tokens.other[at] + 1
            }
            Kind::Punct if matches!(tokens.text(at), "*" | ",") => at += 1,
            _ => return None,
        }
    }
}

fn import(tokens: &Tokens<'_>, at: usize) -> Option<Import> {
    let name = tokens.text(at);
    let name = name.get(1..name.len() - 1)?.to_owned();
    let mut with = at + 1;
    // `import("x", { with: { type: "json" } })`
    if tokens.is(with, ",")
        && tokens.is(with + 1, "{")
        && tokens.is(with + 2, "with")
        && tokens.is(with + 3, ":")
    {
        with += 3;
    }
    let mut kind = None;
    if (tokens.is(with, "with") || tokens.is(with, "assert") || tokens.is(with, ":"))
        && tokens.is(with + 1, "{")
    {
        for at in with + 2..tokens.other[with + 1] {
            let key = tokens.text(at).trim_matches(['"', '\'']);
            if key == "type" && tokens.is(at + 1, ":") && tokens.all[at + 2].kind == Kind::Text {
                kind = Some(tokens.text(at + 2).trim_matches(['"', '\'']).to_owned());
            }
        }
    }
    Some(Import { name, kind, at: tokens.all[at].start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_wherever_they_stand_and_nothing_else_is() {
        let text = r#"#!/usr/bin/env x
import a, { b as c,
  d } from "./a.js"; import * as e from './e.js' with { type: "json" }
import './side.js'
export * from "./g.js"; export { h } from './h.js'
export const i = 1, from = "./no.js"
const f = async () => { await import("./late.js"); await import(name); x.import("./no2.js") }
const s = "import './no3.js'", t = `${await import('./t.js', { with: { type: 'text' } })} import "./no4.js"`
// import "./no5.js"
const r = /import "x"/g, q = a / b / c; if (a) /import '.'/.test(b)
export default { import: "./no6.js" }
"#;
        let names: Vec<_> =
            of(text).unwrap().into_iter().map(|import| (import.name, import.kind)).collect();
        let name = |name: &str| (name.to_owned(), None);
        let typed = |name: &str, kind: &str| (name.to_owned(), Some(kind.to_owned()));
        assert_eq!(
            names,
            [
                name("./a.js"),
                typed("./e.js", "json"),
                name("./side.js"),
                name("./g.js"),
                name("./h.js"),
                name("./late.js"),
                typed("./t.js", "text")
            ]
        );
    }
}
