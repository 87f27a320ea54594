use std::io::Write as _;

use mayfly::http::Method;
use mayfly::{Body, Error, Request, Response, Result};

fn handle(request: Request) -> Result<Response> {
    match (request.method(), request.uri().path()) {
        // A request's body as the response's: it goes out as it comes in.
        (&Method::POST, "/") => Ok(Response::new(request.into_body())),
        (_, "/") => Ok(Response::new(greeting(request.uri().query()).into())),
        (_, "/lines") => Ok(Response::new(Body::stream(|out| {
            for n in 1..=3 {
                writeln!(out, "line {n}")?;
            }
            Ok(())
        }))),
        _ => Err(Error::not_found("no such page").into()),
    }
}

fn greeting(query: Option<&str>) -> String {
    match query.and_then(|query| query.strip_prefix("name=")) {
        Some(name) => format!("Hello {name}, from Rust\n"),
        None => "Hello from Rust\n".to_owned(),
    }
}

mayfly::export!(fn handle);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greets_by_name() {
        assert_eq!(greeting(Some("name=Ada")), "Hello Ada, from Rust\n");
    }

    #[test]
    fn sends_a_body_back() {
        let mut request = Request::new("to and fro".into());
        *request.method_mut() = Method::POST;
        let response = handle(request).unwrap();
        assert_eq!(response.into_body().text().unwrap(), "to and fro");
    }
}
