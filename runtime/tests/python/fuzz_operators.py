"""Generators of single operators: element by element, and reductions.

`OPERATORS` is a table: an operator's name and the function that draws a node of it, most of them by a line. Others of
its kind are in fuzz_moves.py and fuzz_layers.py; fuzz_patterns.py has all. An operator of another domain is one more
line, whose function says `domain=` to `Graph.node`.
"""

import numpy
from onnx import helper

from fuzz_graph import FLOATS, schema

WHOLE = numpy.int64


def unary(operator, **drawn):
    """One input; attributes are left out half of the time."""
    def generate(g):
        attributes = {key: draw(g) for key, draw in drawn.items() if g.draw.often()}
        g.node(operator, [g.value(g.element(operator, input_type(operator, g)))], **attributes)
    return generate


def input_type(operator, g, at=0):
    return schema(operator, g.opset).inputs[at].type_str


def slope(g):
    return g.draw.floats(1)[0]


def binary(operator, **drawn):
    def generate(g):
        element = g.element(operator, input_type(operator, g))
        first = g.value(element)
        other = g.value(element, g.partner(first.shape)) if g.opset > 6 else g.value(element, first.shape)
        pair = [first, other] if g.draw.often(0.7) else [other, first]
        g.node(operator, pair, **{key: draw(g) for key, draw in drawn.items() if g.draw.often()})
    return generate


def variadic(operator):
    def generate(g):
        element = g.element(operator)
        first = g.value(element)
        g.node(operator, [first, *(g.value(element, g.partner(first.shape)) for _ in range(g.draw.count(0, 3)))])
    return generate


def mod(g):
    element = g.element("Mod")
    first = g.value(element)
    divisor = g.numbers(element, g.partner(first.shape))
    divisor[divisor == 0] = 3
    g.node("Mod", [first, g.new(divisor, g.draw.often())], fmod=1 if element in FLOATS else g.draw.one([None, 0, 1]))


def div(g):
    element = g.element("Div")
    first = g.value(element)
    divisor = g.numbers(element, g.partner(first.shape))
    if element not in FLOATS:
        divisor[divisor == 0] = 3
    g.node("Div", [first, g.new(divisor, g.draw.often())])


def power(g):
    element = g.element("Pow")
    other = g.element("Pow", "T1") if g.opset >= 12 else element
    base = g.value(element)
    exponents = g.numbers(other, g.partner(base.shape), 0, 3) if g.draw.often(0.7) else g.numbers(other, ())
    if g.draw.often():
        exponents = numpy.array(g.draw.one([2, 3, 0, 1, *([0.5, -1, -0.5] if other in FLOATS else [])])).astype(other)
    g.node("Pow", [base, g.new(exponents, g.draw.often(0.7))])


def bit_shift(g):
    element = g.element("BitShift")
    first = g.value(element)
    by = g.value(element, g.partner(first.shape), low=0, high=7)
    g.node("BitShift", [first, by], direction=g.draw.one(["LEFT", "RIGHT"]))


def where(g):
    element = g.element("Where")
    first = g.value(element)
    g.node("Where", [g.value("bool", g.partner(first.shape)), first, g.value(element, g.partner(first.shape))])


def clip(g):
    if g.opset < 11:
        bounds = {key: g.draw.floats(1)[0] for key in ("min", "max") if g.draw.often(0.7)}
        return g.node("Clip", [g.value(g.element("Clip"))], **bounds)
    element = g.element("Clip")
    bounds = [g.new(g.numbers(element, ()), g.draw.often(0.8)) if g.draw.often(0.8) else None for _ in range(2)]
    return g.node("Clip", [g.value(element), *bounds])


def prelu(g):
    element = g.element("PRelu")
    first = g.value(element, least=1)
    g.node("PRelu", [first, g.value(element, g.partner(first.shape), constant=g.draw.often(0.8))])


def reduce(operator):
    def generate(g):
        first = g.value(g.element(operator))
        count = g.draw.count(0, first.rank)
        axes = [int(axis) for axis in g.draw.random.permutation(first.rank)[:count]]
        axes = [axis - first.rank if g.draw.often(0.3) else axis for axis in axes] if g.opset >= 11 else axes
        attributes = {"keepdims": g.draw.one([None, 0, 1])}
        if g.opset >= (13 if operator == "ReduceSum" else 18):
            if g.draw.often(0.2):
                attributes["noop_with_empty_axes"] = g.draw.count(0, 1)
            given = g.parameter(numpy.array(axes, WHOLE)) if axes or g.draw.often(0.3) else None
            return g.node(operator, [first, given], **attributes)
        return g.node(operator, [first], axes=axes or None, **attributes)
    return generate


def arg(operator):
    def generate(g):
        first = g.value(g.element(operator), least=1)
        last = g.draw.one([None, 0, 1]) if g.opset >= 12 else None
        axis = g.axis(first.rank) if g.opset >= 11 else g.draw.count(0, first.rank - 1)
        g.node(operator, [first], axis=axis, keepdims=g.draw.one([None, 0, 1]), select_last_index=last)
    return generate


def along(operator):
    """Softmax and its kin."""
    def generate(g):
        first = g.value(g.element(operator), least=1)
        axis = g.axis(first.rank) if g.opset >= 11 else g.draw.count(0, first.rank - 1)
        g.node(operator, [first], axis=g.draw.one([None, axis, axis]))
    return generate


def cast(g):
    first = g.value(g.element("Cast", "T1"))
    g.node("Cast", [first], to=helper.np_dtype_to_tensor_dtype(numpy.dtype(g.element("Cast", "T2"))))


def cast_like(g):
    g.node("CastLike", [g.value(g.element("CastLike", "T1")), g.value(g.element("CastLike", "T2"))])


def is_inf(g):
    ways = {key: g.draw.one([None, 0, 1]) for key in ("detect_negative", "detect_positive")}
    g.node("IsInf", [g.value(g.element("IsInf", "T1"))], **ways)


UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor HardSwish Identity IsNaN Log Mish Neg Not "
    "Reciprocal Relu Round Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh BitwiseNot"
).split()
SLOPED = {
    "Elu": {"alpha": slope}, "Celu": {"alpha": lambda g: abs(slope(g)) + 0.1}, "LeakyRelu": {"alpha": slope},
    "ThresholdedRelu": {"alpha": slope}, "Selu": {"alpha": slope, "gamma": slope}, "Swish": {"alpha": slope},
    "HardSigmoid": {"alpha": slope, "beta": slope}, "Shrink": {"lambd": lambda g: abs(slope(g)), "bias": slope},
    "Gelu": {"approximate": lambda g: g.draw.one(["none", "tanh"])},
}
BINARY = "Add Sub Mul And Or Xor Equal Greater Less GreaterOrEqual LessOrEqual BitwiseAnd BitwiseOr BitwiseXor".split()
REDUCE = [f"Reduce{name}" for name in "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()]

OPERATORS = {
    **{name: unary(name) for name in UNARY}, **{name: unary(name, **drawn) for name, drawn in SLOPED.items()},
    **{name: binary(name) for name in BINARY}, **{name: variadic(name) for name in ("Max", "Min", "Sum", "Mean")},
    **{name: reduce(name) for name in REDUCE}, **{name: along(name) for name in ("Softmax", "LogSoftmax", "Hardmax")},
    "ArgMax": arg("ArgMax"), "ArgMin": arg("ArgMin"), "Mod": mod, "Div": div, "Pow": power, "BitShift": bit_shift,
    "Where": where, "Clip": clip, "PRelu": prelu, "IsInf": is_inf, "Cast": cast, "CastLike": cast_like,
}
