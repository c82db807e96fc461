#!/bin/sh
# Builds etcd, etcdctl and etcdutl, at the version go.mod pins, into .cache/bin.
#
# Nothing is built when binaries of the pinned version are already there. Without Go the tests
# here cannot run at all: CI must then fail, a developer's machine may go without.
set -eu
cd "$(dirname "$0")"

if ! command -v go >/dev/null 2>&1; then
    if [ "${CI:-}" = "true" ]; then
        echo "tests/interop: go is needed and missing" >&2
        exit 1
    fi
    echo "skipped: needs go"
    exit 0
fi

bin=.cache/bin
version=$(go list -m -f '{{.Version}}' go.etcd.io/etcd/server/v3)
stamp="$version $(go env GOVERSION)"
if [ "$(cat "$bin/VERSION" 2>/dev/null || true)" = "$stamp" ] \
    && [ -x "$bin/etcd" ] && [ -x "$bin/etcdctl" ] && [ -x "$bin/etcdutl" ]; then
    exit 0
fi

mkdir -p "$bin"
rm -f "$bin/VERSION"
for pair in etcd:server etcdctl:etcdctl etcdutl:etcdutl; do
    # Built beside its final name and renamed: an interrupted build leaves no half binary.
    CGO_ENABLED=0 nice -n 10 go build -mod=readonly -trimpath -ldflags='-s -w' \
        -o "$bin/${pair%%:*}.new" "go.etcd.io/etcd/${pair##*:}/v3"
    mv "$bin/${pair%%:*}.new" "$bin/${pair%%:*}"
done
echo "$stamp" > "$bin/VERSION"
echo "built etcd, etcdctl and etcdutl $version"
