"""Models of one node, and what goes into them."""

import numpy
from onnx import helper, numpy_helper

FLOAT, BYTES = numpy.float32, [numpy.uint8, numpy.int8]


def kind(dtype):
    return helper.np_dtype_to_tensor_dtype(numpy.dtype(dtype))


def node(operator, slots, outputs, attributes=None, domain="com.microsoft", given=("",)):
    """A model of one node. Slots are arrays by name, in the schema's order; those in `given` come with the request.

    A name that begins with `_` is an input that is left out. Outputs are types by name.
    """
    names = ["" if name.startswith("_") else name for name in slots]
    made = helper.make_node(operator, names, list(outputs), domain=domain, **(attributes or {}))
    arrays = {name: numpy.asarray(array) for name, array in slots.items() if not name.startswith("_")}
    inputs = {name: array for name, array in arrays.items() if name in given}
    declared = [helper.make_tensor_value_info(name, kind(array.dtype), array.shape) for name, array in inputs.items()]
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items() if name not in given]
    ends = [helper.make_tensor_value_info(name, kind(dtype), None) for name, dtype in outputs.items() if name]
    graph = helper.make_graph([made], operator, declared, ends, constants)
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8), inputs


def floats(draw, *shape):
    return numpy.asarray(draw.random.randn(*shape), FLOAT)


def small(draw, dtype, *shape):
    """Quantised numbers."""
    limits = numpy.iinfo(dtype)
    return draw.random.randint(limits.min, limits.max + 1, shape).astype(dtype)


def weight(draw, dtype, *shape):
    """Quantised weights; of int8, seven bits of them.

    Where a CPU has no VNNI, ONNX Runtime adds pairs of products of uint8 and int8 in 16 bits, which saturate: it is no
    judge of larger ones there. Products over the whole range are in quantised_cases, worked out by numpy.
    """
    return small(draw, dtype, *shape) if dtype == numpy.uint8 else draw.random.randint(-64, 64, shape).astype(dtype)


def scale(draw, *shape, least=0.005, most=0.05):
    return numpy.asarray(draw.random.uniform(least, most, shape), FLOAT)


def zero(draw, dtype, *shape):
    """Zero points in the middle."""
    middle = 128 if dtype == numpy.uint8 else 0
    return (middle + draw.random.randint(-20, 21, shape)).astype(dtype)


def steps(draw, prefix, dtype, *shape, optional=True, **limits):
    """Scale and zero point; the latter at times left out."""
    point = zero(draw, dtype, *shape)
    name = f"_{prefix}_zero" if optional and draw.often(0.2) else f"{prefix}_zero"
    return {f"{prefix}_scale": scale(draw, *shape, **limits), name: point}
