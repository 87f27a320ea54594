#!/bin/sh
# Builds the samples with models one after the other, which takes minutes the first time, and deploys each to the node
# that `make run` starts. Called by it: follow.sh NAME..., with MAKE, MAYFLY, GUESTS and STATE.
set -eu
export MAYFLY_STATE_DIR="$STATE"
node=$PPID

# Both ends of one terminal: with the node, this ends too.
alive() { kill -0 "$node" 2>/dev/null; }

until "$MAYFLY" list >/dev/null 2>&1; do
	alive || exit 0
	sleep 0.2
done
echo "The models are being built and follow: $*"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
built=
for name in "$@"; do
	# With those before it: alone it would ask other features of the SDK, which would be built once more.
	built="$built $name"
	if ! "$MAKE" --no-print-directory model-guests MODELS="$built" >"$log" 2>&1; then
		echo "$name could not be built:"
		tail -n 20 "$log"
		exit 1
	fi
	alive || exit 0
	"$MAYFLY" deploy "$GUESTS/$name.wasm" --name "$name" >"$log" 2>&1 || { cat "$log"; continue; }
	case $name in
	classify) with=functions/classify/pictures/cat.png ;;
	*) with=Makefile ;;
	esac
	echo "$name is there; try:"
	echo "  curl --data-binary @$with http://127.0.0.1:3000/$name"
done
