//! Sends a request back: its body as it arrives, or, for a request without one, what its head said.

use std::fmt::Write;

use mayfly::http::{Method, header::CONTENT_TYPE};
use mayfly::{Request, Response, Result};

fn echo(request: Request) -> Result<Response> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::DELETE) {
        return Ok(Response::new(describe(&request)?.into()));
    }
    let content_type = request.headers().get(CONTENT_TYPE).cloned();
    // A request's body as a response's body is passed on piece by piece, so it may be endless.
    let mut response: Response = Response::new(request.into_body());
    if let Some(content_type) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    Ok(response)
}

fn describe(request: &Request) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "{} {} {:?}", request.method(), request.uri(), request.version())?;
    for (name, value) in request.headers() {
        writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
    }
    Ok(text)
}

mayfly::export!(fn echo);

#[cfg(test)]
mod tests {
    use super::*;
    use mayfly::{Body, http};

    #[test]
    fn a_get_is_described_and_a_post_sent_back() {
        let get = http::Request::get("/a?b=c").header("x-a", "1").body(Body::empty()).unwrap();
        assert_eq!(echo(get).unwrap().into_body().text().unwrap(), "GET /a?b=c HTTP/1.1\nx-a: 1\n");
        let post =
            http::Request::post("/").header(CONTENT_TYPE, "a/b").body(Body::from("hi")).unwrap();
        let response = echo(post).unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], "a/b");
        assert_eq!(response.into_body().text().unwrap(), "hi");
    }
}
