#!/bin/sh
# Puts what is handed to others into one archive: dist.sh BUILT GUESTS, the directories of the linked binary and of the
# guests. `make dist` builds both and calls it.
set -eu
built=$1 guests=$2
# Bytes that the program may have: more would be a dependency that nobody meant to add.
most=33000000

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=mayfly-$version-$(uname -m)-linux
to=$built/$name
rm -rf "$to"
mkdir -p "$to/bin" "$to/share/mayfly/functions" "$to/share/doc/mayfly"
strip -o "$to/bin/mayfly" "$built/mayfly"
size=$(wc -c <"$to/bin/mayfly")
if [ "$size" -gt "$most" ]; then
	echo "dist: the stripped binary has $size bytes, and $most are allowed" >&2
	exit 1
fi
# Where `mayfly deploy model.onnx` looks for it: ../share/mayfly, seen from the program.
cp "$guests/runner.wasm" "$to/share/mayfly/"
# The same for `mayfly deploy app.js`; it is not there where C for WASI could not be built, which was said.
[ ! -f "$guests/script.wasm" ] || cp "$guests/script.wasm" "$to/share/mayfly/"
for sample in hello hello-command echo classify filetype; do
	cp "$guests/$sample.wasm" "$to/share/mayfly/functions/"
done
cp README.md LICENSE CHANGELOG.md "$to/share/doc/mayfly/"
completion() {
	mkdir -p "$to/share/$2"
	"$to/bin/mayfly" completions "$1" >"$to/share/$2/$3"
}
completion bash bash-completion/completions mayfly
completion zsh zsh/site-functions _mayfly
completion fish fish/vendor_completions.d mayfly.fish
# The same bytes for the same files, whenever it is packed.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$built" -cf - "$name" | gzip -9n >"$to.tar.gz"
echo "$to.tar.gz: $(wc -c <"$to.tar.gz") bytes; bin/mayfly: $size bytes"
