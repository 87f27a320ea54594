"""A node that is short of something: descriptors, memory, address space, or a clock that can be trusted.

    python3 test_pressure.py path/to/mayfly [descriptors,memory,clock,address-space]

The clock needs Debian's faketime; without it that row is skipped and says so.
"""

import pathlib
import socket
import sys
import tempfile
import threading
import time

from invariants import Watched, check, finish
from node import Node

# Small beside the three per cent between the two levels, because memory is looked at ten times a second.
HELD_MIB, HELD_S = 4, 5
# Takes HELD_MIB of memory, touches all of it, and sleeps.
HOLDS = f"""(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "\\c8\\00\\00\\00")
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_handle")
    (drop (memory.grow (i32.const {HELD_MIB * 16})))
    (memory.fill (i32.const 65536) (i32.const 1) (i32.const {HELD_MIB << 20}))
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const {HELD_S}000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
    (drop (call $start (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0)))))"""


def connect(node):
    host, port = node.gateway.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10)


def descriptors(mayfly):
    """More clients than descriptors, each with a body: some are served, the others closed at once, and the admin API
    answers and deploys all the while. More functions than descriptors: the node starts and serves those that fit."""
    for allowed in [256, 700]:
        crowded(mayfly, allowed)
    with tempfile.TemporaryDirectory(prefix="mayfly-test-") as state:
        node = Node(mayfly, slots=16, state=state)
        for i in range(38):
            node.deploy_fault("answers", f"f{i}")
        check(node.stop(), "the node did not end well")
        node = Node(mayfly, slots=16, state=state, wrapper=["prlimit", "--nofile=64"])
        statuses = [node.get(f"/f{i}")[0] for i in range(38)]
        served = statuses.count(200)
        print(f"descriptors: of 38 functions at 64 {served} are served, {statuses.count(503)} are refused", flush=True)
        check(served > 0 and set(statuses) <= {200, 503}, f"statuses: {sorted(set(statuses))}")
        check(node.run("list").returncode == 0, "the admin API does not answer")
        rejects = node.metrics()["mayfly_artifact_rejects_total"]
        check(rejects == 0, f"{rejects} artifacts were taken for damaged")
        check(node.stop(), "the node did not end well")
        # And with enough of them all are back, without a compilation.
        node = Node(mayfly, slots=16, state=state)
        check([node.get(f"/f{i}")[0] for i in range(38)] == [200] * 38, "not all are back")
        check(node.metrics()["mayfly_compiles_total"] == 0, "something was compiled")
        check(node.stop(), "the node did not end well")


def crowded(mayfly, allowed):
    node = Node(mayfly, slots=64, wrapper=["prlimit", f"--nofile={allowed}"])
    node.deploy_fault("counts-its-body", "counts")
    with Watched(node, f"descriptors {allowed}", fresh=0.0):
        crowd = [connect(node) for _ in range(3 * allowed)]
        # Half of them wait for a slot, are refused or run; the others have not said yet what they want.
        head = b"POST /counts HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx"
        for i, client in enumerate(crowd):
            try:
                client.sendall(head if i % 2 else head[:30])
            except OSError:
                pass
        time.sleep(3)
        fds = len(list(pathlib.Path(f"/proc/{node.pid}/fd").iterdir()))
        status = node.run("list").returncode
        deployed = node.deploy_fault("answers", "meanwhile")
        began = cpu(node.pid)
        time.sleep(1)
        burnt = cpu(node.pid) - began
        for client in crowd:
            client.close()
        at = time.monotonic()
        while node_get(node, "/innocent") != 200 and time.monotonic() < at + 10:
            time.sleep(0.01)
        back = time.monotonic() - at
        print(f"descriptors: {fds} of {allowed} in use under {len(crowd)} clients, `mayfly list` exits with {status},"
              f" {burnt:.2f} s of CPU in a second, back after {back:.3f} s", flush=True)
        check(allowed // 3 <= fds < allowed, f"{fds} descriptors are in use: nothing was tested, or all are gone")
        check(status == 0 and deployed, "the admin API does not answer or deploy")
        check(back < 1, "new clients wait for over a second")
        check(burnt < 0.5, f"the accept loop spins: {burnt} s of CPU in a second")
        said = [line for line in node.output if "cannot be accepted" in line]
        check(len(said) <= 2, f"{len(said)} lines say that connections cannot be accepted")
    check(node.stop(), "the node did not end well")


def node_get(node, path):
    """A status, or nothing from a node that closes the connection."""
    try:
        return node.get(path)[0]
    except OSError:
        return None


def cpu(pid):
    """Seconds of CPU that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def memory(mayfly):
    """Guests that want more than there is: the function that takes it is refused, others are not, nothing is killed."""
    budget = 512
    node = Node(mayfly, f"--engine-memory-budget={budget}MiB", slots=128)
    node.deploy(node.wat(HOLDS, "holds"), "holds")
    peak, answers, stop = [0], [], threading.Event()

    def look():
        while not stop.is_set():
            status = pathlib.Path(f"/proc/{node.pid}/status").read_text()
            kib = sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem")))
            peak[0] = max(peak[0], kib / 1024)
            time.sleep(0.02)

    def ask():
        try:
            answers.append((node.get("/holds"), time.monotonic()))
        except OSError as error:
            answers.append(((0, str(error)), time.monotonic()))
    with Watched(node, "memory"):
        threads = [threading.Thread(target=look)]
        threads[0].start()
        for _ in range(500):
            threads.append(threading.Thread(target=ask))
            threads[-1].start()
            time.sleep(0.03)
        for thread in threads[1:]:
            thread.join()
        stop.set()
        threads[0].join()
        statuses = [status for (status, _), _ in answers]
        refused = [body for (status, body), _ in answers if status == 503]
        at = time.monotonic()
        while node.get("/holds")[0] != 200 and time.monotonic() < at + 10:
            time.sleep(0.02)
        print(f"memory: budget {budget} MiB, peak {peak[0]:.0f} MiB; of {len(statuses)} requests {statuses.count(200)} were"
              f" served, {len(refused)} refused with 503; served again {time.monotonic() - at - HELD_S:.2f} s later", flush=True)
        check(set(statuses) <= {200, 503}, f"statuses: {sorted(set(statuses))}")
        check(refused and all("outcome:" in body for body in refused), f"refusals: {refused[:2]}")
        check(peak[0] <= budget, f"{peak[0]:.0f} MiB of {budget} were used")
        check(peak[0] > 0.9 * budget, f"only {peak[0]:.0f} MiB were used: nothing was tested")
        check(time.monotonic() - at < HELD_S + 1, "not served again within a second")
    check(node.stop(), "the node did not end well")


def clock(mayfly):
    """Wall clocks that jump by days, back and forth, and before 1970: no timeout is early or late, and nothing ends."""
    library = next(iter(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
    if library is None:
        print("SKIPPED: faketime is not installed (apt-get install faketime); no clock jumped")
        return
    with Jumps() as jumps:
        env = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(jumps.file), "FAKETIME_NO_CACHE": "1",
               "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        node = Node(mayfly, env=env)
        node.deploy_fault("sleeps", "sleeps", "--limit", "wall=2s")
        node.deploy_fault("loops", "loops", "--limit", "wall=2s")
        node.deploy_fault("naps", "naps")
        off = []
        with Watched(node, "clock"):
            def timed(path, status, least, most):
                began = time.monotonic()
                got = node.get(path)
                took = time.monotonic() - began
                if got[0] != status or not least <= took <= most:
                    off.append(f"{path}: {got[0]} after {took:.2f} s")
            for round in range(6):
                asks = [threading.Thread(target=timed, args=ask) for ask in [
                    ("/sleeps", 504, 1.9, 2.6), ("/loops", 504, 1.9, 2.6), ("/naps", 200, 0, 1.5),
                ]]
                for thread in asks:
                    thread.start()
                for thread in asks:
                    thread.join()
                check(node.deploy_fault("answers", "again"), "no deploy while the clock jumps")
        print(f"clock: {jumps.count} jumps, 18 timeouts watched, {len(off)} early or late", flush=True)
        check(not off, f"clock: {off}")
        check(node.stop(), "the node did not end well")


class Jumps(threading.Thread):
    """A file of faketime whose time is somewhere else every 20 ms."""

    OFFSETS = ["+0", "+1d", "-1d", "+1s", "-1s", "+3650d", "@1960-01-01 00:00:00", "@2038-01-19 03:14:07"]

    def __init__(self):
        super().__init__(daemon=True)
        self.file = pathlib.Path(f"/tmp/mayfly-faketime-{time.time_ns()}")
        self.ended, self.count = threading.Event(), 0
        self.set("+0")

    def set(self, offset):
        aside = self.file.with_suffix(".new")
        aside.write_text(offset + "\n")
        aside.rename(self.file)

    def run(self):
        while not self.ended.wait(0.02):
            self.set(self.OFFSETS[self.count % len(self.OFFSETS)])
            self.count += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()
        self.file.unlink()


def address_space(mayfly):
    """Less address space than the pool needs: fewer slots, or an end that says what is missing; never a crash later."""
    for gib in (2, 8, 64, 1024):
        try:
            node = Node(mayfly, slots="auto", wrapper=["prlimit", f"--as={gib << 30}"])
            slots = int(node.metrics()["mayfly_slots"])
            node.deploy_fault("answers", "answers")
            check(node.get("/answers")[0] == 200, f"{gib} GiB: no answer")
            print(f"address space: {gib} GiB give {slots} slots", flush=True)
            check(node.stop(), "the node did not end well")
        except RuntimeError as refused:
            last = str(refused).strip().splitlines()[-1]
            print(f"address space: {gib} GiB: {last}", flush=True)
            check("address space" in str(refused) or "memory" in str(refused), f"{gib} GiB: not in words: {refused}")
            check("panicked" not in str(refused), f"{gib} GiB: {refused}")


ROWS = {"descriptors": descriptors, "memory": memory, "clock": clock, "address-space": address_space}


def main():
    for row in sys.argv[2].split(",") if len(sys.argv) > 2 else ROWS:
        ROWS[row](sys.argv[1])
    finish()


if __name__ == "__main__":
    main()
