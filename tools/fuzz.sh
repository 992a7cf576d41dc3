#!/bin/sh
# Builds the fuzz targets against libFuzzer with the stable toolchain, and runs them one after another.
# Usage, from the repository's root: sh tools/fuzz.sh SECONDS [TARGET [INPUT]]
# Without TARGET all of them run, SECONDS each; with INPUT the target runs that one file. What was learned stays in
# fuzz/corpus, findings are in fuzz/artifacts; the status is 1 if there was one.
set -eu

seconds=$1
only=${2:-}
input=${3:-}
case $seconds in '' | *[!0-9]*)
    printf 'fuzz: SECONDS is a number, not "%s"\n' "$seconds" >&2
    exit 2
    ;;
esac

targets=$(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"$|\1|p' fuzz/Cargo.toml)
if [ -n "$only" ]; then
    if ! printf '%s\n' "$targets" | grep -qxF -e "$only"; then
        printf 'fuzz: no target "%s", there are: %s\n' "$only" "$(printf '%s ' $targets)" >&2
        exit 2
    fi
    targets=$only
elif [ -n "$input" ]; then
    printf 'fuzz: which TARGET is the INPUT for?\n' >&2
    exit 2
fi

# What libFuzzer needs of the compiler: counters at every edge, and hooks at comparisons. With an explicit target, build
# scripts and macros stay without.
RUSTFLAGS="${RUSTFLAGS:-} --cfg fuzzing -Cpasses=sancov-module"
for flag in level=4 inline-8bit-counters pc-table trace-compares; do
    RUSTFLAGS="$RUSTFLAGS -Cllvm-args=-sanitizer-coverage-$flag"
done
export RUSTFLAGS
host=$(rustc -vV | sed -n 's/^host: //p')
build="--manifest-path fuzz/Cargo.toml --release --target $host"
# shellcheck disable=SC2086
cargo build $build

# run TARGET ARGUMENT...: the target's program
run() {
    target=$1
    shift
    # shellcheck disable=SC2086
    cargo run --quiet $build --bin "$target" -- -rss_limit_mb=2048 "$@"
}

if [ -n "$input" ]; then
    export RUST_BACKTRACE=1
    run "$only" "$input"
    exit
fi

# Symbols take longer than an input may.
export RUST_BACKTRACE=0
failed=
for target in $targets; do
    artifacts=fuzz/artifacts/$target
    mkdir -p "fuzz/corpus/$target" "$artifacts"
    max_len=4096
    [ "$target" != body ] || max_len=16384
    dictionary=
    [ ! -f "fuzz/dictionaries/$target.dict" ] || dictionary=-dict=fuzz/dictionaries/$target.dict
    printf '\n== %s, %s seconds\n' "$target" "$seconds"
    run "$target" -max_total_time="$seconds" -timeout=10 -max_len="$max_len" $dictionary -artifact_prefix="$artifacts/" \
        -print_final_stats=1 "fuzz/corpus/$target" "fuzz/seeds/$target" && continue
    failed=yes
    found=$(ls -t "$artifacts" | head -n 1)
    {
        printf '\nfinding of the target %s: %s\n' "$target" "$artifacts/$found"
        printf '  again:     make fuzz TARGET=%s INPUT=%s\n' "$target" "$artifacts/$found"
        printf '  as a test: cp %s fuzz/seeds/%s/NAME; cargo test -p epp-fuzz-targets\n' "$artifacts/$found" "$target"
    } >&2
done
[ -z "$failed" ]
