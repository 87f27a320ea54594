use serde_json::{Value, json};

/// How often something was done, and how long all of it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Times.
    pub count: u64,
    /// Nanoseconds, together.
    pub ns: u64,
}

/// What a model has done since its revision was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Inferences that were answered, from the request's head until the answer is made.
    pub success: Spent,
    /// Those that were not.
    pub fail: Spent,
    /// Waiting for an instance; the request's body came meanwhile.
    pub queue: Spent,
    /// Making the instance.
    pub instantiate: Spent,
    /// In the guest.
    pub call: Spent,
    /// From the guest's end to the answer's.
    pub respond: Spent,
    /// When the last one ended, in milliseconds since 1970; 0 if there was none.
    pub last_ms: u64,
}

impl Stats {
    /// An entry of `model_stats`. There is no batching: an execution is an inference.
    #[must_use]
    pub fn to_json(&self, name: &str, version: &str) -> Value {
        let spent = |spent: Spent| json!({"count": spent.count, "ns": spent.ns});
        let none = spent(Spent::default());
        json!({
            "name": name, "version": version, "last_inference": self.last_ms,
            "inference_count": self.success.count, "execution_count": self.success.count,
            "inference_stats": {
                "success": spent(self.success), "fail": spent(self.fail), "queue": spent(self.queue),
                "compute_input": spent(self.instantiate), "compute_infer": spent(self.call),
                "compute_output": spent(self.respond), "cache_hit": none, "cache_miss": none,
            },
            "response_stats": {}, "batch_stats": [], "memory_usage": [],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_in_tritons_words() {
        let spent = |count, ns| Spent { count, ns };
        let stats = Stats {
            success: spent(2, 7),
            fail: spent(1, 3),
            call: spent(3, 5),
            last_ms: 9,
            ..Stats::default()
        };
        let json = stats.to_json("iris", "4");
        assert_eq!((&json["name"], &json["version"]), (&json!("iris"), &json!("4")));
        assert_eq!((&json["inference_count"], &json["last_inference"]), (&json!(2), &json!(9)));
        let inner = &json["inference_stats"];
        assert_eq!(inner["success"], json!({"count": 2, "ns": 7}));
        assert_eq!(inner["fail"], json!({"count": 1, "ns": 3}));
        assert_eq!(inner["compute_infer"], json!({"count": 3, "ns": 5}));
    }
}
