//! `If`: the branch that is taken in the model's place where the condition is known once the shapes are, as in what
//! exporters write around a squeeze or a state; both as models of their own where only a request decides.
//!
//! tract's own analyses the branch that is not taken as well, and refuses the model for what can never run in it; and it
//! plans a branch anew in each run.

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::internal::*;

/// Teaches tract this `If`, in place of its own.
pub(super) fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("If", parse);
}

/// The taken branch's index for a condition.
fn taken(condition: &Tensor) -> TractResult<usize> {
    Ok(usize::from(!condition.cast_to_scalar::<bool>()?))
}

fn parse(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let name = node.output.first().cloned().unwrap_or_default();
    let graph = |branch: &str| -> TractResult<&GraphProto> {
        let found = node.attribute.iter().find(|attribute| attribute.name == branch);
        let graph = found.and_then(|AttributeProto { g, .. }| g.as_ref());
        graph.with_context(|| format!("the If that makes {name:?} has no {branch}"))
    };
    let parsed =
        [context.parse_graph(graph("then_branch")?)?, context.parse_graph(graph("else_branch")?)?];
    // What a branch reads of the graphs around it becomes an input of the node, behind the condition.
    let mut outer: Vec<String> =
        parsed.iter().flat_map(|branch| branch.unresolved_inputs.iter().cloned()).collect();
    outer.sort();
    outer.dedup();
    let at = |name: &String| outer.binary_search(name).map_or(0, |at| at + 1);
    let inputs = parsed.each_ref().map(|branch| branch.unresolved_inputs.iter().map(at).collect());
    let bodies = parsed.map(|branch| branch.model);
    if bodies[0].outputs.len() != bodies[1].outputs.len() {
        bail!("the branches of the If that makes {name:?} do not have equally many outputs");
    }
    Ok((Box::new(If { name, bodies, inputs }), outer))
}

/// The node before types and shapes are known. Of each pair the first is for a condition that holds.
#[derive(Debug, Clone)]
struct If {
    name: String,
    bodies: [InferenceModel; 2],
    /// Which of the node's inputs each branch reads.
    inputs: [Vec<usize>; 2],
}

impl PartialEq for If {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for If {}

impl Op for If {
    fn name(&self) -> StaticName {
        "If".into()
    }

    not_a_typed_op!();
}

impl EvalOp for If {
    not_out_of_plan!();
}

impl If {
    /// Tells a branch what is known of its inputs, and the inputs what it knows. Whether anything was new.
    fn exchange(&mut self, branch: usize, inputs: &mut [InferenceFact]) -> TractResult<bool> {
        let mut changed = false;
        for (at, &outer) in self.inputs[branch].iter().enumerate() {
            let fact = self.bodies[branch].input_fact_mut(at)?;
            changed |= fact.unify_with_mut(&mut inputs[outer])?;
        }
        Ok(changed | self.bodies[branch].analyse(false)?)
    }

    /// What is known of an output whichever branch is taken.
    fn either(&self, at: usize) -> TractResult<InferenceFact> {
        let [a, b] = [self.bodies[0].output_fact(at)?, self.bodies[1].output_fact(at)?];
        let datum = a.datum_type.unify(&b.datum_type).with_context(|| {
            format!("the branches of the If that makes {:?} give numbers of two types", self.name)
        })?;
        let fact = InferenceFact { datum_type: datum, ..InferenceFact::default() };
        match (a.shape.concretize(), b.shape.concretize()) {
            (Some(a), Some(b)) if a == b => Ok(fact.with_shape(a)),
            _ => Ok(fact),
        }
    }
}

/// A shape that both can be: a size in which they differ is open.
fn common(
    name: &str,
    at: usize,
    open: &SymbolScope,
    a: &[TDim],
    b: &[TDim],
) -> TractResult<TVec<TDim>> {
    ensure!(
        a.len() == b.len(),
        "the branches of the If that makes {name:?} give {} and {} dimensions, and only a request decides which is \
         taken: nothing can be made ready for what comes after it; export the model without it, or fix the shapes that \
         decide",
        a.len(),
        b.len()
    );
    let sizes = a.iter().zip(b).enumerate().map(|(axis, (a, b))| match a == b {
        true => a.clone(),
        false => open.sym(&format!("{name}.{at}.{axis}")).into(),
    });
    Ok(sizes.collect())
}

impl InferenceOp for If {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        let mut inputs: TVec<InferenceFact> = inputs.into_iter().cloned().collect();
        let mut outputs: TVec<InferenceFact> = outputs.into_iter().cloned().collect();
        let observed = observed.into_iter().cloned().collect();
        inputs[0].datum_type.unify_with(&bool::datum_type().into())?;
        let known = inputs[0].value.concretize().map(|condition| taken(&condition)).transpose()?;
        if let Some(branch) = known {
            let mut changed = true;
            while changed {
                changed = self.exchange(branch, &mut inputs)?;
                for (at, output) in outputs.iter_mut().enumerate() {
                    changed |= self.bodies[branch].output_fact_mut(at)?.unify_with_mut(output)?;
                }
            }
            return Ok((inputs, outputs, observed));
        }
        // A condition that is made of shapes is known later than types are: nothing is demanded of the branches yet, and
        // what one of them cannot take is no reason to refuse the other.
        let mut trial = self.clone();
        if trial.exchange(0, &mut inputs.clone()).is_ok()
            && trial.exchange(1, &mut inputs.clone()).is_ok()
        {
            for (at, output) in outputs.iter_mut().enumerate() {
                if let Ok(fact) = trial.either(at) {
                    output.unify_with(&fact)?;
                }
            }
        }
        Ok((inputs, outputs, observed))
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.bodies[0].outputs.len())
    }

    fn to_typed(
        &self,
        _source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let inputs: TVec<_> = node.inputs.iter().map(|outlet| mapping[outlet]).collect();
        if let Some(condition) = target.outlet_fact(inputs[0])?.konst.clone() {
            let branch = taken(&condition)?;
            let inputs: TVec<_> = self.inputs[branch].iter().map(|&at| inputs[at]).collect();
            let body = self.typed(branch, target, &inputs)?;
            return inline(target, &node.name, &body, &inputs);
        }
        let bodies = [0, 1].map(|branch| {
            let inputs: TVec<_> = self.inputs[branch].iter().map(|&at| inputs[at]).collect();
            self.typed(branch, target, &inputs)
        });
        // A detector of voices has a branch for each rate of sampling, and takes pieces of one length only.
        let bodies = match bodies {
            [Err(a), Err(b)] => {
                let why =
                    format!("neither branch of the If that makes {:?} does: {b:#}", self.name);
                return Err(a.context(why));
            }
            bodies => bodies.map(|body| {
                let body = body.map(Arc::new);
                body.map_err(|why| format!("it cannot be made for these shapes: {why:#}").into())
            }),
        };
        let branch = Branch {
            name: self.name.clone(),
            bodies,
            plans: None,
            inputs: self.inputs.clone(),
            open: target.symbols.clone(),
        };
        target.wire_node(&node.name, branch, &inputs)
    }

    as_op!();
}

impl If {
    /// A branch for what is known of its inputs by now.
    fn typed(
        &self,
        branch: usize,
        target: &TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TypedModel> {
        let mut body = self.bodies[branch].clone();
        for (at, &outlet) in inputs.iter().enumerate() {
            let known = target.outlet_fact(outlet)?;
            let mut fact = InferenceFact::shape(&*known.shape);
            // A size is a whole number to the file, and of another type to tract.
            match known.datum_type == TDim::datum_type() {
                true => {
                    let whole = known.konst.as_ref().map(|sizes| sizes.cast_to::<i64>());
                    if let Some(Ok(whole)) = whole {
                        fact = InferenceFact::from(&TypedFact::try_from(whole.into_owned())?);
                    }
                }
                false => fact = InferenceFact::from(known),
            }
            body.input_fact_mut(at)?.unify_with(&fact)?;
        }
        body.into_typed().with_context(|| {
            let which = ["then", "else"][branch];
            format!("the {which}-branch of the If that makes {:?}", self.name)
        })
    }
}

/// Puts a model's nodes into another; gives where its outputs are now.
fn inline(
    target: &mut TypedModel,
    prefix: &str,
    body: &TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    let sources = body.inputs.iter().copied().zip(inputs.iter().copied());
    let mut mapping: HashMap<OutletId, OutletId> = sources.collect();
    for id in body.eval_order()? {
        let node = body.node(id);
        if TypedModel::is_source(&node.op) {
            continue;
        }
        let taps: TVec<_> = node.inputs.iter().map(|outlet| mapping[outlet]).collect();
        let name = format!("{prefix}/{}", node.name);
        let outlets = target.wire_node(name, node.op.clone(), &taps)?;
        for (slot, outlet) in outlets.into_iter().enumerate() {
            mapping.insert(OutletId::new(id, slot), outlet);
        }
    }
    Ok(body.outputs.iter().map(|outlet| mapping[outlet]).collect())
}

/// The node where only a request decides.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    name: String,
    /// Or why there is none; of one of them at most.
    bodies: [Result<Arc<TypedModel>, Arc<str>>; 2],
    /// The branches ready to run, once they are.
    plans: Option<[Result<Arc<TypedRunnableModel>, Arc<str>>; 2]>,
    inputs: [Vec<usize>; 2],
    /// For sizes that depend on the branch.
    open: SymbolScope,
}

impl PartialEq for Branch {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Branch {}

/// Makes the branches ready as `optimise` makes a model so; the last thing that is done to a model.
pub(super) fn plan(
    model: &mut TypedModel,
    optimise: &dyn Fn(TypedModel) -> TractResult<TypedModel>,
) -> TractResult<()> {
    for node in &mut model.nodes {
        let Some(branch) = node.op.downcast_mut::<Branch>() else { continue };
        let plan = |body: &Result<Arc<TypedModel>, Arc<str>>| match body {
            Ok(body) => {
                let mut body = optimise((**body).clone())?;
                plan(&mut body, optimise)?;
                TractResult::Ok(Ok(body.into_runnable()?))
            }
            Err(why) => Ok(Err(why.clone())),
        };
        let [a, b] = &branch.bodies;
        branch.plans = Some([plan(a)?, plan(b)?]);
    }
    Ok(())
}

impl Op for Branch {
    fn name(&self) -> StaticName {
        "MayflyBranch".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Branch {
    not_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let branch = taken(&inputs[0])?;
        let values = self.inputs[branch].iter().map(|&at| inputs[at].clone()).collect();
        match &self.plans {
            Some(plans) => self.made(branch, &plans[branch])?.run(values),
            None => {
                let body = self.made(branch, &self.bodies[branch])?;
                (**body).clone().into_runnable()?.run(values)
            }
        }
    }
}

impl Branch {
    /// A branch, if it could be made.
    fn made<'a, T>(&self, branch: usize, body: &'a Result<T, Arc<str>>) -> TractResult<&'a T> {
        let which = ["then", "else"][branch];
        body.as_ref().map_err(|why| {
            anyhow::anyhow!(
                "the {which}-branch of the If that makes {:?} is taken, and {why}",
                self.name
            )
        })
    }

    /// What an output of each branch is that there is.
    fn facts(&self, at: usize) -> TractResult<TVec<&TypedFact>> {
        self.bodies.iter().flatten().map(|body| body.output_fact(at)).collect()
    }
}

impl TypedOp for Branch {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs[0].datum_type == bool::datum_type(), "the condition of an If is a bool");
        let outputs = self.bodies.iter().flatten().map(|body| body.outputs.len()).max();
        let facts = (0..outputs.unwrap_or(0)).map(|at| match self.facts(at)?[..] {
            [a, b] => {
                ensure!(
                    a.datum_type == b.datum_type,
                    "the branches of the If that makes {:?} give {:?} and {:?}",
                    self.name,
                    a.datum_type,
                    b.datum_type
                );
                let shape = common(&self.name, at, &self.open, &a.shape, &b.shape)?;
                Ok(a.datum_type.fact(&*shape))
            }
            ref facts => {
                let fact = facts.first().context("an If without a branch")?;
                // Nothing is computed that is known to be empty, and so nobody would say that it is not.
                ensure!(
                    !fact.shape.iter().any(|size| *size == 0.to_dim()),
                    "one branch of the If that makes {:?} gives nothing, and the other {}",
                    self.name,
                    self.bodies
                        .iter()
                        .find_map(|body| body.as_ref().err())
                        .map_or("", |why| &**why)
                );
                Ok(fact.datum_type.fact(&*fact.shape))
            }
        });
        facts.collect()
    }

    /// A condition that only became known by simplifying.
    fn declutter(
        &self,
        model: &TypedModel,
        node: &TypedNode,
    ) -> TractResult<Option<TypedModelPatch>> {
        let Some(condition) = &model.outlet_fact(node.inputs[0])?.konst else { return Ok(None) };
        let branch = taken(condition)?;
        let mut patch = TypedModelPatch::default();
        let taps = self.inputs[branch].iter().map(|&at| patch.tap_model(model, node.inputs[at]));
        let taps = taps.collect::<TractResult<TVec<_>>>()?;
        let body = self.made(branch, &self.bodies[branch])?;
        let outlets = inline(&mut patch, &node.name, body, &taps)?;
        for (slot, outlet) in outlets.into_iter().enumerate() {
            patch.shunt_outside(model, OutletId::new(node.id, slot), outlet)?;
        }
        Ok(Some(patch))
    }

    as_op!();
}
