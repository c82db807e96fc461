#!/usr/bin/env bash
# Runs the interoperability suites against SERVER_BIN (default: target/release/kvorum).
#
#   tests/interop/run.sh                      everything, a few minutes
#   tests/interop/run.sh ./clients -run Watch what go test is told instead
#   tests/interop/image/test.sh               the image alone
#   LONG=1 tests/interop/run.sh               the long figures, about an hour
#   SERVER_BIN=…/etcd tests/interop/run.sh    the suites prove themselves on etcd
#
# The seed of every random test is printed; SEED= replays it. README.md lists what else can be set.
# Attacks and clusters come last, each alone: how fast they are is measured.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

[ -n "${SERVER_BIN:-}" ] || SERVER_BIN="$here/../../target/release/kvorum"
for name in SERVER_BIN ETCD_BIN ETCDCTL_BIN ETCDUTL_BIN; do
    path=${!name:-}
    [ -z "$path" ] || export "$name=$(realpath -m "$path")"
done

cd "$here"
built=$(./build.sh)
[ -z "$built" ] || echo "$built"
case "$built" in skipped:*) exit 0 ;; esac

parallel=2
if [ "${LONG:-}" = 1 ]; then
    export LONG OPS=${OPS:-100000} K8S_SECONDS=${K8S_SECONDS:-300} ROUNDS=${ROUNDS:-200}
    export CUTS=${CUTS:-50}
    parallel=1
fi

# What is under test is not part of the test binary: a cached result would be about another one.
suite() {
    nice -n 10 go test -v -count=1 -p "$parallel" -timeout 90m "$@" \
        | grep --line-buffered -v -E '^=== (RUN|PAUSE|CONT|NAME)' || return 1
}

# Histories of clusters are judged by tests/checker, which lives in cargo's test binary.
checker() {
    case ",${NOT_BUILT:-}," in *,cluster,*) return 0 ;; esac
    [ -z "${CHECKER_BIN:-}" ] || return 0
    CHECKER_BIN=$(cd ../.. && cargo test --no-run --test tests 2>&1 \
        | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
    CHECKER_BIN=$(realpath "../../$CHECKER_BIN")
    export CHECKER_BIN
}

echo "under test: $SERVER_BIN${ENGINE:+ on $ENGINE}"
[ $# -gt 0 ] || set -- ./...
status=0
if [ "$*" = ./... ]; then
    suite $(go list ./... | grep -v -e '/cluster$' -e '/dos$') || status=1
    # Its bars want a machine that does nothing else.
    [ "${LONG:-}" != 1 ] || suite ./dos || status=1
    [ "$(basename "$SERVER_BIN")" = etcd ] || image/test.sh || status=1
    checker && suite ./cluster || status=1
else
    case "$*" in *cluster*) checker ;; esac
    suite "$@" || status=1
fi
if [ "${LONG:-}" = 1 ] && [ -z "${ENGINE:-}" ] && [ "$(basename "$SERVER_BIN")" != etcd ] \
    && [ "$*" = ./... ]; then
    echo "under test: $SERVER_BIN on sled"
    ENGINE=sled suite ./durability ./differential || status=1
fi
exit $status
