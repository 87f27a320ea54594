"""Models written by hand, one or two for each operator set from 7 to 23: what exporters of its time wrote.

Each function gives a model; weights are drawn with a seed, so that everybody gets the same file.
"""

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL, UINT8, STRING = (
    TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.UINT8, TensorProto.STRING
)


class Graph:
    """Nodes as they are added, with the constants that they need."""

    def __init__(self, opset, seed=0):
        self.opset, self.random = opset, numpy.random.RandomState(seed or opset)
        self.nodes, self.constants, self.count = [], [], 0

    def weight(self, *shape, scale=None):
        fan = max(1, int(numpy.prod(shape[1:])))
        values = self.random.standard_normal(shape) * (scale or (2.0 / fan) ** 0.5)
        return self.constant(values.astype(numpy.float32))

    def constant(self, values):
        self.count += 1
        name = f"c{self.count}"
        self.constants.append(numpy_helper.from_array(numpy.asarray(values), name))
        return name

    def ints(self, *values):
        return self.constant(numpy.array(values, numpy.int64))

    def add(self, operator, *inputs, outputs=1, domain="", **attributes):
        self.count += 1
        names = [f"t{self.count}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def model(self, inputs, outputs, weights_among_inputs=False, domains=()):
        """`outputs` are (inner name, outer name, type, shape)."""
        for inner, outer, *_ in outputs:
            self.nodes.append(helper.make_node("Identity", [inner], [outer]))
        given = [helper.make_tensor_value_info(*port) for port in inputs]
        if weights_among_inputs:
            given += [helper.make_tensor_value_info(c.name, c.data_type, list(c.dims)) for c in self.constants]
        graph = helper.make_graph(
            self.nodes, "main", given, [helper.make_tensor_value_info(*port[1:]) for port in outputs], self.constants
        )
        sets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(*domain) for domain in domains)]
        # As old as goes with the operator set, which is what an exporter of its time would have written.
        model = helper.make_model(graph, opset_imports=sets, producer_name="by hand")
        model.ir_version = max(3, helper.find_min_ir_version_for(sets))
        onnx.checker.check_model(model)
        return model


def norm(g, x, channels):
    scale = g.constant(numpy.abs(g.random.standard_normal(channels)).astype(numpy.float32) + 0.5)
    variance = g.constant(numpy.abs(g.random.standard_normal(channels)).astype(numpy.float32) + 0.5)
    return g.add("BatchNormalization", x, scale, g.weight(channels), g.weight(channels), variance)


def conv(g, x, ins, outs, kernel=3, **attributes):
    attributes.setdefault("pads", [kernel // 2] * 4)
    group = attributes.get("group", 1)
    weight = g.weight(outs, ins // group, kernel, kernel)
    return g.add("Conv", x, weight, g.weight(outs, scale=0.1), kernel_shape=[kernel] * 2, **attributes)


def vgg7():
    """Weights are inputs as well, as they had to be; Dropout is left in."""
    g = Graph(7)
    x = "image"
    for ins, outs in ((3, 16), (16, 32), (32, 64)):
        x = g.add("Relu", norm(g, conv(g, x, ins, outs), outs))
        x = g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g.add("Reshape", x, g.ints(0, -1))
    x = g.add("Relu", g.add("Gemm", x, g.weight(64 * 16, 64, scale=0.03), g.weight(64, scale=0.1)))
    x = g.add("Softmax", g.add("Gemm", g.add("Dropout", x, ratio=0.5), g.weight(64, 10), g.weight(10)), axis=1)
    ports = [("image", FLOAT, ["N", 3, 32, 32])], [(x, "prob", FLOAT, ["N", 10])]
    return g.model(*ports, weights_among_inputs=True)


def lrn8():
    """AlexNet's habits: LRN, groups, ceil-less pools, Flatten."""
    g = Graph(8)
    x = g.add("Relu", conv(g, "data", 3, 24, 11, strides=[4, 4], pads=[2] * 4))
    x = g.add("MaxPool", g.add("LRN", x, size=5, alpha=1e-4, beta=0.75), kernel_shape=[3, 3], strides=[2, 2])
    x = g.add("Relu", conv(g, x, 24, 32, 5, group=2))
    x = g.add("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=1)
    x = g.add("Flatten", x, axis=1)
    x = g.add("Gemm", x, g.weight(10, 32 * 16), g.weight(10), transB=1, alpha=0.5, beta=2.0)
    ports = [("data", FLOAT, ["N", 3, 64, 64])], [(g.add("Softmax", x), "prob", FLOAT, ["N", 10])]
    return g.model(*ports, weights_among_inputs=True)


def unet9():
    """Upsample with sizes from a constant, ConstantOfShape, Where, and a skip."""
    g = Graph(9)
    a = g.add("Relu", conv(g, "image", 3, 16))
    b = g.add("Relu", conv(g, g.add("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), 16, 32))
    up = g.add("Upsample", b, g.constant(numpy.array([1, 1, 2, 2], numpy.float32)), mode="nearest")
    x = g.add("Relu", conv(g, g.add("Concat", up, a, axis=1), 48, 16))
    x = conv(g, x, 16, 1, 1)
    zero = g.add("ConstantOfShape", g.add("Shape", x))
    positive = g.add("Greater", x, zero)
    x = g.add("Where", positive, g.add("Sigmoid", x), zero)
    return g.model([("image", FLOAT, ["N", 3, 64, 64])], [(x, "mask", FLOAT, ["N", 1, 64, 64])])


def char_lstm9():
    """Letters by Gather, a bidirectional LSTM, the last step's state into classes."""
    g = Graph(9, 99)
    x = g.add("Transpose", g.add("Gather", g.weight(64, 24, scale=0.5), "ids"), perm=[1, 0, 2])
    weights = g.weight(2, 4 * 32, 24), g.weight(2, 4 * 32, 32), g.weight(2, 8 * 32, scale=0.1)
    _, h, _ = g.add("LSTM", x, *weights, outputs=3, hidden_size=32, direction="bidirectional")
    x = g.add("Reshape", g.add("Transpose", h, perm=[1, 0, 2]), g.ints(0, -1))
    x = g.add("MatMul", x, g.weight(64, 5))
    return g.model([("ids", INT64, ["N", "length"])], [(x, "logits", FLOAT, ["N", 5])])


def detector10():
    """Boxes, TopK and NonMaxSuppression of one class, as SSD's tail has them; ten answers, padded."""
    g = Graph(10)
    x = g.add("Relu", conv(g, "image", 3, 16, strides=[2, 2]))
    scores = g.add("Sigmoid", g.add("Reshape", conv(g, x, 16, 1), g.ints(0, -1)))
    best, where = g.add("TopK", scores, g.ints(10), outputs=2, axis=1)
    boxes = g.add("Reshape", g.add("Transpose", conv(g, x, 16, 4), perm=[0, 2, 3, 1]), g.ints(0, -1, 4))
    boxes = g.add("Sigmoid", g.add("Gather", g.add("Squeeze", boxes, axes=[0]), g.add("Squeeze", where, axes=[0]), axis=0))
    outputs = [(best, "scores", FLOAT, [1, 10]), (where, "cells", INT64, [1, 10]), (boxes, "boxes", FLOAT, [10, 4])]
    return g.model([("image", FLOAT, [1, 3, 32, 32])], outputs)


def qlinear10():
    """QLinearConv and QLinearMatMul, as the first quantisers wrote them."""
    g = Graph(10, 100)
    u8 = lambda value: g.constant(numpy.uint8(value))  # noqa: E731
    f32 = lambda value: g.constant(numpy.float32(value))  # noqa: E731
    xs, xz, ys, yz, ws, wz = f32(0.03), u8(128), f32(0.08), u8(120), f32(0.02), u8(128)
    q = g.add("QuantizeLinear", "image", xs, xz)
    weight = g.constant(g.random.randint(90, 166, (8, 3, 3, 3)).astype(numpy.uint8))
    q = g.add("QLinearConv", q, xs, xz, weight, ws, wz, ys, yz, kernel_shape=[3, 3], pads=[1] * 4)
    q = g.add("Reshape", q, g.ints(0, -1))
    matrix = g.constant(g.random.randint(100, 156, (8 * 256, 6)).astype(numpy.uint8))
    zs, zz = f32(0.2), u8(128)
    q = g.add("QLinearMatMul", q, ys, yz, matrix, ws, wz, zs, zz)
    return g.model([("image", FLOAT, ["N", 3, 16, 16])], [(g.add("DequantizeLinear", q, zs, zz), "y", FLOAT, ["N", 6])])


def resize11():
    """A pyramid: linear Resize to another map's size, which is read from its shape; Pad and Clip with inputs."""
    g = Graph(11)
    a = g.add("Relu", conv(g, "image", 3, 8))
    b = conv(g, g.add("MaxPool", a, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=1), 8, 8)
    none = g.constant(numpy.zeros(0, numpy.float32))
    size = g.add("Concat", g.add("Slice", g.add("Shape", b), g.ints(0), g.ints(2)),
                 g.add("Slice", g.add("Shape", a), g.ints(2), g.ints(4)), axis=0)
    up = g.add("Resize", b, none, none, size, mode="linear", coordinate_transformation_mode="half_pixel")
    x = g.add("Pad", g.add("Add", a, up), g.ints(0, 0, 1, 2, 0, 0, 3, 4), g.constant(numpy.float32(0.5)), mode="constant")
    x = g.add("Clip", x, g.constant(numpy.float32(-1)), g.constant(numpy.float32(6)))
    return g.model([("image", FLOAT, ["N", 3, "H", "W"])], [(x, "y", FLOAT, ["N", 8, "h", "w"])])


def loop11():
    """A Loop of four turns, written out by an exporter that did not unroll: a cell, stacked outputs."""
    g = Graph(11, 111)
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "cell"], ["moved"]),
            helper.make_node("Tanh", ["moved"], ["next"]),
            helper.make_node("Identity", ["going"], ["goes"]),
            helper.make_node("Identity", ["next"], ["step"]),
        ],
        "body",
        [helper.make_tensor_value_info(*port) for port in (("i", INT64, []), ("going", BOOL, []), ("state", FLOAT, None))],
        [helper.make_tensor_value_info(*port) for port in (("goes", BOOL, []), ("next", FLOAT, None), ("step", FLOAT, None))],
        [numpy_helper.from_array(g.random.standard_normal((16, 16)).astype(numpy.float32) * 0.4, "cell")],
    )
    last, steps = g.add("Loop", g.constant(numpy.int64(4)), g.constant(numpy.bool_(True)), "x", outputs=2, body=body)
    return g.model([("x", FLOAT, ["N", 16])], [(last, "last", FLOAT, ["N", 16]), (steps, "steps", FLOAT, [4, "N", 16])])


def attention12():
    """Heads by Einsum, GatherND and the comparisons of set 12."""
    g = Graph(12)
    q, k, v = (g.add("Reshape", g.add("MatMul", "x", g.weight(32, 32)), g.ints(0, 0, 4, 8)) for _ in range(3))
    scores = g.add("Mul", g.add("Einsum", q, k, equation="bihd,bjhd->bhij"), g.constant(numpy.float32(8 ** -0.5)))
    x = g.add("Einsum", g.add("Softmax", scores, axis=3), v, equation="bhij,bjhd->bihd")
    x = g.add("Reshape", x, g.ints(0, 0, 32))
    large = g.add("GreaterOrEqual", x, g.constant(numpy.float32(0)))
    x = g.add("Where", large, x, g.add("Celu", x, alpha=2.0))
    best = g.add("ArgMax", x, axis=2, keepdims=0, select_last_index=0)
    return g.model(
        [("x", FLOAT, ["N", "length", 32])],
        [(x, "y", FLOAT, ["N", "length", 32]), (best, "best", INT64, ["N", "length"])],
    )


def qdq13():
    """Weights of 8 bits, an axis at a time, with softmax and axes as inputs."""
    g = Graph(13)

    def layer(x, ins, outs):
        weight = g.constant(g.random.randint(-127, 128, (outs, ins, 3, 3)).astype(numpy.int8))
        scale = g.constant((g.random.rand(outs) * 0.01 + 0.001).astype(numpy.float32))
        weight = g.add("DequantizeLinear", weight, scale, g.constant(numpy.zeros(outs, numpy.int8)), axis=0)
        return g.add("Relu", g.add("Conv", x, weight, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]))

    x = layer(layer("image", 3, 16), 16, 32)
    x = g.add("ReduceSum", x, g.ints(2, 3), keepdims=1)
    x = g.add("Squeeze", x, g.ints(2, 3))
    return g.model([("image", FLOAT, ["N", 3, 32, 32])], [(g.add("Softmax", x, axis=-1), "prob", FLOAT, ["N", 32])])


def gru14():
    """A causal mask by Trilu, CumSum, HardSwish and a GRU that resets before."""
    g = Graph(14)
    x = g.add("HardSwish", g.add("MatMul", "x", g.weight(16, 24)))
    seq = g.add("Transpose", x, perm=[1, 0, 2])
    weights = g.weight(1, 72, 24), g.weight(1, 72, 24), g.weight(1, 144, scale=0.1)
    y, h = g.add("GRU", seq, *weights, outputs=2, hidden_size=24, linear_before_reset=1)
    y = g.add("Transpose", g.add("Squeeze", y, g.ints(1)), perm=[1, 0, 2])
    masked = g.add("Trilu", g.add("MatMul", y, g.add("Transpose", y, perm=[0, 2, 1])), upper=0)
    total = g.add("CumSum", y, g.constant(numpy.int64(1)))
    return g.model(
        [("x", FLOAT, ["N", "length", 16])],
        [(masked, "pairs", FLOAT, ["N", "length", "length"]), (total, "total", FLOAT, ["N", "length", 24]),
         (h, "state", FLOAT, [1, "N", 24])],
    )


def shapes15():
    """Shape from a start, Pow of mixed types, a reshape by what comes of it."""
    g = Graph(15)
    x = g.add("Pow", g.add("Abs", "x"), g.constant(numpy.int64(2)))
    rest = g.add("Shape", x, start=1)
    length = g.add("ReduceProd", rest, keepdims=1)
    flat = g.add("Reshape", x, g.add("Concat", g.ints(-1), length, axis=0))
    mean = g.add("ReduceMean", flat, axes=[1], keepdims=1)
    return g.model([("x", FLOAT, ["N", "C", 6])], [(g.add("Div", flat, mean), "y", FLOAT, ["N", "flat"])])


def warp16():
    """GridSample, PRelu, ScatterElements that adds, LessOrEqual."""
    g = Graph(16)
    x = g.add("PRelu", conv(g, "image", 3, 8), g.constant(numpy.full((8, 1, 1), 0.2, numpy.float32)))
    x = g.add("GridSample", x, "grid", mode="bilinear", padding_mode="border", align_corners=0)
    counts = g.constant(numpy.zeros((1, 8, 4, 4), numpy.float32))
    where = g.constant(g.random.randint(0, 4, (1, 8, 4, 4)))
    added = g.add("ScatterElements", counts, where, g.add("Slice", x, g.ints(0), g.ints(1), g.ints(0)), axis=2, reduction="add")
    return g.model(
        [("image", FLOAT, ["N", 3, 16, 16]), ("grid", FLOAT, ["N", 4, 4, 2])],
        [(x, "warped", FLOAT, ["N", 8, 4, 4]), (added, "sums", FLOAT, [1, 8, 4, 4])],
    )


def encoder17():
    """A transformer's block with LayerNormalization and GELU spelt out."""
    g = Graph(17)
    h = g.add("LayerNormalization", "x", g.weight(48, scale=1.0), g.weight(48, scale=0.1), axis=-1)
    qkv = g.add("MatMul", h, g.weight(48, 144, scale=0.1))
    qkv = g.add("Transpose", g.add("Reshape", qkv, g.ints(0, 0, 3, 4, 12)), perm=[2, 0, 3, 1, 4])
    q, k, v = (g.add("Gather", qkv, g.constant(numpy.int64(i)), axis=0) for i in range(3))
    scores = g.add("Mul", g.add("MatMul", q, g.add("Transpose", k, perm=[0, 1, 3, 2])), g.constant(numpy.float32(12 ** -0.5)))
    y = g.add("Transpose", g.add("MatMul", g.add("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    x = g.add("Add", "x", g.add("MatMul", g.add("Reshape", y, g.ints(0, 0, -1)), g.weight(48, 48, scale=0.1)))
    f = g.add("MatMul", x, g.weight(48, 96, scale=0.1))
    erf = g.add("Erf", g.add("Div", f, g.constant(numpy.float32(2 ** 0.5))))
    f = g.add("Mul", g.add("Mul", f, g.add("Add", erf, g.constant(numpy.float32(1)))), g.constant(numpy.float32(0.5)))
    x = g.add("Add", x, g.add("MatMul", f, g.weight(96, 48, scale=0.1)))
    return g.model([("x", FLOAT, ["N", "length", 48])], [(x, "y", FLOAT, ["N", "length", 48])])


def spectrum17():
    """Sound to a logarithmic spectrum: STFT and a window."""
    g = Graph(17, 170)
    window = g.add("HannWindow", g.constant(numpy.int64(256)), periodic=1)
    s = g.add("STFT", g.add("Unsqueeze", "sound", g.ints(2)), g.constant(numpy.int64(128)), window)
    power = g.add("ReduceSum", g.add("Mul", s, s), g.ints(3), keepdims=0)
    mel = g.add("MatMul", power, g.constant(numpy.abs(g.random.standard_normal((129, 20))).astype(numpy.float32)))
    x = g.add("Log", g.add("Add", mel, g.constant(numpy.float32(1e-6))))
    return g.model([("sound", FLOAT, ["N", 2048])], [(x, "mel", FLOAT, ["N", 15, 20])])


def blocks18():
    """Mish, Split by number, reductions with axes as inputs, cubic Resize with its antialiasing off."""
    g = Graph(18)
    x = g.add("Mish", conv(g, "image", 3, 12))
    a, b, c = g.add("Split", x, outputs=3, axis=1, num_outputs=3)
    x = g.add("Concat", g.add("Mul", a, b), g.add("Max", b, c), axis=1)
    scales = g.constant(numpy.array([1, 1, 0.5, 0.5], numpy.float32))
    x = g.add("Resize", x, "", scales, mode="cubic", cubic_coeff_a=-0.75, coordinate_transformation_mode="pytorch_half_pixel")
    peak = g.add("ReduceMax", x, g.ints(2, 3), keepdims=0)
    spread = g.add("ReduceL2", x, g.ints(2, 3), keepdims=0)
    return g.model(
        [("image", FLOAT, ["N", 3, 16, 16])],
        [(peak, "peak", FLOAT, ["N", 8]), (spread, "spread", FLOAT, ["N", 8])],
    )


def pool19():
    """Pools of set 19 and casts to and from whole numbers."""
    g = Graph(19)
    x = g.add("AveragePool", conv(g, "image", 3, 8), kernel_shape=[3, 3], dilations=[2, 2], count_include_pad=0, pads=[2] * 4)
    # Of what was not computed in some order of its own: a cast cuts off, and a hair's breadth is a whole number.
    pooled = g.add("MaxPool", "image", kernel_shape=[3, 3], pads=[1] * 4)
    whole = g.add("Cast", g.add("Mul", pooled, g.constant(numpy.float32(100))), to=TensorProto.INT32)
    back = g.add("Cast", g.add("Mod", whole, g.constant(numpy.int32(7))), to=FLOAT)
    y = g.add("GlobalAveragePool", g.add("Concat", x, back, axis=1))
    return g.model([("image", FLOAT, ["N", 3, 20, 20])], [(y, "y", FLOAT, ["N", 11, 1, 1])])


def gelu20():
    """Gelu as an operator, both ways, and ReduceMin of bytes."""
    g = Graph(20)
    x = g.add("Gelu", g.add("Gemm", "x", g.weight(32, 64, scale=0.2), g.weight(64, scale=0.1)))
    x = g.add("Gelu", g.add("Gemm", x, g.weight(64, 32, scale=0.2), g.weight(32, scale=0.1)), approximate="tanh")
    bad = g.add("IsNaN", x)
    return g.model([("x", FLOAT, ["N", 32])], [(g.add("Where", bad, g.constant(numpy.float32(0)), x), "y", FLOAT, ["N", 32])])


def group21():
    """GroupNormalization of set 21 and a residual."""
    g = Graph(21)
    x = conv(g, "image", 3, 16)
    y = g.add("GroupNormalization", x, g.weight(16, scale=1.0), g.weight(16, scale=0.1), num_groups=4)
    y = g.add("Add", x, g.add("Mul", y, g.add("Sigmoid", y)))
    return g.model([("image", FLOAT, ["N", 3, 24, 24])], [(y, "y", FLOAT, ["N", 16, 24, 24])])


def mobile22():
    """An inverted bottleneck with squeeze and excitation, as today's exporters write set 22."""
    g = Graph(22)
    x = g.add("HardSwish", conv(g, "image", 3, 16, strides=[2, 2]))
    y = g.add("HardSwish", conv(g, x, 16, 48, 1))
    y = conv(g, y, 48, 48, group=48)
    s = g.add("Relu", conv(g, g.add("GlobalAveragePool", y), 48, 12, 1))
    y = g.add("Mul", y, g.add("HardSigmoid", conv(g, s, 12, 48, 1), alpha=1 / 6, beta=0.5))
    x = g.add("Add", x, conv(g, y, 48, 16, 1))
    x = g.add("Flatten", g.add("GlobalAveragePool", x))
    return g.model([("image", FLOAT, ["N", 3, 64, 64])], [(g.add("Gemm", x, g.weight(16, 10)), "logits", FLOAT, ["N", 10])])


def decoder23():
    """Attention, RMSNormalization: a language model's block in set 23."""
    g = Graph(23)
    h = g.add("RMSNormalization", "x", g.weight(32, scale=1.0), axis=-1)
    q, k, v = (g.add("MatMul", h, g.weight(32, 32, scale=0.2)) for _ in range(3))
    y = g.add("Attention", q, k, v, q_num_heads=4, kv_num_heads=4, is_causal=1)
    x = g.add("Add", "x", g.add("MatMul", y, g.weight(32, 32, scale=0.2)))
    return g.model([("x", FLOAT, ["N", "length", 32])], [(x, "y", FLOAT, ["N", "length", 32])])


MODELS = {
    each.__name__: each for each in (
        vgg7, lrn8, unet9, char_lstm9, detector10, qlinear10, resize11, loop11, attention12, qdq13, gru14, shapes15, warp16,
        encoder17, spectrum17, blocks18, pool19, gelu20, group21, mobile22, decoder23,
    )
}


def build(name):
    return MODELS[name]()
