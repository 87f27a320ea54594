//! `mayfly deploy`.

mod model;
mod project;

use std::path::{Path, PathBuf};

use clap::Args;
use http::{Method, StatusCode};
use mayfly_core::FunctionName;
use mayfly_core::deployment::{Percent, Tag};
use mayfly_core::limits::node;
use mayfly_core::units::{format_size, human_size};
use mayfly_publish::Kind;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::client::{Client, lines, refusal};
use super::deployment;
use super::model::{self as models, ModelArgs};
use super::output::{self, number, text};
use super::script::{self, ScriptArgs};
use super::{Connection, Failure, Printing, code};

/// Bytes of a request's target at most: hyper takes 65,534.
const TARGET_BYTES: usize = 60 << 10;

/// Deploy a module, a script or an ONNX model, or a new version of it.
///
/// What was deployed before serves until the new version is ready, and goes on serving if the deploy fails. Without a path,
/// the function of this directory is built and deployed, with the settings of its function.toml.
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// The module, core WebAssembly for wasm32-wasip1; a script, as app.js or app.ts, or its directory; or a model, as
    /// model.onnx [default: what function.toml here says, built first].
    path: Option<PathBuf>,
    /// Deploy what function.toml names as it is, without building it first.
    #[arg(long, conflicts_with = "path")]
    no_build: bool,
    /// The function's name [default: the file's name].
    #[arg(long, short)]
    name: Option<String>,
    /// A variable of the guest's environment; may be repeated.
    #[arg(long, short, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// A secret of the node that it gets as a variable of this name; may be repeated; see `mayfly secret`.
    #[arg(long, value_name = "NAME")]
    secret: Vec<String>,
    /// An argument of a command module, after its name, as in --arg=-v; may be repeated.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    arg: Vec<String>,
    /// A limit, as in memory=256MiB; may be repeated; see docs/limits.md.
    #[arg(long, short, value_name = "KEY=VALUE")]
    limit: Vec<String>,
    /// A path of its own, as in /api/...; may be repeated; those given stand for all.
    #[arg(long, short, value_name = "PATTERN")]
    route: Vec<String>,
    /// What it may call, as in `https://api.example.com`, 'GET,POST https://*.example.com/v1/...' or mayfly://other/...; may be
    /// repeated; those given stand for all; see docs/outbound.md.
    #[arg(long, value_name = "RULE")]
    outbound: Vec<String>,
    /// A header that the node adds to its calls of an origin, as in `https://api.example.com` 'Authorization: Bearer ${API_KEY}',
    /// with secrets that the function itself never sees; may be repeated.
    #[arg(long, num_args = 2, value_names = ["ORIGIN", "HEADER"])]
    outbound_header: Vec<String>,
    /// A command module gets a body without a length as it comes; else whole, with CONTENT_LENGTH.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    stream_body: Option<bool>,
    /// A command module gets the header Authorization, as HTTP_AUTHORIZATION; else it does not.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pass_authorization: Option<bool>,
    /// Start from the node's defaults, in all or in these kinds, instead of keeping what is not named: limits, env, secrets,
    /// args, routes, outbound, switches; as in --reset or --reset=env,routes.
    #[arg(
        long,
        value_name = "KIND",
        num_args = 0..=1,
        require_equals = true,
        value_delimiter = ',',
        default_missing_value = "all"
    )]
    reset: Vec<Reset>,
    #[command(flatten)]
    placing: Placing,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    script: ScriptArgs,
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    connection: Connection,
}

/// What a new version gets of its function's requests.
#[derive(Debug, Args)]
struct Placing {
    /// So much of the function's requests for the new version; the others' parts shrink alike. With 0 it is ready, and
    /// previews reach it [default: 100].
    #[arg(long, value_name = "PERCENT")]
    traffic: Option<Percent>,
    /// A second name for the new version, for previews: /hello@pr-42; taken from another version if one has it.
    #[arg(long)]
    tag: Option<Tag>,
    /// The preview of --tag needs no token.
    #[arg(long, requires = "tag")]
    public: bool,
    /// Why; it is shown by `mayfly deployments`.
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
}

/// What is not kept of the version before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Reset {
    All,
    Limits,
    Env,
    Secrets,
    Args,
    Routes,
    Outbound,
    Switches,
}

impl Reset {
    fn kind(self) -> Option<Kind> {
        match self {
            Self::All => None,
            Self::Limits => Some(Kind::Limits),
            Self::Env => Some(Kind::Env),
            Self::Secrets => Some(Kind::Secrets),
            Self::Args => Some(Kind::Args),
            Self::Routes => Some(Kind::Routes),
            Self::Outbound => Some(Kind::Outbound),
            Self::Switches => Some(Kind::Switches),
        }
    }
}

impl Deploy {
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        match self.path.clone() {
            None => self.read_project(Path::new("."))?,
            Some(dir) if dir.is_dir() => self.read_directory(&dir)?,
            Some(_) => {}
        }
        let name = self.function()?;
        let human = !self.printing.json();
        let is_model = models::is_model(self.path());
        let mut file = self.module()?;
        let size = human_size(file.len() as u64);
        let client = self.connection.open()?;
        let (wasm, notes) = match is_model {
            true => self.pack(&file, &name, &client).await?,
            false if script::is_script(self.path()) => {
                let packed = self.script.pack(self.path())?;
                (packed.wasm, packed.notes)
            }
            false => (std::mem::take(&mut file), Vec::new()),
        };
        let mut target = self.target(&name)?;
        for (field, said) in deployment::remark(self.placing.message.as_deref()) {
            let said = said.as_str().unwrap_or_default();
            target += &format!("&{field}={}", utf8_percent_encode(said, NON_ALPHANUMERIC));
        }
        if human {
            output::line(format_args!("{name}: {} ({size})", self.path().display()))?;
            notes.iter().try_for_each(|note| output::line(format_args!("  note: {note}")))?;
        }
        let mut published = self.publish(&client, &target, wasm).await;
        while let Err(failure) = &published
            && is_model
            && self.model.leaves_out(&failure.text)
        {
            if human {
                let note = self.model.left_out_note();
                output::line(format_args!("  note: {note}"))?;
            }
            let wasm = self.model.pack(self.path(), &file)?.wasm;
            published = self.publish(&client, &target, wasm).await;
        }
        let published = published?;
        if !human {
            return output::json(&published);
        }
        show(&published)?;
        if is_model { models::try_out(text(&published, "/url")).await } else { Ok(()) }
    }

    /// What is deployed; the directory's function is known by now.
    fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// Sends a module and prints how far it is; gives what the node says of it in the end.
    async fn publish(
        &self,
        client: &Client,
        target: &str,
        wasm: Vec<u8>,
    ) -> Result<Value, Failure> {
        let human = !self.printing.json();
        let answer = client.send(Method::PUT, target, "application/x-ndjson", wasm.into()).await?;
        let mut published = None;
        lines(answer.into_body(), |line| {
            let line: Value = serde_json::from_str(line).map_err(|why| {
                Failure::new(code::FAILED, format!("the node's answer cannot be read: {why}"))
            })?;
            if let Some(problem) = line.get("problem") {
                let status = u16::try_from(number(problem, "/status")).unwrap_or(500);
                let status = StatusCode::from_u16(status).unwrap_or_default();
                let mut failure = refusal(status, problem);
                failure.text += "\nWhat was deployed before is untouched.";
                return Err(failure);
            }
            if let Some(done) = line.get("published") {
                published = Some(done.clone());
            } else if human {
                let stage = text(&line, "/stage");
                output::line(format_args!(
                    "  {stage:<10} {:>10}",
                    output::time(number(&line, "/us"))
                ))?;
            }
            Ok(())
        })
        .await?;
        published.ok_or_else(|| {
            Failure::new(
                code::UNREACHABLE,
                "the node closed the connection before the deploy ended",
            )
        })
    }

    fn resets(&self, what: Reset) -> bool {
        self.reset.iter().any(|reset| *reset == what || *reset == Reset::All)
    }

    #[cfg(test)]
    pub(super) fn planned(&self) -> Result<String, Failure> {
        self.target(&self.function()?)
    }

    /// The name given, or the file's: `target/my_function.wasm` is `my-function`.
    fn function(&self) -> Result<FunctionName, Failure> {
        let usage = |why: String| Failure::new(code::USAGE, why);
        if let Some(name) = &self.name {
            return FunctionName::new(name).map_err(|why| usage(format!("--name {name}: {why}")));
        }
        let stem = self.path().file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name = stem.to_ascii_lowercase().replace(['_', '.', ' '], "-");
        FunctionName::new(&name).map_err(|why| {
            usage(format!("'{name}', from the file's name: {why}; name it with --name"))
        })
    }

    fn target(&self, name: &FunctionName) -> Result<String, Failure> {
        if let Some(env) = self.env.iter().find(|env| !env.contains('=')) {
            let why = format!(
                "--env {env}: write KEY=VALUE, as in --env {env}=..., or {env}= for an empty value"
            );
            return Err(Failure::new(code::USAGE, why));
        }
        let mut kept = Vec::new();
        let mut reset = Vec::new();
        if !self.reset.contains(&Reset::All) {
            kept.push("all".to_owned());
            reset.extend(
                self.reset.iter().filter_map(|reset| Some(reset.kind()?.name().to_owned())),
            );
        }
        let said = |switch: Option<bool>| Vec::from_iter(switch.map(|on| on.to_string()));
        let (stream, pass) = (said(self.stream_body), said(self.pass_authorization));
        let placing = &self.placing;
        let traffic = Vec::from_iter(placing.traffic.map(|percent| percent.to_string()));
        let tag = Vec::from_iter(placing.tag.as_ref().map(ToString::to_string));
        let public = Vec::from_iter(placing.public.then(|| "true".to_owned()));
        let pairs = self.outbound_header.chunks(2);
        let headers: Vec<_> = pairs.map(|pair| pair.join(" ")).collect();
        let parameters = [
            ("keep", &kept),
            ("reset", &reset),
            ("env", &self.env),
            ("secret", &self.secret),
            ("arg", &self.arg),
            ("limit", &self.limit),
            ("route", &self.route),
            ("outbound", &self.outbound),
            ("outbound-header", &headers),
            ("stream-body", &stream),
            ("pass-authorization", &pass),
            ("traffic", &traffic),
            ("tag", &tag),
            ("public", &public),
        ];
        let all: Vec<_> = parameters
            .iter()
            .flat_map(|(key, values)| {
                let encode = |value| utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
                values.iter().map(move |value| format!("{key}={}", encode(value)))
            })
            .collect();
        let target = format!("/v1/functions/{name}?{}", all.join("&"));
        if target.len() > TARGET_BYTES {
            let why = format!(
                "the settings take {} bytes when sent; at most {TARGET_BYTES} fit",
                target.len()
            );
            return Err(Failure::new(code::USAGE, why));
        }
        Ok(target)
    }

    fn module(&self) -> Result<Vec<u8>, Failure> {
        self.model.fit(self.path())?;
        let name = self.path().display();
        let failed = |why: &dyn std::fmt::Display| {
            Failure::new(code::FAILED, format!("cannot read {name}: {why}"))
        };
        let size = std::fs::metadata(self.path()).map_err(|why| failed(&why))?.len();
        if size > node::PACKAGE_BYTES {
            let max = format_size(node::PACKAGE_BYTES);
            return Err(failed(&format_args!(
                "it has {}, and a module has at most {max}",
                human_size(size)
            )));
        }
        std::fs::read(self.path()).map_err(|why| failed(&why))
    }
}

fn show(published: &Value) -> Result<(), Failure> {
    let init_log = text(published, "/init_log");
    for line in init_log.lines() {
        // What a runner has to say of a model is for who deploys it.
        let (label, line) =
            line.strip_prefix("note: ").map_or(("init", line), |note| ("note", note));
        output::line(format_args!("  {label}: {}", mayfly_observe::logs::escape(line.as_bytes())))?;
    }
    for note in published["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output::line(format_args!("  note: {note}"))?;
    }
    let kept: Vec<_> =
        published["kept"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !kept.is_empty() {
        output::line(format_args!(
            "  kept       {} (--reset drops what is kept)",
            kept.join(", ")
        ))?;
    }
    let revision = &published["revision"];
    output::line(format_args!("  wasm       sha256:{}", text(revision, "/wasm")))?;
    output::line(format_args!("  code       {}", human_size(number(revision, "/artifact_bytes"))))?;
    output::line(format_args!("  snapshot   {}", output::snapshot(revision)))?;
    let (url, number) = (text(published, "/url"), number(revision, "/number"));
    let now = &published["deployment"];
    let splits = now["splits"].as_array().map_or(&[][..], Vec::as_slice);
    let own = splits.iter().find(|split| split["version"] == number);
    let percent = own.and_then(|split| split["percent"].as_f64()).unwrap_or_default();
    let mut tags = now["tags"].as_object().into_iter().flatten();
    let tagged = tags.rfind(|(_, tagged)| tagged["version"] == number);
    if percent >= 100.0 && tagged.is_none() {
        return output::line(format_args!("version {number} answers at {url}"));
    }
    let (preview, public) = match tagged {
        Some((_, tagged)) => (text(tagged, "/url").to_owned(), tagged["public"] == true),
        None => (format!("{url}@{number}"), false),
    };
    match percent > 0.0 {
        true => output::line(format_args!(
            "version {number} answers {percent} % of {url}, and {preview}"
        ))?,
        false => output::line(format_args!("version {number} is ready: {preview}"))?,
    }
    if public { Ok(()) } else { deployment::preview(now, &preview) }
}
