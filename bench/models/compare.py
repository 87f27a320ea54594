"""Compares models in the sandbox with native tract, ONNX Runtime and ONNX Runtime Web, in one run and in turns.

For each model: every contestant is started and warmed up; then each makes one inference after the other, round by
round, on one thread. Mayfly is asked over its inference protocol, at two nodes: one with native kernels, one without.
What counts is the median of the inference alone, as the guest's own marks in Server-Timing have it; beside it the CPU
time of the inference (contestants) or of the whole request, a fresh instance and its page faults included (Mayfly).

Run it by `make bench-models`, on a machine that does nothing else.
"""

import argparse
import http.client
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "runtime/tests/python"))
from node import Node  # noqa: E402
from onnx_peer import spread  # noqa: E402

TYPES = {"FP32": np.float32, "INT32": np.int32, "INT64": np.int64}
CONTESTANTS = ["tract", "onnxruntime", "onnxruntime-web", "kernels", "portable"]


def picture():
    return spread([1, 3, 224, 224])


def sentence():
    ids = np.arange(1000, 1016, dtype=np.int64).reshape(1, 16)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


# File, and its inputs.
MODELS = {
    "ResNet-18, 224x224": ("resnet18.onnx", lambda: {"input": picture()}),
    "EfficientNet-Lite0, 224x224": ("efficientnet_lite0.onnx", lambda: {"input": picture()}),
    "SqueezeNet 1.1, 224x224": ("squeezenet1_1.onnx", lambda: {"input": picture() * 100}),
    "MiniLM-L6, 16 tokens": ("minilm_l6_int8.onnx", sentence),
    "PP-OCRv4 recognition, 48x320": ("ppocrv4_rec.onnx", lambda: {"x": spread([1, 3, 48, 320])}),
    "Magika": (
        "magika_v3_3.onnx",
        lambda: {"bytes": (np.arange(2048, dtype=np.int32) % 256).reshape(1, 2048)},
    ),
    "Silero, 32 ms": (
        "silero_vad_openvino_16k.onnx",
        lambda: {"input": spread([1, 576]), "state": np.zeros([2, 1, 128], np.float32)},
    ),
}


def datatype(array):
    return next(name for name, kind in TYPES.items() if array.dtype == kind)


def shape(array):
    return "x".join(str(d) for d in array.shape)


class Process:
    """A contestant that is a process of its own and answers `run` and `outputs FILE`."""

    def __init__(self, command, folder):
        self.folder = folder
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self.line() != "ready":
            raise RuntimeError(f"{command[0]} did not start")

    def line(self):
        return self.process.stdout.readline().strip()

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.line()

    def run(self):
        wall, cpu = self.ask("run").split()
        return float(wall), float(cpu)

    def outputs(self):
        path = self.folder / "outputs.bin"
        self.ask(f"outputs {path}")
        return np.fromfile(path, np.float32)

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


def process_cpu(pid):
    """CPU nanoseconds of all its threads so far."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            continue
    return total


class Served:
    """A model at a node."""

    def __init__(self, node, name, inputs):
        self.node, self.path = node, f"/v2/models/{name}/infer"
        self.connection = http.client.HTTPConnection(node.gateway, timeout=120)
        listed, data = [], b""
        for key, value in inputs.items():
            raw = value.tobytes()
            listed.append({
                "name": key, "shape": list(value.shape), "datatype": datatype(value),
                "parameters": {"binary_data_size": len(raw)},
            })
            data += raw
        head = json.dumps({"inputs": listed, "parameters": {"binary_data_output": True}}).encode()
        self.body = head + data
        self.headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(head)),
        }
        self.answer = None

    def run(self):
        before = process_cpu(self.node.pid)
        self.connection.request("POST", self.path, self.body, self.headers)
        response = self.connection.getresponse()
        body = response.read()
        cpu = (process_cpu(self.node.pid) - before) / 1e6
        if response.status != 200:
            raise RuntimeError(f"{self.path}: {response.status} {body[:300]!r}")
        self.answer = response.headers["Inference-Header-Content-Length"], body
        parts = dict(part.strip().split(";dur=") for part in response.headers["Server-Timing"].split(","))
        return float(parts["mark7"]) - float(parts["mark6"]), cpu

    def outputs(self):
        length, body = self.answer
        length = int(length)
        at, arrays = length, []
        for output in json.loads(body[:length])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            kind = TYPES[output["datatype"]]
            arrays.append(np.frombuffer(body[at:at + size], kind).astype(np.float32))
            at += size
        return np.concatenate(arrays)

    def close(self):
        self.connection.close()


def start(options, nodes, name, path, inputs, folder):
    """Every contestant that can run this model; what cannot is said."""
    arguments = []
    for i, (key, value) in enumerate(inputs.items()):
        file = folder / f"input{i}.bin"
        value.tofile(file)
        arguments.append(f"{key}:{datatype(value)}:{shape(value)}:{file}")
    web = HERE / "time_onnxruntime_web.mjs"
    commands = {
        "tract": [options.tract, str(path), *arguments],
        "onnxruntime": [sys.executable, str(HERE / "time_onnxruntime.py"), str(path), *arguments],
        "onnxruntime-web": ["node", str(web), str(options.peers), str(path), *arguments],
    }
    contestants = {}
    for contestant in CONTESTANTS:
        try:
            if contestant in commands:
                contestants[contestant] = Process(commands[contestant], folder)
            else:
                shapes = [f"--input={key}={shape(value)}" for key, value in inputs.items()]
                nodes[contestant].deploy(path, name, "--runner", options.runner, *shapes)
                contestants[contestant] = Served(nodes[contestant], name, inputs)
        except (RuntimeError, OSError) as error:
            print(f"  {contestant} is left out: {error}", file=sys.stderr)
    return contestants


def measure(contestants, rounds):
    for contestant in contestants.values():
        for _ in range(3):
            contestant.run()
    times = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            times[name].append(contestant.run())
    return times


def summarise(times, outputs):
    """Medians, and how far each is from ONNX Runtime's outputs."""
    expected = outputs.get("onnxruntime")
    result = {}
    for name, samples in times.items():
        wall, cpu = zip(*samples)
        off = None
        if expected is not None and name != "onnxruntime" and outputs[name].shape == expected.shape:
            off = float(np.max(np.abs(outputs[name] - expected)))
        result[name] = {
            "wall_ms": statistics.median(wall), "cpu_ms": statistics.median(cpu),
            "least_ms": min(wall), "off": off, "samples": samples,
        }
    return result


def table(results, key):
    head = ["model", "tract", "ORT", "ORT Web", "kernels", "x tract", "x ORT", "portable", "x tract", "x Web"]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " --- |" * (len(head) - 1)]

    for model, result in results.items():
        def value(name):
            return result.get(name, {}).get(key)

        def ms(name):
            v = value(name)
            return "-" if v is None else f"{v:.2f}" if v < 10 else f"{v:.1f}"

        def ratio(a, b):
            return "-" if not value(a) or not value(b) else f"{value(a) / value(b):.2f}"

        cells = [
            model, ms("tract"), ms("onnxruntime"), ms("onnxruntime-web"),
            ms("kernels"), ratio("kernels", "tract"), ratio("kernels", "onnxruntime"),
            ms("portable"), ratio("portable", "tract"), ratio("portable", "onnxruntime-web"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(results):
    print(f"\nInference alone, ms by the wall, median ({platform.machine()}, load {os.getloadavg()[0]:.1f}):\n")
    print(table(results, "wall_ms"))
    print("\nCPU ms, median; Mayfly's are of the whole request:\n")
    print(table(results, "cpu_ms"))
    print("\nLargest difference of an output to ONNX Runtime's:\n")
    for model, result in results.items():
        offs = {name: r["off"] for name, r in result.items() if name != "onnxruntime"}
        shown = ", ".join("{} {}".format(n, "-" if v is None else f"{v:.1e}") for n, v in offs.items())
        print(f"- {model}: {shown}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mayfly", required=True, help="the binary")
    parser.add_argument("--runner", required=True, help="the stock runner, runner.wasm")
    parser.add_argument("--tract", required=True, help="the example time_tract, built natively")
    parser.add_argument("--peers", type=pathlib.Path, required=True, help="where onnxruntime-web is")
    parser.add_argument("--models", type=pathlib.Path, action="append", required=True, help="where models are")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--only", help="part of a model's name")
    parser.add_argument("--json", type=pathlib.Path, help="where every sample goes")
    options = parser.parse_args()
    options.peers = options.peers.resolve()
    results = {}
    with tempfile.TemporaryDirectory(prefix="mayfly-models-") as folder:
        folder = pathlib.Path(folder)
        nodes = {
            name: Node(options.mayfly, f"--engine-native-kernels={str(name == 'kernels').lower()}", slots="auto")
            for name in CONTESTANTS[3:]
        }
        try:
            for i, (model, (file, inputs)) in enumerate(MODELS.items()):
                path = next((d / file for d in options.models if (d / file).exists()), None)
                if options.only and options.only.lower() not in model.lower():
                    continue
                if path is None:
                    print(f"{model} is left out: no {file}", file=sys.stderr)
                    continue
                print(f"{model} ...", file=sys.stderr)
                contestants = start(options, nodes, f"model-{i}", path, inputs(), folder)
                try:
                    times = measure(contestants, options.rounds)
                    outputs = {name: c.outputs() for name, c in contestants.items()}
                finally:
                    for contestant in contestants.values():
                        contestant.close()
                results[model] = summarise(times, outputs)
        finally:
            for node in nodes.values():
                node.stop()
    report(results)
    if options.json:
        options.json.write_text(json.dumps(results))
    far = [
        f"{model}: {name} is {r['off']:.1e} off"
        for model, result in results.items()
        for name, r in result.items()
        if r["off"] is not None and r["off"] > 1e-3
    ]
    if far:
        sys.exit("outputs differ by more than 1e-3: " + "; ".join(far))


if __name__ == "__main__":
    main()
