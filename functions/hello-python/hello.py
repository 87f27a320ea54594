"""A function in Python: CGI on stdin and stdout. The interpreter is the module; this text is its argument.

    mayfly deploy python.wasm --name hello-python --arg=-c --arg="$(cat hello.py)"
"""

import os
import sys
import time

print("Content-Type: text/plain; charset=utf-8\n", flush=True)
if os.environ.get("QUERY_STRING") == "stream":
    for number in range(1, 4):
        # Without the flush all lines would leave together, at the end.
        print(f"line {number}", flush=True)
        time.sleep(0.1)
else:
    body = sys.stdin.buffer.read()
    print(f"Hello from Python, {os.environ['REMOTE_ADDR']}")
    if body:
        print(f"{len(body)} bytes came along")
