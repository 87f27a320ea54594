"""Clients that go on sending, ever so slowly, a body that nobody reads: each has its answer, and is let go.

A byte now and then is read until BODY_RATE is asked of it, silence until DISCARD_IDLE; then a connection of HTTP/1 lingers
for LINGER_TIMEOUT. A stream of HTTP/2 has its answer by then (by DISCARD_STREAM_IDLE if it is silent), is reset with NO_ERROR,
and its connection goes on.
"""

import concurrent.futures
import socket
import time

import h2.config
import h2.connection
import h2.events

# Seconds, as in docs/limits.md.
BODY_RATE_GRACE, DISCARD_TIMEOUT, DISCARD_IDLE, DISCARD_STREAM_IDLE, LINGER_TIMEOUT = 10, 30, 5, 1, 5
# Within DISCARD_TIMEOUT, and longer than any other clock that could end it.
LATE = 25
# What a busy machine may add.
SLACK = 4


class Slow:
    """All of them at once, beside whatever else the test does; `rows` waits for them."""

    def __init__(self, gateway):
        host, port = gateway.rsplit(":", 1)
        self.address = (host, int(port))
        long, silent = BODY_RATE_GRACE + LINGER_TIMEOUT, DISCARD_IDLE + LINGER_TIMEOUT
        slowly = {
            "HTTP/1, 200": lambda: self.dribbles(post("/hello", 300_000), 200),
            "HTTP/1, 404": lambda: self.dribbles(post("/nobody", 300_000), 404),
            "HTTP/1, 413": lambda: self.dribbles(post("/hello", 12 << 20), 413),
            "HTTP/1, 413 of more than is discarded": lambda: self.dribbles(post("/hello", 1 << 30), 413),
            "HTTP/1.0, 200": lambda: self.dribbles(post("/hello", 300_000).replace(b"/1.1", b"/1.0"), 200),
        }
        self.tasks = {f"a byte a second, {name}": (task, BODY_RATE_GRACE - 1, long) for name, task in slowly.items()}
        self.tasks |= {
            "five bytes a second, HTTP/2": (lambda: self.stream(1), BODY_RATE_GRACE - 1, BODY_RATE_GRACE),
            **{f"a steady body that is late, {name}": (task, LATE - 2, LATE) for name, task in {
                "200": lambda: self.reads_last(post("/hello", 300_000), 300_000, 200),
                "404": lambda: self.reads_last(post("/nobody", 300_000), 300_000, 404),
                "413": lambda: self.reads_last(post("/hello", 12 << 20), 12 << 20, 413),
            }.items()},
            "silent, HTTP/2": (lambda: self.stream(0), 0, DISCARD_STREAM_IDLE),
            "HTTP/1.0 that is not kept": (self.is_told_the_end, 0, 0),
            "silent, HTTP/1": (lambda: self.is_silent(post("/hello", 300_000), silent + SLACK), 0, silent + SLACK),
        }
        self.pool = concurrent.futures.ThreadPoolExecutor(len(self.tasks))
        self.under_way = {name: self.pool.submit(task) for name, (task, _, _) in self.tasks.items()}

    def rows(self):
        """For each: its name, the seconds it was held, and what was wrong, if anything."""
        for name, future in self.under_way.items():
            _, least, most = self.tasks[name]
            try:
                held = future.result(DISCARD_TIMEOUT + LINGER_TIMEOUT + 30)
            except Exception as error:  # noqa: BLE001: whatever it is, it is the row's result
                yield name, 0.0, f"{type(error).__name__}: {error}"
                continue
            yield name, held, None if least <= held <= most + SLACK else f"{held:.1f} s, not {least} to {most}"

    def answered(self, head, status):
        client = socket.create_connection(self.address, timeout=10)
        client.sendall(head)
        whole_answer(client, status)
        return client

    def dribbles(self, head, status):
        """Sends a byte a second; gives the seconds until that was not taken any more."""
        with self.answered(head, status) as client:
            began = time.monotonic()
            while time.monotonic() - began < DISCARD_TIMEOUT + LINGER_TIMEOUT + 20:
                try:
                    client.send(b"x")
                except OSError:
                    break
                time.sleep(1)
            return time.monotonic() - began

    def reads_last(self, head, length, status):
        """Sends all of its body, evenly over LATE seconds, before it reads its answer, as many clients do."""
        with socket.create_connection(self.address, timeout=10) as client:
            client.sendall(head)
            began, sent, piece = time.monotonic(), 0, length // (10 * LATE)
            while sent < length:
                client.sendall(b"x" * min(piece, length - sent))
                sent += piece
                time.sleep(max(0.0, began + LATE * sent / length - time.monotonic()))
            whole_answer(client, status)
            return time.monotonic() - began

    def is_silent(self, head, seconds):
        """Sends nothing for so long: then the connection must be gone."""
        with self.answered(head, 200) as client:
            began = time.monotonic()
            time.sleep(seconds)
            try:
                # The first is answered by a reset, which the second sees.
                for _ in range(2):
                    client.send(b"x")
                    time.sleep(0.3)
            except OSError:
                return time.monotonic() - began - 0.3
            return float("inf")

    def is_told_the_end(self):
        """A client of HTTP/1.0 that would keep its connection and has not been asked for its body: it must not send on."""
        head = post("/hello", 300_000).replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n")
        with socket.create_connection(self.address, timeout=10) as client:
            client.sendall(head)
            answer, _ = whole_answer(client, 200)
            if b"keep-alive" in answer.lower():
                raise RuntimeError(f"the connection ends, and its answer says {answer.lower().partition(b'connection:')[2][:40]!r}")
            if client.recv(1):
                raise RuntimeError("something follows the answer")
        return 0.0

    def stream(self, piece):
        """A stream whose body does not end, with so many bytes five times a second: seconds until it is answered and reset."""
        with socket.create_connection(self.address, timeout=0.2) as client:
            peer = Http2(client)
            peer.connection.send_headers(1, peer.head("POST", "/hello") + [("content-length", "300000")])
            peer.connection.send_data(1, b"x" * 100)
            began = time.monotonic()
            peer.until(h2.events.StreamEnded, 1, DISCARD_TIMEOUT + 20, piece)
            reset = peer.until(h2.events.StreamReset, 1, 10)
            held = time.monotonic() - began
            if reset.error_code != 0:
                raise RuntimeError(f"RST_STREAM has code {reset.error_code}, not NO_ERROR")
            peer.connection.send_headers(3, peer.head("GET", "/hello"), end_stream=True)
            peer.until(h2.events.StreamEnded, 3, 10)
            return held


class Http2:
    """A connection of HTTP/2, over cleartext and without asking first."""

    def __init__(self, client):
        self.client, self.events = client, []
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.connection.initiate_connection()

    def head(self, method, path):
        return [(":method", method), (":path", path), (":scheme", "http"), (":authority", "peers")]

    def until(self, kind, stream, seconds, piece=0):
        """The next event of this kind; meanwhile sends so many bytes of the stream whenever nothing has come."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            while self.events:
                event = self.events.pop(0)
                if isinstance(event, kind) and event.stream_id == stream:
                    return event
            self.client.sendall(self.connection.data_to_send())
            try:
                data = self.client.recv(65536)
            except TimeoutError:
                if piece:
                    self.connection.send_data(stream, b"x" * piece)
                continue
            if not data:
                raise RuntimeError("the connection was closed")
            self.events += self.connection.receive_data(data)
        raise RuntimeError(f"no {kind.__name__} within {seconds} s")


def post(path, length):
    return f"POST {path} HTTP/1.1\r\nHost: peers\r\nContent-Length: {length}\r\n\r\n".encode()


def whole_answer(client, status):
    """Reads one answer that has a length; gives its head and body."""
    got = b""
    while b"\r\n\r\n" not in got:
        more = client.recv(65536)
        if not more:
            raise RuntimeError(f"closed after {got!r}")
        got += more
    head, body = got.split(b"\r\n\r\n", 1)
    if int(head.split()[1]) != status:
        raise RuntimeError(f"{head[:40]!r}, not {status}")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < int(lengths[0]):
        more = client.recv(65536)
        if not more:
            raise RuntimeError(f"cut after {body!r}")
        body += more
    return head, body
