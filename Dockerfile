# syntax=docker/dockerfile:1
# The image of `epp`: one binary on a base without shell or package manager, as a user without rights. docs/image.md
# tells how to build and run it; tools/image_checks.py holds this file against the sources.
# Builder and base are the same Debian release, so that the binary finds the C library it was linked against. Both are
# named by tag, for amd64 and arm64 alike, so that a rebuild gets their fixes; pin them with --build-arg to a digest
# that you looked up.
ARG BUILDER=docker.io/library/rust:1.95-trixie
ARG BASE=gcr.io/distroless/cc-debian13:nonroot

FROM ${BUILDER} AS build
WORKDIR /src
# Only what the binary is made of: nothing else makes a new layer. Cargo wants to see the benches that it does not build.
COPY Cargo.toml Cargo.lock build.rs ./
COPY build build
COPY config/default-plugins.yaml config/legacy-plugins.yaml config/
COPY fuzz/targets fuzz/targets
COPY benches benches
COPY plugins plugins
COPY proto proto
COPY src src
ARG EPP_COMMIT=unknown
ARG EPP_BUILD_REF=unknown
ARG TARGETARCH
# Downloads and compiled dependencies live in cache mounts: they outlast a change of the sources, and stay out of layers.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,id=epp-target-${TARGETARCH},target=/src/target,sharing=locked \
    cargo build --locked --profile image --bin epp && cp target/image/epp /epp

FROM ${BASE}
ARG EPP_COMMIT=unknown
ARG EPP_SOURCE=
LABEL org.opencontainers.image.title="epp" \
      org.opencontainers.image.description="Endpoint Picker for the Kubernetes Gateway API Inference Extension" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${EPP_SOURCE}" \
      org.opencontainers.image.revision="${EPP_COMMIT}"
COPY LICENSE /LICENSE
COPY --from=build /epp /epp
# As a number, so that Kubernetes can see that it is not root.
USER 65532:65532
# ext_proc, gRPC health, metrics
EXPOSE 9002 9003 9090
ENTRYPOINT ["/epp"]
