//! How long calls take that are as bad as they may be, and how long each goes on before it is asked to stop.
//!
//! `cargo run --release -p mayfly-kernels --example grid [MiB that strided operands lie in]`

mod shapes;
#[cfg(target_arch = "x86_64")]
#[path = "../../../../runtime/host/src/kernels/x86.rs"]
mod x86;

use std::time::{Duration, Instant};

use mayfly_kernels::{PIECE_MAX, Pieces};
use rustix::time::{ClockId, clock_gettime};

/// As the host has them.
const PAUSE: Duration = Duration::from_millis(1);
const LOOK: u64 = PIECE_MAX / 16;

struct Clock {
    rows: Vec<(Duration, Duration, String)>,
}

#[cfg(target_arch = "x86_64")]
fn go_on<C: Pieces>(call: &mut C, at: &mut C::At, stop: &mut impl FnMut(u64) -> bool) -> bool {
    if let Some(avx512) = x86::Avx512::detect() {
        return avx512.go_on(call, at, stop);
    }
    match x86::Avx2::detect() {
        Some(avx2) => avx2.go_on(call, at, stop),
        None => call.go_on(mayfly_kernels::simd::Scalar, at, stop),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn go_on<C: Pieces>(call: &mut C, at: &mut C::At, stop: &mut impl FnMut(u64) -> bool) -> bool {
    call.go_on(mayfly_kernels::simd::Scalar, at, stop)
}

impl shapes::Visit for Clock {
    fn visit<C: Pieces>(&mut self, name: &str, call: &mut C) {
        // The first time on memory that was never touched, then on the same.
        for kind in ["cold", "warm"] {
            let (start, mut at, mut longest) = (cpu_time(), C::At::default(), Duration::ZERO);
            loop {
                let (from, began, mut cost) = (cpu_time(), Instant::now(), 0);
                let done = go_on(call, &mut at, &mut |piece| {
                    cost += piece;
                    cost >= LOOK && {
                        cost = 0;
                        began.elapsed() >= PAUSE
                    }
                });
                longest = longest.max(cpu_time() - from);
                if done {
                    break;
                }
            }
            self.rows.push((cpu_time() - start, longest, format!("{kind} {name}")));
        }
    }
}

/// This thread's: what others do on the machine is not the call's doing.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

fn main() {
    let mib = std::env::args().nth(1).and_then(|mib| mib.parse().ok()).unwrap_or(512_usize);
    let mut clock = Clock { rows: Vec::new() };
    shapes::all(&mut clock, mib << 18);
    let mut rows = clock.rows;
    println!(
        "{} calls; whole call and longest stretch in ms, the worst of either first",
        rows.len()
    );
    rows.sort_by_key(|row| std::cmp::Reverse(row.0));
    print(&rows[..20]);
    rows.sort_by_key(|row| std::cmp::Reverse(row.1));
    print(&rows[..20]);
}

fn print(rows: &[(Duration, Duration, String)]) {
    let ms = |time: &Duration| time.as_secs_f64() * 1e3;
    for (whole, stretch, name) in rows {
        println!("{:9.3} {:9.3}  {name}", ms(whole), ms(stretch));
    }
    println!();
}
