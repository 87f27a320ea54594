//! Caps of calls that functions make to others.

use std::time::Duration;

use super::page::{written_count, written_duration, written_size};

caps! {
    /// Rules of a function's allow-list, and of each of the node's own lists: a call is compared with all.
    OUTBOUND_RULES: usize = 64, written_count;
    /// Bytes of one such rule.
    OUTBOUND_RULE_BYTES: usize = 1 << 10, written_size;
    /// Headers that the host adds to a function's calls.
    OUTBOUND_HEADERS: usize = 16, written_count;
    /// Until a name is resolved and a connection stands, its TLS agreed on.
    OUTBOUND_CONNECT: Duration = Duration::from_secs(2), written_duration;
    /// From a call's last byte to the head of its answer.
    OUTBOUND_FIRST_BYTE: Duration = Duration::from_secs(10), written_duration;
    /// Between two pieces of an answer's body, or of a call's that its origin does not take.
    OUTBOUND_IDLE: Duration = Duration::from_secs(10), written_duration;
    /// Sockets of all functions' calls at once, idle ones among them.
    OUTBOUND_SOCKETS: usize = 1_000, written_count;
    /// Sockets of one function's calls at once, idle ones among them.
    OUTBOUND_FUNCTION_SOCKETS: usize = 100, written_count;
    /// Idle connections that a function keeps to one origin.
    OUTBOUND_ORIGIN_IDLE: usize = 8, written_count;
    /// How long an idle connection is kept.
    OUTBOUND_KEEP_ALIVE: Duration = Duration::from_secs(90), written_duration;
    /// Of four slots, so many may be held by requests that have called others: a hung origin leaves the fourth.
    OUTBOUND_SLOT_QUARTERS: usize = 3, written_count;
    /// Connections to an origin that fail in `OUTBOUND_FAILURES_IN` before others are refused without a try.
    OUTBOUND_FAILURES: u32 = 10, written_count;
    /// The time in which those are counted.
    OUTBOUND_FAILURES_IN: Duration = Duration::from_secs(10), written_duration;
    /// How long they are refused then.
    OUTBOUND_REFUSES: Duration = Duration::from_secs(1), written_duration;
    /// Origins of one function whose connections are kept or counted; the one that was not called for the longest goes.
    OUTBOUND_ORIGINS: usize = 256, written_count;
    /// Bytes of an answer's head.
    OUTBOUND_HEAD_BYTES: usize = 64 << 10, written_size;
    /// Headers of an answer, and of a call.
    OUTBOUND_HEAD_LINES: usize = 100, written_count;
    /// Interim answers (1xx) before the one that counts: an origin that sends them without end costs nobody's limits.
    OUTBOUND_INTERIM: usize = 32, written_count;
    /// Bytes of the frame that a call is given in.
    OUTBOUND_FRAME_BYTES: usize = 96 << 10, written_size;
    /// Bytes of an answer or a streamed body that the host holds for one call.
    OUTBOUND_BUFFER_BYTES: usize = 64 << 10, written_size;
    /// Calls from function to function, one within the other; beyond it 508.
    OUTBOUND_HOPS: u8 = 8, written_count;
    /// The shortest time for which a name's addresses are believed.
    OUTBOUND_NAME_LEAST: Duration = Duration::from_secs(5), written_duration;
    /// The longest.
    OUTBOUND_NAME_MOST: Duration = Duration::from_secs(300), written_duration;
    /// Names whose addresses are remembered.
    OUTBOUND_NAMES: u64 = 4_096, written_count;
    /// Addresses of a name of which a connection is tried.
    OUTBOUND_ADDRESSES: usize = 4, written_count;
}
