//! Which certificate a client is shown: by the name that it asks for (SNI, RFC 6066).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Pair;

/// Certificates by name.
#[derive(Debug)]
pub struct Names {
    /// For who asks for no name, or for one that is not here.
    default: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what stands behind `*.`.
    below: HashMap<String, Arc<CertifiedKey>>,
    expires: u64,
}

impl Names {
    /// One certificate for all.
    #[must_use]
    pub fn new(default: Pair) -> Self {
        let (exact, below) = (HashMap::new(), HashMap::new());
        Self { default: default.key, exact, below, expires: default.expires }
    }

    /// Another one for `host`, which is in lower case, or `*.` and such a name.
    pub fn add(&mut self, host: &str, pair: Pair) {
        self.expires = self.expires.min(pair.expires);
        match host.strip_prefix("*.") {
            Some(rest) => self.below.insert(rest.to_owned(), pair.key),
            None => self.exact.insert(host.to_owned(), pair.key),
        };
    }

    /// When the first of them expires, in seconds after 1970.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.expires
    }

    fn find(&self, name: &str) -> &Arc<CertifiedKey> {
        let below = || self.below.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(below).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // In lower case already.
        Some(hello.server_name().map_or(&self.default, |name| self.find(name)).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pair::tests::{made, pair};

    #[test]
    fn a_name_finds_its_own_then_the_one_for_all_below_then_the_default() {
        let mut names = Names::new(pair(&made(&["any.example"])));
        names.add("a.example", pair(&made(&["a.example"])));
        names.add("*.example", pair(&made(&["*.example"])));
        let at = |name: &str| Arc::as_ptr(names.find(name));
        assert_ne!(at("a.example"), at("b.example"));
        assert_eq!(at("b.example"), at("c.example"));
        for other in ["example", "a.b.example", "x.a.example", "", "org"] {
            assert_eq!(at(other), Arc::as_ptr(&names.default), "{other}");
        }
    }
}
