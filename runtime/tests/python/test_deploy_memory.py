"""What a node keeps of models that are gone: its memory after many deploys and removals.

    python test_deploy_memory.py target/release/mayfly [--mib 86] [--times 100]

A model of so many MiB of weights, other ones each time, is deployed, asked once and removed, again and again. Ten
seconds after the last removal the node may have a tenth more than it had once each slot had served a model: an idle
slot keeps some pages ready (0.7 MiB of such a model), however many come after.
"""

import argparse
import http.client
import pathlib
import struct
import sys
import tempfile
import time

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from node import Node  # noqa: E402

SIDE = 1024
SLOTS = 8


def model(mib, seed):
    """A chain of products whose weights fill so many MiB."""
    random = numpy.random.default_rng(seed)
    count = mib * (1 << 20) // (4 * SIDE * SIDE)
    weights = [random.standard_normal((SIDE, SIDE), dtype=numpy.float32) / 32 for _ in range(count)]
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(count)]
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, SIDE]) for name in ("x0", f"x{count}")]
    graph = helper.make_graph(nodes, "chain", port[:1], port[1:], [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def memory(pid):
    """MiB that are the process's own, and those it shares by memfd."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("RssAnon", "RssShmem"))}
    return sizes["RssAnon"] + sizes["RssShmem"]


def infer(node):
    head = b'{"inputs":[{"name":"x0","datatype":"FP32","shape":[1,1024],"parameters":{"binary_data_size":4096}}],"parameters":{"binary_data_output":true}}'
    connection = http.client.HTTPConnection(node.gateway, timeout=60)
    connection.request("POST", "/v2/models/large/infer", head + struct.pack("<1024f", *[1.0] * 1024), {"Inference-Header-Content-Length": str(len(head))})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body[:300]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mayfly")
    parser.add_argument("--mib", type=int, default=86)
    parser.add_argument("--times", type=int, default=100, help=f"at least {SLOTS}")
    options = parser.parse_args()
    node = Node(options.mayfly, slots=SLOTS)
    file = pathlib.Path(tempfile.mkdtemp(prefix="mayfly-models-")) / "large.onnx"
    base = None
    for turn in range(options.times):
        file.write_bytes(model(options.mib, turn))
        node.deploy(file, "large")
        infer(node)
        done = node.run("remove", "large")
        assert done.returncode == 0, done.stderr
        if turn in (0, SLOTS - 1):
            time.sleep(10)
            base = memory(node.pid)
            print(f"after {turn + 1}: {base:.1f} MiB", flush=True)
        elif turn % 10 == 9:
            print(f"after {turn + 1}: {memory(node.pid):.1f} MiB", flush=True)
    time.sleep(10)
    last = memory(node.pid)
    print(f"ten seconds after the last: {last:.1f} MiB")
    file.unlink()
    assert node.stop(), "mayfly serve did not end with code 0"
    if last > base * 1.1:
        sys.exit(f"FAILED: {last:.1f} MiB after {options.times} deploys, {base:.1f} after {SLOTS}")
    print("OK")


if __name__ == "__main__":
    main()
