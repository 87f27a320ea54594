"""Pictures that are none, that lie about their size, and thousands that were damaged, posted to a function with a model.

    python3 test_pictures.py path/to/mayfly path/to/classify.wasm [mutants]
"""

import pathlib
import random
import struct
import sys
import urllib.error
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor

from invariants import Watched, check, finish
from node import Node

PICTURES = pathlib.Path(__file__).resolve().parents[3] / "functions" / "classify" / "pictures"
SEED = 7
# Answered, or refused by the function or its limits; anything else would be the host's.
STATUSES = (200, 400, 413, 415, 422, 502)


def png(width, height, rows, depth=8, colour=2, chunks=()):
    """A PNG of whatever size its header claims."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    more = b"".join(chunk(*c) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


BOMBS = {
    "100,000 x 100,000 in a few bytes": png(100_000, 100_000, b"\0"),
    "the largest size that there is": png(2 ** 31 - 1, 2 ** 31 - 1, b"\0"),
    "no pixels": png(0, 0, b""),
    "64 MiB of zeros": png(4096, 4096, bytes(64 << 20)),
    "16 bits": png(64, 64, bytes(64 * (1 + 64 * 6)), depth=16),
    "a text that unpacks to 64 MiB": png(8, 8, bytes(8 * 25), chunks=[(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 << 20), 9))]),
    "a profile that unpacks to 64 MiB": png(8, 8, bytes(8 * 25), chunks=[(b"iCCP", b"a\0\0" + zlib.compress(bytes(64 << 20), 9))]),
    "JPEG of 65,535 x 65,535": b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xd9",
    "GIF": b"GIF89a\xff\xff\xff\xff\0\0\0;", "nothing": b"", "a word": b"picture", "ELF": b"\x7fELF" + bytes(60),
}


def post(node, body):
    request = urllib.request.Request(f"http://{node.gateway}/classify", data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


def mutant(rng, seeds):
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randint(1, 16))
        elif kind == 3:
            data[16 + rng.randrange(8)] = rng.randrange(256)
        else:
            data[at] ^= 1 << rng.randrange(8)
        if len(data) < 32:
            break
    # Half with sums that are right, or none of them would reach the decoder behind.
    return repaired(bytes(data)) if rng.random() < 0.5 else bytes(data)


def repaired(data):
    """The same PNG with the checksums that its chunks should have."""
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at:at + 4])[0]
        if at + 12 + length > len(data):
            break
        body = data[at + 4:at + 8 + length]
        out += data[at:at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(out + data[at:])


def main():
    mayfly, wasm, mutants = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 2000
    node = Node(mayfly)
    node.deploy(wasm, "classify")
    seeds = [(PICTURES / name).read_bytes() for name in ("cat_224.png", "china_224.png")]
    check(post(node, seeds[0])[0] == 200, "a picture that is one is refused")
    for name, body in BOMBS.items():
        status, text = post(node, body)
        print(f"  {name}: {status} {text[:90]}", flush=True)
        check(status in STATUSES, f"{name}: {status} {text[:200]}")
    rng, seen = random.Random(SEED), {}
    with Watched(node, "pictures", slack_mib=64), ThreadPoolExecutor(2) as pool:
        for status, text in pool.map(lambda body: post(node, body), (mutant(rng, seeds) for _ in range(mutants))):
            seen[status] = seen.get(status, 0) + 1
            check(status in STATUSES, f"a mutant: {status} {text[:200]}")
        print(f"pictures: {mutants} mutants (seed {SEED}), statuses {seen}", flush=True)
    check(post(node, seeds[0])[0] == 200, "a picture that is one is refused afterwards")
    check(node.stop(), "the node did not end well")
    finish()


if __name__ == "__main__":
    main()
