"""A Mayfly node of its own for one test run: started, deployed to, and stopped."""

import os
import re
import signal
import subprocess
import tempfile


class Node:
    """Runs `mayfly serve` on free ports, with its state in a temporary directory."""

    def __init__(self, mayfly, *options):
        self.mayfly = os.path.abspath(mayfly)
        self.state = tempfile.TemporaryDirectory(prefix="mayfly-test-")
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("MAYFLY_")}
        self.env["MAYFLY_STATE_DIR"] = self.state.name
        listen = ["--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [self.mayfly, "serve", "--engine-slots", "16", "--server-timing", *listen, *options],
            cwd=self.state.name, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            ready = re.search(r"is ready: functions on http://(\S+), admin API on (http://\S+)", line)
            if ready:
                self.gateway, self.env["MAYFLY_ADMIN"] = ready.groups()
                return
        raise RuntimeError("mayfly serve ended:\n" + "".join(seen))

    def deploy(self, path, name, *options):
        """Deploys a file; gives what the command printed."""
        command = [self.mayfly, "deploy", str(path), "--name", name, *options]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def refuse(self, path, *options):
        """Deploys a file that must be refused; gives what the command wrote to stderr."""
        done = subprocess.run(
            [self.mayfly, "deploy", str(path), *options], env=self.env, capture_output=True, text=True
        )
        if not done.returncode:
            raise RuntimeError(f"{path} was deployed and should not have been")
        return done.stderr

    def stop(self):
        """Ends the node; says whether it ended well."""
        self.process.send_signal(signal.SIGTERM)
        self.process.stdout.close()
        code = self.process.wait(timeout=60)
        self.state.cleanup()
        return code == 0
