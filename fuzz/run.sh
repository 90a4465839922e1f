#!/bin/sh
# Runs a target of this folder on the stable toolchain: see README.md.
#   ./fuzz/run.sh TARGET [OPTION OF LIBFUZZER ...]
set -eu
cd "$(dirname "$0")"
target=${1:?which target: hosts or wire}
shift
triple=$(rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz does with flags that only nightly has, said to LLVM itself: count edges, tell comparisons. With --target,
# so that build scripts and macros are left as they are.
flags="-Cpasses=sancov-module -Ccodegen-units=1"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags="$flags -Cllvm-args=-sanitizer-coverage-$option"
done
# An address sanitizer costs a third of the rate or more: TRUST_FUZZ_ASAN=1. The compiler must be told that we know.
if [ "${TRUST_FUZZ_ASAN:-0}" = 1 ]; then
    export RUSTC_BOOTSTRAP=1
    flags="$flags -Zsanitizer=address"
fi
RUSTFLAGS="$flags" CARGO_TARGET_DIR="$PWD/target" cargo build --release --target "$triple" --bin "$target" --quiet
mkdir -p "corpus/$target" "artifacts/$target"
seeds=
[ -d "seeds/$target" ] && seeds=seeds/$target
exec "target/$triple/release/$target" -max_len=4096 -artifact_prefix="artifacts/$target/" "$@" "corpus/$target" $seeds
