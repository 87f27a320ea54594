#!/usr/bin/env python3
# A program for CPython's wsgiref: it says what it found of its request.
import json
import zlib
from wsgiref.handlers import CGIHandler


def answer(environ, start_response):
    # WSGI programs read as much as they are told of, and no more (PEP 3333).
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    said = {
        "method": environ["REQUEST_METHOD"], "read": len(body), "crc": zlib.crc32(body),
        "path": environ.get("PATH_INFO", ""), "query": environ.get("QUERY_STRING", ""),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]


CGIHandler().run(answer)
