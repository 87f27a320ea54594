//! The operators of `ai.onnx.ml`, which tract lacks or computes otherwise than ONNX Runtime: trees, linear models,
//! support vectors, and what comes before and after them.
//!
//! Each is one [`Kernel`] that takes whole tensors. Where the standard is vague (labels of two classes, scores of one)
//! ONNX Runtime's answer is the one that people have tested their models with, so it is ours; where it has none, or
//! none that is always the same, the model is refused.

use std::borrow::Cow;
use std::fmt::Debug;

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::*;

pub(super) mod attributes;
mod encoders;
mod features;
mod forest;
mod linear;
mod scores;
mod svm;
mod trees;

use attributes::Attributes;

/// What a node computes, apart from how tract asks for it.
pub(super) trait Kernel: Debug + Send + Sync {
    /// Types and shapes of the outputs. Refuses inputs that the operator does not take.
    fn outputs(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>>;

    /// Whether only a run tells the size of an output: [`Attributes::unknown`] stands for it until then.
    fn is_sized_by_run(&self) -> bool {
        false
    }

    /// The outputs, of inputs that [`outputs`](Self::outputs) let pass.
    fn run(&self, inputs: &[&Tensor]) -> TractResult<Vec<Tensor>>;
}

/// Type and shape of a tensor.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub(super) datum: DatumType,
    pub(super) shape: TVec<TDim>,
}

impl Kind {
    pub(super) fn new(datum: DatumType, shape: impl Into<TVec<TDim>>) -> Self {
        Self { datum, shape: shape.into() }
    }

    /// Rows and columns of an input of numbers; one row if there is one axis.
    fn table(&self) -> TractResult<(TDim, TDim)> {
        self.among(&NUMBERS)?;
        table(&self.shape, 1.to_dim())
    }

    /// Refuses every other type.
    pub(super) fn among(&self, types: &[DatumType]) -> TractResult<()> {
        let listed = || types.iter().map(|t| format!("{t:?}")).collect::<Vec<_>>().join(", ");
        ensure!(
            types.contains(&self.datum),
            "its input holds {:?}, and it takes {}; put a Cast before it",
            self.datum,
            listed()
        );
        Ok(())
    }
}

/// What the standard calls numeric here.
const NUMBERS: [DatumType; 4] = [DatumType::F32, DatumType::F64, DatumType::I64, DatumType::I32];

/// What only the numbers of a request decide: a warm-up on zeros may meet it where a request never does.
#[derive(Debug)]
pub(super) struct OfNumbers(pub(super) &'static str);

impl std::fmt::Display for OfNumbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for OfNumbers {}

/// Whether a run failed for the numbers that it was given, and may succeed on others.
pub(super) fn of_numbers(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<OfNumbers>())
}

/// Rows and columns of a shape, where `one` is the number of rows of a single one.
fn table<D: Clone + Debug>(shape: &[D], one: D) -> TractResult<(D, D)> {
    match shape {
        [columns] => Ok((one, columns.clone())),
        [rows, columns] => Ok((rows.clone(), columns.clone())),
        _ => bail!("it takes rows of features, [N, features], and its input is {shape:?}"),
    }
}

/// Refuses a width that is known and is another than `needed`.
fn ensure_columns(columns: &TDim, needed: usize) -> TractResult<()> {
    let given = columns.to_usize().unwrap_or(needed);
    ensure!(given == needed, "it is made for {needed} features, and its input has {given}");
    Ok(())
}

/// The numbers of `input` as f32, row by row.
fn floats(input: &Tensor) -> TractResult<Cow<'_, Tensor>> {
    input.cast_to::<f32>()
}

pub(super) fn slice<T: Datum>(tensor: &Tensor) -> TractResult<&[T]> {
    tensor.try_as_plain_ram()?.as_slice::<T>()
}

pub(super) type Parse = fn(&Attributes<'_>) -> TractResult<Box<dyn Kernel>>;

const OPERATORS: [(&str, Parse); 17] = [
    ("ArrayFeatureExtractor", features::extractor),
    ("Binarizer", features::binarizer),
    ("CategoryMapper", encoders::category_mapper),
    ("FeatureVectorizer", features::vectorizer),
    ("Imputer", features::imputer),
    ("LabelEncoder", encoders::label_encoder),
    ("LinearClassifier", linear::classifier),
    ("LinearRegressor", linear::regressor),
    ("Normalizer", features::normalizer),
    ("OneHotEncoder", encoders::one_hot),
    ("SVMClassifier", svm::classifier),
    ("SVMRegressor", svm::regressor),
    ("Scaler", features::scaler),
    ("TreeEnsemble", trees::ensemble),
    ("TreeEnsembleClassifier", trees::classifier),
    ("TreeEnsembleRegressor", trees::regressor),
    ("ZipMap", encoders::zip_map),
];

/// Teaches tract these operators, its own versions of some among them.
pub(super) fn register(onnx: &mut Onnx) {
    for (name, _) in OPERATORS {
        onnx.op_register.insert(name, build);
    }
}

fn build(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    make(context, node, &OPERATORS)
}

/// A node by the entry of its operator in a table.
pub(super) fn make(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    operators: &[(&'static str, Parse)],
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let known = operators.iter().find(|(name, _)| *name == node.op_type);
    let (name, parse) = known.with_context(|| format!("no operator {}", node.op_type))?;
    let attributes = Attributes::new(context, node);
    let kernel = parse(&attributes).with_context(|| attributes.node())?;
    let outputs = node.output.iter().enumerate().filter(|(_, output)| !output.is_empty());
    let wanted = outputs.map(|(i, _)| i).collect();
    let operator = Operator { name, node: attributes.node(), kernel: kernel.into(), wanted };
    Ok((expand(operator), Vec::new()))
}

/// A [`Kernel`] as a node of tract's.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    name: &'static str,
    /// How errors call the node.
    node: String,
    kernel: Arc<dyn Kernel>,
    /// Outputs that have a name in the file.
    wanted: Vec<usize>,
}

impl PartialEq for Operator {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kernel, &other.kernel) && self.wanted == other.wanted
    }
}

impl Eq for Operator {}

impl Operator {
    /// Of one output.
    pub(super) fn new(name: &'static str, node: String, kernel: Arc<dyn Kernel>) -> Self {
        Self { name, node, kernel, wanted: vec![0] }
    }

    fn kinds(&self, inputs: &[Kind]) -> TractResult<Vec<Kind>> {
        // Whole numbers that may be sizes are another type to tract.
        let whole = |kind: &Kind| match kind.datum {
            DatumType::TDim => Kind::new(DatumType::I64, kind.shape.clone()),
            _ => kind.clone(),
        };
        let inputs: Vec<_> = inputs.iter().map(whole).collect();
        let kinds = self.kernel.outputs(&inputs).with_context(|| self.node.clone())?;
        self.wanted.iter().map(|&i| self.pick(&kinds, i).cloned()).collect()
    }

    fn pick<'a, T>(&self, outputs: &'a [T], i: usize) -> TractResult<&'a T> {
        let missing = || format!("{}: it has {} outputs, not {}", self.node, outputs.len(), i + 1);
        outputs.get(i).with_context(missing)
    }
}

impl Expansion for Operator {
    fn name(&self) -> StaticName {
        self.name.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.wanted.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, self.wanted.len())?;
        let types = inputs.iter().map(|input| &input.datum_type);
        s.given_all(types, move |s, types| {
            let shapes = inputs.iter().map(|input| &input.shape);
            s.given_all(shapes, move |s, shapes| {
                let kinds = types.iter().zip(shapes).map(|(&datum, shape)| Kind { datum, shape });
                let kinds = self.kinds(&kinds.collect::<Vec<_>>())?;
                for (output, kind) in outputs.iter().zip(kinds) {
                    s.equals(&output.datum_type, kind.datum)?;
                    s.equals(&output.shape, kind.shape)?;
                }
                Ok(())
            })
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for Operator {
    fn name(&self) -> StaticName {
        format!("Mayfly{}", self.name).into()
    }

    fn mints_runtime_symbols(&self) -> bool {
        self.kernel.is_sized_by_run()
    }

    op_as_typed_op!();
}

impl EvalOp for Operator {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let kinds = inputs.iter().map(|input| {
            let shape = input.shape().iter().map(ToDim::to_dim);
            Kind::new(input.datum_type(), shape.collect::<TVec<_>>())
        });
        // Once more, for sizes that were open when the model was loaded.
        self.kinds(&kinds.collect::<Vec<_>>())?;
        let tensors = inputs.iter().map(|input| match input.datum_type() {
            DatumType::TDim => input.cast_to::<i64>(),
            _ => Ok(Cow::Borrowed(&**input)),
        });
        let tensors = tensors.collect::<TractResult<Vec<_>>>()?;
        let tensors: Vec<&Tensor> = tensors.iter().map(|tensor| &**tensor).collect();
        let outputs = self.kernel.run(&tensors).with_context(|| self.node.clone())?;
        let wanted = self.wanted.iter().map(|&i| self.pick(&outputs, i).cloned());
        wanted.map(|tensor| Ok(tensor?.into_tvalue())).collect()
    }
}

impl TypedOp for Operator {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let kinds = inputs.iter().map(|fact| Kind::new(fact.datum_type, fact.shape.to_tvec()));
        let kinds = self.kinds(&kinds.collect::<Vec<_>>())?;
        Ok(kinds.into_iter().map(|kind| kind.datum.fact(&*kind.shape)).collect())
    }

    as_op!();
}
