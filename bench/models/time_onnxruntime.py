"""Times a model in ONNX Runtime on one thread, for compare.py: speaks as guest-sdk/examples/time_tract.rs does."""

import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "runtime/tests/python"))
from onnx_peer import one_thread  # noqa: E402

TYPES = {"FP32": np.float32, "INT32": np.int32, "INT64": np.int64}


def main(path, arguments):
    session = one_thread(path)
    inputs = {}
    for argument in arguments:
        # From the right: a name may have colons.
        name, datatype, shape, file = argument.rsplit(":", 3)
        inputs[name] = np.fromfile(file, TYPES[datatype]).reshape([int(d) for d in shape.split("x")])
    outputs = session.run(None, inputs)
    print("ready", flush=True)
    for line in sys.stdin:
        what, _, file = line.strip().partition(" ")
        if what == "run":
            wall, cpu = time.perf_counter(), time.thread_time()
            outputs = session.run(None, inputs)
            cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
            print(f"{wall * 1e3:.6f} {cpu * 1e3:.6f}", flush=True)
        else:
            np.concatenate([o.astype(np.float32).ravel() for o in outputs]).tofile(file)
            print("written", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
