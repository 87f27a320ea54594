"""Cases of our own beside the standard's: the operators of `ai.onnx.ml`, of which the package has few or none.

Each is one node drawn with a seed: its attributes, and rows of numbers with NaN and infinity among them. What is right
is what ONNX Runtime answers; what it refuses is no case.
"""

import collections

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

# Of each operator.
CASES = 12
ELEMENTS = {
    "float": (TensorProto.FLOAT, numpy.float32), "double": (TensorProto.DOUBLE, numpy.float64),
    "int64": (TensorProto.INT64, numpy.int64), "int32": (TensorProto.INT32, numpy.int32),
    "string": (TensorProto.STRING, object),
}
NUMBERS = ["float", "double", "int64", "int32"]
TRANSFORMS = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"]
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
WORDS = ["a", "b", "c", "", "é", "zz"]


class Draw:
    """Random choices, and the one node that they make."""

    def __init__(self, seed):
        self.random = numpy.random.RandomState(seed)

    def one(self, choices):
        return choices[self.random.randint(len(choices))]

    def often(self, share=0.5):
        return self.random.rand() < share

    def count(self, least, most):
        return int(self.random.randint(least, most + 1))

    def floats(self, count):
        return [float(number) for number in self.random.randn(count)]

    def halves(self, count):
        return [float(number) / 2 for number in self.random.randint(-4, 5, count)]

    def table(self, element, columns, strange=0.1):
        """Rows of numbers; of floats some are NaN or infinite."""
        shape = (self.count(1, 4), columns)
        if element not in ("float", "double"):
            return self.random.randint(-3, 4, shape).astype(ELEMENTS[element][1])
        numbers = numpy.array(self.halves(shape[0] * columns)).reshape(shape).astype(ELEMENTS[element][1])
        for value in (numpy.nan, numpy.inf, -numpy.inf):
            if self.often(0.3):
                numbers[self.random.rand(*shape) < strange] = value
        return numbers

    def values(self, element, count):
        """Elements that repeat."""
        if element == "string":
            return [self.one(WORDS) for _ in range(count)]
        if element == "int64":
            return [self.count(-3, 3) for _ in range(count)]
        return [self.one([*self.halves(1), float("nan"), -0.0]) for _ in range(count)]

    def labels(self, count, name="int64s"):
        # Of one class ONNX Runtime looks for a second label.
        if count > 1 and self.often(0.3):
            return {"classlabels_strings": WORDS[:count]}, "string"
        return {f"classlabels_{name}": [int(n) for n in self.random.permutation(9)[:count]]}, "int64"


def node(operator, inputs, outputs, attributes, version=3):
    """A model of one node. Inputs are arrays by name, outputs are types by name."""
    made = helper.make_node(operator, list(inputs), list(outputs), domain="ai.onnx.ml", **attributes)
    names = {numpy.dtype(dtype): element for element, (_, dtype) in ELEMENTS.items()}
    declared = [
        helper.make_tensor_value_info(name, ELEMENTS[names[array.dtype]][0], array.shape)
        for name, array in inputs.items()
    ]
    given = [helper.make_tensor_value_info(name, ELEMENTS[element][0], None) for name, element in outputs.items()]
    graph = helper.make_graph([made], operator, declared, given)
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8), inputs


def trees(draw, features, ids, prefix):
    """Attributes of nodes and of leaves."""
    attributes = collections.defaultdict(list)
    mode, positive = draw.one([None, *MODES]), draw.often(0.4)

    def grow(tree, depth):
        me = len([at for at in attributes["nodes_treeids"] if at == tree])
        leaf = depth == 0 or draw.often(0.2)
        entry = {
            "treeids": tree, "nodeids": me, "modes": "LEAF" if leaf else mode or draw.one(MODES),
            "featureids": draw.count(0, features - 1), "values": draw.halves(1)[0], "truenodeids": 0, "falsenodeids": 0,
        }
        for key, value in entry.items():
            attributes[f"nodes_{key}"].append(value)
        at = len(attributes["nodes_treeids"]) - 1
        if leaf:
            for target in draw.random.permutation(ids)[:draw.count(1, len(ids))]:
                weight = abs(draw.floats(1)[0]) if positive else draw.floats(1)[0]
                for key, value in {"treeids": tree, "nodeids": me, "ids": int(target), "weights": weight}.items():
                    attributes[f"{prefix}_{key}"].append(value)
        else:
            attributes["nodes_truenodeids"][at] = grow(tree, depth - 1)
            attributes["nodes_falsenodeids"][at] = grow(tree, depth - 1)
        return me

    for tree in range(draw.count(1, 4)):
        grow(tree, draw.count(1, 3))
    if draw.often():
        count = len(attributes["nodes_modes"])
        attributes["nodes_missing_value_tracks_true"] = [draw.count(0, 1) for _ in range(count)]
    return dict(attributes)


def ensemble(draw, prefix, element):
    """Attributes of a whole ensemble, and its number of classes or targets."""
    outputs = draw.count(1, 4)
    ids = list(range(outputs)) if draw.often(0.6) else [draw.count(0, outputs - 1)]
    attributes = trees(draw, 3, ids, prefix) | {"post_transform": draw.one(TRANSFORMS)}
    if draw.often():
        attributes["base_values"] = draw.floats(draw.one([1, outputs, outputs]))
    if element == "double" and draw.often():
        for name in {"nodes_values", f"{prefix}_weights", "base_values"} & set(attributes):
            values = attributes.pop(name)
            attributes[f"{name}_as_tensor"] = helper.make_tensor(name, TensorProto.DOUBLE, [len(values)], values)
    return attributes, outputs


def tree_classifier(draw):
    element = draw.one(NUMBERS)
    attributes, outputs = ensemble(draw, "class", element)
    labels, kind = draw.labels(outputs)
    inputs = {"x": draw.table(element, 3)}
    return node("TreeEnsembleClassifier", inputs, {"label": kind, "scores": "float"}, attributes | labels)


def tree_regressor(draw):
    element = draw.one(["float", "double"])
    attributes, outputs = ensemble(draw, "target", element)
    attributes |= {"n_targets": outputs, "aggregate_function": draw.one(["SUM", "AVERAGE", "MIN", "MAX"])}
    return node("TreeEnsembleRegressor", {"x": draw.table(element, 3)}, {"y": "float"}, attributes)


def tree_ensemble(draw):
    """As operator set 5 has it: leaves apart from nodes, and sets of members."""
    element, targets = draw.one(["float", "double"]), draw.count(1, 3)
    nodes, leaves, roots, members = [], [], [], []

    def grow(depth):
        if depth == 0 or draw.often(0.2):
            leaves.append((draw.count(0, targets - 1), draw.floats(1)[0]))
            return len(leaves) - 1, 1
        at, mode = len(nodes), draw.count(0, 6)
        nodes.append(None)
        if mode == 6:
            members.extend([*map(float, draw.values("int64", draw.count(1, 3))), float("nan")])
        nodes[at] = (mode, draw.count(0, 2), draw.halves(1)[0], *grow(depth - 1), *grow(depth - 1))
        return at, 0

    for _ in range(draw.count(1, 4)):
        root, leaf = grow(draw.count(1, 3))
        if leaf:
            nodes.append((0, 0, 0.0, root, 1, root, 1))
        roots.append(len(nodes) - 1 if leaf else root)
    modes, features, splits, yes, yes_leaf, no, no_leaf = map(list, zip(*nodes))
    kind = ELEMENTS[element][0]
    attributes = {
        "n_targets": targets, "aggregate_function": draw.count(0, 3), "tree_roots": roots,
        "post_transform": draw.count(0, 4) if element == "float" else 0, "nodes_featureids": features,
        "nodes_modes": helper.make_tensor("modes", TensorProto.UINT8, [len(modes)], bytes(modes), raw=True),
        "nodes_splits": helper.make_tensor("splits", kind, [len(splits)], splits),
        "nodes_truenodeids": yes, "nodes_trueleafs": yes_leaf, "nodes_falsenodeids": no, "nodes_falseleafs": no_leaf,
        "leaf_targetids": [target for target, _ in leaves],
        "leaf_weights": helper.make_tensor("weights", kind, [len(leaves)], [weight for _, weight in leaves]),
    }
    if members:
        attributes["membership_values"] = helper.make_tensor("members", kind, [len(members)], members)
    if draw.often():
        attributes["nodes_missing_value_tracks_true"] = [draw.count(0, 1) for _ in nodes]
    # ONNX Runtime cuts the fraction off before it looks for a member; the standard does not.
    return node("TreeEnsemble", {"x": numpy.trunc(draw.table(element, 3))}, {"y": element}, attributes, 5)


def linear_classifier(draw):
    scores = draw.count(1, 4)
    labels, kind = draw.labels(scores if scores > 1 else draw.count(1, 2), "ints")
    attributes = labels | {
        "coefficients": draw.floats(3 * scores), "intercepts": draw.floats(scores), "multi_class": draw.count(0, 1),
        "post_transform": draw.one(TRANSFORMS),
    }
    inputs = {"x": draw.table(draw.one(NUMBERS), 3, 0.03)}
    return node("LinearClassifier", inputs, {"label": kind, "scores": "float"}, attributes)


def linear_regressor(draw):
    targets = draw.count(1, 4)
    attributes = {"coefficients": draw.floats(3 * targets), "targets": targets, "post_transform": draw.one(TRANSFORMS)}
    if draw.often(0.7):
        attributes["intercepts"] = draw.floats(targets)
    return node("LinearRegressor", {"x": draw.table("float", 3, 0.03)}, {"y": "float"}, attributes)


def kernel(draw):
    parameters = [abs(draw.floats(1)[0]), draw.floats(1)[0], draw.one([1.0, 2.0, 3.0])]
    return {"kernel_type": draw.one(["LINEAR", "POLY", "RBF", "SIGMOID"]), "kernel_params": parameters}


def svm_classifier(draw):
    classes = draw.count(2, 4)
    labels, kind = draw.labels(classes, "ints")
    attributes = labels | kernel(draw) | {"post_transform": draw.one(TRANSFORMS[:4])}
    if draw.often(0.7):
        counts, pairs = [draw.count(1, 3) for _ in range(classes)], classes * (classes - 1) // 2
        attributes |= {
            "vectors_per_class": counts, "support_vectors": draw.floats(3 * sum(counts)), "rho": draw.floats(pairs),
            "coefficients": draw.floats((classes - 1) * sum(counts)),
        }
        if draw.often():
            attributes |= {"prob_a": draw.floats(pairs), "prob_b": draw.floats(pairs)}
    else:
        attributes |= {"coefficients": draw.floats(3 * classes), "rho": draw.floats(1)}
    inputs = {"x": draw.table(draw.one(NUMBERS), 3, 0.0)}
    return node("SVMClassifier", inputs, {"label": kind, "scores": "float"}, attributes)


def svm_regressor(draw):
    attributes, vectors = kernel(draw) | {"rho": draw.floats(1), "one_class": draw.count(0, 1)}, draw.one([0, 4])
    attributes |= {"n_supports": vectors, "coefficients": draw.floats(vectors or 3)}
    if vectors:
        attributes["support_vectors"] = draw.floats(3 * vectors)
    return node("SVMRegressor", {"x": draw.table("float", 3, 0.0)}, {"y": "float"}, attributes)


def scaler(draw):
    count = draw.one([1, 3])
    attributes = {"offset": draw.floats(count), "scale": draw.floats(count)}
    return node("Scaler", {"x": draw.table(draw.one(NUMBERS), 3)}, {"y": "float"}, attributes)


def normalizer(draw):
    attributes = {"norm": draw.one(["MAX", "L1", "L2"])}
    return node("Normalizer", {"x": draw.table(draw.one(NUMBERS), 3)}, {"y": "float"}, attributes)


def imputer(draw):
    element, count = draw.one(["float", "int64"]), draw.one([1, 3])
    if element == "float":
        missing = {"imputed_value_floats": draw.floats(count), "replaced_value_float": draw.one([float("nan"), 0.0])}
    else:
        missing = {"imputed_value_int64s": draw.values("int64", count), "replaced_value_int64": draw.count(-2, 2)}
    return node("Imputer", {"x": draw.table(element, 3, 0.3)}, {"y": element}, missing)


def binarizer(draw):
    return node("Binarizer", {"x": draw.table("float", 3)}, {"y": "float"}, {"threshold": draw.halves(1)[0]})


def label_encoder(draw):
    elements, version = ["float", "int64", "string"], draw.count(2, 4)
    sides, count = {"keys": draw.one(elements), "values": draw.one(elements)}, draw.count(1, 5)
    attributes = {}
    for side, element in sides.items():
        values = draw.values(element, count)
        if version == 4 and draw.often():
            packed = [value.encode() for value in values] if element == "string" else values
            attributes[f"{side}_tensor"] = helper.make_tensor(side, ELEMENTS[element][0], [count], packed)
        else:
            attributes[f"{side}_{element}s"] = values
    default = {"float": 7.5, "int64": 77, "string": "none"}[sides["values"]]
    if draw.often():
        attributes[f"default_{sides['values']}"] = default
    array = numpy.array(draw.values(sides["keys"], 6), ELEMENTS[sides["keys"]][1]).reshape(2, 3)
    return node("LabelEncoder", {"x": array}, {"y": sides["values"]}, attributes, version)


def one_hot_encoder(draw):
    element, count = draw.one(["float", "double", "int64", "string"]), draw.count(1, 4)
    whole = "string" if element == "string" else "int64"
    attributes = {f"cats_{whole}s": draw.values(whole, count), "zeros": draw.one([1, 1, 0])}
    array = numpy.array(draw.values(whole, 6), ELEMENTS[element][1]).reshape(2, 3)
    return node("OneHotEncoder", {"x": array}, {"y": "float"}, attributes)


def feature_vectorizer(draw):
    element, widths = draw.one(NUMBERS), [draw.count(1, 3) for _ in range(draw.count(1, 3))]
    inputs = {f"x{i}": draw.random.randint(-3, 4, (2, n)).astype(ELEMENTS[element][1]) for i, n in enumerate(widths)}
    attributes = {"inputdimensions": [width + draw.count(0, 1) for width in widths]}
    return node("FeatureVectorizer", inputs, {"y": "float"}, attributes)


def array_feature_extractor(draw):
    element = draw.one([*NUMBERS, "string"])
    values = draw.values("string" if element == "string" else "int64", 12)
    array = numpy.array(values, ELEMENTS[element][1]).reshape(draw.one([(12,), (3, 4), (2, 2, 3)]))
    inputs = {"x": array, "indices": numpy.array([draw.count(0, array.shape[-1] - 1) for _ in range(3)], numpy.int64)}
    return node("ArrayFeatureExtractor", inputs, {"y": element}, {})


OPERATORS = [
    tree_classifier, tree_regressor, tree_ensemble, linear_classifier, linear_regressor, svm_classifier, svm_regressor,
    scaler, normalizer, imputer, binarizer, label_encoder, one_hot_encoder, feature_vectorizer, array_feature_extractor,
]


def answer(model, inputs):
    """What ONNX Runtime says, or nothing."""
    onnxruntime.set_default_logger_severity(4)
    try:
        outputs = onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)
    except Exception:  # its own classes have no base of theirs
        return None
    return [numpy.asarray(output) for output in outputs]


def save(case, model, inputs):
    """Writes a case if ONNX Runtime has an answer; gives its directory in a list."""
    outputs = answer(model, inputs)
    if outputs is None:
        return []
    (case / "test_data_set_0").mkdir(parents=True)
    onnx.save(model, case / "model.onnx")
    sides = {"input": inputs.items(), "output": zip([output.name for output in model.graph.output], outputs)}
    for side, arrays in sides.items():
        for i, (name, array) in enumerate(arrays):
            onnx.save_tensor(numpy_helper.from_array(array, name), case / "test_data_set_0" / f"{side}_{i}.pb")
    return [case]


def write(root, first=0, count=CASES):
    """Writes cases of every operator below `root`; gives their directories."""
    found = []
    for operator in OPERATORS:
        for seed in range(first, first + count):
            found += save(root / f"ml_{operator.__name__}_{seed:02}", *operator(Draw(seed)))
    return found
