//! Shapes that requests to a model had and that no plan is ready for.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mayfly_core::limits::node;
use mayfly_oip::{InferRequest, InputShapes, Others, READY, Shapes};
use parking_lot::Mutex;

/// What a revision's requests asked for. Only models whose shapes are open have any of it.
#[derive(Debug)]
pub struct Met {
    since: Instant,
    /// Seconds since then at which each shape that is ready was last asked for.
    used: [AtomicU32; READY],
    unready: Counts,
    /// Shapes that were asked for often enough. Locked by a request that makes a shape's count double, and by no other.
    asked: Mutex<Vec<InputShapes>>,
    /// Failures in turn, and the second since then before which nothing is tried again.
    failures: AtomicU32,
    rests_until: AtomicU32,
}

/// A shape to make ready, and when each of those that are was last asked for.
#[derive(Debug)]
pub struct Due {
    /// What requests came with.
    pub shapes: InputShapes,
    /// In the order in which the model lists them.
    pub used: [u32; READY],
}

impl Default for Met {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            used: Default::default(),
            unready: Counts::default(),
            asked: Mutex::default(),
            failures: AtomicU32::new(0),
            rests_until: AtomicU32::new(0),
        }
    }
}

impl Met {
    /// Counts a request; whether there is something to make ready.
    pub fn note(&self, shapes: &Shapes, request: &InferRequest) -> bool {
        if let Some(at) = shapes.position(request) {
            self.used[at].store(self.now(), Relaxed);
            return false;
        }
        let Some(after) = after(shapes.others) else { return false };
        if self.rests_until.load(Relaxed) == u32::MAX {
            return false;
        }
        let inputs = request.inputs.iter().map(|input| (&*input.name, &*input.shape));
        let times = self.unready.count(self.unready.key(inputs));
        // Said again each time that the count has doubled: a request that is told nothing takes no lock.
        if times == MOST || !times.is_multiple_of(after) || !(times / after).is_power_of_two() {
            return false;
        }
        let met = Shapes::of_request(request);
        let mut asked = self.asked.lock();
        if asked.len() < node::LEARNED_SHAPES && !asked.contains(&met) {
            asked.push(met);
        }
        true
    }

    /// Learning failed: the next time is twice as far away as this one was, and after a few there is none.
    pub fn failed(&self) {
        let failures = self.failures.fetch_add(1, Relaxed) + 1;
        let pause = u32::try_from(node::LEARN_PAUSE.as_secs()).unwrap_or(u32::MAX);
        let rest = pause.saturating_mul(1 << failures.min(node::LEARN_FAILURES));
        self.rests_until.store(self.now().saturating_add(rest), Relaxed);
        if failures >= node::LEARN_FAILURES {
            self.give_up();
        }
    }

    /// Nothing can be made ready for these: they are counted, and not due again.
    pub fn is_hopeless(&self, shapes: &InputShapes) {
        let inputs = shapes.iter().map(|(name, shape)| (&**name, &**shape));
        self.unready.fill(self.unready.key(inputs));
    }

    /// Nothing is learned by this revision any more.
    pub fn give_up(&self) {
        self.rests_until.store(u32::MAX, Relaxed);
    }

    /// Seconds since it was made.
    fn now(&self) -> u32 {
        u32::try_from(self.since.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// What to make ready now, once the revision has served for `pause`; it is not said twice.
    pub fn due(&self, pause: Duration) -> Option<Due> {
        if self.since.elapsed() < pause || self.now() < self.rests_until.load(Relaxed) {
            return None;
        }
        let mut asked = self.asked.lock();
        let shapes = if asked.is_empty() { return None } else { asked.remove(0) };
        Some(Due { shapes, used: self.used.each_ref().map(|used| used.load(Relaxed)) })
    }
}

/// A count is this many of the low bits of a word, below its shape's key.
const COUNT_BITS: u32 = 24;
/// The last count, which nothing is due at.
const MOST: u32 = (1 << COUNT_BITS) - 1;

/// So many are forgotten until counts are halved: as often as a shape has to come that one plan serves, so that one that
/// is every second request is learned, whatever the others are.
const AGES: u32 = node::LEARN_AFTER_SLOWER;

/// How often each of some shapes was asked for, by what its names and sizes hash to: two of the same hash share a count,
/// and are made ready early. Nobody outside knows the hash's keys.
#[derive(Debug)]
struct Counts {
    words: [AtomicU64; node::SHAPES_COUNTED],
    /// Shapes that others took the place of.
    forgotten: AtomicU32,
    hasher: RandomState,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            words: [const { AtomicU64::new(0) }; _],
            forgotten: AtomicU32::new(0),
            hasher: RandomState::new(),
        }
    }
}

impl Counts {
    /// In whatever order a client lists its inputs.
    fn key<'a>(&self, inputs: impl Iterator<Item = (&'a str, &'a [u64])>) -> u64 {
        let hash = |input| self.hasher.hash_one(input);
        let sum = inputs.map(hash).fold(0, u64::wrapping_add);
        sum >> COUNT_BITS << COUNT_BITS
    }

    /// One more; how many these are. That one is lost when two count at once does no harm.
    fn count(&self, key: u64) -> u32 {
        let (at, before) = self.find(key);
        let times = if same(before, key) { (count_of(before) + 1).min(MOST) } else { 1 };
        let _ = self.words[at].compare_exchange(before, key | u64::from(times), Relaxed, Relaxed);
        let forgets = !same(before, key) && before != 0;
        if forgets && (self.forgotten.fetch_add(1, Relaxed) + 1).is_multiple_of(AGES) {
            self.age();
        }
        times
    }

    /// Halves all counts but those that are full. Those of long ago would otherwise leave one word for all that is new,
    /// each of which makes the one before it forgotten.
    fn age(&self) {
        for word in &self.words {
            let before = word.load(Relaxed);
            let times = count_of(before);
            if times != MOST {
                let aged = before - u64::from(times) + u64::from(times / 2);
                let _ = word.compare_exchange(before, aged, Relaxed, Relaxed);
            }
        }
    }

    fn fill(&self, key: u64) {
        self.words[self.find(key).0].store(key | u64::from(MOST), Relaxed);
    }

    /// Where a shape is counted, or else the one that was seen least, which makes room: a client that tries them all makes
    /// no other forgotten that is in use. With the word that is there.
    fn find(&self, key: u64) -> (usize, u64) {
        let mut least = (0, u64::MAX);
        for (at, word) in self.words.iter().enumerate() {
            let word = word.load(Relaxed);
            if same(word, key) {
                return (at, word);
            }
            if count_of(word) < count_of(least.1) {
                least = (at, word);
            }
        }
        least
    }
}

fn same(word: u64, key: u64) -> bool {
    word >> COUNT_BITS == key >> COUNT_BITS
}

fn count_of(word: u64) -> u32 {
    u32::try_from(word & u64::from(MOST)).unwrap_or(MOST)
}

/// Requests of a shape after which it is made ready.
fn after(others: Others) -> Option<u32> {
    match others {
        Others::Refused => None,
        Others::OnePlan => Some(node::LEARN_AFTER_SLOWER),
        Others::WhenMet => Some(node::LEARN_AFTER),
    }
}

#[cfg(test)]
mod tests {
    use mayfly_oip::{Bounds, Model};
    use serde_json::json;

    use super::*;

    fn model(others: &str) -> Model {
        let said = json!({"ready_shapes": r#"[{"x":[1]}]"#, "other_shapes": others});
        let x = json!({"name": "x", "datatype": "FP32", "shape": [-1]});
        let model = json!({"inputs": [x], "outputs": [], "parameters": said});
        Model::parse(model.to_string().as_bytes()).unwrap()
    }

    fn note(met: &Met, model: &Model, length: usize) -> bool {
        let data = vec!["0"; length].join(",");
        let json = format!(
            r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{length}],"data":[{data}]}}]}}"#
        );
        let bounds = Bounds { binary_bytes: 0, frame_bytes: 1 << 20 };
        let request = InferRequest::parse(json.as_bytes(), model, bounds).unwrap();
        met.note(model.shapes.as_ref().unwrap(), &request)
    }

    #[test]
    fn a_shape_that_comes_again_is_due_once() {
        let (met, model) = (Met::default(), model("a plan when they are met"));
        assert!(!note(&met, &model, 1), "it is ready");
        assert!(!note(&met, &model, 5));
        assert!(!note(&met, &model, 6));
        assert!(note(&met, &model, 5));
        assert!(met.due(Duration::from_secs(600)).is_none(), "too early");
        let due = met.due(Duration::ZERO).unwrap();
        assert_eq!(due.shapes["x"], [5]);
        assert!(met.due(Duration::ZERO).is_none());
        met.is_hopeless(&due.shapes);
        assert!((0..9).all(|_| !note(&met, &model, 5)));
        assert!(met.due(Duration::ZERO).is_none());
    }

    #[test]
    fn who_fails_to_learn_rests_and_in_the_end_learns_no_more() {
        let (met, model) = (Met::default(), model("a plan when they are met"));
        for _ in 0..node::LEARN_FAILURES {
            note(&met, &model, 5);
            note(&met, &model, 5);
            met.failed();
            assert!(met.due(Duration::ZERO).is_none());
        }
        assert_eq!(met.rests_until.load(Relaxed), u32::MAX);
    }

    #[test]
    fn shapes_of_long_ago_leave_room_for_one_that_comes_now() {
        let (met, slower) = (Met::default(), model("one plan for all"));
        for length in 100..100 + node::SHAPES_COUNTED {
            (0..100).for_each(|_| _ = note(&met, &slower, length));
        }
        while met.due(Duration::ZERO).is_some() {}
        // One that is new beside each request of a shape that comes again.
        let due =
            (0..1000).any(|at| note(&met, &slower, 3) | (note(&met, &slower, 500 + at) & false));
        assert!(due);
    }

    #[test]
    fn what_is_refused_is_not_learned_and_many_shapes_take_bounded_room() {
        let met = Met::default();
        let refused = model("refused");
        assert!((0..9).all(|_| !note(&met, &refused, 5)));
        let slower = model("one plan for all");
        for _ in 0..node::LEARN_AFTER_SLOWER {
            note(&met, &slower, 3);
        }
        for length in 0..1000 {
            note(&met, &slower, length + 4);
        }
        // Counted on, whatever came meanwhile: the next time is at twice as many.
        let more = (0..node::LEARN_AFTER_SLOWER).filter(|_| note(&met, &slower, 3)).count();
        assert_eq!(more, 1);
        assert_eq!(met.due(Duration::ZERO).unwrap().shapes["x"], [3]);
        assert!(met.due(Duration::ZERO).is_none());
    }
}
