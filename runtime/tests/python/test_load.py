"""More than a node can do, and changes while it works: goodput under overload, redeploys, races of deploys.

    python3 test_load.py path/to/mayfly [killed,overload,redeploy,race,remove] [seconds of each phase]
"""

import http.client
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

from invariants import Watched, check, finish
from node import Node
from test_storage import MODULE

# Spins for about this long on one core (counted in rounds of a loop at start), so that load is made of work and not of
# the client's own CPU time.
WORK = """(module
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\c8\\00\\00\\00ok")
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_handle") (local $i i32)
    (loop $on (br_if $on (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const %d))))
    (drop (call $start (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 2)))))"""
ROUNDS = 12_000_000
# A generator of its own process; its place is that of `oha` or `wrk2`, which cannot tell a shed answer from a served one.
LOAD = pathlib.Path(__file__).with_name("open_loop.py")


def offer(node, path, rate, seconds):
    """An open loop of requests; gives what the generator counted."""
    command = [sys.executable, LOAD, node.gateway, path, str(rate), str(seconds)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def closed(node, path, clients, seconds):
    """Requests a second that so many clients get, each asking again as soon as it was answered."""
    served, stop = itertools.count(), time.monotonic() + seconds

    def ask():
        while time.monotonic() < stop:
            if node.get(path)[0] == 200:
                next(served)
    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return next(served) / seconds


def overload(mayfly, seconds):
    """Goodput at four times what a node can do, what a shed answer costs, and how soon all is as before."""
    # As many slots as a node has by itself: what a function may hold and still count as modest is a share of them.
    node = Node(mayfly, slots="auto")
    # A function that only computes gains nothing from more instances than a few times the cores; each would wait longer.
    node.deploy(node.wat(WORK % ROUNDS, "work"), "work", "--limit", "concurrency=16")
    with Watched(node, "overload") as _:
        peak = closed(node, "/work", 8, seconds)
        rows = {}
        for times in (0.5, 1, 2, 4):
            rows[times] = offer(node, "/work", peak * times, seconds)
            row = rows[times]
            print(f"overload: {times} x {peak:.0f}/s: served {row['good_rate']:.0f}/s, p99 {row['good_p99_ms']:.0f} ms; shed"
                  f" {row['shed']}, of which at once {row['shed_at_once']} ({row['shed_p50_ms']:.1f} ms, p99 {row['shed_p99_ms']:.1f} ms), others {row['others']}",
                  flush=True)
        began = time.monotonic()
        after = offer(node, "/work", peak * 0.5, 2)
        print(f"overload: afterwards at half load: {after['shed']} shed, p99 {after['good_p99_ms']:.0f} ms", flush=True)
    check(time.monotonic() - began > 0 and after["shed"] == 0, f"not as before after two seconds: {after}")
    share = rows[4]["good_rate"] / peak
    print(f"overload: goodput at 4 x is {100 * share:.0f} % of the peak of {peak:.0f}/s", flush=True)
    check(share >= 0.9, f"goodput at 4 x is {100 * share:.0f} %")
    for times, row in rows.items():
        check(not row["others"], f"{times} x: {row['others']} {row['examples']}")
        check(row["retry_after"] == row["shed"], f"{times} x: {row['shed'] - row['retry_after']} refusals without Retry-After")
    check(rows[4]["shed"] > 0, "nothing was shed")
    # The median: on a busy machine the tail is what the client itself waited for a core.
    check(rows[4]["shed_p50_ms"] <= 5, f"a refusal takes {rows[4]['shed_p50_ms']} ms")
    check(node.stop(), "the node did not end well")


def module(node, text):
    return node.wat(MODULE % (text, len(text)), text.replace(" ", "-")).read_bytes()


def redeploy(mayfly, seconds):
    """Two revisions that take turns every half second, under load: every answer is one of them, whole; after the
    acknowledgement, and 100 ms, none is old."""
    node = Node(mayfly, slots=32)
    texts = ["revision one", "revision two"]
    modules = [module(node, text) for text in texts]
    put = lambda which: node.admin("PUT", "/v1/functions/f", modules[which])[0]
    check(put(0) == 200, "no first deploy")
    # The revision that was acknowledged last, and when; nothing while another one is on its way.
    served, wrong, acked, stop = itertools.count(), [], (0, time.monotonic()), threading.Event()

    def ask():
        while not stop.is_set():
            before, began = acked, time.monotonic()
            status, body = node.get("/f")
            next(served)
            settled = before and before == acked and began > before[1] + 0.1
            if status != 200 or body not in texts or (settled and body != texts[before[0]]):
                wrong.append((status, body, before))
    with Watched(node, "redeploy"):
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        deploys = 0
        for which in itertools.cycle([1, 0]):
            acked = None
            check(put(which) == 200, "a redeploy was refused")
            acked = which, time.monotonic()
            deploys += 1
            time.sleep(0.3)
            if deploys >= 2 * seconds:
                break
        stop.set()
        for thread in threads:
            thread.join()
        print(f"redeploy: {deploys} deploys, {next(served)} requests, {len(wrong)} wrong", flush=True)
    check(not wrong, f"redeploy: {wrong[:3]}")
    check(node.stop(), "the node did not end well")


def race(mayfly, seconds):
    """Eight clients deploy one name at once, also for the first time: each gets an answer, one wins, all are history."""
    node = Node(mayfly, slots=16)
    with Watched(node, "race"):
        for round in range(max(2, seconds // 4)):
            name = f"f{round}"
            answers = []

            def deploy(client):
                text = f"client {client} of round {round}"
                status, body = node.admin("PUT", f"/v1/functions/{name}", module(node, text))
                answers.append((status, text, body))
            threads = [threading.Thread(target=deploy, args=(client,)) for client in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            good = [text for status, text, _ in answers if status == 200]
            check({status for status, _, _ in answers} <= {200, 409, 503}, f"race: {answers}")
            serves = node.get(f"/{name}")
            check(serves[0] == 200 and serves[1] in good, f"race: serves {serves}")
            status, body = node.admin("GET", f"/v1/functions/{name}")
            history = json.loads(body)
            numbers = [entry["number"] for entry in history.get("history", [])]
            check(status == 200 and len(set(numbers)) == len(numbers), f"race: history {history}")
            check(len(good) == 8, f"race: {len(good)} of 8 were deployed")
        print(f"race: {max(2, seconds // 4)} rounds of eight clients, {len(good)} of 8 deployed, the last one serves", flush=True)
    check(node.stop(), "the node did not end well")


def remove(mayfly, seconds):
    """Deployed and removed over and over under load: every answer is the function's or 404, none is half of one."""
    node = Node(mayfly, slots=32)
    wasm = module(node, "there")
    seen, stop = {}, threading.Event()

    def ask():
        while not stop.is_set():
            status, body = node.get("/f")
            key = (status, body if status == 200 else node.problem(body))
            seen[key] = seen.get(key, 0) + 1
    with Watched(node, "remove"):
        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        until, rounds = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            check(node.admin("PUT", "/v1/functions/f", wasm)[0] == 200, "a deploy was refused")
            check(node.get("/f") == (200, "there"), "not there after its acknowledgement")
            check(node.admin("DELETE", "/v1/functions/f")[0] in (200, 204), "a removal was refused")
            check(node.get("/f")[0] == 404, "there after its removal")
            rounds += 1
        stop.set()
        for thread in threads:
            thread.join()
        print(f"remove: {rounds} rounds, answers {seen}", flush=True)
    check(all(status == 404 or (status, text) == (200, "there") for status, text in seen), f"remove: {seen}")
    check(node.stop(), "the node did not end well")


def killed(mayfly, seconds):
    """SIGKILL every second or two behind clients that try again: soon back, nothing compiled anew, no wrong body."""
    state = tempfile.TemporaryDirectory(prefix="mayfly-killed-")
    node = Node(mayfly, state=state.name, slots=16)
    for number in range(20):
        text = f"function {number:03}"
        check(node.admin("PUT", f"/v1/functions/f{number}", module(node, text))[0] == 200, "a deploy was refused")
    where, wrong, good, last, gaps, stop = node.gateway, [], itertools.count(), [time.monotonic()], [], threading.Event()

    def ask():
        for number in itertools.cycle(range(20)):
            if stop.is_set():
                return
            try:
                status, body = node.get(f"/f{number}", timeout=2)
            except (OSError, http.client.HTTPException):
                time.sleep(0.005)
                continue
            if status == 200 and body == f"function {number:03}":
                next(good)
                last.append(time.monotonic())
            elif status not in (503, 404):
                wrong.append((status, body))
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(max(3, seconds)):
        time.sleep(0.7)
        at = time.monotonic()
        node.end()
        began = time.monotonic()
        node = Node(mayfly, state=state.name, slots=16, gateway=where)
        started = time.monotonic() - began
        while last[-1] < began + started and time.monotonic() < began + 10:
            time.sleep(0.001)
        gaps.append((last[-1] - at, started))
        check(node.metrics()["mayfly_compiles_total"] == 0, "something was compiled anew")
    stop.set()
    for thread in threads:
        thread.join()
    gap = max(gap for gap, _ in gaps)
    print(f"killed: {len(gaps)} times, {next(good)} answers, {len(wrong)} wrong; away for {1000 * gap:.0f} ms at most, of which"
          f" {1000 * max(started for _, started in gaps):.0f} ms start", flush=True)
    check(not wrong, f"killed: {wrong[:3]}")
    check(gap <= 1, f"killed: away for {gap:.2f} s")
    check(node.stop(), "the node did not end well")
    state.cleanup()


ROWS = {"killed": killed, "overload": overload, "redeploy": redeploy, "race": race, "remove": remove}


def main():
    seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 10
    for row in sys.argv[2].split(",") if len(sys.argv) > 2 else ROWS:
        ROWS[row](sys.argv[1], seconds)
    finish()


if __name__ == "__main__":
    main()
