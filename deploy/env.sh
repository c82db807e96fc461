#!/bin/sh
# Writes the environment file of one member: every setting it has, for kvorum or etcd alike.
#
#   deploy/env.sh NAME MEMBER...      MEMBER is NAME=ADDRESS[:PORT], all of them
#
#   deploy/env.sh m1 m1=10.0.0.1 m2=10.0.0.2 m3=10.0.0.3 >kvorum.env
#
# A member serves clients on PORT (2379 if not said), its peers on PORT + 1, and metrics, /livez
# and /readyz on PORT + 2 of this machine alone, without TLS, as kubeadm has it. What follows a
# comma after ADDRESS, for certs.sh, is passed over. ADDRESS is an IPv4 address: nothing listens
# on a name.
#
#   STATE   new, or existing for a member that joins       (new)
#   TOKEN   tells apart clusters with the same addresses   (kvorum)
#   PKI     where its certificates are, as certs.sh        (/etc/kvorum/pki)
#           makes them for it
#   DATA    where its data is                              (/var/lib/kvorum/NAME)
set -eu

[ $# -ge 2 ] || { sed -n 's/^#   \(deploy.*\)/usage: \1/p' "$0" | head -n 1 >&2; exit 2; }
name=$1
shift
pki=${PKI:-/etc/kvorum/pki}

address='' cluster=''
for member in "$@"; do
    place=${member#*=} place=${place%%,*}
    host=${place%%:*} port=2379
    [ "$host" = "$place" ] || port=${place#*:}
    case "$host,$port,${member%%=*}" in
        *[!0-9.]*,*,* | ,* | *,,* | *,*[!0-9]*,* | *, | *,*,*[!A-Za-z0-9._-]*)
            echo "not NAME=ADDRESS[:PORT]: $member" >&2
            exit 2
            ;;
    esac
    cluster=$cluster${cluster:+,}${member%%=*}=https://$host:$((port + 1))
    [ "${member%%=*}" != "$name" ] || { address=$host own=$port; }
done
[ -n "$address" ] || { echo "$name is none of: $*" >&2; exit 2; }

# Tools on the machine itself find the member on the loopback address, too.
listen=https://$address:$own
[ "$address" = 127.0.0.1 ] || listen=$listen,https://127.0.0.1:$own

cat <<ENV
ETCD_NAME=$name
ETCD_DATA_DIR=${DATA:-/var/lib/kvorum/$name}
ETCD_LISTEN_CLIENT_URLS=$listen
ETCD_ADVERTISE_CLIENT_URLS=https://$address:$own
ETCD_LISTEN_PEER_URLS=https://$address:$((own + 1))
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://$address:$((own + 1))
ETCD_LISTEN_METRICS_URLS=http://127.0.0.1:$((own + 2))
ETCD_INITIAL_CLUSTER=$cluster
ETCD_INITIAL_CLUSTER_STATE=${STATE:-new}
ETCD_INITIAL_CLUSTER_TOKEN=${TOKEN:-kvorum}
ETCD_CERT_FILE=$pki/server.pem
ETCD_KEY_FILE=$pki/server-key.pem
ETCD_CLIENT_CERT_AUTH=true
ETCD_TRUSTED_CA_FILE=$pki/ca.pem
ETCD_PEER_CERT_FILE=$pki/peer.pem
ETCD_PEER_KEY_FILE=$pki/peer-key.pem
ETCD_PEER_CLIENT_CERT_AUTH=true
ETCD_PEER_TRUSTED_CA_FILE=$pki/ca.pem
ENV
