//! Rewritten and plain modules do the same: results, traps, calls of the host, memory, globals.
//!
//! A few hundred modules; `MAYFLY_SOAK=n` makes it n times as many.

use mayfly_host::engine::codegen::base_config;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use wasmtime::{Config, Engine, Extern, Instance, Linker, Module, OptLevel, Store, Trap, Val};

use super::guarded;

pub(super) fn soak() -> usize {
    std::env::var("MAYFLY_SOAK").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

fn config(level: OptLevel) -> Config {
    let mut config = base_config();
    config.cranelift_opt_level(level).parallel_compilation(false);
    config
}

/// What a run can be told by. Native stacks end where frames are larger, so that one trap may come early.
#[derive(Debug, PartialEq)]
enum End {
    Values(Vec<String>),
    Trap(Trap),
    Other(String),
}

#[derive(Debug, Default, PartialEq)]
struct Seen {
    ends: Vec<End>,
    calls: Vec<(String, Vec<String>)>,
    globals: Vec<String>,
    memory: Vec<u8>,
    overflowed: bool,
}

fn shown(value: &Val) -> String {
    match value {
        Val::FuncRef(function) => format!("function {}", function.is_some()),
        value => format!("{value:?}"),
    }
}

fn end_of(error: &wasmtime::Error) -> End {
    match error.downcast_ref::<Trap>() {
        Some(trap) => End::Trap(*trap),
        None => End::Other(error.to_string()),
    }
}

fn run(engine: &Engine, wasm: &[u8]) -> Seen {
    let module = Module::new(engine, wasm).unwrap();
    let mut store = Store::new(engine, Seen::default());
    store.set_epoch_deadline(1 << 40);
    let mut linker = Linker::new(engine);
    for import in module.imports() {
        let Some(ty) = import.ty().func().cloned() else { continue };
        let name = import.name().to_owned();
        let results: Vec<_> = ty.results().collect();
        let made =
            linker.func_new(import.module(), import.name(), ty, move |mut caller, args, out| {
                let seen: &mut Seen = caller.data_mut();
                seen.calls.push((name.clone(), args.iter().map(shown).collect()));
                let number = seen.calls.len() as u64;
                for (to, ty) in out.iter_mut().zip(&results) {
                    *to = match ty {
                        wasmtime::ValType::I32 => Val::I32((number * 7_919 % 65_536) as i32),
                        wasmtime::ValType::I64 => Val::I64(number.cast_signed() * 104_729),
                        wasmtime::ValType::F32 => Val::F32((number as f32).to_bits()),
                        wasmtime::ValType::F64 => Val::F64((number as f64).to_bits()),
                        wasmtime::ValType::V128 => Val::V128(u128::from(number).into()),
                        wasmtime::ValType::Ref(_) => Val::FuncRef(None),
                    };
                }
                Ok(())
            });
        // A module may import one name twice.
        if let Err(error) = made {
            assert!(error.to_string().contains("defined twice"), "{error}");
        }
    }
    let instance = match linker.instantiate(&mut store, &module) {
        Ok(instance) => instance,
        Err(error) => {
            let mut seen = std::mem::take(store.data_mut());
            seen.ends.push(end_of(&error));
            return seen;
        }
    };
    call_all(&mut store, &instance, &module);
    state(store, &instance, &module)
}

fn call_all(store: &mut Store<Seen>, instance: &Instance, module: &Module) {
    for export in module.exports() {
        let Some(Extern::Func(function)) = instance.get_export(&mut *store, export.name()) else {
            continue;
        };
        let ty = function.ty(&*store);
        let args: Vec<_> =
            ty.params().map(|ty| Val::default_for_ty(&ty).unwrap_or(Val::I32(0))).collect();
        let mut results = vec![Val::I32(0); ty.results().len()];
        let end = match function.call(&mut *store, &args, &mut results) {
            Ok(()) => End::Values(results.iter().map(shown).collect()),
            Err(error) => end_of(&error),
        };
        store.data_mut().overflowed |= end == End::Trap(Trap::StackOverflow);
        store.data_mut().ends.push(end);
    }
}

fn state(mut store: Store<Seen>, instance: &Instance, module: &Module) -> Seen {
    let (mut globals, mut memory) = (Vec::new(), Vec::new());
    for export in module.exports() {
        match instance.get_export(&mut store, export.name()) {
            Some(Extern::Global(global)) => globals.push(shown(&global.get(&mut store))),
            Some(Extern::Memory(found)) => memory = found.data(&store).to_vec(),
            _ => {}
        }
    }
    let seen = store.into_data();
    Seen { globals, memory, ..seen }
}

/// Whether the two could be told apart by more than the depth of the stack; `false` if they cannot be compared.
fn compare(engine: &Engine, wasm: &[u8], what: &dyn std::fmt::Display) -> bool {
    let plain = run(engine, wasm);
    let rewritten = run(engine, &guarded(wasm));
    if plain.overflowed || rewritten.overflowed {
        return false;
    }
    // Memories are large: they are not printed.
    assert!(plain.memory == rewritten.memory, "{what}: memory differs");
    let strip = |seen| Seen { memory: Vec::new(), ..seen };
    assert_eq!(strip(plain), strip(rewritten), "{what}");
    true
}

fn smith(random: &mut StdRng) -> Option<Vec<u8>> {
    const IMPORTS: &str = r#"(module (import "host" "a" (func)) (import "host" "b" (func (param i32 i64) (result i32)))
        (import "host" "c" (func (param f32 f64) (result f64))) (import "host" "d" (func (param i32) (result i32 i64))))"#;
    let config = wasm_smith::Config {
        available_imports: Some(wat::parse_str(IMPORTS).unwrap()),
        min_funcs: 1,
        max_funcs: 20,
        max_imports: 10,
        max_memories: 1,
        max_tables: 1,
        min_memories: 1,
        max_memory32_bytes: 8 << 20,
        max_table_elements: 1_000,
        max_instructions: [50, 200, 2_000][random.random_range(0..3)],
        export_everything: true,
        canonicalize_nans: true,
        gc_enabled: false,
        exceptions_enabled: false,
        threads_enabled: false,
        memory64_enabled: false,
        tail_call_enabled: false,
        custom_page_sizes_enabled: false,
        shared_everything_threads_enabled: false,
        wide_arithmetic_enabled: false,
        extended_const_enabled: true,
        bulk_memory_enabled: true,
        reference_types_enabled: random.random_range(0..4) == 0,
        simd_enabled: true,
        multi_value_enabled: true,
        // What it computes is the processor's to choose, the same each time.
        relaxed_simd_enabled: true,
        allow_start_export: true,
        memory_max_size_required: true,
        table_max_size_required: true,
        ..wasm_smith::Config::default()
    };
    let bytes: Vec<u8> =
        (0..[1_000, 5_000, 30_000][random.random_range(0..3)]).map(|_| random.random()).collect();
    let mut module =
        wasm_smith::Module::new(config, &mut arbitrary::Unstructured::new(&bytes)).ok()?;
    module.ensure_termination(300).ok()?;
    let wasm = module.to_bytes();
    let valid = wasmparser::Validator::new_with_features(mayfly_host::engine::codegen::FEATURES)
        .validate_all(&wasm);
    valid.is_ok().then_some(wasm)
}

#[test]
fn generated_modules_do_the_same() {
    let engines = [OptLevel::None, OptLevel::None, OptLevel::None, OptLevel::Speed]
        .map(|level| Engine::new(&config(level)).unwrap());
    let seed: u64 =
        std::env::var("MAYFLY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let wanted = 200 * soak();
    let (mut compared, mut skipped, mut number) = (0, 0, 0);
    // About half of what is generated uses what is off.
    while compared < wanted && number < 20 * wanted {
        number += 1;
        let mut random = StdRng::seed_from_u64(seed << 32 | number as u64);
        let Some(wasm) = smith(&mut random) else { continue };
        let what = format!("MAYFLY_SEED={seed}, module {number}");
        if compare(&engines[compared % 4], &wasm, &what) {
            compared += 1;
            if compared % 5_000 == 0 {
                println!("{compared} compared");
            }
        } else {
            skipped += 1;
        }
    }
    println!("{compared} compared, {skipped} overflowed the stack, of {number}");
    assert_eq!(compared, wanted, "of {number}");
}

const BULK: &str = r#"(module (memory (export "memory") 64 64) (data $d "%DATA%") (data $small "0123456789")
    (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
    (func (export "copy") (param i32 i32 i32) (memory.copy (local.get 0) (local.get 1) (local.get 2)))
    (func (export "init") (param i32 i32 i32) (memory.init $d (local.get 0) (local.get 1) (local.get 2)))
    (func (export "small") (param i32 i32 i32) (memory.init $small (local.get 0) (local.get 1) (local.get 2)))
    (func (export "drop") (param i32 i32 i32) (data.drop $d)))"#;

/// Places and lengths near every edge that a helper knows.
#[test]
fn memory_moves_the_same_bytes_and_traps_at_the_same_places() {
    const MEMORY: u32 = 4 << 20;
    const SEGMENT: u32 = 2_600_000;
    let data: String = (0..SEGMENT).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
    let wasm = wat::parse_str(BULK.replace("%DATA%", &data)).unwrap();
    let engine = Engine::new(&config(OptLevel::Speed)).unwrap();
    let modules = [wasm.clone(), guarded(&wasm)].map(|wasm| Module::new(&engine, wasm).unwrap());
    let mut random = StdRng::seed_from_u64(5);
    let edges = [0, 1, 65_536, 1 << 20, 2 << 20, 3 << 20, SEGMENT, MEMORY, u32::MAX, 10];
    let mut trapped = 0;
    for round in 0..4 * soak() {
        let mut stores: Vec<_> = modules
            .iter()
            .map(|module| {
                let mut store = Store::new(&engine, ());
                store.set_epoch_deadline(1 << 40);
                let instance = Instance::new(&mut store, module, &[]).unwrap();
                (store, instance)
            })
            .collect();
        for turn in 0..60 {
            let mut number = || match random.random_range(0..3) {
                0 => edges[random.random_range(0..edges.len())]
                    .wrapping_add(random.random_range(0..5))
                    .wrapping_sub(2),
                1 => random.random_range(0..MEMORY),
                _ => random.random_range(0..MEMORY / 4),
            };
            let args = [number(), number(), number()].map(|value| Val::I32(value.cast_signed()));
            let name = match random.random_range(0..9) {
                0..3 => "fill",
                3..6 => "copy",
                6..8 => "init",
                _ if turn > 40 => "drop",
                _ => "small",
            };
            let ends: Vec<_> = stores
                .iter_mut()
                .map(|(store, instance)| {
                    let function = instance.get_func(&mut *store, name).unwrap();
                    function
                        .call(&mut *store, &args, &mut [])
                        .map_err(|error| *error.downcast_ref::<Trap>().unwrap())
                })
                .collect();
            assert_eq!(ends[0], ends[1], "{round}: {name} {args:?}");
            trapped += usize::from(ends[0].is_err());
            let [plain, rewritten] = &mut stores[..] else { unreachable!() };
            let a = plain.1.get_memory(&mut plain.0, "memory").unwrap();
            let b = rewritten.1.get_memory(&mut rewritten.0, "memory").unwrap();
            assert!(a.data(&plain.0) == b.data(&rewritten.0), "{round}: {name} {args:?}");
        }
    }
    assert!(trapped >= 20 * soak(), "{trapped}");
}
