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


def means(attributes, arrays, opset):
    """Of nothing."""
    return arrays[0].size == 0


def clips(attributes, arrays, opset):
    return any(array is not None and array.dtype.kind == "f" and numpy.isnan(array).any() for array in arrays)


def orders(attributes, arrays, opset):
    """NaN has no place in an order."""
    return arrays[0].dtype.kind == "f" and bool(numpy.isnan(arrays[0]).any())


def quantises(attributes, arrays, opset):
    """NaN as a whole number."""
    return bool(numpy.isnan(arrays[0].astype(numpy.float64)).any())


GUARDS = {
    "Div": divides, "Mod": divides, "Cast": casts, "CastLike": casts_like, "BitShift": shifts, "Pow": powers,
    "ArgMax": orders, "ArgMin": orders, "TopK": orders, "Hardmax": orders, "QuantizeLinear": quantises,
    "DynamicQuantizeLinear": quantises, "NonMaxSuppression": orders, "MaxPool": orders, "GlobalMaxPool": orders,
    "ReduceMax": orders, "ReduceMin": orders,
}
