"""The admin API against its own description: schemathesis makes requests from docs/openapi.json; none may be a 5xx.

    python3 admin_schemathesis.py path/to/mayfly [examples per operation, and seconds]
"""

import os
import pathlib
import subprocess
import sys

from node import Node

SCHEMA = pathlib.Path(__file__).resolve().parents[3] / "docs" / "openapi.json"


def main():
    mayfly, examples = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "200"
    node = Node(mayfly)
    token = (node.state / "token").read_text().strip()
    # schemathesis itself must import the hooks.
    env = os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(pathlib.Path(__file__).parent)}
    node.deploy_fault("answers", "known")
    schemathesis = pathlib.Path(sys.executable).with_name("schemathesis")
    done = subprocess.run([
        str(schemathesis), "run", str(SCHEMA), "--url", node.env["MAYFLY_ADMIN"], "--header",
        f"Authorization: Bearer {token}", "--checks", "not_a_server_error", "--max-examples", examples,
        "--phases", "examples,coverage,fuzzing", "--request-timeout", "20", "--max-time", examples,
    ], cwd=node.scratch.name, env=env).returncode
    alive = node.process.poll() is None
    ended_well = node.stop()
    print(f"schemathesis: exit code {done}; the node {'lived' if alive and ended_well else 'ENDED'}")
    sys.exit(0 if done == 0 and alive and ended_well else 1)


if __name__ == "__main__":
    main()
