#!/bin/sh
# Makes the certificates of a cluster with openssl alone, of the shape cfssl gives them:
# an RSA-2048 authority, ECDSA P-256 keys, and server and client usage for servers and peers,
# because a member calls the others with the certificate by which it answers them.
#
#   deploy/certs.sh DIR MEMBER...     MEMBER is NAME=ADDRESS[:PORT][,ADDRESS...]
#
#   deploy/certs.sh pki m1=10.0.0.1 m2=10.0.0.2,m2.example.net m3=10.0.0.3
#
# DIR/ca.pem, ca-key.pem            the authority; its key belongs on no member
# DIR/client.pem, client-key.pem    for etcdctl and kube-apiserver
# DIR/m1/{ca,server,peer}.pem …     what goes to that member, keys with it
#
# An authority and a client that are there stay. The named members get new certificates: that
# is how one is added, and how one is renewed. Members read them at the next handshake, so
# nothing needs a restart.
#
# DAYS says how long certificates live; five years if unset, as in cfssl's guides.
set -eu
umask 077

[ $# -ge 2 ] || { sed -n 's/^#   \(deploy.*\)/usage: \1/p' "$0" | head -n 1 >&2; exit 2; }
folder=$1
shift
days=${DAYS:-1825}

mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# "m2=10.0.0.2:2379,m2.example.net" and further hosts, as openssl wants them.
alternatives() {
    hosts=$(echo "${1#*=}" | tr ',' '\n' | sed 's/:[0-9]*$//')
    shift
    for host in $hosts "$@"; do
        case "$host" in
            *[!0-9.]*) echo "DNS:$host" ;;
            *) echo "IP:$host" ;;
        esac
    done | awk '!seen[$0]++' | paste -s -d ,
}

serial() { echo "0x$(openssl rand -hex 16)"; }

authority() {
    openssl genrsa -out "$work/key" 2048 2>/dev/null
    # PKCS#1, as cfssl writes it: a file that any tool takes.
    openssl rsa -in "$work/key" -traditional -out "$work/ca-key.pem" 2>/dev/null \
        || cp "$work/key" "$work/ca-key.pem"
    cat >"$work/ca.conf" <<CONF
[req]
distinguished_name = name
prompt = no
x509_extensions = authority
[name]
CN = etcd
[authority]
keyUsage = critical, keyCertSign, cRLSign
basicConstraints = critical, CA:TRUE
subjectKeyIdentifier = hash
CONF
    openssl req -x509 -new -sha256 -key "$work/ca-key.pem" -config "$work/ca.conf" \
        -days "$days" -set_serial "$(serial)" -out "$work/ca.pem"
    chmod 644 "$work/ca.pem"
    mv "$work/ca-key.pem" "$work/ca.pem" "$folder"
}

# leaf FILE COMMON-NAME USAGE [ALTERNATIVES]
leaf() {
    openssl ecparam -name prime256v1 -genkey -noout -out "$work/key.pem"
    openssl req -new -key "$work/key.pem" -subj "/CN=$2" -out "$work/request"
    {
        echo "keyUsage = critical, digitalSignature, keyEncipherment"
        echo "extendedKeyUsage = $3"
        echo "basicConstraints = critical, CA:FALSE"
        echo "subjectKeyIdentifier = hash"
        echo "authorityKeyIdentifier = keyid"
        [ -z "${4:-}" ] || echo "subjectAltName = $4"
    } >"$work/extensions"
    openssl x509 -req -sha256 -in "$work/request" -CA "$folder/ca.pem" \
        -CAkey "$folder/ca-key.pem" -set_serial "$(serial)" -days "$days" \
        -extfile "$work/extensions" -out "$work/cert.pem" 2>/dev/null
    chmod 644 "$work/cert.pem"
    # A member that reads between the two keeps the certificate it has until they fit.
    mv "$work/key.pem" "$1-key.pem"
    mv "$work/cert.pem" "$1.pem"
}

for member in "$@"; do
    case "$member" in
        *[!A-Za-z0-9.:,=_-]* | =* | *= | .*) bad=1 ;;
        *=*) bad='' ;;
        *) bad=1 ;;
    esac
    [ -z "$bad" ] || { echo "not NAME=ADDRESS[:PORT][,ADDRESS...]: $member" >&2; exit 2; }
done

if [ ! -s "$folder/ca.pem" ] || [ ! -s "$folder/ca-key.pem" ]; then authority; fi
[ -s "$folder/client.pem" ] || leaf "$folder/client" client clientAuth

for member in "$@"; do
    name=${member%%=*}
    mkdir -p "$folder/$name"
    cp -p "$folder/ca.pem" "$folder/$name/ca.pem"
    leaf "$folder/$name/server" "$name" "serverAuth, clientAuth" \
        "$(alternatives "$member" "$name" localhost 127.0.0.1)"
    # Members hold the addresses in it against the address they are called from.
    leaf "$folder/$name/peer" "$name" "serverAuth, clientAuth" "$(alternatives "$member")"
done
