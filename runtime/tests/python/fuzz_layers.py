"""Generators of layers: products, convolutions, pools, normalisations, recurrent cells, resizing, quantised arithmetic."""

import numpy

from fuzz_graph import Refused

WHOLE = numpy.int64


def matmul(g, operator="MatMul", element=None):
    """Operands of a product: matrices, rows of them, or vectors."""
    element = element or g.element("MatMul")
    first = g.value(element, least=1, where=lambda value: value.shape[-1] > 0)
    inner, columns = first.shape[-1], g.draw.one([1, 2, 3, 5, 17])
    if g.draw.often(0.1):
        second = (inner,)
    else:
        second = (*g.partner(first.shape[:-2]), inner, columns)
    return g.node(operator, [first, g.value(element, second, constant=g.draw.often(0.6))])


def gemm(g):
    element = g.element("Gemm")
    first = g.value(element, least=2, most=2, where=lambda value: value.array.size)
    flip, flop = g.draw.count(0, 1), g.draw.count(0, 1)
    rows, inner = first.shape[::-1] if flip else first.shape
    columns = g.draw.one([1, 2, 3, 5])
    second = g.value(element, (columns, inner) if flop else (inner, columns), constant=g.draw.often(0.7))
    third = g.value(element, g.partner((rows, columns))) if g.draw.often(0.7) or g.opset < 11 else None
    whole = element not in ("float32", "float64", "float16")
    scales = {key: g.draw.one([None, 2.0 if whole else 0.5]) for key in ("alpha", "beta")}
    g.node("Gemm", [first, second, third], transA=flip or None, transB=flop or None, **scales)


EQUATIONS = {
    "ij,jk->ik": ("ab", "bc"), "bij,bjk->bik": ("dab", "dbc"), "ij->ji": ("ab",), "ij->i": ("ab",), "ij,ij->": ("ab", "ab"),
    "i,j->ij": ("a", "b"), "bhid,bhjd->bhij": ("deab", "decb"), "ij,kj": ("ab", "cb"), "...ij,...jk->...ik": ("dab", "bc"),
    "bij,kj->bki": ("dab", "cb"), "ii->i": ("aa",), "ijk->kji": ("abc",),
}


def einsum(g):
    element = g.element("Einsum", among=("float32", "float64", "int64", "int32"))
    equation = g.draw.one(list(EQUATIONS))
    sizes = {name: g.draw.one([1, 2, 3, 5]) for name in "abcde"}
    g.node("Einsum", [g.value(element, [sizes[name] for name in axes]) for axes in EQUATIONS[equation]], equation=equation)


class Window:
    """What convolutions and pools have in common: a kernel, strides, dilations and pads over one to three axes."""

    def __init__(self, g, axes=None, dilated=True):
        draw = g.draw
        self.axes = axes or draw.one([1, 2, 2, 2, 2, 3])
        self.kernel = [draw.one([1, 2, 3, 3]) for _ in range(self.axes)]
        self.strides = [draw.one([1, 1, 2, 3]) for _ in range(self.axes)]
        self.dilations = [draw.one([1, 1, 1, 2]) if dilated else 1 for _ in range(self.axes)]
        reach = [(size - 1) * by + 1 for size, by in zip(self.kernel, self.dilations)]
        self.image = [draw.count(size, size + 4) for size in reach]
        self.attributes = {"strides": draw.one([None, self.strides])}
        if dilated:
            self.attributes["dilations"] = self.dilations if max(self.dilations) > 1 else draw.one([None, self.dilations])
        padding = draw.one(["none", "pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"])
        if padding == "pads":
            self.attributes["pads"] = [draw.count(0, size - 1) for size in [*self.kernel, *self.kernel]]
        elif padding != "none" and max(self.dilations) == 1:
            self.attributes["auto_pad"] = padding


def convolution(g, element=None):
    """An image, weights and the attributes that go with them."""
    window, group = Window(g), g.draw.one([1, 1, 1, 2, 3])
    ins, outs = group * g.draw.one([1, 2, 3]), group * g.draw.one([1, 2, 5])
    if g.draw.often(0.2):
        group = outs = ins
    x = g.value(element, (g.draw.count(1, 2), ins, *window.image))
    w = g.value(element, (outs, ins // group, *window.kernel), constant=g.draw.often(0.9))
    attributes = {"kernel_shape": g.draw.one([None, window.kernel]), "group": group if group > 1 else None}
    return x, w, outs, window.attributes | attributes


def conv(g):
    element = g.element("Conv")
    x, w, outs, attributes = convolution(g, element)
    bias = g.value(element, (outs,), constant=g.draw.often(0.9)) if g.draw.often() else None
    g.node("Conv", [x, w, bias], **attributes)


def conv_transpose(g):
    element, window = g.element("ConvTranspose"), Window(g)
    group, ins, outs = g.draw.one([1, 1, 2]), g.draw.one([1, 2, 3]), g.draw.one([1, 2, 3])
    x = g.value(element, (g.draw.count(1, 2), group * ins, *window.image))
    w = g.value(element, (group * ins, outs, *window.kernel), constant=g.draw.often(0.9))
    bias = g.value(element, (group * outs,), constant=True) if g.draw.often() else None
    attributes = window.attributes | {"group": group if group > 1 else None}
    if attributes["strides"] and g.draw.often(0.3):
        attributes["output_padding"] = [g.draw.count(0, stride - 1) for stride in window.strides]
    g.node("ConvTranspose", [x, w, bias], **attributes)


def pool(operator):
    def generate(g):
        element = g.element(operator)
        dilated = g.opset >= {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[operator]
        window = Window(g, dilated=dilated)
        attributes = window.attributes | {"kernel_shape": window.kernel}
        if g.opset >= {"MaxPool": 10, "AveragePool": 10, "LpPool": 18}[operator] and "auto_pad" not in attributes:
            attributes["ceil_mode"] = g.draw.one([None, 0, 1])
        if operator == "AveragePool":
            attributes["count_include_pad"] = g.draw.one([None, 0, 1])
        if operator == "LpPool":
            attributes["p"] = g.draw.one([None, 1, 2, 3])
        x = g.value(element, (g.draw.count(1, 2), g.draw.count(1, 3), *window.image))
        both = operator == "MaxPool" and g.opset >= 8 and g.draw.often(0.2)
        g.node(operator, [x], 2 if both else 1, **attributes)
    return generate


def image(g, operator, least=3, most=5):
    return g.value(g.element(operator), least=least, most=most, where=lambda value: value.array.size)


def whole_pool(operator):
    def generate(g):
        p = g.draw.one([None, 1, 2, 3]) if operator == "GlobalLpPool" else None
        g.node(operator, [image(g, operator)], p=p)
    return generate


def epsilon(g):
    return g.draw.one([None, 1e-3])


def batch_normalization(g):
    x = image(g, "BatchNormalization", 2)
    given = [g.value(x.element, (x.shape[1],), constant=True) for _ in range(3)]
    variance = g.value(x.element, (x.shape[1],), low=0.1, high=2, constant=True)
    g.node("BatchNormalization", [x, *given, variance], epsilon=epsilon(g))


def instance_normalization(g):
    x = image(g, "InstanceNormalization")
    given = [g.value(x.element, (x.shape[1],), constant=g.draw.often(0.8)) for _ in range(2)]
    g.node("InstanceNormalization", [x, *given], epsilon=epsilon(g))


def layer_normalization(operator):
    def generate(g):
        x = g.value(g.element(operator), least=1, where=lambda value: value.array.size)
        axis = g.axis(x.rank)
        scale = g.value(x.element, x.shape[axis:], constant=g.draw.often(0.8))
        bias = g.value(x.element, x.shape[axis:]) if operator == "LayerNormalization" and g.draw.often() else None
        g.node(operator, [x, scale, bias], axis=axis, epsilon=epsilon(g))
    return generate


def group_normalization(g):
    element, groups, each = g.element("GroupNormalization"), g.draw.count(1, 3), g.draw.count(1, 3)
    x = g.value(element, (g.draw.count(1, 2), groups * each, *g.shape(1, 2)))
    size = groups * each if g.opset >= 21 else groups
    given = [g.value(element, (size,), constant=g.draw.often(0.8)) for _ in range(2)]
    g.node("GroupNormalization", [x, *given], num_groups=groups, epsilon=epsilon(g))


def local_response(g):
    x = g.value(g.element("LRN"), least=3, most=4, where=lambda value: value.array.size)
    drawn = {"alpha": 0.01, "beta": 0.5, "bias": 2.0}
    g.node("LRN", [x], size=g.draw.one([1, 3, 5]), **{key: g.draw.one([None, value]) for key, value in drawn.items()})


def lp_normalization(g):
    x = g.value(g.element("LpNormalization"), least=1)
    g.node("LpNormalization", [x], axis=g.draw.one([None, g.axis(x.rank)]), p=g.draw.one([None, 1, 2]))


def mean_variance(g):
    x = g.value(g.element("MeanVarianceNormalization"), least=4, most=4, where=lambda value: value.array.size)
    g.node("MeanVarianceNormalization", [x], axes=g.draw.one([None, [0, 1, 2, 3], [2, 3], [1]]))


def dropout(g):
    x = g.value(g.element("Dropout"))
    if g.opset < 12:
        return g.node("Dropout", [x], ratio=g.draw.one([None, 0.3]))
    ratio = g.new(numpy.array(0.3, numpy.float32), True) if g.draw.often() else None
    return g.node("Dropout", [x, ratio, g.new(numpy.array(False), True) if ratio and g.draw.often() else None])


def recurrent(operator, gates):
    """An LSTM, a GRU or an RNN, with and without what is optional."""
    def generate(g):
        element, hidden, inputs = g.element(operator, among=("float32", "float64")), g.draw.count(1, 3), g.draw.count(1, 3)
        steps, batch = g.draw.count(1, 4), g.draw.count(1, 3)
        direction = g.draw.one([None, "forward", "reverse", "bidirectional"])
        ways = 2 if direction == "bidirectional" else 1
        sizes = [(ways, gates * hidden, inputs), (ways, gates * hidden, hidden), (ways, 2 * gates * hidden)]
        x = g.value(element, (steps, batch, inputs))
        weights = [g.value(element, size, constant=g.draw.often(0.95)) for size in sizes]
        weights[2] = weights[2] if g.draw.often(0.7) else None
        lengths = g.new(g.numbers("int32", (batch,), 1, steps), True) if g.draw.often(0.15) else None
        states = [g.value(element, (ways, batch, hidden)) if g.draw.often(0.4) else None for _ in range(2)]
        peephole = g.value(element, (ways, 3 * hidden), constant=True) if operator == "LSTM" and g.draw.often(0.15) else None
        given = [x, *weights, lengths, *(states if operator == "LSTM" else states[:1]), peephole]
        attributes = {"hidden_size": hidden, "direction": direction}
        if operator == "GRU":
            attributes["linear_before_reset"] = g.draw.one([None, 0, 1])
        if g.draw.often(0.2):
            each = {"LSTM": ["Sigmoid", "Tanh", "Relu"], "GRU": ["Sigmoid", "Relu"], "RNN": ["Relu"]}[operator]
            attributes["activations"] = each * ways
        if g.draw.often(0.05):
            attributes["clip"] = 0.5
        g.node(operator, given, 3 if operator == "LSTM" else 2, **attributes)
    return generate


def resize(g):
    """By scales or to sizes; what each operator set allows."""
    operator = "Upsample" if g.opset < 10 else "Resize"
    x = g.value(g.element(operator, "T" if g.opset < 11 else "T1"), least=4 if g.draw.often(0.7) else 2, most=4,
                where=lambda value: value.array.size)
    mode = g.draw.one([None, "nearest", "linear", *(["cubic"] if g.opset >= 11 else [])])
    ones = 2 if x.rank == 4 else 0
    scales = [1.0] * ones + [g.draw.one([1.0, 2.0, 0.5, 1.5, 3.0, 0.6]) for _ in range(x.rank - ones)]
    if operator == "Upsample":
        scales = [max(scale, 1.0) for scale in scales]
        if g.opset < 9:
            return g.node("Upsample", [x], scales=scales, mode=mode)
        return g.node("Upsample", [x, g.parameter(numpy.array(scales, numpy.float32))], mode=mode)
    given = g.parameter(numpy.array(scales, numpy.float32))
    if g.opset < 11:
        return g.node("Resize", [x, given], mode=mode)
    ways = ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", *(["half_pixel_symmetric"] if g.opset >= 19 else [])]
    attributes = {"mode": mode, "coordinate_transformation_mode": g.draw.one([None, *ways])}
    if attributes["coordinate_transformation_mode"] == "align_corners":
        # Of a size with a fraction the standard and ONNX Runtime take different last places.
        scales = [float(int(scale)) or 1.0 for scale in scales]
        given = g.parameter(numpy.array(scales, numpy.float32))
    if mode in (None, "nearest"):
        attributes["nearest_mode"] = g.draw.one([None, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if mode == "cubic":
        attributes |= {"cubic_coeff_a": g.draw.one([None, -0.5]), "exclude_outside": g.draw.one([None, 0, 1])}
    if g.opset >= 18 and mode in ("linear", "cubic"):
        attributes["antialias"] = g.draw.one([None, 0, 1])
    roi = g.new(numpy.zeros(0, x.element if x.element in ("float32", "float64", "float16") else "float32"), True)
    if g.draw.often(0.4):
        sizes = [max(1, int(size * scale)) for size, scale in zip(x.shape, scales)]
        empty = g.new(numpy.zeros(0, numpy.float32), True) if g.opset < 13 else None
        return g.node("Resize", [x, roi if g.opset < 13 else None, empty, g.parameter(numpy.array(sizes, WHOLE))], **attributes)
    return g.node("Resize", [x, roi if g.opset < 13 else None, given], **attributes)


def grid_sample(g):
    element = g.element("GridSample", "T1", ("float32", "float64"))
    x = g.value(element, (g.draw.count(1, 2), g.draw.count(1, 2), g.draw.count(1, 4), g.draw.count(1, 4)))
    grid = g.value("float32" if g.opset < 20 else element, (x.shape[0], 2, 3, 2), low=-1.5, high=1.5)
    modes = ["linear", "nearest", "cubic"] if g.opset >= 20 else ["bilinear", "nearest", "bicubic"]
    padding = g.draw.one([None, "zeros", "border", "reflection"])
    g.node("GridSample", [x, grid], mode=g.draw.one([None, *modes]), padding_mode=padding, align_corners=g.draw.one([None, 0, 1]))


def fourier(g):
    x = g.value("float32", (g.draw.count(1, 2), g.draw.count(1, 8), g.draw.one([1, 2])))
    ways = {"inverse": g.draw.one([None, 0, 1]), "onesided": g.draw.one([None, 0])}
    if g.opset >= 20:
        return g.node("DFT", [x, None, g.parameter(numpy.array(1, WHOLE))], **ways)
    return g.node("DFT", [x], axis=1, **ways)


def suppression(g):
    boxes, classes, batches = g.draw.count(1, 6), g.draw.count(1, 2), g.draw.count(1, 2)
    corners = numpy.sort(g.draw.random.rand(batches, boxes, 2, 2), 2).reshape(batches, boxes, 4).astype(numpy.float32)
    scores = g.draw.random.permutation(batches * classes * boxes).reshape(batches, classes, boxes).astype(numpy.float32)
    limits = [numpy.array([g.draw.count(1, 4)], WHOLE), numpy.array([0.4], numpy.float32), numpy.array([1.0], numpy.float32)]
    given = [g.new(corners, False), g.new(scores, False), *(g.new(limit, True) for limit in limits)]
    g.node("NonMaxSuppression", given, center_point_box=g.draw.one([None, 0, 1]))


# Whole numbers for real ones.


def zero_point(g, element, shape=()):
    info = numpy.iinfo(element)
    return g.new(g.numbers(element, shape, max(info.min, -10), min(info.max, 130 if info.min == 0 else 10)), g.draw.often(0.95))


def scale(g, shape=(), element="float32", odd=(1, 1.3)):
    """Powers of two, whose products are exact, and others."""
    return g.new((2.0 ** g.draw.random.randint(-6, 0, shape) * g.draw.one(odd)).astype(element).reshape(shape), g.draw.often(0.95))


def matmul_integer(g):
    first = g.value(g.element("MatMulInteger", "T1"), least=2, most=3, where=lambda value: value.array.size)
    kind = g.element("MatMulInteger", "T2")
    second = g.value(kind, (first.shape[-1], g.draw.count(1, 5)), constant=g.draw.often(0.8))
    zeros = [zero_point(g, value.element) if g.draw.often() else None for value in (first, second)]
    g.node("MatMulInteger", [first, second, *zeros])


def conv_integer(g):
    x, w, _, attributes = convolution(g, "uint8")
    zeros = [zero_point(g, "uint8") if g.draw.often() else None for _ in range(2)]
    g.node("ConvInteger", [x, w, *zeros], **attributes)


def quantised_product(g):
    """QLinearMatMul."""
    element = g.draw.one(["uint8", "int8"])
    first = g.value(element, least=2, most=3, where=lambda value: value.array.size)
    second = g.value(g.draw.one([element, "int8"]), (first.shape[-1], g.draw.count(1, 5)), constant=g.draw.often(0.8))
    sides = [[value, scale(g, odd=[1]), zero_point(g, value.element)] for value in (first, second)]
    g.node("QLinearMatMul", [*sides[0], *sides[1], scale(g, odd=[1]), zero_point(g, element)])


def quantised_convolution(g):
    element = g.draw.one(["uint8", "int8"])
    x, w, outs, attributes = convolution(g, element)
    per = (outs,) if g.draw.often(0.3) else ()
    zero = g.new(numpy.zeros(per, element), True) if per else zero_point(g, element)
    bias = g.value("int32", (outs,), low=-200, high=200, constant=True) if g.draw.often() else None
    sides = [scale(g, odd=[1]), scale(g, per, odd=[1]), scale(g, odd=[1])]
    given = [x, sides[0], zero_point(g, element), w, sides[1], zero, sides[2], zero_point(g, element), bias]
    g.node("QLinearConv", given, **attributes)


def quantise(g):
    x = g.value(g.element("QuantizeLinear", "T1", ("float32", "float16") if g.opset >= 19 else ("float32",)))
    element = g.draw.one(["uint8", "int8", *(["int16", "uint16"] if g.opset >= 21 else [])])
    axis = g.axis(x.rank) if x.rank and g.opset >= 13 and g.draw.often(0.4) else None
    shape = () if axis is None else (x.shape[axis],)
    zero = zero_point(g, element, shape) if g.draw.often(0.8) or element != "uint8" else None
    g.node("QuantizeLinear", [x, scale(g, shape, x.element), zero], axis=axis)


def dequantise(g):
    x = g.value(g.draw.one(["uint8", "int8", "int32", *(["int16", "uint16"] if g.opset >= 21 else [])]))
    axis = g.axis(x.rank) if x.rank and g.opset >= 13 and g.draw.often(0.4) else None
    shape = () if axis is None else (x.shape[axis],)
    zero = zero_point(g, x.element, shape) if g.draw.often(0.8) and x.element != "int32" else None
    g.node("DequantizeLinear", [x, scale(g, shape, g.draw.one(["float32", "float16"]) if g.opset >= 19 else "float32"), zero], axis=axis)


def dynamic_quantise(g):
    x = g.value("float32", where=lambda value: value.array.size)
    if x.array.size == 0 or not numpy.isfinite(x.array).all():
        raise Refused("no range")
    g.node("DynamicQuantizeLinear", [x], 3)


OPERATORS = {
    "MatMul": matmul, "Gemm": gemm, "Einsum": einsum, "Conv": conv, "ConvTranspose": conv_transpose,
    **{name: pool(name) for name in ("MaxPool", "AveragePool", "LpPool")},
    **{name: whole_pool(name) for name in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")},
    "BatchNormalization": batch_normalization, "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization("LayerNormalization"),
    "RMSNormalization": layer_normalization("RMSNormalization"), "GroupNormalization": group_normalization,
    "LRN": local_response, "LpNormalization": lp_normalization, "MeanVarianceNormalization": mean_variance,
    "Dropout": dropout, "LSTM": recurrent("LSTM", 4), "GRU": recurrent("GRU", 3), "RNN": recurrent("RNN", 1),
    "Resize": resize, "GridSample": grid_sample, "DFT": fourier, "NonMaxSuppression": suppression,
    "MatMulInteger": matmul_integer, "ConvInteger": conv_integer, "QLinearMatMul": quantised_product,
    "QLinearConv": quantised_convolution, "QuantizeLinear": quantise, "DequantizeLinear": dequantise,
    "DynamicQuantizeLinear": dynamic_quantise,
}
