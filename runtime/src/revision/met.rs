//! Shapes that requests to a model had and that no plan is ready for.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
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
    unready: Mutex<Vec<Unready>>,
    /// Failures in turn, and the second since then before which nothing is tried again.
    failures: AtomicU32,
    rests_until: AtomicU32,
}

#[derive(Debug)]
struct Unready {
    shapes: InputShapes,
    times: u32,
    /// Nothing can be made ready for it.
    hopeless: bool,
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
            unready: Mutex::default(),
            failures: AtomicU32::new(0),
            rests_until: AtomicU32::new(0),
        }
    }
}

impl Met {
    /// Counts a request; whether its shapes should be made ready.
    pub fn note(&self, shapes: &Shapes, request: &InferRequest) -> bool {
        if let Some(at) = shapes.position(request) {
            self.used[at].store(self.now(), Relaxed);
            return false;
        }
        let Some(after) = after(shapes.others) else { return false };
        let met = Shapes::of_request(request);
        let mut unready = self.unready.lock();
        if let Some(known) = unready.iter_mut().find(|known| known.shapes == met) {
            known.times = known.times.saturating_add(1);
            return known.times >= after && !known.hopeless;
        }
        if unready.len() == node::SHAPES_COUNTED {
            // One that was seen least: a client that tries them all makes no other shape forgotten that is in use.
            let least = (0..unready.len()).min_by_key(|&at| unready[at].times);
            least.map(|least| unready.swap_remove(least));
        }
        unready.push(Unready { shapes: met, times: 1, hopeless: false });
        after == 1
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
        let mut unready = self.unready.lock();
        if unready.len() < node::SHAPES_COUNTED {
            unready.push(Unready { shapes: shapes.clone(), times: 1, hopeless: true });
        }
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
    pub fn due(&self, others: Others, pause: Duration) -> Option<Due> {
        if self.since.elapsed() < pause || self.now() < self.rests_until.load(Relaxed) {
            return None;
        }
        let after = after(others)?;
        let mut unready = self.unready.lock();
        let hopeful = (0..unready.len()).filter(|&at| !unready[at].hopeless);
        let most = hopeful.max_by_key(|&at| unready[at].times)?;
        if unready[most].times < after {
            return None;
        }
        let shapes = unready.swap_remove(most).shapes;
        Some(Due { shapes, used: self.used.each_ref().map(|used| used.load(Relaxed)) })
    }
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
        assert!(met.due(Others::WhenMet, Duration::from_secs(600)).is_none(), "too early");
        let due = met.due(Others::WhenMet, Duration::ZERO).unwrap();
        assert_eq!(due.shapes["x"], [5]);
        assert!(met.due(Others::WhenMet, Duration::ZERO).is_none());
        met.is_hopeless(&due.shapes);
        assert!((0..9).all(|_| !note(&met, &model, 5)));
        assert!(met.due(Others::WhenMet, Duration::ZERO).is_none());
    }

    #[test]
    fn who_fails_to_learn_rests_and_in_the_end_learns_no_more() {
        let (met, model) = (Met::default(), model("a plan when they are met"));
        for _ in 0..node::LEARN_FAILURES {
            note(&met, &model, 5);
            note(&met, &model, 5);
            met.failed();
            assert!(met.due(Others::WhenMet, Duration::ZERO).is_none());
        }
        assert_eq!(met.rests_until.load(Relaxed), u32::MAX);
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
        assert!(met.unready.lock().len() <= node::SHAPES_COUNTED);
        assert_eq!(met.due(Others::OnePlan, Duration::ZERO).unwrap().shapes["x"], [3]);
    }
}
