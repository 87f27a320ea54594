//! A program that answers HTTP: Mayfly or a peer, started the same way, timed the same way, asked the same way.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::load::Request;
use crate::load::http1::{self, Progress, Reader, Response};
use crate::process::{Process, free_address};

/// How long a server may take to its first answer; Python with a model takes seconds.
const START: Duration = Duration::from_secs(120);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// Makes the command that listens on an address.
pub type MakeCommand = Box<dyn Fn(SocketAddr) -> anyhow::Result<Command>>;

/// Something to start.
pub struct Spec {
    /// As in the record.
    pub name: String,
    /// Its command.
    pub command: MakeCommand,
    /// What is asked: a path, and a body with its type to `POST`.
    pub path: String,
    /// See `path`.
    pub body: Option<(String, Vec<u8>)>,
    /// The status that counts as an answer.
    pub status: u16,
}

/// Something started, and ended when dropped.
pub struct Server {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// What is asked of it.
    pub request: Request,
    /// From just before the spawn to the first answer's last byte.
    pub first_answer: Duration,
    /// The first answer.
    pub answer: Response,
}

impl Spec {
    /// Starts it on the given cores and waits for its first answer.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not answer as expected in time.
    pub fn start(&self, cores: &[usize]) -> anyhow::Result<Server> {
        let address = free_address()?;
        let mut command = (self.command)(address)?;
        let body = self.body.as_ref().map(|(kind, body)| (kind.as_str(), body.as_slice()));
        let request = Request::new(address, &self.path, body);
        let began = Instant::now();
        let mut process = Process::spawn(&mut command, cores)?;
        loop {
            if let Ok(answer) = ask(&request)
                && answer.status == self.status
            {
                let first_answer = began.elapsed();
                return Ok(Server { process, address, request, first_answer, answer });
            }
            process.check().with_context(|| format!("{} did not start", self.name))?;
            anyhow::ensure!(
                began.elapsed() < START,
                "{} gave no answer of status {} to {} within {START:?}",
                self.name,
                self.status,
                self.path
            );
            // Short beside any process's start, long beside what a refused connection costs.
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// Sends one request on a connection of its own and reads the answer.
///
/// # Errors
/// When there is no connection or no whole answer.
pub fn ask(request: &Request) -> anyhow::Result<Response> {
    let mut stream = TcpStream::connect(request.address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(&request.bytes)?;
    let (mut received, mut reader, mut buffer) = (Vec::new(), Reader::default(), vec![0; 64 << 10]);
    loop {
        let n = stream.read(&mut buffer)?;
        anyhow::ensure!(n > 0, "the server closed the connection before its answer was whole");
        received.extend_from_slice(&buffer[..n]);
        if let Progress::Complete { .. } = reader.read(&received)? {
            return http1::decode(&received);
        }
    }
}
