"""Generators of what moves elements about, makes them, or counts them."""

import numpy
from onnx import helper

from fuzz_graph import FLOATS, Refused, types
from fuzz_operators import slope, unary

WHOLE = numpy.int64


def transpose(g):
    first = g.value(g.element("Transpose"))
    order = [int(axis) for axis in g.draw.random.permutation(first.rank)]
    g.node("Transpose", [first], perm=order if order and g.draw.often(0.8) else None)


def factors(g, size):
    """Sizes whose product this is."""
    sizes = []
    while size > 1 and g.draw.often(0.8):
        divisor = g.draw.one([each for each in range(2, size + 1) if size % each == 0])
        sizes.append(divisor)
        size //= divisor
    return [int(n) for n in g.draw.random.permutation([*sizes, *([size] if size > 1 else []), *[1] * g.draw.count(0, 2)])]


def reshape(g):
    first = g.value(g.element("Reshape"))
    shape = factors(g, first.array.size) if first.array.size else list(first.shape)
    if shape and first.array.size and g.draw.often(0.4):
        shape[g.draw.count(0, len(shape) - 1)] = -1
    elif g.draw.often(0.2):
        shape = [0 if at < first.rank and size == first.shape[at] else size for at, size in enumerate(shape)]
    allow = g.draw.one([None, None, 0, 1]) if g.opset >= 14 else None
    g.node("Reshape", [first, g.parameter(numpy.array(shape, WHOLE))], allowzero=allow)


def axes_of(operator, least_opset):
    """Squeeze and Unsqueeze: axes an attribute, an input later."""
    def generate(g):
        first = g.value(g.element(operator), most=4)
        if operator == "Squeeze":
            ones = [axis for axis in range(first.rank) if first.shape[axis] == 1]
            axes, rank = [axis for axis in ones if g.draw.often(0.7)], first.rank
        else:
            rank = first.rank + g.draw.count(1, 2)
            axes = [int(axis) for axis in g.draw.random.permutation(rank)[:rank - first.rank]]
        if g.opset >= 11:
            axes = [axis - rank if g.draw.often(0.3) else axis for axis in axes]
        if g.opset < least_opset:
            return g.node(operator, [first], axes=axes or None)
        return g.node(operator, [first, g.parameter(numpy.array(axes, WHOLE)) if axes else None])
    return generate


def flatten(g):
    first = g.value(g.element("Flatten"))
    axis = g.draw.count(0, first.rank)
    g.node("Flatten", [first], axis=g.draw.one([None, axis, axis - first.rank if g.opset >= 11 and axis < first.rank else axis]))


def concat(g):
    first = g.value(g.element("Concat"), least=1)
    axis = g.draw.count(0, first.rank - 1)
    others = []
    for _ in range(g.draw.count(0, 3)):
        shape = list(first.shape)
        shape[axis] = g.draw.one([1, 2, 3])
        others.append(g.value(first.element, shape if g.draw.often() else first.shape))
    g.node("Concat", [first, *others], axis=axis - first.rank if g.opset >= 11 and g.draw.often(0.3) else axis)


def split(g):
    first = g.value(g.element("Split"), least=1)
    axis = g.draw.count(0, first.rank - 1)
    size, parts = first.shape[axis], []
    while sum(parts) < size and len(parts) < 3:
        parts.append(g.draw.count(0 if g.draw.often(0.1) else 1, size - sum(parts)))
    parts = [*parts, size - sum(parts)] if sum(parts) < size or not parts else parts
    even = size % len(parts) == 0 and g.draw.often()
    attributes = {"axis": axis - first.rank if g.opset >= 11 and g.draw.often(0.3) else axis}
    if g.opset >= 18 and even:
        attributes["num_outputs"] = len(parts)
    if g.opset < 13:
        return g.node("Split", [first], len(parts), split=None if even else parts, **attributes)
    return g.node("Split", [first, None if even else g.parameter(numpy.array(parts, WHOLE))], len(parts), **attributes)


def slices(g):
    first = g.value(g.element("Slice"), least=1)
    axes = sorted(int(axis) for axis in g.draw.random.permutation(first.rank)[:g.draw.count(1, first.rank)])
    steps = [g.draw.one([1, 1, 2, -1, -2, 3]) if g.opset >= 10 else 1 for _ in axes]
    starts, ends = [], []
    for axis, step in zip(axes, steps):
        low, high = sorted([g.draw.count(0, first.shape[axis]), g.draw.count(0, first.shape[axis])])
        begin, end = (low, max(high, low + 1)) if step > 0 else (high, low - 1 if low else -first.shape[axis] - 1)
        far = numpy.iinfo(WHOLE).max if step > 0 else numpy.iinfo(WHOLE).min
        starts.append(begin - first.shape[axis] if g.draw.often(0.2) and begin < first.shape[axis] else begin)
        ends.append(g.draw.one([end, end, far]))
    if g.opset < 10:
        return g.node("Slice", [first], starts=starts, ends=ends, axes=axes)
    axes = [axis - first.rank if g.draw.often(0.3) else axis for axis in axes]
    kind = g.draw.one([numpy.int64, numpy.int64, numpy.int32])
    if kind == numpy.int32:
        ends = [max(min(end, 2**31 - 1), -2**31) for end in ends]
    known = g.draw.often(0.94)
    given = [g.new(numpy.array(numbers, kind), known) for numbers in (starts, ends, axes, steps)]
    return g.node("Slice", [first, *given])


def index(g, shape, size, constant=None):
    """Places on an axis of this size, counted from either end."""
    if size == 0:
        raise Refused("an axis of 0")
    element = g.draw.one(["int64", "int64", "int32"])
    low = -size if g.opset >= 11 and g.draw.often(0.4) else 0
    fits = [value for value in g.made() if value.element == element and value.array.size
            and value.array.min() >= low and value.array.max() < size and value.shape == tuple(shape)]
    if fits and g.draw.often(0.7):
        return g.draw.one(fits)
    return g.new(g.numbers(element, shape, low, size - 1), g.draw.often(0.4) if constant is None else constant)


def gather(g):
    first = g.value(g.element("Gather"), least=1)
    if first.element == "object":
        raise Refused("of two equal texts in a row ONNX Runtime loses one")
    axis = g.axis(first.rank) if g.opset >= 11 else g.draw.count(0, first.rank - 1)
    g.node("Gather", [first, index(g, g.shape(0, 2), first.shape[axis])], axis=g.draw.one([None, axis]) if axis == 0 else axis)


def gather_elements(g):
    first = g.value(g.element("GatherElements"), least=1)
    axis = g.axis(first.rank)
    shape = [g.draw.count(1, size) if size else 0 for size in first.shape]
    shape[axis] = g.draw.count(1, 4)
    g.node("GatherElements", [first, index(g, shape, first.shape[axis])], axis=axis)


def gather_nd(g):
    first = g.value(g.element("GatherND"), least=1)
    batch = g.draw.count(0, first.rank - 1) if g.opset >= 12 and g.draw.often(0.4) else 0
    depth = g.draw.count(1, first.rank - batch)
    rows = (*first.shape[:batch], g.draw.count(1, 3))
    columns = [g.numbers("int64", rows, 0, size - 1) for size in first.shape[batch:batch + depth] if size]
    if len(columns) < depth:
        raise Refused("an axis of 0")
    indices = g.new(numpy.stack(columns, -1), g.draw.often(0.4))
    g.node("GatherND", [first, indices], batch_dims=batch if batch else None)


def scatter_elements(operator):
    def generate(g):
        first = g.value(g.element(operator), least=1)
        axis = g.draw.count(0, first.rank - 1)
        shape = [g.draw.count(1, size) if size else 0 for size in first.shape]
        reduction = g.draw.one([None, "none", "add", "mul", *(["max", "min"] if g.opset >= 18 else [])]) if g.opset >= 16 else None
        # Which of two numbers for one place stays, the standard does not say.
        order = numpy.argsort(g.draw.random.rand(*first.shape), axis)
        indices = order[tuple(slice(0, size) for size in shape)].astype(g.draw.one(["int64", "int32"]))
        given = [first, g.new(indices, g.draw.often(0.4)), g.value(first.element, shape)]
        axis = axis - first.rank if g.opset >= 11 and g.draw.often(0.3) else axis
        g.node(operator, given, axis=axis, reduction=reduction if operator == "ScatterElements" else None)
    return generate


def scatter_nd(g):
    first = g.value(g.element("ScatterND"), least=1)
    depth = g.draw.count(1, first.rank)
    places = list(numpy.ndindex(*first.shape[:depth]))
    if not places:
        raise Refused("nowhere to scatter to")
    picked = g.draw.random.permutation(len(places))[:g.draw.count(1, 4)]
    indices = numpy.array([places[i] for i in picked], WHOLE)
    updates = g.value(first.element, (len(picked), *first.shape[depth:]))
    reduction = g.draw.one([None, "add", "mul", *(["max", "min"] if g.opset >= 18 else [])]) if g.opset >= 16 else None
    g.node("ScatterND", [first, g.new(indices, g.draw.often(0.5)), updates], reduction=reduction)


def expand(g):
    first = g.value(g.element("Expand"))
    shape = [g.draw.one([1, 2, 3]) if size == 1 else size for size in first.shape]
    shape = [g.draw.one([1, 2]) for _ in range(g.draw.count(0, 1))] + shape
    g.node("Expand", [first, g.parameter(numpy.array(shape, WHOLE))])


def tile(g):
    first = g.value(g.element("Tile"), least=1)
    g.node("Tile", [first, g.parameter(g.numbers("int64", (first.rank,), 1, 2))])


def pad(g):
    first = g.value(g.element("Pad"), least=1)
    mode = g.draw.one([None, "constant", "reflect", "edge", *(["wrap"] if g.opset >= 19 else [])])
    pads = []
    for size in (*first.shape, *first.shape):
        least = -1 if mode in (None, "constant") and size > 2 and g.draw.often(0.2) else 0
        most = size - 1 if mode == "reflect" else 2 if mode != "wrap" else size
        pads.append(g.draw.count(least, max(least, min(2, most))))
    if g.opset < 11:
        return g.node("Pad", [first], pads=pads, mode=mode, value=g.draw.one([None, slope(g)]))
    fill = g.new(g.numbers(first.element, ()), g.draw.often(0.9)) if g.draw.often() else None
    given = [first, g.parameter(numpy.array(pads, WHOLE)), fill]
    if g.opset >= 18 and g.draw.often(0.3):
        axes = [int(axis) for axis in g.draw.random.permutation(first.rank)[:g.draw.count(1, first.rank)]]
        given[1] = g.parameter(numpy.array([pads[axis] for axis in axes] + [pads[axis + first.rank] for axis in axes], WHOLE))
        given.append(g.parameter(numpy.array([axis - first.rank if g.draw.often(0.3) else axis for axis in axes], WHOLE)))
    return g.node("Pad", given, mode=mode)


def shape_of(g):
    first, limits = g.value(g.element("Shape")), {}
    if g.opset >= 15 and first.rank:
        limits = {key: g.draw.one([None, g.axis(first.rank)]) for key in ("start", "end")}
    g.node("Shape", [first], **limits)


def constant_of_shape(g):
    element = g.draw.one(types("ConstantOfShape", g.opset, "T2"))
    array = g.numbers(element, (1,))
    value = helper.make_tensor("value", helper.np_dtype_to_tensor_dtype(array.dtype), [1], array.tobytes(), raw=True)
    g.node("ConstantOfShape", [g.parameter(numpy.array(g.shape(), WHOLE))], value=g.draw.one([None, value, value]))


def ranges(g):
    element = g.element("Range")
    start, count, step = g.draw.count(-3, 3), g.draw.count(0, 6), g.draw.one([1, 1, 2, -1, -3])
    step = step / 2 if element in FLOATS else step
    ends = [numpy.array(number).astype(element) for number in (start, start + count * step, step)]
    if numpy.dtype(element).kind == "u":
        raise Refused("unsigned")
    known = g.draw.often(0.9)
    g.node("Range", [g.new(end, known) for end in ends])


def one_hot(g):
    depth, element = g.draw.count(1, 5), g.element("OneHot", "T3", ("float32", "int64", "float64", "int32", "object", "bool"))
    places = g.value(g.draw.one(["int64", "int64", "int32", "float32"]), most=3, low=-depth - 1, high=depth)
    if places.element in FLOATS:
        places = g.node("Floor", [places])[0]
    depth = g.parameter(numpy.array(depth if g.draw.often() else [depth], g.draw.one(["int64", "int32", "float32"])))
    g.node("OneHot", [places, depth, g.value(element, (2,), constant=True)], axis=g.draw.one([None, g.axis(places.rank, 1)]))


def top_k(g):
    first = g.value(g.element("TopK"), least=1, where=lambda value: value.array.size)
    axis = g.axis(first.rank) if g.opset >= 11 else g.draw.count(0, first.rank - 1)
    count = g.draw.count(1, first.shape[axis])
    ways = {"largest": g.draw.one([None, 0, 1]), "sorted": g.draw.one([None, 1])} if g.opset >= 11 else {}
    if g.opset < 10:
        return g.node("TopK", [first], 2, axis=axis, k=count)
    return g.node("TopK", [first, g.parameter(numpy.array([count], WHOLE))], 2, axis=axis, **ways)


def cum_sum(g):
    first = g.value(g.element("CumSum"), least=1)
    axis = g.parameter(numpy.array(g.axis(first.rank), g.draw.one(["int64", "int32"])))
    g.node("CumSum", [first, axis], exclusive=g.draw.one([None, 0, 1]), reverse=g.draw.one([None, 0, 1]))


def trilu(g):
    first = g.value(g.element("Trilu"), least=2)
    by = g.parameter(numpy.array(g.draw.count(-3, 3), WHOLE)) if g.draw.often(0.6) else None
    g.node("Trilu", [first, by], upper=g.draw.one([None, 0, 1]))


def eye_like(g):
    first = g.value(g.element("EyeLike", "T1"), least=2, most=2)
    to = g.draw.one([None, 1, 6, 7, 11])
    g.node("EyeLike", [first], dtype=to, k=g.draw.one([None, g.draw.count(-2, 2)]))


def determinant(g):
    size = g.draw.count(1, 3)
    g.node("Det", [g.value(g.element("Det"), (*g.shape(0, 2), size, size))])


def compress(g):
    first = g.value(g.element("Compress"), least=1)
    axis = g.draw.one([None, g.draw.count(0, first.rank - 1)])
    size = first.array.size if axis is None else first.shape[axis]
    if not size:
        raise Refused("nothing to choose from")
    g.node("Compress", [first, g.value("bool", (g.draw.count(1, size),), constant=g.draw.often(0.8))], axis=axis)


def depth_space(operator):
    def generate(g):
        block, least = g.draw.count(1, 3), g.draw.count(1, 2)
        scale = (block * block, 1, 1) if operator == "DepthToSpace" else (1, block, block)
        shape = (g.draw.count(1, 2), *(factor * g.draw.count(1, 2) * (least if factor > 1 else 1) for factor in scale))
        mode = g.draw.one([None, "DCR", "CRD"]) if operator == "DepthToSpace" and g.opset >= 11 else None
        g.node(operator, [g.value(g.element(operator), shape)], blocksize=block, mode=mode)
    return generate


OPERATORS = {
    **{name: unary(name) for name in ("NonZero", "Size")},
    "Transpose": transpose, "Reshape": reshape,
    "Squeeze": axes_of("Squeeze", 13), "Unsqueeze": axes_of("Unsqueeze", 13), "Flatten": flatten, "Concat": concat,
    "Split": split, "Slice": slices, "Gather": gather, "GatherElements": gather_elements, "GatherND": gather_nd,
    "Scatter": scatter_elements("Scatter"), "ScatterElements": scatter_elements("ScatterElements"),
    "ScatterND": scatter_nd, "Expand": expand, "Tile": tile, "Pad": pad,
    "Shape": shape_of, "ConstantOfShape": constant_of_shape, "Range": ranges, "OneHot": one_hot, "TopK": top_k,
    "CumSum": cum_sum, "Trilu": trilu, "EyeLike": eye_like, "Compress": compress, "Det": determinant,
    "DepthToSpace": depth_space("DepthToSpace"), "SpaceToDepth": depth_space("SpaceToDepth"),
}
