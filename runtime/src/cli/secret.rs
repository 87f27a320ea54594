//! `mayfly secret`.

use std::io::{IsTerminal as _, Read as _};

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use mayfly_core::limits::node;
use serde_json::Value;

use super::output::{self, text};
use super::{Connection, Failure, Printing, client, code};

/// Secrets of a node, which functions get as variables: `mayfly deploy --secret NAME`.
///
/// A value goes in by stdin and never comes out: no verb shows it, it is sealed on the disk, it is no argument that others
/// could read, and no init and no snapshot has it.
#[derive(Debug, Args)]
pub(crate) struct Secret {
    #[command(subcommand)]
    what: What,
}

/// What each of them takes.
#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Set a secret, or set it anew, to what stands on stdin; functions have it from their next request on.
    Set {
        /// Its name, which is the variable's.
        name: String,
        /// Keep a line end at the end of the value, which is refused otherwise: `echo` adds one.
        #[arg(long)]
        raw: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show names, when each was set, and which functions have it.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Forget a secret that no function has.
    Rm {
        /// Its name.
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

impl Secret {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match &self.what {
            What::Set { name, raw, common } => common.set(name, *raw).await,
            What::List { common } => common.list().await,
            What::Rm { name, common } => common.remove(name).await,
        }
    }
}

impl Common {
    async fn set(&self, name: &str, raw: bool) -> Result<(), Failure> {
        let usage = |why: &str| Failure::new(code::USAGE, why);
        mayfly_core::record::check_secret_name(name).map_err(usage)?;
        // Asked for before the node: what is typed must not be lost to a wrong address.
        let client = self.connection.open()?;
        let value = read(raw)?;
        let path = format!("/v1/secrets/{name}");
        let set = client.put_bytes(&path, value).await?;
        match self.printing.json() {
            true => output::json(&set),
            false => output::line(format_args!("{name} is set")),
        }
    }

    async fn list(&self) -> Result<(), Failure> {
        let list = self.connection.open()?.get("/v1/secrets").await?;
        if self.printing.json() {
            return output::json(&list);
        }
        let all = list["secrets"].as_array().map_or(&[][..], Vec::as_slice);
        if all.is_empty() {
            return output::line("no secrets yet: `mayfly secret set NAME` reads one from stdin");
        }
        let rows: Vec<_> = all.iter().map(row).collect();
        output::line(output::table(&["NAME", "SET", "FROM", "FUNCTIONS"], &rows))
    }

    async fn remove(&self, name: &str) -> Result<(), Failure> {
        mayfly_core::record::check_secret_name(name)
            .map_err(|why| Failure::new(code::USAGE, why))?;
        let path = format!("/v1/secrets/{name}");
        let client = self.connection.open()?;
        let answer = client.send(Method::DELETE, &path, "application/json", Bytes::new()).await?;
        let removed = client::json(answer.into_body()).await?;
        match self.printing.json() {
            true => output::json(&removed),
            false => output::line(format_args!("{name} is removed")),
        }
    }
}

/// The value on stdin.
fn read(raw: bool) -> Result<Bytes, Failure> {
    let usage = |why: &str| Failure::new(code::USAGE, why);
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        let why = "the value comes by stdin, where no list of processes shows it: \
                   `printf %s \"$VALUE\" | mayfly secret set NAME`, or `mayfly secret set NAME < FILE`";
        return Err(usage(why));
    }
    let mut value = Vec::new();
    stdin.by_ref().take(node::SECRET_BYTES as u64 + 1).read_to_end(&mut value)?;
    if value.len() > node::SECRET_BYTES {
        return Err(usage("a secret has at most 64 KiB"));
    }
    if value.is_empty() {
        return Err(usage("stdin is empty"));
    }
    if value.ends_with(b"\n") && !raw {
        let why = "the value ends with a line end: use `printf %s ...` in place of `echo`, or keep it with --raw";
        return Err(usage(why));
    }
    Ok(value.into())
}

fn row(secret: &Value) -> Vec<String> {
    let functions = secret["functions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let functions = functions.collect::<Vec<_>>().join(" ");
    let from = match (text(secret, "/fault"), secret["file"] == true) {
        ("", true) => "secrets.dir".to_owned(),
        ("", false) => "secret set".to_owned(),
        (fault, _) => fault.to_owned(),
    };
    vec![
        text(secret, "/name").into(),
        text(secret, "/set").into(),
        from,
        if functions.is_empty() { "-".to_owned() } else { functions },
    ]
}
