"""KServe's client, as it comes from PyPI, against a node: health, tensors as JSON and as bytes, text both ways, an open
batch of 1, 4 and 32, and its error for a model that is not there. The right values are ONNX Runtime's.

    python test_kserve.py path/to/mayfly
"""

import asyncio
import pathlib
import sys
import tempfile

import httpx
import numpy
import onnxruntime
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from node import Node  # noqa: E402


def dense():
    """y = softmax(x w), for any number of rows."""
    weights = numpy.random.default_rng(7).standard_normal((64, 10), dtype=numpy.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Softmax", ["s"], ["y"], axis=-1)]
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in (("x", 64), ("y", 10))]
    graph = helper.make_graph(nodes, "dense", port[:1], port[1:], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def animals():
    """Words in one language to words in another, for any number of them."""
    node = helper.make_node("LabelEncoder", ["word"], ["wort"], domain="ai.onnx.ml",
                            keys_strings=["cat", "dog", "fly"], values_strings=["Katze", "Hund", "Eintagsfliege"], default_string="?")
    port = [helper.make_tensor_value_info(name, TensorProto.STRING, ["batch"]) for name in ("word", "wort")]
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(helper.make_graph([node], "animals", port[:1], port[1:]), opset_imports=sets, ir_version=9)


async def ask(client, base, model, name, datatype, array, binary):
    given = InferInput(name=name, shape=list(array.shape), datatype=datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    answer = await client.infer(base, InferRequest(model_name=model, infer_inputs=[given]), model_name=model)
    return answer.outputs[0].as_numpy()


async def all_of_it(node, models):
    client, base = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30)), f"http://{node.gateway}"
    assert await client.is_server_live(base) and await client.is_server_ready(base)
    assert await client.is_model_ready(base, "dense") and not await client.is_model_ready(base, "nobody")
    words = numpy.array(["cat", "dog", "fly", "été"], object)
    for rows in (1, 4, 32):
        x = numpy.random.default_rng(rows).standard_normal((rows, 64), dtype=numpy.float32)
        right = onnxruntime.InferenceSession(models["dense"].SerializeToString()).run(None, {"x": x})[0]
        texts = numpy.resize(words, rows)
        wort = onnxruntime.InferenceSession(models["animals"].SerializeToString()).run(None, {"word": texts})[0]
        for binary in (False, True):
            y = await ask(client, base, "dense", "x", "FP32", x, binary)
            assert y.shape == (rows, 10) and numpy.allclose(y, right, rtol=1e-4, atol=1e-6), (rows, binary)
            got = await ask(client, base, "animals", "word", "BYTES", texts, binary)
            got = [text.decode() if isinstance(text, bytes) else text for text in got.ravel()]
            assert got == list(wort), (rows, binary, got)
            print(f"{rows} rows, {'bytes' if binary else 'JSON'}: OK")
    try:
        await ask(client, base, "nobody", "x", "FP32", x, False)
        sys.exit("FAILED: a model that is not there answered")
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == 404 and 'there is no model "nobody"' in str(error), error
        print("an unknown model:", error)


def main():
    models = {"dense": dense(), "animals": animals()}
    node = Node(sys.argv[1])
    with tempfile.TemporaryDirectory() as directory:
        for name, model in models.items():
            file = pathlib.Path(directory) / f"{name}.onnx"
            file.write_bytes(model.SerializeToString())
            node.deploy(file, name, "--dim", "batch=any")
    asyncio.run(all_of_it(node, models))
    assert node.stop(), "mayfly serve did not end with code 0"
    print("OK")


if __name__ == "__main__":
    main()
