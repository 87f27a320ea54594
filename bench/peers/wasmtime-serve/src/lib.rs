//! `functions/hello` as a WASIp2 component for `wasi:http/proxy`.
#![cfg(target_family = "wasm")]

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

const TEXT: &[u8] = b"Hello from a fresh sandbox\n";

struct Hello;

impl Guest for Hello {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        let fields = [
            ("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec()),
            ("content-length".to_owned(), TEXT.len().to_string().into_bytes()),
        ];
        let headers = Fields::from_list(&fields).expect("two plain headers");
        let response = OutgoingResponse::new(headers);
        let body = response.body().expect("taken once");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("taken once");
        stream.blocking_write_and_flush(TEXT).expect("27 bytes fit");
        drop(stream);
        OutgoingBody::finish(body, None).expect("as long as it says");
    }
}

wasip2::http::proxy::export!(Hello);
