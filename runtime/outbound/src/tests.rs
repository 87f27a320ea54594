//! What is reached and what is not, against name servers and origins of this process.

mod certificates;
mod rebinding;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method};
use mayfly_core::FunctionName;
use mayfly_core::outbound::{Rules, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Addresses by a table.
struct Table(Vec<(&'static str, Vec<IpAddr>)>);

impl Names for Table {
    fn resolve(&self, host: &str) -> Resolving {
        let found = self.0.iter().find(|(name, _)| *name == host).map(|(_, ips)| ips.clone());
        Box::pin(async move { found.ok_or_else(|| Fault::new(Code::Name, "no such host")) })
    }
}

fn client(names: Arc<dyn Names>, private: &[&str], roots: Roots) -> Arc<Client> {
    let private = private.iter().map(|net| net.parse().unwrap()).collect();
    Client::new(OutboundConfig {
        names: Some(names),
        private,
        roots,
        slots: 100,
        ..OutboundConfig::default()
    })
}

fn access(client: &Arc<Client>, rules: &[&str]) -> Arc<Access> {
    let name = FunctionName::new("caller").unwrap();
    Access::new(client.clone(), &name, Rules::parse(rules).unwrap(), &[])
}

/// The status of an answer, read to its end, or why there is none.
async fn get(access: &Access, url: &str) -> Result<u16, Fault> {
    let target = Target::parse(url).unwrap();
    let call =
        Call { method: Method::GET, target, headers: HeaderMap::new(), timeout: None, hops: 0 };
    let mut fetch = access.fetch(call, CallBody::Whole(Bytes::new()))?;
    let status = std::future::poll_fn(|cx| {
        fetch.poll_head(cx).map(|head| head.map(|head| head.status.as_u16()))
    })
    .await?;
    while !std::future::poll_fn(|cx| fetch.poll_read(cx, 4096)).await?.is_empty() {}
    Ok(status)
}

/// Accepts, counts, and answers each connection's first request.
async fn origin(address: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
                let _ = stream.write_all(answer).await;
            });
        }
    });
    (address, count)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

#[test]
fn one_private_address_among_many_is_enough() {
    run(async {
        let (address, count) = origin(([127, 0, 0, 1], 0).into()).await;
        let public: IpAddr = "93.184.216.34".parse().unwrap();
        let table = Table(vec![
            ("mixed.example", vec![public, address.ip()]),
            ("wrapped.example", vec!["::ffff:127.0.0.1".parse().unwrap()]),
            ("empty.example", vec![]),
        ]);
        let client = client(Arc::new(table), &[], Arc::new(Vec::new));
        let access = access(&client, &[&format!("http://*:{}", address.port())]);
        for (host, code) in [
            ("mixed", Code::Address),
            ("wrapped", Code::Address),
            ("empty", Code::Name),
            ("none", Code::Name),
        ] {
            let fault = get(&access, &format!("http://{host}.example:{}/", address.port()))
                .await
                .unwrap_err();
            assert_eq!(fault.code, code, "{host}: {fault}");
        }
        assert_eq!(count.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn the_nodes_own_listeners_are_refused_inside_allowed_networks() {
    let client = client(
        Arc::new(Table(Vec::new())),
        &["127.0.0.0/8", "10.0.0.0/8", "::1/128"],
        Arc::new(Vec::new),
    );
    let judge = |address: &str| client.judge(address.parse().unwrap());
    assert!(judge("127.0.0.1:3001").is_ok() && judge("10.1.2.3:3001").is_ok());
    client.add_own(["127.0.0.1:3001", "0.0.0.0:3000"].map(|own| Some(own.parse().unwrap())));
    for own in [
        "127.0.0.1:3001",
        "[::ffff:127.0.0.1]:3001",
        "127.0.0.1:3000",
        "127.9.9.9:3000",
        "0.0.0.0:3000",
    ] {
        assert!(judge(own).is_err(), "{own}");
    }
    assert!(judge("10.1.2.3:3001").is_ok() && judge("127.0.0.1:3002").is_ok());
    // A public host may have the gateway's port.
    assert!(judge("93.184.216.34:3000").is_ok());
    assert!(judge("192.168.0.1:80").unwrap_err().contains("outbound.private"));
}

#[test]
fn the_nodes_lists_bound_what_a_function_may() {
    let table = Arc::new(Table(Vec::new()));
    let rules = |texts: &[&str]| Rules::parse(texts).unwrap();
    let client = Client::new(OutboundConfig {
        allow: rules(&["https://*.example.com"]),
        deny: rules(&["https://bad.example.com", "mayfly://secret/..."]),
        names: Some(table),
        ..OutboundConfig::default()
    });
    let access = access(&client, &["https://*", "mayfly://secret/...", "mayfly://open/..."]);
    let check = |url: &str| access.check("GET", &Target::parse(url).unwrap());
    assert!(check("https://a.example.com").is_ok() && check("mayfly://open/").is_ok());
    for (url, word) in [
        ("https://bad.example.com", "outbound.deny"),
        ("https://a.example.org", "outbound.allow"),
        ("mayfly://secret/", "outbound.deny"),
        ("http://a.example.com", "--outbound 'http://a.example.com'"),
        ("https://a.example.com:8443", "--outbound 'https://a.example.com:8443'"),
    ] {
        let fault = check(url).unwrap_err();
        assert!(fault.code == Code::Denied && fault.words.contains(word), "{url}: {fault}");
    }
}

#[test]
fn three_quarters_of_the_slots_may_wait() {
    let client = client(Arc::new(Table(Vec::new())), &[], Arc::new(Vec::new));
    let held: Vec<_> = (0..75).map(|_| client.wait().unwrap()).collect();
    assert_eq!(client.wait().err().unwrap().code, Code::Budget);
    drop(held);
    assert!(client.wait().is_ok());
}
