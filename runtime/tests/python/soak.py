"""Mixed load for as long as it is given: many small requests at once, sleepers, traps, and a redeploy every ten seconds.

    python3 soak.py path/to/mayfly [minutes]

Flat is: memory grows by at most 1 MiB for 100,000 requests over the second half, descriptors and threads by nothing,
and the bystander's p99 of the last third is that of the first, within a tenth or the noise of a busy machine (50 ms).
Needs Debian's wrk.
"""

import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from invariants import State, check, finish
from node import Node
from test_load import module

# One request in a hundred traps, three in a hundred sleep; a pause between requests leaves the machine to others too.
SCRIPT = """
local n = 0
request = function()
  n = n + 1
  if n % 100 == 0 then return wrk.format("GET", "/traps") end
  if n % 33 == 0 then return wrk.format("GET", "/naps") end
  return wrk.format("GET", n % 2 == 0 and "/answers" or "/f")
end
delay = function() return 2 end
"""
MIB_PER_100K = 1.0


def slope(points):
    """By least squares, y per x."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    over = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / over if over else 0.0


def served(node):
    """Invocations that have ended, of all functions, and those of them that failed."""
    metrics = node.metrics()
    total = lambda name: sum(n for series, n in metrics.items() if series.startswith(name))
    return total("faas_invocations_total"), total("faas_errors_total")


def redeploys(node, stop, count):
    modules = [module(node, text) for text in ("revision one", "revision two")]
    for which in itertools.cycle([0, 1]):
        check(node.admin("PUT", "/v1/functions/f", modules[which])[0] == 200, "a redeploy was refused")
        next(count)
        if stop.wait(10):
            return


def main():
    mayfly, minutes = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 30.0
    if not shutil.which("wrk"):
        print("SKIPPED: wrk is not installed (apt-get install wrk); nothing was soaked")
        return
    node = Node(mayfly, slots=64)
    for fault in ("answers", "naps", "traps"):
        node.deploy_fault(fault)
    node.admin("PUT", "/v1/functions/f", module(node, "revision one"))
    stop, deploys = threading.Event(), itertools.count()
    deployer = threading.Thread(target=redeploys, args=(node, stop, deploys))
    deployer.start()
    script = pathlib.Path(tempfile.mkstemp(suffix=".lua")[1])
    script.write_text(SCRIPT)
    command = [sys.executable, pathlib.Path(__file__).with_name("bystander.py"), node.gateway, "/answers", "50"]
    bystander = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    load = subprocess.Popen(["wrk", "-t1", "-c16", f"-d{minutes * 60:.0f}s", "-s", script, f"http://{node.gateway}"],
                            stdout=subprocess.PIPE, text=True)
    began, points, first = time.monotonic(), [], None
    while load.poll() is None:
        time.sleep(5)
        now, (total, _) = State(node.pid), served(node)
        first = first or now
        points.append((total, now.held_mib, now.descriptors, now.threads))
        # Spans for the bystander's thirds.
        if len(points) % max(1, int(minutes * 4)) == 0:
            bystander.stdin.write("\n")
            bystander.stdin.flush()
    stop.set()
    deployer.join()
    spans = [span for span in json.loads(bystander.communicate(timeout=60)[0]) if span["requests"] > 50]
    total, traps = served(node)
    half = points[len(points) // 2:]
    grows = 1e5 * slope([(n, rss) for n, rss, *_ in half])
    print(load.communicate()[0].strip().splitlines()[-2:])
    print(f"soak: {(time.monotonic() - began) / 60:.1f} minutes, {total:.0f} invocations, {traps:.0f} traps, {next(deploys)} deploys;"
          f" memory {points[0][1]:.0f} to {points[-1][1]:.0f} MiB, {grows:+.2f} MiB for 100,000 requests;"
          f" descriptors {points[0][2]} to {points[-1][2]}, threads {points[0][3]} to {points[-1][3]};"
          f" bystander p99 {spans[0]['p99_ms']} then {spans[-1]['p99_ms']} ms, {sum(s['errors'] for s in spans)} errors", flush=True)
    check(traps > 0, "nothing trapped: nothing was tested")
    # A shorter run sees the first touches of slots and arenas, not a slope.
    check(minutes < 2 or grows <= MIB_PER_100K, f"memory grows by {grows:.2f} MiB for 100,000 requests")
    check(points[-1][2] <= points[0][2] + 5, "descriptors grow")
    check(points[-1][3] <= points[0][3] + 8, "threads grow")
    check(not sum(span["errors"] for span in spans), f"bystander: {spans}")
    check(spans[-1]["p99_ms"] <= max(1.1 * spans[0]["p99_ms"], 50), f"the bystander's p99 drifts: {spans}")
    check(not [line for line in node.output if "panicked" in line], "a panic")
    check(node.stop(), "the node did not end well")
    script.unlink()
    finish()


if __name__ == "__main__":
    main()
