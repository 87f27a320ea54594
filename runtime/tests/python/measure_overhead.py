"""What the Open Inference Protocol costs beside the inference itself: EfficientNet-Lite0 with binary tensors.

    python measure_overhead.py --mayfly target/release/mayfly --runner .../runner.wasm

The runner marks when its inputs are in place and when the model has run, so that each request tells both: the whole, on
the client's clock, and the bare inference within. The difference is everything else: HTTP, 602,112 bytes of input, the
instance, frames, the answer.
"""

import argparse
import http.client
import json
import pathlib
import re
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from node import Node  # noqa: E402

ROOT = pathlib.Path(__file__).parents[3]
RUNS = 60


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mayfly", required=True)
    parser.add_argument("--runner", required=True)
    options = parser.parse_args()
    node = Node(options.mayfly)
    model = ROOT / "functions/classify/efficientnet_lite0_w8.onnx"
    node.deploy(model, "efficientnet", "--runner", str(pathlib.Path(options.runner).absolute()))
    given = {"name": "input", "datatype": "FP32", "shape": [1, 3, 224, 224], "parameters": {"binary_data_size": 602112}}
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    body = head + bytes(602112)
    connection = http.client.HTTPConnection(node.gateway, timeout=60)
    rows = []
    # An answer that began before its guest had ended carries no times: such a request is not counted.
    for _ in range(10 * RUNS):
        if len(rows) == RUNS + 5:
            break
        began = time.perf_counter()
        connection.request("POST", "/v2/models/efficientnet/infer", body, headers)
        response = connection.getresponse()
        response.read()
        whole = (time.perf_counter() - began) * 1e3
        assert response.status == 200, response.status
        timing = dict(re.findall(r"(\w+);dur=([\d.]+)", response.getheader("server-timing") or ""))
        if "mark7" not in timing:
            continue
        bare = float(timing["mark7"]) - float(timing["mark6"])
        rows.append((whole, bare, whole - bare, float(timing["mark6"])))
    connection.close()
    node.stop()
    whole, bare, over, read = (statistics.median(column) for column in zip(*rows[5:]))
    best = min(row[2] for row in rows[5:])
    print(f"medians of {len(rows) - 5}: whole {whole:.2f} ms, inference {bare:.2f} ms, the rest {over:.2f} ms (least {best:.2f} ms),")
    print(f"of which {read:.2f} ms until the inputs were in place")


if __name__ == "__main__":
    main()
