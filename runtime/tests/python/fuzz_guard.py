"""What the standard leaves open, or what ends ONNX Runtime's process: nodes that are not to be compared."""

import numpy


class Open(Exception):
    """The standard does not say what the answer is."""


def within(array, low, high):
    return array.size == 0 or bool(numpy.all((array >= low) & (array <= high)))


def whole(array):
    return array is not None and array.dtype.kind in "iu"


def check(proto, arrays, opset):
    """Refuses a node on these inputs if nobody can say what is right."""
    guard = GUARDS.get(proto.op_type)
    if guard and guard({attribute.name: attribute for attribute in proto.attribute}, arrays, opset):
        raise Open(proto.op_type)


def divides(attributes, arrays, opset):
    """Whole numbers by 0, and the lowest by -1, which is beyond the type: the processor's own trap."""
    dividend, divisor = arrays[:2]
    if not whole(divisor):
        return False
    lowest = numpy.iinfo(divisor.dtype).min
    return bool((divisor == 0).any() or lowest and (divisor == -1).any() and (dividend == lowest).any())


def beyond(array, element):
    """Floats that the whole type cannot hold."""
    if array.dtype.kind != "f" or numpy.dtype(element).kind not in "iu":
        return False
    info, numbers = numpy.iinfo(element), numpy.trunc(array.astype(numpy.float64))
    return not bool(numpy.all(numpy.isfinite(numbers) & (numbers >= info.min) & (numbers < float(info.max) + 1)))


def casts(attributes, arrays, opset):
    import onnx
    element = onnx.helper.tensor_dtype_to_np_dtype(attributes["to"].i)
    return arrays[0].dtype == object or element == object or beyond(arrays[0], element)


def casts_like(attributes, arrays, opset):
    return arrays[0].dtype == object or arrays[1].dtype == object or beyond(arrays[0], arrays[1].dtype)


def shifts(attributes, arrays, opset):
    """By as many bits as there are, or more."""
    return bool((arrays[1] >= arrays[1].dtype.itemsize * 8).any())


def powers(attributes, arrays, opset):
    """Beyond the type, or a fraction in a whole type."""
    base, exponent = (array.astype(numpy.float64) for array in arrays[:2])
    if not whole(arrays[0]):
        return False
    with numpy.errstate(all="ignore"):
        result = base ** exponent
    return bool((exponent < 0).any()) or bool((numpy.abs(result) > 2.0**52).any()) or beyond(result, arrays[0].dtype)


def near_overflow(array):
    """Sums and squares of such numbers are beyond a float of 16 bits, whose arithmetic may be of 16 or of 32."""
    if array.dtype != numpy.float16:
        return False
    finite = array[numpy.isfinite(array)].astype(numpy.float32)
    return bool((numpy.abs(finite) > 100).any())


def sums(attributes, arrays, opset):
    """Beyond a whole type."""
    if not whole(arrays[0]):
        return False
    return float(numpy.sum(numpy.abs(arrays[0].astype(numpy.float64)))) > numpy.iinfo(arrays[0].dtype).max


def squares(attributes, arrays, opset):
    if not whole(arrays[0]):
        return False
    return float(numpy.sum(arrays[0].astype(numpy.float64) ** 2)) > numpy.iinfo(arrays[0].dtype).max


def products(attributes, arrays, opset):
    if not whole(arrays[0]):
        return False
    return float(numpy.prod(numpy.maximum(1, numpy.abs(arrays[0].astype(numpy.float64))))) > numpy.iinfo(arrays[0].dtype).max


def scatters(attributes, arrays, opset):
    """The larger of a number and NaN."""
    return "reduction" in attributes and any(array.dtype.kind == "f" and numpy.isnan(array).any() for array in arrays)


def of_one(attributes, arrays, opset):
    """Of a scalar: the standard has another shape than ONNX Runtime."""
    return arrays[0].ndim == 0


def clips(attributes, arrays, opset):
    """Infinity by a bound that is not given: to the last finite number, or not at all."""
    missing = len(arrays) < 3 or arrays[1] is None
    return opset >= 11 and missing and arrays[0].dtype.kind == "f" and not bool(numpy.isfinite(arrays[0]).all())


def gates(attributes, arrays, opset):
    """Infinity times 0 in a cell: by the order of its products."""
    return any(array is not None and not numpy.isfinite(array).all() for array in arrays)


def ill(axes):
    """A variance that is lost in the difference by which it is computed."""
    def guard(attributes, arrays, opset):
        array = arrays[0].astype(numpy.float64)
        if array.size == 0 or not numpy.isfinite(array).all():
            return True
        along = axes(attributes, array.ndim)
        return bool((array.var(along) < 1e-2 * (array ** 2).mean(along)).any())
    return guard


def listed(attributes, rank):
    return tuple(attributes["axes"].ints) if "axes" in attributes else (0, 2, 3)


def from_axis(attributes, rank):
    axis = attributes["axis"].i if "axis" in attributes else -1
    return tuple(range(axis % rank, rank))


def behind_channels(attributes, rank):
    return tuple(range(2, rank))


def orders(attributes, arrays, opset):
    """NaN has no place in an order."""
    return arrays[0].dtype.kind == "f" and bool(numpy.isnan(arrays[0]).any())


def quantises(attributes, arrays, opset):
    """NaN as a whole number."""
    return bool(numpy.isnan(arrays[0].astype(numpy.float64)).any())


def samples(attributes, arrays, opset):
    """Infinity beside a place that lies on a border: times 0 by the standard's reference implementation (op_grid_sample.py),
    which is NaN; ONNX Runtime leaves such a neighbour out."""
    return not bool(numpy.isfinite(arrays[0]).all())


def normalises(attributes, arrays, opset):
    """NaN in a row of float64: all of the row by the standard's own function; ONNX Runtime looks for the largest without it,
    and its logarithms of what is less than 1 were 43."""
    return arrays[0].dtype == numpy.float64 and bool(numpy.isnan(arrays[0]).any())


GUARDS = {
    "Div": divides, "Mod": divides, "Cast": casts, "CastLike": casts_like, "BitShift": shifts, "Pow": powers,
    "QuantizeLinear": quantises, "DynamicQuantizeLinear": quantises, "NonZero": of_one, "MeanVarianceNormalization": ill(listed), "LRN": gates,
    "LayerNormalization": ill(from_axis), "InstanceNormalization": ill(behind_channels),
    **dict.fromkeys(["ArgMax", "ArgMin", "TopK", "Hardmax", "NonMaxSuppression", "MaxPool", "GlobalMaxPool"], orders),
    **dict.fromkeys(["ReduceMax", "ReduceMin"], orders), **dict.fromkeys(["LSTM", "GRU", "RNN"], gates),
    "GridSample": samples, **dict.fromkeys(["Softmax", "LogSoftmax"], normalises),
    **dict.fromkeys(["ScatterElements", "ScatterND"], scatters), "ReduceProd": products, "Clip": clips,
    **dict.fromkeys(["ReduceSum", "ReduceL1", "ReduceMean"], sums), **dict.fromkeys(["ReduceSumSquare", "ReduceL2"], squares),
}
