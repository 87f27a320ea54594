"""One tenant does its worst while another is served: each kind of harm alone, and in pairs.

    python3 test_tenants.py path/to/mayfly [row,row,...] [seconds of each row]

In every row a bystander is asked 200 times a second without an error and with a p99 of at most three times its base or
50 ms; memory (RssAnon and RssShmem, looked at every 10 ms) stays below 1.05 times the budget; and within 2 s of the last
attacker (10 s where connections by the thousand end) all is as before, in the same process.
"""

import resource
import sys
import threading
import time

import tenants as t
from invariants import Watched, check, finish, held_mib
from node import Node

BUDGET_MIB = 2048
DESCRIPTORS = 65_536
# Pages that an idle slot keeps ready for a function whose requests write them; all slots together keep at most a quarter
# of the budget, and give it back when memory is short.
READY_MIB = 16
# What a limit may be passed by: a tenth, and 50 ms.
LATE = lambda limit_s: limit_s * 1.1 + 0.05


class Memory(threading.Thread):
    """The highest and the lowest that a process held."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.ended, self.base = pid, threading.Event(), held_mib(pid)
        self.peak = self.base

    def run(self):
        while not self.ended.wait(0.01):
            self.peak = max(self.peak, held_mib(self.pid))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


class Row:
    """A node with a hostile function or two, a bystander, and what was seen."""

    def __init__(self, name, mayfly, *options, slots="auto", budget=BUDGET_MIB, back_s=2):
        self.name, self.budget, self.back_s = name, budget, back_s
        self.node = Node(mayfly, f"--engine-memory-budget={budget}MiB", *options, slots=slots)

    def deploy(self, text, name, *limits, wasm=None):
        options = [part for limit in limits for part in ("--limit", limit)]
        path = self.node.wat(text, name)
        if wasm:
            path.write_bytes(wasm(path.read_bytes()))
        return self.node.deploy(path, name, *options)

    def attack(self, *attacks, seconds):
        """Runs attacks beside the bystander for a while; gives the memory that was seen."""
        ready = min(READY_MIB * sum(a.instances for a in attacks if isinstance(a, t.Attackers)), self.budget // 4)
        with Watched(self.node, self.name, back_s=self.back_s, slack_mib=24 + ready), Memory(self.node.pid) as memory:
            entered = []
            try:
                for attack in attacks:
                    entered.append(attack)
                    attack.__enter__()
                time.sleep(seconds)
            finally:
                for attack in reversed(entered):
                    attack.__exit__(None, None, None)
        print(f"{self.name}: memory {memory.base:.0f} -> {memory.peak:.0f} MiB of {self.budget}; "
              + "; ".join(f"{a}" for a in attacks if isinstance(a, t.Attackers)), flush=True)
        check(memory.peak <= 1.05 * self.budget, f"{self.name}: {memory.peak:.0f} MiB of a budget of {self.budget}")
        return memory

    def ends_at(self, loops, limit_s, statuses=(504,)):
        """Every answer came at its limit, with its outcome."""
        check(loops.answers, f"{self.name}: no answer")
        wrong = [answer for answer in loops.answers if answer[0] not in statuses or answer[1] > LATE(limit_s)]
        check(not wrong, f"{self.name}: {len(wrong)} of {len(loops.answers)} were not ended at {limit_s} s: {wrong[:4]}")

    def end(self):
        check(self.node.stop(), f"{self.name}: the node did not end well")


def limited(name, text, mayfly, seconds, clients=2, wall=1, **more):
    """A guest that is ended by its limit, or done before it, beside a bystander."""
    row = Row(name, mayfly)
    row.deploy(text, "worst", f"wall={wall}s", f"cpu={wall}s", "memory=2100MiB", "response-body=1GiB", **more)
    loops = t.Loops(row.node, "/worst", clients)
    row.attack(loops, seconds=seconds)
    # Done, or at its limit; those that want more memory than there is may be told so.
    row.ends_at(loops, wall, statuses=(504, 200, 204, 503))
    row.end()


def starts(mayfly, seconds):
    """Start functions and inits of thousands of kernel calls: they end, and other deploys and removals do not wait."""
    for place in ("start", "init"):
        row = Row(place, mayfly)
        path = row.node.wat(t.kernels(20_000, place), place)
        took = {}

        def hostile():
            began = time.monotonic()
            done = row.node.run("deploy", path, "--name", f"bad-{place}", "--limit", "init=2s", "--limit", "memory=256MiB")
            took["hostile"] = time.monotonic() - began, done.returncode, (done.stderr or done.stdout).strip().splitlines()[:1]

        with Watched(row.node, place):
            row.node.deploy_fault("answers", "goes")
            thread = threading.Thread(target=hostile)
            thread.start()
            time.sleep(1.0)
            slowest = 0
            while thread.is_alive():
                for what in (lambda: row.node.deploy_fault("answers", "comes"), lambda: row.node.run("remove", "comes")):
                    began = time.monotonic()
                    what()
                    slowest = max(slowest, time.monotonic() - began)
            thread.join()
        print(f"{place}: the hostile deploy took {took['hostile']}; the slowest deploy or removal beside it {slowest:.2f} s", flush=True)
        check(slowest <= 3, f"{place}: a deploy or removal took {slowest:.2f} s beside it")
        row.end()


def fills(mayfly, seconds):
    for mib in (128, 1024, 2000):
        limited(f"fill of {mib} MiB", t.fills(mib), mayfly, seconds, clients=4)


def hogs(mayfly, seconds):
    """Guests that wait and then take all their memory: the budget holds, modest functions are served."""
    for name, count, text in [("48 hogs", 48, t.hog()), ("200 hogs", 200, t.hog()), ("growing hogs", 100, t.hog(step_pages=16)),
                              ("small hogs", 400, t.hog(mib=6))]:
        row = Row(name, mayfly)
        row.deploy(text, "hog", "wall=20s", "memory=128MiB")
        row.attack(t.Loops(row.node, "/hog", count), seconds=max(seconds, 12))
        row.end()


def small_budget(mayfly, seconds):
    row = Row("hogs of a small budget", mayfly, budget=512)
    row.deploy(t.hog(), "hog", "wall=20s")
    row.deploy(t.hog(step_pages=4), "hog-two", "wall=20s")
    row.attack(t.Loops(row.node, "/hog", 40), t.Loops(row.node, "/hog-two", 40), seconds=max(seconds, 12))
    row.end()


def images(mayfly, seconds):
    row = Row("image of 450 MiB", mayfly)
    row.deploy(t.image(), "image", "memory=600MiB", "init=60s")
    row.attack(t.Loops(row.node, "/image", 2), seconds=seconds)
    row.end()


def streams(mayfly, seconds):
    """HTTP/2 connections of a hundred streams without a body, by the thousand."""
    for connections, most in ((2_500, 160), (10_000, 640)):
        for name, path, headers in (("to a model", "/v2/models/model/infer", 0), ("to a function", "/worst", 0),
                                    ("of 1,800 headers", "/worst", 1_800)):
            if connections > 2_500 and headers:
                continue
            row = Row(f"{connections} x 100 streams {name}", mayfly, "--gateway-connections=12000", back_s=10)
            row.deploy(t.model(), "model")
            row.deploy(t.guest(t.nap(5_000), imports=t.POLL), "worst")
            opened = t.Streams(row.node, connections, path, headers=headers)
            memory = row.attack(opened, seconds=seconds)
            grown = memory.peak - memory.base
            print(f"{row.name}: {grown:.0f} MiB more for {len(opened.open)} connections", flush=True)
            check(grown <= most, f"{row.name}: {grown:.0f} MiB more than before, {most} are allowed")
            row.end()


def slow_inference(mayfly, seconds):
    """Readers and senders that hold what inference may hold, beside another tenant's model."""
    row = Row("slow inference", mayfly, back_s=10)
    for name in ("model", "other"):
        row.deploy(t.model(), name, "request-body=64MiB", "response-body=64MiB")
    other = t.Infer(row.node, 1, "/v2/models/other/infer", floats=1_000)
    row.attack(other, t.Infer(row.node, 6, "/v2/models/model/infer", floats=3_000_000, read_s=0.5),
               t.Infer(row.node, 30, "/v2/models/model/infer", floats=3_000_000, send_s=0.5), seconds=max(seconds, 15))
    served = sum(status == 200 for status, _ in other.answers)
    print(f"slow inference: another tenant's model served {served} of {len(other.answers)}", flush=True)
    check(served >= 10 and served >= len(other.answers) - 1, f"{row.name}: served {served} of {len(other.answers)}")
    row.end()


def json_flood(mayfly, seconds):
    row = Row("JSON of inference", mayfly, back_s=10)
    row.deploy(t.model(), "model", "request-body=64MiB", "response-body=64MiB")
    row.attack(t.Infer(row.node, 12, "/v2/models/model/infer", floats=1_000_000), seconds=seconds)
    row.end()


def logs(mayfly, seconds):
    """A flood of log lines beside a function that says two hundred lines."""
    row = Row("log flood", mayfly)
    row.deploy(t.log_flood(), "flood")
    row.deploy(t.log_flood(lines=1), "talks")

    class Some:
        """Two hundred requests, each of which logs a line."""

        def __enter__(self):
            self.thread = threading.Thread(target=lambda: [row.node.get("/talks") for _ in range(200)])
            self.thread.start()

        def __exit__(self, *_):
            self.thread.join()
    row.attack(t.Loops(row.node, "/flood", 4), Some(), seconds=seconds)
    kept = sum("yyy" in line for line in row.node.run("logs", "talks", "-n", 1000).stdout.splitlines())
    print(f"log flood: {kept} of 200 lines of the other function are kept", flush=True)
    check(kept == 200, f"log flood: {kept} of 200 lines of the other function are kept")
    row.end()


def pairs(mayfly, seconds):
    """Kinds together: time and memory, memory and streams, images and logs."""
    row = Row("loops, hogs and fills", mayfly)
    row.deploy(t.kernels(10_000), "line", "wall=1s", "cpu=1s", "memory=256MiB")
    row.deploy(t.hog(), "hog", "wall=20s")
    row.deploy(t.fills(1024), "fills", "wall=1s", "memory=1100MiB")
    row.attack(t.Loops(row.node, "/line", 2), t.Loops(row.node, "/hog", 60), t.Loops(row.node, "/fills", 2), seconds=max(seconds, 12))
    row.end()
    row = Row("hogs, streams and logs", mayfly, back_s=10)
    row.deploy(t.hog(), "hog", "wall=20s")
    row.deploy(t.log_flood(), "flood")
    row.deploy(t.model(), "model")
    row.attack(t.Loops(row.node, "/hog", 60), t.Streams(row.node, 500, "/v2/models/model/infer"), t.Loops(row.node, "/flood", 2),
               seconds=max(seconds, 12))
    row.end()


def row_of(name, make, **more):
    return lambda mayfly, seconds: limited(name, make(), mayfly, seconds, **more)


ROWS = {
    "kernels": row_of("kernels in a line", lambda: t.kernels(10_000)),
    "writes": row_of("writes in a line", lambda: t.writes(300)),
    "stores": row_of("stores in a line", t.stores),
    "unwinding": row_of("work on the way back", t.unwinding),
    "jumping": row_of("jumps over the checks", t.jumping),
    "starts": starts,
    "fills": fills,
    "copies": row_of("copies", lambda: t.copies(1000), clients=4),
    "inits": row_of("memory.init", t.inits, clients=4),
    "tables": row_of("tables", t.tables, clients=4),
    "assets": row_of("assets", t.asset_reads, clients=4, wasm=lambda wasm: t.with_asset(wasm, "big", 60 << 20)),
    "nobody": row_of("a body that nobody takes", t.writes_to_nobody, clients=4),
    "images": images,
    "hogs": hogs,
    "small-budget": small_budget,
    "streams": streams,
    "slow-inference": slow_inference,
    "json": json_flood,
    "logs": logs,
    "pairs": pairs,
}


def main():
    # Two descriptors a connection at the node; root may have more than it was given.
    for most in (DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            break
        except ValueError:
            print(f"no {most} descriptors: the rows of 10,000 connections open fewer", flush=True)
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 6
    for row in sys.argv[2].split(",") if len(sys.argv) > 2 else ROWS:
        ROWS[row](sys.argv[1], seconds)
    finish()


if __name__ == "__main__":
    main()
