//! What each kind of start means: where its clock starts, where it stops, and what is warm by then. Public reports of
//! one and the same runtime differ by a factor of twenty because these differ.

/// One kind of start, slowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// The code is compiled while the client waits.
    Jit,
    /// A process that has nothing in the page cache.
    DiskCold,
    /// A process that has just been started.
    NodeCold,
    /// The compiled code is opened for this request.
    AotLoad,
    /// The compiled code is loaded; memory is mapped for this request.
    AotHit,
    /// As before, with a slot of the pool for memory.
    Pooled,
    /// As before, and init is in the image.
    PooledSnapshot,
    /// No start at all.
    Reused,
}

/// A definition in words.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// As in the ids of series.
    pub name: &'static str,
    /// Where the clock starts.
    pub starts: &'static str,
    /// Where it stops.
    pub stops: &'static str,
    /// What was done before the clock started.
    pub warm: &'static str,
    /// Where it is measured.
    pub from: &'static str,
}

impl Rung {
    /// All, in the order of the ladder.
    pub const ALL: [Self; 8] = [
        Self::Jit,
        Self::DiskCold,
        Self::NodeCold,
        Self::AotLoad,
        Self::AotHit,
        Self::Pooled,
        Self::PooledSnapshot,
        Self::Reused,
    ];

    /// As in the ids of series.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// The definition in words.
    #[must_use]
    pub fn definition(self) -> Definition {
        let in_process = "inside one process, no socket: the host code that a request runs";
        let answered = "the guest's handler has answered a request that needs no inference (its model, if it has one, is loaded and ready)";
        match self {
            Self::Jit => Definition {
                name: "jit",
                starts: "the request is there; all there is of the function is its .wasm, in memory",
                stops: answered,
                warm: "engine and pool; nothing of the function",
                from: in_process,
            },
            Self::DiskCold => Definition {
                name: "disk-cold",
                starts: "just before the server's process is spawned",
                stops: "the first answer of the function is complete at the client",
                warm: "the function is deployed; its files, and the server's own, have been dropped from the page cache (POSIX_FADV_DONTNEED; the disk below may still cache)",
                from: "a client on the same machine, over a loopback socket",
            },
            Self::NodeCold => Definition {
                name: "node-cold",
                starts: "just before the server's process is spawned",
                stops: "the first answer of the function is complete at the client",
                warm: "the function is deployed; files are in the page cache",
                from: "a client on the same machine, over a loopback socket",
            },
            Self::AotLoad => Definition {
                name: "aot-load",
                starts: "the request is there; the compiled code is a file in the page cache",
                stops: answered,
                warm: "engine and pool; the code is mapped, relocated and linked for this request, then init runs if there is no snapshot of it",
                from: in_process,
            },
            Self::AotHit => Definition {
                name: "aot-hit",
                starts: "the request is there; the compiled code is loaded and linked",
                stops: answered,
                warm: "the code; memory is mapped for this request (on-demand allocation), then init runs",
                from: in_process,
            },
            Self::Pooled => Definition {
                name: "pooled",
                starts: "as aot-hit",
                stops: answered,
                warm: "the code, and a slot of the pool that the function used before; init runs",
                from: in_process,
            },
            Self::PooledSnapshot => Definition {
                name: "pooled-snapshot",
                starts: "as aot-hit",
                stops: answered,
                warm: "the code, a slot of the pool, and the memory image in which init has run: this is what a request to Mayfly gets",
                from: in_process,
            },
            Self::Reused => Definition {
                name: "reused",
                starts: "the request is there, and an instance that answered others before",
                stops: answered,
                warm: "everything, the instance included. Others call this warm; Mayfly never does it, so this rung exists in the harness alone: host state and call, without finding and admitting the function and without taking the answer apart, which the other rungs include",
                from: in_process,
            },
        }
    }
}

/// Every definition, as a table in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "| start | clock starts | clock stops | done before | measured |\n| --- | --- | --- | --- | --- |\n",
    );
    for rung in Rung::ALL {
        let d = rung.definition();
        out +=
            &format!("| *{}* | {} | {} | {} | {} |\n", d.name, d.starts, d.stops, d.warm, d.from);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_definitions_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/bench/definitions.md");
        let page = std::fs::read_to_string(path).unwrap();
        assert!(
            page.contains(&markdown()),
            "run `mayfly-bench definitions` and put its table into {path}"
        );
    }
}
