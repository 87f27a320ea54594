//! The engine: made in init, and in each instance as init left it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mayfly::Result;
use mayfly::anyhow::{Error, anyhow};
use rquickjs::function::IntoArgs;
use rquickjs::promise::PromiseState;
use rquickjs::{Context, Ctx, FromJs, Function, Module, Object, Persistent, Runtime, Value};

use crate::config::Config;
use crate::modules::{self, Files, Paths, Sources};
use crate::{exchange, natives, report};

/// Bytes of the stack in linear memory from which on a call is a `RangeError`. The native stack, which scripts must not
/// use up first, has 512 KiB. A function that calls itself comes to a depth of 356; the parsers of JSON and of code take
/// more of the native stack than of this, and end in a trap at a depth of some 5,000.
const STACK_BYTES: usize = 96 << 10;
/// Bytes that a request may allocate before garbage is collected: a collection looks at every object of the snapshot, and
/// so makes their pages the instance's own.
const GARBAGE_BYTES: usize = 16 << 20;
/// Bytes that memory has room for unless its limit was reached.
const SPARE_BYTES: usize = 1 << 20;
/// A request that runs for so long says where it is, and again whenever that has doubled: the last of these lines before a
/// limit ends it is where it was.
const SAY_WHERE_AFTER: Duration = Duration::from_millis(250);

/// A script that has run its top level.
pub(crate) struct Engine {
    pub(crate) runtime: Runtime,
    pub(crate) context: Context,
    pub(crate) calls: Calls,
}

type Call = Persistent<Function<'static>>;

/// The prelude's functions that are called from here.
pub(crate) struct Calls {
    pub(crate) dispatch: Call,
    pub(crate) next_timer: Call,
    pub(crate) run_timers: Call,
    pub(crate) settle_fetch: Call,
    adopt: Call,
    rehearse: Call,
    warm_up: Call,
    random: Call,
    place: Call,
    rejected: Call,
    unhandled: Call,
}

thread_local! {
    /// When the request began, and when to say next where it is.
    static LONG: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

impl Engine {
    /// Makes an engine with the web's interface and runs the script's top level in it.
    ///
    /// # Errors
    /// What the script throws, with its place.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let runtime = Runtime::new()?;
        // Never freed, not even when init fails: freeing it with values about ends in an assertion of the engine's, which
        // would be told in place of what the script threw.
        std::mem::forget(runtime.clone());
        runtime.set_max_stack_size(STACK_BYTES);
        let files = Files::default();
        let sources = Sources::new(Rc::clone(&files));
        runtime.set_loader(Paths(Rc::clone(&files)), sources.clone());
        let context = Context::full(&runtime)?;
        let calls = context.with(|ctx| prelude(&ctx))?;
        let engine = Self { runtime, context, calls };
        engine.watch();
        files
            .borrow_mut()
            .extend(config.modules.iter().map(|module| (module.path.clone(), module.kind)));
        engine.context.with(|ctx| engine.top_level(&ctx, &config.entry, &sources))?;
        Ok(engine)
    }

    /// Answers a request to nobody, and the script's own if it has one, so that what is made at a first request is in the
    /// snapshot; then leaves nothing to collect.
    ///
    /// # Errors
    /// What the script throws.
    pub(crate) fn warm_up(&self) -> Result<()> {
        exchange::rehearse(self, |ctx| self.call(ctx, &self.calls.rehearse, ()))?;
        exchange::rehearse(self, |ctx| self.call(ctx, &self.calls.warm_up, ()))?;
        self.say_unhandled();
        self.runtime.run_gc();
        let used = self.runtime.memory_usage().malloc_size;
        self.runtime.set_gc_threshold(usize::try_from(used)?.saturating_add(GARBAGE_BYTES));
        Ok(())
    }

    /// A request begins.
    pub(crate) fn begin(&self) {
        LONG.set(Some((Instant::now(), SAY_WHERE_AFTER)));
    }

    /// What `Math.random` gives to a request that asks for it first.
    pub(crate) fn seed(&self) -> u64 {
        natives::begin_request();
        let drawn = self.context.with(|ctx| self.call::<f64, _>(&ctx, &self.calls.random, ()));
        drawn.map_or(0, f64::to_bits)
    }

    /// Calls a function of the prelude's.
    ///
    /// # Errors
    /// What it throws, in words.
    pub(crate) fn call<'js, T: FromJs<'js>, A: IntoArgs<'js>>(
        &self,
        ctx: &Ctx<'js>,
        call: &Call,
        args: A,
    ) -> Result<T> {
        let called = call.clone().restore(ctx).and_then(|function| function.call(args));
        called.map_err(|error| failure(&report::words(ctx, error)))
    }

    /// Tells the log of promises that were rejected and that nobody looked after.
    pub(crate) fn say_unhandled(&self) {
        self.context.with(|ctx| {
            let left = self.call::<Vec<Value<'_>>, _>(&ctx, &self.calls.unhandled, ());
            for reason in left.unwrap_or_default() {
                eprintln!(
                    "a promise was rejected and nobody looked after it: {}",
                    report::describe(&ctx, reason)
                );
            }
        });
    }

    fn top_level<'js>(&self, ctx: &Ctx<'js>, entry: &str, sources: &Sources) -> Result<()> {
        let said = |error| anyhow!(report::words(ctx, error));
        let promise = Module::import(ctx, entry).map_err(said)?;
        while ctx.execute_pending_job() {}
        match promise.state() {
            PromiseState::Pending => {
                return Err(anyhow!(
                    "{entry}: its top level waits for a promise that is never settled"
                ));
            }
            PromiseState::Resolved | PromiseState::Rejected => {}
        }
        let namespace = promise.result::<Object<'js>>();
        let namespace = namespace.ok_or_else(|| anyhow!("{entry}: no module"))?.map_err(said)?;
        self.call::<(), _>(ctx, &self.calls.adopt, (entry, namespace))?;
        // What only a request imports has to be there by then: assets are given to init only.
        sources.load_rest(ctx).map_err(said)
    }

    /// Has the engine say where it is if it runs for long, and tell of promises that nobody looks after.
    fn watch(&self) {
        let rejected = self.calls.rejected.clone();
        self.runtime.set_host_promise_rejection_tracker(Some(Box::new(
            move |ctx, promise, reason, handled| {
                let told = rejected
                    .clone()
                    .restore(&ctx)
                    .and_then(|f| f.call::<_, ()>((promise, reason, handled)));
                // Want of memory; the next allocation tells it.
                drop(told);
            },
        )));
        let context = self.context.clone();
        let raw = context.with(|ctx| ctx.as_raw());
        let place = self.calls.place.clone();
        self.runtime.set_interrupt_handler(Some(Box::new(move || {
            if let Some((since, next)) = LONG.get()
                && since.elapsed() >= next
            {
                LONG.set(None);
                // SAFETY: the engine calls this from within the one context that there is, between two instructions.
                let ctx = unsafe { Ctx::from_raw(raw) };
                let place = place.clone().restore(&ctx).and_then(|f| f.call::<_, String>(()));
                let place = place.unwrap_or_default();
                eprintln!(
                    "still running after {} ms: {}",
                    next.as_millis(),
                    report::frames(&place)
                );
                LONG.set(Some((since, next * 2)));
            }
            false
        })));
    }
}

/// Makes the web's interface.
fn prelude(ctx: &Ctx<'_>) -> Result<Calls> {
    let said = |error| anyhow!(report::words(ctx, error));
    natives::install(ctx).map_err(said)?;
    let promise = Module::import(ctx, modules::PRELUDE_ENTRY).map_err(said)?;
    let module = promise.finish::<Object<'_>>().map_err(said)?;
    let call = |name: &str| {
        let function = module.get::<_, Function<'_>>(name).map_err(said)?;
        Ok::<_, Error>(Persistent::save(ctx, function))
    };
    Ok(Calls {
        dispatch: call("dispatch")?,
        next_timer: call("nextTimer")?,
        run_timers: call("runTimers")?,
        settle_fetch: call("settleFetch")?,
        adopt: call("adopt")?,
        rehearse: call("rehearse")?,
        warm_up: call("warmUp")?,
        random: call("random")?,
        place: call("place")?,
        rejected: call("rejected")?,
        unhandled: call("unhandled")?,
    })
}

/// The error that ends a request. One that ran out of memory or stack ends as such a guest does, by the host's own word
/// for it, once its place is in the log.
pub(crate) fn failure(words: &str) -> Error {
    // Where there is no room for an error, the engine throws null.
    let is_full = || words == "null" && Vec::<u8>::new().try_reserve_exact(SPARE_BYTES).is_err();
    if words.contains("InternalError: out of memory") || is_full() {
        eprintln!("{words}");
        std::process::abort();
    }
    if words.contains("RangeError: Maximum call stack size exceeded") {
        eprintln!("{words}");
        deeper(0);
    }
    anyhow!("{words}")
}

/// Uses up the native stack.
#[allow(unconditional_recursion, reason = "that is what it is for")]
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    std::hint::black_box(deeper(std::hint::black_box(depth) + 1)) + depth
}
