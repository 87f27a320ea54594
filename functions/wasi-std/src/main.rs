//! What a program meets through Rust's standard library: one case for each argument, its findings on stdout. The tests
//! run each with `mayfly run` and, where there is one, with wasmtime's own runner, and compare.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::time::{Duration, Instant, SystemTime};

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("args") => args.for_each(|arg| println!("{arg:?}")),
        Some("env") => environment(),
        Some("copy") => copy(),
        Some("lines") => lines(),
        Some("files") => files(),
        Some("sockets") => sockets(),
        Some("threads") => println!(
            "{:?}",
            std::thread::Builder::new().spawn(|| ()).map(drop).map_err(|e| e.kind())
        ),
        Some("clocks") => clocks(),
        Some("sleep") => sleep(),
        Some("random") => random(),
        Some("large") => large(),
        Some("exit") => {
            std::process::exit(args.next().and_then(|code| code.parse().ok()).unwrap_or(1))
        }
        Some("panic") => panic!("as it was told to"),
        Some("abort") => std::process::abort(),
        Some("overflow") => println!("{}", descend(1)),
        _ => {
            eprintln!("name a case");
            std::process::exit(64);
        }
    }
}

fn environment() {
    let mut pairs: Vec<_> = std::env::vars().collect();
    pairs.sort();
    pairs.iter().for_each(|(name, value)| println!("{name}={value:?}"));
    println!(
        "{:?} {:?}",
        std::env::var("NOT_THERE"),
        std::env::current_dir().map_err(|e| e.kind())
    );
}

/// All of stdin to stdout, in uneven pieces.
fn copy() {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let (mut piece, mut total) = ([0; 4099], 0);
    loop {
        match input.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => {
                total += n;
                if output.write_all(&piece[..n]).is_err() {
                    std::process::exit(74);
                }
            }
            Err(why) => {
                eprintln!("{why}");
                std::process::exit(66);
            }
        }
    }
    eprintln!("{total} bytes");
}

fn lines() {
    for (number, line) in io::stdin().lock().lines().enumerate() {
        println!("{number}: {:?}", line.map_err(|e| e.kind()));
    }
}

/// Everything about files fails, each in its own way.
fn files() {
    use std::fs;
    let kind = |e: io::Error| (e.kind(), e.raw_os_error());
    println!("open {:?}", fs::File::open("a").map(drop).map_err(kind));
    println!("open absolute {:?}", fs::File::open("/etc/passwd").map(drop).map_err(kind));
    println!("create {:?}", fs::File::create("a").map(drop).map_err(kind));
    println!("write {:?}", fs::write("../a", b"x").map_err(kind));
    println!("metadata {:?}", fs::metadata(".").map(drop).map_err(kind));
    println!("read_dir {:?}", fs::read_dir("/").map(drop).map_err(kind));
    println!("create_dir {:?}", fs::create_dir("d").map_err(kind));
    println!("remove_dir {:?}", fs::remove_dir("d").map_err(kind));
    println!("remove_file {:?}", fs::remove_file("a").map_err(kind));
    println!("rename {:?}", fs::rename("a", "b").map_err(kind));
    println!("hard_link {:?}", fs::hard_link("a", "b").map_err(kind));
    println!("read_link {:?}", fs::read_link("a").map(drop).map_err(kind));
    println!("canonicalize {:?}", fs::canonicalize("a").map(drop).map_err(kind));
    println!("exists {:?}", fs::exists("a").map_err(kind));
}

fn sockets() {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    let kind = |e: io::Error| e.kind();
    println!("connect {:?}", TcpStream::connect("127.0.0.1:1").map(drop).map_err(kind));
    println!("listen {:?}", TcpListener::bind("127.0.0.1:0").map(drop).map_err(kind));
    println!("udp {:?}", UdpSocket::bind("127.0.0.1:0").map(drop).map_err(kind));
}

fn clocks() {
    let year_2026 = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    println!("the calendar is plausible: {}", SystemTime::now() > year_2026);
    let mut last = Instant::now();
    let backwards = (0..10_000).filter(|_| {
        let now = Instant::now();
        let back = now < last;
        last = now;
        back
    });
    println!("the clock went back {} times", backwards.count());
}

fn sleep() {
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(30));
    let slept = began.elapsed();
    println!("{}", slept >= Duration::from_millis(29) && slept < Duration::from_secs(5));
}

fn random() {
    let draws: HashSet<u64> = (0..1_000).map(|n| RandomState::new().hash_one(n)).collect();
    println!("{} different draws of 1000", draws.len());
}

/// More than any pipe or buffer between holds.
fn large() {
    let line = "0123456789abcdef".repeat(64);
    let mut output = io::stdout().lock();
    for _ in 0..4_096 {
        if writeln!(output, "{line}").is_err() {
            std::process::exit(74);
        }
    }
}

/// Deeper than any stack, in a way that no optimiser turns into a loop.
fn descend(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == u64::MAX { 0 } else { descend(depth + 1) + frame[(depth % 64) as usize] }
}
