"""What the Open Inference Protocol costs beside the inference itself: EfficientNet-Lite0 with binary tensors.

    python measure_overhead.py --mayfly target/release/mayfly --runner .../runner.wasm

The runner marks when its inputs are in place and when the model has run, so that each request tells both: the whole, on
the client's clock, and the bare inference within. So the two are paired, request by request, and what makes the machine
slow now and then makes both slow. The difference is everything else: HTTP, 602,112 bytes of input through a socket, the
instance, frames, the answer. The client writes bytes that it made before and reads until the answer is whole: what an
HTTP library would add is not the server's.
"""

import argparse
import json
import pathlib
import re
import socket
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from node import Node  # noqa: E402

ROOT = pathlib.Path(__file__).parents[3]
RUNS = 60


def receive(connection, buffer):
    """Reads one answer to its end; gives its head."""
    length = 0
    while True:
        length += connection.recv_into(buffer[length:])
        head, end, body = bytes(buffer[:min(length, 4096)]).partition(b"\r\n\r\n")
        if end:
            size = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
            if length >= len(head) + 4 + size:
                return head


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mayfly", required=True)
    parser.add_argument("--runner", required=True)
    parser.add_argument("--model", default=str(ROOT / "functions/classify/efficientnet_lite0_w8.onnx"))
    options = parser.parse_args()
    node = Node(options.mayfly)
    node.deploy(options.model, "efficientnet", "--runner", str(pathlib.Path(options.runner).absolute()))
    given = {"name": "input", "datatype": "FP32", "shape": [1, 3, 224, 224], "parameters": {"binary_data_size": 602112}}
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    body = head + bytes(602112)
    request = (
        f"POST /v2/models/efficientnet/infer HTTP/1.1\r\nHost: {node.gateway}\r\nContent-Length: {len(body)}\r\n"
        f"Inference-Header-Content-Length: {len(head)}\r\n\r\n"
    ).encode() + body
    address, port = node.gateway.rsplit(":", 1)
    connection = socket.create_connection((address, int(port)), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(1 << 20))
    rows = []
    # An answer that began before its guest had ended carries no times: such a request is not counted.
    for _ in range(10 * RUNS):
        if len(rows) == RUNS + 5:
            break
        began = time.perf_counter()
        connection.sendall(request)
        answer = receive(connection, buffer)
        whole = (time.perf_counter() - began) * 1e3
        assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
        timing = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.decode()))
        if "mark7" not in timing:
            continue
        bare = float(timing["mark7"]) - float(timing["mark6"])
        rows.append((whole, bare, whole - bare, float(timing["mark6"])))
    connection.close()
    node.stop()
    if len(rows) < RUNS:
        sys.exit(f"only {len(rows)} of {10 * RUNS} answers carried times")
    whole, bare, over, read = (statistics.median(column) for column in zip(*rows[5:]))
    best = min(row[2] for row in rows[5:])
    print(f"medians of {len(rows) - 5}: whole {whole:.2f} ms, inference {bare:.2f} ms, the rest {over:.2f} ms (least {best:.2f} ms),")
    print(f"of which {read:.2f} ms until the inputs were in place")


if __name__ == "__main__":
    main()
