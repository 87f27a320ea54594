//! Real guests in real arenas: nobody sees what another one wrote, every write goes through, and every stray one is the
//! guest's own trap.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use wasmtime::{Engine, InstancePre, Linker, Module, Store, Trap};

use super::*;
use crate::engine::codegen::base_config;

struct Rig {
    engine: Engine,
    arenas: Arenas,
}

impl Rig {
    fn new(most: usize) -> Self {
        let arenas = Arenas::reserve(most, 1 << 20).unwrap();
        let mut config = base_config();
        into_config(&arenas, &mut config);
        Self { engine: Engine::new(&config).unwrap(), arenas }
    }

    fn guest(&self, pages: u64, image: Option<&[u8]>, body: &str) -> Guest {
        let text = format!(
            r#"(module (import "h" "poke" (func $poke (param i32))) (memory (export "memory") {pages} 4096)
                (func $write (param $at i32) (i32.store8 (local.get $at) (i32.const 7)))
                (func $check (param $at i32) (param $byte i32)
                    (if (i32.ne (i32.load8_u (local.get $at)) (local.get $byte)) (then unreachable)))
                {body})"#
        );
        let module = Module::new(&self.engine, wat::parse_str(text).unwrap()).unwrap();
        let mut linker = Linker::new(&self.engine);
        // A host function that waits, and then writes where it is told.
        linker
            .func_wrap_async("h", "poke", |mut caller: Caller<'_>, (at,): (u32,)| {
                Box::new(async move {
                    let mut waited = false;
                    std::future::poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        if std::mem::replace(&mut waited, true) {
                            Poll::Ready(())
                        } else {
                            Poll::Pending
                        }
                    })
                    .await;
                    let memory = caller.get_export("memory").unwrap().into_memory().unwrap();
                    memory.data_mut(&mut caller)[at as usize] = 9;
                })
            })
            .unwrap();
        let image = image.map(|bytes| {
            let mut whole = vec![0; bytes.len().next_multiple_of(64 << 10)];
            whole[..bytes.len()].copy_from_slice(bytes);
            Image::of_bytes(&whole)
        });
        Guest {
            pre: linker.instantiate_pre(&module).unwrap(),
            template: self.arenas.template(image, pages << 16),
        }
    }
}

type Caller<'a> = wasmtime::Caller<'a, ()>;

struct Guest {
    pre: InstancePre<()>,
    template: Arc<Template>,
}

impl Guest {
    fn host(&self) -> Hosted<()> {
        let mut store = Store::new(self.pre.module().engine(), ());
        store.set_epoch_deadline(1_000_000);
        Hosted::new(store, self.template.take().unwrap())
    }

    /// One request: its result, and bytes that making the memory fresh has to see to.
    fn run(&self) -> (wasmtime::Result<()>, usize) {
        let mut store = self.host();
        let result = block(async {
            let instance = store.instantiate(&self.pre).await?;
            let run = instance.get_typed_func::<(), ()>(&mut *store, "run")?;
            run.call_async(&mut *store, ()).await
        });
        let work = store.work_bytes();
        (result, work)
    }

    fn holds(&self) -> usize {
        let (result, work) = self.run();
        result.unwrap();
        work
    }
}

fn block<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return value;
        }
    }
}

/// Writes at these places, each of which it expects to be as it was at first.
fn writes(places: &[(u32, u32)]) -> String {
    let steps: String = places
        .iter()
        .map(|(at, byte)| {
            format!(
                "(call $check (i32.const {at}) (i32.const {byte})) (call $write (i32.const {at}))"
            )
        })
        .collect();
    format!(r#"(func (export "run") {steps})"#)
}

#[test]
fn what_is_written_again_and_again_becomes_hot_and_stays_fresh() {
    let rig = Rig::new(1);
    let image: Vec<u8> = (0..32 << 10).map(|i| u8::try_from(i % 251).unwrap() | 1).collect();
    let of = |at: u32| u32::from(image[at as usize]);
    let places = [(100, of(100)), (9_000, of(9_000)), (40_000, 0), (65_535, 0)];
    let guest = rig.guest(1, Some(&image), &writes(&places));
    for _ in 0..2 {
        assert_eq!(guest.holds(), 64 << 10, "all pages are open while it is learned");
    }
    // Pages 0 and 2 with the one between them, 9 and 15.
    assert_eq!(guest.template.hot_pages(), Some(5));
    for _ in 0..20 {
        assert_eq!(guest.holds(), 5 * 4_096);
    }
}

#[test]
fn a_page_that_is_written_now_and_then_is_a_fault_and_is_fresh_the_next_time() {
    let rig = Rig::new(1);
    let steady = rig.guest(4, None, &writes(&[(10, 0)]));
    let stray = rig.guest(4, None, &writes(&[(10, 0), (100_000, 0), (200_000, 0), (8_192, 0)]));
    for _ in 0..3 {
        steady.holds();
        stray.holds();
    }
    assert_eq!(rig.arenas.made(), 1, "they took turns in one");
    for _ in 0..3 {
        assert!(steady.holds() <= 8_192);
    }
}

/// Every page once, in several orders, by instructions, by a bulk fill and by the host, and in a start function.
#[test]
fn however_a_guest_writes_every_write_goes_through_and_nothing_stays() {
    let rig = Rig::new(2);
    let quiet = rig.guest(64, None, r#"(func (export "run"))"#);
    let fresh = rig.guest(
        64,
        None,
        r#"(func (export "run") (local $at i32)
            (loop $l
                (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
                (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 4194304)))))"#,
    );
    let each = |step: &str| {
        format!(
            r#"(func (export "run") (local $n i32) (local $at i32)
                (loop $l
                    (local.set $at (i32.mul (i32.rem_u (i32.mul (local.get $n) (i32.const {step})) (i32.const 1024)) (i32.const 4096)))
                    (i32.store8 (local.get $at) (i32.const 1))
                    (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1024)))))"#
        )
    };
    let fill =
        r#"(func (export "run") (memory.fill (i32.const 1) (i32.const 5) (i32.const 4194300)))"#;
    let start = r#"(func $s (memory.fill (i32.const 1) (i32.const 5) (i32.const 4194300))) (start $s) (func (export "run"))"#;
    let host = r#"(func (export "run") (local $at i32)
        (loop $l
            (call $poke (local.get $at))
            (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 36864))) (i32.const 4194304)))))"#;
    let grow = r#"(func (export "run")
        (if (i32.ne (memory.grow (i32.const 16)) (i32.const 64)) (then unreachable))
        (call $check (i32.const 4194304) (i32.const 0)) (call $check (i32.const 5242879) (i32.const 0))
        (memory.fill (i32.const 0) (i32.const 5) (i32.const 5242880)))"#;
    let bodies =
        [each("1"), each("1023"), each("389"), fill.into(), start.into(), host.into(), grow.into()];
    let guests: Vec<_> = bodies.iter().map(|body| rig.guest(64, None, body)).collect();
    for _ in 0..4 {
        for guest in &guests {
            // Before it is learned, after, and when another one had the arena.
            guest.holds();
            fresh.holds();
            quiet.holds();
        }
    }
}

#[test]
fn what_a_guest_may_not_touch_is_its_own_trap() {
    let rig = Rig::new(1);
    let beyond = rig.guest(1, None, r#"(func (export "run") (call $write (i32.const 65536)))"#);
    let far = rig.guest(1, None, r#"(func (export "run") (call $write (i32.const -1)))"#);
    let read = rig.guest(
        1,
        None,
        r#"(func (export "run") (drop (memory.grow (i32.const 1))) (drop (i32.load (i32.const 131069))))"#,
    );
    for guest in [&beyond, &far, &read] {
        for _ in 0..4 {
            let error = guest.run().0.unwrap_err();
            assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::MemoryOutOfBounds));
        }
    }
}

#[test]
fn arenas_are_made_when_they_are_needed_and_go_to_whoever_needs_them() {
    let rig = Rig::new(3);
    let guests: Vec<_> = (0..8).map(|_| rig.guest(1, None, &writes(&[(1, 0)]))).collect();
    assert_eq!(rig.arenas.made(), 0);
    for guest in guests.iter().cycle().take(40) {
        guest.holds();
    }
    assert_eq!(rig.arenas.made(), 3);
    let held: Vec<_> = guests[..3].iter().map(Guest::host).collect();
    assert!(matches!(guests[4].template.take(), Err(OutOfArenas::Lent)));
    drop(held);
    drop(guests);
    let other = rig.guest(1, None, &writes(&[(1, 0)]));
    other.holds();
    assert_eq!(rig.arenas.made(), 3);
}

/// With a store that was put away, nobody else ever gets the memory.
#[test]
fn a_memory_whose_instance_lives_on_is_nobody_elses() {
    let rig = Rig::new(2);
    let guest = rig.guest(1, None, &writes(&[(1, 0)]));
    let arena = {
        let hosted = guest.host();
        hosted.arena()
    };
    assert!(arena.is_some());
    assert_eq!(guest.template.idle(), 0);
    guest.holds();
    assert_eq!(rig.arenas.made(), 2);
}

#[test]
fn when_memory_is_short_nothing_that_holds_much_stands_ready() {
    let rig = Rig::new(4);
    let small = rig.guest(1, None, &writes(&[(1, 0)]));
    let fill =
        r#"(func (export "run") (memory.fill (i32.const 0) (i32.const 5) (i32.const 524288)))"#;
    let guest = rig.guest(8, None, fill);
    for _ in 0..3 {
        small.holds();
        guest.holds();
    }
    drop((guest.host(), guest.host()));
    assert_eq!((small.template.idle(), guest.template.idle()), (1, 2));
    rig.arenas.set_short(true, 1);
    assert_eq!(guest.template.idle(), 1);
    guest.holds();
    assert_eq!(guest.template.idle(), 0);
    rig.arenas.set_short(false, 8);
    guest.holds();
    assert_eq!((small.template.idle(), guest.template.idle(), rig.arenas.made()), (1, 1, 3));
}

/// As many mappings as were planned for, and not one more, in the worst request there is.
#[test]
fn an_arena_has_no_more_mappings_than_were_planned() {
    let rig = Rig::new(1);
    let limits = rig.arenas.limits();
    // Every 9th page, so that no two are one run.
    let places: Vec<_> = (0..64).map(|n| (n * 9 * 4_096, 0)).collect();
    let (hot, all) = places.split_at(limits.hot_runs);
    let steady = rig.guest(64, Some(&[1; 100]), &writes(&[&[(0, 1)], &hot[1..]].concat()));
    let stray = &[&[(0, 1)], &hot[1..], &all[..limits.faults]].concat();
    let most = 5 + 1 + 2 * (limits.hot_runs + limits.faults);
    for _ in 0..4 {
        steady.holds();
    }
    assert_eq!(steady.template.hot_pages(), Some(u32::try_from(limits.hot_runs).unwrap()));
    let worst = rig.guest(64, Some(&[1; 100]), &writes(stray));
    let mut store = worst.host();
    block(async {
        let instance = store.instantiate(&worst.pre).await.unwrap();
        let run = instance.get_typed_func::<(), ()>(&mut *store, "run").unwrap();
        run.call_async(&mut *store, ()).await.unwrap();
    });
    let base = store.arena().unwrap().base().addr();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let within = maps.lines().filter(|line| {
        let start = usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
        (base..base + ARENA_BYTES).contains(&start)
    });
    let count = within.count();
    assert!(count <= most, "{count} of {most}");
}
