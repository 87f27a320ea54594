"""HTTP/2 clients that misbehave, frame by frame: each is ended or bounded, memory stays flat, others are served.

    python3 test_h2_abuse.py path/to/mayfly [seconds-per-attack]

Needs `hpack`, `hyperframe` and, for its text format, `wasmtime` of PyPI (see requirements-hostile.txt). Frames are made by hand where a library would refuse to.
"""

import pathlib
import socket
import struct
import sys
import threading
import time

from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame, DataFrame, GoAwayFrame, HeadersFrame, PingFrame, PriorityFrame, RstStreamFrame, SettingsFrame,
    WindowUpdateFrame,
)
from wasmtime import wat2wasm

from invariants import held_mib
from node import Node

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FAULTS = pathlib.Path(__file__).resolve().parents[3] / "functions" / "faults"
# What a node may grow by under one attack; h2 and hyper keep some kilobytes for each stream that is open or was reset.
GROWTH_MIB = 50


def head(path="/ok", method="GET", more=()):
    return [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path), *more]


class Client:
    """A connection that counts what it sends and reads what it gets on a thread of its own."""

    def __init__(self, address, settings=None, read=True):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.encoder = Encoder()
        self.received = bytearray()
        self.closed = threading.Event()
        self.frames = 0
        self.send(PREFACE, SettingsFrame(0, settings=settings or {}))
        if read:
            threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            while data := self.socket.recv(1 << 16):
                if len(self.received) < 1 << 20:
                    self.received += data
        except OSError:
            pass
        self.closed.set()

    def send(self, *frames):
        data = b"".join(f if isinstance(f, bytes) else f.serialize() for f in frames)
        self.frames += len(frames)
        self.socket.sendall(data)

    def headers(self, stream, fields, end_stream=True, end_headers=True):
        flags = [name for name, on in [("END_STREAM", end_stream), ("END_HEADERS", end_headers)] if on]
        return HeadersFrame(stream, self.encoder.encode(fields), flags=flags)

    def goaway(self):
        """The error code of a GOAWAY that came, if one did."""
        at, data = 0, bytes(self.received)
        while at + 9 <= len(data):
            length = int.from_bytes(data[at:at + 3], "big")
            if data[at + 3] == GoAwayFrame.type and at + 17 <= len(data):
                return int.from_bytes(data[at + 13:at + 17], "big")
            at += 9 + length
        return None


def streams():
    return iter(range(1, 2 ** 31, 2))


def rapid_reset(client):
    for stream in streams():
        yield [client.headers(stream, head()), RstStreamFrame(stream, error_code=8)]


def reset_after_loop(client):
    for stream in streams():
        yield [client.headers(stream, head("/loops")), RstStreamFrame(stream, error_code=8)]


def resets_that_we_cause(client):
    for stream in streams():
        # A window update of zero is a stream error: the server has to reset.
        yield [client.headers(stream, head(), end_stream=False), WindowUpdateFrame(stream).serialize()[:9] + bytes(4)]


def endless_continuation(client):
    yield [HeadersFrame(1, client.encoder.encode(head()), flags=["END_STREAM"])]
    while True:
        yield [ContinuationFrame(1, client.encoder.encode([("x", "y" * 50)]))]


def empty_continuation(client):
    yield [HeadersFrame(1, client.encoder.encode(head()), flags=["END_STREAM"])]
    while True:
        yield [ContinuationFrame(1, b"")]


def empty_data(client):
    yield [client.headers(1, head("/counts", "POST"), end_stream=False)]
    while True:
        yield [DataFrame(1, b"")]


def padded_data(client):
    yield [client.headers(1, head("/counts", "POST"), end_stream=False)]
    while True:
        yield [DataFrame(1, b"", pad_length=255, flags=["PADDED"])]


def settings_flood(_):
    while True:
        yield [SettingsFrame(0, settings={4: 65535})]


def ping_flood(_):
    while True:
        yield [PingFrame(0, b"mayfly!!")]


def priority_flood(_):
    for stream in streams():
        yield [PriorityFrame(stream, depends_on=0, stream_weight=1)]


def window_flood(_):
    while True:
        yield [WindowUpdateFrame(0, window_increment=1)]


def unknown_frames(_):
    while True:
        yield [struct.pack(">I", 100 << 8 | 0xEE)[0:4] + bytes(5) + bytes(100)]


def many_streams(client):
    for stream in streams():
        yield [client.headers(stream, head("/sleeps", "POST"), end_stream=False)]


def hpack_bomb(client):
    # One entry of the dynamic table, then references to it: a byte each on the wire, four kilobytes each when decoded.
    yield [client.headers(1, head(more=[("x-bomb", "b" * 4000)]))]
    for stream in range(3, 2 ** 31, 2):
        block = client.encoder.encode(head()) + b"\xbe" * 16000
        yield [HeadersFrame(stream, block, flags=["END_STREAM", "END_HEADERS"])]


def zero_window(client):
    for stream in streams():
        yield [client.headers(stream, head("/gush"))]


ATTACKS = [
    (rapid_reset, {}, True), (reset_after_loop, {}, True), (resets_that_we_cause, {}, True), (endless_continuation, {}, True), (empty_continuation, {}, True),
    (empty_data, {}, True), (padded_data, {}, True), (settings_flood, {}, True), (ping_flood, {}, True),
    (settings_flood, {}, False), (ping_flood, {}, False), (priority_flood, {}, True), (window_flood, {}, True),
    (unknown_frames, {}, True), (many_streams, {}, True), (hpack_bomb, {}, True), (zero_window, {4: 0}, True),
]


def bystander(address, stop, seen):
    """Asks for a function that nobody attacks twenty times a second; keeps the times, and each failure."""
    host, port = address.rsplit(":", 1)
    while not stop.is_set():
        began = time.monotonic()
        try:
            with socket.create_connection((host, int(port)), timeout=10) as s:
                s.sendall(b"GET /bystander HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                answer = b""
                while data := s.recv(4096):
                    answer += data
            seen.append((time.monotonic() - began, answer.startswith(b"HTTP/1.1 200")))
            if not seen[-1][1]:
                print("bystander:", answer[:400])
        except OSError as error:
            print("bystander:", error)
            seen.append((time.monotonic() - began, False))
        time.sleep(0.05)


def attack(node, make, settings, read, seconds):
    """Runs one attack; gives frames sent, how it ended, and the growth of memory."""
    before = peak = held_mib(node.process.pid)
    client = Client(node.gateway, settings, read)
    client.socket.settimeout(seconds)
    ended, until = "held", time.monotonic() + seconds
    batch = []
    try:
        for frames in make(client):
            batch += frames
            if len(batch) >= 64:
                client.send(*batch)
                batch = []
                peak = max(peak, held_mib(node.process.pid))
                if client.closed.is_set():
                    raise ConnectionResetError
                if time.monotonic() > until:
                    break
    except (ConnectionError, BrokenPipeError):
        ended = f"ended, GOAWAY {client.goaway()}"
    except TimeoutError:
        ended = "held back by flow control"
    peak = max(peak, held_mib(node.process.pid))
    client.socket.close()
    return client.frames, ended, peak - before


def main():
    mayfly, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    node = Node(mayfly)
    for name, fault, *limits in [
        ("ok", "answers"), ("bystander", "answers"), ("counts", "counts-its-body"), ("sleeps", "sleeps"), ("gush", "answers-too-much"), ("loops", "loops"),
    ]:
        node.deploy_fault(fault, name, *limits)
    stop, seen = threading.Event(), []
    thread = threading.Thread(target=bystander, args=(node.gateway, stop, seen))
    thread.start()
    failed = []
    for make, settings, read in ATTACKS:
        frames, ended, growth = attack(node, make, settings, read, seconds)
        name = make.__name__ + ("" if read else " (unread)")
        print(f"{name:24} {frames:9} frames, {growth:6.1f} MiB, {ended}", flush=True)
        if growth > GROWTH_MIB:
            failed.append(f"{name}: memory grew by {growth:.0f} MiB")
        if node.process.poll() is not None:
            failed.append(f"{name}: the node ended")
            break
    stop.set()
    thread.join()
    times = sorted(t for t, _ in seen)
    bad = sum(not ok for _, ok in seen)
    if not seen or bad:
        failed.append(f"{bad} of {len(seen)} bystanders failed")
    print(f"bystander: {len(seen)} requests, {bad} failed, p99 {1000 * times[len(times) * 99 // 100]:.1f} ms")
    if not node.stop():
        failed.append("the node did not end well")
    for line in failed:
        print("FAILED", line)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
