"""A state directory that fails: each system call of a deploy in turn, a disk that fills and empties, a read-only one.

    python3 test_storage.py path/to/mayfly [most injections for one call and error]

Needs root, Debian's strace, and `wasmtime` of PyPI for its text format. strace counts calls for each thread apart, so
one injection may strike in several threads; a call and error is done when a whole deploy passed without one, or after
so many (the store looks at each of its files, which become more).
"""

import itertools
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

from invariants import Watched, check, failed, finish
from node import Node

# Every file and process call that a deploy makes in the serving process or its children, with errors that it may meet.
# Not `write`: threads wake each other by it, which no kernel fails. A disk that fills below is how it fails, and the
# fault points of `runtime/store/src/artifact/fault.rs`, which lie before and behind each one.
CALLS = {
    "openat": ["EIO", "ENOSPC", "EMFILE", "EROFS"], "pwrite64": ["EIO", "ENOSPC"],
    "fsync": ["EIO", "ENOSPC"], "fdatasync": ["EIO", "ENOSPC"], "ftruncate": ["EIO", "ENOSPC"],
    "rename": ["EIO", "ENOSPC", "EROFS"], "renameat": ["EIO", "ENOSPC", "EROFS"], "renameat2": ["EIO"], "linkat": ["EIO"],
    "unlink": ["EIO", "EROFS"], "unlinkat": ["EIO", "EROFS"],
    "fchmod": ["EIO", "EROFS"], "chmod": ["EIO"], "utimensat": ["EIO", "EROFS"], "statfs": ["EIO"], "fstatfs": ["EIO"],
    "statx": ["EIO"], "lseek": ["EIO"], "read": ["EIO"], "pread64": ["EIO"], "getdents64": ["EIO"],
    "memfd_create": ["EMFILE"], "pipe2": ["EMFILE"], "pidfd_open": ["EMFILE"], "clone3": ["EAGAIN"], "vfork": ["EAGAIN"],
    "execve": ["EIO"], "wait4": ["EIO"], "poll": ["ENOMEM"], "flock": ["EIO"], "fcntl": ["EIO"], "dup3": ["EIO"],
}
# A deploy that fails is a fault of the node, a full disk, a busy one, or of a child that reads as the module's.
REFUSALS = {422, 500, 503, 507}
# With an init, so that both children run.
MODULE = r"""(module
  (import "mayfly_http_v1" "response_start" (func $start (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "\c8\00\00\00")
  (data (i32.const 0) "%s")
  (func (export "mayfly_abi_1"))
  (func (export "mayfly_init") (i32.store8 (i32.const 4096) (i32.const 33)))
  (func (export "mayfly_handle")
    (drop (call $start (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const %d)))))"""


def module(node, text):
    return node.wat(MODULE % (text, len(text)), "module").read_bytes()


class Strace:
    """Attached to a running node and all that it starts, while one call fails for the N-th time in each thread."""

    def __init__(self, node, call, error, number):
        self.log = pathlib.Path(node.scratch.name) / "strace"
        self.process = subprocess.Popen(
            # A file for each thread: in a common one, calls that take turns are cut in two.
            ["strace", "-ff", "-y", "-q", "-p", str(node.pid), "-o", self.log, "-e", f"trace={call}",
             "-e", "signal=none", "-e", f"inject={call}:error={error}:when={number}"],
            stderr=subprocess.PIPE, text=True,
        )
        deadline = time.monotonic() + 10
        tasks = pathlib.Path(f"/proc/{node.pid}/task")
        while any("TracerPid:\t0\n" in (task / "status").read_text() for task in tasks.iterdir()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"strace: {self.process.stderr.read()}")
            time.sleep(0.005)

    def end(self):
        """Detaches; gives the calls of each thread."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            # A child that its own seccomp filter has stopped in a traced call: a dead tracer lets go of it.
            self.process.kill()
            self.process.wait()
        calls = {}
        for path in self.log.parent.glob("strace.*"):
            calls[path.suffix[1:]] = path.read_text(errors="replace").splitlines()
            path.unlink()
        return calls


def is_storage(line):
    """Whether an injected call was part of a deploy: not a client's socket, nor one of the looks at /proc that a thread
    takes at memory ten times a second."""
    return not re.search(r"\(\d+<(anon_inode|socket|TCP|UNIX|pipe|/proc/)|\"/proc/", line)


def writes(line):
    """Whether an injected call is one to which a full disk may say so: not opening for reading."""
    return "openat" not in line or "O_CREAT" in line


class Injection:
    """One node that is deployed to while calls fail, one after another, and that has to heal by itself."""

    def __init__(self, mayfly, most):
        self.mayfly, self.most = mayfly, most
        self.state = tempfile.TemporaryDirectory(prefix="mayfly-storage-")
        self.serial = itertools.count()
        self.injected = self.refused = self.elsewhere = 0
        self.node = None
        self.serves = {}

    def start(self):
        self.node = Node(self.mayfly, state=self.state.name)
        for name, text in self.serves.items():
            got = self.node.get(f"/{name}")
            check(got == (200, text), f"after a restart /{name} answers {got}, not {text}")

    def deploy(self, name):
        text = f"revision {next(self.serial):06}"
        status, body = self.node.admin("PUT", f"/v1/functions/{name}", module(self.node, text))
        return text, status, body

    def one(self, call, error, number):
        """One injection; gives whether anything was injected."""
        what = f"{call} {error} {number}"
        strace = Strace(self.node, call, error, number)
        try:
            text, status, body = self.deploy("f")
        except OSError as gone:
            # The answer itself was lost: whether it happened is open.
            text, status, body = None, 0, str(gone).encode()
        lines = [line for calls in strace.end().values() for line in calls if "INJECTED" in line]
        if not lines:
            check(status == 200, f"{what}: nothing was injected, and yet {status}: {body[:300]}")
        storage = [line for line in lines if is_storage(line)]
        self.injected += len(storage)
        self.elsewhere += len(lines) - len(storage)
        self.judge(what, text, status, body, storage)
        return bool(storage)

    def judge(self, what, text, status, body, storage):
        if not check(self.node.process.poll() is None, f"{what}: the node ended; {storage[:2]} {self.node.output[-8:]}"):
            self.start()
            return
        now = self.node.get("/f")
        if status == 200:
            check(now == (200, text), f"{what}: acknowledged {text}, serves {now}")
            self.serves["f"] = text
        elif storage:
            self.refused += 1
            check(status in REFUSALS, f"{what}: {status} {body[:300]}")
            if " ENOSPC " in what and any(map(writes, storage)) and status not in (507, 422):
                failed(f"{what}: {status}, not 507: {body[:300]} {storage[:1]}")
            check(now == (200, self.serves["f"]), f"{what}: refused with {status}, serves {now}, not {self.serves['f']}")
        else:
            self.serves["f"] = now[1]
        # Nothing has to be restarted for the next deploy to work.
        text, status, body = self.deploy("f")
        if check(status == 200, f"{what}: the next deploy: {status} {body[:300]}; {storage[:2]}"):
            self.serves["f"] = text
        else:
            self.restart()

    def restart(self):
        check(self.node.stop(), "the node did not end well")
        self.start()

    def run(self, calls):
        self.start()
        for name in ("f", "innocent"):
            text, status, body = self.deploy(name)
            check(status == 200, f"the first deploy: {status} {body}")
            self.serves[name] = text
        with Watched(self.node, "injection", rate=50, base_s=2) as watched:
            for call, errors in calls.items():
                for error in errors:
                    number = 1
                    while number <= self.most and self.one(call, error, number):
                        number += 1
                    if number > self.most:
                        print(f"  {call} {error}: stopped after {self.most}")
                    print(f"  {call} {error}: {number - 1} injections passed", flush=True)
            watched.node = self.node
        self.restart()
        temporary = [str(path) for path in pathlib.Path(self.state.name).rglob("tmp-*")]
        check(not temporary, f"left behind: {temporary}")
        check(self.node.metrics()["mayfly_compiles_total"] == 0, "a restart compiled something")
        self.node.stop()
        print(f"injection: {self.injected} storage and process calls failed, {self.refused} deploys were refused,"
              f" {self.elsewhere} calls elsewhere", flush=True)


class Disk:
    """A small disk of memory, mounted for one test."""

    def __init__(self, mib):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="mayfly-disk-"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", self.path], check=True)

    def remount(self, how):
        return subprocess.run(["mount", "-o", f"remount,{how}", self.path], capture_output=True).returncode == 0

    def fill(self, leave=0):
        free = os.statvfs(self.path)
        with open(self.path / "filler", "ab") as filler:
            try:
                for _ in range(max(0, free.f_bavail * free.f_frsize - leave) >> 12):
                    filler.write(bytes(4096))
                filler.flush()
            except OSError:
                pass

    def empty(self):
        (self.path / "filler").unlink()

    def close(self):
        subprocess.run(["umount", "-l", self.path])
        self.path.rmdir()


def full_disk(mayfly):
    """Refused while the disk is full, with running functions unharmed; works again once there is room, no restart."""
    disk = Disk(160)
    try:
        state = disk.path / "state"
        state.mkdir(mode=0o700)
        node = Node(mayfly, state=state)
        check(node.admin("PUT", "/v1/functions/innocent", module(node, "innocent"))[0] == 200, "no first deploy")
        with Watched(node, "full disk", base_s=2):
            for leave in (32 << 20, 1 << 20, 0):
                disk.fill(leave)
                status, body = node.admin("PUT", "/v1/functions/f", module(node, f"full {leave}"))
                check(status == 507, f"{leave} bytes left: {status} {body[:300]}")
                check(node.get("/f")[0] == 404, "half of it is there")
                disk.empty()
                status, body = node.admin("PUT", "/v1/functions/f", module(node, f"free {leave}"))
                check(status == 200 and node.get("/f") == (200, f"free {leave}"), f"with room again: {status} {body[:300]}")
                disk.fill(0)
                status, body = node.admin("DELETE", "/v1/functions/f")
                print(f"full disk: {leave >> 20} MiB left: 507, healed; remove on a full one: {status}", flush=True)
                check(status in (200, 204, 507), f"remove: {status} {body[:300]}")
                check(node.get("/f")[0] == (200 if status == 507 else 404), "a refused removal removed")
                disk.empty()
                status, body = node.admin("DELETE", "/v1/functions/f")
                check(status in (200, 204, 404), f"remove with room again: {status} {body[:300]}")
        disk.fill(0)
        check(node.stop(), "the node did not end well on a full disk")
        try:
            node = Node(mayfly, state=state)
            check(node.get("/innocent") == (200, "innocent"), "after a start on a full disk")
            node.stop()
            print("full disk: a start serves", flush=True)
        except RuntimeError as refused:
            print("full disk: a start is refused:", str(refused).splitlines()[-1], flush=True)
            check("space" in str(refused), f"a start on a full disk: {refused}")
        disk.empty()
        node = Node(mayfly, state=state)
        check(node.get("/innocent") == (200, "innocent"), "after the disk was full")
        node.stop()
    finally:
        disk.close()


def read_only(mayfly):
    """A start on a disk that cannot be written to is refused in words; the same directory works once it can."""
    disk = Disk(160)
    try:
        state = disk.path / "state"
        state.mkdir(mode=0o700)
        node = Node(mayfly, state=state)
        check(node.admin("PUT", "/v1/functions/f", module(node, "kept"))[0] == 200, "no first deploy")
        node.stop()
        check(disk.remount("ro"), "cannot be made read-only")
        try:
            node = Node(mayfly, state=state)
            failed("a node started on a read-only directory")
            node.stop()
        except RuntimeError as refused:
            text = str(refused)
            check("ead-only" in text and str(state) in text, f"not in words: {text}")
            print("read-only: refused:", text.splitlines()[-1], flush=True)
        check(disk.remount("rw"), "cannot be made writable")
        node = Node(mayfly, state=state)
        check(node.get("/f") == (200, "kept"), "after it was read-only")
        node.stop()
    finally:
        disk.close()


def main():
    mayfly, most = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60
    only = sys.argv[3].split(",") if len(sys.argv) > 3 else CALLS
    if os.geteuid() != 0:
        print("SKIPPED: mounting and tracing need root; no disk failed")
        return
    full_disk(mayfly)
    read_only(mayfly)
    Injection(mayfly, most).run({call: CALLS[call] for call in only})
    finish()


if __name__ == "__main__":
    main()
