#!/bin/sh
# Runs the Rust tests that use threads under ThreadSanitizer, the standard library included. That
# takes a nightly toolchain with its sources; what is missing is reported as SKIPPED.
#
#   usage: tools/tsan.sh     (CARGO, CARGO_TARGET_DIR and WRITE_BEHIND_SECONDS as in the Makefile)

set -eu

cargo=${CARGO:-cargo}
out=${CARGO_TARGET_DIR:-target}/tsan

skip() {
    echo "SKIPPED tsan: $1"
    exit 0
}

rustc +nightly --version >/dev/null 2>&1 || skip "no nightly toolchain"
library=$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library
[ -d "$library" ] || skip "the nightly toolchain has no rust-src"
host=$(rustc +nightly --version --verbose | sed -n 's/^host: //p')

# First a program with a race: the tests mean something only if that one is caught.
mkdir -p "$out"
rustc +nightly -Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer -o "$out/race" \
    tools/race.rs
if "$out/race" 2>/dev/null; then
    echo "tsan: a race goes unnoticed" >&2
    exit 1
fi

run() {
    echo "tsan: $*"
    RUSTFLAGS="-Zsanitizer=thread" "$cargo" +nightly test -Zbuild-std --target "$host" \
        --target-dir "$out" --no-default-features "$@"
}

run --lib --no-run || skip "the standard library cannot be built"
run --lib os::
if [ -f test/shared.rs ]; then
    run --test shared
fi
