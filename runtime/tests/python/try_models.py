"""Deploys every model of a collection, with fixed shapes and with open ones, and compares its answers with ONNX Runtime's.

    python try_models.py --mayfly target/release/mayfly --runner .../runner.wasm --cache target/models [--only PATTERN]

The collection is runtime/tests/models/models.toml; models are fetched or made into the cache. One model is on the node
at a time. Inputs are drawn with a seed; a model with open dimensions is asked for 1, 4 and 32 at once, and for other
sizes of what is no batch. Numbers may differ by 1e-3 of the largest of their output; labels, integers and text not at
all. Models that quantise between their layers may be a step of 8 bits beside; they are named at the end. Each model's
result is kept in the cache for the build that gave it, so that a run that was stopped goes on.
"""

import argparse
import collections
import fnmatch
import hashlib
import itertools
import json
import pathlib
import re
import statistics
import subprocess
import sys
import time

import numpy
import onnx
import onnxruntime

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "models")]
from collection import Collection, Missing  # noqa: E402
from binary_client import Client, Failed  # noqa: E402
from node import Node  # noqa: E402

TOLERANCE = 1e-3
# Outputs that are all below this are compared as if one were: what is left of a sigmoid far from zero is nothing to go by.
SMALL = 1e-3
# A step of 8 bits, where a model rounds between its layers: another order of a sum moves a few numbers over an edge, and
# what comes of that is in the answer. ONNX Runtime's own answers with and without its optimisations differ by that much.
STEP = 1 / 128
BATCHES = (1, 4, 32)
# Init is by the wall, so on a busy machine the default would decide; that a deploy takes long is in its line. Whoever
# asks for 32 pictures at once has to allow bodies of that size, memory for what is between them, and the time of 32.
LIMITS = [word for limit in ("init=180s", "request-body=64MiB", "response-body=64MiB") for word in ("--limit", limit)]
OPEN_LIMITS = [word for limit in ("memory=3GiB", "cpu=60s", "wall=120s") for word in ("--limit", limit)]
# Seconds: for a deploy, and for what ONNX Runtime may need until more at once are left out.
DEPLOY, LARGE = 240, 3
RUNS = 5
# The least share of right ones, in percent, as the project has set itself.
WANTED = {"fixed": 92, "open": 85}


class Reference:
    """ONNX Runtime on one thread."""

    def __init__(self, file):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self.options, self.what, self.plain = options, str(file), None
        operators = {node.op_type for node in onnx.load(file, load_external_data=False).graph.node}
        self.rounds = any(each.startswith(("QuantizeLinear", "DynamicQuantize", "QLinear")) for each in operators)
        try:
            self.session = self.start()
        except Exception as error:
            if "locale" not in str(error):
                raise
            # Text is in a language that this machine has not; the words here are plain letters, alike in every one.
            model = onnx.load(file)
            for node in (node for node in model.graph.node if node.op_type == "StringNormalizer"):
                kept = [each for each in node.attribute if each.name != "locale"]
                del node.attribute[:]
                node.attribute.extend([*kept, onnx.helper.make_attribute("locale", "C")])
            self.what = model.SerializeToString()
            self.session = self.start()

    def start(self):
        return onnxruntime.InferenceSession(self.what, self.options, providers=["CPUExecutionProvider"])

    def run(self, inputs, session=None):
        outputs = (session or self.session).run(None, inputs)
        return {port.name: table(value) for port, value in zip(self.session.get_outputs(), outputs)}

    def run_plain(self, inputs):
        """As the file has it, node by node: fusing what is quantised moves its roundings, and whole steps with them."""
        if not self.plain:
            self.options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            self.plain = self.start()
        return self.run(inputs, self.plain)


    def unsteady(self, inputs):
        """How far its own answer moves when its inputs do by a hundred-thousandth, which is what sums in another order are
        off by after a few layers: a recurrent cell that rounds in each step can be as far as that from any other."""
        random = numpy.random.default_rng(7)

        def moved(value):
            if value.dtype.kind != "f":
                return value
            return (value + 1e-5 * random.standard_normal(value.shape)).astype(value.dtype)

        right, worst = self.run(inputs), 0.0
        for _ in range(3):
            worst = max(worst, compare(self.run({name: moved(value) for name, value in inputs.items()}), right, 1e9))
        return worst


def table(value):
    """What ZipMap makes of a row, a map by label, as the row of numbers that it was."""
    if isinstance(value, list):
        return numpy.array([list(row.values()) for row in value])
    return numpy.asarray(value)


def compare(ours, right, tolerance=TOLERANCE):
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
                first = f"{got[~same][0]!r}, and not {expected[~same][0]!r}"
                raise Failed("wrong", f"{name}: {(~same).sum()} of {same.size} differ, as {first}")
            continue
        a, b = got.astype(numpy.float64), expected.astype(numpy.float64)
        finite = numpy.isfinite(b)
        odd = ~finite & ~((a == b) | (numpy.isnan(a) & numpy.isnan(b)))
        if odd.any() or not numpy.isfinite(a[finite]).all():
            raise Failed("wrong", f"{name}: NaN or infinity in other places")
        if finite.any():
            far = numpy.abs(a[finite] - b[finite]).max() / max(numpy.abs(b[finite]).max(), SMALL)
            worst = max(worst, float(far))
            if far > tolerance:
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
    command = [node.mayfly, "deploy", model.file, "--name", "tried", "--runner", runner, *LIMITS]
    command += [*(OPEN_LIMITS if open_ else []), *model.options(open_)]
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
            said["difference"] = max(said.get("difference", 0), judge(ours, right, reference, inputs))
        except Failed as failed:
            raise Failed(failed.result, f"{words}: {failed.why}") from failed
        if "ms" not in said:
            runs = RUNS if took < 500 else 1
            said["ms"] = statistics.median([took, *(client.infer("tried", inputs)[1] for _ in range(runs - 1))])
            said["theirs"] = statistics.median(timed(reference, inputs) for _ in range(runs))
        said["asked"].append(words)
    return said


def judge(ours, right, reference, inputs):
    """Right is what ONNX Runtime answers as it runs by default, or else with its optimisations off, or a step beside."""
    try:
        return compare(ours, right)
    except Failed as differs:
        plain = reference.run_plain(inputs)
        try:
            if not reference.rounds:
                return compare(ours, plain, TOLERANCE)
            return compare(ours, plain, max(STEP, compare(right, plain, 1), reference.unsteady(inputs)))
        except Failed:
            raise differs from None


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
    times = f"deploy {result['deploy']:5.1f} s, {result['ms']:8.2f} ms, x {ratio:5.2f}"
    return f"{start} {times}, differs {result['difference']:.0e} ({', '.join(result['asked'])})"


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
    steps = sorted({each["name"] for each in results if each.get("difference", 0) > TOLERANCE})
    print(f"right to a step of their quantisation: {len(steps)} {' '.join(steps)}")
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
    parser.add_argument("--mode", choices=WANTED, help="fixed shapes or open ones alone")
    parser.add_argument("--failed", action="store_true", help="only what was not right when it was last tried, by any build")
    parser.add_argument("--bless", action="store_true", help="write digests into the list, deploy nothing")
    return parser.parse_args()


def main():
    told = options()
    collected = Collection(told.cache, told.torch)
    chosen = [each for each in collected.models if any(fnmatch.fnmatch(word, told.only) for word in (each.name, each.group))]
    if told.bless:
        return bless(chosen)
    build, kept = digest(told.mayfly, told.runner), pathlib.Path(told.cache) / "results.jsonl"
    lines = [json.loads(text) for text in kept.read_text().splitlines()] if kept.exists() else []
    done = {(each["name"], each["mode"]): each for each in lines if each["build"] == build and each["result"] != "unfit"}
    last = {(each["name"], each["mode"]): each for each in lines}
    # The state stays, and with it the compiled runner.
    state = pathlib.Path(told.cache).resolve() / "state"
    state.mkdir(exist_ok=True)
    node = Node(told.mayfly, state=state)
    with open(kept, "a") as out:
        for model in in_turn(chosen):
            for mode in [told.mode] if told.mode else WANTED:
                key = (model.name, mode)
                try:
                    if mode == "open" and not model.open():
                        continue
                    if key in done or told.failed and last.get(key, {}).get("result") == "right":
                        done.setdefault(key, last[key])
                        continue
                    done[key] = attempt(node, model, told.runner, mode == "open")
                except Missing as why:
                    done[key] = {"name": model.name, "group": model.group, "mode": mode, "result": "missing", "why": str(why)}
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
