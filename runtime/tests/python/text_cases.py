"""Cases of our own beside the standard's: text. Operators on it, operators that move it about, and whole pipelines of
scikit-learn's as skl2onnx exports them, with words and numbers in and classes of either kind out, for 1, 4 and 32 rows.

What is right is what ONNX Runtime answers; what it refuses is no case.
"""

import warnings

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

import ml_cases
from ml_cases import Draw

# Of each operator.
CASES = 24
TYPES = {numpy.dtype(dtype): kind for kind, dtype in ml_cases.ELEMENTS.values()} | {numpy.dtype(bool): TensorProto.BOOL}
# One whose case changes as that of the default, and that every machine has.
LOCALE = "C.UTF-8"
WORDS = ["a", "b", "ab", "The", "the", "THE", "été", "ÉTÉ", "x_1", "42", "-", "ß", "日本", "c"]
TEXTS = [
    "", " ", "a", "The cat sat.", "  two  spaces ", "a,b;c d", "été à la plage", "x_1=42", "日本 go", "a-b-c", "1.5", "aaa",
    "user@example.com", "line\nbreak", "A B  C", "tab\tbed", ".", ",,",
]


def texts(values, shape=None):
    array = numpy.array(values, object)
    return array if shape is None else array.reshape(shape)


def graph(nodes, inputs, outputs, constants=()):
    """A model of `nodes`. Inputs are arrays by name, outputs are types by name."""
    declared = [helper.make_tensor_value_info(name, TYPES[array.dtype], array.shape) for name, array in inputs.items()]
    given = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    made = helper.make_graph(nodes, "text", declared, given, [numpy_helper.from_array(a, n) for n, a in constants])
    sets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=sets, ir_version=9), inputs


def one(operator, inputs, outputs, constants=(), domain="", **attributes):
    """One node, whose constants come after its inputs."""
    names = [*inputs, *(name for name, _ in constants)]
    made = helper.make_node(operator, names, list(outputs), domain=domain, **attributes)
    return graph([made], inputs, outputs, constants)


def some(draw, words, least, most):
    return [draw.one(words) for _ in range(draw.count(least, most))]


def string_normalizer(draw):
    attributes = {"case_change_action": draw.one(["NONE", "LOWER", "UPPER"]), "is_case_sensitive": draw.count(0, 1)}
    if draw.often():
        attributes["stopwords"] = some(draw, WORDS, 1, 5)
    words = texts(some(draw, WORDS, 1, 8))
    words = words if draw.often() else words[None]
    return one("StringNormalizer", {"x": words}, {"y": TensorProto.STRING}, locale=LOCALE, **attributes)


def pattern(draw, depth=2):
    """A regular expression."""
    atoms = [
        "a", "b", "c", ".", r"\w", r"\d", r"\s", r"\W", "[a-c]", "[^a]", "[0-9_]", "é", r"\.", r"\b", "[[:alpha:]]", "^", "$",
        "-", " ", ",", r"\S", "[^ ,]", r"\x41", "(?i:THE)", "日",
    ]
    pieces = []
    for _ in range(draw.count(1, 3)):
        nest = depth and draw.often(0.3)
        piece = f"({draw.one(['', '?:'])}{pattern(draw, depth - 1)})" if nest else draw.one(atoms)
        pieces.append(piece + draw.one(["", "", "", "*", "+", "?", "{1,2}", "{2}", "+?"]))
    return "|".join(["".join(pieces)] + ([pattern(draw, depth - 1)] if depth and draw.often(0.2) else []))


def regex_full_match(draw):
    return one("RegexFullMatch", {"x": texts(TEXTS)}, {"y": TensorProto.BOOL}, pattern=pattern(draw))


def tokenizer(draw):
    attributes = {"mark": draw.count(0, 1), "mincharnum": draw.one([1, 1, 1, 2, 3]), "pad_value": draw.one(["#", "", "pad"])}
    if draw.often():
        attributes["separators"] = some(draw, [" ", ",", "[.]", ";", r"\s+", "-|=", "a", "[^a-z]"], 1, 3)
    else:
        attributes["tokenexp"] = draw.one(["[a-zA-Z0-9_]+", r"\w\w+", "[a-z]*", r"\b\w", r"[^\n]", pattern(draw), pattern(draw)])
    if draw.often(0.15):
        attributes |= draw.one([{"separators": [""]}, {"tokenexp": "."}]) | {"mincharnum": 1}
        attributes.pop("separators" if attributes.get("tokenexp") == "." else "tokenexp", None)
    words = texts(some(draw, TEXTS, 1, 6))
    words = words if draw.often() else words[:, None]
    return one("Tokenizer", {"x": words}, {"y": TensorProto.STRING}, domain="com.microsoft", **attributes)


def tf_idf_vectorizer(draw):
    words = WORDS[:5] if draw.often() else [1, 2, 3, 4, 5]
    kind = object if words == WORDS[:5] else draw.one([numpy.int32, numpy.int64])
    pool, counts, grams = [], [], draw.count(1, 3)
    for size in range(1, grams + 1):
        found = {tuple(some(draw, words, size, size)) for _ in range(draw.count(0 if size > 1 else 1, 5))}
        counts.append(len(pool))
        pool += [word for sequence in sorted(found) for word in sequence]
    sequences = sum((end - start) // (i + 1) for i, (start, end) in enumerate(zip(counts, [*counts[1:], len(pool)])))
    attributes = {
        "mode": draw.one(["TF", "IDF", "TFIDF"]), "min_gram_length": draw.count(1, grams), "max_skip_count": draw.count(0, 3),
        "ngram_counts": counts, "ngram_indexes": [int(n) for n in draw.random.permutation(sequences)],
        "pool_strings" if kind is object else "pool_int64s": pool,
    }
    attributes["max_gram_length"] = draw.count(attributes["min_gram_length"], grams)
    if draw.often():
        attributes["weights"] = draw.floats(sequences)
    found = numpy.array(some(draw, words, 12, 12) if kind is not object else some(draw, words + ["?"], 12, 12), kind)
    found = found.reshape(draw.one([(12,), (2, 6), (1, 12), (12, 1)]))
    return one("TfIdfVectorizer", {"x": found}, {"y": TensorProto.FLOAT}, **attributes)


def string_concat(draw):
    shapes = draw.one([((2, 3), (2, 3)), ((2, 3), (3,)), ((1,), (2, 2)), ((), (3,)), ((2, 1), (1, 3))])
    inputs = {name: texts([draw.one(WORDS) for _ in range(int(numpy.prod(shape)))], shape) for name, shape in zip("ab", shapes)}
    return one("StringConcat", inputs, {"y": TensorProto.STRING})


def string_split(draw):
    attributes = {"delimiter": draw.one(["", "", " ", ",", "-", "a", "aa"])} if draw.often(0.8) else {}
    if draw.often():
        attributes["maxsplit"] = draw.count(0, 3)
    words = texts(some(draw, TEXTS, 1, 6))
    words = words if draw.often() else words[None]
    return one("StringSplit", {"x": words}, {"y": TensorProto.STRING, "n": TensorProto.INT64}, **attributes)


def cast_to_text(draw):
    kind = draw.one([numpy.float32, numpy.float64, numpy.int64, numpy.int32, numpy.bool_])
    numbers = numpy.array([*draw.floats(6), *draw.halves(4), 1e10, 123456789.0, 1e-7, 0.0])
    if kind in (numpy.float32, numpy.float64):
        numbers = numpy.append(numbers, [numpy.nan, numpy.inf, -numpy.inf, -0.0])
    return one("Cast", {"x": numpy.clip(numbers, -1e9, 1e9).astype(kind)}, {"y": TensorProto.STRING}, to=TensorProto.STRING)


def cast_from_text(draw):
    kind = draw.one([TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL])
    whole = ["0", "1", "-7", "+3", " 42", "9 ", "1.5"]
    words = whole if kind not in (TensorProto.FLOAT, TensorProto.DOUBLE) else whole + ["1e3", "-2.5e-4", "NaN", "INF", "-INF", "0.1"]
    return one("Cast", {"x": texts(some(draw, words, 1, 8))}, {"y": kind}, to=kind)


# What moves text about, or compares it: by tract, as far as it can. Each has its constants and attributes.
WHOLES = {name: numpy.array(value, numpy.int64) for name, value in {
    "six": [6], "flat": [-1], "zero": [0], "one": [1], "two": [2], "wide": [2, 2, 3], "parts": [1, 2],
}.items()}
MOVES = {
    "Identity": ({}, []), "Flatten": ({"axis": 0}, []), "Transpose": ({"perm": [1, 0]}, []), "Reshape": ({}, ["flat"]),
    "Unsqueeze": ({}, ["one"]), "Expand": ({}, ["wide"]), "Slice": ({}, ["one", "two", "one"]),
    "Gather": ({"axis": 1}, ["two"]), "GatherElements": ({"axis": 1}, [("at", numpy.array([[0], [2]], numpy.int64))]),
    "Concat": ({"axis": 1}, [("more", texts(["x", "y"], (2, 1)))]), "Equal": ({}, [("same", texts(["a"]))]),
    "Squeeze": ({}, []), "GatherND": ({}, [("at", numpy.array([[0, 1], [1, 2]], numpy.int64))]), "Shape": ({}, []),
    "ScatterElements": ({"axis": 1}, [("at", numpy.array([[1], [0]], numpy.int64)), ("new", texts(["p", "q"], (2, 1)))]),
    "Split": ({"axis": 1}, ["parts"]), "Size": ({}, []),
}
KINDS = {"Equal": TensorProto.BOOL, "Shape": TensorProto.INT64, "Size": TensorProto.INT64}


def move(draw):
    operator = list(MOVES)[draw.seed % len(MOVES)]
    attributes, constants = MOVES[operator]
    constants = [(each, WHOLES[each]) if isinstance(each, str) else each for each in constants]
    shape = (1, 6) if operator == "Squeeze" else (2, 3)
    inputs = {"x": texts(some(draw, WORDS, 6, 6), shape)}
    outputs = {"y": KINDS.get(operator, TensorProto.STRING)}
    if operator == "Split":
        outputs["z"] = TensorProto.STRING
    return one(operator, inputs, outputs, constants, **attributes)


def where(draw):
    """A word stands for its length of one kind or the other, as a comparison says."""
    nodes = [
        helper.make_node("Equal", ["x", "key"], ["is"]), helper.make_node("Not", ["is"], ["not"]),
        helper.make_node("Where", ["not", "x", "other"], ["y"]),
    ]
    constants = [("key", texts(["a"])), ("other", texts(["<a>"]) if draw.often() else texts(["1", "2", "3"]))]
    inputs = {"x": texts(some(draw, ["a", "b"], 6, 6), (2, 3))}
    return graph(nodes, inputs, {"y": TensorProto.STRING, "is": TensorProto.BOOL}, constants)


OPERATORS = [
    string_normalizer, regex_full_match, tokenizer, tf_idf_vectorizer, string_concat, string_split, cast_to_text,
    cast_from_text, move, where,
]

SENTENCES = [
    "The cat sat on the mat", "a dog ate my homework", "cats and dogs", "the stock market fell today", "markets rose and fell",
    "my dog sat", "Homework about the market", "the mat of the cat", "stocks, bonds; and markets!", "Dog. Cat. Mat?",
    "été indien", "x_1 and 42",
]
ANIMALS = [1, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 0]


def pipelines():
    """Name, fitted pipeline, columns of its input and kinds of those."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    sentences, animals = numpy.array(SENTENCES), numpy.array(ANIMALS)
    names = numpy.array(["market", "animal"])[animals]
    for name, vectorizer, model, classes in [
        ("tfidf_logistic", TfidfVectorizer(), LogisticRegression(), animals),
        ("tfidf_logistic_names", TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(), names),
        ("tfidf_sublinear_perceptron", TfidfVectorizer(sublinear_tf=True, norm="l1"), MLPClassifier((8,), random_state=0, max_iter=50), names),
        ("count_bayes", CountVectorizer(), MultinomialNB(), animals),
        ("count_forest_names", CountVectorizer(lowercase=False, binary=True), RandomForestClassifier(5, random_state=0), names),
        ("count_pattern_logistic", CountVectorizer(token_pattern="[a-z]+"), LogisticRegression(), names),
        ("count_alone", CountVectorizer(ngram_range=(1, 3)), None, animals),
        ("tfidf_alone", TfidfVectorizer(use_idf=False, norm=None), None, animals),
    ]:
        steps = [vectorizer] if model is None else [vectorizer, model]
        yield f"pipeline_{name}", make_pipeline(*steps).fit(sentences, classes), {"text": sentences[:, None]}
    draw = numpy.random.RandomState(5)
    colours, sizes = draw.choice(["red", "green", "blue"], 60), draw.choice(["S", "M", "L", "XL"], 60)
    numbers = draw.randn(60, 2).astype(numpy.float32)
    classes = numpy.where(numbers[:, 0] + (colours == "red") > 0.5, "buy", "leave")
    table = numpy.empty((60, 4), object)
    table[:, 0], table[:, 1], table[:, 2:] = colours, sizes, numbers
    columns = {"colour": colours[:, None], "size": sizes[:, None], "numbers": numbers}
    words = numpy.stack([colours, sizes], 1)
    for name, encoder, model in [
        ("one_hot_numbers_logistic", OneHotEncoder(handle_unknown="ignore"), LogisticRegression()),
        ("one_hot_numbers_forest", OneHotEncoder(), RandomForestClassifier(5, random_state=0)),
        ("ordinal_numbers_logistic", OrdinalEncoder(), LogisticRegression()),
        ("one_hot_numbers_neighbours", OneHotEncoder(), KNeighborsClassifier(3)),
    ]:
        both = ColumnTransformer([("words", encoder, [0, 1]), ("numbers", StandardScaler(), [2, 3])])
        yield f"pipeline_{name}", make_pipeline(both, model).fit(table, classes), columns
    sizes_and_colours = {"words": words}
    yield "pipeline_one_hot", OneHotEncoder(handle_unknown="ignore").fit(words), sizes_and_colours
    yield "pipeline_ordinal", OrdinalEncoder().fit(words), sizes_and_colours
    yield "pipeline_one_hot_classes", make_pipeline(OneHotEncoder(), LogisticRegression()).fit(words, sizes), sizes_and_colours


def exported(pipeline, columns, rows):
    """The pipeline as a model of so many rows, and its inputs."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.base import is_classifier
    from sklearn.feature_extraction.text import CountVectorizer

    inputs = {name: numpy.resize(array, (rows, array.shape[1])) for name, array in columns.items()}
    inputs = {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in inputs.items()}
    kinds = [
        (name, (StringTensorType if array.dtype == object else FloatTensorType)([rows, array.shape[1]]))
        for name, array in inputs.items()
    ]
    steps = [step for _, step in getattr(pipeline, "steps", [])]
    options = {id(step): {"locale": LOCALE} for step in steps if isinstance(step, CountVectorizer)}
    if is_classifier(pipeline) and hasattr(steps[-1], "predict_proba"):
        options[id(pipeline)] = {"zipmap": False}
    return convert_sklearn(pipeline, initial_types=kinds, options=options, target_opset={"": 17, "ai.onnx.ml": 3}), inputs


def write_pipelines(root):
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # All at once: the exporter knows what it was told by the identity of objects, which must not be used again.
        for name, pipeline, columns in list(pipelines()):
            for rows in (1, 4, 32):
                model, inputs = exported(pipeline, columns, rows)
                found += ml_cases.save(root / f"{name}_{rows:02}", model, inputs)
    return found


def write(root, first=0, count=CASES):
    """Writes cases of every operator and every pipeline below `root`; gives their directories."""
    found = []
    for operator in OPERATORS:
        for seed in range(first, first + count):
            draw = Draw(seed)
            draw.seed = seed
            found += ml_cases.save(root / f"text_{operator.__name__}_{seed:02}", *operator(draw))
    return found + (write_pipelines(root) if first == 0 else [])
