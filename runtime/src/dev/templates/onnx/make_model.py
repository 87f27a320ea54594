"""python3 make_model.py: writes model.onnx, y = x W + b for three numbers and two scores. Needs the package onnx."""

import numpy
from onnx import TensorProto, checker, helper, numpy_helper, save

weights = numpy.array([[1, 2], [2, 0], [3, 1]], dtype=numpy.float32)
graph = helper.make_graph(
    [helper.make_node("Gemm", ["x", "W", "b"], ["y"])],
    "scores",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
    [
        numpy_helper.from_array(weights, "W"),
        numpy_helper.from_array(numpy.zeros(2, dtype=numpy.float32), "b"),
    ],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
checker.check_model(model)
save(model, "model.onnx")
