"""Cases of attention, in the forms that ONNX Runtime's transformer optimiser and model builders write."""

import numpy
from contrib_nodes import BYTES, FLOAT, floats, node, scale, small, weight, zero

INT = numpy.int32


def sizes(draw):
    """Batch, queries, heads and numbers of a head."""
    return draw.count(1, 2), draw.count(2, 4), draw.one([1, 2, 3]), draw.one([2, 4])


def padding(draw, batch, queries, keys, forms):
    """A mask in one of its forms; none at times."""
    form = draw.one([None, *forms])
    if form is None:
        return {"_mask": 0}
    if form == "ends":
        mask = draw.random.randint(1, keys + 1, batch)
    elif form == "both":
        ends = draw.random.randint(1, keys + 1, batch)
        mask = numpy.concatenate([ends, numpy.maximum(ends - 2, 0)])
    else:
        shape = {"keys": (batch, keys), "pairs": (batch, queries, keys)}[form]
        mask = draw.random.rand(*shape) < 0.7
        mask[..., 0] = True
    return {"mask": mask.astype(INT)}


def scoring(draw):
    attributes = {}
    if draw.often(0.3):
        attributes["unidirectional"] = 1
    if draw.often(0.3):
        attributes["scale"] = 0.4
    if draw.often(0.2):
        attributes["mask_filter_value"] = -50.0
    return attributes


def attention(draw):
    batch, queries, heads, size = sizes(draw)
    width, of_values = heads * size, heads * draw.one([size, size, 3])
    attributes = scoring(draw) | {"num_heads": heads}
    if of_values != width or draw.often(0.2):
        attributes["qkv_hidden_sizes"] = [width, width, of_values]
    slots = {"x": floats(draw, batch, queries, 6), "w": floats(draw, 6, 2 * width + of_values) * FLOAT(0.5)}
    slots["b" if draw.often(0.8) else "_b"] = floats(draw, 2 * width + of_values)
    past = draw.count(1, 3) if of_values == width and draw.often(0.3) else 0
    keys = queries + past
    slots |= padding(draw, batch, queries, keys, ["keys", "pairs"] + ["ends", "both"] * (past == 0))
    if past:
        slots["past"] = floats(draw, 2, batch, heads, past, size)
    elif draw.often(0.3):
        slots |= {"_past": 0, "bias": floats(draw, draw.one([1, batch]), draw.one([1, heads]), queries, keys)}
    outputs = {"y": FLOAT} | ({"present": FLOAT} if past or of_values == width and draw.often(0.3) else {})
    return node("Attention", slots, outputs, attributes, given=("x", "mask", "past", "bias"))


def quantised_attention(draw):
    batch, queries, heads, size = sizes(draw)
    width, of_x, of_w = heads * size, numpy.uint8, draw.one(BYTES)
    per = (3 * width,) if draw.often() else ()
    slots = {"x": small(draw, of_x, batch, queries, 6), "w": weight(draw, of_w, 6, 3 * width), "b": floats(draw, 3 * width)}
    slots |= {"x_scale": scale(draw), "w_scale": scale(draw, *per)}
    slots |= padding(draw, batch, queries, queries, ["keys", "ends"])
    slots |= {"x_zero": zero(draw, of_x), "w_zero": zero(draw, of_w, *per)}
    attributes = {"num_heads": heads} | ({"unidirectional": 1} if draw.often(0.3) else {})
    return node("QAttention", slots, {"y": FLOAT}, attributes, given=("x", "mask"))


def multi_head_attention(draw):
    batch, queries, heads, size = sizes(draw)
    keys, of_values, form = draw.count(2, 5), draw.one([size, size, 3]), draw.one(["plain", "plain", "cross"])
    width, attributes = heads * size, scoring(draw) | {"num_heads": heads}
    if "unidirectional" in attributes:
        # Of other keys ONNX Runtime shows all to the last query.
        keys = queries
    slots, outputs = {"q": floats(draw, batch, queries, width)}, {"y": FLOAT}
    if form == "cross":
        slots |= {"k": floats(draw, batch, heads, keys, size), "v": floats(draw, batch, heads, keys, size)}
    else:
        slots |= {"k": floats(draw, batch, keys, width), "v": floats(draw, batch, keys, heads * of_values)}
    slots["b" if draw.often() else "_b"] = floats(draw, 2 * width + heads * (of_values if form == "plain" else size))
    past = draw.count(1, 3) if form == "plain" and of_values == size and draw.often(0.4) else 0
    slots |= padding(draw, batch, queries, keys + past, ["keys", "pairs"] + ["ends"] * (past == 0))
    shape = (draw.one([1, batch]), draw.one([1, heads]), queries, keys + past)
    slots["bias" if draw.often(0.3) else "_bias"] = floats(draw, *shape)
    if past:
        slots |= {name: floats(draw, batch, heads, past, size) for name in ("past_k", "past_v")}
    if past or form == "plain" and draw.often(0.3):
        outputs |= {"present_k": FLOAT, "present_v": FLOAT}
    return node("MultiHeadAttention", slots, outputs, attributes, given=tuple(slots))


def angles(draw, places, half):
    turns = draw.random.rand(places, half).astype(FLOAT) * 6
    return {"cos": numpy.cos(turns), "sin": numpy.sin(turns)}


def rotary_embedding(draw):
    batch, length, heads, size = draw.count(1, 2), draw.count(1, 4), draw.one([1, 2, 3]), draw.one([4, 8])
    attributes, half = {"interleaved": draw.count(0, 1)}, size // 2
    if draw.often(0.4):
        half = draw.one([1, half])
        attributes |= {"rotary_embedding_dim": 2 * half, "num_heads": heads}
    elif draw.often(0.3):
        attributes["num_heads"] = heads
    shape = draw.one([(batch, length, heads * size), (batch, heads, length, size)])
    places = draw.one([numpy.array([draw.count(0, 3)]), draw.random.randint(0, 8, (batch, length))])
    slots = {"x": floats(draw, *shape), "places": places.astype(numpy.int64), **angles(draw, 8, half)}
    return node("RotaryEmbedding", slots, {"y": FLOAT}, attributes, given=("x", "places"))


def group_query_attention(draw):
    batch, queries, of_keys, size = draw.count(1, 2), draw.count(1, 4), draw.one([1, 2]), 16
    heads, past = of_keys * draw.one([1, 2, 3]), draw.one([0, 0, 2, 5])
    batch = 1 if past and queries > 1 else batch
    keys = queries + past
    parts = {name: floats(draw, batch, queries, count * size) for name, count in {"q": heads, "k": of_keys, "v": of_keys}.items()}
    if draw.often(0.3):
        slots = {"q": numpy.concatenate(list(parts.values()), 2), "_k": 0, "_v": 0}
    else:
        slots = parts
    # What exporters give a first sequence is a past without places.
    slots |= {f"past_{name}": floats(draw, batch, of_keys, past, size) for name in "kv"}
    slots |= {"ends": numpy.full(batch, keys - 1, INT), "total": numpy.array(keys, INT)}
    attributes = {"num_heads": heads, "kv_num_heads": of_keys}
    rotary = draw.often()
    if rotary:
        attributes |= {"do_rotary": 1, "rotary_interleaved": draw.count(0, 1)}
    table = angles(draw, 12, draw.one([size, size, size // 2]) // 2)
    slots |= table if rotary else {"_cos": 0, "_sin": 0}
    attributes |= draw.one([{}, {}, {"scale": 0.3}, {"softcap": 2.0}, {"local_window_size": 2}, {"smooth_softmax": 1}])
    extras = draw.one([{}, {}, {"bias": floats(draw, 1, heads, queries, keys)}, {"sink": floats(draw, heads)}])
    if "bias" in extras:
        slots |= {"_places": 0} | extras
    elif extras and "smooth_softmax" not in attributes:
        slots |= {"_places": 0, "_bias": 0} | extras
    outputs = {"y": FLOAT, "present_k": FLOAT, "present_v": FLOAT}
    return node("GroupQueryAttention", slots, outputs, attributes, given=tuple(set(slots) - {"cos", "sin", "sink"}))


ATTENTION = [attention, quantised_attention, multi_head_attention, rotary_embedding, group_query_attention]
