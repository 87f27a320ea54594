"""Clients and proxies of others post bodies that nobody reads: each must get its answer, whole (RFC 9112, section 9.6).

    python3 peers_http.py path/to/mayfly --guests directory/of/wasm [--go-client PROGRAM] [--quick] [--only NAME]

One row for each peer, answer and size. Lost is what is not the expected status with the whole body, be it an error of
the client's, a proxy's 502 or a body that is cut. At the end: whether connections were used again, and slow senders.
"""

import argparse
import dataclasses
import pathlib
import socket
import sys
import tempfile
import time

from invariants import Watched, check, failed, finish
from node import Node
from peers_clients import CLIENTS, all_clients
from peers_proxies import Proxies
from peers_slow import Slow, post, whole_answer

KB, MB, MIB = 1000, 1_000_000, 1 << 20


@dataclasses.dataclass
class Cell:
    """A request, and how often it is made: in a full run and in a quick one."""

    path: str
    status: int
    size: int
    full: int
    quick: int

    def __str__(self):
        unit = next((f"{self.size // of} {name}" for of, name in ((MIB, "MiB"), (MB, "MB"), (KB, "kB")) if self.size % of == 0),
                    f"{self.size} B")
        return f"{self.path} {self.status} | {unit}"


# `hello` answers without reading, as `command` does, which streams; there is no `nobody`; the limit of a body is 10 MiB, and 64 MiB are read for nothing.
CELLS = [
    *(Cell(path, status, size, full, quick)
      for size, full, quick in ((100, 10_000, 200), (20 * KB, 10_000, 200), (300 * KB, 10_000, 200), (3 * MB, 1_000, 40))
      for path, status in (("/hello", 200), ("/nobody", 404))),
    *(Cell("/command", 200, size, 1_000, 40) for size in (KB, 300 * KB)),
    Cell("/hello", 413, 12 * MIB, 1_000, 20),
    Cell("/hello", 413, 74 * MIB, 100, 4),
]
# Clients that are tried through each proxy. When nginx streams, and the answer comes first, it says to its client that it
# keeps the connection and closes it (whatever the server behind it: Go's too), so there each request has one of its own.
THROUGH, THROUGH_STREAMING = ("hey", "curl", "requests"), ("curl, alone",)
# Connections that these need for all of a cell's requests, where nothing is wrong: curl gives up one whose refusal came
# before all was sent.
REUSED = {"curl": {200: 1}, "requests": {200: CLIENTS, 404: CLIENTS}}


class Matrix:
    """Runs cells, prints their rows, and counts."""

    def __init__(self, options, node, directory):
        self.options, self.directory = options, directory
        self.requests, self.lost = 0, 0
        self.expected = {(cell.path, cell.status): reference(node.gateway, cell) for cell in CELLS}
        for cell in CELLS:
            self.file(cell).write_bytes(b"m" * cell.size)
        print("| peer | answer | body | requests | lost | connections | s | answers |\n| --- | --- | --- | --- | --- | --- | --- | --- |",
              flush=True)

    def file(self, cell):
        return self.directory / f"body-{cell.size}"

    def peer(self, name, client, address, cells=CELLS):
        """Each cell by one client; rows of one that is not there say so."""
        if self.options.only not in name:
            return
        missing = next((what for what in (client, address) if isinstance(what, str) and not what[0].isdigit()), None)
        if missing:
            print(f"SKIPPED: {name} is not installed ({missing}); none of its answers were counted", flush=True)
            return
        for cell in cells:
            self.cell(name, client, f"http://{address}{cell.path}", cell)

    def cell(self, name, client, url, cell):
        requests = cell.quick if self.options.quick else cell.full
        expected = f"{cell.status} {self.expected[cell.path, cell.status]}"
        if cell.status == 413 and "chunked" in name:
            # Without a length nothing is too long until somebody reads it.
            expected = f"200 {self.expected['/hello', 200]}"
        began = time.monotonic()
        done = client.run(url, self.file(cell), requests, 60 if self.options.quick else 600, expected)
        took, lost = time.monotonic() - began, done.lost(expected)
        answers = ", ".join(f"{count} x {answer[:70]}" for answer, count in done.answers.most_common(6))
        opened = "" if done.connections is None else done.connections
        print(f"| {name} | {cell} | {requests} | {lost} | {opened} | {took:.1f} | {answers} |", flush=True)
        self.requests, self.lost = self.requests + requests, self.lost + lost
        check(not lost, f"{name}, {cell}: {lost} of {requests} lost")
        most = REUSED.get(name, {}).get(cell.status)
        if most:
            check(done.connections <= most, f"{name}, {cell}: {done.connections} connections, where {most} do")


def reference(gateway, cell):
    """The bytes of the answer, asked for by a client that sends nothing of its body before it has been answered."""
    host, port = gateway.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(post(cell.path, cell.size).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        return len(whole_answer(client, cell.status)[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mayfly")
    parser.add_argument("--guests", required=True, type=pathlib.Path)
    parser.add_argument("--go-client", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="peers whose name has this in it")
    options = parser.parse_args()
    began = time.monotonic()
    node = Node(options.mayfly)
    node.deploy(options.guests / "hello.wasm", "hello")
    node.deploy(options.guests / "hello-command.wasm", "command")
    clients = all_clients(options.go_client)
    with tempfile.TemporaryDirectory(prefix="mayfly-peers-") as directory, Watched(node, "peers", innocent=None, slack_mib=64):
        slow = Slow(node.gateway)
        matrix = Matrix(options, node, pathlib.Path(directory))
        for name, client in clients.items():
            matrix.peer(name, client, node.gateway)
        with Proxies(directory, node.gateway) as proxies:
            for proxy, address in proxies.at.items():
                for client in THROUGH_STREAMING if "streaming" in proxy else THROUGH:
                    matrix.peer(f"{proxy}, by {client}", clients[client], address)
        for name, held, wrong in slow.rows():
            print(f"{name}: held for {held:.1f} s", flush=True)
            if wrong:
                failed(f"{name}: {wrong}")
        for client in clients.values():
            if not isinstance(client, str):
                client.stop()
    check(node.stop(), "the node did not end well")
    print(f"{matrix.requests} requests, {matrix.lost} answers lost, in {time.monotonic() - began:.0f} s")
    finish()


if __name__ == "__main__":
    sys.exit(main())
