"""What comes of one drawn graph: Mayfly's answer beside ONNX Runtime's, and the smallest graph that still differs."""

import json
import re
import struct

import numpy
from onnx import helper

import fuzz_guard
from fuzz_graph import CODE, FLOATS, declared, session
from onnx_conformance import frame, unframe

# Of the number itself, and of the largest number of the output: sums in another order cancel otherwise.
TOLERANCE = {"float32": (1e-4, 5e-6), "float64": (1e-5, 1e-6), "float16": (1e-2, 5e-3)}
# What each operator's result is moved by to see how steep the rest of the graph is, as a part of itself.
NOISE = {"float32": 2.0**-20, "float64": 2.0**-40, "float16": 2.0**-9}
# Whether two numbers are equal is found by small steps only: each run's are a quarter of those of the run before, until
# there are four sizes of them.
NOISY_RUNS = 32
# Operators that round at most once, to the nearest: everybody has the same bits.
EXACT = set(
    "Abs Neg Relu Max Min Add Sub Mul Floor Ceil Round Sign Clip Where Cast CastLike Identity Transpose Reshape Squeeze "
    "Unsqueeze Flatten Concat Split Slice Gather GatherElements GatherND Expand Tile Pad DepthToSpace SpaceToDepth "
    "MaxPool GlobalMaxPool ReduceMax ReduceMin TopK Trilu EyeLike Compress ConstantOfShape OneHot Scatter ScatterElements "
    "ScatterND DequantizeLinear QuantizeLinear Dropout Hardmax Range Mod".split()
)
# What a panic says, where an error has words of ours.
PANIC = re.compile(r"panicked|a panic at|ndarray: index|index out of bounds|called `|out of range for slice|attempt to |assertion failed|assertion `|entered unreachable")


class Case:
    """Some steps of a drawn graph. What they read of steps that are left out comes with the request."""

    def __init__(self, graph, steps, outputs=None):
        self.graph, self.steps = graph, steps
        made = [value for step in steps for value in step.outputs]
        names = {value.name for value in made}
        reads = list({value.name: value for step in steps for value in step.inputs}.values())
        self.constants = [value for value in reads if value.name in graph.constants]
        self.inputs = [value for value in reads if value.name not in names and value.name not in graph.constants]
        read = {value.name for value in reads}
        self.outputs = outputs or [value for value in made if value.name not in read]

    def model(self):
        outputs = [helper.make_tensor_value_info(value.name, CODE[value.element], value.shape) for value in self.outputs]
        inputs = [declared(value) for value in self.inputs]
        return self.graph.model([step.proto for step in self.steps], inputs, outputs, self.constants)

    def given(self):
        return {value.name: value.array for value in self.inputs}

    def right(self, optimised=False):
        """ONNX Runtime's answer; nothing if it refuses the whole where it took each node."""
        try:
            ready = session(self.model(), optimised)
            arrays = ready.run(None, self.given())
        except Exception:  # its own classes have no base of theirs
            return None
        return dict(zip([output.name for output in ready.get_outputs()], arrays))

    def answer(self, call):
        """Status, and the outputs or what the refusal says."""
        file = self.model()
        status, body = call(struct.pack("<I", len(file)) + file + frame(list(self.given().items())))
        if status == 200:
            return status, unframe(body)
        try:
            problem = json.loads(body)
        except ValueError:
            return status, body.decode(errors="replace")
        return status, problem.get("detail") or problem.get("title") or ""

    def without(self, step):
        return Case(self.graph, [each for each in self.steps if each is not step])

    def noisy(self, random, part=1.0):
        """The outputs where each node's result is off by a rounding or a few."""
        values = self.given()
        for step in self.steps:
            reads = {value.name: values[value.name] for value in step.inputs if value.name in values}
            fuzz_guard.check(step.proto, [values.get(name, known(self.graph, name)) for name in step.proto.input], self.graph.opset)
            for value, array in zip(step.outputs, step.session.run(None, reads)):
                element = array.dtype.name
                if element in FLOATS and (step.proto.op_type not in EXACT or element == "float16"):
                    array = moved(array, part, random)
                if element in FLOATS and is_probit(step.proto):
                    array = near_a_half(array, random)
                values[value.name] = array
        return [values[value.name] for value in self.outputs]


def moved(array, part, random):
    """Results off by a part of the noise."""
    with numpy.errstate(all="ignore"):
        finite = numpy.abs(array[numpy.isfinite(array)]).max(initial=0)
        room = NOISE[array.dtype.name] * part * numpy.maximum(numpy.abs(array), finite / 8)
        off = (array + room * random.uniform(-1, 1, array.shape)).astype(array.dtype)
    # A sum from 0 on and one from its first term on differ in the sign of what is 0; the standard has no order of sums.
    signs = numpy.copysign(array, random.uniform(-1, 1, array.shape))
    return numpy.where((array == 0) & (random.rand(*array.shape) < 0.5), signs, off).astype(array.dtype)


def is_probit(proto):
    return any(at.name == "post_transform" and (at.s == b"PROBIT" or at.i == 4) for at in proto.attribute)


def near_a_half(array, random):
    """The standard only names PROBIT. ONNX Runtime's, and so ours, is Winitzki's formula in f32, the root of a difference of
    two numbers of 4.33: of scores near a half the result is all rounding, and its compiler decides which."""
    with numpy.errstate(all="ignore"):
        square = array.astype(numpy.float64) ** 2 / 2 + random.uniform(-2, 2, array.shape) * numpy.spacing(numpy.float32(4.33))
        return numpy.where(numpy.isfinite(array), numpy.copysign(numpy.sqrt(2 * square), array), array).astype(array.dtype)


def known(graph, name):
    return graph.constants[name].array if name in graph.constants else None


def shape_differs(given, right):
    if given is None:
        return "no such output"
    if given.dtype != right.dtype:
        return f"type {given.dtype.name} instead of {right.dtype.name}"
    if given.shape != right.shape:
        return f"shape {list(given.shape)} instead of {list(right.shape)}"
    return None


def off(given, right, spread=None):
    """Which elements are not right; `spread` is lowest and highest of what rounding may make of each."""
    if right.dtype.name not in TOLERANCE:
        wrong = given != right
        if spread is not None and right.dtype.kind in "iu":
            wrong &= (given < spread[0]) | (given > spread[1])
        elif spread is not None:
            wrong &= spread[0] == spread[1]
        return wrong
    relative, absolute = TOLERANCE[right.dtype.name]
    with numpy.errstate(all="ignore"):
        ours, theirs = given.astype(numpy.float64), right.astype(numpy.float64)
        finite = theirs[numpy.isfinite(theirs)]
        size = max(1.0 if right.dtype.name != "float64" else 1e-3, float(numpy.abs(finite).max(initial=0)))
        near = numpy.isclose(ours, theirs, relative, absolute * size, equal_nan=True)
        if spread is not None:
            low, high = (side.astype(numpy.float64) for side in spread)
            room = 2 * (high - low) + absolute * size
            near |= (ours >= low - room) & (ours <= high + room) | ~numpy.isfinite(high - low)
    return ~near


def compare(outputs, given, right, spreads=None):
    """The first output that is not right, and how."""
    for i, value in enumerate(outputs):
        ours, theirs = given.get(value.name), right[value.name]
        how = shape_differs(ours, theirs)
        if how is None:
            wrong = off(ours, theirs, spreads and spreads[i])
            if not numpy.any(wrong):
                continue
            at = tuple(int(i) for i in numpy.argwhere(wrong)[0]) if wrong.ndim else ()
            how = f"{ours[at]!r} instead of {theirs[at]!r} at {list(at)}, {int(numpy.sum(wrong))} of {theirs.size}"
        return f"{value.name}: {how}"
    return None


def spreads(case):
    """Between what bounds rounding can move each output, or nothing if a noisy run meets what the standard leaves open."""
    random, runs = numpy.random.RandomState(1), []
    for run in range(NOISY_RUNS):
        try:
            runs.append(case.noisy(random, 4.0 ** -(run % 4)))
        except Exception:  # its own classes have no base of theirs
            return "open"
    bounds = []
    for arrays in zip(*runs):
        if len({array.shape for array in arrays}) > 1:
            return "open"
        if arrays[0].dtype == object:
            bounds.append(None)
            continue
        stack = numpy.stack(arrays)
        bounds.append((stack.min(0), stack.max(0)))
    return bounds


def judge(case, call):
    """One of `same`, `steep`, `different`, `panicked`, `crashed`, `refused`, `cannot run`, `theirs`; and more of it."""
    right = case.right()
    if right is None:
        return "theirs", "ONNX Runtime refuses the whole"
    status, answer = case.answer(call)
    if status in (400, 422) and PANIC.search(answer):
        return "panicked", answer
    if status in (400, 422):
        return ("refused" if status == 422 else "cannot run"), answer
    if status != 200:
        return "crashed", f"{status}: {answer}"
    how = compare(case.outputs, answer, right)
    if how is None:
        return "same", ""
    again = case.right()
    if again is None or compare(case.outputs, again, right) is not None:
        return "theirs", "ONNX Runtime answers this way and that"
    bounds = spreads(case)
    if bounds == "open" or bounds and compare(case.outputs, answer, right, bounds) is None:
        return "steep", how
    optimised = case.right(True)
    if optimised is not None and compare(case.outputs, answer, optimised) is None:
        return "different", f"{how} (but as ONNX Runtime optimised)"
    return "different", how


def shrink(case, call, outcome):
    """The fewest steps that still have this outcome."""
    def still(smaller):
        return bool(smaller.steps) and judge(smaller, call)[0] == outcome

    again = True
    while again:
        again = False
        for step in [*reversed(case.steps), *case.steps]:
            smaller = case.without(step)
            if len(case.steps) > 1 and step in case.steps and still(smaller):
                case, again = smaller, True
    for value in case.outputs if len(case.outputs) > 1 else []:
        smaller = Case(case.graph, case.steps, [value])
        if still(smaller):
            return smaller
    return case


def blamed(case, words, call):
    """The step that a refusal names; or, if it names none, the one that is refused by itself."""
    for step in case.steps:
        names = [step.proto.name, *(node.name for at in step.proto.attribute for node in at.g.node)]
        if any(re.search(rf"(?<!\w){re.escape(name)}(?![A-Za-z0-9])", words) for name in names):
            return step, True
    for step in case.steps:
        alone = Case(case.graph, [step])
        if alone.right() is not None and alone.answer(call)[0] in (400, 422):
            return step, False
    return case.steps[0], False
