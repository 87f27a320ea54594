//! URLs and forms by the crate of the URL standard's parser.

use rquickjs::Object;
use rquickjs::Result;
use rquickjs::prelude::{Func, Opt};
use url::{Url, form_urlencoded, quirks};

pub(super) fn install(native: &Object<'_>) -> Result<()> {
    native.set("urlParse", Func::from(parse))?;
    native.set("urlParts", Func::from(parts))?;
    native.set("urlSet", Func::from(set))?;
    native.set("formParse", Func::from(form_parse))?;
    native.set("formWrite", Func::from(form_write))
}

/// What is a URL, in its one spelling.
fn parse(text: String, base: Opt<Option<String>>) -> Option<String> {
    let base = match base.0.flatten() {
        Some(base) => Some(Url::parse(&base).ok()?),
        None => None,
    };
    Url::options().base_url(base.as_ref()).parse(&text).ok().map(String::from)
}

/// protocol, username, password, host, hostname, port, pathname, search, hash, origin
fn parts(href: String) -> Vec<String> {
    let Ok(url) = Url::parse(&href) else { return Vec::new() };
    let parts = [
        quirks::protocol(&url),
        quirks::username(&url),
        quirks::password(&url),
        quirks::host(&url),
        quirks::hostname(&url),
        quirks::port(&url),
        quirks::pathname(&url),
        quirks::search(&url),
        quirks::hash(&url),
        &quirks::origin(&url),
    ];
    parts.map(str::to_owned).to_vec()
}

/// The URL with another part; what cannot be one is passed over, as the standard has it.
fn set(href: String, part: String, value: String) -> String {
    let Ok(mut url) = Url::parse(&href) else { return href };
    // What these refuse leaves the URL as it was.
    let _ = match part.as_str() {
        "protocol" => quirks::set_protocol(&mut url, &value),
        "username" => quirks::set_username(&mut url, &value),
        "password" => quirks::set_password(&mut url, &value),
        "host" => quirks::set_host(&mut url, &value),
        "hostname" => quirks::set_hostname(&mut url, &value),
        "port" => quirks::set_port(&mut url, &value),
        "pathname" => {
            quirks::set_pathname(&mut url, &value);
            Ok(())
        }
        "search" => {
            quirks::set_search(&mut url, &value);
            Ok(())
        }
        "hash" => {
            quirks::set_hash(&mut url, &value);
            Ok(())
        }
        _ => Ok(()),
    };
    url.into()
}

/// Names and values in turn.
fn form_parse(text: String) -> Vec<String> {
    let pairs = form_urlencoded::parse(text.as_bytes());
    pairs.flat_map(|(name, value)| [name.into_owned(), value.into_owned()]).collect()
}

fn form_write(words: Vec<String>) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    for pair in words.chunks_exact(2) {
        out.append_pair(&pair[0], &pair[1]);
    }
    out.finish()
}
