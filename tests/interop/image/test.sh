#!/usr/bin/env bash
# Builds the image of the Dockerfile around SERVER_BIN and runs it, without a registry and without
# a daemon: buildah with chroot isolation, over a base that debootstrap makes and .cache/ keeps.
#
#   tests/interop/image/test.sh         a minute the first time, then half of it
#
# It needs root, buildah and debootstrap (in Debian, packages of these names). CI must have them,
# a developer's machine may go without. What compiles the program within the image is not run, as
# it takes as long as any release build; that its sources reach it is looked at.
set -euo pipefail
cd "$(dirname "$0")"
repository=$(realpath ../../..)
binary=$(realpath -m "${SERVER_BIN:-$repository/target/release/kvorum}")
etcdctl=$(realpath -m "${ETCDCTL_BIN:-../.cache/bin/etcdctl}")
bytes_max=40000000
patience=30
bootstrap_seconds=75

fail() { echo "image: $*" >&2; exit 1; }

missing=''
for tool in buildah debootstrap; do
    command -v $tool >/dev/null || missing="$missing $tool"
done
[ "$(id -u)" = 0 ] || missing="$missing root"
if [ -n "$missing" ]; then
    [ "${CI:-}" != true ] || fail "needed and missing:$missing"
    echo "image: skipped: needs$missing"
    exit 0
fi
[ -x "$binary" ] || fail "there is no $binary"
[ -x "$etcdctl" ] || fail "there is no $etcdctl: build.sh makes it"

work=$(mktemp -d)
running=''
tidy_up() {
    [ -z "$running" ] || kill -KILL "$running" 2>/dev/null || true
    b rm --all >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap tidy_up EXIT

# b: buildah with a store of its own, which leaves nothing behind.
b() {
    buildah --storage-driver vfs --root "$work/store" --runroot "$work/run" "$@"
}
export BUILDAH_ISOLATION=chroot

# The C library of the base is the one that the binary was linked with: that of this machine.
base() {
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    tar=$(realpath -m "../.cache/image-base-$suite.tar")
    if [ -e "$tar" ]; then
        mkdir "$work/base"
        tar -C "$work/base" -xf "$tar"
    elif timeout $bootstrap_seconds debootstrap --variant=minbase --include=binutils "$suite" \
        "$work/base" >"$work/log" 2>&1; then
        mkdir -p "${tar%/*}"
        tar -C "$work/base" --exclude=./var/cache --exclude=./usr/share -cf "$tar.new" .
        mv "$tar.new" "$tar"
    else
        echo "image: debootstrap: $(tail -n 1 "$work/log"); the base is of this machine's tools"
        rm -rf --one-file-system "$work/base"
        own
    fi
    from=$(b from scratch)
    b add -q "$from" "$work/base" / >/dev/null
    b commit -q --rm "$from" base >/dev/null
}

# own: a base of what the Dockerfile calls, as it is on this machine; for when the mirror is slow.
own() {
    mkdir -p "$work/base/usr/bin" "$work/base/usr/lib" "$work/base/usr/lib64"
    ln -s usr/bin usr/lib usr/lib64 "$work/base"
    for tool in sh bash ldd strip cp ln mkdir install grep; do
        file=$(command -v $tool)
        # shellcheck disable=SC2046 # a list
        cp -L --parents "$file" $(libraries "$file") "$work/base"
    done
    # shellcheck disable=SC2046 # a list
    cp -L --parents $(libraries "$binary") "$work/base"
}

libraries() { ldd "$1" 2>/dev/null | grep -o '/[^ ]*' || true; }

build() {
    mkdir -p "$work/context/target/release"
    cp "$repository/Dockerfile" "$repository/.dockerignore" "$work/context"
    cp "$binary" "$work/context/target/release/kvorum"
    b build --build-arg BUILDER=localhost/base --build-arg BINARY=built -t kvorum \
        "$work/context" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; fail "not built"; }
}

# What "compiled" would compile: a whole crate, in which nothing that cargo looks for is missing.
sources() {
    command -v cargo >/dev/null || return 0
    printf 'FROM scratch\nCOPY . /\n' >"$work/Sources"
    b build -q -f "$work/Sources" -t sources "$repository" >"$work/log" 2>&1 \
        || { tail -n 20 "$work/log" >&2; fail "the sources cannot be copied"; }
    root=$(b mount "$(b from localhost/sources)")
    cargo metadata --quiet --locked --offline --no-deps --format-version 1 \
        --manifest-path "$root/Cargo.toml" >/dev/null || fail "cargo misses something"
    for folder in src proto; do
        diff -r "$repository/$folder" "$root/$folder" || fail "$folder is not all there"
    done
    for other in .git fuzz tests/interop target/debug; do
        [ ! -e "$root/$other" ] || fail "$other has no business in an image"
    done
}

# Without an entrypoint, on etcd's ports, in etcd's folder, as nobody of importance.
shape() {
    told=$(b inspect --type image --format \
        '{{with .OCIv1.Config}}{{.Entrypoint}} {{.Cmd}} {{.User}} {{.WorkingDir}} {{.ExposedPorts}}{{end}}' \
        localhost/kvorum)
    expected='[] [/usr/local/bin/kvorum] 65532:65532 /var/lib/etcd map[2379/tcp:{} 2380/tcp:{}]'
    [ "$told" = "$expected" ] || fail "it is made as $told"
    bytes=$(du -s --bytes "$root" | cut -f 1)
    [ "$bytes" -lt $bytes_max ] || fail "it has $bytes bytes"
}

# start: the command of the image, with settings in the environment, and ports that are free.
start() {
    local deadline=$((SECONDS + patience)) parent
    : >"$work/member.log"
    b run --env ETCD_NAME=boxed --env ETCD_INITIAL_CLUSTER=boxed=http://localhost:2380 \
        --env ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:0 \
        --env ETCD_ADVERTISE_CLIENT_URLS=http://localhost:2379 \
        --env ETCD_LISTEN_PEER_URLS=http://127.0.0.1:0 \
        "$container" /usr/local/bin/kvorum >>"$work/member.log" 2>&1 &
    parent=$!
    until grep -q 'ready to serve client requests' "$work/member.log"; do
        if [ $SECONDS -gt $deadline ] || ! kill -0 $parent 2>/dev/null; then
            tail -n 20 "$work/member.log" >&2
            fail "the member does not serve"
        fi
        sleep 0.1
    done
    # Of the processes in a row that buildah makes, the last is the member.
    running=$parent
    while child=$(pgrep -P "$running"); do running=$child; done
    [ "$(cat "/proc/$running/comm")" = kvorum ] || fail "process $running is not the member"
    endpoint=$(sed -n '/ready to serve/s/.*"address":"\([^"]*\)".*/\1/p' "$work/member.log")
}

# halt SIGNAL: and wait until it is gone.
halt() {
    local deadline=$((SECONDS + patience))
    kill "-$1" "$running"
    while kill -0 "$running" 2>/dev/null; do
        [ $SECONDS -le $deadline ] || fail "it does not end by $1"
        sleep 0.1
    done
    running=''
    wait || true
}

ctl() { "$etcdctl" --endpoints "$endpoint" "$@"; }

serves() {
    start
    owner=$(stat -c %u "/proc/$running")
    [ "$owner" = 65532 ] || fail "it runs as user $owner"
    [ "$(ctl put boxed once)" = OK ] || fail "it takes no write"
    halt KILL
    start
    [ "$(ctl get boxed --print-value-only)" = once ] || fail "it forgot"
    ctl member list | grep -q ', started, boxed, http://localhost:2380, ' \
        || fail "members are $(ctl member list)"
    halt TERM
    [ -d "$root/var/lib/etcd/boxed.etcd/member" ] || fail "its data is not in /var/lib/etcd"
}

base
build
container=$(b from localhost/kvorum)
root=$(b mount "$container")
shape
for name in kvorum etcd; do
    b run "$container" $name --version | grep -q '^etcd Version: 3\.' \
        || fail "$name --version does not answer"
done
serves
sources
echo "image: $bytes bytes; serves, remembers, ends; $SECONDS s"
