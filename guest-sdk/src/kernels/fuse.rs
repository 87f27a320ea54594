//! Finds chains of element-wise operators and makes a program of each.

use std::collections::{BTreeMap, BTreeSet};

use mayfly_kernels::map::{Arg, CONSTANTS, INPUTS, Op as Code, Program, REGISTERS, Step};
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::nn::LeakyRelu;

use super::conv::floats;
use super::map::{Map, stretch};

/// Elements from which one operator alone is worth being replaced.
const ALONE: usize = 1024;

/// Replaces element-wise operators in `model`, each with those before it that nobody else reads.
pub(super) fn fuse(mut model: TypedModel) -> TractResult<TypedModel> {
    let order = model.eval_order()?;
    let mut gone = BTreeSet::new();
    // From the end, so that a chain is taken as a whole.
    for &root in order.iter().rev() {
        if gone.contains(&root) || !supported(&model, root)? {
            continue;
        }
        let Some(region) = Region::grow(&model, root, &order, &gone)? else { continue };
        let patch = region.patch(&model)?;
        gone.extend(region.nodes);
        patch.apply(&mut model)?;
    }
    model.compact()?;
    Ok(model)
}

fn is_float(fact: &TypedFact) -> bool {
    !fact.is_exotic() && fact.datum_type == f32::datum_type()
}

fn supported(model: &TypedModel, id: usize) -> TractResult<bool> {
    let node = model.node(id);
    let known = if let Some(op) = node.op_as::<TypedBinOp>() {
        op.1.is_none() && binary(op.0.name()).is_some()
    } else if let Some(op) = node.op_as::<ElementWiseOp>() {
        op.1.is_none() && (UNARY.contains(&&*op.0.name()) || op.0.is::<LeakyRelu>())
    } else {
        false
    };
    let inputs = model.node_input_facts(id)?;
    Ok(known && inputs.iter().all(|fact| is_float(fact)) && is_float(&node.outputs[0].fact))
}

/// The step for a binary operator, and whether its operands are the other way round.
fn binary(name: &str) -> Option<(Code, bool)> {
    Some(match name {
        "Add" => (Code::Add, false),
        "Sub" => (Code::Sub, false),
        "SubF" => (Code::Sub, true),
        "Mul" => (Code::Mul, false),
        "Div" => (Code::Div, false),
        "Max" => (Code::Max, false),
        "Min" => (Code::Min, false),
        _ => return None,
    })
}

const UNARY: [&str; 14] = [
    "Abs",
    "Erf",
    "Exp",
    "GeluApproximate",
    "GeluExact",
    "HardSwish",
    "Neg",
    "Recip",
    "Rsqrt",
    "Sigmoid",
    "Silu",
    "Sqrt",
    "Square",
    "Tanh",
];

/// Operators that become one program; the last node is the one whose value others read.
struct Region {
    nodes: Vec<usize>,
    program: Program,
    inputs: Vec<OutletId>,
}

impl Region {
    fn grow(
        model: &TypedModel,
        root: usize,
        order: &[usize],
        gone: &BTreeSet<usize>,
    ) -> TractResult<Option<Region>> {
        let place: BTreeMap<usize, usize> =
            order.iter().enumerate().map(|(i, &n)| (n, i)).collect();
        let Some(mut region) = Region::compile(model, vec![root])? else { return Ok(None) };
        let mut refused = BTreeSet::new();
        loop {
            let mut makers = region.inputs.iter().map(|input| input.node);
            let fits = |id: &usize| {
                let own = region.accepts(model, *id, gone).unwrap_or(false);
                own && !refused.contains(id) && place.contains_key(id)
            };
            let Some(maker) = makers.find(fits) else { break };
            let mut nodes = region.nodes.clone();
            nodes.push(maker);
            nodes.sort_by_key(|id| place[id]);
            match Region::compile(model, nodes)? {
                Some(larger) => region = larger,
                None => {
                    refused.insert(maker);
                }
            }
        }
        let elements = model.node(root).outputs[0].fact.shape.as_concrete();
        let elements = elements.map_or(0, |shape| shape.iter().product());
        let pays = region.nodes.len() > 1 || elements >= ALONE;
        Ok(pays.then_some(region))
    }

    fn root(&self) -> usize {
        self.nodes[self.nodes.len() - 1]
    }

    /// Whether a node can join: all that reads it is here, and it has the same shape.
    fn accepts(&self, model: &TypedModel, id: usize, gone: &BTreeSet<usize>) -> TractResult<bool> {
        let output = &model.node(id).outputs[0];
        let here = output
            .successors
            .iter()
            .all(|reader| self.nodes.contains(&reader.node) || gone.contains(&reader.node));
        Ok(here
            && supported(model, id)?
            && !model.outputs.iter().any(|outlet| outlet.node == id)
            && output.fact.shape == model.node(self.root()).outputs[0].fact.shape)
    }

    /// The program of `nodes`, which are in order; nothing if it is too long or an operand cannot be stretched.
    fn compile(model: &TypedModel, nodes: Vec<usize>) -> TractResult<Option<Region>> {
        let mut writer = Writer::new(model, &nodes);
        for &id in &nodes {
            if writer.node(id)?.is_none() {
                return Ok(None);
            }
        }
        let (program, inputs) = (writer.program, writer.inputs);
        let shape = &model.node(nodes[nodes.len() - 1]).outputs[0].fact.shape.to_tvec();
        for &input in &inputs {
            let operand = model.outlet_fact(input)?.shape.to_tvec();
            if stretch(&operand, shape, &1.to_dim(), |_| 1).is_none() {
                return Ok(None);
            }
        }
        Ok((!inputs.is_empty()).then_some(Region { nodes, program, inputs }))
    }

    fn patch(&self, model: &TypedModel) -> TractResult<TypedModelPatch> {
        let names: Vec<_> = self.nodes.iter().map(|&id| model.node(id).op.name()).collect();
        let op = Map { program: self.program.clone(), names: names.join(" ") };
        let mut patch = TypedModelPatch::default();
        let taps = patch.taps(model, &self.inputs)?;
        let out = patch.wire_node(&model.node(self.root()).name, op, &taps)?;
        patch.shunt_outside(model, OutletId::new(self.root(), 0), out[0])?;
        Ok(patch)
    }
}

/// Makes a program node by node. What returns nothing has run out of steps, registers, inputs or constants.
struct Writer<'a> {
    model: &'a TypedModel,
    program: Program,
    inputs: Vec<OutletId>,
    constants: usize,
    /// Where values are that are still to be read, and by how many.
    values: BTreeMap<usize, (Value, usize)>,
    /// Readers of each node within the program.
    readers: BTreeMap<usize, Vec<usize>>,
    free: [bool; REGISTERS],
}

/// A value, or an operation put off because its reader does it in the same step.
#[derive(Debug, Clone, Copy)]
enum Value {
    Ready(Arg),
    Later(Code, [Arg; 2]),
}

impl<'a> Writer<'a> {
    fn new(model: &'a TypedModel, nodes: &[usize]) -> Self {
        let mut readers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &id in nodes {
            for input in model.node(id).inputs.iter().filter(|input| nodes.contains(&input.node)) {
                readers.entry(input.node).or_default().push(id);
            }
        }
        Writer {
            model,
            program: Program::default(),
            inputs: Vec::new(),
            constants: 0,
            values: BTreeMap::new(),
            readers,
            free: [true; REGISTERS],
        }
    }

    fn constant(&mut self, value: f32) -> Option<Arg> {
        let known = &self.program.constants[..self.constants];
        let at = known.iter().position(|known| known.to_bits() == value.to_bits());
        let at = at.unwrap_or(self.constants);
        *self.program.constants.get_mut(at).filter(|_| at < CONSTANTS)? = value;
        self.constants = self.constants.max(at + 1);
        Some(Arg::Constant(u8::try_from(at).ok()?))
    }

    fn step(&mut self, op: Code, args: &[Arg]) -> Option<Arg> {
        let to = self.free.iter().position(|&free| free)?;
        self.free[to] = false;
        let to = u8::try_from(to).ok()?;
        let mut all = [args[0]; 3];
        all[..args.len()].copy_from_slice(args);
        self.program.push(Step { op, args: all, to }).ok()?;
        Some(Arg::Register(to))
    }

    fn release(&mut self, args: &[Arg]) {
        for arg in args {
            if let Arg::Register(i) = *arg {
                self.free[usize::from(i)] = true;
            }
        }
    }

    /// The operand of a node; with it, what is to be freed once it was read.
    fn operand(&mut self, outlet: OutletId) -> TractResult<Option<(Value, bool)>> {
        if let Some((value, left)) = self.values.get_mut(&outlet.node) {
            *left -= 1;
            return Ok(Some((*value, *left == 0)));
        }
        let fact = self.model.outlet_fact(outlet)?;
        if let Some(konst) = fact.konst.as_ref().filter(|konst| konst.len() == 1) {
            let value = floats(konst)?[0];
            return Ok(self.constant(value).map(|arg| (Value::Ready(arg), false)));
        }
        let at = self.inputs.iter().position(|input| *input == outlet).unwrap_or(self.inputs.len());
        if at == self.inputs.len() {
            self.inputs.push(outlet);
        }
        let arg = u8::try_from(at).ok().filter(|_| at < INPUTS).map(Arg::Input);
        Ok(arg.map(|arg| (Value::Ready(arg), false)))
    }

    fn node(&mut self, id: usize) -> TractResult<Option<()>> {
        let node = self.model.node(id);
        let mut values: TVec<Value> = tvec!();
        let mut done: TVec<Arg> = tvec!();
        for &input in &node.inputs {
            let Some((value, last)) = self.operand(input)? else { return Ok(None) };
            values.push(value);
            match value {
                Value::Ready(arg) if last => done.push(arg),
                Value::Later(_, args) => done.extend(args),
                Value::Ready(_) => {}
            }
        }
        let result = if let Some(op) = node.op_as::<TypedBinOp>() {
            binary(op.0.name()).and_then(|(code, swap)| {
                if swap {
                    values.swap(0, 1);
                }
                self.binary(id, code, [values[0], values[1]], &done)
            })
        } else if let (Some(op), Value::Ready(x)) = (node.op_as::<ElementWiseOp>(), values[0]) {
            let leaky = op.0.downcast_ref::<LeakyRelu>().map(|op| op.alpha);
            self.unary(&op.0.name(), leaky, x, &done)
        } else {
            None
        };
        let Some(result) = result else { return Ok(None) };
        let readers = self.readers.get(&id).map_or(0, Vec::len);
        self.values.insert(id, (result, readers));
        Ok(Some(()))
    }

    /// Whether the only reader of `id` is the binary operator `name`, which can do this one's work as well. The other
    /// operand of that reader must not have been put off too.
    fn put_off(&self, id: usize, name: Code) -> bool {
        let Some([reader]) = self.readers.get(&id).map(Vec::as_slice) else { return false };
        let node = self.model.node(*reader);
        let op = node.op_as::<TypedBinOp>().and_then(|op| binary(op.0.name()));
        let other = node.inputs.iter().find(|input| input.node != id);
        let later =
            |input: &OutletId| matches!(self.values.get(&input.node), Some((Value::Later(..), _)));
        op.is_some_and(|(code, _)| code == name) && !other.is_some_and(later)
    }

    fn binary(&mut self, id: usize, code: Code, values: [Value; 2], done: &[Arg]) -> Option<Value> {
        let args = match (code, values) {
            (Code::Add, [Value::Later(Code::Mul, [a, b]), Value::Ready(c)])
            | (Code::Add, [Value::Ready(c), Value::Later(Code::Mul, [a, b])]) => {
                return self.finish(Code::MulAdd, &[a, b, c], done);
            }
            (Code::Min, [Value::Later(Code::Max, [a, b]), Value::Ready(c)])
            | (Code::Min, [Value::Ready(c), Value::Later(Code::Max, [a, b])]) => {
                return self.finish(Code::Clamp, &[a, b, c], done);
            }
            (_, [Value::Ready(a), Value::Ready(b)]) => [a, b],
            _ => return None,
        };
        let later = code == Code::Mul && self.put_off(id, Code::Add)
            || code == Code::Max && self.put_off(id, Code::Min);
        // Put off, its operands must stay where they are: only those that nobody else reads do.
        let keeps = args.iter().all(|arg| !matches!(arg, Arg::Register(_)) || done.contains(arg));
        if later && keeps {
            return Some(Value::Later(code, args));
        }
        self.finish(code, &args, done)
    }

    fn finish(&mut self, code: Code, args: &[Arg], done: &[Arg]) -> Option<Value> {
        self.release(done);
        self.step(code, args).map(Value::Ready)
    }

    fn unary(&mut self, name: &str, leaky: Option<f32>, x: Arg, done: &[Arg]) -> Option<Value> {
        if let Some(alpha) = leaky {
            let alpha = self.constant(alpha)?;
            return self.finish(Code::Leaky, &[x, alpha], done);
        }
        let simple = match name {
            "Abs" => Some(Code::Abs),
            "Erf" => Some(Code::Erf),
            "Exp" => Some(Code::Exp),
            "Sigmoid" => Some(Code::Sigmoid),
            "Sqrt" => Some(Code::Sqrt),
            "Tanh" => Some(Code::Tanh),
            _ => None,
        };
        if let Some(code) = simple {
            return self.finish(code, &[x], done);
        }
        let (zero, one, half) = (self.constant(0.0)?, self.constant(1.0)?, self.constant(0.5)?);
        let (code, args) = match name {
            "Neg" => (Code::Sub, [zero, x]),
            "Recip" => (Code::Div, [one, x]),
            "Square" => (Code::Mul, [x, x]),
            "Rsqrt" => (Code::Div, [one, self.step(Code::Sqrt, &[x])?]),
            "Silu" => (Code::Mul, [x, self.step(Code::Sigmoid, &[x])?]),
            "HardSwish" => {
                let sixth = self.constant(1.0 / 6.0)?;
                let gate = self.step(Code::MulAdd, &[x, sixth, half])?;
                self.release(&[gate]);
                (Code::Mul, [x, self.step(Code::Clamp, &[gate, zero, one])?])
            }
            "GeluExact" => {
                let scale = self.constant(core::f32::consts::FRAC_1_SQRT_2)?;
                let gate = self.step(Code::Mul, &[x, scale])?;
                (Code::Mul, [x, self.gate(Code::Erf, gate, half)?])
            }
            "GeluApproximate" => {
                let scale = core::f32::consts::FRAC_2_SQRT_PI * core::f32::consts::FRAC_1_SQRT_2;
                let (scale, cube) = (self.constant(scale)?, self.constant(0.044_715 * scale)?);
                let square = self.step(Code::Mul, &[x, x])?;
                self.release(&[square]);
                let slope = self.step(Code::MulAdd, &[square, cube, scale])?;
                self.release(&[slope]);
                let gate = self.step(Code::Mul, &[slope, x])?;
                (Code::Mul, [x, self.gate(Code::Tanh, gate, half)?])
            }
            _ => return None,
        };
        if matches!(name, "Rsqrt" | "Silu" | "HardSwish" | "GeluExact" | "GeluApproximate") {
            self.release(&args[1..]);
        }
        self.finish(code, &args, done)
    }

    /// `op(gate) / 2 + 1 / 2`, in the place of `gate`.
    fn gate(&mut self, op: Code, gate: Arg, half: Arg) -> Option<Arg> {
        self.release(&[gate]);
        let gate = self.step(op, &[gate])?;
        self.release(&[gate]);
        self.step(Code::MulAdd, &[gate, half, half])
    }
}
