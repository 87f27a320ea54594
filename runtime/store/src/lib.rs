//! What Mayfly keeps from one start to the next: native code with its proof ([`artifact`]), a row for each revision
//! ([`records`]), secrets sealed ([`secrets`]), and the directory that both lie in ([`state_dir`]).
#![deny(unsafe_code)]

pub mod artifact;
pub mod records;
pub mod secrets;
pub mod state_dir;
