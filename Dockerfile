# syntax=docker/dockerfile:1
# The image of `epp`: one binary on a base without shell or package manager, as a user without rights.
# Builder and base are the same Debian release, so that the binary finds the C library it was linked against.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# Downloads and compiled dependencies live in cache mounts: they outlast a change of the sources, and stay out of layers.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile image --bin epp && cp target/image/epp /epp

FROM gcr.io/distroless/cc-debian12:nonroot
COPY LICENSE /LICENSE
COPY --from=build /epp /epp
# ext_proc, gRPC health, metrics
EXPOSE 9002 9003 9090
ENTRYPOINT ["/epp"]
