"""The hello of each language through the gateway: answered, and streamed line by line.

    python test_languages.py --mayfly target/release/mayfly --languages target/languages

What was not built, for want of its toolchain, is skipped, and said so.
"""

import argparse
import http.client
import os
import pathlib
import re
import statistics
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from node import Node  # noqa: E402

LANGUAGES = {"c": "C", "go": "Go", "zig": "Zig", "assemblyscript": "AssemblyScript", "python": "Python"}
# Interpreters, whose programs come as an argument.
PROGRAMS = {"python": "functions/hello-python/hello.py"}
RUNS = 100

options = None
node = None
table = []


def setUpModule():
    global node
    node = Node(options.mayfly)


def tearDownModule():
    print("\n| language | module | code | instantiate | call |\n| --- | --- | --- | --- | --- |")
    print("\n".join(table))
    assert node.stop(), "mayfly serve did not end with code 0"


class Languages(unittest.TestCase):
    def connect(self):
        connection = http.client.HTTPConnection(node.gateway, timeout=30)
        self.addCleanup(connection.close)
        return connection

    def each(self, key, language):
        path = pathlib.Path(options.languages) / f"hello-{key}.wasm"
        if not path.is_file():
            print(f"\nSKIPPED: {language}: {path} is not there; `make toolchain-{key}` installs what builds it")
            self.skipTest(f"no {path}")
        more = ()
        if key in PROGRAMS:
            program = (pathlib.Path(__file__).parents[3] / PROGRAMS[key]).read_text()
            more = ("--arg=-c", f"--arg={program}")
        said = node.deploy(path, f"hello-{key}", *more)
        connection = self.connect()
        self.answers(connection, key, language)
        self.streams(connection, key)
        instantiate, call = self.times(connection, key)
        code = re.search(r"code +(.+)", said).group(1)
        size = f"{path.stat().st_size / 1024:.0f} KiB"
        table.append(f"| {language} | {size} | {code} | {instantiate:.2f} ms | {call:.2f} ms |")

    def get(self, connection, path):
        connection.request("GET", path)
        return connection.getresponse()

    def answers(self, connection, key, language):
        response = self.get(connection, f"/hello-{key}")
        self.assertEqual(response.status, 200)
        self.assertEqual(response.getheader("content-type"), "text/plain; charset=utf-8")
        self.assertEqual(response.read().decode(), f"Hello from {language}, 127.0.0.1\n")

    def streams(self, connection, key):
        """The lines are 100 ms apart: the first must be there long before the last."""
        response = self.get(connection, f"/hello-{key}?stream")
        came = []
        while line := response.readline():
            came.append((line.decode(), time.monotonic()))
        self.assertEqual([line for line, _ in came], ["line 1\n", "line 2\n", "line 3\n"])
        self.assertGreater(came[2][1] - came[0][1], 0.15)

    def times(self, connection, key):
        """Medians of what the host measures, in milliseconds: a call's whole time, or until its head if that left first."""
        found = []
        for _ in range(RUNS):
            response = self.get(connection, f"/hello-{key}")
            response.read()
            timing = response.getheader("server-timing")
            phases = ("instantiate", "(?:call|head)")
            found.append([float(re.search(rf"{phase};dur=([\d.]+)", timing).group(1)) for phase in phases])
        return [statistics.median(column) for column in zip(*found)]


for key, language in LANGUAGES.items():
    setattr(Languages, f"test_{key}", lambda self, key=key, language=language: self.each(key, language))


if __name__ == "__main__":
    root = pathlib.Path(__file__).parents[3]
    parser = argparse.ArgumentParser()
    parser.add_argument("--mayfly", default=os.fspath(root / "target/release/mayfly"))
    parser.add_argument("--languages", default=os.fspath(root / "target/languages"))
    options, rest = parser.parse_known_args()
    unittest.main(argv=sys.argv[:1] + rest, verbosity=2)
