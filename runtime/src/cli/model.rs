//! `mayfly deploy model.onnx`: packs the model and what was said about it into the stock runner.

mod external;
mod file;
mod first;
mod onnx;
mod picture;
mod runner;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::stock::{self, read};
use super::{Failure, code};
pub(super) use first::{metadata, ports, show as try_out};
use onnx::{Dim, Input, Onnx};
use runner::Runner;

const MIB: u64 = 1 << 20;
/// What the runner writes when something panics that it tries, with what it was; `guest-sdk/src/onnx/blame.rs`.
const PANICKED: &str = "mayfly: a panic while trying: ";
/// Deploys that are tried once more at most.
const LEFT_OUT: usize = 4;

/// What a model needs to be told beside its file.
#[derive(Debug, Default, Args)]
pub(crate) struct ModelArgs {
    /// The shape of one of the model's inputs, as in input=1x3x224x224, with ? for a size that is left open; may be repeated.
    #[arg(long, value_name = "NAME=SHAPE", help_heading = "Models")]
    input: Vec<String>,
    /// The size of one of the model's named dimensions, several sizes as in seq=16,64, or "any"; may be repeated.
    #[arg(long, value_name = "NAME=SIZES", help_heading = "Models")]
    dim: Vec<String>,
    /// What is taken off each colour of a picture: one number, or three for red, green and blue.
    #[arg(long, value_name = "NUMBERS", allow_hyphen_values = true, help_heading = "Models")]
    mean: Option<String>,
    /// What the difference is divided by: one number, or three.
    #[arg(long, value_name = "NUMBERS", help_heading = "Models")]
    scale: Option<String>,
    /// How a picture of other proportions becomes the input: crop cuts its middle out, stretch does not [default: crop].
    #[arg(long, value_name = "HOW", help_heading = "Models")]
    fit: Option<String>,
    /// The order of a picture's numbers: nchw or nhwc [default: as the input's shape says].
    #[arg(long, value_name = "ORDER", help_heading = "Models")]
    layout: Option<String>,
    /// A file with one line for each of the model's classes: pictures are then answered with the likeliest.
    #[arg(long, value_name = "FILE", help_heading = "Models")]
    labels: Option<PathBuf>,
    /// What a deploy before this one found out that it should not try.
    #[arg(skip)]
    left_out: Vec<String>,
    /// The stock runner [default: runner.wasm beside mayfly, or in ../share/mayfly].
    #[arg(long, value_name = "FILE", env = "MAYFLY_RUNNER", help_heading = "Models")]
    runner: Option<PathBuf>,
}

/// Sizes of the inputs' dimensions, each its input's; none for one that is left open.
type Shapes = BTreeMap<String, Vec<Option<u64>>>;

/// What was said of named dimensions.
type Dims = BTreeMap<String, Sizes>;

/// The sizes that a dimension may have.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
struct Sizes {
    /// Those to make ready.
    sizes: Vec<u64>,
    /// Whether any other will do as well.
    any: bool,
}

/// A module that serves a model.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) wasm: Vec<u8>,
    /// What the limit memory has to be, when nobody says otherwise.
    pub(super) memory_bytes: u64,
    /// What there is to say of it.
    pub(super) notes: Vec<String>,
}

/// Whether a file is a model: by its name, as the format has no mark of its own.
pub(super) fn is_model(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// A model as far as it can be known without running it.
#[derive(Debug)]
pub(super) struct Seen {
    /// Its inputs, each in words.
    pub(super) inputs: Vec<String>,
    /// How many nodes it has.
    pub(super) nodes: usize,
    /// What there is to say of it.
    pub(super) notes: Vec<String>,
}

/// A model with all that was said of it, and nothing missing.
struct Prepared<'m> {
    model: Cow<'m, [u8]>,
    onnx: Onnx,
    config: Value,
    labels: Option<Vec<u8>>,
    notes: Vec<String>,
}

impl ModelArgs {
    /// Whether anything was said that only a model understands.
    pub(super) fn given(&self) -> bool {
        let Self { input, dim, mean, scale, fit, layout, labels, left_out: _, runner: _ } = self;
        !input.is_empty()
            || !dim.is_empty()
            || [mean, scale, fit, layout].iter().any(|given| given.is_some())
            || labels.is_some()
    }

    /// Whether a deploy that failed for this should be tried once more: then it was something that the runner tried of its
    /// own accord, and it is left out.
    pub(super) fn leaves_out(&mut self, failure: &str) -> bool {
        let tried = failure.lines().find_map(|line| line.trim().split_once(PANICKED));
        let Some((_, what)) = tried else { return false };
        if self.left_out.len() == LEFT_OUT || self.left_out.iter().any(|left_out| left_out == what)
        {
            return false;
        }
        self.left_out.push(what.to_owned());
        true
    }

    /// What it means that the last thing was left out.
    pub(super) fn left_out_note(&self) -> String {
        match self.left_out.last().map(String::as_str) {
            Some("all sizes") => {
                "tract panics over one plan for every size of this model, so there is none: a size that nothing is made \
                 ready for gets a plan while its request waits; deploying without it"
                    .to_owned()
            }
            Some(what) => format!("tract panics over {what}, which nobody asked for; deploying without it"),
            None => String::new(),
        }
    }

    /// Refuses what only a model understands for what is none.
    ///
    /// # Errors
    /// Which options those are.
    pub(super) fn fit(&self, path: &Path) -> Result<(), Failure> {
        if is_model(path) || !self.given() {
            return Ok(());
        }
        let why = "--input, --dim, --mean, --scale, --layout, --fit and --labels are for models: files named .onnx";
        Err(Failure::new(code::USAGE, why))
    }

    /// Looks at all that a deploy would look at, but for what only running the model shows.
    ///
    /// # Errors
    /// What a deploy would say.
    pub(super) fn check(&self, path: &Path, model: &[u8]) -> Result<Seen, Failure> {
        let Prepared { model, onnx, config, labels, mut notes } = self.prepare(path, model)?;
        match Runner::find(self.runner.as_deref()) {
            Ok(runner) => {
                if let Some(lacks) = runner.lacks(&onnx) {
                    let why = format!("{}: {lacks}", path.display());
                    return Err(Failure::new(code::FAILED, why));
                }
                if !runner.lists_operators() {
                    notes.push(
                        "the runner does not say which operators it has: not looked at".into(),
                    );
                }
                put_together(path, runner.wasm, &model, &config, labels.as_deref())?;
            }
            // The model may be good, and deployed from elsewhere.
            Err(why) if self.runner.is_none() => notes.push(format!(
                "operators were not looked at, and a deploy from here would be refused: {}",
                why.text.replace('\n', "; ")
            )),
            Err(why) => return Err(why),
        }
        let inputs = onnx.inputs.iter().map(ToString::to_string).collect();
        Ok(Seen { inputs, nodes: onnx.nodes.len(), notes })
    }

    /// The runner with the model in it.
    ///
    /// # Errors
    /// What is wrong with the model or missing from the command, and what to write instead.
    pub(super) fn pack(&self, path: &Path, model: &[u8]) -> Result<Packed, Failure> {
        let Prepared { model, config, labels, notes, .. } = self.prepare(path, model)?;
        let runner = Runner::find(self.runner.as_deref())?;
        let wasm = put_together(path, runner.wasm, &model, &config, labels.as_deref())?;
        // Measured with the models in the tests: tract holds the file, the graph and packed weights for a moment.
        let memory = (model.len() as u64 * 10 + 192 * MIB).next_multiple_of(64 * MIB);
        Ok(Packed { wasm, memory_bytes: memory.min(4096 * MIB), notes })
    }

    fn prepare<'m>(&self, path: &Path, model: &'m [u8]) -> Result<Prepared<'m>, Failure> {
        let shown = path.display();
        let usage = |why: String| Failure::new(code::USAGE, format!("{shown}: {why}"));
        let failed = |why: String| Failure::new(code::FAILED, format!("{shown}: {why}"));
        let mut notes = Vec::new();
        let model = match external::embed(path, model).map_err(failed)? {
            Some(embedded) => {
                notes.push(external::note(&embedded));
                Cow::Owned(embedded.model)
            }
            None => Cow::Borrowed(model),
        };
        let onnx = Onnx::read(&model).map_err(failed)?;
        let shapes = self.shapes(&onnx).map_err(usage)?;
        let dims = self.dims(&onnx).map_err(usage)?;
        if let Some(question) = missing(&onnx, &shapes, &dims) {
            return Err(usage(question));
        }
        let image = self.image(&onnx, &shapes).map_err(usage)?;
        notes.extend(picture::note(&onnx, &shapes, image.as_ref()));
        let labels = self.labels.as_ref().map(|path| read(path)).transpose()?;
        let config = json!({
            "dims": dims, "shapes": shapes, "image": image, "labels": labels.is_some(),
            "left_out": self.left_out,
        });
        Ok(Prepared { model, onnx, config, labels, notes })
    }

    fn shapes(&self, onnx: &Onnx) -> Result<Shapes, String> {
        let mut shapes = BTreeMap::new();
        for given in &self.input {
            // A name may hold '=' or ':'; a shape does not.
            let (name, shape) = given.rsplit_once('=').ok_or_else(|| {
                format!("--input {given}: write NAME=SHAPE, as in {}", onnx.example())
            })?;
            let input = onnx.inputs.iter().find(|input| input.name == name).ok_or_else(|| {
                format!(
                    "--input {given}: there is no input '{name}'; the inputs are\n{}",
                    onnx.list()
                )
            })?;
            let size = |word: &str| match word.trim() {
                "?" => Ok(None),
                word => word.parse().map(Some),
            };
            let sizes: Result<Vec<Option<u64>>, _> = shape.split(['x', ',']).map(size).collect();
            let sizes = sizes.map_err(|_| {
                format!(
                    "--input {given}: '{shape}' is no shape; write 1x3x224x224, with ? for what is left open"
                )
            })?;
            input.check(&sizes).map_err(|why| format!("--input {given}: {why}"))?;
            shapes.insert(name.to_owned(), sizes);
        }
        Ok(shapes)
    }

    fn dims(&self, onnx: &Onnx) -> Result<Dims, String> {
        let mut dims = Dims::new();
        for given in &self.dim {
            let (name, words) = given
                .rsplit_once('=')
                .ok_or_else(|| format!("--dim {given}: write NAME=SIZE, as in batch=1"))?;
            let known = onnx.inputs.iter().flat_map(|input| &input.shape);
            if !known.clone().any(|dim| matches!(dim, Dim::Named(known) if known == name)) {
                let names: Vec<_> = known.filter_map(Dim::name).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(format!(
                    "--dim {given}: no input has a dimension '{name}'; there are: {names}"
                ));
            }
            let mut sizes = Sizes::default();
            for word in words.split(',').map(str::trim) {
                match word.parse::<u64>() {
                    Ok(size) if size > 0 => sizes.sizes.push(size),
                    _ if word == "any" => sizes.any = true,
                    _ => {
                        return Err(format!(
                            "--dim {given}: '{word}' is no size; write a whole number, several as in 16,64, or any"
                        ));
                    }
                }
            }
            dims.insert(name.to_owned(), sizes);
        }
        Ok(dims)
    }
}

/// The runner with all of a model's parts in it.
fn put_together(
    path: &Path,
    wasm: Vec<u8>,
    model: &[u8],
    config: &Value,
    labels: Option<&[u8]>,
) -> Result<Vec<u8>, Failure> {
    let config = config.to_string();
    let labels = labels.map(|labels| ("labels.txt", labels));
    let assets = [("config.json", config.as_bytes())].into_iter().chain(labels);
    stock::put_together(path, wasm, assets.chain([("model.onnx", model)]))
}

/// What to say when dimensions have no size yet: which, and a command that would do.
fn missing(onnx: &Onnx, shapes: &Shapes, dims: &Dims) -> Option<String> {
    let open = |dim: &Dim| match dim {
        Dim::Fixed(_) => false,
        Dim::Named(name) => !dims.contains_key(name),
        Dim::Open => true,
    };
    let asked: Vec<&Input> = onnx
        .inputs
        .iter()
        .filter(|input| !shapes.contains_key(&input.name) && input.shape.iter().any(open))
        .collect();
    if asked.is_empty() {
        return None;
    }
    let mut suggestions: Vec<String> = Vec::new();
    for input in &asked {
        // A name that a shell or a reader would stumble over is better given as a whole shape.
        let plain = |dim: &Dim| match dim {
            Dim::Named(name) => {
                name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
            }
            Dim::Fixed(_) => true,
            Dim::Open => false,
        };
        if input.shape.iter().filter(|dim| open(dim)).all(plain) {
            for (i, dim) in input.shape.iter().enumerate() {
                if let (true, Dim::Named(name)) = (open(dim), dim) {
                    suggestions.push(format!("--dim {name}={}", input.suggest(i)));
                }
            }
        } else {
            let sizes: Vec<_> =
                (0..input.shape.len()).map(|i| input.suggest(i).to_string()).collect();
            suggestions.push(format!("--input '{}={}'", input.name, sizes.join("x")));
        }
    }
    suggestions.dedup();
    let mut seen = std::collections::BTreeSet::new();
    suggestions.retain(|suggestion| seen.insert(suggestion.clone()));
    let inputs: Vec<_> = asked.iter().map(|input| format!("  {input}")).collect();
    Some(format!(
        "these inputs have dimensions without a size:\n{}\nsay how large they are, for instance with\n  {}\nor which \
         sizes they may have: --dim NAME=any, --dim NAME=16,64, or --input NAME=?x4 with ? for what is left open",
        inputs.join("\n"),
        suggestions.join(" ")
    ))
}

#[cfg(test)]
mod tests;
