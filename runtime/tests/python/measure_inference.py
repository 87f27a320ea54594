"""What one model costs on a node of its own, against the limits of docs/inference.md, and whether every mode agrees.

    python measure_inference.py --mayfly target/release/mayfly --runner .../runner.wasm --model resnet18.onnx

Deploys the model with native kernels and without, each with a snapshot and without one, and compares the first output of
each with ONNX Runtime's on one thread (at most 1e-3 apart). Then, on the node with kernels: the times in Server-Timing,
page faults, what `inspect` says of memory, and how much two inferences at once slow each other down. `--second` is
another model, to time the deploy of one whose code is compiled already. Needs numpy and onnxruntime.

Nothing fails for being slow unless --strict says so: on a machine that does something else, times mean nothing.
"""

import argparse
import http.client
import json
import os
import pathlib
import statistics
import struct
import sys
import tempfile
import threading
import time

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from node import Node  # noqa: E402
from onnx_peer import one_thread, spread  # noqa: E402

MIB = 1 << 20
TOLERANCE = 1e-3


def frame(name, array):
    """A tensor frame with one FP32 tensor (docs/abi.md)."""
    raw, name = array.tobytes(), name.encode()
    head = struct.pack("<H", len(name)) + name + struct.pack("<BB", 11, array.ndim)
    head += struct.pack(f"<{array.ndim}Q", *array.shape) + struct.pack("<Q", len(raw))
    return b"MFT1" + struct.pack("<IH", 10 + len(head), 1) + head + raw


def first_output(body, shape):
    (head,) = struct.unpack_from("<I", body, 4)
    return numpy.frombuffer(body, numpy.float32, numpy.prod(shape), head).reshape(shape)


def leb(value):
    out = bytearray()
    while True:
        value, low = value >> 7, value & 127
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def read_leb(data, at):
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value, shift = value | (byte & 127) << shift, shift + 7
        if byte < 128:
            return value, at


def without_snapshot(wasm):
    """The module with one more function, never called, that drops an element segment: no snapshot can keep that, so init
    runs with each request."""
    out, at = bytearray(wasm[:8]), 8
    while at < len(wasm):
        kind = wasm[at]
        size, start = read_leb(wasm, at + 1)
        body, at = wasm[start : start + size], start + size
        if kind == 1:
            types, end = read_leb(body, 0)
            body = leb(types + 1) + body[end:] + b"\x60\0\0"
        elif kind == 3:
            count, end = read_leb(body, 0)
            body = leb(count + 1) + body[end:] + leb(types)
        elif kind == 10:
            count, end = read_leb(body, 0)
            body = leb(count + 1) + body[end:] + b"\x05\0\xfc\x0d\0\x0b"
        out += bytes([kind]) + leb(len(body)) + body
    return bytes(out)


class Client:
    def __init__(self, node, request):
        self.connection = http.client.HTTPConnection(node.gateway, timeout=120)
        self.request = request

    def call(self, name):
        """The body, the wall time in ms, and what Server-Timing says, in ms."""
        began = time.perf_counter()
        self.connection.request("POST", f"/{name}", self.request, {"Content-Type": "application/vnd.mayfly.tensors"})
        response = self.connection.getresponse()
        body = response.read()
        took = (time.perf_counter() - began) * 1e3
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {body[:500]!r}")
        timing = response.getheader("Server-Timing") or ""
        parts = [part.split(";dur=") for part in timing.split(", ") if ";dur=" in part]
        return body, took, {key: float(value) for key, value in parts}


def minor_faults(pid):
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "stat").read_text().rsplit(")", 1)[1].split()[7]) for task in tasks)


def children_cpu(pid):
    """CPU seconds of children that have ended: init, compilers."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def deploy(node, path, name, runner):
    """Seconds, and CPU seconds of the children: on a busy machine only those mean something."""
    began, used = time.monotonic(), children_cpu(node.pid)
    node.deploy(path, name, "--runner", runner)
    return time.monotonic() - began, children_cpu(node.pid) - used


def wasm_of(node, name):
    shown = json.loads(node.run("inspect", name, "--output", "json").stdout)
    return node.state / "wasm" / f"{shown['revision']['wasm']}.wasm"


def modes(node, client, options, expected, label, rows):
    took, cpu = deploy(node, options.model, "model", options.runner)
    bare = without_snapshot(wasm_of(node, "model").read_bytes())
    with tempfile.NamedTemporaryFile(suffix=".wasm") as file:
        file.write(bare)
        file.flush()
        node.deploy(file.name, "bare", "--limit", "memory=1GiB", "--limit", "init=120s", "--limit", "wall=120s")
    for name, snapshot in (("model", "snapshot"), ("bare", "no snapshot")):
        body, _, _ = client.call(name)
        worst = float(numpy.abs(first_output(body, expected.shape) - expected).max())
        rows.append((f"{label}, {snapshot}: largest difference from ONNX Runtime", worst, TOLERANCE, "", worst <= TOLERANCE))
    return took, cpu


def timings(node, client, runs, rows):
    for _ in range(5):
        client.call("model")
    before, calls = minor_faults(node.pid), [client.call("model") for _ in range(runs)]
    faults = (minor_faults(node.pid) - before) / runs
    timed = [timing for _, _, timing in calls if timing]
    median = statistics.median
    rows.append((f"instantiate, p50 of {len(timed)}, us", median(t["instantiate"] for t in timed) * 1e3, 30, "", None))
    rows.append(("the guest runs, p50, ms", median(t.get("call", t.get("head")) for t in timed), None, "", None))
    rows.append(("a whole request, p50, ms", median(took for _, took, _ in calls), None, "", None))
    rows.append(("page faults of the process for each request", faults, None, "mapping the image again included", None))


def two_at_once(node, request, runs, rows):
    def series(into):
        client = Client(node, request)
        client.call("model")
        into += [client.call("model")[1] for _ in range(runs)]

    alone, first, second = [], [], []
    series(alone)
    threads = [threading.Thread(target=series, args=[into]) for into in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ratio = statistics.median(first + second) / statistics.median(alone)
    rows.append(("two at once, p50 over one alone", ratio, 1.2, "", None))


def memory(node, rows):
    shown = json.loads(node.run("inspect", "model", "--output", "json").stdout)
    snapshot, seen = shown["revision"]["snapshot"], shown.get("memory") or {}
    weights, image = snapshot["weight_bytes"], snapshot["image_bytes"]
    extent = snapshot["image"][-1][1] - snapshot["image"][0][0]
    rows.append(("weights, MiB", weights / MIB, None, "", None))
    rows.append(("image, MiB", image / MIB, weights / MIB * 1.15 + 4, "", None))
    rows.append(("from its first page to its last, MiB", extent / MIB, None, "", None))
    if seen:
        rows.append(("dirty memory of a request, MiB", seen["most"]["dirty"] * 4096 / MIB, 16, "", None))
        rows.append(("runs of dirty pages", seen["most"]["runs"], 31, "", None))
        rows.append(("copy-on-write applies", float(seen["most"]["shared"] > 0), None, "1 if so", seen["most"]["shared"] > 0))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mayfly", required=True)
    parser.add_argument("--runner", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--second", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=41)
    parser.add_argument("--strict", action="store_true", help="fail where a limit is exceeded")
    options = parser.parse_args()
    options.runner = options.runner.absolute()
    session = one_thread(options.model)
    port = session.get_inputs()[0]
    given = spread(port.shape)
    expected = session.run(None, {port.name: given})[0]
    request = frame(port.name, given)
    rows = [("runner, MiB", options.runner.stat().st_size / MIB, 8, "", None)]
    for switch in ("true", "false"):
        node = Node(options.mayfly, f"--engine-native-kernels={switch}")
        client = Client(node, request)
        label = "native kernels" if switch == "true" else "wasm only"
        took, cpu = modes(node, client, options, expected, label, rows)
        if switch == "true":
            rows.append(("first deploy, s", took, 20, f"{cpu:.1f} s of CPU", None))
            if options.second:
                took, cpu = deploy(node, options.second, "second", options.runner)
                rows.append(("next model on the same code, s", took, 5, f"{cpu:.1f} s of CPU", None))
            memory(node, rows)
            two_at_once(node, request, options.runs // 2, rows)
        timings(node, client, options.runs, rows)
        client.connection.close()
        node.stop()
    failed = []
    print("| what | measured | at most | |\n| --- | --- | --- | --- |")
    for what, value, most, note, good in rows:
        within = good if good is not None else most is None or value <= most
        if not within and (good is not None or options.strict):
            failed.append(what)
        print(f"| {what} | {value:.3g} | {'' if most is None else f'{most:.3g}'} | {note}{'' if within else ' over'} |")
    if failed:
        sys.exit("not as it should be: " + "; ".join(failed))


if __name__ == "__main__":
    main()
