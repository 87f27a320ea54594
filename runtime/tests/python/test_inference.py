"""The Open Inference Protocol, as an unmodified tritonclient and plain HTTP meet it.

    python test_inference.py --mayfly target/release/mayfly --runner .../runner.wasm --guests .../guest

Two models come without code (EfficientNet-Lite0 and Magika), and `classify`, written with the SDK, has the first of them
as well: the same picture must get the same answer by JSON, by binary tensors, as a posted picture and from the function.
"""

import argparse
import http.client
import json
import os
import pathlib
import sys
import unittest

import numpy
from PIL import Image
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from node import Node  # noqa: E402

ROOT = pathlib.Path(__file__).parents[3]
CLASSIFY = ROOT / "functions/classify"
MAGIKA = ROOT / "functions/filetype/magika.onnx"
PICTURES = {"cat": 285, "coffee": 967, "camera": 872, "rocket": 657}

options = None
node = None


def setUpModule():
    global node
    node = Node(options.mayfly)
    runner = ["--runner", options.runner]
    asked = node.refuse(MAGIKA, *runner)
    assert "dimensions without a size" in asked and "=1" in asked, asked
    picture = ["--mean", "127", "--scale", "128", "--labels", str(CLASSIFY / "labels.txt")]
    said = node.deploy(CLASSIFY / "efficientnet_lite0_w8.onnx", "efficientnet", *picture, *runner)
    print(said)
    assert "input FP32 [1,3,224,224]" in said and "inference  first" in said, said
    print(node.deploy(MAGIKA, "magika", "--input", "bytes=1x2048", *runner))
    node.deploy(pathlib.Path(options.guests) / "classify.wasm", "classify")
    node.deploy(pathlib.Path(options.guests) / "hello.wasm", "hello")


def tearDownModule():
    assert node.stop(), "mayfly serve did not end with code 0"


def message(*fields):
    """A protobuf message of numbers, texts and messages, each with its field's number."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += bytes([number << 3, value])
        else:
            value = value.encode() if isinstance(value, str) else value
            size, length = bytearray(), len(value)
            while length > 127:
                size.append(length & 127 | 128)
                length >>= 7
            out += bytes([number << 3 | 2]) + size + bytes([length]) + value
    return bytes(out)


def chain(*operators):
    """An ONNX file of these operators, one after the other, each named after its place."""
    def port(name):
        shape = message((1, message((1, 4))))
        return message((1, name), (2, message((1, message((1, 1), (2, shape))))))

    nodes = [
        (1, message((1, f"v{i}"), (2, f"v{i + 1}"), (3, f"node-{i}"), (4, operator))) for i, operator in enumerate(operators)
    ]
    graph = message(*nodes, (2, "chain"), (11, port("v0")), (12, port(f"v{len(operators)}")))
    return message((1, 8), (8, message((1, ""), (2, 13))), (7, graph))


def tensor(name):
    pixels = numpy.asarray(Image.open(CLASSIFY / f"pictures/{name}_224.png").convert("RGB"))
    numbers = (pixels.astype(numpy.float32) - 127) / 128
    return numpy.ascontiguousarray(numbers.transpose(2, 0, 1)[None])


def features(data):
    """As functions/filetype makes them: both ends, white space taken off."""
    first, last = data[:4096].lstrip()[:1024], data[-4096:].rstrip()[-1024:]
    first = list(first) + [256] * (1024 - len(first))
    last = [256] * (1024 - len(last)) + list(last)
    return numpy.array([first + last], dtype=numpy.int32)


def softmax(logits):
    powers = numpy.exp(logits - logits.max())
    return powers / powers.sum()


def call(method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(node.gateway, timeout=30)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, answer


class Triton(unittest.TestCase):
    def setUp(self):
        self.client = triton.InferenceServerClient(node.gateway)
        self.addCleanup(self.client.close)

    def infer(self, model, name, values, binary, output, **more):
        datatype = {"float32": "FP32", "int32": "INT32"}[str(values.dtype)]
        given = triton.InferInput(name, list(values.shape), datatype)
        given.set_data_from_numpy(values, binary_data=binary)
        wanted = [triton.InferRequestedOutput(output, binary_data=binary)]
        return self.client.infer(model, [given], outputs=wanted, **more)

    def test_server_and_models_are_alive_and_ready(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("efficientnet"))
        self.assertTrue(self.client.is_model_ready("magika", "1"))
        self.assertFalse(self.client.is_model_ready("magika", "2"))
        self.assertFalse(self.client.is_model_ready("nothing"))
        self.assertFalse(self.client.is_model_ready("hello"), "a function is no model")

    def test_metadata_says_what_a_model_takes(self):
        self.assertEqual(self.client.get_server_metadata()["extensions"], ["binary_tensor_data", "model_configuration", "statistics"])
        metadata = self.client.get_model_metadata("magika")
        self.assertEqual(metadata["platform"], "onnx_onnxv1")
        self.assertEqual(metadata["inputs"], [{"name": "bytes", "datatype": "INT32", "shape": [1, 2048]}])
        self.assertEqual(metadata["outputs"][0]["shape"], [1, 214])

    def test_configuration_statistics_and_index_are_answered(self):
        config = self.client.get_model_config("magika")
        self.assertEqual((config["name"], config["max_batch_size"]), ("magika", 0))
        self.assertEqual((config["input"][0]["data_type"], config["input"][0]["dims"]), ("TYPE_INT32", [1, 2048]))
        counts = lambda: self.client.get_inference_statistics("magika", "1")["model_stats"][0]
        before = counts()["inference_count"]
        values = numpy.zeros((1, 2048), numpy.int32)
        output = self.client.get_model_metadata("magika")["outputs"][0]["name"]
        for _ in range(3):
            self.infer("magika", "bytes", values, True, output)
        after = counts()
        self.assertEqual(after["inference_count"], before + 3)
        self.assertEqual(after["inference_stats"]["success"]["count"], before + 3)
        self.assertGreater(after["inference_stats"]["compute_infer"]["ns"], 0)
        everyone = {stats["name"] for stats in self.client.get_inference_statistics()["model_stats"]}
        index = {model["name"]: model["state"] for model in self.client.get_model_repository_index()}
        self.assertEqual(everyone, set(index))
        self.assertEqual((index["magika"], index.get("hello")), ("READY", None))

    def test_what_the_server_does_not_do_is_said_in_the_protocols_words(self):
        for refused in (
            lambda: self.client.load_model("magika"),
            lambda: self.client.unload_model("magika"),
            lambda: self.client.get_system_shared_memory_status(),
            lambda: self.client.get_cuda_shared_memory_status(),
            lambda: self.client.get_trace_settings(),
            lambda: self.client.get_log_settings(),
        ):
            with self.assertRaisesRegex(InferenceServerException, "mayfly|not supported|not set"):
                refused()
        self.assertTrue(self.client.is_model_ready("magika"))

    def test_a_picture_gets_one_answer_by_every_way(self):
        for name, index in PICTURES.items():
            with self.subTest(name):
                values = tensor(name)
                binary = self.infer("efficientnet", "input", values, True, "logits").as_numpy("logits")
                text = self.infer("efficientnet", "input", values, False, "logits").as_numpy("logits")
                numpy.testing.assert_array_equal(binary, text)
                scores = softmax(binary[0])
                self.assertEqual(scores.argmax(), index)
                picture = (CLASSIFY / f"pictures/{name}_224.png").read_bytes()
                for function in ("efficientnet", "classify"):
                    status, answer = call("POST", f"/{function}", picture)
                    self.assertEqual(status, 200, answer)
                    first = json.loads(answer)[0]
                    self.assertEqual(first["index"], index)
                    self.assertAlmostEqual(first["score"], float(scores[index]), places=5)

    def test_the_score_is_the_one_that_onnx_runtime_gives(self):
        logits = self.infer("efficientnet", "input", tensor("cat"), True, "logits").as_numpy("logits")
        self.assertAlmostEqual(float(softmax(logits[0])[285]), 0.385, places=3)

    def test_bytes_are_recognised_by_both_ways(self):
        labels = [line.split("\t")[0] for line in (ROOT / "functions/filetype/kinds.tsv").read_text().splitlines()]
        for path in (CLASSIFY / "pictures/cat_224.png", pathlib.Path(__file__)):
            values = features(path.read_bytes())
            both = [
                self.infer("magika", "bytes", values, binary, "target_label").as_numpy("target_label")
                for binary in (True, False)
            ]
            numpy.testing.assert_array_equal(*both)
            self.assertGreater(both[0].max(), 0.99, f"{path}: {both[0].argmax()} of {len(labels)}")

    def test_an_id_comes_back_and_a_version_may_be_named(self):
        values = features(b"#!/bin/sh\necho hello\n" * 20)
        answer = self.infer("magika", "bytes", values, True, "target_label", request_id="id-7", model_version="1")
        self.assertEqual(answer.get_response()["id"], "id-7")
        self.assertEqual(answer.get_response()["model_version"], "1")

    def test_all_outputs_come_if_none_is_asked_for(self):
        values = features(b"{}" * 50)
        given = triton.InferInput("bytes", [1, 2048], "INT32")
        given.set_data_from_numpy(values)
        answer = self.client.infer("magika", [given])
        self.assertEqual(answer.as_numpy("target_label").shape, (1, 214))

    def test_a_wrong_request_is_an_error_with_words(self):
        for model, name, values, output, expected in (
            ("magika", "bytes", numpy.zeros((1, 7), numpy.int32), "target_label", "the model takes INT32"),
            ("magika", "bytes", numpy.zeros((1, 2048), numpy.float32), "target_label", "the model takes INT32"),
            ("magika", "byte", numpy.zeros((1, 2048), numpy.int32), "target_label", "no input"),
            ("magika", "bytes", numpy.zeros((1, 2048), numpy.int32), "label", "no output"),
            ("nothing", "x", numpy.zeros((1, 1), numpy.int32), "y", "no model"),
            ("hello", "x", numpy.zeros((1, 1), numpy.int32), "y", "a function and no model"),
        ):
            for binary in (True, False):
                with self.assertRaises(InferenceServerException) as caught:
                    self.infer(model, name, values, binary, output)
                self.assertIn(expected, str(caught.exception))
                self.assertIn(caught.exception.status(), ("400", "404", "Error: 400", "Error: 404"), str(caught.exception))


class Unsupported(unittest.TestCase):
    def test_every_unknown_operator_is_named_with_its_node_before_any_traffic(self):
        path = pathlib.Path(node.scratch.name) / "chain.onnx"
        path.write_bytes(chain("Relu", "Frobnicate", "Neg", "Defenestrate"))
        said = node.refuse(path, "--name", "chain", "--runner", options.runner)
        self.assertIn("operators that are not supported: node-1 (Frobnicate), node-3 (Defenestrate)", said)
        status, _ = call("GET", "/v2/models/chain")
        self.assertEqual(status, 404, "it must not be routable")
        # The same file without them is fine, so that it is them.
        path.write_bytes(chain("Relu", "Neg"))
        node.deploy(path, "chain", "--runner", options.runner)
        given = json.dumps({"inputs": [{"name": "v0", "shape": [4], "datatype": "FP32", "data": [-1, 0, 1, 2]}]})
        status, answer = call("POST", "/v2/models/chain/infer", given)
        self.assertEqual(status, 200, answer)
        self.assertEqual(json.loads(answer)["outputs"][0]["data"], [0, 0, -1, -2])


class Malformed(unittest.TestCase):
    """Each gets a 400 with words, and disturbs nothing."""

    PATH = "/v2/models/magika/infer"
    GOOD = {"name": "bytes", "shape": [1, 2048], "datatype": "INT32", "data": [256] * 2048}

    def refused(self, body, expected, headers=None, status=400):
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        found, answer = call("POST", self.PATH, body, headers)
        self.assertEqual(found, status, answer)
        self.assertIn(expected, json.loads(answer)["error"])

    def tearDown(self):
        status, answer = call("POST", self.PATH, json.dumps({"inputs": [self.GOOD]}))
        self.assertEqual(status, 200, answer)

    def test_json_that_is_none(self):
        for body, expected in (
            ("", "expected an object"), ("{", "EOF"), ("[1]", "expected an object"), ("nul", "expected an object"),
            (b"\xff\xfe", "expected an object"), ('{"inputs": 3}', "a list of at most 256"),
            ("{\"inputs\":" + "[" * 200 + "]" * 200 + "}", "invalid"),
        ):
            self.refused(body, expected)

    def test_numbers_that_are_none(self):
        good = json.dumps({"inputs": [self.GOOD]})
        for word, expected in (
            ("NaN", "no NaN"), ("Infinity", "no NaN and no Infinity"), ('"256"', "needs a whole number"),
            ("null", "needs a whole number"), ("1.5", "needs a whole number"), ("2147483648", "needs a whole number"),
            ("true", "needs a whole number"), ("[1]", "entries in dimension 1"), ("{}", "needs a whole number"),
        ):
            self.refused(good.replace("[256, ", f"[{word}, ", 1), expected)

    def test_shapes_and_types_that_are_wrong(self):
        for change, expected in (
            ({"shape": [2048]}, "the model takes"), ({"shape": [2, 1024]}, "the model takes"),
            ({"shape": [-1, 2048]}, "negative"), ({"shape": [1] * 30}, "16 dimensions"),
            ({"shape": "1"}, "invalid type"), ({"datatype": "FP8"}, "no datatype"),
            ({"datatype": "INT64"}, "the model takes"), ({"name": "x"}, "no input"),
            ({"data": [1, 2, 3]}, "3 elements"), ({"data": [256] * 2049}, "more than the 2048"),
        ):
            self.refused({"inputs": [{**self.GOOD, **change}]}, expected)

    def test_inputs_that_are_twice_missing_or_too_many(self):
        self.refused({"inputs": [self.GOOD, self.GOOD]}, "given twice")
        self.refused({"inputs": []}, "missing inputs")
        self.refused({"inputs": [{**self.GOOD, "data": []}] * 300}, "a list of at most 256")

    def test_claims_of_a_gibibyte(self):
        self.refused({"inputs": [{**self.GOOD, "shape": [1 << 28], "data": [1]}]}, "the model takes")
        claim = {k: v for k, v in self.GOOD.items() if k != "data"}
        claim["parameters"] = {"binary_data_size": 1 << 30}
        body = json.dumps({"inputs": [claim]})
        headers = {"Inference-Header-Content-Length": str(len(body))}
        self.refused(body + "x" * 100, "binary_data_size is 1073741824", headers)
        self.refused(body, "says 1073741824", {"Inference-Header-Content-Length": str(1 << 30)})
        self.refused(body, "no number", {"Inference-Header-Content-Length": "many"})

    def test_binary_that_does_not_add_up(self):
        claim = {k: v for k, v in self.GOOD.items() if k != "data"}
        claim["parameters"] = {"binary_data_size": 8192}
        body = json.dumps({"inputs": [claim]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(body))}
        for length in (0, 8191, 8193):
            self.refused(body + b"\0" * length, "after its JSON", headers)
        status, _ = call("POST", self.PATH, body + b"\0" * 8192, headers)
        self.assertEqual(status, 200)

    def test_methods_and_paths(self):
        for method, path, status in (
            ("GET", self.PATH, 405), ("POST", "/v2/models/magika", 405), ("GET", "/v2/nothing", 404),
            ("GET", "/v2/models/hello", 404), ("GET", "/v2/models/magika/versions/9", 404),
        ):
            found, answer = call(method, path)
            self.assertEqual(found, status, answer)
            self.assertIn("error", json.loads(answer))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--mayfly", default=os.fspath(ROOT / "target/release/mayfly"))
    parser.add_argument("--guests", default=os.fspath(ROOT / "target/wasm32-wasip1/guest"))
    parser.add_argument("--runner")
    options, rest = parser.parse_known_args()
    options.runner = os.path.abspath(options.runner or f"{options.guests}/runner.wasm")
    options.guests = os.path.abspath(options.guests)
    unittest.main(argv=sys.argv[:1] + rest, verbosity=2)
