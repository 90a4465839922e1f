#!/bin/sh
# The compiler as cargo calls it (RUSTC_WRAPPER, see run.sh): what cargo-fuzz does with flags that only nightly has, said
# to LLVM itself, for the engine and the drivers only. What others have written is not ours to cover.
rustc=$1
shift
case " $* " in
    *" --crate-name trust "* | *" --crate-name hosts "* | *" --crate-name wire "* | \
        *" --crate-name uncovered "*)
        # shellcheck disable=SC2086 # words on purpose
        exec "$rustc" "$@" $TRUST_FUZZ_FLAGS
        ;;
esac
exec "$rustc" "$@"
