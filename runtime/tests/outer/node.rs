//! A node in a process of its own, on ports that the system chooses.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What the module writes to stderr.
pub(crate) const GREETING: &str = "somebody called";

/// A running node and its directory.
pub(crate) struct Node {
    dir: Option<TempDir>,
    process: Child,
    gateway: String,
    /// Where it speaks TLS, if it does so beside.
    beside: Option<String>,
    admin: String,
    admin_url: String,
}

/// A command module that answers `body` and writes [`GREETING`] to its log.
pub(crate) fn module(body: &str) -> Vec<u8> {
    let head = "Content-Type: text/plain\\0a\\0a";
    // A line end takes one byte, three in the text above.
    let length = head.len() - 4 + body.len();
    let log = GREETING.len() + 1;
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\40\00\00\00")
          (data (i32.const 8) "\00\02\00\00")
          (data (i32.const 64) "{head}{body}")
          (data (i32.const 512) "{GREETING}\0a")
          (func (export "_start")
            (i32.store (i32.const 4) (i32.const {length}))
            (i32.store (i32.const 12) (i32.const {log}))
            (drop (call $write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 32)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"#
    );
    wat::parse_str(text).unwrap()
}

pub(crate) fn mayfly(dir: &TempDir, arguments: &[&str]) -> Command {
    // Another build's, for what is measured.
    let binary = std::env::var_os("MAYFLY_BIN");
    let mut command = Command::new(binary.unwrap_or(env!("CARGO_BIN_EXE_mayfly").into()));
    // Variables of whoever runs the tests must not reach the node.
    command.env_clear().current_dir(dir).args(arguments);
    command
}

/// What a node says that does not start on this directory, listening there.
pub(crate) fn refused(dir: &TempDir, gateway: &str) -> String {
    let arguments = ["serve", "--gateway-listen", gateway, "--admin-listen", "127.0.0.1:0"];
    let few = ["--engine-slots", "8"];
    let output = mayfly(dir, &[&arguments[..], &few].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl Node {
    /// Starts a node and waits until it says that it is ready.
    pub(crate) fn start(dir: TempDir) -> Self {
        Self::start_with(dir, &[])
    }

    /// The same with further arguments.
    pub(crate) fn start_with(dir: TempDir, more: &[&str]) -> Self {
        let arguments =
            ["serve", "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let few = ["--engine-slots", "8", "--log-requests", "all"];
        let mut command = mayfly(&dir, &[&arguments[..], &few, more].concat());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut log = String::new();
            process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
            panic!("the node did not start:\n{log}");
        }
        // Its log must not fill the pipe.
        let mut log = process.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let url = |after: &str| {
            let rest = line.split_once(after)?.1;
            Some(rest.split([',', ' ', '\n']).next()?.to_owned())
        };
        let address = |url: String| url.split_once("://").unwrap().1.to_owned();
        let admin_url = url("admin API on ").unwrap();
        Self {
            dir: Some(dir),
            process,
            gateway: address(url("functions on ").unwrap()),
            beside: url(" and https").map(address),
            admin: address(admin_url.clone()),
            admin_url,
        }
    }

    fn dir(&self) -> &TempDir {
        self.dir.as_ref().unwrap()
    }

    /// The directory, for the next node.
    pub(crate) fn into_dir(mut self) -> TempDir {
        self.dir.take().unwrap()
    }

    /// Writes a file beside the state and gives its path.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.dir().path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.run_with(arguments, &[])
    }

    /// Runs a verb with further variables.
    pub(crate) fn run_with(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> std::process::Output {
        let mut command = mayfly(self.dir(), arguments);
        command.env("MAYFLY_ADMIN", &self.admin_url);
        command.envs(variables.iter().copied()).output().unwrap()
    }

    /// Runs a verb in the node's directory that is told nothing but these variables.
    pub(crate) fn run_here(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> std::process::Output {
        mayfly(self.dir(), arguments).envs(variables.iter().copied()).output().unwrap()
    }

    /// Runs a verb that must succeed; gives its stdout.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a verb that may fail, because the node is about to die; says whether it succeeded.
    pub(crate) fn try_run(&self, arguments: &[&str]) -> bool {
        self.run(arguments).status.success()
    }

    /// Runs a verb that is not waited for.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = mayfly(self.dir(), arguments);
        command.env("MAYFLY_ADMIN", format!("http://{}", self.admin));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// kill -9.
    pub(crate) fn kill(&self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// Starts a request and leaves it under way; the thread gives its status and body.
    pub(crate) fn get_later(&self, path: &str) -> std::thread::JoinHandle<(u16, String)> {
        let (address, path) = (self.gateway.clone(), path.to_owned());
        std::thread::spawn(move || request(&address, &path, ""))
    }

    /// Runs a verb that must fail; gives its exit code and stderr.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        let code = output.status.code().unwrap();
        assert_ne!(code, 0, "{arguments:?}");
        (code, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// One request to the gateway over a socket of its own: status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        request(&self.gateway, path, "")
    }

    /// The same with further header lines, each ended by CRLF.
    pub(crate) fn get_with(&self, path: &str, headers: &str) -> (u16, String) {
        request(&self.gateway, path, headers)
    }

    /// Sends bytes on a socket of its own to the gateway or, if not, to the admin API; gives all that comes back.
    pub(crate) fn raw(&self, gateway: bool, bytes: &str) -> String {
        let mut stream =
            TcpStream::connect(if gateway { &self.gateway } else { &self.admin }).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Where clients connect to.
    pub(crate) fn address(&self) -> &str {
        &self.gateway
    }

    /// Where it speaks TLS beside that.
    pub(crate) fn beside(&self) -> &str {
        self.beside.as_deref().unwrap()
    }

    /// Where the admin API is.
    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// CPU time that its threads have taken.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let spent = |task: std::io::Result<std::fs::DirEntry>| -> Option<u64> {
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok()
        };
        Duration::from_nanos(tasks.filter_map(spent).sum())
    }

    /// Has it look at its certificates.
    pub(crate) fn hang_up(&self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }

    /// All metrics.
    pub(crate) fn metrics(&self) -> String {
        let token = self.dir().path().join("state/metrics-token");
        let token = std::fs::read_to_string(token).unwrap();
        let header = format!("Authorization: Bearer {}\r\n", token.trim());
        let (status, text) = request(&self.admin, "/metrics", &header);
        assert_eq!(status, 200, "{text}");
        text
    }

    /// Asks the node to end; gives its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let patience = Instant::now() + Duration::from_secs(20);
        while Instant::now() < patience {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the node does not end");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One GET over a socket of its own: status and body.
pub(crate) fn request(address: &str, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    (status, if chunked { joined(body) } else { body.to_owned() })
}

/// The chunks of a body, put together.
fn joined(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    body
}
