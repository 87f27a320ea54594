"""A differential fuzz: graphs of two to eight nodes, run inside a guest and by ONNX Runtime.

    python fuzz_models.py --mayfly target/release/mayfly --guest .../onnx_cases.wasm --count 500 [--first SEED]

Each seed makes one graph (fuzz_graph.py), of operator sets 7 to 23, with the operators of fuzz_operators.py, fuzz_moves.py,
fuzz_layers.py and fuzz_patterns.py. ONNX Runtime runs it on one thread with all optimisations off; whole numbers and text
are to be the same, floats as near as fuzz_check.py says. A node that is refused is taken out and the rest tried again, so
that each graph is compared in the end. What differs, panics or crashes is shrunk, written below `--failures`, and fails
the run; so does a refusal that names no node.
"""

import argparse
import collections
import multiprocessing
import multiprocessing.connection
import pathlib
import re
import sys
import time
import traceback

import numpy
import onnx
import onnxruntime

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import fuzz_patterns  # noqa: E402
import fuzz_table  # noqa: E402
from fuzz_check import Case, blamed, compare, judge, shrink  # noqa: E402
from node import Node  # noqa: E402
from onnx_conformance import Gateway, kind  # noqa: E402

DEFECTS = ("different", "panicked", "crashed")
# At least so many of a hundred graphs are to be compared, or the run says nothing.
AGREE = 60


def label(step):
    """Domain and operator, type of the first input, and since which operator set it is so."""
    proto = step.proto
    element = step.inputs[0].element if step.inputs else step.outputs[0].element
    domain = f"{proto.domain}." if proto.domain else ""
    since = onnx.defs.get_schema(proto.op_type, step.sets[proto.domain], proto.domain).since_version
    return f"{domain}{proto.op_type}", element, since


def examine(seed, call, failures):
    """What came of a seed: outcome, words, the steps that agreed and those that were refused."""
    graph = fuzz_patterns.draw(seed)
    for step in graph.steps:
        step.sets = {"": graph.opset, "ai.onnx.ml": graph.ml}
    case, refused = Case(graph, graph.steps), []
    while case.steps:
        outcome, words = judge(case, call)
        if outcome not in ("refused", "cannot run"):
            break
        step, named = blamed(case, words, call)
        refused.append((label(step), kind(tidy(words)), outcome, named, f"seed {seed}: {' '.join(words.split())}"))
        case = case.without(step)
    else:
        return "nothing", "", [], refused, False
    if outcome in DEFECTS:
        smallest = shrink(case, call, outcome)
        _, words = judge(smallest, call)
        words = f"{'+'.join(label(step)[0] for step in smallest.steps)}: {words}"
        write(failures / f"{seed}_{outcome}", smallest, words)
    theirs = outcome in ("same", "steep") and differs_optimised(case)
    return outcome, words, [label(step) for step in case.steps], refused, theirs


def tidy(words):
    """A refusal without the names that the seed gave."""
    return re.sub(r"\b[a-z]*\d*_?[ncxtesl]\d+(_\w+)?\b", "_", words)


def differs_optimised(case):
    """Whether ONNX Runtime's optimiser changes its answer."""
    plain, optimised = case.right(), case.right(True)
    return optimised is None or compare(case.outputs, optimised, plain) is not None


def write(path, case, words):
    """A model, its inputs, and what is said of it."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.onnx").write_bytes(case.model())
    numpy.savez(path / "inputs.npz", **case.given())
    right = case.right() or {}
    lines = [words, "", onnx.printer.to_text(onnx.load(path / "model.onnx"))]
    lines += [f"{name} = {array!r}" for name, array in [*case.given().items(), *right.items()]]
    (path / "words.txt").write_text("\n".join(lines) + "\n")


def work(pipe, address, failures):
    """One process: ONNX Runtime may end it."""
    onnxruntime.set_default_logger_severity(4)
    call = Gateway(address)
    while (seed := pipe.recv()) is not None:
        try:
            pipe.send(examine(seed, call, failures))
        except Exception:  # told by the seed
            pipe.send(("broken", traceback.format_exc(), [], [], False))


class Worker:
    def __init__(self, *arguments):
        self.arguments, self.seed = arguments, None
        self.start()

    def start(self):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, *self.arguments), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, seed):
        self.seed = seed
        self.pipe.send(seed)

    def take(self):
        try:
            return self.pipe.recv()
        except EOFError:
            self.process.join()
            self.start()
            return "theirs", f"ONNX Runtime ended its process ({self.process.exitcode})", [], [], False


def run(seeds, workers, each):
    """Gives every seed to a process that is free."""
    seeds, busy = iter(seeds), {}
    free = list(workers)
    while True:
        while free and (seed := next(seeds, None)) is not None:
            worker = free.pop()
            worker.give(seed)
            busy[worker.pipe] = worker
        if not busy:
            return
        for pipe in multiprocessing.connection.wait(list(busy)):
            worker = busy.pop(pipe)
            each(worker.seed, worker.take())
            free.append(worker)


class Tally:
    def __init__(self):
        self.outcomes, self.refusals, self.agreed = collections.Counter(), collections.Counter(), collections.Counter()
        self.defects, self.nameless, self.examples, self.optimised = [], [], {}, 0

    def add(self, seed, result):
        outcome, words, steps, refused, theirs = result
        self.outcomes[outcome] += 1
        self.optimised += theirs
        if outcome in ("same", "steep"):
            self.agreed.update(set(steps))
        elif outcome in (*DEFECTS, "broken"):
            self.defects.append(f"{seed}: {outcome}: {words}")
            print(self.defects[-1][:600], flush=True)
        for (operator, element, since), why, when, named, example in refused:
            self.refusals[operator, element, when, why] += 1
            self.examples.setdefault((operator, why), example)
            if not named:
                self.nameless.append(f"{operator}: {example}")

    def report(self):
        print("\n".join(f"{count:6} {outcome}" for outcome, count in self.outcomes.most_common()))
        print(f"{self.optimised:6} of them other numbers by ONNX Runtime itself once it optimises")
        grouped = collections.defaultdict(collections.Counter)
        for (operator, element, when, why), count in self.refusals.items():
            grouped[operator, when, why][element] += count
        for (operator, when, why), elements in sorted(grouped.items(), key=lambda item: -sum(item[1].values())):
            listed = " ".join(f"{element} {count}" for element, count in elements.most_common())
            print(f"{sum(elements.values()):5} {operator} {when}: {why} ({listed})")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mayfly", required=True)
    parser.add_argument("--guest", required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="*", help="these alone")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--failures", type=pathlib.Path, default=pathlib.Path("target/fuzz-models"))
    parser.add_argument("--table", type=pathlib.Path, help="write the table of operators")
    parser.add_argument("--list", type=pathlib.Path, help="the cases that pass, for the table")
    parser.add_argument("--refusals", type=pathlib.Path, help="write an example of each refusal")
    options = parser.parse_args()
    node = Node(options.mayfly)
    limits = ["memory=512MiB", "request-body=64MiB", "response-body=64MiB", "wall=60s", "cpu=60s"]
    node.deploy(options.guest, "onnx-cases", *(word for limit in limits for word in ("--limit", limit)))
    seeds = options.seeds or range(options.first, options.first + options.count)
    workers = [Worker(node.gateway, options.failures) for _ in range(options.jobs)]
    tally, began = Tally(), time.monotonic()
    run(seeds, workers, tally.add)
    for worker in workers:
        worker.pipe.send(None)
    if not node.stop():
        sys.exit("mayfly serve did not end with code 0")
    finish(tally, options, len(seeds), time.monotonic() - began)


def finish(tally, options, count, took):
    tally.report()
    if options.refusals:
        lines = [f"{operator}: {example}" for (operator, _), example in sorted(tally.examples.items())]
        options.refusals.write_text("\n".join(lines) + "\n")
    if options.table:
        fuzz_table.write(options.table, tally, count, options.list)
    for example in tally.nameless[:20]:
        print(f"NAMES NO NODE {example[:400]}")
    agreed = tally.outcomes["same"] + tally.outcomes["steep"]
    print(f"{count} graphs in {took:.0f} s: {agreed} agree, {len(tally.defects)} defects, {len(tally.nameless)} refusals without a node")
    print(f"{agreed} passed, {len(tally.defects)} failed, {count - agreed - len(tally.defects)} skipped")
    if tally.defects or tally.nameless or agreed * 100 < AGREE * count and not options.seeds:
        sys.exit(1)


if __name__ == "__main__":
    main()
