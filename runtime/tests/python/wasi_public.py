"""Programs of others for WASI, each run by `mayfly run` and by wasmtime's own runner: exit code and output must be alike.

    python wasi_public.py --mayfly target/release/mayfly --wasmtime .../wasmtime --go .../go --python .../python.wasm --build DIR

No registry has the WASI project's own modules. What comes with toolchains does as well: the tests of Go's standard
library, built for wasip1 (what needs a directory fails in both alike), and CPython. What is not installed is skipped,
loudly.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys

# Those that lean on the system: clocks, random numbers, streams, environment, scheduling, and one that wants files.
PACKAGES = ["bufio", "context", "crypto/rand", "io", "math/rand", "os/signal", "sync", "sync/atomic", "time", "io/fs"]
LIMITS = ["--limit", "memory=2GiB", "--limit", "wall=300s", "--limit", "cpu=300s"]
SCRIPTS = {
    "arguments": (["-c", "import sys; print(sys.argv[1:], sys.flags.safe_path)", "a", "b c"], b""),
    "stdin": (["-c", "import sys; print(sum(map(int, sys.stdin)))"], b"1\n2\n39\n"),
    "program on stdin": (["-"], b"print(2 ** 100)\n"),
    "environment": (["-c", "import os; print(sorted(os.environ.items()))"], b""),
    "library": (["-c", "import json, hashlib, decimal, re; print(json.dumps({'h': hashlib.sha256(b'x').hexdigest()}))"], b""),
    "files": (["-c", "import os\nfor p in ('/', '.', '/etc/passwd'):\n try: print(os.stat(p).st_mode)\n except OSError as e: print(p, e.errno)"], b""),
    "write a file": (["-c", "open('/x', 'w')"], b""),
    "sleep": (["-c", "import time; t = time.monotonic(); time.sleep(0.05); print(time.monotonic() - t >= 0.049)"], b""),
    "random": (["-c", "import os, random; print(len({os.urandom(16) for _ in range(100)}), 0 <= random.random() < 1)"], b""),
    "exit code": (["-c", "raise SystemExit(42)"], b""),
    "exception": (["-c", "1 / 0"], b""),
    "threads": (["-c", "import threading; threading.Thread(target=print).start()"], b""),
    "socket": (["-c", "import socket; socket.create_connection(('127.0.0.1', 1))"], b""),
}


def run(command, stdin=b""):
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=900)
    stderr = done.stderr.decode(errors="replace")
    # Wasmtime has another exit code, 1, where it is a call to the host that traps.
    code = 134 if "failed to run main module" in stderr else done.returncode
    return code, done.stdout.decode(errors="replace"), stderr


class Compare:
    def __init__(self, options):
        self.options, self.alike, self.differ = options, 0, []

    def compiled(self, module):
        """Wasmtime's code for a module, made once; under its name, which is the program's first argument."""
        code = self.options.build / "wasmtime" / pathlib.Path(module).name
        if not code.is_file():
            code.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([self.options.wasmtime, "compile", "-o", code, module], check=True)
        return str(code)

    def __call__(self, what, module, arguments, stdin=b"", normal=lambda text: text):
        variables = ["--env", "A=b"]
        mine = run([self.options.mayfly, "run", *variables, *LIMITS, module, *arguments], stdin)
        theirs = run([self.options.wasmtime, "run", "--allow-precompiled", *variables, self.compiled(module), *arguments], stdin)
        if (mine[0], normal(mine[1])) == (theirs[0], normal(theirs[1])):
            self.alike += 1
            print(f"{what}: alike, exit code {mine[0]}", flush=True)
            return
        self.differ.append(what)
        print(f"{what}: DIFFERS\n  mayfly   {mine[0]} {mine[1][-600:]!r} {mine[2][-600:]!r}")
        print(f"  wasmtime {theirs[0]} {theirs[1][-600:]!r} {theirs[2][-600:]!r}", flush=True)


def verdicts(text):
    """Which test ended how; times, addresses and the order of what ran at once differ from run to run."""
    return sorted(re.findall(r"--- (?:PASS|FAIL|SKIP): \S+|^(?:PASS|FAIL|ok)\b.*", text, re.M))


def go(options, compare):
    env = os.environ | {"GOOS": "wasip1", "GOARCH": "wasm", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    options.build.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        module = options.build / f"go-{package.replace('/', '-')}.wasm"
        if not module.is_file():
            command = [options.go, "test", "-c", "-vet=off", "-ldflags=-s", "-o", str(module.absolute()), package]
            built = subprocess.run(command, env=env, capture_output=True, text=True, cwd=options.build)
            if built.returncode:
                sys.exit(f"go test -c {package}: {built.stderr[-2000:]}")
        compare(f"Go {package}", str(module), ["-test.v", "-test.short"], normal=verdicts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mayfly", required=True)
    parser.add_argument("--wasmtime", required=True)
    parser.add_argument("--go", default="")
    parser.add_argument("--python", default="")
    parser.add_argument("--build", type=pathlib.Path, required=True)
    options = parser.parse_args()
    compare = Compare(options)
    if options.python:
        for what, (arguments, stdin) in SCRIPTS.items():
            compare(f"CPython: {what}", options.python, arguments, stdin)
    else:
        print("SKIPPED: there is no CPython for WASI; `make toolchain-python` installs it")
    if options.go:
        go(options, compare)
    else:
        print("SKIPPED: there is no Go; `make toolchain-go` installs it")
    print(f"{compare.alike} passed, {len(compare.differ)} failed")
    sys.exit(bool(compare.differ))


if __name__ == "__main__":
    main()
