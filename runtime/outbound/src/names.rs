//! Names to addresses, without a thread for each: hickory asks the system's name servers itself, and keeps what they say
//! for as long as they say, within bounds.

use std::net::IpAddr;
use std::pin::Pin;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use mayfly_core::limits::outbound;

use crate::fault::{Code, Fault};

/// Addresses that are being asked for.
pub type Resolving = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Fault>> + Send>>;

/// Resolves names.
pub trait Names: Send + Sync {
    /// Every address of a host.
    fn resolve(&self, host: &str) -> Resolving;
}

/// Hickory's resolver.
pub struct Hickory(TokioResolver);

impl Hickory {
    /// As the system resolves, by its servers and its file of hosts.
    ///
    /// # Errors
    /// When the system's configuration cannot be read.
    pub fn of_system() -> Result<Self, Fault> {
        let failed = |why: &dyn std::fmt::Display| {
            Fault::new(Code::Name, format!("names cannot be resolved on this node: {why}"))
        };
        let mut builder = TokioResolver::builder_tokio().map_err(|why| failed(&why))?;
        bound(builder.options_mut());
        builder.build().map(Self).map_err(|why| failed(&why))
    }

    /// By these servers only, with these options.
    ///
    /// # Errors
    /// When there is no such resolver.
    pub fn of(
        config: ResolverConfig,
        change: impl FnOnce(&mut ResolverOpts),
    ) -> Result<Self, Fault> {
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        bound(builder.options_mut());
        change(builder.options_mut());
        builder.build().map(Self).map_err(|why| Fault::new(Code::Name, why.to_string()))
    }
}

fn bound(options: &mut ResolverOpts) {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = outbound::OUTBOUND_NAMES;
    options.positive_min_ttl = Some(outbound::OUTBOUND_NAME_LEAST);
    options.positive_max_ttl = Some(outbound::OUTBOUND_NAME_MOST);
    options.negative_min_ttl = Some(outbound::OUTBOUND_NAME_LEAST);
    options.negative_max_ttl = Some(outbound::OUTBOUND_NAME_LEAST * 2);
    options.timeout = outbound::OUTBOUND_CONNECT / 2;
}

impl Names for Hickory {
    fn resolve(&self, host: &str) -> Resolving {
        // The dot at its end keeps the system's search list away: a name means one host on every node.
        let (resolver, name) = (self.0.clone(), format!("{host}."));
        Box::pin(async move {
            let found = resolver.lookup_ip(name.as_str()).await.map_err(|why| {
                let host = name.trim_end_matches('.');
                let words = match why.is_no_records_found() || why.is_nx_domain() {
                    true => format!("no host has the name {host}"),
                    false => format!("{host} cannot be resolved: {why}"),
                };
                Fault::new(Code::Name, words)
            })?;
            Ok(found.iter().collect())
        })
    }
}
