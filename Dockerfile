# The image of kvorum: the program, the C library it is linked with, and nothing else.
#
#   docker build -t kvorum .                               compiles, in the image BUILDER names
#   docker build -t kvorum --build-arg BINARY=built .      takes target/release/kvorum as it is
#
# It is used as etcd's image is: without an entrypoint, so that a command begins with the program,
# be it called kvorum or etcd; settings are flags or ETCD_* variables; data is under /var/lib/etcd.
#
#   docker run --net=host -v kvorum:/var/lib/etcd kvorum
#   docker run -p 2379:2379 kvorum etcd --listen-client-urls=http://0.0.0.0:2379 \
#       --advertise-client-urls=http://127.0.0.1:2379
#
# A binary that was built elsewhere must not ask for a newer C library than BUILDER has.
# tests/interop/image/test.sh builds it and runs it.
ARG BUILDER=rust:1-slim-bookworm
ARG BINARY=compiled

FROM ${BUILDER} AS built
COPY target/release/kvorum /kvorum

FROM ${BUILDER} AS compiled
WORKDIR /source
COPY . .
RUN cargo build --release --locked --bin kvorum && mv target/release/kvorum /kvorum

FROM ${BINARY} AS image
WORKDIR /image
RUN set -eu; \
    mkdir -p usr/local/bin etc; \
    strip -o usr/local/bin/kvorum /kvorum; \
    ln -s kvorum usr/local/bin/etcd; \
    for file in $(ldd /kvorum | grep -o '/[^ ]*'); do \
        mkdir -p "./${file%/*}"; \
        cp -L "$file" "./$file"; \
    done; \
    echo 'kvorum:x:65532:65532::/var/lib/etcd:/' >etc/passwd; \
    echo 'kvorum:x:65532:' >etc/group; \
    install -d -m 700 -o 65532 -g 65532 var/lib/etcd; \
    install -d -m 1777 tmp

FROM scratch
COPY --from=image /image /
ENV PATH=/usr/local/bin
USER 65532:65532
WORKDIR /var/lib/etcd
EXPOSE 2379 2380
CMD ["/usr/local/bin/kvorum"]
