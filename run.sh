#!/usr/bin/env bash
# Builds and runs trust in an anonymous network namespace of its own, and whatever is to run beside it.
# `./run.sh help` says what it can do. State lies under target/run, so two clones run side by side.
#
# Here is what comes before anything is built, and the building. The rest is the program trust-run (tools/run), which
# goes on in this process: it starts an engine and watches over it, enters where it runs, ends it, and runs the tests.

set -u
PATH=$PATH:/usr/sbin:/sbin
command -v cargo >/dev/null 2>&1 || PATH=$PATH:${HOME:-/root}/.cargo/bin

top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
built=${CARGO_TARGET_DIR:-$top/target}/release
engine=${TRUST_BIN:-$built/trust} # TRUST_BIN: run this binary and do not build
run=${TRUST_RUN_DIR:-$top/target/run}
nobody="no engine is running in this clone" begin="start one in another terminal: ./run.sh"

say() { printf '%s\n' "$*" 2>/dev/null; }
warn() { printf 'run.sh: %s\n' "$*" >&2; }
die() { warn "$@"; exit 1; }
misuse() { warn "$@"; exit 2; } # what was typed makes no sense
usage() { cat "$top/tools/run/usage.txt"; }

# ---- what is needed ---------------------------------------------------------------------------------------------

is_root() { [ "$EUID" = 0 ]; }

# The package that has a program; status 1: no idea.
package_of() { sed -n "s/^$1 //p" "$top/tools/run/src/packages.txt" | grep .; }

# need PROGRAM...: installs the packages of those that are missing (root), or prints the line that does.
# Returns 1 when something is still missing; `absent` are the programs.
need() {
    local program line missing=()
    absent=()
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 && continue
        absent+=("$program")
        program=$(package_of "$program") || die "$program is missing here"
        [[ " ${missing[*]-} " == *" $program "* ]] || missing+=("$program")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null 2>&1 ||
        { warn "missing here (Debian's package names): ${missing[*]}"; return 1; }
    line="apt-get install -y --no-install-recommends ${missing[*]}"
    is_root || { warn "missing programs; this line installs them: sudo $line"; return 1; }
    # A fresh container has no package lists at all.
    compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null || line="apt-get update && $line"
    say "DEBIAN_FRONTEND=noninteractive $line"
    [ "${TRUST_NO_INSTALL:-}" != 1 ] || return 1
    if ! DEBIAN_FRONTEND=noninteractive sh -c "$line" </dev/null; then
        warn "installing failed; with fresh package lists once more"
        DEBIAN_FRONTEND=noninteractive sh -c "apt-get update && ${line#apt-get update && }" </dev/null || return 1
    fi
}

require() { need "$@" || die "cannot go on without: ${absent[*]}"; }

check_rust() {
    command -v cargo >/dev/null 2>&1 || die "cargo is not installed; get it from https://rustup.rs"
    local have want
    have=$(cd "$top" && cargo --version 2>&1) || die "cargo does not work here: $have"
    have=$(sed -n 's/^cargo \([0-9.]*\).*/\1/p' <<<"$have")
    want=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$top/Cargo.toml")
    [ "$(printf '%s\n' "$want" "$have" | sort -V | head -n 1)" = "$want" ] ||
        die "cargo $have is older than the $want this needs; update it: rustup update stable"
}

check_tun() {
    local container="a container needs --device /dev/net/tun --cap-add NET_ADMIN"
    [ -e /dev/net/tun ] || die "/dev/net/tun is missing; load it: modprobe tun ($container)"
    if (exec 7<>/dev/net/tun) 2>/dev/null; then return 0; fi
    is_root && die "/dev/net/tun cannot be opened even by root; $container"
    die "/dev/net/tun is not writable for $(id -un); as on most systems: sudo chmod 666 /dev/net/tun (or run as root)"
}

# Sets `fresh`: what unshare makes a new network namespace with.
choose_namespace() {
    fresh=-n
    ! { is_root && unshare -n true 2>/dev/null; } || return 0
    fresh=-Urn
    ! unshare -Urn true 2>/dev/null || return 0
    local plain="network namespaces are forbidden here, as in a plain container"
    ! is_root || die "$plain; it needs --cap-add SYS_ADMIN --cap-add NET_ADMIN"
    local fix="that is up to root; or run this as root, or ./run.sh --host" kernel=/proc/sys/kernel
    # 0 in the first two forbids, 1 in the third.
    [ "$(cat $kernel/unprivileged_userns_clone 2>/dev/null)" = 0 ] &&
        fix="sudo sysctl kernel.unprivileged_userns_clone=1"
    [ "$(cat /proc/sys/user/max_user_namespaces 2>/dev/null)" = 0 ] && fix="sudo sysctl user.max_user_namespaces=10000"
    [ "$(cat $kernel/apparmor_restrict_unprivileged_userns 2>/dev/null)" = 1 ] &&
        fix="sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    die "user namespaces are forbidden for $(id -un); allow them: $fix"
}

# Sets `helper`, the program trust-run. HOW: fresh, so that no source of its is newer; or any.
find_helper() { # HOW
    for helper in "${engine%/*}/trust-run" "$built/trust-run"; do
        [ -x "$helper" ] || continue
        [ "$1" != any ] && [ -n "$(find "$top/tools/run/src" -type f -newer "$helper" -print -quit)" ] || return 0
    done
    return 1
}

# Builds what is needed in one call, and sets `helper`: the engine and trust-run share their packages. With TRUST_BIN
# the engine is not built, and the others only where there are none beside it, without a word.
build() { # PACKAGE...
    local words=() package
    helper=$built/trust-run
    for package in "$@"; do
        if [ -n "${TRUST_BIN:-}" ]; then
            [[ $package != trust && ($package != trust-tools || ! -x $built/nc-load) ]] || continue
            [ "$package" != trust-run ] || ! find_helper fresh || continue
        fi
        words+=(-p "$package")
    done
    [ ${#words[@]} -gt 0 ] || return 0
    check_rust
    require cc
    [ ! -e "$top/target" ] || [ -w "$top/target" ] ||
        die "$top/target belongs to $(stat -c %U "$top/target"); give it back: sudo chown -R $(id -un) $top/target"
    # Standard output may be the user's data.
    if [[ " ${words[*]} " == *" trust "* && ! -x $built/trust ]]; then
        warn "building for the first time: about two minutes on 2 CPUs"
    elif [[ " ${words[*]} " == *" trust-tools "* && ! -x $built/nc-load ]]; then
        warn "building the tools for the first time: about half a minute on 2 CPUs"
    fi
    [ -z "${TRUST_BIN:-}" ] || words+=(--quiet)
    (cd "$top" && cargo build --release "${words[@]}") || die "the build failed; nothing was started"
}

# Whether engine and helper are there and no source is newer.
is_built() {
    [ -x "$engine" ] && find_helper fresh || return 1
    [ -n "${TRUST_BIN:-}" ] ||
        [ -z "$(find "$top/src" "$top/Cargo.toml" "$top/Cargo.lock" -newer "$engine" -print -quit)" ]
}

# trust-run goes on in this process.
hand_over() { exec "$helper" "$top" "$run" "$engine" "$@"; }

# kill -0 says yes to a zombie; a lock is free at the moment its holders are dead.
running() { [ -e "$run/lock" ] && ! flock -n "$run/lock" true 2>/dev/null; }

# ---- the commands -----------------------------------------------------------------------------------------------

serve() {
    require ip unshare setpriv setsid
    check_tun
    choose_namespace
    build trust trust-run
    hand_over serve "$fresh" "$@"
}

host() {
    local nat=''
    [ "${1-}" != --nat ] || { nat=$1 && shift; }
    case ${1-} in
        serve | fetch | connect | iperf3) ;;
        -* | '') set -- serve "$@" ;;
        *) misuse "--host: serve, fetch, connect and iperf3 run there, $1 does not" ;;
    esac
    require ip setsid
    [ -z "$nat" ] || is_root ||
        die "--nat changes what this machine forwards, so it is for root: sudo ./run.sh --host --nat"
    [ -z "$nat" ] || require nft
    is_root || require getcap setcap
    check_tun
    build trust trust-run
    hand_over host ${nat:+"$nat"} "$@"
}

# For the engine that runs, of which trust-run need not be the newest.
beside() { # COMMAND [WORD...]
    find_helper any || build trust-run
    hand_over "$@"
}

# A command of the engine's on a stack of its own, beside the running engine.
outwards() { # COMMAND WORD...
    require ip nsenter flock
    running || die "$nobody, so there is nobody to connect to; $begin"
    check_tun
    # The running engine was built from this clone, too: what it is built from has not changed in most cases.
    is_built || build trust trust-run
    hand_over outwards "$@"
}

load() {
    # Before the long part: what is asked for, and what an engine beside us needs.
    find_helper fresh || build trust-run
    "$helper" "$top" "$run" "$engine" check-load "$@" || exit
    require nc ip unshare nsenter setpriv flock setsid
    running || { check_tun && choose_namespace; }
    build trust trust-run trust-tools
    hand_over load "$@"
}

driver() { # COMMAND OPTION...
    require nc ip unshare iperf3 ping
    check_tun
    choose_namespace
    build trust trust-tools
    local words=()
    # Namespaces are made by the driver; a user must be root of a user namespace for that.
    [ "$fresh" = -n ] || words=(unshare -Ur)
    exec ${words[@]+"${words[@]}"} "$built/bench-driver" "$@" --engine "$engine" --tools "$built" --top "$top"
}

run_tests() {
    check_rust
    require cc ip unshare setpriv chrt
    need nsenter flock setsid iperf3 nc ss tshark nft ping curl ab wrk python3 sshd ssh h2load nghttpd ||
        warn "tests that need the programs above are skipped or fail"
    TRUST_BIN='' build trust-run
    hand_over test
}

command=${1-serve}
[ $# = 0 ] || shift
# Help is given whatever runs; what is behind exec is another program's.
asked=" $* "
[ "$command" != exec ] || asked=" ${1-} "
if [[ $command != bench && $asked =~ \ (--help|-h)\  ]]; then
    [[ $command =~ ^(serve|connect|fetch|iperf3|ss|kill|stats|capture|events)$ ]] || { usage && exit; }
    is_built || build trust trust-run
    exec "$engine" "$command" "$@"
fi
case $command in
    test | stop | demo | help | --help | -h) [ $# = 0 ] || misuse "$command takes nothing more, but there is: $*" ;;
    connect) [ $# -ge 2 ] || misuse "connect: HOST and PORT are needed; like: ./run.sh connect 10.7.0.2 7" ;;
    fetch) [ $# -ge 1 ] || misuse "fetch: an URL is needed; like: ./run.sh fetch http://10.7.0.2/bytes/1000" ;;
    serve) [ "${1-}" != --host ] || { command=--host && shift; } ;;
esac
case $command in
    serve) serve "$@" ;;
    --host) host "$@" ;;
    exec | ss | kill | stats | capture | events) if running; then beside "$command" "$@"; else die "$nobody; $begin"; fi ;;
    connect | fetch | iperf3) outwards "$command" "$@" ;;
    load) load "$@" ;;
    demo) driver demo ;;
    bench) driver compare "$@" ;;
    test) run_tests ;;
    # Where nothing was ever started there is nobody to end, and nothing to build.
    stop) if [ -e "$run/lock" ] || [ -e "$run/nat" ]; then beside stop; else say "$nobody"; fi ;;
    help | --help | -h) usage ;;
    --*) serve "$command" "$@" ;;
    *) misuse "there is no command $command; ./run.sh help lists them" ;;
esac
