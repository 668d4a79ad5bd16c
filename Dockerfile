# Redis of Debian 12 with the module, the policies and the scripts of deploy/. It serves as any user without rights, with a root
# file system that nobody writes to.
#
#   docker build -t redis-bull .
#   docker run -v queues:/data redis-bull        a node by itself; deploy/redis/render names the settings
#
# Versions are pinned as far as Debian keeps them: its security updates of a version come in.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      build-essential=12.* ca-certificates=20* libclang-dev=1:14.* \
      cargo-web=1.96.* rustc-web=1.96.* rust-web-src=1.96.* rust-web-llvm=1.96.* lld-22=1:22.* \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/redis-bull
COPY . .
RUN scripts/build

FROM ${BASE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# The identity comes first, so that it has the number that deploy/kubernetes asks for.
RUN groupadd --gid 6379 redis-bull \
 && useradd --uid 6379 --gid 6379 --no-create-home --home-dir /data --shell /usr/sbin/nologin redis-bull \
 && apt-get update \
 && apt-get install -y --no-install-recommends redis-server=5:7.0.15-* redis-tools=5:7.0.15-* \
 && rm -rf /var/lib/apt/lists/* /etc/redis/redis.conf \
 && install -d -o 6379 -g 6379 -m 0700 /data /etc/redis-bull
COPY --from=build /opt/redis-bull/target/release/libbull.so /opt/redis-bull/target/release/
COPY --from=build /opt/redis-bull/target/policies/ /opt/redis-bull/target/policies/
COPY LICENSE /opt/redis-bull/
COPY deploy/ /opt/redis-bull/deploy/
ENV BULL_DIR=/data
USER 6379:6379
WORKDIR /data
VOLUME /data
EXPOSE 6379 16379 9465
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=12s --start-period=10s --retries=20 \
  CMD ["/opt/redis-bull/deploy/kubernetes/bin/probe", "live"]
ENTRYPOINT ["/opt/redis-bull/deploy/kubernetes/bin/entry"]
