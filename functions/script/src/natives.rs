//! What the prelude asks of the sandbox, as functions of one object that scripts never see.

mod bytes;
mod crypto;
mod text;
mod urls;

use std::cell::Cell;
use std::time::Instant;

use rquickjs::prelude::Func;
use rquickjs::{Ctx, Exception, Object, Result, TypedArray};

use crate::{exchange, fetches};

/// The prelude takes it out of the globals.
pub(crate) const NAME: &str = "__native";

thread_local! {
    /// State of `Math.random`; zero until a request has drawn it, so that a snapshot holds no seed.
    static RANDOM: Cell<[u64; 2]> = const { Cell::new([0; 2]) };
    static EPOCH: Cell<Option<Instant>> = const { Cell::new(None) };
    static IN_REQUEST: Cell<bool> = const { Cell::new(false) };
}

/// From here on it is a request's instance: what init had drawn is void.
pub(crate) fn begin_request() {
    RANDOM.set([0; 2]);
    EPOCH.set(Some(Instant::now()));
    IN_REQUEST.set(true);
}

/// Puts them under a name among the globals.
pub(crate) fn install(ctx: &Ctx<'_>) -> Result<()> {
    let native = Object::new(ctx.clone())?;
    native.set("log", Func::from(log))?;
    native.set("now", Func::from(now))?;
    native.set("random", Func::from(random))?;
    native.set("inRequest", Func::from(|| IN_REQUEST.get()))?;
    native.set("environment", Func::from(environment))?;
    bytes::install(&native)?;
    crypto::install(&native)?;
    text::install(&native)?;
    urls::install(&native)?;
    exchange::install(&native)?;
    fetches::install(&native)?;
    ctx.globals().set(NAME, native)
}

fn log(to_stderr: bool, text: String) {
    match to_stderr {
        true => eprintln!("{text}"),
        false => println!("{text}"),
    }
}

/// Milliseconds since the request began, in the host's steps of one.
fn now() -> f64 {
    EPOCH.get().map_or(0.0, |epoch| epoch.elapsed().as_secs_f64() * 1e3)
}

/// xorshift128+, as engines have it: 53 bits of a sum.
fn random() -> f64 {
    let mut state = RANDOM.get();
    if state == [0; 2] {
        state = seed();
    }
    let [mut a, b] = state;
    a ^= a << 23;
    a ^= a >> 17;
    a ^= b ^ (b >> 26);
    RANDOM.set([b, a]);
    #[allow(clippy::cast_precision_loss, reason = "53 bits are what a double has")]
    let whole = (a.wrapping_add(b) >> 11) as f64;
    whole / (1u64 << 53) as f64
}

fn seed() -> [u64; 2] {
    let mut bytes = [0; 16];
    mayfly::fill_random(&mut bytes);
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    // All zeros would stay zeros.
    [word(0) | 1, word(8)]
}

/// Names and values in turn.
fn environment() -> Vec<String> {
    std::env::vars_os()
        .flat_map(|(name, value)| [name, value])
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

/// The bytes that a script handed over. They are copied: the engine may move its own while it runs.
pub(crate) fn taken(ctx: &Ctx<'_>, array: &TypedArray<'_, u8>) -> Result<Vec<u8>> {
    // SAFETY: no script runs until the copy is made.
    let bytes = unsafe { array.as_bytes() };
    bytes.map(<[u8]>::to_vec).ok_or_else(|| Exception::throw_type(ctx, "the buffer is detached"))
}

/// Makes bytes an array of a script's.
pub(crate) fn given<'js>(ctx: &Ctx<'js>, bytes: Vec<u8>) -> Result<TypedArray<'js, u8>> {
    TypedArray::new(ctx.clone(), bytes)
}
