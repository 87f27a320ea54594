"""The table of operators in docs/operators.md: what is claimed, and how often each type was compared in a run of the fuzz."""

import collections
import pathlib

import onnx

import onnx_conformance

SHORT = {
    "float32": "f32", "float64": "f64", "float16": "f16", "object": "text", "bool": "bool",
    **{f"{sign}int{bits}": f"{sign or 'i'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
HEAD = """# Operators

Which operators run, for which types, and how that is known; written by `make soak-models` (`--table`), not by hand.

**Operator sets**: since which ones the operator has meant what was tried; `ai.onnx.ml` counts its own. **Cases**: of the
ONNX standard's cases of this one operator, and of ours in its layout, how many pass, as they are or with constants
([inference.md](inference.md)). **Graphs that agreed**: of a differential fuzz of {count:,} graphs of two to eight nodes
against ONNX Runtime {version}, in how many the operator read this type first and all outputs of the graph were the same:
whole numbers and text exactly, floats within `TOLERANCE` of `runtime/tests/python/fuzz_check.py` (f32: 1e-4 of the number
or 5e-6 of the largest), or as far apart as a rounding of one node's result can bring them. **Refused**: how often it was
refused at deploy instead, by type; those cases are not claimed, and what each says is in the run's own report. A graph
that was answered otherwise, or ended its instance, fails the run: {defects}.

What is not compared, because the standard leaves it open: whole numbers divided by 0; floats cast to whole numbers that
cannot hold them; NaN where numbers are ordered or quantised; shifts by all bits; powers beyond a whole type; two elements
scattered to one place; the sign of a sum that is 0. Nor where ONNX Runtime is at odds with the standard: `GridSample` of
infinity, `Softmax` of NaN in f64.

| operator | operator sets | cases | graphs that agreed | refused |
| --- | --- | --- | --- | --- |
"""


def cases(passing):
    """Of each operator, how many cases there are and how many pass."""
    listed = {line.split()[0] for line in passing.read_text().splitlines() if line}
    all_of, passed = collections.Counter(), collections.Counter()
    for case in onnx_conformance.cases():
        graph = onnx.load(case / "model.onnx").graph
        kinds = {(node.domain, node.op_type) for node in graph.node} - {("", "QuantizeLinear"), ("", "DequantizeLinear")}
        if len(kinds) != 1 and len(graph.node) != 1:
            continue
        domain, operator = next(iter(kinds or {("", graph.node[0].op_type)}))
        name = f"{domain}.{operator}" if domain else operator
        all_of[name] += 1
        passed[name] += case.name in listed
    return all_of, passed


def listed(counts):
    return ", ".join(f"{SHORT[element]} {count:,}" for element, count in counts.most_common())


def write(path, tally, count, passing):
    import onnxruntime
    all_of, passed = cases(passing)
    sets, agreed, refused = (collections.defaultdict(kind) for kind in (set, collections.Counter, collections.Counter))
    for (operator, element, since), number in tally.agreed.items():
        sets[operator].add(since)
        agreed[operator][element] += number
    for (operator, element, _, _), number in tally.refusals.items():
        refused[operator][element] += number
    lines = []
    for operator in sorted({*agreed, *refused, *(name for name, number in passed.items() if number)}, key=str.lower):
        since = ", ".join(map(str, sorted(sets[operator])))
        of = f"{passed[operator]} of {all_of[operator]}" if all_of[operator] else ""
        lines.append(f"| `{operator}` | {since} | {of} | {listed(agreed[operator])} | {listed(refused[operator])} |")
    found = sorted({line.split(": ")[2].split("+")[-1] for line in tally.defects})
    defects = f"{len(tally.defects)} did in this one ({', '.join(found)})" if found else "none did in this one"
    text = HEAD.format(count=count, version=onnxruntime.__version__, defects=defects) + "\n".join(lines) + "\n"
    pathlib.Path(path).write_text(text)
