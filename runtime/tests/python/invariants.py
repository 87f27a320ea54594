"""What must hold in every row of the fault and load table, whatever is done to the node meanwhile.

    with Watched(node, "row") as watched:
        ... the attack ...

The same process, no panic in its log; a bystander at 200 requests a second without an error and with a p99 of at most
three times its base or 50 ms; memory, descriptors, threads, requests and slots back where they were afterwards.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

BYSTANDER = Path(__file__).with_name("bystander.py")
# Of a p99 that may always be: half a tick of a loaded machine of two cores, several times over.
ALWAYS_MS = 50
# Until the node must be as before; wall limits of guests under way are shorter in all rows.
BACK_S = 30
# What memory may keep: the allocator's slack, and pages of slots that are kept resident.
SLACK_MIB = 24


def failed(message):
    print("FAILED", message, flush=True)
    FAILURES.append(message)


FAILURES = []


def check(condition, message):
    if not condition:
        failed(message)
    return condition


def finish():
    """Ends the script, by what was found."""
    sys.exit(bool(FAILURES))


def held_mib(pid):
    """What the kernel cannot take back from a process: without the pages of files, as a model's image has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem"))) / 1024


class State:
    """What a process holds."""

    def __init__(self, pid):
        status = Path(f"/proc/{pid}/status").read_text()
        field = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines()}
        self.held_mib = held_mib(pid)
        self.threads = int(field["Threads"][0])
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))

    def __str__(self):
        return f"{self.held_mib:.0f} MiB, {self.descriptors} descriptors, {self.threads} threads"


class Watched:
    """An attack with a bystander. `innocent` is the path that it asks for; None for rows in which nobody is served."""

    def __init__(self, node, row, innocent="/innocent", fresh=0.05, base_s=3.0, slack_mib=SLACK_MIB, rate=200,
                 back_s=BACK_S):
        self.node, self.row, self.innocent, self.fresh = node, row, innocent, fresh
        self.base_s, self.slack_mib, self.rate, self.back_s = base_s, slack_mib, rate, back_s
        self.spans = []

    def __enter__(self):
        if self.innocent and not self.node.get(self.innocent)[0] == 200:
            self.node.deploy_fault("answers", self.innocent.strip("/"))
        self.before = State(self.node.pid)
        self.logged = len(self.node.output)
        if self.innocent:
            command = [sys.executable, BYSTANDER, self.node.gateway, self.innocent, str(self.rate), str(self.fresh)]
            self.bystander = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            time.sleep(self.base_s)
            self.mark()
        return self

    def mark(self):
        """Begins another span of the bystander's time."""
        self.bystander.stdin.write("\n")
        self.bystander.stdin.flush()

    def __exit__(self, kind, *_):
        if kind:
            if self.innocent:
                self.bystander.kill()
            return
        if self.innocent:
            self.spans = json.loads(self.bystander.communicate(timeout=60)[0])
            self.judge(self.spans[0], self.spans[1])
        self.settle()

    def judge(self, base, under):
        bound = max(3 * base["p99_ms"], ALWAYS_MS)
        print(
            f"{self.row}: bystander {under['requests']} requests, {under['errors']} errors, p50 {under['p50_ms']} ms,"
            f" p99 {under['p99_ms']} ms (base {base['p99_ms']} ms)", flush=True,
        )
        check(under["requests"] and not under["errors"], f"{self.row}: bystander: {under}")
        check(under["p99_ms"] <= bound, f"{self.row}: bystander's p99 {under['p99_ms']} ms is over {bound} ms")

    def settle(self):
        """Waits until the node is as before, and says what is not."""
        node, deadline = self.node, time.monotonic() + self.back_s
        if not check(node.process.poll() is None, f"{self.row}: the node ended: {''.join(node.output[-20:])}"):
            return
        while True:
            metrics, now = node.metrics(), State(node.pid)
            # The metrics themselves are asked for over one connection.
            off = [name for name, bad in {
                "requests under way": metrics["http_server_active_requests"] > 0,
                "slots in use": metrics["mayfly_slots_in_use"] > 0,
                "memory": now.held_mib > self.before.held_mib * 1.1 + self.slack_mib,
                "descriptors": now.descriptors > self.before.descriptors + 5,
                "threads": now.threads > self.before.threads + THREADS,
            }.items() if bad]
            if not off or time.monotonic() > deadline:
                break
            time.sleep(0.25)
        print(f"{self.row}: before {self.before}; after {now}", flush=True)
        check(not off, f"{self.row}: not back where it was: {', '.join(off)}")
        panics = [line for line in node.output[self.logged:] if "panicked" in line]
        check(not panics, f"{self.row}: {panics[:3]}")


# Threads that the runtime of the admin API keeps for a while once it has used them.
THREADS = 8
