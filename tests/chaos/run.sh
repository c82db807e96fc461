#!/bin/sh
# Lets faults of all kinds happen to clusters under load, by lot, and has it judged what clients saw.
#
#   tests/chaos/run.sh                                       five minutes of everything
#   tests/chaos/run.sh SECONDS=7200 TOTALS=chaos.jsonl       two hours, each round's counts appended
#   tests/chaos/run.sh FAULTS='power|full' MEMBERS=5 SEED=7  some kinds, five members, a seed again
#   tests/chaos/run.sh sum chaos.jsonl...                    the table of several such files
#
# It ends with a table, and with an error if anything was wrong; then histories and logs are kept,
# and it is said where. README.md tells the faults, and what must hold amid them. Needed: root, Go,
# ip and nft; for some faults more, and what is missing is said. With CI=true it is installed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

if [ "${1:-}" = sum ]; then
    shift
    for file in "$@"; do set -- "$@" "$(realpath "$file")"; shift; done
    cd "$here"
    exec go run ./totals "$@"
fi

# shellcheck disable=SC3028 # Where the shell counts them it has not counted far.
seconds=${SECONDS:-0}
for setting in "$@"; do
    case "$setting" in
        SECONDS=*) seconds=${setting#*=} ;;
        [A-Z]*=*) export "${setting?}" ;;
        *) echo "not a setting: $setting" >&2; exit 2 ;;
    esac
done
[ "$seconds" -gt 4 ] || seconds=300
export CHAOS_SECONDS="$seconds"

# Program and package of Debian; without the first three there is no cluster to break.
for tool in go:golang ip:iproute2 nft:nftables mkfs.ext4:e2fsprogs tc:iproute2 strace:strace \
    faketime:faketime openssl:openssl; do
    program=${tool%%:*} package=${tool##*:}
    command -v "$program" >/dev/null && continue
    if [ "${CI:-}" = true ] && [ "$program" != go ]; then
        apt-get update -q && apt-get install -qy --no-install-recommends "$package"
        continue
    fi
    echo "missing: $program (Debian: $package)"
    case "$program" in go | ip | nft) echo "chaos cannot run without it" >&2; exit 1 ;; esac
done
[ "$(id -u)" = 0 ] || { echo "chaos cannot run without root" >&2; exit 1; }

SERVER_BIN=$(realpath -m "${SERVER_BIN:-$here/../../target/release/kvorum}")
export SERVER_BIN
[ -z "${TOTALS:-}" ] || { TOTALS=$(realpath -m "$TOTALS") && export TOTALS; }
if [ -z "${CHECKER_BIN:-}" ]; then
    CHECKER_BIN=$(cd "$here/../.." && cargo test --no-run --test tests 2>&1 \
        | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
    CHECKER_BIN="$here/../../$CHECKER_BIN"
fi
CHECKER_BIN=$(realpath -m "$CHECKER_BIN")
export CHECKER_BIN
for file in "$SERVER_BIN" "$CHECKER_BIN"; do
    [ -f "$file" ] || { echo "there is no $file: cargo build --release" >&2; exit 1; }
done

FOLDER=$(mktemp -d "${FOLDER:-${TMPDIR:-/tmp}}/kvorum-chaos-XXXXXX")
export TMPDIR="$FOLDER" HISTORIES="$FOLDER" REQUIRE_FAULTS="${REQUIRE_FAULTS:-${CI:+1}}"
cd "$here"
echo "under test: $SERVER_BIN, for $seconds s; logs and histories: $FOLDER"
go test -c -o "$FOLDER/chaos.test" .
# Its mounts are its own: nobody else can hold a disk that has lost its power, and a run that is
# killed leaves none.
{
    unshare --mount "$FOLDER/chaos.test" -test.v -test.timeout 0 -test.run '^TestChaos$' 2>&1 \
        || echo $? >"$FOLDER/failed"
} | tee "$FOLDER/log" | sed -u '/^=== /d'
# faketime shares its clock in memory, and who is killed leaves that behind.
for shared in /dev/shm/faketime_shm_* /dev/shm/sem.faketime_sem_*; do
    [ ! -e "$shared" ] || kill -0 "${shared##*_}" 2>/dev/null || rm -f "$shared"
done
status=$(cat "$FOLDER/failed" 2>/dev/null || echo 0)
if [ "$status" = 0 ]; then
    rm -rf "$FOLDER"
else
    rm -f "$FOLDER/chaos.test"
    echo "FAILED: what there is to look at is in $FOLDER"
fi
exit "$status"
