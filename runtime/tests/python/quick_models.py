"""The collection of try_models.py in three minutes: fixed shapes only, every model in one guest that loads it by request.

    python quick_models.py --mayfly target/release/mayfly --guest .../onnx-cases.wasm --cache target/models [--only PATTERN]

Nothing is deployed but that guest, so a deploy's own check, snapshots and open shapes are not tried, and models above
16 MB, which no request of the guest carries, are left to try_models.py.
"""

import argparse
import collections
import fnmatch
import json
import pathlib
import struct
import sys

import numpy
import onnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from onnx_conformance import Gateway, frame, unframe  # noqa: E402
from try_models import Collection, Failed, Missing, Reference, in_turn, judge  # noqa: E402
from node import Node  # noqa: E402

LIMITS = ["memory=3GiB", "request-body=64MiB", "response-body=64MiB", "wall=120s", "cpu=120s"]
# What the SDK takes of a body.
LARGEST = 16 << 20


def fixed(model, shapes):
    """The file with its inputs' shapes written into it, and what was worked out for others taken out."""
    loaded = onnx.load(model.file)
    for port in (port for port in loaded.graph.input if port.name in shapes):
        for dim, size in zip(port.type.tensor_type.shape.dim, shapes[port.name]):
            dim.dim_value = size
    del loaded.graph.value_info[:]
    for port in loaded.graph.output:
        if port.type.HasField("tensor_type"):
            port.type.tensor_type.ClearField("shape")
    return loaded.SerializeToString()


def attempt(model, call):
    """What became of it, in a word and in more."""
    try:
        reference, shapes = Reference(model.file), model.shapes(1)
        inputs = model.draw(shapes, numpy.random.default_rng(7))
        file, right = fixed(model, shapes), reference.run(inputs)
        body = struct.pack("<I", len(file)) + file + frame(list(inputs.items()))
        if len(body) > LARGEST:
            return "left out", "above 16 MB"
        status, answer = call(body)
        if status != 200:
            return "refused", json.loads(answer).get("detail") or answer.decode()
        return "right", f"differs {judge(unframe(answer), right, reference, inputs):.0e}"
    except Failed as failed:
        return failed.result, failed.why
    except Missing as why:
        return "missing", str(why)
    except Exception as error:  # noqa: BLE001: each model is told of
        return "unfit", repr(error)


def main():
    parser = argparse.ArgumentParser()
    for name in ("mayfly", "guest", "cache"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--torch", help="the Python that has PyTorch")
    parser.add_argument("--only", default="*", help="names or groups, as in 'half-*'")
    told = parser.parse_args()
    models = Collection(told.cache, told.torch).models
    models = [each for each in models if any(fnmatch.fnmatch(word, told.only) for word in (each.name, each.group))]
    node = Node(told.mayfly)
    node.deploy(told.guest, "onnx-cases", *(word for limit in LIMITS for word in ("--limit", limit)))
    call, counts = Gateway(node.gateway), collections.Counter()
    for model in in_turn(models):
        result, why = attempt(model, call)
        counts[result] += 1
        print(f"{model.name:32} {result:8} {' '.join(why.split())[:300]}", flush=True)
    node.stop()
    tried = sum(counts[word] for word in ("right", "refused", "wrong", "error"))
    print(f"{counts['right']} of {tried} right, {100 * counts['right'] / max(1, tried):.0f} %; {dict(counts)}")
    if counts["wrong"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
