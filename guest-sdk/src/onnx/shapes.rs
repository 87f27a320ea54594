//! Which plans a model has: one if its shapes are fixed, one for each of a list, and for open dimensions one for any size,
//! if that holds, or one that is made when a size is met.

mod choice;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::TDim;

use super::blame::stage;
use choice::{Choice, TRIES};

use super::check::{self, Grain};
use super::load::{ALL_SIZES, CHECK, Options, Read, WARM_UP};
use super::model::{Dim, Model, Port};
use super::plan::{Plan, optimise};
use super::slow;
use super::source::{Sizes, Source};
use super::tensor::Tensor;
use super::{blame, ml, windows};

/// Plans made ready at most: each takes its share of init's time and of the image.
const READY: usize = 16;

/// A plan for these shapes of the inputs.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) shapes: Vec<Vec<usize>>,
    pub(super) plan: Plan,
}

/// What answers shapes that no plan was made ready for.
#[derive(Debug, Clone)]
pub(super) struct Open {
    source: Source,
    plan: Option<Plan>,
    /// Sizes of its tensors, none of which may be 0 for that plan.
    within: Vec<TDim>,
    /// Names of dimensions that may only have the sizes of their list.
    listed: BTreeMap<String, Vec<usize>>,
}

impl Open {
    pub(super) fn run(&self, inputs: TVec<TValue>) -> Result<TVec<TValue>> {
        let shapes: Vec<_> = inputs.iter().map(|input| input.shape()).collect();
        let sizes = self.source.sizes(&shapes)?;
        for (name, listed) in &self.listed {
            let size = sizes.get(name).copied().unwrap_or_default();
            ensure!(
                listed.contains(&size),
                "the dimension {name:?} has size {size}, and the model was deployed for {listed:?}"
            );
        }
        match &self.plan {
            Some(plan) if self.source.are_some(&self.within, &sizes) => plan.run(inputs),
            _ => self.plan_for(&sizes)?.run(inputs),
        }
    }

    /// `seq=5,9`: what the metadata say of dimensions that may not have any size.
    pub(super) fn listed(&self) -> Option<String> {
        let sizes = |sizes: &Vec<usize>| {
            sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        let listed = self.listed.iter().map(|(name, all)| format!("{name}={}", sizes(all)));
        let listed: Vec<_> = listed.collect();
        (!listed.is_empty()).then(|| listed.join("; "))
    }

    /// What shapes get that no plan is ready for, in the metadata.
    pub(super) fn others(&self) -> &'static str {
        match self.plan {
            Some(_) => "one plan for all",
            None => "a plan when they are met",
        }
    }

    /// Takes as long as the model's deploy did, but for its file.
    fn plan_for(&self, sizes: &Sizes) -> Result<Plan> {
        let typed = self.source.with(sizes).with_context(|| format!("for {}", said(sizes)))?;
        optimise(typed)?.into_runnable()
    }
}

fn said(sizes: &Sizes) -> String {
    sizes.iter().map(|(name, size)| format!("{name}={size}")).collect::<Vec<_>>().join(", ")
}

/// A plan in the making.
struct Made {
    sizes: Sizes,
    shapes: Vec<Vec<usize>>,
    model: TypedModel,
    /// Whether it could be compared with the plain one in good time.
    affordable: bool,
}

/// A model for any size, and the sizes of its tensors, none of which may be 0.
struct AllSizes {
    model: TypedModel,
    within: Vec<TDim>,
}

pub(super) fn prepare(name: &str, options: &Options, read: Read) -> Result<Model> {
    let Read { source, outputs, makers, grain } = read;
    let chosen = Choice::of(options, &source)?;
    let maker = Maker { options, outputs: &outputs, makers: &makers, grain };
    let inputs = source.ports();
    let mut made = Vec::new();
    for sizes in &chosen.ready {
        made.push(maker.make(&source, sizes).map_err(|error| match sizes.is_empty() {
            true => error,
            false => error.context(format!("for {}", said(sizes))),
        })?);
    }
    let (ports, open) = match chosen.open {
        false => {
            // Weights move down to where its were.
            drop(source);
            (maker.ports(&made)?, None)
        }
        true => {
            let (ports, model) = maker.open(&source, &chosen, &mut made)?;
            maker.met(&source, &chosen, &mut made);
            (ports, Some((source, model)))
        }
    };
    let mut notes = made.first().map(|made| slow::notes(&made.model)).unwrap_or_default();
    if options.check && made.iter().any(|made| !made.affordable) {
        notes.push(
            "it was not compared with its plain self, which would have taken too long".into(),
        );
    }
    let (source, open_model) = open.map_or((None, None), |(source, model)| (Some(source), model));
    let (open_model, within) = open_model.map(|all| (all.model, all.within)).unzip();
    let (shapes, mut models): (Vec<_>, Vec<_>) =
        made.into_iter().map(|made| (made.shapes, made.model)).unzip();
    let has_open_model = open_model.is_some();
    models.extend(open_model);
    crate::kernels::relocate(&mut models);
    let mut plans = models.into_iter().map(|model| model.into_runnable().context("planning"));
    let mut ready = Vec::new();
    for shapes in shapes {
        ready.push(Ready { shapes, plan: plans.next().context("a plan for each")?? });
    }
    let plan = if has_open_model { plans.next().transpose()? } else { None };
    let open = source.map(|source| Open {
        source,
        plan,
        within: within.unwrap_or_default(),
        listed: chosen.listed,
    });
    let model = Model::new(name.into(), ready, open, inputs, ports, notes);
    if options.warm_up && options.tries(WARM_UP) {
        let run = || stage("the warm-up run, on zeros", || warm_up(&model));
        blame::trial(WARM_UP, run)?;
    }
    Ok(model)
}

/// Runs each plan that is ready on zeros.
fn warm_up(model: &Model) -> Result<()> {
    for shapes in model.ready_shapes() {
        let inputs =
            model.inputs().iter().zip(shapes).map(|(port, shape)| {
                Ok((port.name().to_owned(), Tensor::zeros(port.datum(), shape)?))
            });
        match model.run(inputs.collect::<Result<Vec<_>>>()?) {
            // Zeros are of no category, for instance, and a request's numbers are.
            Err(error) if ml::of_numbers(&error) => {}
            run => drop(run?),
        }
    }
    crate::kernels::release_scratch();
    Ok(())
}

struct Maker<'a> {
    options: &'a Options,
    outputs: &'a [String],
    makers: &'a [String],
    grain: Grain,
}

impl Maker<'_> {
    /// A fast model for these sizes, which gives what the plain one does.
    fn make(&self, source: &Source, sizes: &Sizes) -> Result<Made> {
        let typed = source.with(sizes)?;
        self.no_size_of_numbers(&typed)?;
        let shapes = source.shapes(sizes)?;
        let affordable = check::is_affordable(&typed);
        let checks = self.options.check && affordable && self.options.tries(CHECK);
        let expected = match checks {
            true => blame::trial(CHECK, || check::expect(&typed, self.grain))?,
            false => None,
        };
        let model = optimise(typed)?;
        if let Some(expected) = expected {
            let plan = model.clone().into_runnable().context("planning")?;
            let typed = || source.with(sizes);
            let confirm = || check::confirm(&plan, &expected, self.outputs, self.grain, typed);
            blame::trial(CHECK, confirm)?;
        }
        Ok(Made { sizes: sizes.clone(), shapes, model, affordable })
    }

    /// Refuses outputs that are sizes of what only the numbers of a request decide: tract keeps a formula for those, which
    /// stays one.
    fn no_size_of_numbers(&self, typed: &TypedModel) -> Result<()> {
        for (outlet, maker) in typed.outputs.iter().zip(self.makers) {
            let Some(value) = &typed.outlet_fact(*outlet)?.konst else { continue };
            ensure!(
                value.datum_type() != DatumType::TDim || value.cast_to_dt(DatumType::I64).is_ok(),
                "{maker}: it gives a size that depends on the numbers of a request, which is not supported; leave that \
                 output out, and take the size from the tensor itself"
            );
        }
        Ok(())
    }

    /// Outputs of models with fixed shapes: a size in which they differ is open.
    fn ports(&self, made: &[Made]) -> Result<Vec<Port>> {
        let first = made.first().context("no plan was made")?;
        let ports = Port::outputs(&first.model, self.outputs)?;
        let mut rest = made[1..].iter().map(|made| Port::outputs(&made.model, self.outputs));
        rest.try_fold(ports, |ports, other| {
            Ok(ports.into_iter().zip(other?).map(|(port, other)| port.or(&other)).collect())
        })
    }

    /// The model for any size, if tract can keep it open and it gives what the ones for two sizes give; these two are made
    /// for it if need be, and the first stays if nobody asked for another.
    fn open(
        &self,
        source: &Source,
        choice: &Choice,
        made: &mut Vec<Made>,
    ) -> Result<(Vec<Port>, Option<AllSizes>)> {
        let asked = made.len();
        let mut why = None;
        for rung in 0..TRIES {
            let sizes = choice.rung(source, self.options, rung);
            if made.len() >= 2 {
                break;
            }
            if made.iter().any(|made| made.sizes == sizes) {
                continue;
            }
            let label = said(&sizes);
            if !self.options.tries(&label) {
                continue;
            }
            match blame::trial(&label, || self.make(source, &sizes)) {
                Ok(model) => made.push(model),
                // Nobody asked for these sizes, but somebody will for others.
                Err(error) if error.is::<check::Wrong>() => {
                    return Err(error.context(format!("for {label}")));
                }
                Err(error) => why = why.or(Some((sizes, error))),
            }
        }
        if made.is_empty() {
            let Some((sizes, error)) = why else { bail!("no size could be tried") };
            let names = choice.names.join(", ");
            return Err(error.context(format!(
                "open dimensions ({names}): no size that was tried works, {} first; name one that does with --dim \
                 NAME=any,SIZE",
                said(&sizes)
            )));
        }
        let ports = self.ports(made)?;
        let open = match made.len() > 1 && self.options.tries(ALL_SIZES) {
            true => blame::trial(ALL_SIZES, || self.open_model(source, made)),
            false => None,
        };
        made.truncate(asked.max(1));
        // What was listed for some dimensions goes with the size that suits the others.
        let usual = made[0].sizes.clone();
        for listed in &choice.partial {
            let sizes: Sizes = usual.iter().chain(listed).map(|(k, v)| (k.clone(), *v)).collect();
            if !made.iter().any(|made| made.sizes == sizes) {
                let made_too = self.make(source, &sizes);
                made.push(made_too.with_context(|| format!("for {}", said(&sizes)))?);
            }
        }
        Ok((ports, open))
    }

    /// Plans for shapes that requests came with, beside those of the deploy.
    fn met(&self, source: &Source, choice: &Choice, made: &mut Vec<Made>) {
        for met in &self.options.met {
            let Some(sizes) = choice.met(source, met) else { continue };
            if made.len() < READY && !made.iter().any(|made| made.sizes == sizes) {
                // They were met once, and may have been refused.
                made.extend(self.make(source, &sizes));
            }
        }
    }

    /// Nothing if it fails or gives something else.
    fn open_model(&self, source: &Source, made: &[Made]) -> Option<AllSizes> {
        let typed = source.clone().open_model().ok()?;
        let within = windows::sizes(&typed);
        let model = optimise(typed).ok()?;
        if !self.options.check || self.grain == Grain::Random {
            return Some(AllSizes { model, within });
        }
        let plan = model.clone().into_runnable().ok()?;
        let agrees = made.iter().all(|made| self.agrees(&plan, &made.model).unwrap_or(false));
        agrees.then_some(AllSizes { model, within })
    }

    fn agrees(&self, open: &Plan, fixed: &TypedModel) -> Result<bool> {
        let Some(inputs) = check::draw(fixed, 0)? else { return Ok(false) };
        let expected = fixed.clone().into_runnable()?.run(inputs.clone())?;
        let given = open.run(inputs)?;
        Ok(check::compare(self.outputs, &given, &expected, self.grain).is_none())
    }
}

impl Port {
    /// A port as this one and that one: a size in which they differ is open.
    fn or(mut self, other: &Self) -> Self {
        for (dim, other) in self.dims.iter_mut().zip(&other.dims) {
            if dim != other {
                *dim = Dim::Open("?".to_owned());
            }
        }
        self
    }
}
