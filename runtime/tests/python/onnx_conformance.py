"""The ONNX standard's own node cases, each run inside a guest, against the committed list of those that pass.

    python onnx_conformance.py --mayfly target/release/mayfly --guest .../onnx-cases.wasm --list runtime/tests/onnx/passing.txt

The cases (a model of mostly one node, its inputs, the outputs to expect) come with the `onnx` package. Many of them
leave axes, shapes or weights to the request, which a model that was made ready beforehand cannot take. What exporters
write is a constant in the file, so a case that fails as it is is tried once more with every input but the first one a
constant; it is listed with the word `constants` then. A case that no longer passes as the list says fails the run;
`--bless` writes the list anew. `--why FILE` writes what stops each of the others.
"""

import argparse
import collections
import concurrent.futures
import http.client
import json
import pathlib
import re
import struct
import sys
import tempfile
import threading

import numpy
import onnx
from onnx import numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import contrib_cases  # noqa: E402
import mended_cases  # noqa: E402
import ml_cases  # noqa: E402
import quantised_cases  # noqa: E402
import text_cases  # noqa: E402
from node import Node  # noqa: E402

# As guest-sdk/abi/src/tensor.rs numbers them.
CODES = {
    "bool": 1, "uint8": 2, "uint16": 3, "uint32": 4, "uint64": 5, "int8": 6, "int16": 7, "int32": 8, "int64": 9,
    "float16": 10, "float32": 11, "float64": 12, "object": 13,
}
TYPES = {code: numpy.dtype(name) for name, code in CODES.items()}
TEXT = CODES["object"]
# The package's own runner allows 1e-3 and, where numbers cancel, 1e-7, which only its own order of summation meets;
# here it is 5e-6 of the largest number.
RELATIVE, ABSOLUTE = 1e-3, 5e-6
# How a case passes; the better way first.
AS_IS, CONSTANTS = "", "constants"


class Unfit(Exception):
    """A case that a tensor frame cannot carry."""


class Differs(Exception):
    """An answer that is not the expected one."""


def cases():
    """The directory of every case: the package's, and our own."""
    root = pathlib.Path(onnx.__file__).parent / "backend/test/data/node"
    found = sorted(path.parent for path in root.glob("*/model.onnx"))
    if len(found) < 1000:
        sys.exit(f"{root} has {len(found)} cases: this onnx package came without them")
    ours = pathlib.Path(tempfile.mkdtemp(prefix="mayfly-onnx-cases-"))
    own = (quantised_cases, ml_cases, text_cases, contrib_cases, mended_cases)
    return found + [case for kind in own for case in kind.write(ours)]


def load(path, declared):
    if not declared.type.HasField("tensor_type"):
        raise Unfit(f"{declared.type.WhichOneof('value')} instead of a tensor")
    array = numpy_helper.to_array(onnx.load_tensor(path))
    if array.dtype.name not in CODES:
        raise Unfit(f"elements of type {array.dtype.name}")
    return declared.name, array


def pack(array):
    """An array's bytes in a frame: of text, each element's length before it."""
    if array.dtype != object:
        return numpy.ascontiguousarray(array).tobytes()
    texts = [text if isinstance(text, bytes) else text.encode() for text in array.reshape(-1)]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def unpack(code, data, shape):
    if code != TEXT:
        return numpy.frombuffer(data, TYPES[code]).reshape(shape)
    texts = []
    while data:
        length = struct.unpack_from("<I", data)[0]
        texts.append(data[4:4 + length].decode())
        data = data[4 + length:]
    return numpy.array(texts, object).reshape(shape)


def frame(tensors):
    head, data = b"", [pack(array) for _, array in tensors]
    for (name, array), packed in zip(tensors, data):
        text = name.encode()
        head += struct.pack("<H", len(text)) + text + bytes([CODES[array.dtype.name], array.ndim])
        head += struct.pack(f"<{array.ndim}Q", *array.shape) + struct.pack("<Q", len(packed))
    data = b"".join(data)
    return b"MFT1" + struct.pack("<IH", len(head) + 10, len(tensors)) + head + data


def unframe(body):
    at, tensors = 10, {}
    end, count = struct.unpack_from("<IH", body, 4)
    for _ in range(count):
        length = struct.unpack_from("<H", body, at)[0]
        name = body[at + 2:at + 2 + length].decode()
        code, rank = body[at + 2 + length:at + 4 + length]
        *shape, size = struct.unpack_from(f"<{rank + 1}Q", body, at + 4 + length)
        at += 4 + length + 8 * (rank + 1)
        tensors[name] = unpack(code, body[end:end + size], shape)
        end += size
    return tensors


def request(case, constants=False):
    """What the guest is sent, and what it should answer."""
    model = onnx.load(case / "model.onnx")
    graph, data = model.graph, case / "test_data_set_0"
    inputs = [load(data / f"input_{i}.pb", graph.input[i]) for i in range(len(list(data.glob("input_*.pb"))))]
    outputs = [load(data / f"output_{i}.pb", graph.output[i]) for i in range(len(graph.output))]
    if constants:
        if len(inputs) < 2:
            raise Unfit("it has one input")
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in inputs[1:])
        del graph.input[1:], inputs[1:]
    file = model.SerializeToString()
    return struct.pack("<I", len(file)) + file + frame(inputs), outputs


def allowed(case):
    """How far an answer may be off: steps of an integer, and a share of the largest number."""
    path = case / "allowed.json"
    own = json.loads(path.read_text()) if path.exists() else {}
    return own.get("steps", 0), own.get("share", ABSOLUTE)


def check(answer, expected, steps=0, share=ABSOLUTE):
    for name, right in expected:
        given = answer.get(name)
        if given is None:
            raise Differs(f"no output {name}")
        if given.dtype != right.dtype:
            raise Differs(f"type {given.dtype.name} instead of {right.dtype.name}")
        if given.shape != right.shape:
            raise Differs(f"shape {list(given.shape)} instead of {list(right.shape)}")
        if given.dtype.kind in "iu" and steps:
            same = numpy.abs(given.astype(numpy.int64) - right).max(initial=0) <= steps
        elif given.dtype.kind in "biuO":
            same = numpy.array_equal(given, right)
        else:
            size = max(1.0, float(numpy.nanmax(numpy.abs(right[numpy.isfinite(right)]), initial=0)))
            same = numpy.allclose(given, right, RELATIVE, share * size, equal_nan=True)
        if not same:
            raise Differs("other numbers")


def judge(case, call):
    """How a case passes, or nothing; and why it does not as it is."""
    why = attempt(case, call, False)
    if why is None:
        return AS_IS, None
    return (CONSTANTS if attempt(case, call, True) is None else None), why


def attempt(case, call, constants):
    try:
        body, expected = request(case, constants)
        status, answer = call(body)
        if status != 200:
            problem = json.loads(answer)
            return problem.get("detail") or problem.get("title") or f"status {status}"
        check(unframe(answer), expected, *allowed(case))
    except (Unfit, Differs) as why:
        return str(why)
    return None


class Gateway:
    """Calls the guest; a connection for each thread."""

    def __init__(self, address):
        self.address, self.local = address, threading.local()

    def __call__(self, body):
        if not hasattr(self.local, "connection"):
            # Longer than the longest wall limit that callers set.
            self.local.connection = http.client.HTTPConnection(self.address, timeout=150)
        try:
            self.local.connection.request("POST", "/onnx-cases", body)
            response = self.local.connection.getresponse()
            return response.status, response.read()
        except OSError:
            # The next call opens another.
            self.local.connection.close()
            raise


def kind(why):
    """The same reason with names and numbers taken out, to count it by."""
    why = re.sub(r"^case: ", "", why)
    missing = re.search(r"operators that are not supported: (.*)", why)
    if missing:
        return "no operator " + ", ".join(sorted(set(re.findall(r"\(([^)]+)\)", missing.group(1)))))
    return re.sub(r'"[^"]*"|#?\d+', "_", why)[:140]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mayfly", required=True)
    parser.add_argument("--guest", required=True)
    parser.add_argument("--list", type=pathlib.Path, required=True)
    parser.add_argument("--bless", action="store_true", help="write the list anew")
    parser.add_argument("--why", type=pathlib.Path, help="write what stops each case that does not pass")
    options = parser.parse_args()
    node = Node(options.mayfly)
    limits = ["memory=512MiB", "request-body=64MiB", "response-body=64MiB", "wall=60s", "cpu=60s"]
    node.deploy(options.guest, "onnx-cases", *(word for limit in limits for word in ("--limit", limit)))
    found = cases()
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        judged = list(threads.map(lambda case, call=Gateway(node.gateway): judge(case, call), found))
    if not node.stop():
        sys.exit("mayfly serve did not end with code 0")
    finish({case.name: verdict for case, verdict in zip(found, judged)}, options)


def finish(results, options):
    passing = {name: how for name, (how, _) in results.items() if how is not None}
    if options.why:
        failing = {name: why for name, (how, why) in results.items() if how is None}
        counts = collections.Counter(kind(why) for why in failing.values())
        lines = [f"{count:5} {what}" for what, count in counts.most_common()]
        lines += ["", *(f"{name}: {' '.join(why.split())}" for name, why in sorted(failing.items()))]
        options.why.write_text("\n".join(lines) + "\n")
    if options.bless:
        options.list.write_text("".join(f"{name} {how}".strip() + "\n" for name, how in sorted(passing.items())))
    lines = (line.partition(" ") for line in options.list.read_text().splitlines())
    listed = {name: how for name, _, how in lines}
    # Passing as it is covers the listing with constants, not the other way round.
    lost = [name for name, how in listed.items() if passing.get(name) not in (AS_IS, how)]
    new = sorted(name for name, how in passing.items() if listed.get(name) not in (AS_IS, how))
    for name in lost:
        print(f"LOST {name}: {results.get(name, (None, 'there is no such case any more'))[1]}")
    if new:
        print(f"{len(new)} cases pass that are not listed so yet; --bless adds them: {' '.join(new[:20])}")
    ways = collections.Counter(passing.values())
    print(f"{len(results)} cases: {ways[AS_IS]} pass as they are, {ways[CONSTANTS]} more with constants")
    print(f"{len(listed) - len(lost)} passed, {len(lost)} failed, {len(results) - len(listed)} skipped")
    if lost:
        sys.exit(1)


if __name__ == "__main__":
    main()
