//! JSON text that is known to be valid, as brackets and scalars. Objects come out as scalars that nothing takes.

/// A piece of JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token<'t> {
    /// `[`
    Open,
    /// `]`
    Close,
    /// A number, string, `true`, `false`, `null`, or the rest of the text from a `{` on.
    Scalar(&'t str),
}

pub(crate) struct Tokens<'t> {
    text: &'t str,
}

impl<'t> Tokens<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text }
    }

    fn take(&mut self, n: usize) -> &'t str {
        let (taken, rest) = self.text.split_at(n.min(self.text.len()));
        self.text = rest;
        taken
    }
}

impl<'t> Iterator for Tokens<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        let bytes = self.text.as_bytes();
        let gap = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b',');
        let start = bytes.iter().position(|b| !gap(b))?;
        self.take(start);
        let bytes = self.text.as_bytes();
        Some(match bytes[0] {
            b'[' => {
                self.take(1);
                Token::Open
            }
            b']' => {
                self.take(1);
                Token::Close
            }
            b'"' => Token::Scalar(self.take(string_end(bytes))),
            b'{' => Token::Scalar(self.take(bytes.len())),
            _ => {
                let end = bytes.iter().position(|b| gap(b) || *b == b']').unwrap_or(bytes.len());
                Token::Scalar(self.take(end))
            }
        })
    }
}

/// Where the string that `bytes` begins with ends: after the first quote that no backslash escapes.
fn string_end(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_out_in_pieces() {
        let tokens: Vec<_> = Tokens::new(" [ -1.5e3,[\"a\\\"],\" , true] ]\n").collect();
        assert_eq!(
            tokens,
            [
                Token::Open,
                Token::Scalar("-1.5e3"),
                Token::Open,
                Token::Scalar("\"a\\\"],\""),
                Token::Scalar("true"),
                Token::Close,
                Token::Close,
            ]
        );
        let tokens: Vec<_> = Tokens::new("[{\"a\": [1]}]").collect();
        assert_eq!(tokens, [Token::Open, Token::Scalar("{\"a\": [1]}]")]);
    }
}
