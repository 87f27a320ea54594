#!/bin/sh
# Builds the distributed program with the profile of a load: pgo.sh GUESTS TARGET_DIR. What it makes is where a plain
# `cargo build --profile dist` puts it. Without llvm-profdata (`rustup component add llvm-tools`) it is that plain build.
set -eu
guests=$1 target=$2
cargo=${CARGO:-cargo}
host=$(rustc -vV | sed -n 's/^host: //p')
profdata=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
if ! [ -x "$profdata" ]; then
	echo "pgo: there is no llvm-profdata (rustup component add llvm-tools): the program is built without a profile" >&2
	exec $cargo build --profile dist --bin mayfly -p mayfly-runtime -p mayfly-bench --bins
fi
# Apart from the rest, and for a named target, so that build scripts and macros are not instrumented.
of_profile=$target/pgo raw=$target/pgo/raw
mkdir -p "$raw"
rm -f "$raw"/*
# What is measured is what is served: the samples, over HTTP, with one client and with many.
RUSTFLAGS="-Cprofile-generate=$raw" $cargo build --profile dist --target "$host" --target-dir "$of_profile" \
	--bin mayfly -p mayfly-runtime -p mayfly-bench --bins
built=$of_profile/$host/dist
cp "$guests/runner.wasm" "$built/"
"$built/mayfly-bench" run --size quick --only throughput --no-peers --mayfly "$built/mayfly" --guests "$guests" \
	--out "$of_profile/results" --name pgo >/dev/null
"$profdata" merge -o "$of_profile/mayfly.profdata" "$raw"
RUSTFLAGS="-Cprofile-use=$of_profile/mayfly.profdata" $cargo build --profile dist --target "$host" \
	--target-dir "$of_profile/use" --bin mayfly -p mayfly-runtime -p mayfly-bench --bins
mkdir -p "$target/dist"
for program in mayfly mayfly-bench peer-bare-hyper peer-cgi peer-cgi-hello; do
	cp "$of_profile/use/$host/dist/$program" "$target/dist/"
done
