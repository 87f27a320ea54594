"""Cases of our own beside the standard's: what `make soak-models` found tract to answer otherwise, and was mended.

Each is one node in the layout of the `onnx` package's cases. What is right is what ONNX Runtime answers.
"""

import numpy
import onnx
import onnxruntime
from onnx import helper, numpy_helper

F32, I64 = numpy.float32, numpy.int64


def recurrent(operator, gates, outputs, **attributes):
    """An input of three steps, and weights of the file."""
    random, ways = numpy.random.RandomState(7), 2 if attributes.get("direction") == "bidirectional" else 1
    x, *weights = (
        random.randn(*shape).astype(F32)
        for shape in ((3, 2, 4), (ways, gates * 3, 4), (ways, gates * 3, 3), (ways, 2 * gates * 3))
    )
    return operator, 14, [x], weights, outputs, {"hidden_size": 3, **attributes}


X = numpy.array([[-3.5, -0.25, 0.0, 0.5, 200.0, 3.0]], F32)
IMAGE = numpy.arange(-9, 9, dtype=F32).reshape(1, 2, 3, 3) / 2
PADS = numpy.array([1, 2, 0, 1], I64)
# By name: operator, operator set, what comes with the request, what the file has, number of outputs, attributes.
CASES = {
    "lstm_reverse": recurrent("LSTM", 4, 3, direction="reverse"),
    "gru_reverse": recurrent("GRU", 3, 2, direction="reverse", linear_before_reset=1),
    "gru_relu": recurrent("GRU", 3, 2, activations=["Sigmoid", "Relu"] * 2, direction="bidirectional"),
    "rnn_reverse": recurrent("RNN", 1, 2, direction="reverse"),
    "rnn_relu": recurrent("RNN", 1, 2, activations=["Relu"]),
    "celu_alpha": ("Celu", 12, [X], [], 1, {"alpha": 0.25}),
    "clip_without_a_bound": ("Clip", 6, [numpy.array([-3.5, 2.0, numpy.inf], F32)], [], 1, {"min": -1.0}),
    "softplus_large": ("Softplus", 1, [X], [], 1, {}),
    "log_softmax_large": ("LogSoftmax", 13, [X], [], 1, {"axis": -1}),
    "log_softmax_rest": ("LogSoftmax", 11, [IMAGE * 40], [], 1, {"axis": 1}),
    "reduce_log_sum_exp_large": ("ReduceLogSumExp", 18, [X], [numpy.array([-1], I64)], 1, {"keepdims": 0}),
    "reduce_log_sum_exp_all": ("ReduceLogSumExp", 13, [X], [], 1, {}),
    **{f"global_lp_pool_{p}": ("GlobalLpPool", 2, [IMAGE], [], 1, {"p": p}) for p in (1, 2, 3)},
    "one_hot_beyond": ("OneHot", 11, [numpy.array([[-4, -3, 0], [2, 3, 9]], I64)], [numpy.array(3, I64), numpy.array([2, 5], F32)], 1, {}),
    "range_of_halves": ("Range", 11, [], [numpy.array(n, F32) for n in (3, 5.2, 0.5)], 1, {}),
    "range_down": ("Range", 11, [], [numpy.array(n, F32) for n in (1, -2, -0.75)], 1, {}),
    "pad_edge_with_constant": ("Pad", 13, [IMAGE[0, 0]], [PADS, numpy.array(7, F32)], 1, {"mode": "edge"}),
    "pad_reflect_with_constant": ("Pad", 13, [IMAGE[0, 0]], [PADS, numpy.array(7, F32)], 1, {"mode": "reflect"}),
    "upsample_by_attribute": ("Upsample", 7, [IMAGE], [], 1, {"scales": [1.0, 1.0, 2.0, 3.0]}),
    "resize_the_one_before": ("Resize", 10, [IMAGE], [numpy.array([1, 1, 2, 3], F32)], 1, {}),
    "resize_between": ("Resize", 10, [IMAGE], [numpy.array([1, 1, 1.5, 3], F32)], 1, {"mode": "linear"}),
    "upsample_by_half": ("Upsample", 9, [IMAGE], [numpy.array([1, 1, 1.5, 3], F32)], 1, {}),
    "dynamic_quantize_zeros": ("DynamicQuantizeLinear", 11, [IMAGE * 0], [], 3, {}),
    # 0.24374999 / 0.1625 is less than 1.5, and 0.24374999 * (1 / 0.1625) is not.
    "quantize_by_division": (
        "QuantizeLinear", 13, [numpy.array([0.24374999, 0.40625, -1.4625, 9.0], F32)],
        [numpy.array(0.1625, F32), numpy.array(3, numpy.int8)], 1, {},
    ),
    "quantize_each_column": (
        "QuantizeLinear", 13, [numpy.array([[0.24374999, 0.5], [0.40625, -0.5]], F32)],
        [numpy.array([0.1625, 0.125], F32), numpy.array([3, -3], numpy.int8)], 1, {"axis": -1},
    ),
    "quantize_infinity": (
        "QuantizeLinear", 10, [numpy.array([numpy.inf, -numpy.inf, 3e38, -3e38], F32)],
        [numpy.array(0.1, F32), numpy.array(100, numpy.uint8)], 1, {},
    ),
    "quantize_infinity_each_row": (
        "QuantizeLinear", 13, [numpy.array([[numpy.inf, -numpy.inf], [3e38, -3e38]], F32)],
        [numpy.array([0.1, 0.5], F32), numpy.array([7, -7], numpy.int8)], 1, {"axis": 0},
    ),
    "log_softmax_of_doubles": ("LogSoftmax", 13, [numpy.array([[-1e300, -2e300], [1e308, 0]])], [], 1, {}),
    # Beside 2048 a sum in float16 loses all that is less than 1.
    "reduce_log_sum_of_halves": (
        "ReduceLogSum", 13, [numpy.array([[2048.0] + [0.75] * 8 + [-2048.0]], numpy.float16)], [], 1, {"axes": [1]},
    ),
    "reduce_sum_of_halves": (
        "ReduceSum", 13, [numpy.array([[2048.0] + [0.75] * 63], numpy.float16)], [numpy.array([1], I64)], 1, {},
    ),
    "leaky_relu_of_halves": ("LeakyRelu", 6, [X.astype(numpy.float16)], [], 1, {"alpha": 0.5287583470344543}),
    "mod_by_less_than_0": ("Mod", 13, [numpy.array([7, -7, 2], I64)], [numpy.array(-4, I64)], 1, {}),
    "power_of_whole_numbers": (
        "Pow", 13, [numpy.array([4097, -5001], numpy.int32)], [numpy.array(2, I64)], 1, {},
    ),
    "empty_of_unsigned": ("Reshape", 14, [], [numpy.zeros((0, 3), numpy.uint32), numpy.array([3, 0], I64)], 1, {"allowzero": 1}),
}


def model(operator, opset, given, constants, outputs, attributes):
    names = [f"x{i}" for i in range(len(given))]
    known = [f"c{i}" for i in range(len(constants))]
    reads = [*names, *known]
    made = helper.make_node(operator, reads, [f"y{i}" for i in range(outputs)], name=f"the_{operator}", **attributes)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, given)
    ]
    tensors = [numpy_helper.from_array(array, name) for array, name in zip(constants, known)]
    declared = [helper.make_empty_tensor_value_info(name) for name in made.output]
    graph = helper.make_graph([made], operator, inputs, declared, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), dict(zip(names, given))


def write(root):
    """Writes every case below `root`; gives their directories."""
    onnxruntime.set_default_logger_severity(4)
    found = []
    for name, drawn in CASES.items():
        made, inputs = model(*drawn)
        arrays = onnxruntime.InferenceSession(made.SerializeToString()).run(None, inputs)
        outputs = dict(zip([output.name for output in made.graph.output], arrays))
        for output in made.graph.output:
            array = outputs[output.name]
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            output.CopyFrom(helper.make_tensor_value_info(output.name, kind, array.shape))
        case = root / f"mended_{name}"
        (case / "test_data_set_0").mkdir(parents=True)
        onnx.save(made, case / "model.onnx")
        for side, arrays in (("input", inputs), ("output", outputs)):
            for i, (key, array) in enumerate(arrays.items()):
                onnx.save_tensor(numpy_helper.from_array(array, key), case / "test_data_set_0" / f"{side}_{i}.pb")
        found.append(case)
    return found
