#!/bin/sh
# Makes sure that the named tools are there, and installs what is missing with apt-get where that
# is allowed: as root, or by sudo without a password. Elsewhere it prints the packages and stops.
#
#   usage: tools/setup.sh NEED... [--optional NEED...]
#
# A NEED is one of the words in `is_there` below. One behind --optional that cannot be had is
# reported as SKIPPED and is no error.

set -eu

# Compiles and links a program, as cargo does at the end of a build: gcc alone cannot link.
links() {
    dir=$(mktemp -d) || return 1
    echo 'int main(void) { return 0; }' > "$dir/a.c"
    if cc -o "$dir/a" "$dir/a.c" 2>/dev/null; then status=0; else status=1; fi
    rm -rf "$dir"
    return $status
}

tcl_has() {
    command -v tclsh >/dev/null && echo "exit [catch {package require $1}]" | tclsh
}

first_match() {
    for path in "$@"; do
        if [ -e "$path" ]; then return 0; fi
    done
    return 1
}

is_there() {
    case $1 in
        cargo) command -v cargo >/dev/null ;;
        cc) command -v cc >/dev/null && links ;;
        tclsh) command -v tclsh >/dev/null ;;
        tclsh9) command -v tclsh9.0 >/dev/null ;;
        sqlite3) command -v sqlite3 >/dev/null ;;
        tcl-sqlite3) tcl_has sqlite3 ;;
        tcl-thread) tcl_has Thread ;;
        valgrind) command -v valgrind >/dev/null ;;
        tcl.h) first_match "${TCL_INCLUDE:-/usr/include}/tcl.h" /usr/include/tcl*/tcl.h ;;
        # libclang-cpp.so is another library, which bindgen cannot use.
        libclang) first_match "${LIBCLANG_PATH:-/usr/lib}"/libclang.so* \
            /usr/lib/llvm-*/lib/libclang.so* /usr/lib/llvm-*/lib/libclang-[0-9]*.so* \
            /usr/lib/*-linux-gnu/libclang.so* /usr/lib/*-linux-gnu/libclang-[0-9]*.so* ;;
        *) echo "tools/setup.sh: unknown need: $1" >&2; exit 2 ;;
    esac
}

packages_of() {
    case $1 in
        cargo) ;;
        cc) echo "gcc libc6-dev" ;;
        tclsh) echo tcl ;;
        tclsh9) echo "tcl9.0 tcl9.0-thread" ;;
        sqlite3) echo sqlite3 ;;
        tcl-sqlite3) echo libsqlite3-tcl ;;
        tcl-thread) echo tcl-thread ;;
        valgrind) echo valgrind ;;
        tcl.h) echo tcl-dev ;;
        libclang) libclang_packages ;;
    esac
}

# The library alone is not enough: the compiler's own headers come in the second package. Both
# carry a version in their names; `libclang-dev` has none, but brings 250 MB that nobody needs.
libclang_packages() {
    version=$(apt-cache search --names-only '^libclang1-[0-9][0-9]*$' 2>/dev/null |
        sed -n 's/^libclang1-\([0-9]*\) .*/\1/p' | sort -n | tail -n 1)
    if [ -n "$version" ]; then
        echo "libclang1-$version libclang-common-$version-dev"
    else
        echo libclang-dev
    fi
}

# Prints how to run a command as root; fails if there is no way.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then echo ""; return; fi
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then echo "sudo -n"; return; fi
    return 1
}

# Fresh package lists, once; fails where nothing can be installed. Sets `apt`.
updated=no
refresh() {
    if [ $updated = yes ]; then return 0; fi
    if ! command -v apt-get >/dev/null || ! root=$(as_root); then return 1; fi
    apt="$root env DEBIAN_FRONTEND=noninteractive apt-get -q"
    echo "setup: apt-get update"
    $apt update >/dev/null || return 1
    updated=yes
}

install() {
    echo "setup: apt-get install $*"
    # That a release lacks an optional package is no news.
    if [ $optional = yes ]; then
        $apt install -y --no-install-recommends "$@" >/dev/null 2>&1
    else
        $apt install -y --no-install-recommends "$@" >/dev/null
    fi
}

missing=""
optional=no
for need in "$@"; do
    if [ "$need" = --optional ]; then optional=yes; continue; fi
    if is_there "$need"; then continue; fi
    if [ "$need" != cargo ] && refresh; then
        # shellcheck disable=SC2046 # several packages are several words
        if install $(packages_of "$need") && is_there "$need"; then continue; fi
    fi
    if [ $optional = yes ]; then
        echo "setup: SKIPPED $need (packages: $(packages_of "$need"))"
    else
        missing="$missing $need"
    fi
done

if [ -z "$missing" ]; then exit 0; fi
packages=""
for need in $missing; do
    if [ "$need" = cargo ]; then
        echo "Rust is missing: see https://rustup.rs" >&2
    else
        packages="$packages $(packages_of "$need")"
    fi
done
if [ -n "$packages" ]; then
    echo "These packages are missing and could not be installed from here:$packages" >&2
    echo "On Debian or Ubuntu, as root:  apt-get install$packages" >&2
fi
exit 1
