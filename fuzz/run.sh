#!/usr/bin/env bash
# Builds every fuzz target and runs each for a while: fuzz/run.sh [SECONDS] [TARGET...]
# What a target finds is in fuzz/artifacts; `cargo +nightly fuzz run TARGET FILE` shows it again.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift $(($# > 0))

cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
cargo +nightly fuzz build
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for target in ${*:-$(cargo +nightly fuzz list)}; do
    mkdir -p "fuzz/corpus/$target"
    inputs=("fuzz/corpus/$target")
    # Long inputs from the start, for a model needs many steps to come to anything.
    options=("-max_total_time=$seconds" -rss_limit_mb=4096 -len_control=0 -max_len=2000)
    if [ "$target" = bolt_file ]; then
        inputs+=(tests/fixtures/bolt)
        options=("${options[@]/-max_len=2000/-max_len=65536}")
    fi
    if ! cargo +nightly fuzz run "$target" "${inputs[@]}" -- "${options[@]}" >"$log" 2>&1; then
        cat "$log"
        exit 1
    fi
    printf '%-16s%s\n' "$target" "$(grep '^Done' "$log")"
done
