//! A program that speaks CGI: the request is in its environment and on stdin, and what it prints is the response.

use std::env;
use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    match (variable("REQUEST_METHOD").as_str(), variable("PATH_INFO").as_str()) {
        ("POST", "" | "/") => {
            out.write_all(b"Content-Type: application/octet-stream\n\n")?;
            io::copy(&mut io::stdin().lock(), &mut out)?;
        }
        (_, "" | "/") => {
            write!(out, "Content-Type: text/plain; charset=utf-8\n\n")?;
            write!(out, "{}", greeting(&variable("QUERY_STRING")))?;
        }
        (_, "/lines") => {
            write!(out, "Content-Type: text/plain; charset=utf-8\n\n")?;
            for n in 1..=3 {
                writeln!(out, "line {n}")?;
            }
        }
        _ => write!(out, "Status: 404\nContent-Type: text/plain; charset=utf-8\n\nno such page\n")?,
    }
    Ok(())
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn greeting(query: &str) -> String {
    match query.strip_prefix("name=") {
        Some(name) => format!("Hello {name}, from Rust\n"),
        None => "Hello from Rust\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greets_by_name() {
        assert_eq!(greeting("name=Ada"), "Hello Ada, from Rust\n");
    }
}
