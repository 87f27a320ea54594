"""What schemathesis cannot know of the admin API: how a module is written as bytes, and a name that exists."""

import json
import zlib

import schemathesis

# The smallest module that is deployed: a command that ends at once.
MODULE = (
    b"\0asm\1\0\0\0" b"\1\4\1\x60\0\0" b"\3\2\1\0" b"\5\3\1\0\1"
    b"\7\x13\2\6memory\2\0\6_start\0\0" b"\x0a\4\1\2\0\x0b"
)
# Deployed by the test before it starts.
KNOWN = "known"


def drawn(value, share):
    """True for one in so many values, and always for the same ones: Hypothesis repeats what it has found."""
    return zlib.crc32(repr(value).encode()) % share == 0


@schemathesis.serializer("application/wasm")
def as_wasm(_, value):
    # Seldom: each is compiled.
    if drawn(value, 40):
        return MODULE
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.deserializer("application/x-ndjson")
def as_lines(_, response):
    return [json.loads(line) for line in response.content.splitlines() if line]


@schemathesis.hook
def before_call(_, case, kwargs):
    parameters = case.path_parameters or {}
    if "name" not in parameters:
        return
    follow = (case.query or {}).get("follow", "0")
    if case.operation.path.endswith("/logs") and follow not in ("0", "false"):
        # Following the log of a function that exists has no end, which is what it is for; and any name may exist, since
        # modules are deployed.
        parameters["name"] = "nobody"
    elif drawn(parameters["name"], 2):
        parameters["name"] = KNOWN
