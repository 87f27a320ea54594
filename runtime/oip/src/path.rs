/// A model as a path names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelPath<'p> {
    /// The function's name.
    pub name: &'p str,
    /// The revision's number, if the path has one.
    pub version: Option<&'p str>,
}

/// What a path below `/v2` leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'p> {
    /// `GET /v2`
    Server,
    /// `GET /v2/health/live`
    Live,
    /// `GET /v2/health/ready`
    Ready,
    /// `GET /v2/models/{m}[/versions/{v}]`
    Model(ModelPath<'p>),
    /// `GET /v2/models/{m}[/versions/{v}]/ready`
    ModelReady(ModelPath<'p>),
    /// `POST /v2/models/{m}[/versions/{v}]/infer`
    Infer(ModelPath<'p>),
    /// `GET /v2/models/{m}[/versions/{v}]/config`, of Triton's model configuration extension
    Config(ModelPath<'p>),
    /// `GET /v2/models[/{m}[/versions/{v}]]/stats`, of Triton's statistics extension; of all models without one
    Stats(Option<ModelPath<'p>>),
    /// `POST /v2/repository/index`, of Triton's model repository extension
    Index,
    /// What a server may do and this one does not: its extension, in words
    Unsupported(&'static str),
}

impl<'p> Resource<'p> {
    /// Whether this module answers for a path at all.
    #[must_use]
    pub fn claims(path: &str) -> bool {
        path == "/v2" || path.starts_with("/v2/")
    }

    /// What a path leads to, if anything. A slash at its end changes nothing.
    #[must_use]
    pub fn parse(path: &'p str) -> Option<Self> {
        let path = path.strip_prefix("/v2")?;
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Some(Self::Server);
        }
        let mut segments = path.strip_prefix('/')?.split('/');
        // The deepest path there is has five segments below `/v2`.
        let parts: [Option<&str>; 6] = std::array::from_fn(|_| segments.next());
        let model = |name, version| ModelPath { name, version };
        Some(match parts {
            [Some("health"), Some("live"), None, ..] => Self::Live,
            [Some("health"), Some("ready"), None, ..] => Self::Ready,
            // As Triton reads it: a model of that name is asked for by its version.
            [Some("models"), Some("stats"), None, ..] => Self::Stats(None),
            [Some("models"), Some(name), None, ..] => Self::Model(model(name, None)),
            [Some("models"), Some(name), Some("ready"), None, ..] => {
                Self::ModelReady(model(name, None))
            }
            [Some("models"), Some(name), Some("infer"), None, ..] => Self::Infer(model(name, None)),
            [Some("models"), Some(name), Some("config"), None, ..] => {
                Self::Config(model(name, None))
            }
            [Some("models"), Some(name), Some("stats"), None, ..] => {
                Self::Stats(Some(model(name, None)))
            }
            [Some("models"), Some(name), Some("versions"), version @ Some(_), last, None] => {
                match last {
                    None => Self::Model(model(name, version)),
                    Some("ready") => Self::ModelReady(model(name, version)),
                    Some("infer") => Self::Infer(model(name, version)),
                    Some("config") => Self::Config(model(name, version)),
                    Some("stats") => Self::Stats(Some(model(name, version))),
                    Some(_) => return None,
                }
            }
            [Some("repository"), Some("index"), None, ..] => Self::Index,
            [Some("repository"), ..] => Self::Unsupported(
                "models are loaded by `mayfly deploy` and unloaded by `mayfly remove`, not over this protocol",
            ),
            [Some("systemsharedmemory" | "cudasharedmemory"), ..] => {
                Self::Unsupported("shared memory is not supported: send tensors with the request")
            }
            [Some("trace"), ..] | [Some("models"), Some(_), Some("trace"), ..] => {
                Self::Unsupported(
                    "tracing is not set over this protocol: start the node with server-timing",
                )
            }
            [Some("logging"), ..] => Self::Unsupported(
                "logging is not set over this protocol: start the node with log.level and log.requests",
            ),
            _ => return None,
        })
    }

    /// The method it takes; any, if it is refused whatever it is.
    #[must_use]
    pub fn method(&self) -> Option<&'static str> {
        match self {
            Self::Infer(_) | Self::Index => Some("POST"),
            Self::Server
            | Self::Live
            | Self::Ready
            | Self::Model(_)
            | Self::ModelReady(_)
            | Self::Config(_)
            | Self::Stats(_) => Some("GET"),
            Self::Unsupported(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_of_the_protocol_is_found() {
        let plain = ModelPath { name: "m", version: None };
        let versioned = ModelPath { name: "m", version: Some("7") };
        for (path, expected) in [
            ("/v2", Resource::Server),
            ("/v2/", Resource::Server),
            ("/v2/health/live", Resource::Live),
            ("/v2/health/ready", Resource::Ready),
            ("/v2/models/m", Resource::Model(plain)),
            ("/v2/models/m/", Resource::Model(plain)),
            ("/v2/models/m/ready", Resource::ModelReady(plain)),
            ("/v2/models/m/infer", Resource::Infer(plain)),
            ("/v2/models/m/versions/7", Resource::Model(versioned)),
            ("/v2/models/m/versions/7/ready", Resource::ModelReady(versioned)),
            ("/v2/models/m/versions/7/infer", Resource::Infer(versioned)),
            ("/v2/models/m/config", Resource::Config(plain)),
            ("/v2/models/m/versions/7/config", Resource::Config(versioned)),
            ("/v2/models/m/stats", Resource::Stats(Some(plain))),
            ("/v2/models/m/versions/7/stats", Resource::Stats(Some(versioned))),
            ("/v2/models/stats", Resource::Stats(None)),
            ("/v2/repository/index", Resource::Index),
        ] {
            assert_eq!(Resource::parse(path), Some(expected), "{path}");
        }
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in [
            "/",
            "/v22",
            "/v2//",
            "/v2/health",
            "/v2/models",
            "/v2/models/m/x",
            "/v2/models/m/versions",
            "/v2/models/m/versions/7/infer/x",
            "/v2/models/m/versions/7/x",
        ] {
            assert_eq!(Resource::parse(path), None, "{path}");
        }
        for path in [
            "/v2/repository/models/m/load",
            "/v2/repository/models/m/unload",
            "/v2/repository/r/models/m/load",
            "/v2/systemsharedmemory/status",
            "/v2/systemsharedmemory/region/x/register",
            "/v2/cudasharedmemory/unregister",
            "/v2/trace/setting",
            "/v2/models/m/trace/setting",
            "/v2/logging",
        ] {
            assert!(matches!(Resource::parse(path), Some(Resource::Unsupported(_))), "{path}");
        }
        assert!(Resource::claims("/v2/x") && !Resource::claims("/v22"));
    }
}
