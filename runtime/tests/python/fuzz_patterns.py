"""Generators of what takes several nodes, and the table of all: an operator between two quantisations, subgraphs, tables."""

import numpy
from onnx import TensorProto, helper, numpy_helper

import fuzz_layers
import fuzz_moves
import fuzz_operators
import ml_cases
from fuzz_graph import CODE, Graph, Refused, Value, types
from fuzz_guard import Open
from fuzz_layers import scale, zero_point

# What quantisers wrap.
WRAPPED = (
    "Conv ConvTranspose MatMul Gemm Add Sub Mul Div Relu LeakyRelu Clip Sigmoid Tanh Softmax LogSoftmax HardSigmoid HardSwish Erf Gelu "
    "MaxPool AveragePool GlobalAveragePool Concat Split Reshape Transpose Squeeze Unsqueeze Flatten Slice Gather Pad Resize "
    "ReduceMean ReduceSum ReduceMax ArgMax TopK Where Abs Neg Exp Sqrt Pow Elu Max Min Mean PRelu BatchNormalization "
    "InstanceNormalization LayerNormalization LpNormalization Expand Tile DepthToSpace SpaceToDepth Hardmax Identity Dropout"
).split()


def both_ways(g, value, element=None):
    """A value through integers and back."""
    if not numpy.isfinite(value.array).all():
        raise Refused("no range")
    element = element or g.draw.one(["uint8", "int8"])
    step, zero = scale(g), zero_point(g, element) if g.draw.often(0.9) or element == "int8" else None
    packed, = g.node("QuantizeLinear", [value, step, zero])
    return g.node("DequantizeLinear", [packed, step, zero])[0]


def quantised(g):
    """Values through integers and back, an operator that reads them, and its outputs through integers and back."""
    operator, element, before = g.draw.one(WRAPPED), g.draw.one(["uint8", "int8"]), len(g.steps)
    if g.opset < 10:
        raise Refused("no QuantizeLinear")
    reads = Quantised(g, element)
    OPERATORS[operator](reads)
    for value in list(g.steps[-1].outputs):
        if value.element == "float32" and value.array.size:
            both_ways(g, value, g.draw.one([element, element, "int8", "uint8"]))
    if len(g.steps) == before:
        raise Refused("nothing")


class Quantised:
    """A graph whose values in floats have all been quantised."""

    def __init__(self, graph, element):
        self.graph, self.packed = graph, element

    def __getattr__(self, name):
        return getattr(self.graph, name)

    def element(self, operator, parameter="T", among=None):
        if "float32" not in (among or types(operator, self.opset, parameter)):
            raise Refused("no floats")
        return "float32"

    def value(self, element, *shape, **wanted):
        value = self.graph.value(element, *shape, **wanted)
        return both_ways(self.graph, value, self.packed) if element == "float32" and value.array.size else value


class Inner(Graph):
    """The graph of a branch or of a loop's body. It may read what is around it."""

    def __init__(self, outer, prefix, reads=True):
        self.outer, self.prefix, self.reads = outer, prefix, reads
        self.draw, self.opset, self.ml = outer.draw, outer.opset, None
        self.strange = self.extreme = False
        self.steps, self.given, self.constants, self.count, self.captured = [], {}, {}, 0, {}

    def made(self):
        around = self.outer.made() if self.reads else []
        return [*super().made(), *around]

    def new(self, array, constant):
        value = super().new(array, True)
        del self.constants[value.name]
        value.name = f"{self.prefix}{value.name}"
        self.constants[value.name] = value
        return value

    def node(self, operator, inputs, outputs=1, domain="", captured=(), **attributes):
        names = [f"{self.prefix}n{len(self.steps)}_{i}" for i in range(outputs)]
        own = {value.name for step in self.steps for value in step.outputs} | set(self.constants) | set(self.given)
        made = super().node(operator, inputs, names, domain, captured, **attributes)
        for value in inputs:
            if value is not None and value.name not in own and value.name not in self.constants:
                self.captured[value.name] = value
        self.steps[-1].proto.name = f"{self.prefix}n{len(self.steps) - 1}_{operator}"
        return made


SMALL = "Add Mul Sub Relu Neg Transpose Reshape ReduceSum Sigmoid Concat MatMul Abs Where Slice Unsqueeze Softmax Cast Max".split()


def body(inner, outputs, inputs=()):
    """The inner graph as a file has it."""
    made = [helper.make_tensor_value_info(value.name, CODE[value.element], value.shape) for value in outputs]
    given = [helper.make_tensor_value_info(value.name, CODE[value.element], value.shape) for value in inputs]
    constants = [numpy_helper.from_array(value.array, value.name) for value in inner.constants.values() if value.element != "object"]
    return helper.make_graph([step.proto for step in inner.steps], f"{inner.prefix}body", given, made, constants)


def grow(inner, operators, most):
    for _ in range(most * 4):
        if len(inner.steps) >= most:
            return
        try:
            OPERATORS[inner.draw.one(operators)](inner)
        except (Refused, Open):
            continue


def condition(g):
    """Both branches make one type, mostly of one shape."""
    first = g.value("float32", least=1, most=3)
    branches = []
    for prefix in ("t", "e"):
        inner = Inner(g, f"{prefix}{len(g.steps)}_")
        out = inner.node(inner.draw.one(["Relu", "Neg", "Sigmoid", "Abs"]), [first])[0]
        if g.draw.often():
            out = inner.node("Mul", [out, inner.value("float32", g.partner(first.shape))])[0]
        if g.draw.often(0.15) and out.rank:
            out = inner.node("ReduceMax", [out], keepdims=0)[0]
        branches.append((inner, out))
    captured = [value for inner, _ in branches for value in inner.captured.values()]
    graphs = {key: body(inner, [out]) for key, (inner, out) in zip(("then_branch", "else_branch"), branches)}
    choice = g.value("bool", (), constant=g.draw.often(0.6))
    g.node("If", [choice], captured=captured, **graphs)


def scan(g):
    """A state that is added to, over the first axis of a sequence."""
    if g.opset < 9:
        raise Refused("another Scan")
    sequence = g.value("float32", least=2, most=3, where=lambda value: value.array.size)
    row = sequence.shape[1:]
    state = g.value("float32", row)
    inner = Inner(g, f"s{len(g.steps)}_", reads=False)
    inputs = [Value(f"{inner.prefix}{name}", array) for name, array in (("state", state.array), ("row", sequence.array[0]))]
    inner.given = {value.name: value for value in inputs}
    total = inner.node(g.draw.one(["Add", "Sub", "Max"]), inputs)[0]
    out = inner.node(g.draw.one(["Relu", "Neg", "Tanh"]), [total])[0]
    back = {"scan_input_directions": [1]} if g.draw.often(0.3) else {}
    back |= {"scan_output_directions": [1]} if g.draw.often(0.3) else {}
    g.node("Scan", [state, sequence], 2, body=body(inner, [total, out], inputs), num_scan_inputs=1, **back)


def loop(g):
    """A number of turns that the file knows."""
    first, times = g.value("float32", least=1, most=2), g.draw.count(0, 4)
    inner = Inner(g, f"l{len(g.steps)}_", reads=False)
    count, go_on = Value(f"{inner.prefix}i", numpy.array(0)), Value(f"{inner.prefix}c", numpy.array(True))
    state = Value(f"{inner.prefix}v", first.array)
    inner.given = {value.name: value for value in (count, go_on, state)}
    kept = inner.node("Identity", [go_on])[0]
    next_state = inner.node(g.draw.one(["Relu", "Neg", "Tanh"]), [state])[0]
    outs = [kept, next_state, *([inner.node("Abs", [next_state])[0]] if g.draw.often(0.4) and times else [])]
    given = [g.parameter(numpy.array(times, numpy.int64)), g.new(numpy.array(True), True), first]
    g.node("Loop", given, len(outs) - 1, body=body(inner, outs, [count, go_on, state]))


def table(generate):
    """An operator of ai.onnx.ml, as ml_cases.py draws it; its numbers may be an earlier node's."""
    def grow_table(g):
        model, inputs = generate(g.draw)
        proto, version = model.graph.node[0], model.opset_import[1].version
        if g.ml not in (None, version):
            raise Refused("another operator set of ai.onnx.ml")
        before, g.ml = g.ml, version
        given = []
        for array in inputs.values():
            element = array.dtype.name
            fits = [value for value in g.made() if value.element == element and value.shape == array.shape]
            given.append(g.draw.one(fits) if fits and g.draw.often(0.5) else g.new(array, False))
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in proto.attribute}
        try:
            g.node(proto.op_type, given, len(proto.output), domain="ai.onnx.ml", **attributes)
        except Refused:
            g.ml = before
            raise
    return grow_table


OPERATORS = {**fuzz_operators.OPERATORS, **fuzz_moves.OPERATORS, **fuzz_layers.OPERATORS}
TABLES = [table(generate) for generate in ml_cases.OPERATORS]
# What a node is drawn from, and how often.
KINDS = [
    (list(fuzz_operators.OPERATORS.values()), 40), (list(fuzz_moves.OPERATORS.values()), 25),
    (list(fuzz_layers.OPERATORS.values()), 20), ([quantised], 6), (TABLES, 6), ([condition, condition, scan, loop], 3),
]


def draw(seed):
    """The graph of this seed."""
    g = Graph(seed)
    most = g.draw.count(2, 8)
    kinds, weights = zip(*KINDS)
    weights = numpy.array(weights) / sum(weights)
    for _ in range(most * 6):
        if len(g.steps) >= most:
            break
        generators = kinds[g.draw.random.choice(len(kinds), p=weights)]
        try:
            g.draw.one(generators)(g)
        except (Refused, Open):
            continue
    return g
