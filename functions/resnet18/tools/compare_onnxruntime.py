"""Times an ONNX model of one float input in ONNX Runtime, on one thread: the median and the least of the runs.

Usage: python compare_onnxruntime.py MODEL.onnx [RUNS]
"""

import statistics
import sys
import time

import numpy as np
import onnxruntime


def spread(shape):
    """Numbers between -0.5 and 0.5 that any language can make: Knuth's multiplicative hash of the index."""
    index = np.arange(np.prod(shape), dtype=np.uint64)
    hashed = (index * np.uint64(2654435761)) % np.uint64(1 << 32)
    return (hashed / 2.0**32 - 0.5).astype(np.float32).reshape(shape)


def main(path, runs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    inputs = {port.name: spread([d if isinstance(d, int) else 1 for d in port.shape])}
    for _ in range(3):
        outputs = session.run(None, inputs)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        outputs = session.run(None, inputs)
        times.append((time.perf_counter() - start) * 1e3)
    first = ", ".join(f"{v:.5f}" for v in outputs[0].ravel()[:4])
    print(f"median {statistics.median(times):.2f} ms, least {min(times):.2f} ms; first outputs {first}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 15)
