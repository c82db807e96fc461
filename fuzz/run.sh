#!/usr/bin/env bash
# Builds every fuzz target once and runs each for a while: fuzz/run.sh [SECONDS] [TARGET...]
#
# Each begins with fuzz/corpus/TARGET, and what it comes upon goes to fuzz/found/TARGET, which the
# next run begins with too; fuzz/keep.sh takes the best of it into the corpus. A night:
#
#     fuzz/run.sh 1200 && fuzz/keep.sh
#
# An input that panics, overflows, takes more than two seconds (TIMEOUT=20 where others want the
# processors too) or more than 512 MiB ends the run with its path. When its cause is mended, it goes
# to fuzz/corpus/TARGET, where `cargo test` runs it for ever.
#
# Waiting for what they would test: permissions of roles and tokens of users
# (auth), the JSON gateway.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift $(($# > 0))

cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
cargo +nightly fuzz build
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
# The sanitizer keeps freed memory for a while, which counts.
export ASAN_OPTIONS=quarantine_size_mb=16:detect_odr_violation=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for target in ${*:-$(cargo +nightly fuzz list)}; do
    found=fuzz/found/$target artifacts=fuzz/artifacts/$target/
    mkdir -p "$found" "$artifacts"
    case $target in
        bolt_file) length=65536 ;;
        peer_request | peer_answer | certificates | config_file | wal_open) length=8192 ;;
        *) length=2000 ;;
    esac
    # Long inputs from the start, for a model needs many steps to come to anything.
    if ! "fuzz/target/$host/release/$target" "$found" "fuzz/corpus/$target" \
        -artifact_prefix="$artifacts" -max_total_time="$seconds" -rss_limit_mb=512 -timeout="${TIMEOUT:-2}" \
        -len_control=0 -max_len="$length" >"$log" 2>&1; then
        cat "$log"
        input=$(sed -n 's/^.*Test unit written to //p' "$log" | tail -n 1)
        echo "$target fails at ${input:-no input of its own}; to see it again:"
        echo "    cargo +nightly fuzz run $target $input"
        exit 1
    fi
    cover=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1)
    printf '%-16s%s, %s\n' "$target" "$(grep '^Done' "$log")" "$cover"
done
