//! How many files and sockets this process may have open.
//!
//! Shells and service managers start programs with 1,024, for the sake of those that still use `select`; what they may
//! raise it to is usually far more. Each connection is a descriptor, and so are the admin API's and those of a publish.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Beside connections: listeners, epoll, the database, mapped code, and the two publishes that run at once.
const OTHERS: u64 = 256;

/// Raises the limit to what is allowed; says so when that is less than the connections need.
pub fn raise(connections: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    if current != maximum && setrlimit(Resource::Nofile, raised).is_err() {
        tracing::debug!(?current, ?maximum, "the limit of open files stays as it is");
    }
    let needed = connections as u64 + OTHERS;
    // None is no limit at all.
    if let Some(allowed) = getrlimit(Resource::Nofile).current.filter(|allowed| *allowed < needed) {
        tracing::warn!(
            allowed,
            needed,
            "fewer files may be open than gateway.connections asks for: raise `ulimit -n` (LimitNOFILE), or lower it"
        );
    }
}
