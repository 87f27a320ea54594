"""An innocent client beside an attack: a fixed rate of requests, whatever becomes of the answers (an open loop).

    python3 bystander.py HOST:PORT /path [requests per second] [share of fresh connections]

Runs until its stdin ends, then prints one line of JSON. A request's time counts from when it was due, so that a server
that stalls does not slow the clock that measures it. A process of its own: the attacker's Python must not be in its way.
"""

import json
import queue
import socket
import sys
import threading
import time

# Requests under way at most; more than that, and the next one waits, which its time then shows.
CLIENTS = 32


class Client(threading.Thread):
    """Takes requests as they fall due, over one connection or, if told to, a fresh one."""

    def __init__(self, address, path, due, seen):
        super().__init__(daemon=True)
        host, port = address.rsplit(":", 1)
        self.address, self.due, self.seen = (host, int(port)), due, seen
        self.request = f"GET {path} HTTP/1.1\r\nHost: bystander\r\n\r\n".encode()
        self.socket = None

    def run(self):
        while (item := self.due.get()) is not None:
            at, fresh = item
            try:
                problem = self.once(fresh)
            except OSError as error:
                problem, self.socket = f"{type(error).__name__}: {error}", None
            self.seen.append((at, time.monotonic() - at, problem))

    def once(self, fresh):
        if fresh or self.socket is None:
            if self.socket:
                self.socket.close()
            self.socket = None
            self.socket = socket.create_connection(self.address, timeout=10)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(self.request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = self.socket.recv(65536)
            if not data:
                self.socket = None
                return "closed"
            answer += data
        head, body = answer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
        chunked = "transfer-encoding: chunked" in lines
        while not body.endswith(b"0\r\n\r\n") if chunked else len(body) < length:
            data = self.socket.recv(65536)
            if not data:
                self.socket = None
                return "cut"
            body += data
        if "connection: close" in lines:
            self.socket = None
        return None if lines[0].startswith("http/1.1 200") else f"{lines[0]}: {body[:200]!r}"


def summary(seen, since=0.0, until=float("inf")):
    """Counts and milliseconds of the requests that were due in a span of time."""
    span = [(took, problem) for at, took, problem in seen if since <= at < until]
    times = sorted(took for took, _ in span)
    problems = [problem for _, problem in span if problem]

    def at(share):
        return round(1000 * times[min(len(times) - 1, int(len(times) * share))], 2) if times else 0.0
    return {
        "requests": len(span), "errors": len(problems), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1),
        "examples": sorted(set(problems))[:5],
    }


def main():
    address, path = sys.argv[1:3]
    rate = float(sys.argv[3]) if len(sys.argv) > 3 else 200.0
    fresh = float(sys.argv[4]) if len(sys.argv) > 4 else 0.05
    due, seen = queue.Queue(), []
    clients = [Client(address, path, due, seen) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    marks = [time.monotonic()]

    def listen():
        # Each line from the test is a mark between two spans; the end of the input is the end.
        for _ in sys.stdin:
            marks.append(time.monotonic())
        marks.append(time.monotonic())
        ended.set()
    ended = threading.Event()
    threading.Thread(target=listen, daemon=True).start()
    began, number, owed = time.monotonic(), 0, 0.0
    while not ended.is_set():
        at = began + number / rate
        time.sleep(max(0.0, at - time.monotonic()))
        owed += fresh
        due.put((at, owed >= 1))
        owed -= owed >= 1
        number += 1
    for _ in clients:
        due.put(None)
    for client in clients:
        client.join(15)
    print(json.dumps([summary(seen, *span) for span in zip(marks, marks[1:])]))


if __name__ == "__main__":
    main()
