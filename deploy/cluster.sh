#!/bin/sh
# Runs a cluster with TLS on this machine: to try things, and to watch it survive.
#
#   deploy/cluster.sh up              makes certificates, starts m1, m2 and m3
#   deploy/cluster.sh kill m2         kill -9
#   deploy/cluster.sh start m2        starts it again
#   deploy/cluster.sh stop [m2]       SIGTERM, to one or all
#   deploy/cluster.sh add m4          adds a member; "add m4 --learner" one without a vote
#   deploy/cluster.sh remove m4       removes a member and its data
#   deploy/cluster.sh status          who is there, who leads
#   deploy/cluster.sh ctl ...         etcdctl with the cluster's addresses and certificates
#
#   DIR       everything there is of the cluster       (./cluster)
#   BIN       kvorum, or etcd: nothing here differs    (target/release/kvorum, or that of PATH)
#   ETCDCTL   the client                               (etcdctl)
#   SIZE      members that "up" founds                 (3)
#   PORT      of m1: clients, then peers, then health  (2379); m2 has PORT + 10, and so on
#
# Member m1 is DIR/m1.env, made by env.sh; DIR/pki/m1, by certs.sh; DIR/m1.log; and DIR/m1.data.
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)

dir=${DIR:-cluster}
bin=${BIN:-$here/../target/release/kvorum}
[ -n "${BIN:-}" ] || [ -x "$bin" ] || bin=kvorum
patience=60

usage() { sed -n 's/^#   \(deploy.*\)/\1/p' "$0" >&2; exit 2; }

# The place of a member follows from the number in its name.
member() {
    case "$1" in
        m[1-9]) echo "$1=127.0.0.1:$((${PORT:-2379} + 10 * (${1#m} - 1)))" ;;
        *) echo "members are called m1 to m9, not $1" >&2; exit 2 ;;
    esac
}

# known: all members that have an environment file.
known() { for file in "$dir"/m?.env; do [ ! -e "$file" ] || basename "$file" .env; done; }

must_know() {
    [ -e "$dir/$1.env" ] || { echo "there is no $1 in $dir" >&2; exit 2; }
}

# Where nobody reaps it, a process that has ended is still there, as a zombie.
running() {
    [ -e "$dir/$1.pid" ] || return 1
    pid=$(cat "$dir/$1.pid")
    kill -0 "$pid" 2>/dev/null || return 1
    case "$(ps -o stat= -p "$pid" 2>/dev/null)" in Z*) return 1 ;; esac
}

# prepare NAME MEMBER...: its certificates and its environment file, but not its process.
prepare() {
    name=$1
    shift
    "$here/certs.sh" "$dir/pki" "$(member "$name")"
    PKI=$dir/pki/$name DATA=$dir/$name.data "$here/env.sh" "$name" "$@" >"$dir/$name.env"
}

spawn() {
    if running "$1"; then return; fi
    : >"$dir/$1.log"
    (
        set -a
        # shellcheck source=/dev/null
        . "$dir/$1.env"
        exec nohup "$bin"
    ) >>"$dir/$1.log" 2>&1 </dev/null &
    echo $! >"$dir/$1.pid"
}

await() {
    tenths=0
    until grep -q "ready to serve client requests" "$dir/$1.log"; do
        if ! running "$1" || [ $tenths -ge $((patience * 10)) ]; then
            tail -n 5 "$dir/$1.log" >&2
            echo "$1 does not serve; its log is $dir/$1.log" >&2
            exit 1
        fi
        sleep 0.1
        tenths=$((tenths + 1))
    done
    echo "$1 serves, process $(cat "$dir/$1.pid")"
}

halt() {
    if running "$2"; then kill "-$1" "$(cat "$dir/$2.pid")"; fi
    while running "$2"; do sleep 0.1; done
    rm -f "$dir/$2.pid"
}

endpoints() { for each in "$@"; do member "$each"; done | sed 's|.*=|https://|' | paste -s -d ,; }

# at ENDPOINTS ...: etcdctl with the certificates of the client.
at() {
    where=$1
    shift
    "${ETCDCTL:-etcdctl}" --endpoints "$where" --cacert "$dir/pki/ca.pem" \
        --cert "$dir/pki/client.pem" --key "$dir/pki/client-key.pem" "$@"
}

# shellcheck disable=SC2046 # a list
ctl() { at "$(endpoints $(known))" "$@"; }

# patiently NAME ...: etcdctl by way of the members but NAME. For five seconds after a member came
# back, the cluster lets nobody in or out; and whom it lets out can give no answer.
patiently() {
    others=''
    for each in $(known); do [ "$each" = "$1" ] || others="$others $each"; done
    shift
    for left in 9 8 7 6 5 4 3 2 1 0; do
        # shellcheck disable=SC2086 # a list
        if told=$(at "$(endpoints $others)" "$@" 2>&1); then echo "$told"; return; fi
        case "$left:$told" in
            0:*) break ;;
            *"unhealthy cluster"*) sleep 1 ;;
            *) break ;;
        esac
    done
    echo "$told" >&2
    exit 1
}

up() {
    names=$(known)
    if [ -z "$names" ]; then
        number=1 all=''
        while [ $number -le "${SIZE:-3}" ]; do
            names="$names m$number" all="$all $(member m$number)"
            number=$((number + 1))
        done
        # shellcheck disable=SC2086 # a list
        for name in $names; do prepare "$name" $all; done
    fi
    for name in $names; do spawn "$name"; done
    for name in $names; do await "$name"; done
}

# The cluster is told first, and tells what the member must be told.
add() {
    [ ! -e "$dir/$1.env" ] || { echo "$1 is there" >&2; exit 2; }
    name=$1 place=$(member "$1") port=${place##*:}
    shift
    told=$(patiently "$name" member add "$name" --peer-urls="https://127.0.0.1:$((port + 1))" "$@")
    echo "$told"
    prepare "$name" "$place"
    echo "$told" | grep '^ETCD_' >>"$dir/$name.env"
    spawn "$name"
    await "$name"
}

remove() {
    id=$(ctl member list | awk -F ', ' -v name="$1" '$3 == name { print $1 }')
    [ -n "$id" ] || { echo "the cluster has no $1" >&2; exit 1; }
    patiently "$1" member remove "$id"
    halt TERM "$1"
    rm -rf "$dir/$1.env" "$dir/$1.data" "$dir/pki/$1"
}

status() {
    ctl member list -w table
    alive=''
    for name in $(known); do
        if running "$name"; then alive="$alive $name"; else echo "$name is not running"; fi
    done
    # shellcheck disable=SC2086 # a list
    [ -z "$alive" ] || at "$(endpoints $alive)" endpoint status -w table
}

[ $# -ge 1 ] || usage
for program in "$bin" "${ETCDCTL:-etcdctl}"; do
    command -v "$program" >/dev/null && continue
    echo "there is no $program: set BIN, ETCDCTL" >&2
    exit 2
done
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
command=$1
shift
case "$command:$#" in
    up:0) up ;;
    start:1) must_know "$1"; spawn "$1"; await "$1" ;;
    kill:1) must_know "$1"; halt KILL "$1" ;;
    stop:1) must_know "$1"; halt TERM "$1" ;;
    stop:0) for name in $(known); do halt TERM "$name"; done ;;
    add:[12]) add "$@" ;;
    remove:1) must_know "$1"; remove "$1" ;;
    status:0) status ;;
    ctl:0) usage ;;
    ctl:*) ctl "$@" ;;
    *) usage ;;
esac
