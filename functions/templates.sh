#!/bin/sh
# Makes a project of each template, builds it, runs its tests and calls it: templates.sh MAYFLY DIRECTORY [TEMPLATE...].
# A template whose toolchain is missing is said loudly and stops nothing; one that fails does, once all were tried.
set -eu
mayfly=$1 work=$2
shift 2
[ $# -gt 0 ] || set -- $("$mayfly" new -t list | sed -n '2,$s/ .*//p')
mkdir -p "$work"
passed= skipped= failed=
for template in "$@"; do
	dir=$work/$template
	kept=$work/$template.kept
	# What was compiled and installed the last time, which takes minutes; the project itself is made anew.
	rm -rf "$kept" && mkdir "$kept"
	for large in target node_modules; do
		[ ! -e "$dir/$large" ] || mv "$dir/$large" "$kept"
	done
	rm -rf "$dir"
	"$mayfly" new "try-$template" --template "$template" --dir "$dir" >"$work/$template.log"
	find "$kept" -mindepth 1 -maxdepth 1 -exec mv {} "$dir" \;
	rmdir "$kept"
	if ! "$mayfly" doctor "$dir" >"$work/$template.log" 2>&1; then
		echo "SKIPPED: $template was not built: $(grep '^MISSING' "$work/$template.log")"
		skipped="$skipped $template"
	elif "$mayfly" test "$dir" >"$work/$template.log" 2>&1; then
		echo "$template: $(tail -n 1 "$work/$template.log")"
		passed="$passed $template"
	else
		cat "$work/$template.log"
		echo "FAILED: $template, in $dir"
		failed="$failed $template"
	fi
done
echo "templates: passed$passed; skipped${skipped:- none}; failed${failed:- none}"
[ -z "$failed" ]
