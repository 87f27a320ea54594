"""Bodies of every framing, over HTTP/1, HTTP/2 and through nginx, to programs of ours and of others.

    python test_bodies.py target/release/mayfly --guests target/wasm32-wasip1/guest --languages target/languages [--quick]

Each program says what it found of its request, or answers with the body, and must do so alike however that came: with a
length, chunked (in pieces of several sizes), over HTTP/2 with a length and without one, through an nginx that holds bodies
and one that passes them on as they come. Go's net/http/cgi and CPython's wsgiref are held against themselves run by nginx
and fcgiwrap as well. What is not built or installed is skipped, loudly.
"""

import argparse
import atexit
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import h2.config
import h2.connection
import h2.events

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from node import Node  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
CAT = (ROOT / "runtime/tests/guests/cat.wat").read_text()
WSGI = ROOT / "runtime/tests/peers/cgi_program.py"
# None is no body at all, which is not the same as an empty one.
BODIES = [None, b"", b"x", bytes(range(256)), os.urandom(70_000), os.urandom(1_000_000)]
QUICK_BODIES = [None, b"", bytes(range(256)), os.urandom(70_000)]

options = None
node = None
proxies = None


def setUpModule():
    global node, proxies
    node = Node(options.mayfly)
    proxies = Nginx()


def tearDownModule():
    proxies.stop()
    assert node.stop(), "mayfly serve did not end with code 0"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def skipped(what):
    print(f"\nSKIPPED: {what}", flush=True)


class Nginx:
    """One nginx with a door that holds bodies, one that passes them on, and one to CGI programs by fcgiwrap."""

    def __init__(self):
        self.ports, self.running = {}, []
        if not shutil.which("nginx"):
            skipped("nginx is not installed (apt-get install nginx-light): nothing is sent through it")
            return
        # Debian's fcgiwrap and nginx's workers may be of other users.
        self.scratch = tempfile.TemporaryDirectory(prefix="mayfly-bodies-")
        self.dir = pathlib.Path(self.scratch.name)
        self.dir.chmod(0o755)
        names = ["holds", "passes"] + (["cgi"] if self.fcgiwrap() else [])
        self.ports = {name: free_port() for name in names}
        (self.dir / "nginx.conf").write_text(self.configuration())
        self.start("nginx", "-p", self.dir, "-c", self.dir / "nginx.conf")
        for port in self.ports.values():
            wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close())

    def start(self, *command):
        # Each with a session of its own: fcgiwrap leaves its children behind.
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, start_new_session=True, **quiet)
        atexit.register(end, process)
        self.running.append(process)

    def fcgiwrap(self):
        if not shutil.which("fcgiwrap"):
            skipped("fcgiwrap is not installed (apt-get install fcgiwrap): no program is held against its own in nginx")
            return False
        programs = {"wsgi": WSGI, "go": pathlib.Path(options.languages) / "cgi-go"}
        self.programs = self.dir / "programs"
        self.programs.mkdir()
        for name, path in programs.items():
            if path.is_file():
                shutil.copy(path, self.programs / name)
                (self.programs / name).chmod(0o755)
        where = self.dir / "fcgi.sock"
        self.start("fcgiwrap", "-c", "2", "-s", f"unix:{where}")
        wait_for(lambda: where.chmod(0o777))
        return True

    def configuration(self):
        paths = "".join(f"{kind}_temp_path {self.dir}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
        proxied = "".join(
            f"server {{ listen 127.0.0.1:{self.ports[name]}; proxy_http_version 1.1; client_max_body_size 0;"
            f" proxy_set_header Host $host; proxy_request_buffering {buffering};"
            f" location / {{ proxy_pass http://{node.gateway}; }} }}\n"
            for name, buffering in (("holds", "on"), ("passes", "off"))
        )
        variables = {
            "SCRIPT_FILENAME": f"{self.dir}/programs/$program", "SCRIPT_NAME": "/$program", "PATH_INFO": "$below",
            "QUERY_STRING": "$query_string", "REQUEST_URI": "$request_uri", "REQUEST_METHOD": "$request_method",
            "CONTENT_TYPE": "$content_type", "CONTENT_LENGTH": "$content_length", "SERVER_PROTOCOL": "$server_protocol",
            "SERVER_NAME": "$host", "SERVER_PORT": "$server_port", "REMOTE_ADDR": "$remote_addr",
            "GATEWAY_INTERFACE": "CGI/1.1",
        }
        given = "".join(f"fastcgi_param {name} {value};" for name, value in variables.items())
        cgi = ""
        if "cgi" in self.ports:
            cgi = (
                f"server {{ listen 127.0.0.1:{self.ports['cgi']}; client_max_body_size 0;"
                f" location ~ ^/(?<program>[a-z]+)(?<below>/.*)?$ {{ {given} fastcgi_pass unix:{self.dir}/fcgi.sock; }} }}\n"
            )
        return (
            f"daemon off; worker_processes 1; pid {self.dir}/pid; error_log {self.dir}/log;\n"
            f"events {{ worker_connections 256; }}\n"
            f"http {{ access_log off; client_body_temp_path {self.dir}/body; {paths}\n{proxied}{cgi}}}\n"
        )

    def stop(self):
        for process in self.running:
            end(process)


def end(process):
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)


def wait_for(works):
    for _ in range(200):
        try:
            return works()
        except OSError:
            time.sleep(0.05)
    return works()


def address(port):
    return ("127.0.0.1", port) if port else tuple(node.gateway.split(":"))


def http1(path, body, pieces=None, port=None):
    """POST, or GET without a body; chunked if there are pieces of that size. Gives status and body."""
    with socket.create_connection(address(port), 60) as connection:
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        if body is None:
            message = head + "\r\n"
        elif pieces is None:
            message = f"{head}Content-Length: {len(body)}\r\n\r\n"
        else:
            message = f"{head}Transfer-Encoding: chunked\r\n\r\n"
        connection.sendall(message.encode())
        if body is not None and pieces is None:
            connection.sendall(body)
        elif body is not None:
            parts = (body[at:at + pieces] for at in range(0, len(body), pieces))
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
            connection.sendall(chunks + b"0\r\n\r\n")
        return answer1(connection)


def answer1(connection):
    raw = b""
    while more := connection.recv(1 << 16):
        raw += more
    head, _, rest = raw.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if b"transfer-encoding: chunked" not in head.lower():
        return status, rest
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        size = int(size, 16)
        body, rest = body + rest[:size], rest[size + 2:]
        if size == 0:
            return status, body
    raise AssertionError("the answer breaks off")


def http2(path, body, told, port=None):
    """The same over HTTP/2 with prior knowledge; with a content-length if it is told."""
    h2c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    with socket.create_connection(address(port), 60) as connection:
        h2c.initiate_connection()
        h2c.increment_flow_control_window(1 << 24)
        headers = [(":method", "GET" if body is None else "POST"), (":scheme", "http"), (":authority", "localhost"),
                   (":path", path)]
        if told and body is not None:
            headers.append(("content-length", str(len(body))))
        h2c.send_headers(1, headers, end_stream=body is None)
        left, status, got = body, None, b""
        while True:
            while left is not None:
                if not left:
                    h2c.end_stream(1)
                    left = None
                    break
                room = min(h2c.local_flow_control_window(1), h2c.max_outbound_frame_size, len(left))
                if room <= 0:
                    break
                h2c.send_data(1, left[:room])
                left = left[room:]
            connection.sendall(h2c.data_to_send())
            data = connection.recv(1 << 16)
            assert data, "the connection is closed before the answer's end"
            for event in h2c.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[":status"])
                elif isinstance(event, h2.events.DataReceived):
                    got += event.data
                    h2c.acknowledge_received_data(event.flow_controlled_length, 1)
                elif isinstance(event, h2.events.StreamReset):
                    # Whole, and of what is still being sent no more is wanted: an answer.
                    assert event.error_code == 0 and status, f"the stream is reset: {event.error_code}"
                    return status, got
                elif isinstance(event, h2.events.StreamEnded):
                    return status, got


def ways():
    """How a body can come: what it is called, and a function of path and body."""
    yield "a length", http1
    yield "chunks of 1,000", lambda path, body: http1(path, body, pieces=1000)
    yield "one chunk", lambda path, body: http1(path, body, pieces=1 << 24)
    # A megabyte of them is six, and shows nothing that a thousand do not.
    yield "chunks of 1", lambda path, body: http1(path, body, pieces=1 if len(body or b"") <= 1000 else 100)
    yield "HTTP/2 with a length", lambda path, body: http2(path, body, True)
    yield "HTTP/2 without a length", lambda path, body: http2(path, body, False)
    for name in ("holds", "passes"):
        if port := proxies.ports.get(name):
            yield f"nginx that {name}", lambda path, body, port=port: http1(path, body, port=port)
            yield (f"nginx that {name}, chunked",
                   lambda path, body, port=port: http1(path, body, pieces=1000, port=port))


class Bodies(unittest.TestCase):
    def alike(self, name, expected, deployed=(), below="/a%20b?c=%25"):
        """Each way gives what `expected` says of the first one's answer, and all the same."""
        for body in options.bodies:
            first = None
            for way, send in ways():
                with self.subTest(way=way, bytes=None if body is None else len(body)):
                    status, answer = send(f"/{name}{below}", body)
                    self.assertEqual(status, 200, answer[:500])
                    answer = expected(answer, body)
                    first = answer if first is None else first
                    self.assertEqual(answer, first)

    def found(self, *path):
        path = pathlib.Path(*path)
        if not path.is_file():
            skipped(f"{path} is not there")
            self.skipTest(f"no {path}")
        return path

    def test_cat(self):
        """A command that reads to the end, and is told a length however the body came."""
        node.deploy(node.wat(CAT, "cat"), "cat")

        def expected(answer, body):
            variables, _, came = answer.partition(b"\n\n")
            variables = dict(line.split("=", 1) for line in variables.decode().splitlines())
            self.assertEqual(came, body or b"")
            self.assertEqual(variables.get("CONTENT_LENGTH", "0"), str(len(body or b"")))
            self.assertEqual(variables["REQUEST_URI"], "/cat/a%20b?c=%25")
            return variables["REQUEST_METHOD"]

        self.alike("cat", expected)

    def test_stream(self):
        """The same command with the stream: all of it, with or without a length."""
        node.deploy(node.wat(CAT, "stream"), "stream", "--stream-body")

        def expected(answer, body):
            came = answer.partition(b"\n\n")[2]
            self.assertEqual(came, body or b"")

        self.alike("stream", expected)

    def test_echo(self):
        """A reactor, which streams always; its answer to a request without a body is its own."""
        node.deploy(self.found(options.guests, "echo.wasm"), "echo")

        def expected(answer, body):
            if body:
                self.assertEqual(answer, body)
            return answer if body is None else None

        bodies = [body for body in options.bodies if body]
        options.bodies, kept = bodies, options.bodies
        try:
            self.alike("echo", expected)
        finally:
            options.bodies = kept

    def greets(self, path, name, *more):
        node.deploy(self.found(path), name, *more)

        def expected(answer, _):
            self.assertIn(b"Hello", answer)
            return answer

        self.alike(name, expected, below="")

    def test_wsgiref(self):
        if options.quick:
            skipped("CPython takes too long to compile for a quick run")
            self.skipTest("quick")
        module = self.found(options.languages, "hello-python.wasm")
        program = WSGI.read_text()
        node.deploy(module, "wsgi", "--arg=-c", f"--arg={program}", "--limit", "memory=256MiB")
        self.says("wsgi")

    def test_go(self):
        node.deploy(self.found(options.languages, "cgi-go.wasm"), "go")
        self.says("go")

    def says(self, name):
        """What a program says of its requests: by itself right, and as it says it in nginx."""
        reference = proxies.ports.get("cgi")

        def expected(answer, body):
            said = json.loads(answer)
            self.assertEqual(said["read"], len(body or b""))
            if reference:
                status, own = http1(f"/{name}/a%20b?c=%25", body, port=reference)
                self.assertEqual((status, json.loads(own)), (200, said))
            return said

        self.alike(name, expected)


# Programs that read nothing of a body, in all languages that are built.
for name in ["hello", "hello-command"]:
    setattr(Bodies, f"test_{name.replace('-', '_')}",
            lambda self, name=name: self.greets(pathlib.Path(options.guests) / f"{name}.wasm", name))
for name in ["hello-c", "hello-go", "hello-zig", "hello-assemblyscript"]:
    setattr(Bodies, f"test_{name.replace('-', '_')}",
            lambda self, name=name: self.greets(pathlib.Path(options.languages) / f"{name}.wasm", name))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("mayfly")
    parser.add_argument("--guests", default=os.fspath(ROOT / "target/wasm32-wasip1/guest"))
    parser.add_argument("--languages", default=os.fspath(ROOT / "target/languages"))
    parser.add_argument("--quick", action="store_true")
    options, rest = parser.parse_known_args()
    options.bodies = QUICK_BODIES if options.quick else BODIES
    unittest.main(argv=sys.argv[:1] + rest, verbosity=2)
