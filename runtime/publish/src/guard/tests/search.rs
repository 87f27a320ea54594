//! Guests of every hostile shape, and how much each does between two checks, by its own count.
//!
//! A guest counts its work in a global. The clock is always over, so that each check asks the host, which reads the
//! count: what was counted since the last check must be within its bound. No time decides anything.

use std::fmt::Write as _;

use mayfly_host::engine::codegen::base_config;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use wasmtime::{Engine, Linker, Module, OptLevel, Store, UpdateDeadline, Val};

use super::differential::soak;
use super::*;

/// Work that a guest counts: four instructions for the count and three for a store to a page of its own.
const WORK: &str = "(global.set $n (i32.add (global.get $n) (i32.const 1)))
    (i32.store (i32.and (i32.mul (global.get $n) (i32.const 4096)) (i32.const 0x3fffff)) (i32.const 1))";
/// Instructions of it.
const WORK_STEPS: u64 = 10;
/// Frames that fit the native stack, at 32 bytes each.
const FRAMES: u64 = 16_384;
/// The most that may be counted between two checks: each frame of the deepest recursion has its end, and a path.
const MOST: u64 =
    FRAMES * TAIL as u64 / (TAIL_ACCESS as u64 + WORK_STEPS - 1) + LIMIT as u64 / WORK_STEPS + 2;
/// The same where nothing calls itself or through a table.
const MOST_FLAT: u64 = LIMIT as u64 / WORK_STEPS + 1;

/// Where the functions are in the table; what is before them is filled and copied.
const TABLE: u32 = 10;

struct Shape<'r> {
    random: &'r mut StdRng,
    text: String,
    /// Statements that may still be written.
    left: u32,
    functions: u32,
    deep: bool,
    labels: u32,
}

impl Shape<'_> {
    fn line(&mut self) {
        let n = [1, 5, 120, 700][self.random.random_range(0..4)].min(self.left);
        let what = match self.random.random_range(0..7) {
            0 => format!("{WORK} (call $host)"),
            1 => format!("{WORK} (memory.fill (i32.const 0) (i32.const 1) (i32.const 4096))"),
            2 => format!("{WORK} (memory.copy (i32.const 0) (i32.const 8) (global.get $n))"),
            3 => format!("{WORK} (table.fill (i32.const 0) (ref.null func) (i32.const 2))"),
            _ => WORK.to_owned(),
        };
        self.left -= n;
        for _ in 0..n {
            self.text.push_str(&what);
        }
    }

    fn statement(&mut self, function: u32) {
        if self.left == 0 {
            return;
        }
        let kind = self.random.random_range(0..9);
        match kind {
            0 => {
                self.text.push_str("(block ");
                self.labels += 1;
                self.line();
                let to = self.random.random_range(0..self.labels);
                let _ = write!(self.text, "(br_if {to} (i32.and (global.get $n) (i32.const 1)))");
                self.inside(function);
            }
            // Jump over what follows, again and again.
            1 => {
                self.text.push_str("(block ");
                self.labels += 1;
                let _ = write!(self.text, "{WORK} (br 0)");
                self.inside(function);
            }
            2 => {
                self.text.push_str("(block ");
                self.labels += 1;
                let to = self.random.random_range(0..self.labels);
                let _ =
                    write!(self.text, "{WORK} (block (br_table 0 {} 0 (global.get $n)))", to + 1);
                self.inside(function);
            }
            3 => {
                self.text.push_str("(if (i32.and (global.get $n) (i32.const 2)) (then ");
                self.labels += 1;
                self.statement(function);
                self.text.push_str(") (else ");
                self.statement(function);
                self.labels -= 1;
                self.text.push_str("))");
            }
            4 if function > 0 => {
                let _ = write!(self.text, "(call $f{})", self.random.random_range(0..function));
            }
            5 if self.deep => self.recursion(function),
            _ => self.line(),
        }
    }

    fn inside(&mut self, function: u32) {
        for _ in 0..self.random.random_range(0..3) {
            self.statement(function);
        }
        self.labels -= 1;
        self.text.push(')');
    }

    /// Down as deep as the stack is, and something to do on the way up in each frame.
    fn recursion(&mut self, function: u32) {
        let to = self.random.random_range(0..2);
        self.text.push_str(
            "(if (i32.lt_u (global.get $depth) (i32.const 3000)) (then
            (global.set $depth (i32.add (global.get $depth) (i32.const 1)))",
        );
        let _ = match to {
            0 => write!(self.text, "(call $f{function})"),
            _ => write!(self.text, "(call_indirect (i32.const {}))", TABLE + function),
        };
        for _ in 0..self.random.random_range(0..12) {
            self.text.push_str(WORK);
        }
        self.text.push_str("))");
    }
}

fn guest(random: &mut StdRng) -> (Vec<u8>, bool) {
    let (functions, deep) = (random.random_range(1..6), random.random());
    let left = [200, 2_000, 6_000][random.random_range(0..3)];
    let mut shape = Shape { random, text: String::new(), left, functions, deep, labels: 0 };
    for function in 0..shape.functions {
        let _ = write!(shape.text, "(func $f{function} (export \"f{function}\") ");
        shape.labels = 1;
        for _ in 0..shape.random.random_range(1..12) {
            shape.statement(function);
        }
        shape.text.push(')');
    }
    let start = if shape.random.random() { "(start $f0)" } else { "" };
    let elements: String = (0..functions).map(|function| format!(" $f{function}")).collect();
    let text = format!(
        r#"(module (import "host" "host" (func $host)) (memory 64)
        (table 16 funcref) (elem (i32.const 2) func) (elem (i32.const {TABLE}) func{elements})
        (global $n (export "n") (mut i32) (i32.const 0)) (global $depth (mut i32) (i32.const 0)) {start} {})"#,
        shape.text
    );
    (wasm(&text), deep)
}

#[derive(Default)]
struct Count {
    n: Option<wasmtime::Global>,
    before: u64,
    most: u64,
    checks: u64,
}

/// Runs a guest until each function has returned or was asked ten thousand times; the most it did between two checks.
fn most_between_checks(engine: &Engine, wasm: &[u8]) -> Count {
    let module = Module::new(engine, guarded(wasm)).unwrap();
    let mut store = Store::new(engine, Count::default());
    store.set_epoch_deadline(0);
    store.epoch_deadline_callback(|mut context| {
        seen(&mut context);
        let count = context.data_mut();
        count.checks += 1;
        if count.checks > 10_000 {
            wasmtime::bail!("asked often enough");
        }
        Ok(UpdateDeadline::Continue(0))
    });
    let mut linker = Linker::new(engine);
    linker.func_wrap("host", "host", || {}).unwrap();
    let Ok(instance) = linker.instantiate(&mut store, &module) else { return store.into_data() };
    store.data_mut().n = instance.get_global(&mut store, "n");
    let start = value(&mut store);
    store.data_mut().before = start;
    for export in module.exports() {
        if let Some(function) = instance.get_func(&mut store, export.name()) {
            store.data_mut().checks = 0;
            let _ = function.call(&mut store, &[], &mut []);
            seen(&mut store);
        }
    }
    store.into_data()
}

fn value(mut store: impl wasmtime::AsContextMut<Data = Count>) -> u64 {
    let Some(n) = store.as_context().data().n else { return 0 };
    match n.get(&mut store) {
        Val::I32(n) => u64::from(n.cast_unsigned()),
        _ => 0,
    }
}

fn seen(mut store: impl wasmtime::AsContextMut<Data = Count>) {
    let now = value(&mut store);
    let mut context = store.as_context_mut();
    let count = context.data_mut();
    count.most = count.most.max(now - count.before);
    count.before = now;
}

#[test]
fn no_guest_does_much_between_two_checks() {
    let mut config = base_config();
    config.cranelift_opt_level(OptLevel::None).parallel_compilation(false);
    let engine = Engine::new(&config).unwrap();
    let (mut flat, mut deep) = (0, 0);
    for seed in 0..200 * soak() as u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let (wasm, calls_itself) = guest(&mut random);
        let count = most_between_checks(&engine, &wasm);
        let (most, seen) = if calls_itself { (MOST, &mut deep) } else { (MOST_FLAT, &mut flat) };
        assert!(count.most <= most, "guest {seed}: {} between two checks, of {most}", count.most);
        *seen = count.most.max(*seen);
    }
    println!(
        "the most between two checks: {flat} of {MOST_FLAT}, after deep calls {deep} of {MOST}"
    );
    // They do come near: a bound that nothing reaches proves nothing.
    assert!(flat * 2 >= MOST_FLAT, "{flat}");
}
