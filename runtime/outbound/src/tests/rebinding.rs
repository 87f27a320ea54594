//! A name server that says something else each time.

use std::net::Ipv4Addr;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use tokio::net::UdpSocket;

use super::*;

const ALTERNATIONS: usize = 10_000;

/// The answer to a query: the same question, and these addresses if it asks for IPv4.
fn answer(query: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let is_a = query[end - 4..end - 2] == [0, 1];
    let addresses = if is_a { addresses } else { &[] };
    let mut bytes = query[..end].to_vec();
    bytes[2..12].copy_from_slice(&[
        0x81,
        0x80,
        0,
        1,
        0,
        u8::try_from(addresses.len()).unwrap(),
        0,
        0,
        0,
        0,
    ]);
    for address in addresses {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        bytes.extend(address.octets());
    }
    bytes
}

/// 127.0.0.2 may be called, 127.0.0.1 not; a name is the one, the other, or both, in turn.
#[test]
fn a_name_that_changes_its_mind_never_leads_to_a_private_address() {
    run(async {
        let (trap, trapped) = origin(([127, 0, 0, 1], 0).into()).await;
        let (good, reached) = origin(([127, 0, 0, 2], trap.port()).into()).await;
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            let (one, two) = (Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2));
            let answers: [&[Ipv4Addr]; 4] = [&[two], &[one], &[two, one], &[one, two]];
            let mut query = [0; 512];
            while let Ok((length, from)) = server.recv_from(&mut query).await {
                let query = &query[..length];
                let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
                let is_a = query[end - 4..end - 2] == [0, 1];
                let at = if is_a { count.fetch_add(1, Ordering::Relaxed) } else { 0 };
                let _ = server.send_to(&answer(query, answers[at % answers.len()]), from).await;
            }
        });
        let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
        server.connections[0].port = port;
        let config = ResolverConfig::from_name_servers(vec![server]);
        let hickory = Hickory::of(config, |options| {
            options.cache_size = 0;
            options.use_hosts_file = ResolveHosts::Never;
        });
        let client = client(Arc::new(hickory.unwrap()), &["127.0.0.2/32"], Arc::new(Vec::new));
        let access = access(&client, &[&format!("http://*:{}", trap.port())]);
        let url = format!("http://flips.example:{}/", good.port());
        let (mut answered, mut refused) = (0, 0);
        for _ in 0..ALTERNATIONS {
            match get(&access, &url).await {
                Ok(status) => answered += usize::from(status == 200),
                Err(fault) => {
                    assert_eq!(fault.code, Code::Address, "{fault}");
                    refused += 1;
                }
            }
        }
        assert_eq!((trapped.load(Ordering::Relaxed), answered + refused), (0, ALTERNATIONS));
        assert_eq!(
            (answered, reached.load(Ordering::Relaxed)),
            (ALTERNATIONS / 4, ALTERNATIONS / 4)
        );
        // Each connection is to what was judged: nobody asked a second time.
        assert_eq!(asked.load(Ordering::Relaxed), ALTERNATIONS);
    });
}
