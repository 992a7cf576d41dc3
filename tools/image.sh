#!/bin/sh
# Builds the image with whichever container engine is there, and tells it its commit, branch and origin.
# Usage, from the repository's root: sh tools/image.sh NAME [PLATFORM]   (PLATFORM as linux/arm64)
# ENGINE= chooses among docker, podman and buildah; BUILD_ARGS= are further arguments of its build.
set -eu

name=$1
platform=${2:-}

# usable ENGINE: whether it can build, and if not, why
usable() {
    if ! command -v "$1" >/dev/null 2>&1; then
        printf '    %s: not installed\n' "$1" >&2
    elif [ "$1" != docker ]; then
        return 0
    elif ! docker buildx version >/dev/null 2>&1; then
        printf '    docker: without buildx, which the cache mounts of the Dockerfile need\n' >&2
    elif ! docker info >/dev/null 2>&1; then
        printf '    docker: its daemon does not answer (docker info tells why)\n' >&2
    else
        return 0
    fi
    return 1
}

engine=
reasons=$(mktemp)
trap 'rm -f "$reasons"' EXIT
for candidate in ${ENGINE:-docker podman buildah}; do
    if usable "$candidate" 2>>"$reasons"; then
        engine=$candidate
        break
    fi
done
if [ -z "$engine" ]; then
    printf 'image: no container engine can be used here\n' >&2
    cat "$reasons" >&2
    exit 1
fi

commit=${EPP_COMMIT:-$(git rev-parse --verify -q HEAD 2>/dev/null || echo unknown)}
ref=${EPP_BUILD_REF:-$(git symbolic-ref --short -q HEAD 2>/dev/null || echo unknown)}
# Without the user and password that an address may carry.
source=${EPP_SOURCE:-$(git remote get-url origin 2>/dev/null | sed 's|//[^/@]*@|//|' || true)}

# shellcheck disable=SC2086
"$engine" build ${platform:+--platform "$platform"} --build-arg EPP_COMMIT="$commit" --build-arg EPP_BUILD_REF="$ref" \
    --build-arg EPP_SOURCE="$source" ${BUILD_ARGS:-} --tag "$name" .
printf 'image: %s, by %s, commit %s\n' "$name" "$engine" "$commit"
