"""What a model is compared with: ONNX Runtime on one thread, and inputs that any language can make."""

import numpy
import onnxruntime


def spread(shape):
    """Numbers between -0.5 and 0.5: Knuth's multiplicative hash of the index."""
    index = numpy.arange(numpy.prod(shape), dtype=numpy.uint64)
    hashed = (index * numpy.uint64(2654435761)) % numpy.uint64(1 << 32)
    return (hashed / 2.0**32 - 0.5).astype(numpy.float32).reshape(shape)


def one_thread(path):
    """A session on the CPU that uses no thread but the caller's."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
