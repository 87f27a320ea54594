//! Origins whose certificates are good, and many whose are not.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

type Issuer = CertifiedIssuer<'static, KeyPair>;
type Change = fn(&mut CertificateParams);

fn authority(change: impl FnOnce(&mut CertificateParams)) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// An origin that shows such a certificate; nothing for one that is its own issuer.
async fn secured(issuer: Option<&Issuer>, hosts: &[&str], change: Change) -> SocketAddr {
    let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let made = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

async fn ask(roots: &[&Issuer], address: SocketAddr, host: &str) -> Result<u16, Fault> {
    let table =
        Table(vec![("good.example", vec![address.ip()]), ("a.b.example", vec![address.ip()])]);
    let roots: Vec<CertificateDer<'static>> =
        roots.iter().map(|issuer| issuer.der().clone()).collect();
    let client = client(Arc::new(table), &["127.0.0.0/8"], Arc::new(move || roots.clone()));
    let rules = [format!("https://*:{}", address.port()), format!("http://*:{}", address.port())];
    let access = access(&client, &[&rules[0], &rules[1]]);
    let scheme = if host.contains("://") { "" } else { "https://" };
    get(&access, &format!("{scheme}{host}:{}/", address.port())).await
}

#[test]
fn only_a_good_certificate_for_the_very_name_is_believed() {
    run(async {
        let good = authority(|_| {});
        let other = authority(|_| {});
        let nothing: Change = |_| {};
        let name = &["good.example"][..];
        let reached = secured(Some(&good), name, nothing).await;
        assert_eq!(ask(&[&good], reached, "good.example").await, Ok(200));
        let by_address = secured(Some(&good), &["127.0.0.1"], nothing).await;
        assert_eq!(ask(&[&good], by_address, "127.0.0.1").await, Ok(200));
        let wild = secured(Some(&good), &["*.b.example"], nothing).await;
        assert_eq!(ask(&[&good], wild, "a.b.example").await, Ok(200));
        let expired: Change = |params| params.not_after = date_time_ymd(2020, 1, 1);
        let early: Change = |params| params.not_before = date_time_ymd(4000, 1, 1);
        let for_clients: Change = |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        };
        let is_ca: Change = |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let nobody = authority(|params| params.is_ca = IsCa::NoCa);
        let broken: [(&str, SocketAddr, &Issuer, &str); 12] = [
            (
                "another name",
                secured(Some(&good), &["other.example"], nothing).await,
                &good,
                "good.example",
            ),
            ("no name", secured(Some(&good), &[], nothing).await, &good, "good.example"),
            ("a name, not the address", reached, &good, "127.0.0.1"),
            (
                "another address",
                secured(Some(&good), &["127.0.0.2"], nothing).await,
                &good,
                "127.0.0.1",
            ),
            (
                "a wildcard too high",
                secured(Some(&good), &["*.example"], nothing).await,
                &good,
                "a.b.example",
            ),
            ("expired", secured(Some(&good), name, expired).await, &good, "good.example"),
            ("not yet valid", secured(Some(&good), name, early).await, &good, "good.example"),
            (
                "of another authority",
                secured(Some(&other), name, nothing).await,
                &good,
                "good.example",
            ),
            ("its own authority", secured(None, name, nothing).await, &good, "good.example"),
            ("for clients", secured(Some(&good), name, for_clients).await, &good, "good.example"),
            ("an authority's own", secured(None, name, is_ca).await, &good, "good.example"),
            (
                "of nobody's authority",
                secured(Some(&nobody), name, nothing).await,
                &other,
                "good.example",
            ),
        ];
        for (what, address, roots, host) in broken {
            let fault = ask(&[roots], address, host).await.unwrap_err();
            assert_eq!(fault.code, Code::Tls, "{what}: {fault}");
        }
        let (plain, _) = origin(([127, 0, 0, 1], 0).into()).await;
        assert_eq!(ask(&[&good], plain, "good.example").await.unwrap_err().code, Code::Tls);
        // And nothing falls back to the clear.
        let fault = ask(&[&good], reached, "http://good.example").await.unwrap_err();
        assert_eq!(fault.code, Code::Closed, "{fault}");
    });
}
