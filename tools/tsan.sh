#!/bin/sh
# Runs the Rust tests that use threads under ThreadSanitizer, which takes a nightly toolchain: with
# its sources (rust-src) the standard library included, else around it, see tools/tsan.supp and
# src/btree/sync.rs. What is missing is reported as SKIPPED.
#
#   usage: tools/tsan.sh     (CARGO, CARGO_TARGET_DIR and WRITE_BEHIND_SECONDS as in the Makefile)

set -eu

cargo=${CARGO:-cargo}
out=${CARGO_TARGET_DIR:-target}/tsan
around="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer"

skip() {
    echo "SKIPPED tsan: $1"
    exit 0
}

rustc +nightly --version >/dev/null 2>&1 || skip "no nightly toolchain"
host=$(rustc +nightly --version --verbose | sed -n 's/^host: //p')

# First a program with a race: the tests mean something only if that one is caught.
mkdir -p "$out"
rustc +nightly $around -o "$out/race" tools/race.rs 2>/dev/null ||
    skip "the nightly toolchain has no sanitizer for $host"
if "$out/race" 2>/dev/null; then
    echo "tsan: a race goes unnoticed" >&2
    exit 1
fi

run() {
    echo "tsan: $*"
    RUSTFLAGS="$flags" "$cargo" +nightly test $std --target "$host" --target-dir "$out" \
        --no-default-features "$@"
}

library=$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library
flags="-Zsanitizer=thread"
std=-Zbuild-std
if ! [ -d "$library" ] || ! run --lib --no-run; then
    echo "tsan: without the standard library"
    flags="$around --cfg tsan"
    std=
    TSAN_OPTIONS="suppressions=$PWD/tools/tsan.supp ${TSAN_OPTIONS:-}"
    export TSAN_OPTIONS
fi
run --lib -- os:: btree::shared btree::turn
run --test shared
