//! What a scrape asks the node for.

use std::sync::Arc;

use mayfly_core::shares::Pot;

use super::Node;

impl Node {
    /// Adds its gauges to its metrics.
    #[expect(clippy::cast_precision_loss, reason = "slots and functions are small numbers")]
    pub fn add_gauges(self: &Arc<Self>) {
        let slots = self.engine.plan().slots;
        self.gauge("mayfly_slots", "Instances that can run at once", move |_| slots as f64);
        self.gauge("mayfly_slots_in_use", "Instances that run", move |node| {
            (slots - node.free_slots().min(slots)) as f64
        });
        self.gauge("mayfly_functions", "Deployed functions", |node| {
            node.catalog.load().count() as f64
        });
        self.room(
            "mayfly_requests_receiving",
            "Requests that are received whole: inferences, and bodies without a length for commands",
            &self.rooms.receiving,
        );
        self.room(
            "mayfly_inference_bytes",
            "Bytes that inference requests and answers hold beside their instances",
            &self.rooms.buffers,
        );
        self.room(
            "mayfly_held_body_bytes",
            "Bytes of bodies that came without a length and are held for commands",
            &self.rooms.bodies,
        );
        self.room(
            "mayfly_unread_bytes",
            "Bytes of answers that their clients have not taken, beyond a few of each connection",
            &self.rooms.answers,
        );
    }

    fn gauge(
        self: &Arc<Self>,
        name: &str,
        help: &str,
        read: impl Fn(&Self) -> f64 + Send + Sync + 'static,
    ) {
        // Weak, because the node holds the metrics.
        let weak = Arc::downgrade(self);
        self.metrics.gauge(name, help, move || weak.upgrade().map_or(0.0, |node| read(&node)));
    }

    #[expect(clippy::cast_precision_loss, reason = "a room is far smaller than a petabyte")]
    fn room(&self, name: &str, help: &str, pot: &Arc<Pot>) {
        let (all, pot) = (pot.free(), pot.clone());
        self.metrics.gauge(name, help, move || all.saturating_sub(pot.free()) as f64);
    }
}
