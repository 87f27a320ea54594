"""Writes resnet18.onnx: torchvision's ResNet-18 with seeded random weights, for measuring speed and memory.

No package carries trained weights under a licence we could ship, and speed does not depend on their values.
Batch normalisation is left out: at export it folds into the convolution before it. A given seed always gives the
same bytes with the numpy and onnx versions pinned in requirements.txt.

Usage: python make_model.py OUT.onnx
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SEED = 18
CLASSES = 1000
STAGES = (64, 128, 256, 512)


class Graph:
    """Collects nodes and weights; every method returns the name of the value it adds."""

    def __init__(self):
        self.nodes, self.weights = [], []
        self.rng = np.random.default_rng(SEED)

    def weight(self, name, values):
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype=np.float32), name))
        return name

    def node(self, kind, inputs, name, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [name + ".out"], name=name, **attributes))
        return name + ".out"

    def conv(self, x, name, c_in, c_out, kernel, stride, gain=1.0):
        # He's initialisation over the outputs keeps activations near one through the depth; `gain` tames the
        # residual branches, which would double the variance at every block.
        scale = gain * np.sqrt(2.0 / (c_out * kernel * kernel))
        weight = self.rng.standard_normal((c_out, c_in, kernel, kernel)) * scale
        bias = self.rng.standard_normal(c_out) * 0.01
        return self.node(
            "Conv",
            [x, self.weight(name + ".weight", weight), self.weight(name + ".bias", bias)],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )

    def relu(self, x, name):
        return self.node("Relu", [x], name)

    def block(self, x, name, c_in, c_out, stride):
        y = self.relu(self.conv(x, name + ".conv1", c_in, c_out, 3, stride), name + ".relu1")
        y = self.conv(y, name + ".conv2", c_out, c_out, 3, 1, gain=0.5)
        if stride != 1 or c_in != c_out:
            x = self.conv(x, name + ".downsample", c_in, c_out, 1, stride)
        return self.relu(self.node("Add", [y, x], name + ".add"), name + ".relu2")


def resnet18():
    g = Graph()
    x = g.relu(g.conv("input", "conv1", 3, 64, 7, 2), "relu")
    x = g.node("MaxPool", [x], "maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    c_in = 64
    for stage, c_out in enumerate(STAGES, start=1):
        for index in range(2):
            stride = 2 if stage > 1 and index == 0 else 1
            x = g.block(x, f"layer{stage}.{index}", c_in, c_out, stride)
            c_in = c_out
    x = g.node("Flatten", [g.node("GlobalAveragePool", [x], "avgpool")], "flatten", axis=1)
    bound = 1 / np.sqrt(c_in)
    weight = g.weight("fc.weight", g.rng.uniform(-bound, bound, (CLASSES, c_in)))
    bias = g.weight("fc.bias", g.rng.uniform(-bound, bound, CLASSES))
    g.node("Gemm", [x, weight, bias], "fc", transB=1)
    g.nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        g.nodes,
        "resnet18",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
        g.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    onnx.save(resnet18(), sys.argv[1])
