//! Memory of instances: laid out of an image, lent to one request, made fresh, and lent again.
//!
//! The engine is told nothing of images; it gets memories that have their contents already. A page that requests do not
//! write may only be read: the first write to one is a fault, which is noted. So it is known exactly which pages have to
//! be made fresh, whatever a guest does and whatever the kernel says of its pages, and it takes no system call if those
//! are the ones that requests always write (docs/decisions/0006-own-memory.md).
//!
//! In reading order: a [`Template`] of a revision gives a [`Lease`] of an arena (`arena.rs`), whose book says
//! what to do with its pages (`book.rs`), and whose ground does it (`ground.rs`).

mod arena;
mod book;
mod bridge;
mod ground;
mod image;
mod plan;
mod runs;
mod stack;
mod stripes;
mod template;

use std::io;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use arena::Arena;
pub use bridge::{Hosted, into_config};
use ground::Field;
pub use ground::{ARENA_BYTES, GUARD_BYTES, MEMORY_BYTES};
pub use image::Image;
pub use plan::{Mappings, NoRoom};
use stack::Stacks;
use template::Limits;
pub use template::Template;

/// Templates that are looked at for one whose arena can be taken, before the one that was used longest ago is chosen.
const SEARCH: usize = 32;

/// Why there is no memory for an instance.
#[derive(Debug, thiserror::Error)]
pub enum OutOfArenas {
    /// All are lent.
    #[error("every slot's memory is in use")]
    Lent,
    /// The system maps no more.
    #[error("the system gives no memory for an instance{}", .0.as_ref().map_or(String::new(), |e| format!(": {e}")))]
    Unmapped(Option<io::Error>),
}

/// All arenas of a node; cheap to clone.
#[derive(Debug, Clone)]
pub struct Arenas(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    field: Arc<Field>,
    limits: Limits,
    most: usize,
    made: AtomicUsize,
    /// Made, and nothing laid in them.
    free: Mutex<Vec<Arc<Arena>>>,
    templates: Mutex<Turns>,
    /// Counts arenas that were laid: what was used when, for who looks for the longest unused.
    clock: AtomicU64,
    /// Whether the node's memory is short.
    short: AtomicBool,
    stacks: Arc<Stacks>,
}

#[derive(Debug, Default)]
struct Turns {
    templates: Vec<Weak<Template>>,
    next: usize,
}

impl Arenas {
    /// Address space for so many, of which each idle one may keep so many bytes of hot pages.
    ///
    /// # Errors
    /// [`NoRoom`] says what is short.
    pub fn reserve(most: usize, idle_bytes: u64) -> Result<Self, NoRoom> {
        let mappings = Mappings::plan(most, plan::max_map_count())?;
        let field = Field::reserve(most).map_err(NoRoom::AddressSpace)?;
        let page = rustix::param::page_size() as u64;
        let limits = Limits {
            hot_runs: mappings.hot_runs,
            hot_pages: u32::try_from(idle_bytes / page).unwrap_or(u32::MAX),
            faults: mappings.faults,
        };
        Ok(Self(Arc::new(Inner {
            field,
            limits,
            most,
            made: AtomicUsize::new(0),
            free: Mutex::default(),
            templates: Mutex::default(),
            clock: AtomicU64::new(0),
            short: AtomicBool::new(false),
            stacks: Arc::default(),
        })))
    }

    /// What memories of one revision look like: so many bytes, the first of them from an image.
    #[must_use]
    pub fn template(&self, image: Option<Arc<Image>>, bytes: u64) -> Arc<Template> {
        let template = Template::new(self.clone(), image, bytes);
        let mut turns = self.0.templates.lock();
        turns.templates.retain(|template| template.strong_count() > 0);
        turns.templates.push(Arc::downgrade(&template));
        template
    }

    /// How many there are, lent or not.
    #[must_use]
    pub fn made(&self) -> usize {
        self.0.made.load(Relaxed)
    }

    /// Whether memory is short: then nothing that holds much is kept ready, and up to so many of those are cleared. Small
    /// ones stay: to lay one for each request would cost those that take least the most.
    pub fn set_short(&self, short: bool, clear: usize) {
        self.0.short.store(short, Relaxed);
        for _ in 0..if short { clear } else { 0 } {
            let Some(template) = self.longest_unused(Template::holds_much) else { return };
            if let Some(arena) = template.pop() {
                self.put_back(arena);
            }
        }
    }

    fn is_short(&self) -> bool {
        self.0.short.load(Relaxed)
    }

    fn limits(&self) -> Limits {
        self.0.limits
    }

    fn now(&self) -> u64 {
        self.0.clock.load(Relaxed)
    }

    /// One to lay a memory in: free, new, or taken from a template that has not been asked for long.
    fn obtain(&self) -> Result<Arc<Arena>, OutOfArenas> {
        let inner = &*self.0;
        inner.clock.fetch_add(1, Relaxed);
        if let Some(arena) = inner.free.lock().pop() {
            return Ok(arena);
        }
        let more = |made: usize| (made < inner.most).then_some(made + 1);
        if let Ok(index) = inner.made.fetch_update(Relaxed, Relaxed, more) {
            return Ok(Arc::new(Arena::new(inner.field.pages(index), inner.limits.faults)));
        }
        // Two may choose the same one, and another may take its last: then once more.
        while let Some(template) = self.longest_unused(|_| true) {
            if let Some(arena) = template.pop() {
                return Ok(arena);
            }
        }
        inner.free.lock().pop().ok_or(OutOfArenas::Lent)
    }

    /// Of the next few such templates that have an idle arena.
    fn longest_unused(&self, such: impl Fn(&Template) -> bool) -> Option<Arc<Template>> {
        let mut turns = self.0.templates.lock();
        let count = turns.templates.len();
        let mut best: Option<Arc<Template>> = None;
        let (mut at, mut seen) = (turns.next, 0);
        for _ in 0..count {
            at = (at + 1) % count;
            let Some(template) = turns.templates[at].upgrade() else { continue };
            if template.idle() == 0 || !such(&template) {
                continue;
            }
            seen += 1;
            if best.as_ref().is_none_or(|best| template.used() < best.used()) {
                best = Some(template);
            }
            if seen == SEARCH {
                break;
            }
        }
        turns.next = at;
        best
    }

    /// One that no template keeps.
    fn put_back(&self, mut arena: Arc<Arena>) {
        if let Some(alone) = Arc::get_mut(&mut arena)
            && let Err(error) = alone.clear()
        {
            tracing::warn!(%error, "a memory that nobody needs could not be given back");
        }
        self.0.free.lock().push(arena);
    }
}

/// An arena while one request has it. Dropped, after its store, it makes the memory fresh.
#[derive(Debug)]
pub struct Lease {
    arena: Option<Arc<Arena>>,
    template: Arc<Template>,
}

impl Lease {
    fn new(arena: Arc<Arena>, template: Arc<Template>) -> Self {
        Self { arena: Some(arena), template }
    }

    /// Bytes that making the memory fresh has to see to, each about a tenth of a nanosecond.
    #[must_use]
    pub fn work_bytes(&self) -> usize {
        self.arena.as_ref().map_or(0, |arena| arena.work_bytes())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(arena) = self.arena.take() {
            self.template.give_back(arena);
        }
    }
}

#[cfg(test)]
mod tests;
