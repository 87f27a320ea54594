"""How long a save takes until the new code answers, with `mayfly dev`, for the project of each template.

The projects are those that `make templates` has made; a save writes a new greeting into the source, by rename, and a client
asks until it is answered with it. Prints a row of docs/develop.md's table for each.
"""

import argparse
import http.client
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time

# What a save changes, for each template: the file, and the text in it that an answer has.
SOURCES = {
    "rust": ("src/lib.rs", "Hello from"),
    "rust-command": ("src/main.rs", "Hello from"),
    "rust-model": ("src/lib.rs", "POST {"),
    "c": ("main.c", "Hello from"),
    "go": ("main.go", "Hello from"),
    "zig": ("main.zig", "Hello from"),
    "assemblyscript": ("main.ts", "Hello from"),
    "js": ("main.js", "Hello from"),
    "ts": ("main.ts", "Hello from"),
    "python": ("main.py", "Hello from"),
}
# Until a first build, models' among them, has to have ended.
PATIENCE = 1200


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mayfly", required=True)
    parser.add_argument("--projects", type=pathlib.Path, required=True)
    parser.add_argument("--saves", type=int, default=20)
    parser.add_argument("templates", nargs="*")
    arguments = parser.parse_args()
    projects = arguments.projects.resolve()
    for template in arguments.templates or SOURCES:
        project = projects / template
        if not (project / "function.toml").exists():
            print(f"SKIPPED: {template} is not in {projects}: run make templates", file=sys.stderr)
            continue
        took = measure(arguments.mayfly, project, *SOURCES[template], arguments.saves)
        if took:
            most = statistics.quantiles(took, n=20)[-1] if len(took) > 1 else took[0]
            print(f"| `{template}` | {statistics.median(took):.2f} s | {most:.2f} s |", flush=True)


def measure(mayfly, project, file, text, saves):
    source = project / file
    before = source.read_text()
    command = [mayfly, "dev", str(project), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    log = open(project.parent / f"{project.name}.dev.log", "w+")
    node = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=project)
    try:
        port = int(wait_for(log.name, r"serving on http://127\.0\.0\.1:(\d+)", node).group(1))
        path = "/" + re.search(r'name = "(.*)"', (project / "function.toml").read_text()).group(1)
        if wait_for(log.name, r"(revision \d+   http|the next save builds again)", node).group(1)[0] == "t":
            print(f"SKIPPED: {project.name} is not built: {log.name}", file=sys.stderr)
            return []
        took = []
        for number in range(saves):
            # Whoever types does not save within a second of the last build.
            time.sleep(1.5)
            mark = f"Save{number}x{os.getpid()} "
            new = source.with_name("saved.tmp")
            new.write_text(before.replace(text, mark + text))
            began = time.monotonic()
            new.rename(source)
            ask(port, path, mark, node)
            took.append(time.monotonic() - began)
        return took
    finally:
        source.write_text(before)
        node.send_signal(signal.SIGTERM)
        node.wait()


def wait_for(path, pattern, node):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and node.poll() is None:
        if found := re.search(pattern, pathlib.Path(path).read_text()):
            return found
        time.sleep(0.02)
    sys.exit(f"no '{pattern}' in {path}")


def ask(port, path, mark, node):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and node.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", path)
        if mark.encode() in connection.getresponse().read():
            return
        connection.close()
        time.sleep(0.005)
    sys.exit(f"no answer with {mark}")


main()
