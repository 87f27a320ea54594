use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::DimLike;

use super::load::Options;
use super::shapes::{Open, Ready};
use super::tensor::{Tensor, type_name};

/// What a model whose shapes are not fixed says of those that plans are ready for, and of what others get. The gateway
/// reads both.
const READY_SHAPES: &str = "ready_shapes";
const OTHER_SHAPES: &str = "other_shapes";

/// A model that is ready to run.
#[derive(Debug, Clone)]
pub struct Model {
    name: String,
    ready: Vec<Ready>,
    open: Option<Arc<Open>>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    parameters: Vec<(String, String)>,
    notes: Vec<String>,
}

/// An input or an output of a [`Model`].
#[derive(Debug, Clone)]
pub struct Port {
    name: String,
    datum: DatumType,
    pub(super) dims: Vec<Dim>,
}

/// The size of a dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dim {
    Fixed(usize),
    /// Any, with what the file says of it.
    Open(String),
}

impl Dim {
    fn size(&self) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Open(_) => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(f),
            Self::Open(name) => name.fmt(f),
        }
    }
}

/// What a run of a [`Model`] gives, by name.
#[derive(Debug)]
pub struct Outputs<'m> {
    model: &'m Model,
    tensors: Vec<Tensor>,
}

impl Model {
    /// Loads a model from an [asset](crate::asset!), with every option at its default. In init only.
    ///
    /// # Errors
    /// As [`Options::load`].
    pub fn load(asset: &str) -> Result<Self> {
        Self::options().load(asset)
    }

    /// Says how to load a model, for instance which size its named dimensions have.
    #[must_use]
    pub fn options() -> Options {
        Options::new()
    }

    pub(super) fn new(
        name: String,
        ready: Vec<Ready>,
        open: Option<Open>,
        inputs: Vec<Port>,
        outputs: Vec<Port>,
        notes: Vec<String>,
    ) -> Self {
        let (open, parameters) = (open.map(Arc::new), Vec::new());
        let mut model = Self { name, ready, open, inputs, outputs, parameters, notes };
        if model.inputs.iter().any(|port| port.fixed_shape().is_none()) {
            let ready = model.describe_ready();
            model.set_parameter(READY_SHAPES, ready);
            let others = model.open.as_ref().map_or("refused", |open| open.others());
            model.set_parameter(OTHER_SHAPES, others);
            if let Some(listed) = model.open.as_ref().and_then(|open| open.listed()) {
                model.set_parameter("listed_sizes", listed);
            }
        }
        model
    }

    /// `[{"ids":[1,16],"mask":[1,16]}]`
    fn describe_ready(&self) -> String {
        let all = self.ready.iter().map(|ready| {
            let shapes = self.inputs.iter().zip(&ready.shapes).map(|(port, shape)| {
                let sizes = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                format!("{}:[{sizes}]", crate::error::quoted(&port.name))
            });
            format!("{{{}}}", shapes.collect::<Vec<_>>().join(","))
        });
        format!("[{}]", all.collect::<Vec<_>>().join(","))
    }

    /// What who deploys it should know: that it will be slow, with a figure, where it will.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The inputs' shapes that plans are ready for.
    pub(super) fn ready_shapes(&self) -> impl Iterator<Item = &[Vec<usize>]> {
        self.ready.iter().map(|ready| &*ready.shapes)
    }

    /// Says something of the model to its clients that is none of its inputs and outputs, such as how a picture becomes
    /// one: its metadata have it among their parameters.
    pub fn set_parameter(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.parameters.push((name.into(), value.into()));
    }

    pub(super) fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// What [`run`](Self::run) needs.
    #[must_use]
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// What [`run`](Self::run) gives.
    #[must_use]
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Runs the model on an input for each of its [`inputs`](Self::inputs), in any order.
    ///
    /// # Errors
    /// When an input is missing, given twice, unknown, or of another type or shape than the model
    /// takes (says which, what was expected and what was given); when a node fails (says which).
    pub fn run<N: AsRef<str>>(
        &self,
        inputs: impl IntoIterator<Item = (N, Tensor)>,
    ) -> Result<Outputs<'_>> {
        let values = self.arrange(inputs).with_context(|| self.name.clone())?;
        // In init this is what says how much memory a request needs.
        let values = crate::alloc::rehearse(|| self.run_on(values));
        let values = values.with_context(|| self.name.clone())?;
        Ok(Outputs { model: self, tensors: values.into_iter().map(Tensor::from_inner).collect() })
    }

    fn run_on(&self, values: TVec<TValue>) -> Result<TVec<TValue>> {
        let fits = |ready: &&Ready| {
            ready.shapes.iter().zip(&values).all(|(shape, value)| shape == value.shape())
        };
        if let Some(ready) = self.ready.iter().find(fits) {
            return ready.plan.run(values);
        }
        match &self.open {
            Some(open) => open.run(values),
            None => bail!("the model was deployed for the shapes {}", self.list_ready()),
        }
    }

    /// `[1, 16], [1, 16] or [1, 64], [1, 64]`
    fn list_ready(&self) -> String {
        let shapes = |shapes: &[Vec<usize>]| {
            shapes.iter().map(|shape| format!("{shape:?}")).collect::<Vec<_>>().join(", ")
        };
        self.ready_shapes().map(shapes).collect::<Vec<_>>().join(" or ")
    }

    /// The inputs in the model's own order.
    fn arrange<N: AsRef<str>>(
        &self,
        inputs: impl IntoIterator<Item = (N, Tensor)>,
    ) -> Result<TVec<TValue>> {
        let mut slots: TVec<Option<TValue>> = self.inputs.iter().map(|_| None).collect();
        for (name, tensor) in inputs {
            let name = name.as_ref();
            let Some(at) = self.inputs.iter().position(|port| port.name == name) else {
                bail!("no input {name:?}; the inputs are {}", list(&self.inputs));
            };
            self.inputs[at].check(&tensor)?;
            ensure!(slots[at].is_none(), "input {name:?} is given twice");
            slots[at] = Some(tensor.into_inner());
        }
        let ports = self.inputs.iter();
        slots
            .into_iter()
            .zip(ports)
            .map(|(slot, port)| slot.with_context(|| format!("input {port} is missing")))
            .collect()
    }
}

impl Outputs<'_> {
    /// The output `name`.
    ///
    /// # Errors
    /// When the model has no such output; lists those that it has.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        let at = self.model.outputs.iter().position(|port| port.name == name);
        let Some(tensor) = at.and_then(|at| self.tensors.get(at)) else {
            let model = &self.model;
            bail!("{}: no output {name:?}; the outputs are {}", model.name, list(&model.outputs));
        };
        Ok(tensor)
    }

    /// Every output with its name, in the model's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.model.outputs.iter().map(Port::name).zip(&self.tensors)
    }
}

impl Port {
    /// The name that the model gives it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The size of each dimension, or nothing if one of them is open.
    #[must_use]
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.sizes().collect()
    }

    /// The size of each dimension, outermost first; nothing for an open one.
    pub fn sizes(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        self.dims.iter().map(Dim::size)
    }

    pub(super) fn datum(&self) -> DatumType {
        self.datum
    }

    pub(super) fn outputs(model: &TypedModel, names: &[String]) -> Result<Vec<Self>> {
        ensure!(
            names.len() == model.outputs.len(),
            "optimising changed the number of outputs from {} to {}",
            names.len(),
            model.outputs.len()
        );
        let facts = model.outputs.iter().map(|outlet| model.outlet_fact(*outlet));
        let ports = names.iter().zip(facts).map(|(name, fact)| {
            let fact = fact?;
            let dims = fact.shape.iter().map(|dim| match dim.to_usize() {
                Ok(size) => Dim::Fixed(size),
                Err(_) => Dim::Open(dim.to_string()),
            });
            Ok(Self::new(name.clone(), fact.datum_type, dims.collect()))
        });
        ports.collect()
    }

    pub(super) fn new(name: String, datum: DatumType, dims: Vec<Dim>) -> Self {
        Self { name, datum, dims }
    }

    fn check(&self, tensor: &Tensor) -> Result<()> {
        let (expected, given) = (&self.dims, tensor.shape());
        // An open dimension takes any size; whether two of one name are equal is seen when a plan is looked for.
        let fits = expected.len() == given.len()
            && expected
                .iter()
                .zip(given)
                .all(|(dim, &size)| dim.size().is_none_or(|fixed| fixed == size));
        ensure!(
            fits && self.datum == tensor.datum(),
            "input {:?}: expected {}, got {}",
            self.name,
            describe(self.datum, expected),
            describe(tensor.datum(), given)
        );
        Ok(())
    }
}

/// `"name" f32 [1, 3, 224, 224]`
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.name, describe(self.datum, &self.dims))
    }
}

fn describe(datum: DatumType, shape: &[impl fmt::Display]) -> String {
    let sizes: Vec<_> = shape.iter().map(ToString::to_string).collect();
    format!("{} [{}]", type_name(datum), sizes.join(", "))
}

fn list(ports: &[Port]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
