//! A deploy's settings, from the query: `?limit=memory%3D256MiB&env=K%3DV&route=/api/...&arg=-v`, each as often as wanted;
//! `outbound=https://...` and `outbound-header=ORIGIN Name: value` too; and `stream-body=true&pass-authorization=true`. `?traffic=10&tag=pr-42` says what the version gets of the requests.
//! With `keep=all` what is not named is as in the current revision, but for the kinds of `reset`.

use mayfly_core::limits::Limits;
use mayfly_core::outbound::EdgeHeader;
use mayfly_core::record::Settings;
use mayfly_publish::{Change, Kind};
use percent_encoding::percent_decode_str;

use super::problem::Problem;

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

/// What a query says of the settings, within what the node allows. That it can be is seen here, before the module has
/// arrived; what is kept is known when its turn has come.
pub(super) fn change(
    query: Option<&str>,
    limits: &Limits,
    limits_max: &Limits,
) -> Result<Change, Problem> {
    let base = Settings { limits: limits.clone(), ..Settings::default() };
    let mut change = Change { base, most: Some(limits_max.clone()), ..Change::default() };
    for (name, value) in parameters(query)? {
        match name.as_str() {
            "limit" => change.limits.push(value),
            "env" => {
                let (key, value) = value.split_once('=').ok_or_else(|| {
                    wrong(&format!(
                        "env '{}' has no '=': write KEY=VALUE, or KEY= for an empty value",
                        mayfly_observe::logs::escape(value.as_bytes())
                    ))
                })?;
                change.env.insert(key.into(), value.into());
            }
            "secret" => change.secrets.push(value),
            "route" => change.routes.push(value),
            "arg" => change.args.push(value),
            "outbound" => change.outbound.push(value),
            "outbound-header" => {
                let (origin, line) = value.split_once(' ').unwrap_or((&value, ""));
                let header = EdgeHeader::new(origin, line);
                change.outbound_headers.push(header.map_err(|why| wrong(&escaped(&why)))?);
            }
            "stream-body" => change.stream_body = Some(switch(&name, &value)?),
            "pass-authorization" => change.pass_authorization = Some(switch(&name, &value)?),
            "traffic" => {
                let percent = value.parse().map_err(|why| wrong(&escaped(&why)))?;
                change.placement.percent = Some(percent);
            }
            "tag" => {
                change.placement.tag = Some(value.parse().map_err(|why| wrong(&escaped(&why)))?);
            }
            "public" => change.placement.public = switch(&name, &value)?,
            "message" => change.placement.remark.message = value,
            "by" => change.placement.remark.by = value,
            "keep" if value == "all" => change.keeps = true,
            "keep" => return Err(wrong("keep takes 'all'")),
            "reset" => change.reset.push(Kind::from_name(&value).ok_or_else(|| {
                let names = Kind::ALL.map(Kind::name).join(", ");
                wrong(&format!("reset takes one of {names}"))
            })?),
            _ => {
                let known = "limit, env, secret, route, arg, outbound, outbound-header, stream-body, pass-authorization, traffic, \
                             tag, public, message, by, keep and reset";
                return Err(unknown(&name, known));
            }
        }
    }
    change.clone().onto(None).map_err(|why| wrong(&why.to_string()).hint(why.hint()))?;
    Ok(change)
}

fn escaped(why: &dyn std::fmt::Display) -> String {
    mayfly_observe::logs::escape(why.to_string().as_bytes()).to_string()
}

fn switch(name: &str, value: &str) -> Result<bool, Problem> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(&format!("{name} is true or false"))),
    }
}

/// Refuses a parameter that the path does not take: a typo must not be a deploy without its limit.
pub(super) fn unknown(name: &str, known: &str) -> Problem {
    let name = mayfly_observe::logs::escape(name.as_bytes());
    Problem::new(400, "query", "The query has a parameter that this path does not take")
        .detail(format!("'{name}' is none of {known}"))
        .close()
}

fn wrong(why: &str) -> Problem {
    Problem::new(422, "settings", "These settings cannot be deployed").detail(why).close()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Settings, u16> {
        let mut max = Limits::default();
        max.set("memory=1GiB").unwrap();
        change(Some(query), &Limits::default(), &max)
            .map(|change| change.onto(None).unwrap().0)
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
        assert!(!settings.stream_body && !settings.pass_authorization);
        let settings = parse("stream-body=true&pass-authorization=true&arg=x").unwrap();
        assert!(settings.stream_body && settings.pass_authorization);
        assert_eq!(parse("").unwrap(), Settings::default());
    }

    #[test]
    fn what_is_kept_and_what_is_not_is_asked_for() {
        let limits = Limits::default();
        let change = |query| change(Some(query), &limits, &limits).unwrap();
        // Whoever knows nothing of this, an older command line among them, gets what it always got.
        assert!(!change("env=A%3D1").keeps);
        let asked = change("keep=all&reset=env&reset=routes");
        assert!(asked.keeps && asked.reset == [Kind::Env, Kind::Routes]);
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
            ("stream-body", 422),
            ("pass-authorization=1", 422),
            ("streambody=true", 400),
            ("keep=some", 422),
            ("reset=everything", 422),
            ("traffic=101", 422),
            ("traffic=ten", 422),
            ("tag=7", 422),
            ("tag=latest", 422),
            ("public=1", 422),
        ] {
            assert_eq!(parse(query), Err(status), "{query}");
        }
    }
}
