//! What went wrong, for the log and for who deploys: with file, line and column of the script.

use rquickjs::{CaughtError, Coerced, Ctx, FromJs as _, Value};

/// Errors that caused the one that is told.
const CAUSES: usize = 4;
/// Lines of a stack that are told.
const FRAMES: usize = 12;

/// An error of the engine's in words: where first, then what, then how it came there.
pub(crate) fn words(ctx: &Ctx<'_>, error: rquickjs::Error) -> String {
    match CaughtError::from_error(ctx, error) {
        CaughtError::Exception(thrown) => describe(ctx, thrown.into_value()),
        CaughtError::Value(thrown) => describe(ctx, thrown),
        CaughtError::Error(error) => error.to_string(),
    }
}

/// A thrown value in words.
pub(crate) fn describe<'js>(ctx: &Ctx<'js>, mut thrown: Value<'js>) -> String {
    let mut told = one(ctx, &thrown);
    for _ in 0..CAUSES {
        let Some(object) = thrown.as_object() else { break };
        match object.get::<_, Value<'js>>("cause") {
            Ok(cause) if !cause.is_undefined() => {
                told += "\ncaused by ";
                told += &one(ctx, &cause);
                thrown = cause;
            }
            _ => break,
        }
    }
    told
}

fn one<'js>(ctx: &Ctx<'js>, thrown: &Value<'js>) -> String {
    let text = |value: Value<'js>| {
        let text = Coerced::<String>::from_js(ctx, value);
        // A value whose own `toString` throws has nothing to say.
        text.map(|text| text.0).unwrap_or_else(|_| {
            drop(ctx.catch());
            "a value that cannot be shown".to_owned()
        })
    };
    let what = text(thrown.clone());
    let stack = thrown
        .as_object()
        .filter(|object| object.is_error() || object.contains_key("stack").unwrap_or(false));
    let stack = stack.and_then(|object| object.get::<_, Value<'js>>("stack").ok());
    let stack = stack.filter(Value::is_string).map(text).unwrap_or_default();
    let frames: Vec<&str> = own_frames(&stack).collect();
    match frames.first() {
        Some(first) => format!("{}: {what}\n    {}", place(first), frames.join("\n    ")),
        None => what,
    }
}

/// `file:line:column` of `at f (file:line:column)`.
fn place(frame: &str) -> &str {
    let frame = frame.trim_start_matches("at ");
    match frame.rsplit_once('(') {
        Some((_, place)) => place.trim_end_matches(')'),
        None => frame,
    }
}

/// The frames of a stack that are the script's.
fn own_frames(stack: &str) -> impl Iterator<Item = &str> {
    stack
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("at ") && !line.contains(crate::modules::PRELUDE))
        .filter(|line| !line.contains("(native)"))
        .take(FRAMES)
}

/// A stack in one line.
pub(crate) fn frames(stack: &str) -> String {
    own_frames(stack).collect::<Vec<_>>().join(" ")
}
