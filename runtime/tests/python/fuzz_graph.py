"""Graphs drawn with a seed: each node is run by ONNX Runtime as it is drawn, so every value between nodes is known.

A generator of one operator (fuzz_operators.py and its siblings) asks a `Graph` for values to read, most of them what
earlier nodes made, and adds its node. What ONNX Runtime refuses is not added.
"""

import functools

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import fuzz_guard
from ml_cases import Draw

# Types of elements as ONNX's schemas name them, as numpy does, and as files number them.
ELEMENTS = {
    "float": ("float32", TensorProto.FLOAT), "double": ("float64", TensorProto.DOUBLE),
    "float16": ("float16", TensorProto.FLOAT16), "bool": ("bool", TensorProto.BOOL),
    "string": ("object", TensorProto.STRING), "int8": ("int8", TensorProto.INT8), "uint8": ("uint8", TensorProto.UINT8),
    "int16": ("int16", TensorProto.INT16), "uint16": ("uint16", TensorProto.UINT16),
    "int32": ("int32", TensorProto.INT32), "uint32": ("uint32", TensorProto.UINT32),
    "int64": ("int64", TensorProto.INT64), "uint64": ("uint64", TensorProto.UINT64),
}
NUMPY = {f"tensor({name})": dtype for name, (dtype, _) in ELEMENTS.items()}
CODE = dict(ELEMENTS.values())
FLOATS = ("float32", "float64", "float16")
# How often each is drawn where an operator takes several.
WEIGHTS = {"float32": 12, "float64": 2, "float16": 2, "int64": 4, "int32": 3, "int8": 2, "uint8": 2, "bool": 2, "object": 1}
SIZES = [1, 1, 2, 2, 3, 3, 4, 5, 7]
# Elements of one value: enough for every border, and quick.
LARGEST = 600
# In ASCII: of others ONNX Runtime's Python loses some on the way out.
WORDS = ["", "a", "b", "zz", "a b"]
OPSETS = range(7, 24)


class Refused(Exception):
    """ONNX Runtime does not take a node, or it would answer what the standard leaves open."""


class Value:
    """A tensor with a name. `made` says that a node made it."""

    def __init__(self, name, array, made=False):
        self.name, self.array, self.made = name, array, made

    @property
    def shape(self):
        return self.array.shape

    @property
    def rank(self):
        return self.array.ndim

    @property
    def element(self):
        return self.array.dtype.name


class Step:
    """A node of a graph with what it reads and makes, and a session that runs it alone."""

    def __init__(self, proto, inputs, outputs, session):
        self.proto, self.inputs, self.outputs, self.session = proto, inputs, outputs, session


def declared(value):
    return helper.make_tensor_value_info(value.name, CODE[value.element], value.shape)


def session(model, optimised=False):
    """ONNX Runtime on one thread; as the file says unless `optimised`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@functools.cache
def schema(operator, opset, domain=""):
    try:
        return onnx.defs.get_schema(operator, opset, domain)
    except onnx.defs.SchemaError as missing:
        raise Refused(f"no {operator} in operator set {opset}") from missing


@functools.cache
def types(operator, opset, parameter="T"):
    """What a type parameter of an operator may be, of what a tensor frame can carry."""
    for constraint in schema(operator, opset).type_constraints:
        if constraint.type_param_str == parameter:
            return tuple(NUMPY[name] for name in constraint.allowed_type_strs if name in NUMPY)
    raise Refused(f"{operator} has no type {parameter} in operator set {opset}")


class Graph:
    def __init__(self, seed, opset=None):
        self.draw = Draw(seed)
        self.opset = opset or self.draw.one(OPSETS)
        self.ml = None
        self.strange, self.extreme = self.draw.often(0.2), self.draw.often(0.2)
        self.steps, self.given, self.constants, self.count = [], {}, {}, 0

    # What generators draw.

    def element(self, operator, parameter="T", among=None):
        """A type that the operator takes; rather one of which there are values already."""
        allowed = [name for name in types(operator, self.opset, parameter) if among is None or name in among]
        if not allowed:
            raise Refused(f"{operator} takes none of {among}")
        there = [value.element for value in self.made() if value.element in allowed]
        if there and self.draw.often(0.5):
            return self.draw.one(there)
        weights = numpy.array([WEIGHTS.get(name, 1) for name in allowed], float)
        return allowed[self.draw.random.choice(len(allowed), p=weights / weights.sum())]

    def shape(self, least=0, most=4):
        """Sizes of a tensor, now and then with a 0 or of a high rank."""
        if most >= 4 and self.draw.often(0.05):
            most = 6
        sizes = [self.draw.one(SIZES) for _ in range(self.draw.count(least, most))]
        if sizes and self.draw.often(0.02):
            sizes[self.draw.count(0, len(sizes) - 1)] = 0
        while numpy.prod(sizes) > LARGEST:
            sizes[int(numpy.argmax(sizes))] = 1
        return tuple(sizes)

    def partner(self, shape):
        """A shape that stretches to `shape`."""
        kept = shape[self.draw.count(0, len(shape)):] if self.draw.often(0.3) else shape
        return tuple(1 if self.draw.often(0.25) else size for size in kept)

    def numbers(self, element, shape, low=None, high=None):
        """Elements; within bounds if there are any, else strange ones among them if this graph has such."""
        random, size = self.draw.random, int(numpy.prod(shape))
        if element == "object":
            return numpy.array([self.draw.one(WORDS) for _ in range(size)], object).reshape(shape)
        if element == "bool":
            return random.rand(*shape) < 0.5 if shape else numpy.array(random.rand() < 0.5)
        if element in FLOATS:
            if low is not None:
                return numpy.array(low + (high - low) * random.rand(*shape)).astype(element).reshape(shape)
            numbers = numpy.array(random.randn(*shape) if self.draw.often() else random.randint(-6, 7, shape) / 2)
            if self.strange and self.draw.often(0.4):
                odd = [numpy.nan, numpy.inf, -numpy.inf, -0.0, 1e-30, 3e4]
                numbers = numpy.where(random.rand(*shape) < 0.2, random.choice(odd, shape), numbers)
            return numbers.astype(element).reshape(shape)
        info = numpy.iinfo(element)
        if low is None and self.extreme and self.draw.often(0.4):
            ends = [info.min, info.min + 1, -1 if info.min else 1, 0, info.max - 1, info.max]
            return numpy.array([ends[i] for i in random.randint(0, 6, size)], element).reshape(shape)
        low, high = (-4 if info.min else 0, 5) if low is None else (low, high)
        return numpy.array(random.randint(low, high + 1, shape)).astype(element).reshape(shape)

    def made(self):
        return [value for step in self.steps for value in step.outputs]

    def value(self, element, shape=None, least=0, most=4, where=None, low=None, high=None, constant=None):
        """Something to read: what a node made, if anything fits, or new numbers, in the file or with the request."""
        fits = [
            value for value in self.made()
            if value.element == element and (value.shape == tuple(shape) if shape is not None else least <= value.rank <= most)
            and (where is None or where(value)) and (low is None or fuzz_guard.within(value.array, low, high))
        ]
        if fits and not constant and self.draw.often(0.75):
            return self.draw.one(fits)
        shape = self.shape(least, most) if shape is None else tuple(shape)
        value = Value("", numpy.asarray(self.numbers(element, shape, low, high)))
        if where and not where(value):
            raise Refused("not of this shape")
        return self.new(value.array, self.draw.often(0.3) if constant is None else constant)

    def new(self, array, constant):
        self.count += 1
        value = Value(f"{'c' if constant else 'x'}{self.count}", numpy.asarray(array))
        (self.constants if constant else self.given)[value.name] = value
        return value

    def parameter(self, array):
        """Axes, shapes and their like: of the file, as exporters have them; now and then of the request."""
        return self.new(array, self.draw.often(0.94))

    def axis(self, rank, last=0):
        """An axis, counted from either end."""
        axis = self.draw.count(0, rank - 1 + last)
        return axis - rank - last if self.draw.often(0.4) else axis

    # What they add.

    def opsets(self):
        ml = [helper.make_opsetid("ai.onnx.ml", self.ml)] if self.ml else []
        return [helper.make_opsetid("", self.opset), *ml, helper.make_opsetid("com.microsoft", 1)]

    def model(self, nodes, inputs, outputs, constants):
        tensors = [tensor(value) for value in constants]
        graph = helper.make_graph(nodes, "fuzz", inputs, outputs, tensors)
        version = 8 if self.opset < 19 else 9 if self.opset < 21 else 10 if self.opset < 23 else 11
        return helper.make_model(graph, opset_imports=self.opsets(), ir_version=version).SerializeToString()

    def node(self, operator, inputs, outputs=1, domain="", captured=(), **attributes):
        """Adds a node; gives what it makes. `captured` are values that its subgraphs read."""
        names = [value.name if value else "" for value in inputs]
        while names and not names[-1]:
            names.pop()
        at = len(self.steps)
        wanted = [f"n{at}_{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
        attributes = {key: value for key, value in attributes.items() if value is not None}
        proto = helper.make_node(operator, names, wanted, name=f"n{at}_{operator}", domain=domain, **attributes)
        reads = list({value.name: value for value in [*inputs, *captured] if value}.values())
        fuzz_guard.check(proto, [value.array if value else None for value in inputs], self.opset)
        alone, arrays = self.alone(proto, reads)
        made = [Value(name, array, True) for name, array in zip([name for name in wanted if name], arrays)]
        if any(fuzz_guard.near_overflow(value.array) for value in (*reads, *made)):
            raise Refused("float16 that overflows on the way")
        if any(value.array.size > LARGEST * 20 for value in made):
            raise Refused("too large")
        self.steps.append(Step(proto, reads, made, alone))
        return made

    def alone(self, proto, reads):
        """Runs one node by itself."""
        known = [value for value in reads if value.name in self.constants]
        rest = [value for value in reads if value.name not in self.constants]
        outputs = [helper.make_empty_tensor_value_info(name) for name in proto.output if name]
        try:
            ready = session(self.model([proto], [declared(value) for value in rest], outputs, known))
            arrays = ready.run(None, {value.name: value.array for value in rest})
        except Exception as why:  # its own classes have no base of theirs
            raise Refused(f"{proto.op_type}: {why}") from why
        if not all(isinstance(array, numpy.ndarray) and array.dtype.name in CODE for array in arrays):
            raise Refused(f"{proto.op_type} makes no tensor")
        return ready, arrays


def tensor(value):
    if value.element == "object":
        return helper.make_tensor(value.name, TensorProto.STRING, value.shape, [text.encode() for text in value.array.flat])
    return numpy_helper.from_array(value.array, value.name)
