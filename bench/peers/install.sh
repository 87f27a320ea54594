#!/usr/bin/env bash
# Installs the peers from the package registries, each by itself: one that cannot be had is left out, loudly, and the
# bench then skips it. Usage: install.sh DIR
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?usage: install.sh DIR}
mkdir -p "$dir/models"
dir=$(cd "$dir" && pwd)

missing() { echo "NOT INSTALLED: $1; the bench will skip it" >&2; }

# wasmtime serve, and the component that it serves.
wasmtime_serve() {
    cargo install wasmtime-cli --version 48.0.8 --locked --root "$dir" --target-dir "$dir/build" --no-default-features \
        --features serve,run,compile,cranelift,pooling-allocator,component-model,component-model-async,parallel-compilation,wasi-http &&
    cd "$here/wasmtime-serve" &&
    cargo build --release --lib --target wasm32-wasip1 --target-dir "$dir/build" &&
    cargo run --bin componentize --target-dir "$dir/build" -- \
        "$dir/build/wasm32-wasip1/release/hello_p2.wasm" "$dir/hello-p2.wasm" &&
    "$dir/bin/wasmtime" compile -o "$dir/hello-p2.cwasm" "$dir/hello-p2.wasm"
}
(wasmtime_serve) || missing "wasmtime serve"

npm install --no-fund --no-audit --ignore-scripts --prefix "$dir" \
    workerd@1.20261117.1 onnxruntime-web@1.30.0 jpeg-js@0.4.4 || missing "workerd and onnxruntime-web (npm)"

{ python3 -m venv "$dir/python" && "$dir/python/bin/pip" install --quiet onnxruntime==1.32.0 pillow numpy onnx; } ||
    missing "onnxruntime (pip)"

"$dir/python/bin/python" "$here/../../functions/resnet18/tools/make_model.py" "$dir/models/resnet18.onnx" ||
    missing "the model of resnet18"

cp "$here/../../functions/classify/efficientnet_lite0_w8.onnx" "$dir/models/classify.onnx" ||
    missing "the model of classify"
