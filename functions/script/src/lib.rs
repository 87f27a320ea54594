//! Serves a script that comes without code: `mayfly deploy app.js` adds the script's modules and what was said about them
//! to this module as assets.
//!
//! Init makes an engine, gives it the web's interface (`prelude`), runs the script's top level and its warm-up; all of it is
//! in the snapshot. A request calls the script's `fetch` in an instance of its own.

mod config;
mod engine;
mod exchange;
mod fetches;
mod modules;
mod natives;
mod report;

use mayfly::{Function, Request, Response, Result};

use engine::Engine;

// What `mayfly` looks at before it packs a script: of which build this is.
mayfly::section!("mayfly.script", &mayfly_abi::SCRIPT_CONFIG.to_le_bytes());

struct Script {
    /// For as long as the instance lives, as a body that is streamed needs it.
    engine: &'static Engine,
}

impl Function for Script {
    fn init() -> Result<Self> {
        let engine: &'static Engine = Box::leak(Box::new(Engine::new(&config::Config::load()?)?));
        engine.warm_up()?;
        Ok(Self { engine })
    }

    fn handle(&self, request: Request) -> Result<Response> {
        exchange::answer(self.engine, request)
    }

    fn seed(&self) -> Option<u64> {
        Some(self.engine.seed())
    }
}

mayfly::export!(Script);
