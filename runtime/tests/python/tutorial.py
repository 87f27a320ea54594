"""Runs the commands of docs/tutorial.md one after the other in one shell, and compares what they print.

What differs from run to run (numbers, dates, digests) counts as alike; a line `...` stands for any lines.
"""

import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
END = "==end-of-command=="
SECONDS = 600


def steps(page):
    """Each command with the lines that stand below it."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", page, re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def plain(line):
    """A line with what differs from run to run replaced."""
    line = re.sub(r"\b[0-9a-f]{12,}\b|\b0f0f\b", "DIGEST", line)
    line = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "DATE", line)
    line = re.sub(r"\b\d+(\.\d+)? (us|ms|s|B|KiB|MiB)\b", "SOME", line)
    return re.sub(r"\s+", " ", line).strip()


def alike(wanted, got):
    """Whether lines are as they should be."""
    if not wanted:
        return not got
    if wanted[0] == "...":
        return any(alike(wanted[1:], got[at:]) for at in range(len(got) + 1))
    return bool(got) and plain(wanted[0]) == plain(got[0]) and alike(wanted[1:], got[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--debug", action="store_true", help="with the binary that the tests have made")
    parser.add_argument("--target", default=str(ROOT / "target"), help="where it is")
    options = parser.parse_args()
    commands = steps((ROOT / "docs" / "tutorial.md").read_text())
    assert len(commands) > 15, "the tutorial has hardly any commands"
    home = tempfile.mkdtemp(prefix="tutorial-")
    before = pathlib.Path.home()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "CARGO_HOME": os.environ.get("CARGO_HOME", str(before / ".cargo")),
        "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(before / ".rustup")),
        "RUSTUP_AUTO_INSTALL": "0",
    }
    shell = subprocess.Popen(
        ["bash", "--norc"], cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    signal.alarm(SECONDS)
    failed = 0
    try:
        for command, wanted in commands:
            if options.debug:
                if command.startswith("cargo build"):
                    continue
                command = command.replace("$PWD/target/release", f"{options.target}/debug")
            shell.stdin.write(f"{command}\necho {END} $?\n")
            shell.stdin.flush()
            got, code = [], None
            for line in shell.stdout:
                if line.startswith(END):
                    code = int(line.split()[1])
                    break
                got.append(line.rstrip("\n"))
            # A blank line between a command and the next is for the reader.
            if code != 0 or not alike(wanted, got):
                failed += 1
                print(f"$ {command}\nended with {code} and printed:\n  " + "\n  ".join(got))
                print("where the tutorial has:\n  " + "\n  ".join(wanted))
                if code != 0:
                    break
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
    print(f"{len(commands)} commands, {failed} not as the tutorial says")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
