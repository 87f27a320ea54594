//! What requests have of the node while they hold no slot: each kind of it is counted, and shared.

use std::sync::Arc;

use mayfly_core::limits::node;
use mayfly_core::shares::Pot;

/// The node's rooms for requests that are not running.
#[derive(Debug)]
pub struct Rooms {
    /// Requests of which something is received whole: an inference's JSON, a command's body without a length. And those
    /// that wait for their model's description.
    pub receiving: Arc<Pot>,
    /// Bytes of inference requests and answers.
    pub buffers: Arc<Pot>,
    /// Bytes of bodies without a length, for commands.
    pub bodies: Arc<Pot>,
    /// Bytes of long heads of HTTP/1 requests.
    pub heads: Arc<Pot>,
    /// Bytes of answers that their clients have not taken.
    pub answers: Arc<Pot>,
    /// Streams that are open for the rest of their bodies.
    pub discards: Arc<Pot>,
}

impl Rooms {
    /// Rooms for a pool of this many slots.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self {
            receiving: Pot::new(slots.saturating_mul(node::RECEIVING_PER_SLOT)),
            buffers: Pot::new(node::INFERENCE_BUFFERS_BYTES),
            bodies: Pot::new(node::BODIES_BYTES),
            heads: Pot::new(node::HEADS_BYTES),
            answers: Pot::new(node::ANSWERS_BYTES),
            discards: Pot::new(node::DISCARD_STREAMS),
        }
    }
}
