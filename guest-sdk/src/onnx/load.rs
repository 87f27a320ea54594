use anyhow::{Context, Result};
use tract_onnx::Onnx;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::ml;
use super::model::{Model, Port};
use super::operators;
use super::proto;
use super::tensor::Tensor;

/// How to load a [`Model`]. Made by [`Model::options`].
#[derive(Debug, Clone)]
pub struct Options {
    dims: Vec<(String, usize)>,
    shapes: Vec<(String, Vec<usize>)>,
    ignore_value_info: bool,
    warm_up: bool,
}

impl Options {
    pub(super) fn new() -> Self {
        Self { dims: Vec::new(), shapes: Vec::new(), ignore_value_info: true, warm_up: true }
    }

    /// Fixes the named dimension `name`, wherever an input has it, to `size`.
    ///
    /// A model whose dimensions are all fixed is optimised further than one that leaves some open.
    #[must_use]
    pub fn dim(mut self, name: impl Into<String>, size: usize) -> Self {
        self.dims.push((name.into(), size));
        self
    }

    /// Fixes the whole shape of the input `name`; goes before [`dim`](Self::dim).
    #[must_use]
    pub fn shape(mut self, name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        self.shapes.push((name.into(), shape.into()));
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
    /// snapshot. On by default; a model with open dimensions is not run, so call
    /// [`Model::run`] in init yourself with inputs of a usual size.
    #[must_use]
    pub fn warm_up(mut self, warm_up: bool) -> Self {
        self.warm_up = warm_up;
        self
    }

    /// Loads the model from an [asset](crate::asset!). In init only.
    ///
    /// # Errors
    /// When there is no such asset, and as [`parse`](Self::parse).
    pub fn load(self, asset: &str) -> Result<Model> {
        let bytes = crate::asset(asset)?;
        self.decode(asset, bytes)
    }

    /// Loads the model from the bytes of an ONNX file; `name` stands for it in errors.
    ///
    /// # Errors
    /// When the bytes are no ONNX model, keep weights in other files, or use operators that tract
    /// does not have (each is listed with its node's name); when [`dim`](Self::dim) or
    /// [`shape`](Self::shape) name nothing in the model; when shapes do not fit together; when the
    /// warm-up fails. Says which node it was.
    pub fn parse(self, name: &str, bytes: &[u8]) -> Result<Model> {
        let proto = proto::decode(bytes).with_context(|| name.to_owned())?;
        self.build(name, proto)
    }

    fn decode(self, name: &str, bytes: Vec<u8>) -> Result<Model> {
        let proto = proto::decode(&bytes).with_context(|| name.to_owned())?;
        // The file is as large as the weights: it goes before the optimiser makes copies of them.
        drop(bytes);
        self.build(name, proto)
    }

    fn build(self, name: &str, proto: ModelProto) -> Result<Model> {
        let warm_up = self.warm_up;
        super::blame::watch();
        let model = self.optimise(name, proto).with_context(|| name.to_owned())?;
        if warm_up && let Some(inputs) = zeros(model.inputs())? {
            match model.run(inputs) {
                // Zeros are of no category, for instance, and a request's numbers are.
                Err(error) if ml::of_numbers(&error) => {}
                run => drop(run.context("the warm-up run, on zeros")?),
            }
            crate::kernels::release_scratch();
        }
        Ok(model)
    }

    fn optimise(self, name: &str, mut proto: ModelProto) -> Result<Model> {
        let mut onnx = tract_onnx::onnx().with_ignore_value_info(self.ignore_value_info);
        operators::register(&mut onnx);
        ml::register(&mut onnx);
        operators::expand(&mut proto)?;
        proto::check(&onnx, &proto)?;
        proto::repair(&mut proto);
        proto::fix_dims(&mut proto, &self.dims, &self.shapes)?;
        let outputs = proto::output_names(&proto);
        let typed = infer(&onnx, proto)?.into_typed().context("working out types and shapes")?;
        let fast = crate::kernels::rewrite(typed).context("choosing kernels")?;
        let mut optimised = fast.into_optimized().context("optimising")?;
        crate::kernels::relocate(&mut optimised);
        let inputs = Port::inputs(&optimised)?;
        let outputs = Port::outputs(&optimised, outputs)?;
        let plan = optimised.into_runnable().context("planning")?;
        Ok(Model::new(name.into(), plan, inputs, outputs))
    }
}

/// Takes the file's content by value, so that it is gone before the optimiser starts.
fn infer(onnx: &Onnx, proto: ModelProto) -> Result<InferenceModel> {
    onnx.model_for_proto_model(&proto).context("reading the graph")
}

/// An input of zeros for each port, or nothing if a dimension is open.
fn zeros(ports: &[Port]) -> Result<Option<Vec<(String, Tensor)>>> {
    let mut inputs = Vec::with_capacity(ports.len());
    for port in ports {
        let Some(shape) = port.fixed_shape() else { return Ok(None) };
        inputs.push((port.name().to_owned(), Tensor::zeros(port.datum(), &shape)?));
    }
    Ok(Some(inputs))
}
