"""Cases of our own beside the standard's: the operators that ONNX Runtime's optimiser and quantiser write.

Each is one node drawn with a seed, in one of the forms that its schema allows. What is right is what ONNX Runtime
answers on one thread; what it refuses is no case. What is quantised may differ by a step where a sum lies between
two: `ALLOWED` says so, by operator.
"""

import json

import numpy
import onnx
import onnxruntime
from contrib_attention import ATTENTION
from contrib_nodes import BYTES, FLOAT, floats, node, scale, small, steps, weight, zero
from ml_cases import Draw
from onnx import helper, numpy_helper

# Of each operator.
CASES = 12
def gelu(draw):
    operator = draw.one(["Gelu", "QuickGelu", "FastGelu", "BiasGelu"])
    slots = {"x": floats(draw, 2, 3, 5) * 3}
    if operator == "BiasGelu" or operator == "FastGelu" and draw.often():
        slots["bias"] = floats(draw, 5)
    attributes = {"alpha": draw.one([1.0, 1.702])} if operator == "QuickGelu" and draw.often() else {}
    return node(operator, slots, {"y": FLOAT}, attributes, given=("x",))


def convolution(draw, quantised=False):
    """Attributes, and shapes of picture, weights and bias."""
    axes, group = draw.one([1, 2, 2]), draw.one([1, 1, 2])
    kernel = [draw.count(1, 3) for _ in range(axes)]
    picture = (draw.count(1, 2), 4, *(draw.count(5, 8) for _ in range(axes)))
    attributes = {"group": group, "strides": [draw.count(1, 2) for _ in range(axes)]}
    if draw.often():
        attributes["kernel_shape"] = kernel
    if draw.often():
        attributes["pads"] = [draw.count(0, size - 1) for size in kernel * 2]
    elif draw.often(0.3):
        attributes["auto_pad"] = draw.one(["SAME_UPPER", "SAME_LOWER", "VALID"])
    if draw.often(0.3) and "auto_pad" not in attributes:
        attributes["dilations"] = [2] * axes
    return attributes, picture, (6, 4 // group, *kernel), 6


def fused_conv(draw):
    attributes, picture, weights, channels = convolution(draw)
    activation, parameters = draw.one([
        ("Relu", []), ("Sigmoid", []), ("Tanh", []), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.7]), ("HardSigmoid", [0.3, 0.4]),
    ])
    slots = {"x": floats(draw, *picture), "w": floats(draw, *weights)}
    slots["b" if draw.often() else "_b"] = floats(draw, channels)
    if draw.often(0.4):
        shape = answer(*node("Conv", slots, {"y": FLOAT}, attributes, "", ("x",)))[0].shape
        slots["z"] = floats(draw, *shape)
    attributes |= {"activation": activation} | ({"activation_params": parameters} if parameters else {})
    return node("FusedConv", slots, {"y": FLOAT}, attributes, given=("x", "z"))


def qlinear_conv(draw):
    attributes, picture, weights, channels = convolution(draw)
    of_x, of_w, domain = draw.one(BYTES), draw.one(BYTES), ""
    if of_x == numpy.int8:
        of_w = numpy.int8
    per = (channels,) if draw.often() else ()
    zeros = numpy.zeros(per, of_w) if per and of_w == numpy.int8 else zero(draw, of_w, *per)
    if per and of_w == numpy.uint8:
        zeros[:] = zeros[0]
    slots = {"x": small(draw, of_x, *picture), **steps(draw, "x", of_x, optional=False)}
    slots |= {"w": weight(draw, of_w, *weights), "w_scale": scale(draw, *per), "w_zero": zeros}
    slots |= steps(draw, "y", of_x, optional=False, least=0.1, most=0.3)
    if draw.often():
        slots["b"] = draw.random.randint(-3000, 3000, channels).astype(numpy.int32)
    if draw.often(0.3):
        slots["x"], domain = numpy.moveaxis(slots["x"], 1, -1).copy(), "com.microsoft"
        attributes["channels_last"] = 1
    return node("QLinearConv", slots, {"y": of_x}, attributes, domain, ("x",))


def fused_mat_mul(draw):
    batch, (m, k, n) = draw.one([(), (2,), (2, 3)]), (draw.count(1, 4) for _ in range(3))
    attributes = {"alpha": draw.one([1.0, 0.25, -2.0])}
    shapes = {}
    for side, shape in {"A": (m, k), "B": (k, n)}.items():
        if draw.often():
            attributes[f"trans{side}"], shape = 1, shape[::-1]
        if batch and draw.often(0.3):
            attributes[f"transBatch{side}"] = 1
            shapes[side] = (shape[0], *batch, shape[1])
        else:
            shapes[side] = (*batch, *shape)
    slots = {"a": floats(draw, *shapes["A"]), "b": floats(draw, *shapes["B"])}
    return node("FusedMatMul", slots, {"y": FLOAT}, attributes, given=draw.one([("a",), ("a", "b")]))


def gemm(draw, operator="Gemm", element=FLOAT):
    m, k, n = (draw.count(1, 4) for _ in range(3))
    attributes = {"alpha": draw.one([1.0, 0.5]), "beta": draw.one([1.0, 0.5, 0.0])}
    shapes = {"a": (m, k), "b": (k, n)}
    for side in "ab":
        if draw.often():
            attributes[f"trans{side.upper()}"], shapes[side] = 1, shapes[side][::-1]
    slots = {side: floats(draw, *shape).astype(element) for side, shape in shapes.items()}
    if draw.often(0.7):
        slots["c"] = floats(draw, *draw.one([(), (n,), (1, n), (m, 1), (m, n)])).astype(element)
    if operator == "Gemm":
        return node("Gemm", slots, {"y": element}, attributes, "", ("a",))
    attributes |= draw.one([
        {"activation": "Relu"}, {"activation": "Sigmoid"}, {"activation": "Tanh"},
        {"activation": "LeakyRelu", "activation_alpha": 0.3},
    ])
    return node("FusedGemm", slots, {"y": element}, attributes, given=("a",))


def fused_gemm(draw):
    return gemm(draw, "FusedGemm")


def half_gemm(draw):
    return gemm(draw, element=numpy.float16)


def batch_normalization(draw):
    channels, slots = draw.count(1, 4), {}
    slots["x"] = floats(draw, 2, channels, *draw.one([(), (3,), (3, 2)]))
    for name in ("scale", "bias", "mean", "variance"):
        slots[name] = numpy.abs(floats(draw, channels)) + FLOAT(0.1)
    given = draw.one([("x",), ("x", "scale"), tuple(slots)])
    return node("BatchNormalization", slots, {"y": FLOAT}, {"epsilon": draw.one([1e-5, 0.1])}, "", given)


def layer_normalization(draw):
    operator = draw.one(["SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "SimplifiedLayerNormalization"])
    shape = (2, 3, 8)
    slots, outputs, attributes = {"x": floats(draw, *shape)}, {"y": FLOAT}, {}
    if draw.often():
        attributes["epsilon"] = draw.one([1e-5, 0.01])
    if operator == "SimplifiedLayerNormalization":
        axis = draw.one([-1, 2, 1])
        slots["scale"] = floats(draw, *shape[axis:])
        return node(operator, slots, outputs, attributes | {"axis": axis}, "", ("x",))
    slots |= {"skip": floats(draw, *draw.one([shape, shape, (1, 3, 8), (3, 8)])), "gamma": floats(draw, 8)}
    if operator == "SkipLayerNormalization":
        slots["beta" if draw.often() else "_beta"] = floats(draw, 8)
    if draw.often():
        slots["bias"] = floats(draw, 8)
    if draw.often():
        outputs |= {"": FLOAT, "sum": FLOAT}
        made = helper.make_node(operator, [], ["y", "", "", "sum"])
        model, inputs = node(operator, slots, {"y": FLOAT, "sum": FLOAT}, attributes, given=("x", "skip"))
        del model.graph.node[0].output[:]
        model.graph.node[0].output.extend(made.output)
        return model, inputs
    return node(operator, slots, outputs, attributes, given=("x", "skip"))


def embed(draw):
    ids = lambda most: draw.random.randint(0, most, (2, 4)).astype(numpy.int32)
    segments = draw.often(0.7)
    slots = {"ids": ids(9), "segments" if segments else "_s": ids(2), "words": floats(draw, 9, 8)}
    slots |= {"positions": floats(draw, 6, 8), "types" if segments else "_t": floats(draw, 2, 8)}
    slots |= {"gamma": floats(draw, 8), "beta": floats(draw, 8)}
    slots["mask" if draw.often() else "_m"] = ids(2)
    if draw.often(0.3):
        slots["places"] = ids(6)
    outputs = {"y": FLOAT, "mask_index": numpy.int32}
    if draw.often(0.3):
        outputs["sum"] = FLOAT
    return node("EmbedLayerNormalization", slots, outputs, given=("ids", "segments", "mask", "places"))


def embed_quantised(draw):
    ids = lambda most: draw.random.randint(0, most, (2, 4)).astype(numpy.int32)
    dtype, segments = draw.one(BYTES), draw.often(0.7)
    tables = {"words": (9, 8), "positions": (6, 8), "types": (2, 8), "gamma": (8,), "beta": (8,)}
    there = {name: name if segments or name != "types" else f"_{name}" for name in tables}
    slots = {"ids": ids(9), "segments" if segments else "_s": ids(2)}
    slots |= {there[name]: small(draw, dtype, *shape) for name, shape in tables.items()}
    slots["mask" if draw.often() else "_m"] = ids(2)
    slots |= {f"{there[name]}_scale": scale(draw) for name in tables}
    slots |= {f"{there[name]}_zero": zero(draw, dtype) for name in tables}
    return node("QEmbedLayerNormalization", slots, {"y": FLOAT, "count": numpy.int32}, given=("ids", "segments", "mask"))


def running_sum(draw):
    """Of numbers, and of places that a shape says."""
    attributes = {"exclusive": draw.count(0, 1), "reverse": draw.count(0, 1)}
    x = floats(draw, 2, 3)
    if draw.often():
        return node("CumSum", {"x": x, "axis": numpy.int64(draw.one([-1, 0, 1]))}, {"y": FLOAT}, attributes, "", ("x",))
    model, inputs = node("CumSum", {"x": x, "axis": numpy.int64(0)}, {"y": numpy.int64}, attributes, "", ("x",))
    model.graph.node[0].input[0] = "sizes"
    model.graph.node.insert(0, helper.make_node("Shape", ["x"], ["sizes"]))
    return model, inputs


def qlinear_two(draw):
    dtype, operator = draw.one(BYTES), draw.one(["QLinearAdd", "QLinearMul"])
    shapes = draw.one([((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((2, 3, 4), (2, 1, 1)), ((1,), (2, 3)), ((3, 1), (1, 4))])
    slots = {}
    for side, shape in zip("ab", shapes):
        slots |= {side: small(draw, dtype, *shape), **steps(draw, side, dtype)}
    slots |= steps(draw, "y", dtype, optional=dtype == numpy.uint8)
    return node(operator, slots, {"y": dtype}, given=draw.one([("a",), ("a", "b")]))


def qlinear_unary(draw):
    dtype, operator = draw.one(BYTES), draw.one(["QLinearSigmoid", "QLinearLeakyRelu"])
    slots = {"x": small(draw, dtype, 2, 3, 4), **steps(draw, "x", dtype), **steps(draw, "y", dtype)}
    attributes = {"alpha": 0.2} if operator == "QLinearLeakyRelu" and draw.often() else {}
    return node(operator, slots, {"y": dtype}, attributes, given=("x",))


def qlinear_softmax(draw):
    dtype = draw.one(BYTES)
    slots = {"x": small(draw, dtype, 2, 3, 4), **steps(draw, "x", dtype)}
    slots |= {"y_scale": FLOAT(1 / 256), "y_zero": dtype(numpy.iinfo(dtype).min)}
    attributes = {"opset": draw.one([11, 13]), "axis": draw.one([-1, 1, 2])}
    return node("QLinearSoftmax", slots, {"y": dtype}, attributes, given=("x",))


def qlinear_concat(draw):
    dtype, axis, slots = draw.one(BYTES), draw.one([1, -1]), steps(draw, "y", draw.one(BYTES), optional=False)
    slots["y_zero"] = zero(draw, dtype)
    for i in range(draw.count(1, 3)):
        shape = [2, 3, 4]
        shape[axis] = draw.count(1, 4)
        slots |= {f"x{i}": small(draw, dtype, *shape), **steps(draw, f"x{i}", dtype, optional=False)}
    return node("QLinearConcat", slots, {"y": dtype}, {"axis": axis}, given=("x0", "x1", "x2"))


def qlinear_where(draw):
    dtype = draw.one(BYTES)
    slots = {"c": draw.random.rand(2, 3) < 0.5}
    for side, shape in {"a": (2, 3), "b": draw.one([(2, 3), (3,)])}.items():
        slots |= {side: small(draw, dtype, *shape), **steps(draw, side, dtype, optional=False)}
    slots |= steps(draw, "y", dtype, optional=False)
    return node("QLinearWhere", slots, {"y": dtype}, given=("c", "a"))


def qlinear_pool(draw):
    dtype, operator = draw.one(BYTES), draw.one(["QLinearGlobalAveragePool", "QLinearAveragePool"])
    axes = draw.one([1, 2, 2])
    x = small(draw, dtype, 2, 3, *(draw.count(4, 7) for _ in range(axes)))
    attributes = {"channels_last": 1} if draw.often(0.3) else {}
    if attributes:
        x = numpy.moveaxis(x, 1, -1).copy()
    slots = {"x": x, **steps(draw, "x", dtype, optional=False), **steps(draw, "y", dtype, optional=False)}
    if operator == "QLinearAveragePool":
        attributes |= pool(draw, axes) | {"count_include_pad": draw.count(0, 1)}
    return node(operator, slots, {"y": dtype}, attributes, given=("x",))


def pool(draw, axes):
    kernel = [draw.count(1, 3) for _ in range(axes)]
    attributes = {"kernel_shape": kernel, "strides": [draw.count(1, 2) for _ in range(axes)]}
    if draw.often():
        attributes["pads"] = [draw.count(0, size - 1) for size in kernel * 2]
    return attributes


def nhwc_max_pool(draw):
    dtype, attributes = draw.one(BYTES), pool(draw, 2)
    x = small(draw, dtype, 2, draw.count(4, 7), draw.count(4, 7), 3)
    if draw.often(0.3):
        attributes["ceil_mode"] = 1
    return node("NhwcMaxPool", {"x": x}, {"y": dtype}, attributes, given=("x",))


def quantize(draw):
    element, dtype = draw.one([FLOAT, numpy.float16]), draw.one([*BYTES, numpy.int16, numpy.uint16])
    per = draw.often()
    shape = (3,) if per else ()
    point = zero(draw, dtype, *shape)
    attributes = {"axis": 1} if per else {}
    if draw.often():
        slots = {"x": floats(draw, 2, 3, 4).astype(element), "scale": scale(draw, *shape).astype(element), "zero": point}
        return node("QuantizeLinear", slots, {"y": dtype}, attributes, given=draw.one([("x",), ("x", "scale")]))
    slots = {"x": small(draw, dtype, 2, 3, 4), "scale": scale(draw, *shape).astype(element), "zero": point}
    if draw.often(0.2):
        slots["x"], slots["zero"] = slots["x"].astype(numpy.int32), numpy.zeros(shape, numpy.int32)
    return node("DequantizeLinear", slots, {"y": element}, attributes, given=draw.one([("x",), ("x", "scale")]))


def weights(draw, *shape, first="b", kinds=BYTES):
    """Quantised weights of some columns, with their scale and zero point: one, or one for each column."""
    dtype = draw.one(kinds)
    per = shape[-1:] if draw.often() else ()
    return {first: weight(draw, dtype, *shape)}, {f"{first}_scale": scale(draw, *per)}, {f"{first}_zero": zero(draw, dtype, *per)}


def qlinear_mat_mul(draw):
    dtype, batch = draw.one(BYTES), draw.one([(), (2,), (2, 3)])
    matrix, scales, zeros = weights(draw, 5, 4, kinds=BYTES if dtype == numpy.uint8 else [numpy.int8])
    slots = {"a": small(draw, dtype, *batch, 3, 5), **steps(draw, "a", dtype, optional=False)}
    slots |= matrix | scales | zeros | steps(draw, "y", dtype, optional=False, least=0.1, most=0.3)
    return node("QLinearMatMul", slots, {"y": dtype}, {}, "", ("a",))


def mat_mul_integer_to_float(draw):
    dtype, batch = numpy.uint8, draw.one([(), (2,)])
    matrix, scales, zeros = weights(draw, 5, 4)
    slots = {"a": small(draw, dtype, *batch, 3, 5), **matrix, "a_scale": scale(draw), **scales}
    slots["a_zero" if draw.often(0.7) else "_az"] = zero(draw, dtype)
    slots |= zeros if draw.often(0.7) else {"_bz": 0}
    slots["bias" if draw.often() else "_bias"] = floats(draw, 4)
    return node("MatMulIntegerToFloat", slots, {"y": FLOAT}, given=("a", "a_scale"))


def dynamic_mat_mul(draw):
    matrix, scales, zeros = weights(draw, 5, 4)
    slots = {"a": floats(draw, *draw.one([(), (2,)]), 3, 5), **matrix, **scales}
    slots |= zeros if draw.often(0.7) else {"_bz": 0}
    slots["bias" if draw.often() else "_bias"] = floats(draw, 4)
    return node("DynamicQuantizeMatMul", slots, {"y": FLOAT}, given=("a",))


def qgemm(draw):
    dtype, attributes = numpy.uint8, {"alpha": draw.one([1.0, 0.5])}
    a, (matrix, scales, zeros) = small(draw, dtype, 3, 5), weights(draw, 5, 4)
    if draw.often():
        a, attributes["transA"] = a.T.copy(), 1
    if draw.often():
        matrix, attributes["transB"] = {"b": matrix["b"].T.copy()}, 1
    slots = {"a": a, **steps(draw, "a", dtype, optional=False), **matrix, **scales, **zeros}
    slots["c" if draw.often() else "_c"] = draw.random.randint(-2000, 2000, draw.one([(4,), (3, 4)])).astype(numpy.int32)
    if draw.often():
        return node("QGemm", slots, {"y": FLOAT}, attributes, given=("a",))
    slots |= steps(draw, "y", dtype, optional=False, least=0.1, most=0.3)
    return node("QGemm", slots, {"y": dtype}, attributes, given=("a",))


def dynamic_lstm(draw):
    length, batch, width, hidden = draw.count(1, 5), draw.count(1, 3), draw.count(1, 6), draw.one([4, 7, 16])
    direction = draw.one(["forward", "reverse", "bidirectional"])
    count, dtype = 2 if direction == "bidirectional" else 1, draw.one(BYTES)
    per = (count, 4 * hidden) if draw.often() else (count,)
    slots = {
        "x": floats(draw, length, batch, width), "w": weight(draw, dtype, count, width, 4 * hidden),
        "r": weight(draw, dtype, count, hidden, 4 * hidden),
        "b" if draw.often(0.7) else "_b": floats(draw, count, 8 * hidden),
        "lengths" if draw.often(0.3) else "_l": draw.random.randint(1, length + 1, batch).astype(numpy.int32),
        "h0" if draw.often(0.4) else "_h": floats(draw, count, batch, hidden),
        "c0" if draw.often(0.4) else "_c": floats(draw, count, batch, hidden),
        "p" if draw.often(0.3) else "_p": floats(draw, count, 3 * hidden),
    }
    for side in "wr":
        middle = numpy.full(per, 128 if dtype == numpy.uint8 else 0, dtype)
        slots |= {f"{side}_scale": scale(draw, *per, least=0.003, most=0.01), f"{side}_zero": middle}
    outputs = {"y": FLOAT, "y_h": FLOAT, "y_c": FLOAT}
    attributes = {"direction": direction, "hidden_size": hidden}
    return node("DynamicQuantizeLSTM", slots, outputs, attributes, given=("x", "lengths", "h0", "c0"))


OPERATORS = [
    *ATTENTION, gelu, fused_conv, qlinear_conv, fused_mat_mul, gemm, fused_gemm, half_gemm, batch_normalization,
    running_sum, layer_normalization, embed, embed_quantised, qlinear_two, qlinear_unary, qlinear_softmax, qlinear_concat, qlinear_where, qlinear_pool,
    nhwc_max_pool, quantize, qlinear_mat_mul, mat_mul_integer_to_float, dynamic_mat_mul, qgemm, dynamic_lstm,
]


ONE_STEP = {"steps": 1}
ALLOWED = {
    **dict.fromkeys([
        qlinear_conv, qlinear_two, qlinear_unary, qlinear_softmax, qlinear_concat, qlinear_where, qlinear_pool,
        qlinear_mat_mul, qgemm, quantize,
    ], ONE_STEP),
    # An activation that lies between two steps, and what follows from it.
    dynamic_lstm: {"share": 1e-3},
}


def answer(model, inputs):
    """What ONNX Runtime says on one thread, or nothing."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        outputs = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, inputs)
    except Exception as why:  # its own classes have no base of theirs
        answer.why = why
        return None
    return [numpy.asarray(output) for output in outputs]


def write(root, first=0, count=CASES):
    """Writes cases of every operator below `root`; gives their directories."""
    onnxruntime.set_default_logger_severity(4)
    found = []
    for operator in OPERATORS:
        before = len(found)
        for seed in range(first, first + count):
            model, inputs = operator(Draw(seed))
            outputs = answer(model, inputs)
            if outputs is None:
                continue
            case = root / f"contrib_{operator.__name__}_{seed:02}"
            (case / "test_data_set_0").mkdir(parents=True)
            onnx.save(model, case / "model.onnx")
            sides = {"input": inputs.items(), "output": zip([output.name for output in model.graph.output], outputs)}
            for side, arrays in sides.items():
                for i, (name, array) in enumerate(arrays):
                    tensor = numpy_helper.from_array(array, name)
                    onnx.save_tensor(tensor, case / "test_data_set_0" / f"{side}_{i}.pb")
            (case / "allowed.json").write_text(json.dumps(ALLOWED.get(operator, {})))
            found.append(case)
        if len(found) - before < count // 2:
            raise SystemExit(f"ONNX Runtime refuses most cases of {operator.__name__}: {answer.why}")
    return found
