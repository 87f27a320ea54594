//! The ceiling: the gateway's HTTP library with nothing behind it. The same crate versions and runtime as the gateway's, one
//! fixed answer, and the settings that make it fastest. With the gateway's (limits for heads, which take hyper an
//! allocation; responses never held back; sockets polled every 16 turns in place of 61) it spends a tenth more CPU per
//! request, and a ceiling is not to be lowered by what we chose.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response =
        Response::new(Full::new(Bytes::from_static(b"Hello from a fresh sandbox\n")));
    let text = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    Ok(response)
}

async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(None).pipeline_flush(true);
            // A client that breaks off is no concern of a benchmark's server.
            let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("usage: peer-bare-hyper ADDRESS")?;
    if address == "--version" {
        println!("hyper 1, as in Cargo.lock, mayfly-bench {}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(address.parse()?))
}
