"""What a hostile tenant deploys and does: guests and clients for `test_tenants.py`, one for each kind of harm.

Each guest is text with a few numbers in it; a line that stands ten thousand times is written so, because that is the
point of it: nothing in a straight line asks what time it is, unless a compiler was told to make it.
"""

import multiprocessing
import os
import socket
import struct
import threading
import time

HTTP = '(import "mayfly_http_v1" "%s" (func $%s (param %s) (result i32)))'
WASI = '(import "wasi_snapshot_preview1" "%s" (func $%s (param %s) (result i32)))'
START = HTTP % ("response_start", "start", "i32 i32 i32 i32")
OK = '(data (i32.const 0) "\\c8\\00\\00\\00done")'
ANSWER = "(drop (call $start (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 4)))"


def guest(body, *, imports="", pages=1, more="", image=OK):
    """A reactor whose handler does this and answers."""
    return f"""(module {START} {imports} (memory (export "memory") {pages}) {image} (func (export "mayfly_abi_1")) {more}
      (func (export "mayfly_handle") (local $i i32) {body} {ANSWER}))"""


def words(*values):
    return "".join("\\%02x" % byte for byte in struct.pack(f"<{len(values)}I", *values))


def gemm(rows, columns, depth, at=4096):
    """A kernel call and the descriptor that it is made with: one product of strided operands, 16 MiB further on."""
    result, left, right = 1 << 20, 16 << 20, 40 << 20
    head = words(result, rows * columns, 256 << 10, 24 << 10, rows, columns, depth, 1, columns, 0)
    operands = words(1, left, rows * depth, depth, 1, 0) + words(1, right, depth * columns, columns, 1, 0)
    clamp = words(*([0] * 8)) + "\\00\\00\\80\\ff\\00\\00\\80\\7f"
    return f'(data (i32.const {at}) "{head}{operands}{clamp}{words(*([0] * 17))}")', f"(call $gemm (i32.const {at}))"


GEMM = '(import "mayfly_kernels_v1" "gemm" (func $gemm (param i32)))'


def kernels(calls, place="handle"):
    """So many kernel calls of a millisecond, one after the other: in the handler, in a start function, or in init."""
    data, call = gemm(406, 406, 406)
    line = call * calls
    if place == "handle":
        return guest(line, imports=GEMM, pages=1024, image=OK + data)
    name = "(start $line)" if place == "start" else '(export "mayfly_init" (func $line))'
    return guest("", imports=GEMM, pages=1024, image=OK + data, more=f"(func $line {line}) {name}")


def writes(calls, mib=120):
    """So many writes of `mib` MiB to the log in a straight line."""
    call = "(drop (call $fd_write (i32.const 2) (i32.const 32) (i32.const 1) (i32.const 48)))"
    iov = f'(data (i32.const 32) "{words(65536, mib << 20)}")'
    return guest(call * calls, imports=WASI % ("fd_write", "fd_write", "i32 i32 i32 i32"), pages=mib * 16 + 2, image=OK + iov)


def stores(pages=250_000):
    """One store to each of so many pages, without a loop."""
    line = "".join(f"(i32.store (i32.const {at * 4096}) (i32.const 1))" for at in range(1, pages))
    return guest(line, pages=pages * 4096 // 65536 + 1)


def unwinding(frames=2_000, stores_each=60):
    """A recursion that does all of its work on the way back, each frame on pages of its own."""
    line = "".join(
        f"(i32.store (i32.add (local.get 0) (i32.const {at * 4096})) (i32.const 1))" for at in range(stores_each))
    body = f"""(func $deep (param i32) (param i32)
      (if (local.get 1) (then (call $deep (i32.add (local.get 0) (i32.const {stores_each * 4096}))
        (i32.sub (local.get 1) (i32.const 1))) {line})))"""
    return guest(f"(call $deep (i32.const 65536) (i32.const {frames}))", pages=frames * stores_each * 4096 // 65536 + 64, more=body)


def jumping(segments=3000):
    """Straight lines that jump over whatever was put between them."""
    segment = "(block " + "(i32.store (i32.const 64) (i32.const 1))" * 300 + "(br 0)" + "(drop (i32.const 1))" * 40 + ")"
    return guest(f"{segment * segments}", pages=1)


def loops():
    return guest("(loop $on (br $on))")


def fills(mib):
    at = f"(i32.const 65536) (i32.const 1) (i32.const {mib << 20})"
    return guest(f"(memory.fill {at})", pages=mib * 16 + 2)


def copies(mib):
    return guest(f"(memory.copy (i32.const 65537) (i32.const 65536) (i32.const {mib << 20}))" * 4, pages=mib * 16 + 3)


def inits(mib=64, times=40):
    data = '(data $d "' + "x" * (mib << 20) + '")'
    line = f"(memory.init $d (i32.const 65536) (i32.const 0) (i32.const {mib << 20}))" * times
    return guest(line, pages=mib * 16 + 2, image=OK + data)


def tables(times=3000):
    line = "(table.fill $t (i32.const 0) (ref.null func) (i32.const 100000))" \
        "(table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 99999))"
    return guest(line * times, more="(table $t 100000 100000 funcref)")


def asset_reads(mib=60, times=40):
    """Reads an asset of its own whole, again and again; its init cannot be in a snapshot, so the asset stays."""
    name = f'(data (i32.const 64) "big")'
    read = f"(drop (call $asset_read (i32.const 64) (i32.const 3) (i64.const 0) (i32.const 65536) (i32.const {mib << 20})))"
    imports = '(import "mayfly_asset_v1" "asset_read" (func $asset_read (param i32 i32 i64 i32 i32) (result i32)))'
    imports += WASI % ("poll_oneoff", "poll", "i32 i32 i32 i32")
    init = """(func (export "mayfly_init") (i32.store (i32.const 128) (i32.const 1)) (i64.store (i32.const 136) (i64.const 1))
      (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 512))))"""
    return guest(read * times, imports=imports, pages=mib * 16 + 2, image=OK + name, more=init)


def with_asset(wasm, name, size):
    """A module with a custom section that is an asset."""
    def leb(n):
        out = b""
        while True:
            out += bytes([n & 127 | (128 if n > 127 else 0)])
            n >>= 7
            if not n:
                return out
    title = f"mayfly.asset/{name}".encode()
    body = leb(len(title)) + title + bytes(size)
    return wasm + b"\0" + leb(len(body)) + body


def writes_to_nobody(mib=1024):
    """A 204 with a body of a gibibyte: nobody takes it, so nothing ever makes the guest wait."""
    body = f"(drop (call $start (i32.const 0) (i32.const 4) (i32.const 65536) (i32.const {(mib << 20) - 65536})))"
    return f"""(module {START} (memory (export "memory") {mib * 16}) (data (i32.const 0) "\\cc\\00\\00\\00")
      (func (export "mayfly_abi_1")) (func (export "mayfly_handle") {body}))"""


def image(mib=450):
    """A snapshot of so many MiB whose handler does nothing."""
    init = f'(func (export "mayfly_init") (memory.fill (i32.const 65536) (i32.const 7) (i32.const {mib << 20})))'
    return guest("", pages=mib * 16 + 800, more=init)


def nap(ms, at=2048):
    return f"""(i32.store (i32.const {at + 16}) (i32.const 1)) (i64.store (i32.const {at + 24}) (i64.const {ms}000000))
      (drop (call $poll (i32.const {at}) (i32.const {at + 1024}) (i32.const 1) (i32.const {at + 1200})))"""


POLL = WASI % ("poll_oneoff", "poll", "i32 i32 i32 i32")


def hog(mib=128, before_ms=1500, after_ms=8000, step_pages=None):
    """Naps, takes its memory (at once, or by growing), and naps on with it."""
    size = mib * 16 - 1
    if step_pages is None:
        take = f"(memory.fill (i32.const 65536) (i32.const 1) (i32.const {(size - 1) << 16}))"
        return guest(nap(before_ms) + take + nap(after_ms), imports=POLL, pages=size)
    take = f"""(loop $on (local.set $i (memory.grow (i32.const {step_pages})))
      (if (i32.ne (local.get $i) (i32.const -1)) (then
        (memory.fill (i32.shl (local.get $i) (i32.const 16)) (i32.const 1) (i32.const {step_pages << 16})) (br $on))))"""
    return guest(nap(before_ms) + take + nap(after_ms), imports=POLL)


def log_flood(lines=600):
    line = words(1024, 100)
    call = "(drop (call $fd_write (i32.const 2) (i32.const 32) (i32.const 1) (i32.const 48)))"
    image = OK + f'(data (i32.const 32) "{line}") (data (i32.const 1024) "{"y" * 99}\\0a")'
    loop = f"(loop $on {call} (br_if $on (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {lines}))))"
    return guest(loop, imports=WASI % ("fd_write", "fd_write", "i32 i32 i32 i32"), image=image)


def model():
    """A model that gives back what it gets: its description for GET, the tensors of the request for POST."""
    def head(kind):
        name = b"content-type"
        return struct.pack("<HHH", 200, 1, len(name)) + name + struct.pack("<H", len(kind)) + kind
    ports = '[{"name":"x","datatype":"FP32","shape":[-1]}]'
    about = f'{{"inputs":{ports},"outputs":{ports}}}'.encode()
    text = lambda data: "".join("\\%02x" % byte for byte in data)
    describe, answer = head(b"application/vnd.mayfly.model+json"), head(b"application/vnd.mayfly.tensors")
    return f"""(module {START} {HTTP % ("request_head", "head", "i32 i32")} {HTTP % ("request_body_read", "read", "i32 i32")}
      {HTTP % ("response_write", "write", "i32 i32")} (memory (export "memory") 2)
      (data (i32.const 0) "{text(describe)}") (data (i32.const 128) "{text(answer)}") (data (i32.const 256) "{text(about)}")
      (func (export "mayfly_abi_1")) (func (export "mayfly_tensors_1"))
      (func (export "mayfly_handle") (local $n i32)
        (drop (call $head (i32.const 4096) (i32.const 4096)))
        (if (i32.eq (i32.load8_u (i32.const 4098)) (i32.const 71)) (then
          (drop (call $start (i32.const 0) (i32.const {len(describe)}) (i32.const 256) (i32.const {len(about)}))) (return)))
        (drop (call $start (i32.const 128) (i32.const {len(answer)}) (i32.const 0) (i32.const 0)))
        (loop $next (local.set $n (call $read (i32.const 65536) (i32.const 60000)))
          (if (i32.gt_s (local.get $n) (i32.const 0)) (then
            (drop (call $write (i32.const 65536) (local.get $n))) (br $next))))))"""


class Attackers:
    """So many clients of a hostile tenant that each do the same again and again, in a process of their own.

    Its work is behind everybody else's: hundreds of threads of Python want more than a core, and on the two cores of a
    test the node's workers were kept off them for up to 55 ms at a time, which no attacker from elsewhere could do.
    """

    def __init__(self, node, clients, timeout=60):
        self.node, self.clients, self.timeout = node, clients, timeout
        # That they may have at once.
        self.instances = clients
        self.answers = []

    def __enter__(self):
        # Forked: the threads of this process stay here.
        context = multiprocessing.get_context("fork")
        self.stop, (self.end, end) = context.Event(), context.Pipe(duplex=False)
        self.process = context.Process(target=self.attack, args=(end,), daemon=True)
        self.process.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.answers = self.end.recv() if self.end.poll(self.timeout) else []
        self.process.kill()

    def attack(self, end):
        come_last()
        threads = [threading.Thread(target=self.run, daemon=True) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        end.send(self.answers)

    def run(self):
        host, port = self.node.gateway.rsplit(":", 1)
        while not self.stop.is_set():
            began, status = time.monotonic(), 0
            try:
                with socket.create_connection((host, int(port)), timeout=self.timeout) as client:
                    status = self.once(client)
            except (OSError, ValueError):
                pass
            self.answers.append((status, time.monotonic() - began))

    def __str__(self):
        took = sorted(seconds for _, seconds in self.answers)
        statuses = {}
        for status, _ in self.answers:
            statuses[status] = statuses.get(status, 0) + 1
        return f"{len(took)} answers {statuses}, longest {took[-1] if took else 0:.2f} s"


def come_last():
    """Has this process run when no other wants to: by its own priority, and by that of its session where those count."""
    os.setsid()
    os.nice(19)
    try:
        with open("/proc/self/autogroup", "w") as group:
            group.write("19")
    except OSError:
        pass


def status_of(answer):
    return int(answer[9:12]) if len(answer) > 12 else 0


class Loops(Attackers):
    """Clients that ask for one path, each time on a connection of its own."""

    def __init__(self, node, path, clients, head=""):
        super().__init__(node, clients)
        self.request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{head}\r\n".encode()

    def once(self, client):
        client.sendall(self.request)
        status = status_of(client.recv(65536))
        while client.recv(65536):
            pass
        return status


class Infer(Attackers):
    """Clients that post tensors to a model and read, or send, slowly."""

    def __init__(self, node, clients, path, floats=1_000_000, read_s=0.0, send_s=0.0):
        super().__init__(node, clients, timeout=30)
        self.read_s, self.send_s = read_s, send_s
        self.instances = 0 if send_s else clients
        values = ",".join(["0.5"] * floats)
        self.body = ('{"inputs":[{"name":"x","datatype":"FP32","shape":[%d],"data":[%s]}]}' % (floats, values)).encode()
        self.head = f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(self.body)}\r\n\r\n".encode()

    def once(self, client):
        if self.read_s:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.sendall(self.head)
        for at in range(0, len(self.body), 1000 if self.send_s else len(self.body)):
            client.sendall(self.body[at:at + 1000] if self.send_s else self.body)
            if self.send_s and self.stop.wait(self.send_s):
                return 0
        status = status_of(client.recv(4096))
        if self.read_s:
            while not self.stop.is_set() and client.recv(100):
                self.stop.wait(self.read_s)
        else:
            while client.recv(65536):
                pass
        return status


def h2_streams(path, length, headers=0):
    """The opening of an HTTP/2 connection and a hundred streams on it, each with a head and no body."""
    head = b"\x83\x86" + b"\x04" + bytes([len(path)]) + path + b"\x01\x01a" + b"\x0f\x0d" + bytes([len(length)]) + length
    first = head + (b"\x40\x01x\x01y" if headers else b"")
    indexed = head + b"\xbe" * headers
    out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
    for at in range(100):
        block = (first if headers and at == 0 else indexed) if headers else head
        out += struct.pack(">I", len(block))[1:] + b"\x01\x04" + struct.pack(">I", 2 * at + 1) + block
    return out


class Streams:
    """Many HTTP/2 connections of a hundred streams each, held open and never read."""

    def __init__(self, node, connections, path, length=b"10000000", headers=0):
        self.node, self.connections, self.opening = node, connections, h2_streams(path.encode(), length, headers)
        self.open = []

    def __enter__(self):
        host, port = self.node.gateway.rsplit(":", 1)
        for at in range(self.connections):
            try:
                client = socket.create_connection((host, int(port)), timeout=10)
                client.setblocking(False)
                self.open.append(client)
                client.send(self.opening)
            except OSError:
                pass
            if at % 100 == 99:
                time.sleep(0.05)
        return self

    def __exit__(self, *_):
        for client in self.open:
            client.close()
