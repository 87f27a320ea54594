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
            [Some("models"), Some(name), None, ..] => Self::Model(model(name, None)),
            [Some("models"), Some(name), Some("ready"), None, ..] => {
                Self::ModelReady(model(name, None))
            }
            [Some("models"), Some(name), Some("infer"), None, ..] => Self::Infer(model(name, None)),
            [Some("models"), Some(name), Some("versions"), version @ Some(_), last, None] => {
                match last {
                    None => Self::Model(model(name, version)),
                    Some("ready") => Self::ModelReady(model(name, version)),
                    Some("infer") => Self::Infer(model(name, version)),
                    Some(_) => return None,
                }
            }
            _ => return None,
        })
    }

    /// The method it takes.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Infer(_) => "POST",
            Self::Server | Self::Live | Self::Ready | Self::Model(_) | Self::ModelReady(_) => "GET",
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
            "/v2/models/m/config",
            "/v2/models/m/versions",
            "/v2/models/m/versions/7/infer/x",
            "/v2/models/m/versions/7/x",
        ] {
            assert_eq!(Resource::parse(path), None, "{path}");
        }
        assert!(Resource::claims("/v2/x") && !Resource::claims("/v22"));
    }
}
