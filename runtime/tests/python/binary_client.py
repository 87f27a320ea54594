"""Asks a model by the Open Inference Protocol, tensors in binary and text among them, with the standard library alone."""

import http.client
import json
import re
import struct
import time

import numpy

TYPES = {
    "FP32": numpy.float32, "FP64": numpy.float64, "FP16": numpy.float16, "INT64": numpy.int64, "INT32": numpy.int32,
    "INT16": numpy.int16, "INT8": numpy.int8, "UINT64": numpy.uint64, "UINT32": numpy.uint32, "UINT16": numpy.uint16,
    "UINT8": numpy.uint8, "BOOL": numpy.bool_, "BYTES": numpy.object_,
}
WORDS = {numpy.dtype(kind): word for word, kind in TYPES.items()}
# Seconds for an answer.
ANSWER = 120


class Failed(Exception):
    """What became of a model, and why."""

    def __init__(self, result, why):
        super().__init__(why)
        self.result, self.why = result, " ".join(str(why).split())


class Client:
    """Asks in binary, on one connection."""

    def __init__(self, gateway):
        self.gateway, self.connection = gateway, None

    def infer(self, name, inputs):
        """The outputs, and the milliseconds of the inference alone."""
        described, data = [], b""
        for key, value in inputs.items():
            raw = encode(value)
            data += raw
            tensor = {"name": key, "shape": list(value.shape), "datatype": WORDS[value.dtype]}
            described.append(tensor | {"parameters": {"binary_data_size": len(raw)}})
        head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
        began = time.monotonic()
        try:
            self.connection = self.connection or http.client.HTTPConnection(self.gateway, timeout=ANSWER)
            self.connection.request("POST", f"/v2/models/{name}/infer", head + data, headers)
            response = self.connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection = None
            raise Failed("error", f"no answer: {error!r}") from error
        took = (time.monotonic() - began) * 1e3
        if response.status != 200:
            raise Failed("error", f"{response.status}: {body.decode(errors='replace')}")
        marks = dict(re.findall(r"(\w+);dur=([\d.]+)", response.getheader("Server-Timing") or ""))
        if "mark7" in marks:
            took = float(marks["mark7"]) - float(marks["mark6"])
        return decode(body, int(response.getheader("Inference-Header-Content-Length") or len(body))), took


def encode(value):
    if value.dtype == numpy.object_:
        words = [str(each).encode() for each in value.ravel()]
        return b"".join(struct.pack("<I", len(word)) + word for word in words)
    return numpy.ascontiguousarray(value).tobytes()


def decode(body, length):
    outputs, at = {}, length
    for port in json.loads(body[:length])["outputs"]:
        kind = TYPES[port["datatype"]]
        size = port.get("parameters", {}).get("binary_data_size")
        if size is None:
            flat = numpy.array(port["data"], kind)
        elif kind == numpy.object_:
            flat, data = [], body[at:at + size]
            while data:
                end = 4 + struct.unpack("<I", data[:4])[0]
                flat.append(data[4:end].decode())
                data = data[end:]
            flat = numpy.array(flat, object)
        else:
            flat = numpy.frombuffer(body[at:at + size], kind)
        at += size or 0
        outputs[port["name"]] = flat.reshape(port["shape"])
    return outputs
