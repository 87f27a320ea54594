"""HTTP clients of others, each told to post a file so many times and to say what came of it.

A client that is not installed is None in `all_clients`, with what would install it. Workers (Go, fetch, requests, aiohttp)
are programs of ours around a client of others: one line of JSON to each for a job (`url`, `file`, `requests`, `clients`:
how many at once, `kind`), one line back (`answers`: how many there were of each kind, `connections`: how many were opened).
"""

import collections
import dataclasses
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import threading

PEERS = pathlib.Path(__file__).resolve().parents[1] / "peers"
# At once: two cores have enough to do with these.
CLIENTS = 4


@dataclasses.dataclass
class Done:
    """What became of a job."""

    answers: collections.Counter
    connections: int | None = None

    @classmethod
    def of(cls, requests, answers, connections=None):
        """Requests of which nothing was heard are lost as well."""
        answers = collections.Counter({answer: count for answer, count in answers.items() if count})
        missing = requests - answers.total()
        if missing > 0:
            answers["lost: nothing was heard"] += missing
        return cls(answers, connections)

    def lost(self, expected):
        """Answers that are not the expected one: status and bytes, as in "200 27"."""
        return sum(count for answer, count in self.answers.items() if answer != expected)


class Worker:
    """A program that takes jobs by its stdin, for as long as the test lasts."""

    def __init__(self, command, kind="h1"):
        self.command, self.kind, self.process = command, kind, None

    def run(self, url, file, requests, seconds, _expected):
        if self.process is None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        job = {"url": url, "file": str(file), "requests": requests, "clients": min(CLIENTS, requests), "kind": self.kind}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        late = threading.Timer(seconds, self.process.kill)
        late.start()
        line = self.process.stdout.readline()
        late.cancel()
        if not line:
            self.process = None
            return Done.of(requests, {f"lost: it said nothing in {seconds} s, or ended": requests})
        done = json.loads(line)
        return Done.of(requests, done["answers"], done.get("connections"))

    def stop(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait(10)


class Tool:
    """A program that is started for each job; `told` is what it printed."""

    def run(self, url, file, requests, seconds, expected):
        command = self.command(url, file, requests)
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return Done.of(requests, {f"lost: it said nothing in {seconds} s": requests})
        return self.read(told.stdout + told.stderr, requests, expected)

    def stop(self):
        pass


class Hey(Tool):
    """Reads each body but does not say how long it was: what is compared is the sum of their lengths as declared."""

    def command(self, url, file, requests):
        clients = math.gcd(CLIENTS, requests)
        return ["hey", "-n", str(requests), "-c", str(clients), "-m", "POST", "-t", "30", "-D", str(file), url]

    def read(self, told, requests, expected):
        answers = collections.Counter()
        for status, count in re.findall(r"^\s+\[(\d{3})\]\t(\d+) responses", told, re.M):
            answers[status] += int(count)
        status, size = expected.split()
        total = re.search(r"Total data:\s+(\d+) bytes", told)
        # Of several statuses the sum says nothing; then something is lost anyway. An answer whose length was not told
        # (a command's, and any that took longer than a tick) counts as nothing.
        missing = answers[status] * int(size) - int(total[1]) if total else 1
        if set(answers) == {status} and missing % int(size):
            size = "and another length"
        answers = {f"{got} {size if got == status else ''}".strip(): count for got, count in answers.items()}
        for count, words in re.findall(r"^\s+\[(\d+)\]\t(\D.*)$", told, re.M):
            words = "lost: " + words.rsplit(": ", 1)[-1]
            answers[words] = answers.get(words, 0) + int(count)
        return Done.of(requests, answers)


class Ab(Tool):
    """HTTP/1.0 with keep-alive; writes a request to its end before it reads. Bodies are counted by the sum of their bytes."""

    def command(self, url, file, requests):
        return ["ab", "-q", "-l", "-r", "-k", "-s", "30", "-n", str(requests), "-c", str(min(CLIENTS, requests)),
                "-p", str(file), "-T", "application/octet-stream", url]

    def read(self, told, requests, expected):
        def number(name):
            found = re.search(rf"{name}:\s+(\d+)", told)
            return int(found[1]) if found else 0
        status, size = expected.split()
        whole = min(number("Complete requests") - number("Failed requests"), number("HTML transferred") // int(size))
        # It may have begun one more than it was told to, and counts that one here.
        others = number("Non-2xx responses")
        good = min(whole, others) if status != "200" else max(whole - others, 0)
        kinds = re.search(r"\((Connect.*)\)", told)
        return Done.of(requests, {expected: good, f"lost: {kinds[1] if kinds else 'no body'}": requests - good})


class Curl(Tool):
    """One process, one request after the other, over one connection while that lasts.

    Or each over a connection of its own, where `fresh`: of HTTP/2 that was not negotiated, curl 7.88 fails the second
    request of a connection by itself, whatever the server.
    """

    def __init__(self, *options, fresh=False):
        self.options, self.fresh = options, fresh

    def command(self, url, file, requests):
        written = r"-- %{http_code} %{size_download} %{num_connects} %{exitcode} %{errormsg}\n"
        return ["curl", "-s", "--max-time", "30", "-o", "/dev/null", "-w", written,
                "-H", "Content-Type: application/octet-stream", "--data-binary", f"@{file}", *self.options,
                *self.urls(url, requests)]

    def urls(self, url, requests):
        if not self.fresh:
            return [f"{url}?[1-{requests}]"]
        # Connections are kept by name.
        host, path = url.removeprefix("http://").split("/", 1)
        return ["--connect-to", f"::{host}", f"http://name-[1-{requests}]/{path}"]

    def read(self, told, requests, _expected):
        answers, connections = collections.Counter(), 0
        for status, size, opened, code, words in re.findall(r"^-- (\d+) (\d+) (\d+) (\d+) (.*)$", told, re.M):
            answers[f"{int(status)} {size}" if code == "0" else f"lost: {status}, then curl {code}: {words[:60]}"] += 1
            connections += int(opened)
        return Done.of(requests, answers, connections)


def all_clients(go_client):
    """Each client by its name; in place of one that is not installed, what is missing."""
    def tool(program, package, made):
        return made if shutil.which(program) else f"apt-get install {package}"
    node = shutil.which("node")
    go = go_client and pathlib.Path(go_client).exists()
    no_go = "make toolchain-go"
    return {
        "hey": tool("hey", "hey", Hey()),
        "ab": tool("ab", "apache2-utils", Ab()),
        "curl": tool("curl", "curl", Curl("-H", "Expect:")),
        "curl, alone": tool("curl", "curl", Curl("-H", "Expect:", fresh=True)),
        "curl, Expect": tool("curl", "curl", Curl("-H", "Expect: 100-continue")),
        "curl, h2": tool("curl", "curl", Curl("--http2-prior-knowledge", fresh=True)),
        "fetch": Worker([node, str(PEERS / "fetch_client.mjs")]) if node else "apt-get install nodejs",
        "requests": Worker([sys.executable, str(PEERS / "requests_client.py")]),
        "aiohttp": Worker([sys.executable, str(PEERS / "aiohttp_client.py")]),
        "Go": Worker([go_client]) if go else no_go,
        "Go, chunked": Worker([go_client], "chunked") if go else no_go,
        "Go, h2": Worker([go_client], "h2") if go else no_go,
    }
