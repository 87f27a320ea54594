use anyhow::{Context, Result};
use tract_onnx::pb::ModelProto;

use super::check::Grain;
use super::model::Model;
use super::source::Source;
use super::{
    advice, blame, branch, contrib, flatten, ml, operators, proto, shapes, squeeze, standard,
    strings,
};

/// For [`Options::leave_out`].
pub const ALL_SIZES: &str = "all sizes";

/// For [`Options::leave_out`]: the comparison with the plain model, which is run on drawn numbers, and the warm-up, on
/// zeros; a model may divide by them.
pub const CHECK: &str = "the comparison with the plain model";
/// See [`CHECK`].
pub const WARM_UP: &str = "the warm-up run";

/// How to load a [`Model`]. Made by [`Model::options`].
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) dims: Vec<(String, Vec<usize>)>,
    /// Sizes of dimensions that may have others as well.
    pub(super) any: Vec<(String, Vec<usize>)>,
    shapes: Vec<(String, Vec<Option<usize>>)>,
    pub(super) met: Vec<Vec<(String, Vec<usize>)>>,
    ignore_value_info: bool,
    pub(super) warm_up: bool,
    pub(super) check: bool,
    left_out: Vec<String>,
}

impl Options {
    pub(super) fn new() -> Self {
        Self {
            dims: Vec::new(),
            any: Vec::new(),
            shapes: Vec::new(),
            met: Vec::new(),
            ignore_value_info: true,
            warm_up: true,
            check: true,
            left_out: Vec::new(),
        }
    }

    /// Fixes the named dimension `name`, wherever an input has it, to `size`.
    ///
    /// A model whose dimensions are all fixed is optimised further than one that leaves some open.
    #[must_use]
    pub fn dim(self, name: impl Into<String>, size: usize) -> Self {
        self.dims(name, [size])
    }

    /// Lets the named dimension `name` have each of these sizes, and no other: a plan is made ready for each, and all
    /// share what weights they can.
    #[must_use]
    pub fn dims(mut self, name: impl Into<String>, sizes: impl Into<Vec<usize>>) -> Self {
        self.dims.push((name.into(), sizes.into()));
        self
    }

    /// Makes plans ready for these sizes of a dimension that may have any other as well. Without it, one plan is made
    /// ready for a dimension that is left open, of a size that suits the model.
    #[must_use]
    pub fn any(mut self, name: impl Into<String>, ready: impl Into<Vec<usize>>) -> Self {
        self.any.push((name.into(), ready.into()));
        self
    }

    /// Fixes the whole shape of the input `name`; goes before [`dim`](Self::dim).
    #[must_use]
    pub fn shape(self, name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        let shape: Vec<usize> = shape.into();
        self.open_shape(name, shape.into_iter().map(Some).collect::<Vec<_>>())
    }

    /// As [`shape`](Self::shape), with `None` for each dimension that is left open.
    #[must_use]
    pub fn open_shape(
        mut self,
        name: impl Into<String>,
        shape: impl Into<Vec<Option<usize>>>,
    ) -> Self {
        self.shapes.push((name.into(), shape.into()));
        self
    }

    /// Makes a plan ready for these shapes of all inputs, each with its name, beside those that were asked for. One that
    /// does not do is left out.
    #[must_use]
    pub fn met(mut self, shapes: impl IntoIterator<Item = (String, Vec<usize>)>) -> Self {
        self.met.push(shapes.into_iter().collect());
        self
    }

    /// Whether to work out the shapes between nodes anew instead of believing the file. On by
    /// default, since exporters write shapes there that contradict a dimension fixed later.
    #[must_use]
    pub fn ignore_value_info(mut self, ignore: bool) -> Self {
        self.ignore_value_info = ignore;
        self
    }

    /// Whether to run the model once, on zeros, so that what it makes on its first run is in the
    /// snapshot. On by default.
    #[must_use]
    pub fn warm_up(mut self, warm_up: bool) -> Self {
        self.warm_up = warm_up;
        self
    }

    /// Whether to compare what the model gives on drawn numbers with what it gives before it is made fast, and to refuse
    /// it if that is something else. On by default; it costs a few runs.
    #[must_use]
    pub fn check(mut self, check: bool) -> Self {
        self.check = check;
        self
    }

    /// Does not try this in init: [`CHECK`], [`WARM_UP`], [`ALL_SIZES`], one plan for all sizes of the dimensions that are open, or sizes, as in
    /// `h=224, w=224`. Where there is no plan for all sizes, or it does not give what plans for single sizes do, a plan is
    /// made for each size that is met.
    #[must_use]
    pub fn leave_out(mut self, what: impl Into<String>) -> Self {
        self.left_out.push(what.into());
        self
    }

    pub(super) fn tries(&self, what: &str) -> bool {
        !self.left_out.iter().any(|left_out| left_out == what)
    }

    /// Loads the model from an [asset](crate::asset!). In init only.
    ///
    /// # Errors
    /// When there is no such asset, and as [`parse`](Self::parse).
    pub fn load(self, asset: &str) -> Result<Model> {
        let bytes = crate::asset(asset)?;
        let proto = proto::decode(&bytes).with_context(|| asset.to_owned())?;
        // The file is as large as the weights: it goes before the optimiser makes copies of them.
        drop(bytes);
        self.build(asset, proto)
    }

    /// Loads the model from the bytes of an ONNX file; `name` stands for it in errors.
    ///
    /// # Errors
    /// When the bytes are no ONNX model, keep weights in other files, or use operators that tract
    /// does not have (each is listed with its node's name); when [`dim`](Self::dim) or
    /// [`shape`](Self::shape) name nothing in the model; when shapes do not fit together; when the
    /// warm-up fails, or the [check](Self::check). Says which node it was.
    pub fn parse(self, name: &str, bytes: &[u8]) -> Result<Model> {
        let proto = proto::decode(bytes).with_context(|| name.to_owned())?;
        self.build(name, proto)
    }

    fn build(mut self, name: &str, proto: ModelProto) -> Result<Model> {
        blame::watch();
        let mut next_step = String::new();
        let read = self.read(name, proto, &mut next_step);
        let made = read.and_then(|read| shapes::prepare(name, &self, read));
        blame::loaded();
        made.map_err(|error| advice::with(&error, &next_step)).with_context(|| name.to_owned())
    }

    fn read(&mut self, name: &str, mut proto: ModelProto, next_step: &mut String) -> Result<Read> {
        let onnx = taught().with_ignore_value_info(self.ignore_value_info);
        operators::expand(&mut proto)?;
        proto::check(&onnx, &proto)?;
        proto::repair(&mut proto);
        let open = self.any.iter().map(|(name, _)| (name.clone(), Vec::new()));
        let known: Vec<_> = self.dims.iter().cloned().chain(open).collect();
        proto::fix_dims(&mut proto, &known, &self.shapes)?;
        for (name, _) in self.dims.iter_mut().chain(&mut self.any) {
            *name = proto::plain_name(name);
        }
        let operators = proto::operators(&proto);
        let halves = proto::has_halves(&proto);
        let grain = Grain::of(operators.iter().map(String::as_str), halves);
        let outputs = proto::output_names(&proto);
        let makers = proto::makers(&proto);
        *next_step = advice::next_step(&proto);
        blame::load(name, next_step.clone());
        Ok(Read { source: Source::read(&onnx, proto)?, outputs, makers, grain })
    }
}

/// tract, with all that it is taught here; `operators.txt` has the names.
pub(super) fn taught() -> tract_onnx::Onnx {
    let mut onnx = tract_onnx::onnx();
    contrib::register(&mut onnx);
    standard::register(&mut onnx);
    branch::register(&mut onnx);
    squeeze::register(&mut onnx);
    flatten::register(&mut onnx);
    ml::register(&mut onnx);
    strings::register(&mut onnx);
    onnx
}

/// What is known of a file before any plan is made.
pub(super) struct Read {
    pub(super) source: Source,
    pub(super) outputs: Vec<String>,
    /// How errors call the node that makes each output.
    pub(super) makers: Vec<String>,
    pub(super) grain: Grain,
}
