#!/bin/sh
# Looks for what the build needs and names everything that is missing at once, each with the line that installs it.
# Usage, from the repository's root: sh tools/preflight.sh [rustfmt] [clippy] [c++]   (what is wanted besides)
set -u

missing=0
as_root=
[ "$(id -u)" = 0 ] || as_root='sudo '

# lacks WHAT LINE, or lacks WHAT DEBIAN FEDORA MACOS: one missing thing, and the line that installs it on this system
# (all three where the system is unknown)
lacks() {
    missing=$((missing + 1))
    printf 'missing: %s\n' "$1" >&2
    if [ $# = 2 ] || command -v apt-get >/dev/null 2>&1; then
        printf '    %s\n' "$2" >&2
    elif command -v dnf >/dev/null 2>&1; then
        printf '    %s\n' "$3" >&2
    elif [ "$(uname -s)" = Darwin ]; then
        printf '    %s\n' "$4" >&2
    else
        printf '    Debian, Ubuntu: %s\n    Fedora: %s\n    macOS: %s\n' "$2" "$3" "$4" >&2
    fi
}

# at_least HAVE WANT: compares major.minor
at_least() {
    [ "${1%%.*}" -gt "${2%%.*}" ] && return 0
    have_minor=${1#*.}
    want_minor=${2#*.}
    [ "${1%%.*}" -eq "${2%%.*}" ] && [ "${have_minor%%.*}" -ge "${want_minor%%.*}" ]
}

rustup_line="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
want_rust=$(sed -n 's/^rust-version *= *"\([0-9][0-9.]*\)".*/\1/p' Cargo.toml | head -n 1)
if ! command -v cargo >/dev/null 2>&1; then
    have_cargo=
    lacks "cargo $want_rust or newer" "$rustup_line"
elif ! have_cargo=$(cargo --version 2>/dev/null); then
    lacks 'a Rust toolchain (cargo is there, but does not answer)' 'rustup default stable'
else
    have_rust=${have_cargo#cargo }
    have_rust=${have_rust%% *}
    if ! at_least "$have_rust" "$want_rust"; then
        line='rustup update stable'
        command -v rustup >/dev/null 2>&1 || line=$rustup_line
        lacks "cargo $want_rust or newer (found $have_rust)" "$line"
    fi
fi

for component in "$@"; do
    case $component in
        c++)
            command -v "${CXX:-c++}" >/dev/null 2>&1 ||
                lacks 'a C++ compiler (c++), for libFuzzer' "${as_root}apt-get install build-essential" \
                    "${as_root}dnf install gcc-c++" 'xcode-select --install'
            continue
            ;;
        rustfmt) command='fmt' ;;
        *) command=$component ;;
    esac
    if [ -n "$have_cargo" ] && ! cargo "$command" --version >/dev/null 2>&1; then
        line="rustup component add $component"
        if command -v rustup >/dev/null 2>&1; then
            lacks "cargo $command" "$line"
        else
            lacks "cargo $command" "${as_root}apt-get install $component" "${as_root}dnf install $component" "$line"
        fi
    fi
done

command -v cc >/dev/null 2>&1 ||
    lacks 'a C compiler (cc)' "${as_root}apt-get install build-essential" "${as_root}dnf install gcc" 'xcode-select --install'

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1; then
    lacks 'python3, version 3.8 or newer' "${as_root}apt-get install python3" "${as_root}dnf install python3" 'brew install python3'
fi

# What a build already put there does not have to find room again.
target=${CARGO_TARGET_DIR:-target}
used=0
[ ! -d "$target" ] || used=$(du -sk "$target" 2>/dev/null | awk '{ print $1 }')
folder=$target
while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
want=$((3145728 - ${used:-0}))
[ "$want" -ge 524288 ] || want=524288
free=$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')
if [ "${free:-0}" -lt "$want" ]; then
    lacks "disk space: $((want / 1024)) MB in $folder (free: $((${free:-0} / 1024)) MB)" \
        'make room, or set CARGO_TARGET_DIR to a folder on a larger disk'
fi

[ "$missing" = 0 ]
