//! A model whose inputs' shapes can still be chosen: what a plan is made of for each.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::Onnx;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{DimLike as _, Symbol, SymbolValues, TDim};
use tract_onnx::tract_hir::infer::Factoid as _;

use super::blame::stage;
use super::model::{Dim, Port};
use super::windows;

const TYPING: &str = "working out types and shapes";

/// A parsed file.
#[derive(Debug, Clone)]
pub(super) struct Source {
    model: InferenceModel,
    inputs: Vec<Input>,
}

/// What the file says of an input.
#[derive(Debug, Clone)]
struct Input {
    name: String,
    datum: DatumType,
    dims: Vec<TDim>,
}

/// A size for each open dimension, by name.
pub(super) type Sizes = BTreeMap<String, usize>;

impl Source {
    /// Takes the file's content by value, so that it is gone before anything is made of it.
    pub(super) fn read(onnx: &Onnx, proto: ModelProto) -> Result<Self> {
        let mut model = stage("reading the graph", || onnx.model_for_proto_model(&proto))?;
        drop(proto);
        let inputs = (0..model.inputs.len()).map(|at| declare(&mut model, at));
        let inputs = inputs.collect::<Result<_>>()?;
        Ok(Self { model, inputs })
    }

    /// Names of the open dimensions, each once, in the order of the inputs.
    pub(super) fn open(&self) -> Vec<String> {
        let mut names = Vec::new();
        for symbol in self.inputs.iter().flat_map(|input| &input.dims).flat_map(TDim::symbols) {
            let name = symbol.to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Whether a dimension is the outermost one wherever it stands, which batches are.
    pub(super) fn is_batch(&self, name: &str) -> bool {
        let with = |dim: &TDim| dim.symbols().iter().any(|symbol| symbol.to_string() == name);
        self.inputs.iter().all(|input| !input.dims.iter().skip(1).any(with))
    }

    /// The largest number of dimensions of an input that has this one.
    pub(super) fn rank(&self, name: &str) -> usize {
        let with = |dim: &TDim| dim.symbols().iter().any(|symbol| symbol.to_string() == name);
        let having = self.inputs.iter().filter(|input| input.dims.iter().any(with));
        having.map(|input| input.dims.len()).max().unwrap_or(0)
    }

    pub(super) fn ports(&self) -> Vec<Port> {
        let ports = self.inputs.iter().map(|input| {
            let dims = input.dims.iter().map(|dim| match dim.to_usize() {
                Ok(size) => Dim::Fixed(size),
                Err(_) => Dim::Open(dim.to_string()),
            });
            Port::new(input.name.clone(), input.datum, dims.collect())
        });
        ports.collect()
    }

    /// The inputs' shapes for these sizes.
    pub(super) fn shapes(&self, sizes: &Sizes) -> Result<Vec<Vec<usize>>> {
        let values = self.values(sizes);
        let shapes = self.inputs.iter().map(|input| {
            let dims = input.dims.iter().map(|dim| {
                let size = dim.eval(&values).to_usize();
                size.with_context(|| format!("input {:?}: no size of {dim} is known", input.name))
            });
            dims.collect()
        });
        shapes.collect()
    }

    fn values(&self, sizes: &Sizes) -> SymbolValues {
        let mut values = SymbolValues::default();
        for (name, &size) in sizes {
            let symbol = self.model.symbols.sym(name);
            values = values.with(&symbol, i64::try_from(size).unwrap_or(i64::MAX));
        }
        values
    }

    /// The sizes that inputs of these shapes have.
    ///
    /// # Errors
    /// When two dimensions that are one in the model have different sizes: a client's mistake.
    pub(super) fn sizes(&self, shapes: &[&[usize]]) -> Result<Sizes> {
        let mut sizes = Sizes::new();
        for (input, shape) in self.inputs.iter().zip(shapes) {
            for (dim, &size) in input.dims.iter().zip(*shape) {
                let TDim::Sym(symbol) = dim else { continue };
                let known = *sizes.entry(symbol.to_string()).or_insert(size);
                ensure!(
                    known == size,
                    "input {:?}: the dimension {symbol} has size {size} here and {known} elsewhere",
                    input.name
                );
            }
        }
        let all = self.shapes(&sizes)?;
        for ((input, shape), needed) in self.inputs.iter().zip(shapes).zip(all) {
            ensure!(needed == *shape, "input {:?}: expected {needed:?}, got {shape:?}", input.name);
        }
        Ok(sizes)
    }

    /// The model for these sizes alone.
    pub(super) fn with(&self, sizes: &Sizes) -> Result<TypedModel> {
        let mut model = self.model.clone();
        let symbols = sizes
            .iter()
            .map(|(name, &size)| Ok((model.symbols.sym(name), TDim::Val(i64::try_from(size)?))));
        let symbols = symbols.collect::<Result<std::collections::HashMap<Symbol, TDim>>>()?;
        model.set_symbols(&symbols)?;
        let typed = stage(TYPING, || model.into_typed())?;
        windows::check(&typed)?;
        Ok(typed)
    }

    /// Whether all of these are 1 at least where the open dimensions have these sizes. One that depends on more than
    /// them is not known before the model has run.
    pub(super) fn are_some(&self, all: &[TDim], sizes: &Sizes) -> bool {
        let values = self.values(sizes);
        all.iter().all(|size| size.eval(&values).to_i64().map_or(true, |size| size >= 1))
    }

    /// The model for any size.
    pub(super) fn open_model(self) -> Result<TypedModel> {
        stage(TYPING, || self.model.into_typed())
    }
}

/// Reads an input's declaration, and gives a name to each of its dimensions that has none and is not fixed.
fn declare(model: &mut InferenceModel, at: usize) -> Result<Input> {
    let outlet = model.inputs[at];
    let name = model.node(outlet.node).name.clone();
    let fact = model.outlet_fact(outlet)?.clone();
    let datum =
        fact.datum_type.concretize().with_context(|| format!("input {name:?} has no type"))?;
    let Some(rank) = fact.shape.rank().concretize() else {
        bail!(
            "the file does not say how many dimensions the input {name:?} has: give it a shape, as in --input {name}=1x3"
        );
    };
    let dims = (0..usize::try_from(rank)?).map(|axis| {
        let known = fact.shape.dim(axis).and_then(|dim| dim.concretize());
        known.unwrap_or_else(|| model.symbols.sym(&unnamed(&name, axis)).into())
    });
    let dims: Vec<TDim> = dims.collect();
    model.set_outlet_fact(outlet, InferenceFact::dt_shape(datum, dims.as_slice()))?;
    Ok(Input { name, datum, dims })
}

/// What a dimension is called that the file gives no name.
fn unnamed(input: &str, axis: usize) -> String {
    // Names of dimensions are read as sums and products elsewhere, and those of inputs may hold anything.
    let plain: String =
        input.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{plain}_{axis}")
}
