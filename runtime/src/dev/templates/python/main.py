"""A program that speaks CGI: the request is in its environment and on stdin, and what it prints is the response."""

import os
import sys


def greeting(query):
    name = query.removeprefix("name=") if query.startswith("name=") else None
    return f"Hello {name}, from Python\n" if name else "Hello from Python\n"


def main():
    path = os.environ.get("PATH_INFO", "")
    is_root = path in ("", "/")
    out = sys.stdout.buffer
    if is_root and os.environ["REQUEST_METHOD"] == "POST":
        out.write(b"Content-Type: application/octet-stream\n\n")
        while piece := sys.stdin.buffer.read1(16384):
            out.write(piece)
            # Without a flush all would leave together, at the end.
            out.flush()
    elif is_root:
        out.write(b"Content-Type: text/plain; charset=utf-8\n\n")
        out.write(greeting(os.environ.get("QUERY_STRING", "")).encode())
    elif path == "/lines":
        out.write(b"Content-Type: text/plain; charset=utf-8\n\n")
        for n in range(1, 4):
            out.write(f"line {n}\n".encode())
            out.flush()
    else:
        out.write(b"Status: 404\nContent-Type: text/plain; charset=utf-8\n\nno such page\n")


main()
