"""The same bytes to Mayfly and to Debian's nginx: Mayfly must never answer more requests than nginx sees.

    python3 differential_nginx.py path/to/mayfly

A smuggled request is one that the server behind sees and the one before does not; so for each vector, where nginx
stops, Mayfly has to stop as well. The other way round, Mayfly being the stricter, is what it is for, and is counted.
"""

import pathlib
import socket
import subprocess
import sys
import tempfile
import time

from wasmtime import wat2wasm

from node import Node

FAULTS = pathlib.Path(__file__).resolve().parents[3] / "functions" / "faults"
HIDDEN = b"GET /ok/hidden HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

CONFIG = """
daemon off; pid {dir}/pid; error_log {dir}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {dir}/body; client_header_timeout 2s; client_body_timeout 2s;
  proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  upstream none {{ server 127.0.0.1:{back}; }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://none; }} }}
  server {{ listen 127.0.0.1:{back}; location / {{ return 200 "ok"; }} }}
}}
"""


def vectors():
    post = b"POST /ok HTTP/1.1\r\nHost: a\r\n"
    for line in [
        b"X : y", b"X\t: y", b": y", b"X", b"X: a\0b", b"X: a\rb", b"X: a\nY: b", b"X: a\r\n folded", b" X: a",
        b"(X): y", b"X\x7f: y", b"X\xff: y", b"X: \xff", b"X:", b"X_Y: z", b"Connection: close, X", b"Host: a",
    ]:
        yield b"GET /ok HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n"
    for value in [
        b"", b"+5", b"-5", b"5,5", b"5, 5", b"0x5", b"5 5", b"005", b"5 ", b"\t5", b"five", b"99999999999999999999", b"5\0",
    ]:
        yield post + b"Content-Length: " + value + b"\r\n\r\nabcde"
    for value in [
        b"chunked", b"Chunked", b"gzip", b"identity", b"chunked, identity", b"gzip, chunked", b"chunked, chunked",
        b"xchunked", b"chunked;q=1", b",chunked", b"chunked,", b"\x0bchunked", b"chunked\x0b", b"\"chunked\"", b"",
    ]:
        yield post + b"Transfer-Encoding: " + value + b"\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    for lines in [
        b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Transfer-Encoding : chunked",
        b"Transfer-Encoding:\r\n chunked", b"Content-Length : 5", b"X: y\nContent-Length: 5",
    ]:
        yield post + lines + b"\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    for chunks in [
        b"5\r\nabcde\r\n0\r\n\r\n", b"5\nabcde\r\n0\r\n\r\n", b"0x5\r\nabcde\r\n0\r\n\r\n", b" 5\r\nabcde\r\n0\r\n\r\n",
        b"5 \r\nabcde\r\n0\r\n\r\n", b"5;a=b\r\nabcde\r\n0\r\n\r\n", b"5;a\nb\r\nabcde\r\n0\r\n\r\n", b"g\r\n0\r\n\r\n",
        b"5\r\nabcdef\r\n0\r\n\r\n", b"5\r\nabcde0\r\n\r\n", b"5\r\nabcde\n0\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\nabcde\r\n",
        b"0\r\nX: y\r\n\r\n", b"0\r\nX: y\n\r\n", b"0\n\r\n", b"005\r\nabcde\r\n0\r\n\r\n", b"\r\nabcde\r\n0\r\n\r\n",
    ]:
        yield post + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    for line in [
        b"GET  /ok HTTP/1.1", b"GET /ok  HTTP/1.1", b"GET\t/ok HTTP/1.1", b"GET /ok HTTP/1.1 ", b"GET /ok HTTP/1.2",
        b"GET /ok HTTP/2.0", b"GET /ok http/1.1", b"\r\nGET /ok HTTP/1.1", b"\nGET /ok HTTP/1.1", b"GET /ok\0 HTTP/1.1",
        b"GET http://a/ok HTTP/1.1", b"G(T /ok HTTP/1.1", b"GET /ok HTTP/1.1\r", b"GET /o\x7fk HTTP/1.1",
    ]:
        yield line + b"\r\nHost: a\r\n\r\n"


def answers(port, data):
    """Statuses below 400 that came for these bytes: requests that were served."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as s:
        try:
            s.sendall(data)
            while more := s.recv(1 << 16):
                got += more
        except OSError:
            pass
    return sum(got.count(b"HTTP/1.1 " + status) for status in (b"200", b"404"))


def main():
    node = Node(sys.argv[1])
    wasm = pathlib.Path(node.scratch.name) / "ok.wasm"
    wasm.write_bytes(wat2wasm((FAULTS / "counts-its-body.wat").read_text()))
    node.deploy(wasm, "ok")
    with tempfile.TemporaryDirectory() as directory:
        port, back = free(), free()
        config = pathlib.Path(directory) / "nginx.conf"
        config.write_text(CONFIG.format(dir=directory, port=port, back=back))
        nginx = subprocess.Popen(["nginx", "-e", f"{directory}/error.log", "-c", str(config)])
        time.sleep(1)
        ours = int(node.gateway.rsplit(":", 1)[1])
        smuggled, stricter, count = [], 0, 0
        for vector in vectors():
            theirs, mine = answers(port, vector + HIDDEN), answers(ours, vector + HIDDEN)
            count += 1
            stricter += mine < theirs
            if mine > theirs:
                smuggled.append(f"{vector!r}: nginx {theirs}, mayfly {mine}")
        nginx.terminate()
        nginx.wait()
    ended_well = node.stop()
    print(f"{count} vectors: {len(smuggled)} served beyond nginx, {stricter} refused that nginx serves")
    print("\n".join(smuggled))
    sys.exit(bool(smuggled) or not ended_well)


def free():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


if __name__ == "__main__":
    main()
