"""What a function sees behind nginx, HAProxy and Caddy, configured as docs/proxies.md says.

    python test_proxies.py target/release/mayfly

The configurations are taken out of the page and run as they stand, but for names of files, ports and addresses. A client
at 127.0.0.2 asks through each of them, honestly and with every header forged; the node trusts 127.0.0.1, from where the
proxies ask. A proxy that is not installed is skipped, loudly.
"""

import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

from wasmtime import wat2wasm

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from node import Node  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/proxies.md").read_text()
ENVIRONMENT = (ROOT / "runtime/tests/guests/environment.wat").read_text()
HOST = "shop.example"
CLIENT = "127.0.0.2"
# Every header that a proxy could pass on as its client wrote it.
FORGED = {
    "X-Forwarded-For": "203.0.113.66",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "666",
    "X-Forwarded-Prefix": "/evil",
    "Forwarded": "for=203.0.113.66;host=evil.example;proto=http",
}

node = None
scratch = None


def setUpModule():
    global node, scratch
    node = Node(sys.argv[1], "--gateway-trusted-proxies", "127.0.0.1")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="mayfly-proxies-"))
    wasm = scratch / "env.wasm"
    wasm.write_bytes(bytes(wat2wasm(ENVIRONMENT)))
    node.deploy(wasm, "env")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}",
         "-addext", f"subjectAltName=DNS:{HOST},DNS:localhost,IP:127.0.0.1", "-keyout", scratch / "key.pem", "-out", scratch / "cert.pem"],
        check=True, capture_output=True,
    )
    both = (scratch / "cert.pem").read_text() + (scratch / "key.pem").read_text()
    (scratch / "both.pem").write_text(both)


def tearDownModule():
    shutil.rmtree(scratch)
    assert node.stop(), "mayfly serve did not end with code 0"


def snippet(language):
    """The page's one block of a language."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 1, f"docs/proxies.md has {len(blocks)} blocks of {language}"
    return blocks[0]


def put(text, *changes):
    """The text with each of these put in place of what the page says, which must be there."""
    for was, becomes in changes:
        assert was in text, f"{was} is not in\n{text}"
        text = text.replace(was, becomes)
    return text


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(port, path, headers):
    """One request over TLS from the client's address: status and what the function's environment was."""
    context = ssl.create_default_context(cafile=str(scratch / "cert.pem"))
    with socket.create_connection(("127.0.0.1", port), 10, source_address=(CLIENT, 0)) as plain:
        with context.wrap_socket(plain, server_hostname=HOST) as stream:
            lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}:{port}", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            answer = b""
            while piece := stream.recv(65536):
                answer += piece
    head, body = answer.split(b"\r\n\r\n", 1)
    variables = dict(line.split("=", 1) for line in body.decode().splitlines() if "=" in line)
    return int(head.split()[1]), variables


class Proxied(unittest.TestCase):
    def start(self, *command, path="/env"):
        log = open(scratch / "proxy.log", "w+")
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env={"HOME": str(scratch), "PATH": "/usr/bin:/bin"})
        self.addCleanup(log.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        until = time.monotonic() + 20
        while time.monotonic() < until and process.poll() is None:
            try:
                ask(self.port, path, {})
                return
            except OSError:
                time.sleep(0.1)
        log.seek(0)
        self.fail(f"{command[0]} does not answer:\n{log.read()}")

    def check(self):
        """The same answers whatever a client writes into its headers."""
        own = f"https://{HOST}:{self.port}"
        for headers in ({}, FORGED):
            for path, script in [("/env/x?y=z", "/env"), ("/shop/env/x?y=z", "/shop/env")]:
                with self.subTest(path=path, forged=bool(headers)):
                    status, seen = ask(self.port, path, headers)
                    self.assertEqual(status, 200, seen)
                    expected = {
                        "REMOTE_ADDR": CLIENT, "HTTPS": "on", "SERVER_NAME": HOST, "SERVER_PORT": str(self.port),
                        "SCRIPT_NAME": script, "PATH_INFO": "/x", "X_FULL_URL": own + path,
                    }
                    self.assertEqual({name: seen.get(name) for name in expected}, expected)

    def setUp(self):
        self.port = free_port()

    def test_nginx(self):
        nginx = self.installed("nginx", "nginx-light")
        block = put(
            snippet("nginx"), ("127.0.0.1:3000", node.gateway), ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("/etc/ssl/shop.example.pem", str(scratch / "cert.pem")), ("/etc/ssl/shop.example.key", str(scratch / "key.pem")),
        )
        self.start(nginx, "-e", "stderr", "-p", scratch, "-c", self.nginx(block))
        self.check()

    def test_the_admin_api_behind_nginx(self):
        nginx = self.installed("nginx", "nginx-light")
        block = put(
            snippet("nginx-admin"), ("http://127.0.0.1:3001", node.env["MAYFLY_ADMIN"]), ("listen 3443 ssl", f"listen {self.port} ssl"),
            ("/etc/ssl/admin.example.pem", str(scratch / "cert.pem")), ("/etc/ssl/admin.example.key", str(scratch / "key.pem")),
        )
        self.start(nginx, "-e", "stderr", "-p", scratch, "-c", self.nginx(block), path="/healthz")
        wasm, token = scratch / "env.wasm", node.state / "token"

        def mayfly(*arguments, url=f"https://localhost:{self.port}", trust=scratch / "cert.pem"):
            command = [sys.argv[1], *map(str, arguments), "--admin", url, "--token-file", str(token)]
            return subprocess.run(command + (["--ca", str(trust)] if trust else []), capture_output=True, text=True)

        deployed = mayfly("deploy", wasm, "--name", "secure")
        self.assertEqual(deployed.returncode, 0, deployed.stderr)
        for url in (f"https://localhost:{self.port}", f"https://127.0.0.1:{self.port}/"):
            self.assertIn("secure", mayfly("list", url=url).stdout)
        # A certificate that nobody here knows, one for other names, and plain words where TLS is spoken.
        unknown = mayfly("list", trust=None)
        self.assertNotEqual(unknown.returncode, 0)
        self.assertIn("--ca or MAYFLY_CA", unknown.stderr)
        other = mayfly("list", url=f"https://127.0.0.2:{self.port}")
        self.assertIn("certificate", other.stderr)
        self.assertNotEqual(mayfly("list", url=f"http://localhost:{self.port}").returncode, 0)
        self.assertEqual(mayfly("remove", "secure").returncode, 0)

    def nginx(self, block):
        """A whole configuration around a block of one."""
        kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        paths = "".join(f"{kind}_temp_path {scratch}/{kind};\n" for kind in kinds)
        configuration = scratch / "nginx.conf"
        configuration.write_text(
            f"daemon off;\npid {scratch}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{block}}}\n"
        )
        return configuration

    def test_haproxy(self):
        haproxy = self.installed("haproxy", "haproxy")
        block = put(
            snippet("haproxy"), ("127.0.0.1:3000", node.gateway), ("bind :443 ssl", f"bind 127.0.0.1:{self.port} ssl"),
            ("/etc/ssl/shop.example.pem", str(scratch / "both.pem")),
        )
        configuration = scratch / "haproxy.cfg"
        configuration.write_text(
            f"global\n    stats socket {scratch}/haproxy.sock\ndefaults\n    timeout connect 5s\n    timeout client 30s\n"
            f"    timeout server 30s\n{block}"
        )
        self.start(haproxy, "-f", configuration)
        self.check()
        self.check_health()
        # And as it asks when nobody told it of a path: OPTIONS / over HTTP/1.0, without a host.
        configuration.write_text(put(configuration.read_text(), ("option httpchk GET /readyz", "option httpchk"), (f":{self.port} ssl", f":{free_port()} ssl"), ("haproxy.sock", "plain.sock")))
        plain = subprocess.Popen([haproxy, "-f", configuration], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(plain.wait)
        self.addCleanup(plain.terminate)
        self.check_health("plain.sock")

    def check_health(self, name="haproxy.sock"):
        status = ""
        until = time.monotonic() + 20
        while time.monotonic() < until and "L7" not in status:
            time.sleep(0.2)
            try:
                with socket.socket(socket.AF_UNIX) as control:
                    control.connect(str(scratch / name))
                    control.sendall(b"show stat\n")
                    answer = b"".join(iter(lambda: control.recv(65536), b"")).decode()
            except OSError:
                continue
            rows = [line.split(",") for line in answer.lstrip("# ").splitlines() if line]
            server = next(row for row in rows if row[:2] == ["mayfly", "one"])
            status = server[rows[0].index("check_status")]
        self.assertIn("L7OK", status)

    def test_caddy(self):
        caddy = self.installed("caddy", "caddy")
        site = f"https://{HOST}:{self.port} {{\n    tls {scratch}/cert.pem {scratch}/key.pem\n"
        block = put(snippet("caddyfile"), ("127.0.0.1:3000", node.gateway), (f"{HOST} {{\n", site))
        configuration = scratch / "Caddyfile"
        configuration.write_text(f"{{\n    admin off\n    auto_https off\n}}\n{block}")
        self.start(caddy, "run", "--adapter", "caddyfile", "--config", configuration)
        self.check()

    def test_a_network_in_front_of_the_proxy(self):
        """A CDN at the client's address: the one before it is the client, if the CDN is trusted."""
        both = [f"--gateway-trusted-proxies={address}" for address in ("127.0.0.1", CLIENT)]
        trusting = Node(sys.argv[1], *both)
        trusting.deploy(scratch / "env.wasm", "env")
        request = (
            "GET /env HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n"
            f"X-Forwarded-For: 203.0.113.66, 198.51.100.7, {CLIENT}\r\nX-Forwarded-Proto: https\r\n\r\n"
        )
        address, port = trusting.gateway.split(":")
        with socket.create_connection((address, int(port)), 10) as stream:
            stream.sendall(request.encode())
            answer = b"".join(iter(lambda: stream.recv(65536), b"")).decode()
        self.assertIn("\nREMOTE_ADDR=198.51.100.7\n", answer)
        self.assertTrue(trusting.stop())

    def installed(self, program, package):
        path = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin")
        if not path:
            print(f"SKIPPED: {program} is not installed (apt-get install {package}); its configuration was not tried", flush=True)
            self.skipTest(f"no {program}")
        return path


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
