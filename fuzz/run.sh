#!/bin/sh
# Runs a target of this folder on the stable toolchain: see README.md.
#   ./fuzz/run.sh TARGET [OPTION OF LIBFUZZER ...]
#   ./fuzz/run.sh uncovered FOLDER ...
set -eu
from=$PWD
cd "$(dirname "$0")"
target=${1:?which target: hosts, wire or uncovered}
shift
triple=$(rustc -vV | sed -n 's/^host: //p')
# Count edges; tell comparisons too if asked to, which finds more per execution and makes fewer of them.
TRUST_FUZZ_FLAGS="-Cpasses=sancov-module -Ccodegen-units=1"
set_of_flags=edges
options="level=3 inline-8bit-counters pc-table"
if [ "${TRUST_FUZZ_COMPARES:-0}" = 1 ] && [ "$target" != uncovered ]; then
    options="$options trace-compares"
    set_of_flags=compares
fi
for option in $options; do
    TRUST_FUZZ_FLAGS="$TRUST_FUZZ_FLAGS -Cllvm-args=-sanitizer-coverage-$option"
done
export TRUST_FUZZ_FLAGS
# With --target, so that build scripts and macros are left as they are.
flags=
# An address sanitizer costs a third of the rate or more: TRUST_FUZZ_ASAN=1. The compiler must be told that we know.
if [ "${TRUST_FUZZ_ASAN:-0}" = 1 ]; then
    export RUSTC_BOOTSTRAP=1
    flags="-Zsanitizer=address --cfg asan"
    set_of_flags=$set_of_flags-asan
fi
# A folder for each set of flags: cargo does not see those of the wrapper.
export CARGO_TARGET_DIR="$PWD/target/$set_of_flags"
RUSTC_WRAPPER="$PWD/instrument.sh" RUSTFLAGS="$flags" \
    cargo build --release --target "$triple" --bin "$target" --quiet
if [ "$target" = uncovered ]; then
    cd "$from"
    exec "$CARGO_TARGET_DIR/$triple/release/uncovered" "$@"
fi
corpus=${TRUST_FUZZ_CORPUS:-corpus/$target}
mkdir -p "$corpus" "artifacts/$target"
seeds=
[ -d "seeds/$target" ] && seeds=seeds/$target
dictionary=
[ -f "$target.dict" ] && dictionary=-dict=$target.dict
# Without the schedule that weighs features by how rare they are: keeping those weights took a third of the time.
exec "$CARGO_TARGET_DIR/$triple/release/$target" -max_len=600 -len_control=0 -entropic=0 \
    -artifact_prefix="artifacts/$target/" $dictionary "$@" "$corpus" $seeds
