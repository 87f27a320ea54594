"""A Mayfly node of its own for one test run: started, deployed to, and stopped."""

import atexit
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

FAULTS = pathlib.Path(__file__).resolve().parents[3] / "functions" / "faults"
# Lines of a node's output that are kept; a test that makes it talk more is after the last ones.
LINES = 20_000


class Node:
    """Runs `mayfly serve` on free ports, with its state in a temporary directory unless one is given.

    `wrapper` is a command that starts it, as in `["prlimit", "--nofile=64"]`; `env` are variables for it alone.
    """

    def __init__(self, mayfly, *options, state=None, wrapper=(), env=None, slots=16, gateway="127.0.0.1:0"):
        self.mayfly = os.path.abspath(mayfly)
        self.temporary = None if state else tempfile.TemporaryDirectory(prefix="mayfly-test-")
        self.state = pathlib.Path(state or self.temporary.name)
        self.scratch = tempfile.TemporaryDirectory(prefix="mayfly-test-files-")
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("MAYFLY_")}
        self.env["MAYFLY_STATE_DIR"] = str(self.state)
        listen = ["--gateway-listen", gateway, "--admin-listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*wrapper, self.mayfly, "serve", "--engine-slots", str(slots), "--server-timing", *listen, *options],
            cwd=self.scratch.name, env=self.env | (env or {}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        )
        # Whatever becomes of the test, no node is left behind.
        atexit.register(self.kill)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        self.output = []
        for line in self.process.stdout:
            self.output.append(line)
            ready = re.search(r"is ready: functions on http://(\S+), admin API on (http://\S+)", line)
            if ready:
                self.gateway, self.env["MAYFLY_ADMIN"] = ready.groups()
                break
        else:
            raise RuntimeError("mayfly serve ended:\n" + "".join(self.output))
        # A pipe that nobody reads would fill.
        self.reader = threading.Thread(target=self.read_on, daemon=True)
        self.reader.start()
        self.pid = self.serving_process()

    def read_on(self):
        for line in self.process.stdout:
            if len(self.output) < LINES:
                self.output.append(line)

    def serving_process(self):
        """The process that listens: a wrapper may be its parent."""
        pid = self.process.pid
        while os.path.basename(os.readlink(f"/proc/{pid}/exe")).split(" ")[0] != os.path.basename(self.mayfly):
            pid = int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        return pid

    def run(self, *command):
        return subprocess.run([self.mayfly, *map(str, command)], env=self.env, capture_output=True, text=True)

    def deploy(self, path, name, *options):
        """Deploys a file; gives what the command printed."""
        command = ["deploy", path, "--name", name, *options]
        done = self.run(*command)
        if done.returncode:
            raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def wat(self, text, name):
        """A module in the text format, as a file."""
        from wasmtime import wat2wasm
        path = pathlib.Path(self.scratch.name) / f"{name}.wasm"
        path.write_bytes(bytes(wat2wasm(text)))
        return path

    def deploy_fault(self, fault, name=None, *options):
        """Deploys one of `functions/faults`."""
        return self.deploy(self.wat((FAULTS / f"{fault}.wat").read_text(), fault), name or fault, *options)

    def refuse(self, path, *options):
        """Deploys a file that must be refused; gives what the command wrote to stderr."""
        done = self.run("deploy", path, *options)
        if not done.returncode:
            raise RuntimeError(f"{path} was deployed and should not have been")
        return done.stderr

    def admin(self, method, path, body=None, timeout=60):
        """One request to the admin API: status and body. The token is read anew, as a client would."""
        token = (self.state / "token").read_text().strip()
        request = urllib.request.Request(
            self.env["MAYFLY_ADMIN"] + path, data=body, method=method,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/wasm"},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read()

    def get(self, path, timeout=30):
        """One request to the gateway on a connection of its own: status and body."""
        try:
            with urllib.request.urlopen(f"http://{self.gateway}{path}", timeout=timeout) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def metrics(self):
        """All metrics without labels, as numbers; the others under their whole line's name."""
        status, text = self.admin("GET", "/metrics")
        if status != 200:
            raise RuntimeError(f"/metrics: {status}")
        lines = (line.rsplit(" ", 1) for line in text.decode().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def problem(self, body):
        """The kind of a problem, out of its JSON."""
        return json.loads(body).get("type", "")

    def stop(self, timeout=60):
        """Ends the node; says whether it ended well."""
        os.kill(self.pid, signal.SIGTERM)
        try:
            code = self.process.wait(timeout=timeout)
        finally:
            self.end()
        return code == 0

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def end(self):
        """Ends what is left of it, and its files."""
        self.kill()
        self.reader.join(5)
        self.scratch.cleanup()
        if self.temporary:
            self.temporary.cleanup()
