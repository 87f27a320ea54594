//! Which files `import` finds: the prelude's while the engine is made, then the script's, and nothing else.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use mayfly::asset;
use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Error, Exception, Module, Result};

use crate::config::Kind;

/// Before the names of the prelude's modules; a script's resolve to paths, which have no colon here.
pub(crate) const PRELUDE: &str = "mayfly:";
/// The one that makes the globals.
pub(crate) const PRELUDE_ENTRY: &str = "mayfly:globals";

/// In reading order: each imports only those above it.
const PRELUDE_FILES: &[(&str, &str)] = &[
    ("errors", include_str!("../prelude/errors.js")),
    ("events", include_str!("../prelude/events.js")),
    ("encoding", include_str!("../prelude/encoding.js")),
    ("url", include_str!("../prelude/url.js")),
    ("pattern-parse", include_str!("../prelude/pattern-parse.js")),
    ("pattern", include_str!("../prelude/pattern.js")),
    ("queues", include_str!("../prelude/queues.js")),
    ("readable", include_str!("../prelude/readable.js")),
    ("writable", include_str!("../prelude/writable.js")),
    ("transform", include_str!("../prelude/transform.js")),
    ("clone", include_str!("../prelude/clone.js")),
    ("blob", include_str!("../prelude/blob.js")),
    ("form", include_str!("../prelude/form.js")),
    ("headers", include_str!("../prelude/headers.js")),
    ("body", include_str!("../prelude/body.js")),
    ("messages", include_str!("../prelude/messages.js")),
    ("fetch", include_str!("../prelude/fetch.js")),
    ("crypto", include_str!("../prelude/crypto.js")),
    ("inspect", include_str!("../prelude/inspect.js")),
    ("console", include_str!("../prelude/console.js")),
    ("timers", include_str!("../prelude/timers.js")),
    ("missing", include_str!("../prelude/missing.js")),
    ("dispatch", include_str!("../prelude/dispatch.js")),
    ("globals", include_str!("../prelude/globals.js")),
];

/// The script's files.
pub(crate) type Files = Rc<RefCell<BTreeMap<String, Kind>>>;

/// Makes a specifier a path among the script's files.
pub(crate) struct Paths(pub(crate) Files);

impl Resolver for Paths {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        if base.starts_with(PRELUDE) {
            return Ok(name.to_owned());
        }
        let files = self.0.borrow();
        if name.starts_with("./") || name.starts_with("../") {
            let path = join(base, name);
            // What TypeScript and bundlers leave out, and `./x.js` for a file that is x.ts.
            let stem = path.strip_suffix(".js").unwrap_or(&path);
            let tried = [
                path.clone(),
                format!("{path}.js"),
                format!("{path}.mjs"),
                format!("{stem}.ts"),
                format!("{path}/index.js"),
                format!("{path}/index.ts"),
            ];
            if let Some(found) = tried.into_iter().find(|path| files.contains_key(path)) {
                return Ok(found);
            }
        }
        if files.is_empty() || files.contains_key(name) {
            return Ok(name.to_owned());
        }
        let hint = match name {
            _ if name.starts_with('.') || name.starts_with('/') => {
                "no such file was deployed with the script"
            }
            _ if name.starts_with("node:") || name.starts_with("cloudflare:") => {
                "there are no built-in modules here; docs/javascript.md lists what there is"
            }
            _ => "packages are bundled before a deploy, as by esbuild; docs/javascript.md says how",
        };
        Err(Exception::throw_type(ctx, &format!("cannot import \"{name}\" from {base}: {hint}")))
    }
}

/// `./x` beside `base`, without dots.
fn join(base: &str, name: &str) -> String {
    let mut parts: Vec<&str> = base.split('/').collect();
    parts.pop();
    for part in name.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Reads a file and makes it a module.
#[derive(Clone)]
pub(crate) struct Sources {
    files: Files,
    loaded: Rc<RefCell<BTreeSet<String>>>,
}

impl Sources {
    pub(crate) fn new(files: Files) -> Self {
        Self { files, loaded: Rc::default() }
    }

    /// Makes modules of the files that no module has imported yet.
    pub(crate) fn load_rest(&self, ctx: &Ctx<'_>) -> Result<()> {
        let loaded = self.loaded.borrow().clone();
        let rest: Vec<String> =
            self.files.borrow().keys().filter(|name| !loaded.contains(*name)).cloned().collect();
        rest.iter().try_for_each(|name| self.module(ctx, name).map(drop))
    }

    fn module<'js>(&self, ctx: &Ctx<'js>, name: &str) -> Result<Module<'js, Declared>> {
        if let Some(own) = name.strip_prefix(PRELUDE) {
            let found = PRELUDE_FILES.iter().find(|(file, _)| *file == own);
            let (_, source) = found.ok_or_else(|| Error::new_loading(name))?;
            return Module::declare(ctx.clone(), name, *source);
        }
        let kind =
            self.files.borrow().get(name).copied().ok_or_else(|| Error::new_loading(name))?;
        self.loaded.borrow_mut().insert(name.to_owned());
        let refused =
            |why: &str| Exception::throw_type(ctx, &format!("cannot import {name}: {why}"));
        let bytes = asset(&format!("file/{name}")).map_err(|why| refused(&why.to_string()))?;
        let source = match kind {
            Kind::Script => bytes,
            Kind::Bytes => {
                let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
                format!("export default new Uint8Array([{}]).buffer;", numbers.join(","))
                    .into_bytes()
            }
            Kind::Json | Kind::Text => {
                let text = String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8"))?;
                let text = rquickjs::String::from_str(ctx.clone(), &text)?;
                let quoted =
                    ctx.json_stringify(text)?.map(|quoted| quoted.to_string()).transpose()?;
                let quoted = quoted.unwrap_or_default();
                match kind {
                    Kind::Json => format!("export default JSON.parse({quoted});").into_bytes(),
                    _ => format!("export default {quoted};").into_bytes(),
                }
            }
        };
        Module::declare(ctx.clone(), name, source)
    }
}

impl Loader for Sources {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        self.module(ctx, name)
    }
}
