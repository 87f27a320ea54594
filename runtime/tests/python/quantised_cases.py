"""Cases of our own beside the standard's: an operator between two quantisations, as quantisers write it.

tract fuses such a chain into one table or one integer operator. Each case is a small model with its input and the output
that the `onnx` package's reference computes, in the layout of the package's own cases.
"""

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

SHAPE = (2, 4)
TYPES = {"int8": (numpy.int8, 6, -128), "uint8": (numpy.uint8, 128, 0)}
# Each with its attributes, and the step of its output.
OPERATORS = {
    "Softmax": ({"axis": 1}, 1 / 255), "LogSoftmax": ({"axis": 1}, 1 / 16), "Hardmax": ({"axis": 1}, 1 / 255),
    "Softmax0": ({"axis": 0}, 1 / 255), "Sigmoid": ({}, 1 / 255), "Tanh": ({}, 1 / 127), "Relu": ({}, 1 / 64),
    "LeakyRelu": ({"alpha": 0.1}, 1 / 20), "HardSwish": ({}, 1 / 20), "Exp": ({}, 1 / 5), "Neg": ({}, 1 / 20),
    "Abs": ({}, 1 / 40), "Erf": ({}, 1 / 127), "LpNormalization": ({"axis": 1, "p": 2}, 1 / 127),
    "Transpose": ({"perm": [1, 0]}, 1 / 20), "Identity": ({}, 1 / 20),
}


def quantised(name, kind):
    """x -> quantise -> dequantise -> operator -> quantise -> dequantise -> y."""
    (dtype, zero, lowest), (attributes, step) = TYPES[kind], OPERATORS[name]
    operator = name.rstrip("0")
    signed_output = operator in ("Tanh", "LeakyRelu", "HardSwish", "Neg", "Erf", "LpNormalization", "Transpose", "Identity")
    highest = numpy.iinfo(dtype).max
    out_zero = highest if operator == "LogSoftmax" else zero if signed_output else lowest
    constants = [("a_s", numpy.float32(0.1)), ("a_z", dtype(zero)), ("b_s", numpy.float32(step)), ("b_z", dtype(out_zero))]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "a_s", "a_z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "a_s", "a_z"], ["xd"]),
        helper.make_node(operator, ["xd"], ["p"], **attributes),
        helper.make_node("QuantizeLinear", ["p", "b_s", "b_z"], ["pq"]),
        helper.make_node("DequantizeLinear", ["pq", "b_s", "b_z"], ["y"]),
    ]
    shape = SHAPE[::-1] if operator == "Transpose" else SHAPE
    graph = helper.make_graph(
        nodes, f"quantised_{name.lower()}_{kind}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(numpy.asarray(value), key) for key, value in constants],
    )
    return graph


def model(graph, opset):
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def product(left, right):
    """A product of whole numbers, the largest among them: 16 bits do not hold the sum of two of their products."""
    random = numpy.random.RandomState(0)
    a, b = (random.choice(numpy.arange(limits.min, limits.max + 1), shape).astype(kind) for kind, shape, limits in (
        (left, (3, 32), numpy.iinfo(left)), (right, (32, 8), numpy.iinfo(right))))
    a[0], b[:, 0] = numpy.iinfo(left).max, numpy.iinfo(right).min
    b[:, 1] = numpy.iinfo(right).max
    made = helper.make_node("MatMulInteger", ["x", "b", "a_z", "b_z"], ["y"])
    zeros = {"a_z": left(TYPES[left.__name__][1]), "b_z": right(TYPES[right.__name__][1])}
    graph = helper.make_graph(
        [made], f"product_{left.__name__}_{right.__name__}",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, (3, 8))],
        [numpy_helper.from_array(b, "b"), *(numpy_helper.from_array(numpy.asarray(zero), key) for key, zero in zeros.items())],
    )
    return graph, a, (a.astype(numpy.int32) - zeros["a_z"]) @ (b.astype(numpy.int32) - zeros["b_z"])


def save(root, graph, x, y):
    """Writes one case; gives its directory."""
    case = root / graph.name
    (case / "test_data_set_0").mkdir(parents=True)
    onnx.save(model(graph, 17), case / "model.onnx")
    for file, array, key in (("input_0.pb", x, "x"), ("output_0.pb", y, "y")):
        onnx.save_tensor(numpy_helper.from_array(array, key), case / "test_data_set_0" / file)
    return case


def write(root):
    """Writes every case below `root`; gives their directories."""
    x = numpy.array([[-1.0, 1.4, 2.4, 1.1], [0.3, -2.0, 0.0, 3.1]], numpy.float32)
    found = []
    for name in OPERATORS:
        for kind in TYPES:
            graph = quantised(name, kind)
            # The reference has these operators from 19 on only; they mean the same.
            y, = ReferenceEvaluator(model(graph, 21)).run(None, {"x": x})
            found.append(save(root, graph, x, y))
    kinds = [kind for kind, _, _ in TYPES.values()]
    found += [save(root, *product(left, right)) for left in kinds for right in kinds]
    return found
