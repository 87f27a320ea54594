//! Where functions may call out to: rules as they are written, URLs as guests give them, and which addresses nobody reaches.
//! Pure: what opens sockets by it is `mayfly-outbound`.

pub mod address;
mod header;
mod rule;
mod url;

pub use header::{EdgeHeader, HeaderError, is_hosts_own};
pub use rule::{Hosts, Rule, RuleError, Rules, Scheme};
pub use url::{Target, UrlError};
