#!/bin/sh
# What compiles QuickJS for the guest `script`: Debian's clang with wasi-libc, by its own name for the target.
# `.cargo/config.toml` names this file.
here=$(dirname "$0")
if ! command -v clang >/dev/null || ! test -f "$(clang --target=wasm32-wasi -print-file-name=libc.a)" ||
	! command -v llvm-ar >/dev/null; then
	echo "the script runner is built with clang and wasi-libc: make toolchain-c" >&2
	echo "(Debian: apt-get install clang lld llvm wasi-libc libclang-rt-dev-wasm32)" >&2
	exit 1
fi
exec clang "$@" --target=wasm32-wasi -include "$here/quickjs.h"
