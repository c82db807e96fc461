#!/usr/bin/env bash
# Takes into the corpora what runs came upon: fuzz/keep.sh [TARGET...]
#
# Of fuzz/found/TARGET come the fewest inputs that reach what the corpus does not, the shortest of
# them first, as far as there is room. What has a name stays: it was put there by hand.
set -euo pipefail
cd "$(dirname "$0")/.."
bytes_max=20000

host=$(rustc +nightly -vV | sed -n 's/^host: //p')
export ASAN_OPTIONS=quarantine_size_mb=16:detect_odr_violation=0
best=$(mktemp -d)
trap 'rm -rf "$best"' EXIT
for target in ${*:-$(cargo +nightly fuzz list)}; do
    corpus=fuzz/corpus/$target
    rm -rf "$best"
    mkdir -p "$best" "$corpus" "fuzz/found/$target"
    # What is kept by hand comes first, the rest is judged anew.
    find "$corpus" -type f -regextype posix-extended -not -regex '.*/[0-9a-f]{40}' \
        -exec cp -t "$best" {} +
    "fuzz/target/$host/release/$target" "$best" "$corpus" "fuzz/found/$target" -merge=1 \
        -artifact_prefix="$best/" -rss_limit_mb=2048 -timeout=60 >/dev/null 2>&1
    find "$corpus" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -delete
    bytes=$(find "$corpus" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }')
    while read -r size path; do
        case ${path##*/} in
            *[!0-9a-f]*) continue ;;
        esac
        bytes=$((bytes + size))
        [ "$bytes" -le "$bytes_max" ] || break
        cp "$path" "$corpus"
    done < <(find "$best" -type f -printf '%s %p\n' | sort -n)
    printf '%-16s%s inputs, %s bytes\n' "$target" "$(find "$corpus" -type f | wc -l)" \
        "$(find "$corpus" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }')"
done
