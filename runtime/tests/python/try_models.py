"""Deploys every model of a collection, with fixed shapes and with open ones, and compares its answers with ONNX Runtime's.

    python try_models.py --mayfly target/release/mayfly --runner .../runner.wasm --cache target/models [--only PATTERN]

The collection is runtime/tests/models/models.toml; models are fetched or made into the cache. One model is on the node
at a time. Inputs are drawn with a seed; a model with open dimensions is asked for 1, 4 and 32 at once, and for other
sizes of what is no batch. Numbers may differ by 1e-3 of the largest of their output; labels, integers and text not at
all. Each model's result is kept in the cache for the build that gave it, so that a run that was stopped goes on.
"""

import argparse
import collections
import fnmatch
import hashlib
import http.client
import itertools
import json
import pathlib
import re
import statistics
import struct
import subprocess
import sys
import time

import numpy
import onnx
import onnxruntime

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "models")]
from collection import Collection, Missing  # noqa: E402
from node import Node  # noqa: E402

TYPES = {
    "FP32": numpy.float32, "FP64": numpy.float64, "FP16": numpy.float16, "INT64": numpy.int64, "INT32": numpy.int32,
    "INT16": numpy.int16, "INT8": numpy.int8, "UINT64": numpy.uint64, "UINT32": numpy.uint32, "UINT16": numpy.uint16,
    "UINT8": numpy.uint8, "BOOL": numpy.bool_, "BYTES": numpy.object_,
}
WORDS = {numpy.dtype(kind): word for word, kind in TYPES.items()}
TOLERANCE = 1e-3
# Outputs that are all below this are compared as if one were: what is left of a sigmoid far from zero is nothing to go by.
SMALL = 1e-3
BATCHES = (1, 4, 32)
# Seconds: for a deploy, for an answer, and for what ONNX Runtime may need until more at once are left out.
DEPLOY, ANSWER, LARGE = 240, 120, 3
RUNS = 5
# The least share of right ones, in percent, as the project has set itself.
WANTED = {"fixed": 92, "open": 85}


class Failed(Exception):
    """What became of a model, and why."""

    def __init__(self, result, why):
        super().__init__(why)
        self.result, self.why = result, " ".join(str(why).split())


class Reference:
    """ONNX Runtime on one thread."""

    def __init__(self, file):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        start = lambda what: onnxruntime.InferenceSession(what, options, providers=["CPUExecutionProvider"])  # noqa: E731
        try:
            self.session = start(str(file))
        except Exception as error:
            if "locale" not in str(error):
                raise
            # Text is in a language that this machine has not; the words here are plain letters, alike in every one.
            model = onnx.load(file)
            for node in (node for node in model.graph.node if node.op_type == "StringNormalizer"):
                kept = [each for each in node.attribute if each.name != "locale"]
                del node.attribute[:]
                node.attribute.extend([*kept, onnx.helper.make_attribute("locale", "C")])
            self.session = start(model.SerializeToString())

    def run(self, inputs):
        outputs = self.session.run(None, inputs)
        return {port.name: table(value) for port, value in zip(self.session.get_outputs(), outputs)}


def table(value):
    """What ZipMap makes of a row, a map by label, as the row of numbers that it was."""
    if isinstance(value, list):
        return numpy.array([list(row.values()) for row in value])
    return numpy.asarray(value)


class Client:
    """Asks in binary, on one connection."""

    def __init__(self, gateway):
        self.gateway, self.connection = gateway, None

    def infer(self, name, inputs):
        """The outputs, and the milliseconds of the inference alone."""
        described, data = [], b""
        for key, value in inputs.items():
            raw = encode(value)
            data += raw
            described.append({
                "name": key, "shape": list(value.shape), "datatype": WORDS[value.dtype], "parameters": {"binary_data_size": len(raw)},
            })
        head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
        began = time.monotonic()
        try:
            self.connection = self.connection or http.client.HTTPConnection(self.gateway, timeout=ANSWER)
            self.connection.request("POST", f"/v2/models/{name}/infer", head + data, headers)
            response = self.connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection = None
            raise Failed("error", f"no answer: {error!r}") from error
        took = (time.monotonic() - began) * 1e3
        if response.status != 200:
            raise Failed("error", f"{response.status}: {body.decode(errors='replace')}")
        marks = dict(re.findall(r"(\w+);dur=([\d.]+)", response.getheader("Server-Timing") or ""))
        if "mark7" in marks:
            took = float(marks["mark7"]) - float(marks["mark6"])
        return decode(body, int(response.getheader("Inference-Header-Content-Length") or len(body))), took


def encode(value):
    if value.dtype == numpy.object_:
        words = [str(each).encode() for each in value.ravel()]
        return b"".join(struct.pack("<I", len(word)) + word for word in words)
    return numpy.ascontiguousarray(value).tobytes()


def decode(body, length):
    outputs, at = {}, length
    for port in json.loads(body[:length])["outputs"]:
        kind = TYPES[port["datatype"]]
        size = port.get("parameters", {}).get("binary_data_size")
        if size is None:
            flat = numpy.array(port["data"], kind)
        elif kind == numpy.object_:
            flat, data = [], body[at:at + size]
            while data:
                end = 4 + struct.unpack("<I", data[:4])[0]
                flat.append(data[4:end].decode())
                data = data[end:]
            flat = numpy.array(flat, object)
        else:
            flat = numpy.frombuffer(body[at:at + size], kind)
        at += size or 0
        outputs[port["name"]] = flat.reshape(port["shape"])
    return outputs


def compare(ours, right):
    """The largest difference, over the largest number of its output; anything else that differs is wrong."""
    worst = 0.0
    if set(ours) != set(right):
        raise Failed("wrong", f"outputs {sorted(ours)}, and not {sorted(right)}")
    for name, expected in right.items():
        got = ours[name]
        if got.shape != expected.shape:
            raise Failed("wrong", f"{name}: shape {list(got.shape)}, and not {list(expected.shape)}")
        if expected.dtype.kind != "f":
            same = got.astype(expected.dtype) == expected
            if not same.all():
                raise Failed("wrong", f"{name}: {(~same).sum()} of {same.size} differ, as {got[~same][0]!r}, and not {expected[~same][0]!r}")
            continue
        a, b = got.astype(numpy.float64), expected.astype(numpy.float64)
        finite = numpy.isfinite(b)
        odd = ~finite & ~((a == b) | (numpy.isnan(a) & numpy.isnan(b)))
        if odd.any() or not numpy.isfinite(a[finite]).all():
            raise Failed("wrong", f"{name}: NaN or infinity in other places")
        if finite.any():
            far = numpy.abs(a[finite] - b[finite]).max() / max(numpy.abs(b[finite]).max(), SMALL)
            worst = max(worst, float(far))
            if far > TOLERANCE:
                raise Failed("wrong", f"{name}: differs by {far:.1e} of its largest number")
    return worst


def calls(model, open_):
    """The shapes to ask with: (words, shapes)."""
    if not open_:
        return [("fixed", model.shapes(1))]
    found = [(f"{batch} at once", model.shapes(batch)) for batch in BATCHES]
    found.append(("other sizes", model.shapes(1, other=True)))
    kept = []
    for words, shapes in found:
        if shapes not in [each for _, each in kept]:
            kept.append((words, shapes))
    return kept


def deploy(node, model, runner, open_):
    command = [node.mayfly, "deploy", model.file, "--name", "tried", "--runner", runner, *model.options(open_)]
    try:
        done = subprocess.run(list(map(str, command)), env=node.env, capture_output=True, text=True, timeout=DEPLOY)
    except subprocess.TimeoutExpired as error:
        raise Failed("refused", f"no deploy in {DEPLOY} s") from error
    if done.returncode:
        raise Failed("refused", done.stderr.replace(str(model.file), "MODEL") or done.stdout)


def ask(node, model, reference, open_):
    """What the answers to all calls were like."""
    client, random = Client(node.gateway), numpy.random.default_rng(7)
    said, slow, usual = {"asked": []}, 0.0, None
    for words, shapes in calls(model, open_):
        inputs = model.draw(shapes, random)
        many = max(1, numpy.prod([shape[0] for shape in shapes.values() if shape][:1]))
        if usual and usual * many > LARGE:
            said["asked"].append(f"{words}: left out, it takes long")
            continue
        try:
            began = time.monotonic()
            right = reference.run(inputs)
        except Exception as error:  # noqa: BLE001: whatever it says, it is no size of this model's
            if not said["asked"]:
                raise Failed("unfit", f"ONNX Runtime: {error}") from error
            said["asked"].append(f"{words}: not to ONNX Runtime either")
            continue
        slow = time.monotonic() - began
        usual = usual or slow
        try:
            ours, took = client.infer("tried", inputs)
            said["difference"] = max(said.get("difference", 0), compare(ours, right))
        except Failed as failed:
            raise Failed(failed.result, f"{words}: {failed.why}") from failed
        if "ms" not in said:
            runs = RUNS if took < 500 else 1
            said["ms"] = statistics.median([took, *(client.infer("tried", inputs)[1] for _ in range(runs - 1))])
            said["theirs"] = statistics.median(timed(reference, inputs) for _ in range(runs))
        said["asked"].append(words)
    return said


def timed(reference, inputs):
    began = time.monotonic()
    reference.run(inputs)
    return (time.monotonic() - began) * 1e3


def attempt(node, model, runner, open_):
    """One deploy with all that is asked of it."""
    result = {"name": model.name, "group": model.group, "mode": "open" if open_ else "fixed", "named": bool(model.names)}
    began = time.monotonic()
    try:
        reference = Reference(model.file)
        deploy(node, model, runner, open_)
        result["deploy"] = time.monotonic() - began
        result |= {"result": "right"} | ask(node, model, reference, open_)
    except Failed as failed:
        result |= {"result": failed.result, "why": failed.why[:1500]}
    except Exception as error:  # noqa: BLE001: one model's trouble is told of as its own
        result |= {"result": "unfit", "why": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}
    result["seconds"] = time.monotonic() - began
    node.run("remove", "tried")
    return result


def line(result):
    start = f"{result['name']:32} {result['mode']:5} {result['result']:8}"
    if result["result"] != "right":
        return f"{start} {result.get('why', '')[:400]}"
    ratio = result["ms"] / max(result["theirs"], 1e-6)
    return (f"{start} deploy {result['deploy']:5.1f} s, {result['ms']:8.2f} ms, x {ratio:5.2f}, differs {result['difference']:.0e}"
            f" ({', '.join(result['asked'])})")


def share(results):
    right = sum(each["result"] == "right" for each in results)
    return f"{right}/{len(results)} {100 * right / max(1, len(results)):.0f} %"


def summary(results):
    """A table of the groups, then what has to be shown; whether it is."""
    results = [each for each in results if each["result"] not in ("missing", "unfit")]
    groups = collections.defaultdict(list)
    for each in results:
        groups[each["group"]].append(each)
    print("\n| group | fixed | open |\n| --- | --- | --- |")
    for group, members in groups.items():
        print("|", " | ".join([group, *(share([each for each in members if each["mode"] == mode]) for mode in WANTED)]), "|")
    good = True
    for mode, least in WANTED.items():
        # Of the open ones those count that have names for what is open; the others are a figure of their own.
        counted = [each for each in results if each["mode"] == mode and (mode == "fixed" or each["named"])]
        right = 100 * sum(each["result"] == "right" for each in counted) / max(1, len(counted))
        good &= right >= least
        print(f"{mode}: {share(counted)}, at least {least} % wanted")
    print(f"open without names: {share([each for each in results if each['mode'] == 'open' and not each['named']])}")
    for word in ("wrong", "error"):
        names = sorted({each["name"] for each in results if each["result"] == word})
        print(f"{word}: {len(names)} {' '.join(names)}")
        good &= word != "wrong" or not names
    return good


def size(model):
    try:
        return model.file.stat().st_size
    except Missing:
        return 0


def in_turn(models):
    """One of each group after the other, the small ones first: most of what there is to know is known early."""
    groups = collections.defaultdict(list)
    for model in sorted(models, key=size):
        groups[model.group].append(model)
    rows = itertools.zip_longest(*groups.values())
    return [model for row in rows for model in row if model]


def digest(*files):
    return "-".join(hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()[:10] for file in files)


def bless(models):
    """Writes the digests of all that could be had into the list."""
    from collection import LIST
    text = LIST.read_text()
    for model in models:
        try:
            found = hashlib.sha256(model.file.read_bytes()).hexdigest()
        except Missing as why:
            print(f"{model.name}: {why}")
            continue
        start = text.index(f'name = "{model.name}"\n')
        end = text.find("[[model]]", start) if "[[model]]" in text[start:] else len(text)
        block = re.sub(r'sha256 = "\w*"\n', "", text[start:end])
        text = text[:start] + block.replace("\n", f'\nsha256 = "{found}"\n', 1) + text[end:]
    LIST.write_text(text)


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mayfly")
    parser.add_argument("--runner")
    parser.add_argument("--cache", required=True)
    parser.add_argument("--torch", help="the Python that has PyTorch")
    parser.add_argument("--only", default="*", help="names or groups, as in 'half-*'")
    parser.add_argument("--failed", action="store_true", help="only what was not right when it was last tried, by any build")
    parser.add_argument("--bless", action="store_true", help="write digests into the list, deploy nothing")
    return parser.parse_args()


def main():
    told = options()
    collected = Collection(told.cache, told.torch)
    chosen = [each for each in collected.models if fnmatch.fnmatch(each.name, told.only) or fnmatch.fnmatch(each.group, told.only)]
    if told.bless:
        return bless(chosen)
    build, kept = digest(told.mayfly, told.runner), pathlib.Path(told.cache) / "results.jsonl"
    lines = [json.loads(text) for text in kept.read_text().splitlines()] if kept.exists() else []
    done = {(each["name"], each["mode"]): each for each in lines if each["build"] == build and each["result"] != "unfit"}
    last = {(each["name"], each["mode"]): each for each in lines}
    node = Node(told.mayfly)
    with open(kept, "a") as out:
        for model in in_turn(chosen):
            for mode in WANTED:
                key = (model.name, mode)
                try:
                    if mode == "open" and not model.open():
                        continue
                    if key in done or told.failed and last.get(key, {}).get("result") == "right":
                        done.setdefault(key, last[key])
                        continue
                    done[key] = attempt(node, model, told.runner, mode == "open")
                except Missing as why:
                    done[key] = {"name": model.name, "group": model.group, "mode": mode, "named": False, "result": "missing", "why": str(why)}
                print(line(done[key]), f"[{model.note}]" if model.note else "", flush=True)
                if done[key]["result"] != "missing":
                    out.write(json.dumps(done[key] | {"build": build}) + "\n")
                    out.flush()
    node.stop()
    chosen = {model.name for model in chosen}
    if not summary([each for each in done.values() if each["name"] in chosen]) and told.only == "*":
        sys.exit(1)


if __name__ == "__main__":
    main()
