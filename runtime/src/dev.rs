//! The developer's loop: a function's directory, made of a template, built, watched and tested. The verbs `new`, `build`,
//! `dev` and `test` put these parts together; nothing here talks to a node.

pub mod cases;
pub mod command;
pub mod junit;
pub mod listener;
pub mod manifest;
pub mod pace;
pub mod project;
pub mod sources;
pub mod template;
pub mod toolchain;
