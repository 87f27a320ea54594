//! A deploy's settings, from the query: `?limit=memory%3D256MiB&env=K%3DV&route=/api/...&arg=-v`, each as often as wanted.

use mayfly_core::limits::{LIMIT_KEYS, Limits};
use percent_encoding::percent_decode_str;

use super::problem::Problem;
use crate::revision::Settings;

/// The parameters of a query, decoded.
pub(super) fn parameters(query: Option<&str>) -> Result<Vec<(String, String)>, Problem> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| Problem::new(400, "query", "The query is not UTF-8").close())
    };
    query
        .unwrap_or_default()
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// The settings that a query asks for, within what the node allows.
pub(super) fn settings(
    query: Option<&str>,
    limits: &Limits,
    limits_max: &Limits,
) -> Result<Settings, Problem> {
    let mut settings = Settings { limits: limits.clone(), ..Settings::default() };
    for (name, value) in parameters(query)? {
        match name.as_str() {
            "limit" => settings.limits.set(&value).map_err(|why| wrong(&why.to_string()))?,
            "env" => {
                let (key, value) = value.split_once('=').ok_or_else(|| {
                    wrong(&format!(
                        "env '{}' has no '=': write KEY=VALUE, or KEY= for an empty value",
                        crate::logs::escape(value.as_bytes())
                    ))
                })?;
                settings.env.insert(key.into(), value.into());
            }
            "route" => settings.routes.push(value),
            "arg" => settings.args.push(value),
            _ => return Err(unknown(&name, "limit, env, route and arg")),
        }
    }
    settings.check().map_err(|why| wrong(&why.to_string()))?;
    within(&settings.limits, limits_max)?;
    Ok(settings)
}

/// Refuses a parameter that the path does not take: a typo must not be a deploy without its limit.
pub(super) fn unknown(name: &str, known: &str) -> Problem {
    let name = crate::logs::escape(name.as_bytes());
    Problem::new(400, "query", "The query has a parameter that this path does not take")
        .detail(format!("'{name}' is none of {known}"))
        .close()
}

fn wrong(why: &str) -> Problem {
    Problem::new(422, "settings", "These settings cannot be deployed").detail(why).close()
}

fn within(limits: &Limits, max: &Limits) -> Result<(), Problem> {
    let over = LIMIT_KEYS.iter().find(|key| key.get(limits) > key.get(max));
    over.map_or(Ok(()), |key| {
        let (value, max) = (key.format(key.get(limits)), key.format(key.get(max)));
        Err(wrong(&format!("limit {} is {value}; this node allows {max} at most", key.name))
            .hint("the operator can raise it in `limits-max`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Settings, u16> {
        let mut max = Limits::default();
        max.set("memory=1GiB").unwrap();
        settings(Some(query), &Limits::default(), &max)
            .map_err(|problem| problem.response().status().as_u16())
    }

    #[test]
    fn a_query_sets_limits_variables_and_routes() {
        let query = "limit=memory%3D256MiB&env=A%3Db%3Dc+d&env=E=&route=/api/...&limit=log=1KiB&arg=-c&arg=a+b";
        let settings = parse(query).unwrap();
        assert_eq!((settings.limits.memory_bytes, settings.limits.log_bytes), (256 << 20, 1024));
        assert_eq!(settings.env["A"], "b=c d");
        assert_eq!(settings.env["E"], "");
        assert_eq!(settings.routes, ["/api/..."]);
        assert_eq!(settings.args, ["-c", "a b"]);
        assert_eq!(parse("").unwrap(), Settings::default());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (query, status) in [
            ("limits=memory%3D1MiB", 400),
            ("limit=memory%3Dlots", 422),
            ("limit=memory%3D2GiB", 422),
            ("env=A", 422),
            ("env=%3Dx", 422),
            ("route=/v1/x", 422),
            ("env=A%3D%ff", 400),
            ("arg=a%00", 422),
        ] {
            assert_eq!(parse(query), Err(status), "{query}");
        }
    }
}
