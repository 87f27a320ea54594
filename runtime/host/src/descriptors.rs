//! How many files and sockets this process may have open, and who may have them.
//!
//! Shells and service managers start programs with 1,024, for the sake of those that still use `select`; what they may
//! raise it to is usually far more. Each connection is a descriptor, and each function is two: its code is mapped out of
//! a file, and its image of memory out of another. Neither may take those that the admin API and a publish need.

use mayfly_core::limits::node;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files of one function.
const FILES: usize = 2;

/// What there is for connections and functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Connections and files of functions together.
    pub shared: usize,
    /// Functions at most: the rest is for connections whatever happens.
    pub functions: usize,
    /// Left for the admin API, publishes and the database.
    pub reserve: usize,
}

impl Descriptors {
    /// As if there were no limit.
    #[must_use]
    pub fn plenty() -> Self {
        Self::of(usize::MAX, 1)
    }

    /// Raises the limit to what is allowed, divides it, and says so.
    #[must_use]
    pub fn plan(connections: usize, workers: usize) -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: maximum, maximum };
        if current != maximum && setrlimit(Resource::Nofile, raised).is_err() {
            tracing::debug!(?current, ?maximum, "the limit of open files stays as it is");
        }
        // None is no limit at all.
        let allowed = getrlimit(Resource::Nofile).current;
        let allowed = allowed.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        let plan = Self::of(allowed, workers);
        let Self { shared, functions, reserve } = plan;
        if shared < connections {
            tracing::warn!(
                allowed,
                reserve,
                functions,
                connections = shared,
                "fewer files may be open than gateway.connections asks for: there are so many connections, less one for \
                 each function; raise `ulimit -n` (LimitNOFILE)"
            );
        } else {
            tracing::info!(allowed, reserve, functions, connections, "open files are divided");
        }
        plan
    }

    fn of(allowed: usize, workers: usize) -> Self {
        let own = node::OWN_DESCRIPTORS + node::WORKER_DESCRIPTORS * workers;
        let reserve = node::RESERVED_DESCRIPTORS.min(allowed / 4);
        let shared = allowed.saturating_sub(own).saturating_sub(reserve);
        Self { shared, functions: (shared / 4 * 3 / FILES).min(node::FUNCTIONS), reserve }
    }

    /// Connections of the admin API.
    #[must_use]
    pub fn admin(&self) -> usize {
        node::ADMIN_CONNECTIONS.min(self.reserve / 3 * 2)
    }

    /// Connections beside so many functions, of which some may have no descriptor.
    #[must_use]
    pub fn connections(&self, functions: usize) -> usize {
        self.shared.saturating_sub(FILES * functions.min(self.functions))
    }
}

/// Whether an error says that there is no descriptor left, for this process or on this machine.
#[must_use]
pub fn ran_out(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    errno.is_some_and(|no| matches!(no, rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_connections_leave_the_reserve() {
        for allowed in [64, 96, 256, 700, 1024, 20_000, 1 << 20] {
            let plan = Descriptors::of(allowed, 2);
            let own = node::OWN_DESCRIPTORS + 2 * node::WORKER_DESCRIPTORS;
            assert!(own + plan.shared + plan.reserve <= allowed, "{allowed}: {plan:?}");
            assert!(plan.reserve >= 16 && plan.functions > 0, "{allowed}: {plan:?}");
            assert!(
                plan.admin() >= 10 && plan.connections(plan.functions) > 0,
                "{allowed}: {plan:?}"
            );
        }
        let plenty = Descriptors::plenty();
        assert_eq!((plenty.functions, plenty.admin()), (node::FUNCTIONS, node::ADMIN_CONNECTIONS));
        assert!(plenty.connections(node::FUNCTIONS) > node::CONNECTIONS);
        assert_eq!(Descriptors::of(10, 2).shared, 0);
    }

    #[test]
    fn only_a_want_of_descriptors_is_one() {
        let errno = rustix::io::Errno::MFILE.raw_os_error();
        assert!(ran_out(&std::io::Error::from_raw_os_error(errno)));
        assert!(!ran_out(&std::io::ErrorKind::NotFound.into()));
    }
}
