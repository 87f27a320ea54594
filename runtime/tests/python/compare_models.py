"""Deploys every ONNX file of a directory and compares its answers with ONNX Runtime's: binary, JSON, and both alike.

    python compare_models.py --mayfly target/release/mayfly --runner .../runner.wasm --models DIR

Needs onnxruntime beside what requirements.txt lists. Inputs are seeded random numbers in a range that suits the type, so
that nothing has to be known of a model; a dimension without a size is given the one that `mayfly deploy` suggests.
"""

import argparse
import pathlib
import re
import shlex
import sys
import time

import numpy
import onnxruntime
from tritonclient import http as triton

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from node import Node  # noqa: E402

TYPES = {
    "FP32": numpy.float32, "FP64": numpy.float64, "FP16": numpy.float16, "INT64": numpy.int64, "INT32": numpy.int32,
    "INT8": numpy.int8, "UINT8": numpy.uint8, "BOOL": numpy.bool_,
}

def suggested(node, path, options):
    """The options that the refusal of a model with open dimensions proposes; none if it has no such dimension."""
    try:
        return [], node.deploy(path, name_of(path), *options)
    except RuntimeError as refused:
        if "dimensions without a size" not in str(refused):
            raise
        more = shlex.split(str(refused).strip().splitlines()[-1])
        return more, node.deploy(path, name_of(path), *options, *more)


def name_of(path):
    return path.stem.lower().replace("_", "-")


def values(port, generator):
    shape, kind = port["shape"], TYPES[port["datatype"]]
    if kind == numpy.bool_:
        return numpy.ones(shape, kind)
    if numpy.issubdtype(kind, numpy.integer):
        # Masks and token ids are both fine with 0 and 1.
        return generator.integers(0, 2, shape).astype(kind)
    return generator.standard_normal(shape).astype(kind)


def infer(client, name, inputs, binary):
    given = []
    for key, array in inputs.items():
        datatype = next(word for word, kind in TYPES.items() if kind == array.dtype)
        tensor = triton.InferInput(key, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        given.append(tensor)
    outputs = [port["name"] for port in client.get_model_metadata(name)["outputs"]]
    wanted = [triton.InferRequestedOutput(output, binary_data=binary) for output in outputs]
    began = time.monotonic()
    answer = client.infer(name, given, outputs=wanted)
    return {output: answer.as_numpy(output) for output in outputs}, (time.monotonic() - began) * 1e3


def compare(client, path):
    """The largest difference from ONNX Runtime, over the largest number; times in ms."""
    name = name_of(path)
    generator = numpy.random.default_rng(7)
    ports = client.get_model_metadata(name)["inputs"]
    inputs = {port["name"]: values(port, generator) for port in ports}
    binary, took = infer(client, name, inputs, True)
    text, took_text = infer(client, name, inputs, False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = session.run([output.name for output in session.get_outputs()], inputs)
    worst = 0.0
    for output, right in zip(session.get_outputs(), expected):
        numpy.testing.assert_array_equal(binary[output.name], text[output.name].reshape(binary[output.name].shape))
        scale = max(1.0, float(numpy.abs(right).max()))
        worst = max(worst, float(numpy.abs(binary[output.name].astype(numpy.float64) - right).max()) / scale)
    return worst, took, took_text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mayfly", required=True)
    parser.add_argument("--runner", required=True)
    parser.add_argument("--models", type=pathlib.Path, required=True)
    parser.add_argument("--tolerance", type=float, default=2e-3)
    options = parser.parse_args()
    runner = ["--runner", str(pathlib.Path(options.runner).absolute())]
    node = Node(options.mayfly)
    client = triton.InferenceServerClient(node.gateway, network_timeout=120, connection_timeout=120)
    failed = []
    print("| model | difference | binary | JSON | snapshot | given |\n| --- | --- | --- | --- | --- | --- |")
    for path in sorted(options.models.glob("*.onnx")):
        try:
            more, said = suggested(node, path, runner)
            worst, took, took_text = compare(client, path)
        except Exception as error:  # noqa: BLE001: each model is told of
            failed.append(path.name)
            print(f"| {path.name} | FAILED: {' '.join(str(error).split())[-600:]} |", flush=True)
            continue
        if worst > options.tolerance:
            failed.append(path.name)
        snapshot = re.search(r"snapshot +(.+)", said).group(1)
        print(f"| {path.name} | {worst:.1e} | {took:.1f} ms | {took_text:.1f} ms | {snapshot} | {' '.join(more)} |", flush=True)
    client.close()
    node.stop()
    if failed:
        sys.exit(f"differ or fail: {', '.join(failed)}")


if __name__ == "__main__":
    main()
