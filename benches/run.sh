#!/bin/sh
# The whole table of docs/performance.md: this tree's kvorum beside an etcd, by turns.
#
#   benches/run.sh /path/to/etcd [arguments of the loader...]
#
# It takes some forty minutes; a few rows take a few: --rows put256,get. The machine should have
# nothing else to do. Data goes to target/loader unless --dir names a place on another disk.
# With --members 3 it is clusters that are compared, and the table is another.
set -eu

if [ $# -lt 1 ] || [ ! -x "$1" ]; then
    echo "usage: benches/run.sh /path/to/etcd [--members 3] [--rows ...] [--seconds 5] [--runs 5] [--quick]" >&2
    exit 2
fi
etcd=$(realpath "$1")
shift

cd "$(dirname "$0")/.."
cargo build --release --bin kvorum
cargo bench --bench loader -- \
    --target "etcd=$etcd" --target "kvorum=$PWD/target/release/kvorum" "$@"
