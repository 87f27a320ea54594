"""Many clients that ask for much and take or send little: what a node holds for them is bounded, and given back.

    python3 test_client_memory.py path/to/mayfly [connections] [shape,...]

Each shape is what one connection sends at once, and what it sends each quarter of a second from then on. Memory is
looked at every 10 ms. Beside it a modest function is asked for 200 times a second, from an address of its own.
Needs `hpack`, `hyperframe` and `wasmtime` of PyPI (see requirements-hostile.txt).
"""

import pathlib
import resource
import selectors
import socket
import struct
import sys
import threading
import time

from invariants import Watched, check, finish
from node import Node

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
STREAMS = 100
# What a connection with a hundred streams may cost.
CONNECTION_KIB = 64
# How long an attack goes on once all have connected, and how soon its memory must be back.
HELD_S, BACK_S = 4, 10


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(path, post=True, length=None, more=b""):
    """A header block without any dynamic entry: the same bytes for each stream and connection."""
    path = path.encode()
    fields = (b"\x83" if post else b"\x82") + b"\x86" + b"\x04" + bytes([len(path)]) + path + b"\x01\x01a"
    if length is not None:
        text = str(length).encode()
        fields += b"\x0f\x0d" + bytes([len(text)]) + text
    return fields + more


def streams(head, end=False, body=b"", finish=True):
    """A connection's streams, each with this head, and this much of its body."""
    frames = [PREFACE]
    for i in range(STREAMS):
        frames.append(frame(1, 4 * finish + end, 2 * i + 1, head))
        if body:
            frames.append(frame(0, 0, 2 * i + 1, body))
    return b"".join(frames)


def open_windows(head):
    """Streams whose answers may all be sent, to a client that reads none."""
    window = PREFACE[:24] + frame(4, 0, 0, struct.pack(">HI", 4, 1 << 20)) + frame(8, 0, 0, struct.pack(">I", 1 << 30))
    return window + streams(head, end=True)[len(PREFACE):]


def trickle(body):
    return b"".join(frame(0, 0, 2 * i + 1, body) for i in range(STREAMS))


INFER = "/v2/models/twin/infer"
BODY = 10_000_000
# The accepted encodings, from the static table: a byte on the wire, a header of 47 bytes and what it takes to keep it.
INDEXED = b"\x90" * 1800
JSON = b'{"inputs":[' + b" " * 500
HEAD_60K = b"GET /ok HTTP/1.1\r\nHost: a\r\n"
SHAPES = {
    # Nothing is owed to these: each is answered or refused at once.
    "infer-no-body": (streams(block(INFER, length=BODY)), None),
    "post-no-body": (streams(block("/ok", length=BODY)), None),
    "get": (streams(block("/ok", post=False), end=True), None),
    "get-nothing-there": (streams(block("/nope", post=False), end=True), None),
    "describe": (streams(block("/v2/models/twin", post=False), end=True), None),
    # These wait for something that the client does not send, or that takes long.
    "infer-little-body": (streams(block(INFER, length=BODY), body=JSON), None),
    "infer-trickle": (streams(block(INFER, length=BODY), body=JSON), trickle(b" ")),
    "reads-its-body": (streams(block("/counts", length=BODY), body=b"x" * 4000), trickle(b"x")),
    "sleeps": (streams(block("/sleeps", post=False), end=True), None),
    "sleeps-with-body": (streams(block("/sleeps", length=BODY), body=b"x" * 10_000), None),
    "infer-http1": (b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), BODY) + JSON, b" "),
    # Heads: many fields for few bytes, and those that never end.
    "indexed": (streams(block("/ok", post=False, more=INDEXED), end=True), None),
    "indexed-infer": (streams(block(INFER, length=BODY, more=INDEXED)), None),
    "continuation": (streams(block("/ok", post=False, more=INDEXED[:400]), end=True, finish=False)[:24 + 9 + 9 + 430],
                     frame(9, 0, 1, INDEXED[:100])),
    # One frame that needs another, and has all that makes a head large.
    "open-block": (PREFACE + frame(1, 1, 1, block("/ok", post=False, more=INDEXED)), None),
    # As much of a body as makes a buffer large.
    "http1-body-stalled": (b"POST /sleeps HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 72_000, None),
    "http1-head-one-line": (HEAD_60K + b"Cookie: " + b"x" * 60_000, b"x"),
    "http1-head-many-lines": (HEAD_60K + (b"Accept: " + b"x" * 700 + b"\r\n") * 85, b"x"),
    # Answers that nobody reads.
    "unread": (open_windows(block("/gush", post=False)), None),
    "unread-infer": (open_windows(block("/v2/models/twin", post=False)), None),
}


def head(status, *fields):
    """A response's head as the reactor ABI has it."""
    out = struct.pack("<HH", status, len(fields))
    for name, value in fields:
        for part in (name.encode(), value.encode()):
            out += struct.pack("<H", len(part)) + part
    return out


def model():
    """Describes itself to `GET`, and gives back what is posted."""
    ports = '[{"name":"x","datatype":"FP32","shape":[-1]}]'
    metadata = f'{{"inputs":{ports},"outputs":{ports}}}'.encode()
    describe = head(200, ("content-type", "application/vnd.mayfly.model+json"))
    answer = head(200, ("content-type", "application/vnd.mayfly.tensors"))
    data = "".join(
        f'(data (i32.const {at}) "{"".join(f"{chr(92)}{b:02x}" for b in bytes_)}")'
        for at, bytes_ in [(0, describe), (128, answer), (256, metadata)]
    )
    return f"""(module
      (import "mayfly_http_v1" "request_head" (func $head (param i32 i32) (result i32)))
      (import "mayfly_http_v1" "request_body_read" (func $read (param i32 i32) (result i32)))
      (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
      (import "mayfly_http_v1" "response_write" (func $write (param i32 i32) (result i32)))
      (memory (export "memory") 2) {data}
      (func (export "mayfly_abi_1")) (func (export "mayfly_tensors_1"))
      (func (export "mayfly_handle") (local $n i32)
        (drop (call $head (i32.const 4096) (i32.const 4096)))
        (if (i32.eq (i32.load8_u (i32.const 4098)) (i32.const 71))
          (then (drop (call $start (i32.const 0) (i32.const {len(describe)}) (i32.const 256) (i32.const {len(metadata)})))
            (return)))
        (drop (call $start (i32.const 128) (i32.const {len(answer)}) (i32.const 0) (i32.const 0)))
        (loop $next
          (local.set $n (call $read (i32.const 65536) (i32.const 60000)))
          (if (i32.gt_s (local.get $n) (i32.const 0))
            (then (drop (call $write (i32.const 65536) (local.get $n))) (br $next))))))"""


class Memory(threading.Thread):
    """What the process holds that the kernel cannot take back, looked at every 10 ms."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.done, self.now, self.peak = pid, threading.Event(), 0.0, 0.0
        self.look()
        self.base = self.now
        self.start()

    def look(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        kib = sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem")))
        self.now = kib / 1024
        self.peak = max(self.peak, self.now)

    def run(self):
        while not self.done.wait(0.01):
            self.look()


def crowd(node, count, first, more):
    """Connects so many clients, sends, and goes on sending; gives the sockets."""
    host, port = node.gateway.rsplit(":", 1)
    clients = []
    for i in range(count):
        client = socket.socket()
        # Beyond 28,000 of one address the ports run out, and the bystander has an address of its own.
        client.bind((f"127.0.1.{1 + i % 4}", 0))
        client.settimeout(10)
        try:
            client.connect((host, int(port)))
            client.setblocking(False)
            clients.append([client, first])
        except OSError:
            client.close()
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client[0], selectors.EVENT_WRITE, client)
    until = time.monotonic() + 60
    while selector.get_map() and time.monotonic() < until:
        for key, _ in selector.select(1):
            client = key.data
            try:
                client[1] = client[1][client[0].send(client[1]):]
            except BlockingIOError:
                continue
            except OSError:
                client[1] = b""
            if not client[1]:
                selector.unregister(client[0])
    end = time.monotonic() + HELD_S
    while time.monotonic() < end:
        for client, _ in clients if more else ():
            try:
                client.send(more)
            except OSError:
                pass
        time.sleep(0.25)
    return [client for client, _ in clients]


def attack(node, shape, count):
    first, more = SHAPES[shape]
    with Watched(node, shape, fresh=0.0, slack_mib=64):
        memory = Memory(node.pid)
        base = memory.base
        began = time.monotonic()
        clients = crowd(node, count, first, more)
        took = time.monotonic() - began
        for client in clients:
            client.close()
        closed = time.monotonic()
        while memory.now > base * 1.1 and time.monotonic() < closed + BACK_S:
            time.sleep(0.02)
        back = time.monotonic() - closed
        memory.done.set()
        grew = memory.peak - base
        print(f"{shape}: {len(clients)} connections in {took:.1f} s: base {base:.0f} MiB, peak +{grew:.0f} MiB ="
              f" {grew * 1024 / count:.1f} KiB a connection; +{memory.now - base:.0f} MiB {back:.1f} s after", flush=True)
        bound = CONNECTION_KIB * count / 1024
        check(grew <= bound, f"{shape}: memory grew by {grew:.0f} MiB, over {bound:.0f} MiB")
        check(memory.now <= base * 1.1, f"{shape}: {memory.now:.0f} MiB after {BACK_S} s, {base:.0f} MiB before")


def main():
    mayfly = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 2500
    shapes = sys.argv[3].split(",") if len(sys.argv) > 3 else list(SHAPES)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for shape in shapes:
        # One for each: what the allocator has of one attack would hide what the next one takes.
        node = Node(mayfly, slots=64)
        for name, fault in [("ok", "answers"), ("counts", "counts-its-body"), ("gush", "answers-too-much")]:
            node.deploy_fault(fault, name)
        node.deploy_fault("sleeps", "sleeps", "--limit", "wall=2s")
        node.deploy(node.wat(model(), "twin"), "twin")
        attack(node, shape, count)
        check(node.stop(), f"{shape}: the node did not end well")
    finish()


if __name__ == "__main__":
    main()
