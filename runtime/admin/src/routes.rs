//! Pure: method and path to what is to be done.

use http::Method;
use mayfly_core::FunctionName;

use super::problem::Problem;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// `OPTIONS *`, and `OPTIONS /`, by which HAProxy checks health unless it is told of something else.
    Options,
    Health,
    Ready,
    Metrics,
    Description,
    Node,
    List,
    Inspect(FunctionName),
    Deploy(FunctionName),
    Remove(FunctionName),
    Logs(FunctionName),
    Profile(FunctionName),
    Versions(FunctionName),
    Deployments(FunctionName),
    /// What serves; its deployment, or its rollout.
    Deployment(FunctionName),
    Rollout(FunctionName),
    Secrets,
    SetSecret(String),
    RemoveSecret(String),
    /// What is to serve, in a body of JSON; what has no body is written without one.
    Change(FunctionName, Wish),
}

/// How a function is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Traffic,
    Back,
    Tag(String),
    Untag(String),
    RollOut,
    Halt,
}

/// Which token a path needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Metrics,
    Full,
}

impl Action {
    /// Whether it changes what is deployed, or what functions get.
    pub(super) fn changes(&self) -> bool {
        matches!(
            self,
            Self::Deploy(_)
                | Self::Remove(_)
                | Self::Change(..)
                | Self::SetSecret(_)
                | Self::RemoveSecret(_)
        )
    }

    pub(super) fn need(&self) -> Need {
        match self {
            Self::Options | Self::Health | Self::Ready | Self::Description => Need::Nothing,
            Self::Metrics => Need::Metrics,
            Self::Node
            | Self::List
            | Self::Inspect(_)
            | Self::Deploy(_)
            | Self::Remove(_)
            | Self::Versions(_)
            | Self::Deployments(_)
            | Self::Deployment(_)
            | Self::Rollout(_)
            | Self::Change(..)
            | Self::Secrets
            | Self::SetSecret(_)
            | Self::RemoveSecret(_)
            | Self::Profile(_)
            | Self::Logs(_) => Need::Full,
        }
    }
}

/// The action, or 404, 405 or 400.
pub(super) fn route(method: &Method, path: &str) -> Result<Action, Problem> {
    let read = method == Method::GET || method == Method::HEAD;
    let get = |action| if read { Ok(action) } else { Err(not_allowed("GET, HEAD")) };
    if method == Method::OPTIONS && (path == "*" || path == "/") {
        return Ok(Action::Options);
    }
    let check = |action| match method == Method::OPTIONS {
        true => Ok(action),
        false => get(action),
    };
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments[..] {
        ["healthz"] => check(Action::Health),
        ["readyz"] => check(Action::Ready),
        ["metrics"] => get(Action::Metrics),
        ["v1", "openapi.json"] => get(Action::Description),
        ["v1", "node"] => get(Action::Node),
        ["v1", "functions"] => get(Action::List),
        ["v1", "functions", name, ref below @ ..] => of_function(method, name, below),
        ["v1", "secrets"] => get(Action::Secrets),
        ["v1", "secrets", name] => match *method {
            Method::PUT => Ok(Action::SetSecret(name.to_owned())),
            Method::DELETE => Ok(Action::RemoveSecret(name.to_owned())),
            _ => Err(not_allowed("PUT, DELETE")),
        },
        _ => Err(nowhere()),
    }
}

/// The same below `/v1/functions/{name}`.
fn of_function(method: &Method, text: &str, below: &[&str]) -> Result<Action, Problem> {
    let name = || function(text);
    let get = |action| match *method {
        Method::GET | Method::HEAD => Ok(action),
        _ => Err(not_allowed("GET, HEAD")),
    };
    match *below {
        [] => {
            let name = name()?;
            match *method {
                Method::GET | Method::HEAD => Ok(Action::Inspect(name)),
                Method::PUT => Ok(Action::Deploy(name)),
                Method::DELETE => Ok(Action::Remove(name)),
                _ => Err(not_allowed("GET, HEAD, PUT, DELETE")),
            }
        }
        ["logs"] => get(Action::Logs(name()?)),
        // No GET: a browser that looks ahead must not begin one.
        ["profile"] => match *method {
            Method::POST => Ok(Action::Profile(name()?)),
            _ => Err(not_allowed("POST")),
        },
        ["versions"] => get(Action::Versions(name()?)),
        ["deployments"] => get(Action::Deployments(name()?)),
        ["deployment"] => {
            let name = name()?;
            match *method {
                Method::GET | Method::HEAD => Ok(Action::Deployment(name)),
                Method::PUT => Ok(Action::Change(name, Wish::Traffic)),
                _ => Err(not_allowed("GET, HEAD, PUT")),
            }
        }
        ["rollback"] => match *method {
            Method::POST => Ok(Action::Change(name()?, Wish::Back)),
            _ => Err(not_allowed("POST")),
        },
        ["tags", tag] => {
            let (name, tag) = (name()?, tag.to_owned());
            match *method {
                Method::PUT => Ok(Action::Change(name, Wish::Tag(tag))),
                Method::DELETE => Ok(Action::Change(name, Wish::Untag(tag))),
                _ => Err(not_allowed("PUT, DELETE")),
            }
        }
        ["rollout"] => {
            let name = name()?;
            match *method {
                Method::GET | Method::HEAD => Ok(Action::Rollout(name)),
                Method::PUT => Ok(Action::Change(name, Wish::RollOut)),
                Method::DELETE => Ok(Action::Change(name, Wish::Halt)),
                _ => Err(not_allowed("GET, HEAD, PUT, DELETE")),
            }
        }
        _ => Err(nowhere()),
    }
}

fn nowhere() -> Problem {
    Problem::new(404, "not-found", "The admin API has no such path")
        .hint("GET /v1/openapi.json describes it; functions are called on the gateway's address")
        .close()
}

fn function(name: &str) -> Result<FunctionName, Problem> {
    FunctionName::new(name).map_err(|why| {
        Problem::new(400, "name", "Invalid function name").detail(why.to_string()).close()
    })
}

fn not_allowed(methods: &'static str) -> Problem {
    Problem::new(405, "method", "This path does not take that method").allow(methods).close()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_action() {
        let hello = || FunctionName::new("hello").unwrap();
        let change = |wish| Action::Change(hello(), wish);
        for (method, path, action, need) in [
            (Method::GET, "/healthz", Action::Health, Need::Nothing),
            (Method::HEAD, "/readyz", Action::Ready, Need::Nothing),
            (Method::OPTIONS, "/healthz", Action::Health, Need::Nothing),
            (Method::OPTIONS, "/readyz", Action::Ready, Need::Nothing),
            (Method::OPTIONS, "/", Action::Options, Need::Nothing),
            (Method::OPTIONS, "*", Action::Options, Need::Nothing),
            (Method::GET, "/metrics", Action::Metrics, Need::Metrics),
            (Method::GET, "/v1/openapi.json", Action::Description, Need::Nothing),
            (Method::GET, "/v1/node", Action::Node, Need::Full),
            (Method::GET, "/v1/functions", Action::List, Need::Full),
            (Method::GET, "/v1/functions/hello", Action::Inspect(hello()), Need::Full),
            (Method::PUT, "/v1/functions/hello", Action::Deploy(hello()), Need::Full),
            (Method::DELETE, "/v1/functions/hello", Action::Remove(hello()), Need::Full),
            (Method::GET, "/v1/functions/hello/logs", Action::Logs(hello()), Need::Full),
            (Method::GET, "/v1/secrets", Action::Secrets, Need::Full),
            (Method::PUT, "/v1/secrets/KEY", Action::SetSecret("KEY".into()), Need::Full),
            (Method::DELETE, "/v1/secrets/KEY", Action::RemoveSecret("KEY".into()), Need::Full),
            (Method::GET, "/v1/functions/hello/versions", Action::Versions(hello()), Need::Full),
            (
                Method::GET,
                "/v1/functions/hello/deployment",
                Action::Deployment(hello()),
                Need::Full,
            ),
            (Method::PUT, "/v1/functions/hello/deployment", change(Wish::Traffic), Need::Full),
            (
                Method::GET,
                "/v1/functions/hello/deployments",
                Action::Deployments(hello()),
                Need::Full,
            ),
            (Method::POST, "/v1/functions/hello/rollback", change(Wish::Back), Need::Full),
            (
                Method::PUT,
                "/v1/functions/hello/tags/pr-1",
                change(Wish::Tag("pr-1".into())),
                Need::Full,
            ),
            (
                Method::DELETE,
                "/v1/functions/hello/tags/a",
                change(Wish::Untag("a".into())),
                Need::Full,
            ),
            (Method::GET, "/v1/functions/hello/rollout", Action::Rollout(hello()), Need::Full),
            (Method::PUT, "/v1/functions/hello/rollout", change(Wish::RollOut), Need::Full),
            (Method::DELETE, "/v1/functions/hello/rollout", change(Wish::Halt), Need::Full),
            (Method::POST, "/v1/functions/hello/profile", Action::Profile(hello()), Need::Full),
        ] {
            let found = route(&method, path).unwrap();
            assert_eq!((&found, found.need()), (&action, need), "{path}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (method, path, status) in [
            (Method::GET, "/", 404),
            (Method::GET, "/v1", 404),
            (Method::GET, "/v1/functions/", 400),
            (Method::GET, "/v1/functions/hello/", 404),
            (Method::GET, "/v1//functions", 404),
            (Method::GET, "/v1/functions/..", 400),
            (Method::PUT, "/v1/functions/metrics", 400),
            (Method::PUT, "/v1/functions/Hello", 400),
            (Method::POST, "/v1/functions/hello", 405),
            (Method::GET, "/v1/functions/hello/profile", 405),
            (Method::POST, "/healthz", 405),
            (Method::OPTIONS, "/metrics", 405),
            (Method::PUT, "/v1/functions", 405),
            (Method::GET, "/v1/secrets/KEY", 405),
            (Method::GET, "/v1/functions/hello/rollback", 405),
            (Method::GET, "/v1/functions/hello/tags/a", 405),
            (Method::GET, "/v1/functions/hello/tags", 404),
            (Method::POST, "/v1/functions/hello/deployment", 405),
            (Method::PUT, "/v1/functions/hello/versions", 405),
            (Method::GET, "*", 404),
        ] {
            let response = route(&method, path).unwrap_err().response();
            assert_eq!(response.status(), status, "{method} {path}");
        }
    }
}
