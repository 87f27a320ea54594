#!/usr/bin/env python3
"""Remakes magika.onnx and kinds.tsv from the PyPI package magika.

usage: remake.py            (needs Python 3.9 and pip, nothing else)
"""

import hashlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).parent
PACKAGE = "magika==1.0.3"
WHEEL_SHA256 = "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529"
MODEL_SHA256 = "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c"
MODEL = "magika/models/standard_v3_3/model.onnx"
CONFIG = "magika/models/standard_v3_3/config.min.json"
KNOWLEDGE = "magika/config/content_types_kb.min.json"

# Answers that are given without the model, or in place of one that it is not sure of.
EXTRA = ["txt", "unknown", "empty"]


def main() -> None:
    wheel = zipfile.ZipFile(io.BytesIO(fetch(PACKAGE, WHEEL_SHA256)))
    model = wheel.read(MODEL)
    check(MODEL, model, MODEL_SHA256)
    (HERE / "magika.onnx").write_bytes(model)
    config = json.loads(wheel.read(CONFIG))
    knowledge = json.loads(wheel.read(KNOWLEDGE))
    table = "".join("\t".join(row) + "\n" for row in rows(config, knowledge))
    (HERE / "kinds.tsv").write_text(table, encoding="utf-8")


def rows(config: dict, knowledge: dict):
    """One line for each output of the model, in order, then the answers beside it."""
    labels = config["target_labels_space"]
    usual = config["medium_confidence_threshold"]
    for label in labels:
        threshold = config["thresholds"].get(label, usual)
        yield line(label, config["overwrite_map"].get(label, label), str(threshold), knowledge)
    for label in EXTRA:
        if label not in labels:
            yield line(label, label, "-", knowledge)


def line(label: str, shown: str, threshold: str, knowledge: dict) -> list:
    about = knowledge[label]
    nature = "text" if about["is_text"] else "binary"
    mime = about["mime_type"] or "application/octet-stream"
    return [label, shown, threshold, nature, mime, about["description"] or label]


def fetch(package: str, sha256: str) -> bytes:
    """The package's wheel, which must be the very one that this script was written for."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        platform = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.12"]
        subprocess.run([*pip, *platform, "--dest", folder, package], check=True)
        wheel = next(pathlib.Path(folder).iterdir()).read_bytes()
    check(package, wheel, sha256)
    return wheel


def check(name: str, content: bytes, sha256: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        sys.exit(f"{name}: SHA-256 is {found}, expected {sha256}")


if __name__ == "__main__":
    main()
