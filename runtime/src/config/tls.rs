//! Keys of TLS: which of them go together.

use std::net::SocketAddr;
use std::path::PathBuf;

use mayfly_core::limits::node;

use super::keys::{host, path};
use super::{Config, ConfigError};

/// Keys under `gateway.tls`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayTlsKeys {
    /// Address for TLS beside the plain one; without it the gateway's own address speaks TLS.
    pub listen: Option<SocketAddr>,
    /// What clients are shown that name no host, or one without an entry.
    pub pair: PairKeys,
    /// What clients are shown that name a certain host.
    pub sni: Vec<SniKeys>,
    /// Whose clients' certificates are believed.
    pub client_ca: Option<PathBuf>,
    /// Whether a client may come without one.
    pub client_auth: Option<ClientAuth>,
}

/// A certificate's file and its key's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairKeys {
    /// The certificate, and those between it and its authority's.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// One host's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SniKeys {
    /// The host's name, or `*.` and a name.
    pub host: String,
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What is asked of clients, if there is an authority for their certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Without a certificate there is no connection.
    #[default]
    Required,
    /// Functions are told whether there was one.
    Optional,
}

/// Reads `host=NAME cert=FILE key=FILE`.
pub(super) fn sni(text: &str) -> Result<SniKeys, String> {
    let parts = || {
        let rest = text.trim().strip_prefix("host=")?;
        let (name, rest) = rest.split_once(" cert=")?;
        let (cert, key) = rest.split_once(" key=")?;
        Some((name, cert, key))
    };
    let (name, cert, key) = parts().ok_or_else(|| {
        format!("'{text}' is not an entry: write host=NAME cert=FILE key=FILE, in this order")
    })?;
    let name = name.trim();
    let host = match name.strip_prefix("*.") {
        Some(rest) => format!("*.{}", host(rest)?),
        None => host(name)?,
    };
    Ok(SniKeys { host, cert: path(cert.trim())?, key: path(key.trim())? })
}

/// What of a configuration's TLS does not go together.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let conflict = |why: String| Err(ConfigError::Conflict(why));
    let tls = &config.gateway.tls;
    if tls.client_auth == Some(ClientAuth::Required) && tls.client_ca.is_none() {
        return conflict(
            "gateway.tls.client-auth is required and gateway.tls.client-ca is not set: name the authorities whose certificates are \
             believed, or nobody is asked for one"
                .into(),
        );
    }
    for (name, pair) in [("gateway.tls", &tls.pair), ("admin.tls", &config.admin.tls)] {
        let missing = match (&pair.cert, &pair.key) {
            (Some(_), None) => "key",
            (None, Some(_)) => "cert",
            _ => continue,
        };
        let given = if missing == "key" { "cert" } else { "key" };
        return conflict(format!("{name}.{given} is set and {name}.{missing} is not: name both"));
    }
    let alone = [
        ("listen", tls.listen.is_some()),
        ("sni", !tls.sni.is_empty()),
        ("client-ca", tls.client_ca.is_some()),
    ];
    if tls.pair.cert.is_none()
        && let Some((name, _)) = alone.iter().find(|(_, set)| *set)
    {
        return conflict(format!(
            "gateway.tls.{name} is set and gateway.tls.cert is not: name the certificate of clients that name no host"
        ));
    }
    if tls.sni.len() > node::TLS_NAMES {
        return conflict(format!(
            "gateway.tls.sni has more than {} entries: one certificate may be of many names",
            node::TLS_NAMES
        ));
    }
    let mut hosts: Vec<_> = tls.sni.iter().map(|entry| &entry.host).collect();
    hosts.sort();
    if let Some(twice) = hosts.windows(2).find(|pair| pair[0] == pair[1]) {
        return conflict(format!("gateway.tls.sni has '{}' twice: take one out", twice[0]));
    }
    let Some(listen) = tls.listen.filter(|listen| listen.port() != 0) else { return Ok(()) };
    for (name, other) in
        [("gateway.listen", config.gateway.listen), ("admin.listen", config.admin.listen)]
    {
        if listen == other {
            return conflict(format!(
                "gateway.tls.listen and {name} are both {listen}: give TLS an address of its own, or leave \
                 gateway.tls.listen out, so that gateway.listen speaks TLS"
            ));
        }
    }
    Ok(())
}
