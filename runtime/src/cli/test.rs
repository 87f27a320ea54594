//! `mayfly test`: a function's own tests in the sandbox, then its cases over HTTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use mayfly_observe::logs::{Body, Entry};
use mayfly_runtime::dev::cases::{self, Answer, Case};
use mayfly_runtime::dev::command::Task;
use mayfly_runtime::dev::junit;
use mayfly_runtime::dev::project::Project;

use super::build::{build, open};
use super::connector::{self, Http, Trusted};
use super::dev::state;
use super::local::Local;
use super::{Failure, code, output};

/// Bytes of an answer at most: what a test compares.
const ANSWER_BYTES: usize = 64 << 20;
/// The log has a thread of its own, which a busy machine keeps waiting.
const LOG_PATIENCE: Duration = Duration::from_secs(5);
/// Lines of a function's log in which a request's are looked for.
const LOG_LINES: usize = 1000;

/// Build a function and run its tests: those in its own language, in the sandbox, and its cases, over HTTP against a node of
/// its own. Exit code 0 if all pass.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// The function's directory.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Only cases with this text in their name; no tests in the function's own language.
    #[arg(long, short, value_name = "TEXT")]
    filter: Option<String>,
    /// Write the results of the cases as JUnit's XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

impl Test {
    pub(super) fn run(self) -> Result<(), Failure> {
        let project = open(&self.dir)?;
        let file = project.dir.join(&project.manifest.test.cases);
        // Before the build, which may take a while.
        let mut cases = match (file.exists(), project.tests()) {
            (false, Some(_)) => Vec::new(),
            _ => cases::read(&file).map_err(|why| Failure::new(code::CONFIG, why))?,
        };
        let all = cases.len();
        if let Some(text) = &self.filter {
            cases.retain(|case| case.name.contains(text.as_str()));
            if cases.is_empty() {
                let why = format!("no case of {all} has '{text}' in its name");
                return Err(Failure::new(code::USAGE, why));
            }
        }
        let built = build(&project)?;
        if let (Some(task), None) = (project.tests(), &self.filter) {
            native(&task)?;
        }
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let node = Local::start(&state(&project.dir, "test")?, any, any)?;
        let (_, notes) = node.publish(&project, built)?;
        notes.iter().try_for_each(|note| output::line(format_args!("note: {note}")))?;
        let beside = file.parent().unwrap_or(&project.dir);
        let results = Runner { node: &node, project: &project, beside }.all(&cases)?;
        node.stop();
        if let Some(path) = &self.junit {
            let text = junit::document(project.manifest.name.as_str(), &results);
            std::fs::write(path, text).map_err(|why| {
                Failure::new(code::FAILED, format!("cannot write {}: {why}", path.display()))
            })?;
        }
        let failed = results.iter().filter(|result| !result.wrong.is_empty()).count();
        output::line(format_args!("{} passed, {failed} failed", results.len() - failed))?;
        if failed == 0 { Ok(()) } else { Err(Failure::new(code::FAILED, "")) }
    }
}

/// Runs tests in the function's own language. They find this program as `mayfly`, whatever else the PATH has.
fn native(task: &Task<'_>) -> Result<(), Failure> {
    let failed = |why: String| Failure::new(code::FAILED, why);
    let exe = std::env::current_exe().map_err(|why| failed(why.to_string()))?;
    let own = exe.parent().unwrap_or(Path::new("/")).to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&path)))
        .map_err(|why| failed(format!("PATH: {why}")))?;
    let mut env = task.env.clone();
    env.entry("PATH".into()).or_insert(path.to_string_lossy().into_owned());
    let status = Task { env: &env, ..*task }.run().map_err(|why| failed(why.to_string()))?;
    if status.success() {
        return Ok(());
    }
    Err(failed(format!(
        "tests failed: '{}' ended with {status}; the cases were not run",
        task.command
    )))
}

/// What runs cases.
struct Runner<'a> {
    node: &'a Local,
    project: &'a Project,
    /// Files that cases name are here.
    beside: &'a Path,
}

impl Runner<'_> {
    /// One after the other, so that what each takes is its own.
    fn all(&self, cases: &[Case]) -> Result<Vec<junit::Result>, Failure> {
        let http = connector::http(&self.node.gateway(), Trusted::System)?;
        let mut results = Vec::with_capacity(cases.len());
        for case in cases {
            let began = Instant::now();
            let answered = self.node.runtime().block_on(self.ask(&http, case));
            let took = began.elapsed();
            let (wrong, log) = match answered {
                Ok(answer) => (case.judge(&answer, self.beside), answer.log),
                Err(why) => (vec![why], Vec::new()),
            };
            let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let word = if wrong.is_empty() { "ok  " } else { "FAIL" };
            output::line(format_args!("{word}  {}  {}", case.name, output::time(us)))?;
            for line in &wrong {
                output::line(format_args!("      {line}"))?;
            }
            if !wrong.is_empty() {
                log.iter().try_for_each(|line| output::line(format_args!("      > {line}")))?;
            }
            results.push(junit::Result { name: case.name.clone(), took, wrong });
        }
        Ok(results)
    }

    async fn ask(&self, http: &Http, case: &Case) -> Result<Answer, String> {
        let name = self.project.manifest.name.as_str();
        let prepared = case.prepare(name, Some(self.beside))?;
        let url = format!("{}{}", self.node.gateway(), prepared.path);
        let uri: Uri = url.parse().map_err(|why| format!("{url}: {why}"))?;
        let mut request = Request::new(Full::new(Bytes::from(prepared.body)));
        *request.method_mut() = prepared.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = prepared.headers;
        let broken = |why: &dyn std::fmt::Display| format!("no answer: {why}");
        let response = http.request(request).await.map_err(|why| broken(&why))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await.map(|body| body.to_bytes());
        let mut answer =
            Answer { status: head.status.as_u16(), headers: head.headers, ..Answer::default() };
        // A body that breaks off has an outcome too.
        match body {
            Ok(body) => answer.body = body.into(),
            Err(why) if case.needs_the_log() => drop(why),
            Err(why) => return Err(broken(&why)),
        }
        self.read_log(&mut answer, case.needs_the_log()).await;
        Ok(answer)
    }

    /// What the node's log has of the request, if the function got it; waited for if something of it is expected.
    async fn read_log(&self, answer: &mut Answer, wait: bool) {
        let id = answer.headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let Some(id) = id.map(str::to_owned) else { return };
        let until = Instant::now() + LOG_PATIENCE;
        let name = &self.project.manifest.name;
        loop {
            let Ok((entries, _)) = self.node.logs().read(name, LOG_LINES, false) else { return };
            let own: Vec<_> = entries.iter().filter(|entry| is_of(entry, &id)).collect();
            let end = own.iter().find_map(|entry| match &entry.body {
                Body::Invocation(record) => Some(record),
                _ => None,
            });
            if let Some(record) = end {
                answer.outcome = Some(record.outcome.to_owned());
                answer.wall = Some(Duration::from_nanos(record.times.total_ns));
                let lines = own.iter().filter_map(|entry| match &entry.body {
                    Body::Line { text, .. } => Some(text.clone()),
                    _ => None,
                });
                answer.log = lines.chain(record.detail.clone()).collect();
            }
            if end.is_some() || !wait || Instant::now() > until {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn is_of(entry: &Entry, id: &str) -> bool {
    match &entry.body {
        Body::Line { request_id, .. } | Body::Over { request_id, .. } => request_id.as_str() == id,
        Body::Invocation(record) => record.request_id.as_str() == id,
        Body::Dropped { .. } => false,
    }
}
