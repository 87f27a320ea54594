"""Slow clients by the thousand, with Debian's slowhttptest: slow heads, slow bodies, slow readers, silent sockets.

    python3 test_slow_clients.py path/to/mayfly [connections]

Clocks are as configured here, so that the run is short: header 3 s, body and write idle 4 s. Each client is gone within
its clock; meanwhile memory per connection is bounded, and the admin API answers.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import time

from invariants import State, Watched, check, finish
from node import Node

HEADER_S, IDLE_S = 3, 4
# What a connection may cost while it is open; for a reader, the response that waits for it (256 KiB) besides.
KIB_PER_CONNECTION, KIB_PER_READER = 64, 320
KINDS = {
    "slow heads": ["-H", "-i", "1"],
    "slow bodies": ["-B", "-i", "1", "-s", "8192", "-t", "POST"],
    "stalled bodies": ["-B", "-i", "60", "-s", "8192", "-t", "POST"],
    "slow readers": ["-X", "-n", "5", "-w", "1", "-y", "1", "-z", "1", "-k", "1"],
}


def slow(node, kind, options, connections, path):
    """Runs slowhttptest; gives memory for each connection while they were all open, and how long they lasted."""
    prefix = tempfile.mktemp(prefix="mayfly-slow-")
    before = State(node.pid)
    command = ["slowhttptest", "-c", str(connections), "-r", str(connections), "-l", "20", "-p", "2", "-u",
               f"http://{node.gateway}{path}", "-g", "-o", prefix, *options]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    peak, most, admin = 0.0, 0, 0.0
    while process.poll() is None:
        now, asked = State(node.pid), time.monotonic()
        check(node.admin("GET", "/readyz")[0] == 200, f"{kind}: the admin API does not answer")
        admin = max(admin, time.monotonic() - asked)
        peak, most = max(peak, now.held_mib - before.held_mib), max(most, now.descriptors - before.descriptors)
        if time.monotonic() > began + 40:
            process.terminate()
        time.sleep(0.1)
    took = time.monotonic() - began
    # A quiet machine serves a reader's 1 MiB into the socket's buffers before the others are there: what is open between
    # two looks is less than what there was at once.
    reads = "-X" in options
    each = 1024 * peak / max(connections if reads else most, 1)
    print(f"{kind}: {most} connections seen at once, {each:.0f} KiB each; all gone after {took:.1f} s; admin at most {1000 * admin:.0f} ms",
          flush=True)
    check(most > connections / (3 if reads else 2), f"{kind}: only {most} connections were open: nothing was tested")
    check(each <= (KIB_PER_READER if reads else KIB_PER_CONNECTION), f"{kind}: {each:.0f} KiB for a connection")
    return took


def silent(node, connections):
    """Sockets that say nothing at all."""
    host, port = node.gateway.rsplit(":", 1)
    began = time.monotonic()
    sockets = [socket.create_connection((host, int(port)), timeout=20) for _ in range(connections)]
    opened = time.monotonic()
    for client in sockets:
        # Ended by us: with nothing, or with a 408.
        data = client.recv(1024)
        check(not data or b" 408 " in data, f"silent: {data[:80]}")
        client.close()
    print(f"silent: {connections} ended {time.monotonic() - opened:.1f} s after the last was opened ({opened - began:.1f} s)", flush=True)
    check(time.monotonic() - opened <= HEADER_S + 2, "silent sockets outlive the header timeout")


def main():
    mayfly, connections = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 900
    if not shutil.which("slowhttptest"):
        print("SKIPPED: slowhttptest is not installed (apt-get install slowhttptest); no client was slow")
        return
    node = Node(
        mayfly, f"--gateway-header-timeout={HEADER_S}s", f"--gateway-body-idle-timeout={IDLE_S}s",
        f"--gateway-write-idle-timeout={IDLE_S}s", "--gateway-keep-alive-timeout=5s", slots="auto",
        wrapper=["prlimit", "--nofile=20000"],
    )
    node.deploy_fault("counts-its-body", "counts")
    node.deploy_fault("answers-too-much", "gush", "--limit", "response-body=1MiB")
    for kind, options in KINDS.items():
        if "-X" in options:
            # Once before it counts: slots keep what their guests touched, and the allocator what it was asked for.
            slow(node, "(first time)", options, connections, "/gush")
        with Watched(node, kind, slack_mib=64):
            slow(node, kind, options, connections, "/gush" if "-X" in options else "/counts")
    with Watched(node, "silent"):
        silent(node, connections)
    check(node.stop(), "the node did not end well")
    finish()


if __name__ == "__main__":
    main()
