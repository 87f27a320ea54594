//! What a function's guests did while they were profiled, with names, as the API gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mayfly_core::FunctionName;
use mayfly_core::limits::node;
use mayfly_core::units::{format_duration, parse_duration};
use mayfly_host::catalog::{Catalog, Entry};
use mayfly_host::imports::KERNELS;
use mayfly_host::profile::Taken;
use mayfly_host::revision::{Busy, Recording};
use mayfly_publish::symbols::{Source, Symbol, Symbols};
use mayfly_publish::{ProfileError, Publisher};
use serde::{Deserialize, Serialize};

use super::control::{Profiling, Refused};
use super::problem::Problem;
use super::settings;

/// How long a profile takes that does not say.
pub const DEFAULT: Duration = Duration::from_secs(10);
/// And at the least: fifty samples.
pub const LEAST: Duration = Duration::from_millis(100);

/// A profile that was taken. A sample stands for `sample_us` in which a thread was at an invocation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Profile {
    /// The function.
    pub function: String,
    /// Its revision, from the profile's beginning to its end.
    pub revision: u64,
    /// Whether another one serves now: requests that it got are not in here.
    pub replaced: bool,
    /// How long it took.
    pub took_us: u64,
    /// What one sample stands for.
    pub sample_us: u64,
    /// Where names are from: `names`, `exports`, or `none` if the upload could not be read.
    pub names: String,
    /// Invocations that began meanwhile.
    pub invocations: u64,
    /// What the calls of those took that ended meanwhile.
    pub call_us: u64,
    /// Samples in all.
    pub samples: u64,
    /// Samples that could not be counted, in no stack.
    pub missed: u64,
    /// What stacks are made of.
    pub frames: Vec<Frame>,
    /// The most frequent first.
    pub stacks: Vec<Stack>,
    /// Imports that waited for something else, without a thread.
    pub waits: Vec<Wait>,
}

/// One entry of a stack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// The function's name, or the import's; escaped and cut, but a stranger's.
    pub name: String,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A function of the module.
    Function,
    /// An instruction that moves memory in pieces.
    Instruction,
    /// An import, while the host is at it.
    Host,
    /// A native kernel.
    Kernel,
    /// Mayfly, before the guest is called.
    Mayfly,
    /// What is not known: frames beyond the deepest, stacks beyond the most.
    Rest,
}

/// Where a number of samples were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Indices of frames, the outermost first.
    pub frames: Vec<usize>,
    /// How many.
    pub samples: u64,
}

/// An import that waited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Module and name.
    pub import: String,
    /// For how long, all invocations together.
    pub us: u64,
}

/// How long a profile is asked to take.
pub(super) fn time(query: Option<&str>) -> Result<Duration, Problem> {
    let mut time = DEFAULT;
    for (key, value) in settings::parameters(query)? {
        match key.as_str() {
            "for" => time = parse_duration(&value).map_err(|why| wrong(&why.to_string()))?,
            other => return Err(settings::unknown(other, "for")),
        }
    }
    match (LEAST..=node::PROFILE_MOST).contains(&time) {
        true => Ok(time),
        false => Err(wrong(&format!(
            "for is {}; a profile takes {} to {}",
            format_duration(time),
            format_duration(LEAST),
            format_duration(node::PROFILE_MOST)
        ))),
    }
}

fn wrong(why: &str) -> Problem {
    let why = mayfly_observe::logs::escape(why.as_bytes());
    Problem::new(400, "query", "The query is malformed").detail(why).hint("write for=10s").close()
}

/// Why a function without code is not profiled.
pub(super) fn unready(name: &FunctionName) -> Refused {
    refused(
        503,
        format!("'{name}' does not answer now: its code is being made"),
        "`mayfly list` says when it is ready, or why it is not",
    )
}

fn refused(status: u16, why: String, hint: &str) -> Refused {
    Refused { status, kind: None, stage: None, why, hint: Some(hint.into()), init_log: None }
}

impl From<ProfileError> for Refused {
    fn from(error: ProfileError) -> Self {
        let (status, hint) = match &error {
            ProfileError::Busy(Busy::Function) => {
                (409, "wait until it ends; one that nobody waits for any more ends at once")
            }
            ProfileError::Busy(Busy::Node) => (503, "retry when one has ended"),
            ProfileError::Engine(_) => {
                (500, "this is a bug in Mayfly: please report it with the node's log")
            }
        };
        refused(status, error.to_string(), hint)
    }
}

/// A profile of this node's.
pub(super) struct Running {
    pub recording: Recording,
    pub publisher: Publisher,
    pub catalog: Arc<Catalog>,
}

impl Profiling for Running {
    fn finish(self: Box<Self>) -> Result<Profile, Refused> {
        let Self { recording, publisher, catalog } = *self;
        let record = recording.revision().record.clone();
        let (taken, took) = recording.end();
        let indices = taken.stacks.iter().flat_map(|(stack, _)| stack.iter().copied());
        // Without its upload a profile has indices for names: better than none.
        let symbols = publisher.symbols(&record, &indices.collect());
        let symbols = symbols.unwrap_or_else(|why| {
            tracing::warn!(function = %record.function, %why, "a profile has no names");
            Symbols::of(b"", &BTreeSet::new(), "")
        });
        let now = catalog.load();
        let now = now.get(record.function.as_str()).map(Entry::record);
        let mut profile = named(&taken, &symbols);
        profile.function = record.function.to_string();
        profile.revision = record.number;
        profile.replaced = now.is_none_or(|now| now.number != record.number);
        profile.took_us = micros(took);
        Ok(profile)
    }
}

/// Puts names to what was counted.
fn named(taken: &Taken, symbols: &Symbols) -> Profile {
    let mut stacks = BTreeMap::<Vec<Frame>, u64>::new();
    let mut add = |frames: Vec<Frame>, samples: u64| {
        if samples > 0 {
            *stacks.entry(frames).or_default() += samples;
        }
    };
    let entry = symbols.entry();
    for (stack, samples) in &taken.stacks {
        let mut frames: Vec<_> = stack.iter().rev().filter_map(|i| frame(symbols, *i)).collect();
        let whole = frames.first().is_some_and(|outer| Some(&outer.name) == entry.as_ref());
        if stack.is_full() && !whole {
            frames.insert(0, rest("deeper than is seen"));
        }
        add(frames, *samples);
    }
    let entry = entry.map_or_else(|| rest("entry"), |name| Frame { kind: Kind::Function, name });
    add(vec![entry], taken.tails);
    add(vec![rest("other stacks")], taken.other_stacks);
    let making = "makes an instance".into();
    add(vec![Frame { kind: Kind::Mayfly, name: making }], taken.before);
    let mut waits = Vec::new();
    for (module, name, time) in &taken.host {
        let import = format!("{module}::{name}");
        let kernel = *module == KERNELS;
        let kind = if kernel { Kind::Kernel } else { Kind::Host };
        if time.waited > 0 {
            waits.push(Wait {
                import: import.clone(),
                us: time.waited * micros(node::PROFILE_TICK),
            });
        }
        add(vec![Frame { kind, name: import }], time.beats);
    }
    waits.sort_by_key(|wait| std::cmp::Reverse(wait.us));
    Profile {
        sample_us: micros(node::PROFILE_TICK),
        names: match symbols.source {
            Source::Names => "names",
            Source::Exports => "exports",
            Source::Nowhere => "none",
        }
        .into(),
        invocations: taken.invocations,
        call_us: taken.call_ns / 1_000,
        samples: stacks.values().sum(),
        missed: taken.missed,
        waits,
        ..numbered(stacks)
    }
}

/// Each frame once, and stacks of their indices, the most frequent first.
fn numbered(stacks: BTreeMap<Vec<Frame>, u64>) -> Profile {
    let frames: BTreeSet<_> = stacks.keys().flatten().cloned().collect();
    let frames: Vec<_> = frames.into_iter().collect();
    let index = |frame: &Frame| frames.binary_search(frame).unwrap_or(0);
    let stacks = stacks.iter().map(|(stack, samples)| Stack {
        frames: stack.iter().map(index).collect(),
        samples: *samples,
    });
    let mut stacks: Vec<_> = stacks.collect();
    stacks.sort_by_key(|stack| std::cmp::Reverse(stack.samples));
    Profile { frames, stacks, ..Profile::default() }
}

/// Nothing for a thunk: what is met there is on its way to the host, whose time is counted apart.
fn frame(symbols: &Symbols, compiled: u32) -> Option<Frame> {
    match symbols.symbol(compiled) {
        Symbol::Own(name) => Some(Frame { kind: Kind::Function, name }),
        Symbol::Instruction(name) => Some(Frame { kind: Kind::Instruction, name: name.into() }),
        Symbol::Thunk => None,
    }
}

fn rest(name: &str) -> Frame {
    Frame { kind: Kind::Rest, name: name.into() }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use mayfly_host::profile::HostTime;

    use super::*;

    #[test]
    fn a_profiles_time_has_bounds() {
        assert_eq!(time(None).unwrap(), DEFAULT);
        assert_eq!(time(Some("for=250ms")).unwrap(), Duration::from_millis(250));
        for query in ["for=1ms", "for=61s", "for=long", "for=", "four=1s"] {
            assert_eq!(time(Some(query)).unwrap_err().response().status(), 400, "{query}");
        }
    }

    #[test]
    fn stacks_of_the_same_names_are_one_and_what_is_not_the_guests_stands_apart() {
        let wasm = wat::parse_str(
            r#"(module (import "a" "a" (func)) (func $inner (call 0)) (func $outer (export "_start")))"#,
        );
        let symbols = Symbols::of(&wasm.unwrap(), &(0..4).collect(), "_start");
        let stack = |indices: &[u32]| indices.iter().copied().collect();
        let host = |beats, waited| HostTime { beats, waited };
        let taken = Taken {
            // 3 is the import's thunk.
            stacks: vec![(stack(&[3, 1, 2]), 5), (stack(&[1, 2]), 2), (stack(&[1; 20]), 1)],
            tails: 3,
            other_stacks: 1,
            host: vec![("mayfly_kernels_v1", "gemm", host(9, 0)), ("m", "wait", host(0, 4))],
            ..Taken::default()
        };
        let profile = named(&taken, &symbols);
        let name = |i: &usize| format!("{:?} {}", profile.frames[*i].kind, profile.frames[*i].name);
        let shown = profile.stacks.iter().map(|stack| {
            let names: Vec<_> = stack.frames.iter().map(name).collect();
            (names[..names.len().min(2)].join(";"), stack.samples)
        });
        let expected = [
            ("Kernel mayfly_kernels_v1::gemm", 9),
            ("Function outer;Function inner", 7),
            ("Function outer", 3),
            ("Rest deeper than is seen;Function inner", 1),
            ("Rest other stacks", 1),
        ];
        let mut shown: Vec<_> = shown.collect();
        shown[3..].sort();
        assert_eq!(shown, expected.map(|(stack, n)| (stack.to_owned(), n)));
        assert_eq!(profile.samples, 21);
        assert_eq!(profile.waits, [Wait { import: "m::wait".into(), us: 8_000 }]);
    }
}
