//! What Mayfly says of itself: the log ([`logs`]), by way of which also its own traces go ([`telemetry`]), counters
//! ([`metrics`]), and the date that both write ([`clock`]).
#![forbid(unsafe_code)]

pub mod clock;
pub mod logs;
pub mod metrics;
pub mod telemetry;
