# Twinlane's images: one target per program, for amd64 and arm64.
#
#   docker build --target precision-worker --tag twinlane/precision-worker .
#
# Targets: router, precision-worker, throughput-worker, cli, reference-events, and for amd64 precision-worker-gpu.
# Each architecture is built by itself: natively, or emulated with `docker buildx build --platform`.

# Both digests are those of the index, which holds both architectures. They were taken from public repositories that pin the
# same tags, since no image registry could be asked where this was written: the first pull confirms them or fails.
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082
ARG RUNTIME_IMAGE=debian:bookworm-20260824-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171

# ---- Tools ------------------------------------------------------------------------------------------------------------

FROM ${RUST_IMAGE} AS toolchain
# Named here, or rustup reads rust-toolchain.toml and fetches rustfmt and clippy, too. A test holds one against the other.
ENV RUSTUP_TOOLCHAIN=1.95.0
# g++, make and perl build librdkafka, its OpenSSL and jemalloc; pip fetches ONNX Runtime. Debian keeps one version of each, so
# none is named.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make perl python3-pip \
    && rm -rf /var/lib/apt/lists/*
RUN cargo install --locked --version 0.1.78 cargo-chef
WORKDIR /build

# ---- Programs ---------------------------------------------------------------------------------------------------------

# What the dependencies are: as long as that stays, so does the layer that compiles them.
FROM toolchain AS recipe
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM toolchain AS programs
# Function names stay for stack traces; lines do not, they are four fifths of a program.
ENV CARGO_INCREMENTAL=0 CARGO_PROFILE_RELEASE_DEBUG=none CARGO_PROFILE_RELEASE_STRIP=debuginfo
# The same for both, or the dependencies have other features and are compiled twice.
ENV PACKAGES="-p twinlane-router -p twinlane-precision-worker -p twinlane-throughput-worker -p twinlane-cli \
-p twinlane-replay -p xtask"
COPY --from=recipe /build/recipe.json recipe.json
# Kernels for ARM have pages of 4 or 64 KiB, and jemalloc must know the largest: docs/decisions/0014-jemalloc.md.
# hadolint ignore=SC2086
RUN case "$(uname -m)" in aarch64) export JEMALLOC_SYS_WITH_LG_PAGE=16 ;; esac \
    && cargo chef cook --locked --release --recipe-path recipe.json $PACKAGES
COPY . .
# hadolint ignore=SC2086
RUN case "$(uname -m)" in aarch64) export JEMALLOC_SYS_WITH_LG_PAGE=16 ;; esac \
    && cargo build --locked --release $PACKAGES \
    && mkdir /programs \
    && for program in router precision-worker throughput-worker twinlane reference-events xtask; do \
        cp "target/release/$program" /programs/ || exit 1; \
    done

# ---- Fetched files: version and digest of each are in xtask/src/downloads.rs ------------------------------------------

FROM toolchain AS fetch
ENV XTASK_CACHE=/fetched
COPY --from=programs /programs/xtask /usr/local/bin/xtask

FROM fetch AS onnxruntime
RUN xtask setup --only onnxruntime && mv /fetched/onnxruntime-* /onnxruntime

FROM fetch AS data
RUN xtask setup --only data

FROM fetch AS cuda
RUN xtask setup --only onnxruntime-gpu && mv /fetched/onnxruntime-gpu-* /onnxruntime
COPY deploy/docker/cuda.txt cuda.txt
RUN python3 -m pip install --no-cache-dir --no-deps --only-binary=:all: --require-hashes --target /packages \
        --requirement cuda.txt \
    && mkdir /cuda \
    && find /packages/nvidia -name '*.so*' -exec mv --target-directory=/cuda {} +

# ---- Images -----------------------------------------------------------------------------------------------------------

FROM ${RUNTIME_IMAGE} AS runtime
# The authorities that everybody knows, for brokers whose certificates are signed by one of them.
COPY --from=toolchain /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY schemas /schemas
COPY pipelines/commerce /pipelines/commerce
# ONNX Runtime gathers telemetry unless told not to before it is loaded; the programs tell it, too.
ENV ORT_DISABLE_TELEMETRY=1
# A number, so that Kubernetes sees that it is not root. Nothing is written: the root file system may be read-only.
USER 65532:65532

FROM runtime AS service
# A container is reached from outside of itself or not at all; who reaches this port is the network's matter.
ENV TWINLANE_PIPELINE=/pipelines/commerce/pipeline.yaml TWINLANE_SCHEMAS=/schemas \
    TWINLANE_ADMIN_HOST=0.0.0.0 TWINLANE_ADMIN_PORT=9464
EXPOSE 9464
# A service ends by itself 15 s after this signal at the latest.
STOPSIGNAL SIGTERM

FROM service AS router
COPY --from=programs /programs/router /usr/local/bin/router
HEALTHCHECK --interval=5s --timeout=5s --start-period=2m --retries=3 CMD ["router", "--check-health"]
ENTRYPOINT ["router"]

FROM service AS precision-worker-base
COPY --from=programs /programs/precision-worker /usr/local/bin/precision-worker
ENV ORT_DYLIB_PATH=/onnxruntime/libonnxruntime.so
HEALTHCHECK --interval=5s --timeout=5s --start-period=2m --retries=3 CMD ["precision-worker", "--check-health"]
ENTRYPOINT ["precision-worker"]

FROM precision-worker-base AS precision-worker
COPY --from=onnxruntime /onnxruntime /onnxruntime

FROM precision-worker-base AS precision-worker-gpu
COPY --from=cuda /onnxruntime /onnxruntime
COPY --from=cuda /cuda /cuda
# The driver's own libraries are the host's; its container toolkit mounts them when it sees these.
ENV LD_LIBRARY_PATH=/cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM service AS throughput-worker
COPY --from=onnxruntime /onnxruntime /onnxruntime
COPY --from=programs /programs/throughput-worker /usr/local/bin/throughput-worker
ENV ORT_DYLIB_PATH=/onnxruntime/libonnxruntime.so
HEALTHCHECK --interval=5s --timeout=5s --start-period=2m --retries=3 CMD ["throughput-worker", "--check-health"]
ENTRYPOINT ["throughput-worker"]

# The `twinlane` command: it does one thing and ends, so it has no health.
FROM runtime AS cli
COPY --from=onnxruntime /onnxruntime /onnxruntime
COPY --from=programs /programs/twinlane /usr/local/bin/twinlane
ENV ORT_DYLIB_PATH=/onnxruntime/libonnxruntime.so
ENTRYPOINT ["twinlane"]

# Sends events until it is stopped, and ends when they are not taken.
FROM ${RUNTIME_IMAGE} AS reference-events
COPY --from=data /fetched/data /data
COPY --from=programs /programs/reference-events /usr/local/bin/reference-events
USER 65532:65532
ENTRYPOINT ["reference-events", "--wheels", "/data"]
CMD ["send"]
