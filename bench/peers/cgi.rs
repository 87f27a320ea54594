//! A process per request, as CGI has it: bare hyper in front, `peer-cgi-hello` started for each request, its standard
//! output the answer. What isolation costs if the operating system gives it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::process::Command;

async fn answer(
    program: Arc<PathBuf>,
    request: Request<Incoming>,
) -> anyhow::Result<Response<Full<Bytes>>> {
    let output = Command::new(program.as_path())
        .env_clear()
        .env("GATEWAY_INTERFACE", "CGI/1.1")
        .env("REQUEST_METHOD", request.method().as_str())
        .env("PATH_INFO", request.uri().path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .await?;
    anyhow::ensure!(output.status.success(), "the program failed");
    let end = output.stdout.windows(2).position(|two| two == b"\n\n").context("no blank line")?;
    let body = Bytes::from(output.stdout).slice(end + 2..);
    let text = "text/plain; charset=utf-8";
    Ok(Response::builder().header(header::CONTENT_TYPE, text).body(Full::new(body))?)
}

async fn serve(address: SocketAddr, program: Arc<PathBuf>) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let program = program.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let program = program.clone();
                async move {
                    let response = answer(program, request).await.unwrap_or_else(|error| {
                        let mut response = Response::new(Full::new(Bytes::from(error.to_string())));
                        *response.status_mut() = StatusCode::BAD_GATEWAY;
                        response
                    });
                    Ok::<_, Infallible>(response)
                }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("usage: peer-cgi ADDRESS")?;
    if address == "--version" {
        println!("mayfly-bench {}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let program = std::env::current_exe()?.with_file_name("peer-cgi-hello");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(address.parse()?, Arc::new(program)))
}
