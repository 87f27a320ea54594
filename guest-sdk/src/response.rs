use anyhow::anyhow;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use mayfly_abi::{ERR_CLOSED, HeadWriter, Truncated, limits};

use crate::body::BodyWriter;
use crate::error::{ClientGone, find};
use crate::{Body, Error, Response, Result, host};

/// A head of a few headers fits; a longer one is encoded again into a buffer as large as a head may be.
const USUAL_HEAD: usize = 512;

/// The response that tells the client of `error`.
pub(crate) fn problem(error: &Error) -> Response {
    let mut response = Response::new(
        Body::from(error.problem().into_bytes()).with_content_type("application/problem+json"),
    );
    *response.status_mut() = error.status();
    response
}

/// Sends head and body.
///
/// # Errors
/// When the head breaks a cap, when the body's stream fails, or when the host refuses either.
/// A client that went away is no error.
pub(crate) fn send(mut response: Response) -> Result<()> {
    if let Some(content_type) = response.body().content_type()
        && !response.headers().contains_key(CONTENT_TYPE)
    {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let sent =
        start(&response).and_then(|()| response.into_body().finish(&mut BodyWriter::client()));
    match sent {
        Err(error) if find::<ClientGone>(&error).is_some() => Ok(()),
        sent => sent,
    }
}

fn start(response: &Response) -> Result<()> {
    let ready = response.body().ready();
    let mut usual = [0; USUAL_HEAD];
    let started = match encode(response, &mut usual) {
        Ok(length) => host::response_start(&usual[..length], ready),
        Err(Truncated) => {
            let mut large = vec![0; limits::RESPONSE_HEAD_BYTES];
            let length = encode(response, &mut large).map_err(|Truncated| {
                let (headers, bytes) = (limits::RESPONSE_HEADERS, limits::RESPONSE_HEAD_BYTES);
                anyhow!("the response's head is over {headers} headers or {bytes} bytes")
            })?;
            host::response_start(&large[..length], ready)
        }
    };
    started.map_err(|refused| match refused {
        ERR_CLOSED => ClientGone.into(),
        code => anyhow!("the host refused to start the response ({code})"),
    })
}

fn encode(response: &Response, buffer: &mut [u8]) -> Result<usize, Truncated> {
    if response.headers().len() > limits::RESPONSE_HEADERS {
        return Err(Truncated);
    }
    let mut writer = HeadWriter::response(buffer, response.status().as_u16())?;
    for (name, value) in response.headers() {
        writer.header(name.as_str().as_bytes(), value.as_bytes())?;
    }
    Ok(writer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mayfly_abi::ResponseHead;

    #[test]
    fn a_head_is_encoded_with_every_value_of_a_name() {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = http::StatusCode::CREATED;
        response.headers_mut().append("set-cookie", HeaderValue::from_static("a=1"));
        response.headers_mut().append("set-cookie", HeaderValue::from_static("b=2"));
        let mut buffer = [0; 64];
        let length = encode(&response, &mut buffer).unwrap();
        let head = ResponseHead::decode(&buffer[..length]).unwrap();
        assert_eq!(head.status, 201);
        assert!(
            head.headers()
                .eq([(&b"set-cookie"[..], &b"a=1"[..]), (&b"set-cookie"[..], &b"b=2"[..])])
        );
    }

    #[test]
    fn a_head_over_the_caps_is_refused_before_the_host_sees_it() {
        let mut response = Response::new(Body::empty());
        for _ in 0..=limits::RESPONSE_HEADERS {
            response.headers_mut().append("a", HeaderValue::from_static("b"));
        }
        let error = start(&response).unwrap_err();
        assert!(error.to_string().contains("over 100 headers"), "{error}");
    }

    #[test]
    fn a_problem_has_the_errors_status_and_type() {
        let response = problem(&Error::not_found("nothing here"));
        assert_eq!(response.status(), 404);
        assert_eq!(response.body().content_type(), Some("application/problem+json"));
    }
}
