#!/usr/bin/env bash
# Builds and runs trust in an anonymous network namespace of its own, and whatever is to run beside it.
# `./run.sh help` says what it can do. State lies under target/run, so two clones run side by side.
#
# Nothing outlives the engine: the namespace, its TUN device and its addresses end with the last process inside; the
# engine is killed when this script is (pdeathsig); "is it running?" is answered by a lock, which dies with its holder.

set -u
PATH=$PATH:/usr/sbin:/sbin
command -v cargo >/dev/null 2>&1 || PATH=$PATH:${HOME:-/root}/.cargo/bin

top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
built=${CARGO_TARGET_DIR:-$top/target}/release
unoptimized=${CARGO_TARGET_DIR:-$top/target}/debug
engine=${TRUST_BIN:-$built/trust} # TRUST_BIN: run this binary and do not build
run=${TRUST_RUN_DIR:-$top/target/run}
me=$top/run.sh

# Whoever does not read, or a full disk, stops nothing.
say() { printf '%s\n' "$*" 2>/dev/null; }
warn() { printf 'run.sh: %s\n' "$*" >&2; }
die() {
    warn "$@"
    exit 1
}

# What was typed makes no sense: one line, status 2.
misuse() {
    warn "$@"
    exit 2
}

usage() {
    cat <<'EOF'
usage: ./run.sh [COMMAND]

  serve [OPTION...]         build, then serve on 10.7.0.2 in a network namespace of its own; ^C ends it (the default)
                            options go to `trust serve`: ./run.sh serve --offload off --workers 2
                            (so do the words in TRUST_ARGS)
  exec [CMD...]             run CMD beside the running engine (nc, iperf3, ping, tshark ...); without CMD a shell
  connect HOST PORT         nc on our stack: one more engine with a TUN device of its own, beside the running one
  fetch URL [-o FILE] [-L]  a page by HTTP on our stack, likewise
  iperf3 -c HOST [OPTION..] a test against a stock iperf3 server, likewise: -R, --bidir, -P N, -t S, -n N, -b N, -J
  load N [BYTES] [--kill K] N stock nc clients at once against echo, compared octet by octet (BYTES each: 100000);
                            --kill K: kill K of them (fewer than N) midway, the others must be exact
  demo                      one minute: ping, echo, iperf3, 100 clients; the same on the kernel's TCP; ratios
  bench [--quick]           the interleaved comparison with the kernel; says first how long it takes
  test                      everything: format, lints, unit, integration and doc tests, loom, the whole by stock tools
  stop                      end the running engine; connections that are open have as long as `serve --drain` says (3 s)
  help                      this text

  --host [OPTION...]        serve in the CURRENT namespace: device trust0 and 10.7.0.1/24, nothing else is touched.
                            As a normal user it asks sudo once to give the binary cap_net_admin.
  --host --nat [COMMAND]    (root) the way to the Internet: this machine forwards and masquerades for our device's network
                            only, and says what it changed; all is undone at the end. COMMAND: serve (the default),
                            fetch URL, connect HOST PORT, iperf3 -c HOST, which then run in the current namespace

environment: TRUST_NO_INSTALL=1 never installs, only prints the apt-get line (installing happens as root only);
             TRUST_WORLDS=N lives through N random worlds instead of 10,000, TRUST_WORLDS_FROM=N begins with seed N
             (a soak by itself, and how to replay a seed that failed: README.md, Tests),
             TRUST_REQUIRE_TUN=1 turns tests skipped for want of a TUN device into failures.
EOF
}

# ---- what is needed ---------------------------------------------------------------------------------------------

is_root() { [ "$EUID" = 0 ]; }

# The package that has a program; status 1: no idea.
package_of() {
    case $1 in
        cc) echo gcc ;;
        ip | ss) echo iproute2 ;;
        unshare | nsenter | setpriv | flock | setsid) echo util-linux ;;
        nc) echo netcat-openbsd ;;
        nft) echo nftables ;;
        ping) echo iputils-ping ;;
        getcap | setcap) echo libcap2-bin ;;
        ab) echo apache2-utils ;;
        sshd) echo openssh-server ;;
        ssh | scp) echo openssh-client ;;
        h2load) echo nghttp2-client ;;
        nghttpd) echo nghttp2-server ;;
        iperf3 | tshark | ethtool | curl | wrk | socat | tcpdump | strace | python3) echo "$1" ;;
        *) return 1 ;;
    esac
}

# need PROGRAM...: installs the packages of those that are missing (root), or prints the line that does.
# Returns 1 when something is still missing.
need() {
    local program line missing=()
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 && continue
        program=$(package_of "$program") || die "$program is missing here"
        [[ " ${missing[*]-} " == *" $program "* ]] || missing+=("$program")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        warn "missing here (Debian's package names): ${missing[*]}"
        return 1
    fi
    line="apt-get install -y --no-install-recommends ${missing[*]}"
    if ! is_root; then
        warn "missing programs; this line installs them: sudo $line"
        return 1
    fi
    # A fresh container has no package lists at all.
    compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null || line="apt-get update && $line"
    say "DEBIAN_FRONTEND=noninteractive $line"
    [ "${TRUST_NO_INSTALL:-}" != 1 ] || return 1
    if ! DEBIAN_FRONTEND=noninteractive sh -c "$line" </dev/null; then
        warn "installing failed; with fresh package lists once more"
        DEBIAN_FRONTEND=noninteractive sh -c "apt-get update && ${line#apt-get update && }" </dev/null || return 1
    fi
}

require() {
    need "$@" && return 0
    local program missing=()
    for program in "$@"; do command -v "$program" >/dev/null 2>&1 || missing+=("$program"); done
    die "cannot go on without: ${missing[*]}"
}

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
    [ -e /dev/net/tun ] ||
        die "/dev/net/tun is missing; load it: modprobe tun (a container needs --device /dev/net/tun --cap-add NET_ADMIN)"
    if (exec 7<>/dev/net/tun) 2>/dev/null; then return 0; fi
    is_root && die "/dev/net/tun cannot be opened even by root; a container needs --device /dev/net/tun --cap-add NET_ADMIN"
    die "/dev/net/tun is not writable for $(id -un); as on most systems: sudo chmod 666 /dev/net/tun (or run as root)"
}

# Sets `fresh`: the words that start a command in a new network namespace.
choose_namespace() {
    if is_root && unshare -n true 2>/dev/null; then
        fresh=(unshare -n)
    elif unshare -Urn true 2>/dev/null; then
        fresh=(unshare -Urn)
    elif is_root; then
        die "network namespaces are forbidden here, as in a plain container; it needs --cap-add SYS_ADMIN --cap-add NET_ADMIN"
    else
        local fix="run it as root, or use ./run.sh --host"
        # 0 in the first two forbids, 1 in the third.
        [ "$(cat /proc/sys/kernel/unprivileged_userns_clone 2>/dev/null)" = 0 ] &&
            fix="sudo sysctl kernel.unprivileged_userns_clone=1"
        [ "$(cat /proc/sys/user/max_user_namespaces 2>/dev/null)" = 0 ] && fix="sudo sysctl user.max_user_namespaces=10000"
        [ "$(cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null)" = 1 ] &&
            fix="sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        die "user namespaces are forbidden for $(id -un); allow them: $fix"
    fi
}

build() { # PACKAGE...
    if [ -n "${TRUST_BIN:-}" ]; then
        [ "$*" != trust ] || return 0
        [ "$1" != trust ] || shift
    fi
    check_rust
    require cc
    if [ -e "$top/target" ] && [ ! -w "$top/target" ]; then
        die "$top/target belongs to $(stat -c %U "$top/target"); give it back: sudo chown -R $(id -un) $top/target"
    fi
    local words=() package
    for package in "$@"; do words+=(-p "$package"); done
    # Standard output may be the user's data.
    if [[ " $* " == *" trust "* && ! -x $built/trust ]]; then
        warn "building for the first time: about two minutes on 2 CPUs"
    elif [[ " $* " == *" trust-tools "* && ! -x $built/nc-load ]]; then
        warn "building the tools for the first time: about half a minute on 2 CPUs"
    fi
    (cd "$top" && cargo build --release "${words[@]}") || die "the build failed; nothing was started"
}

# ---- the running engine -----------------------------------------------------------------------------------------

# kill -0 says yes to a zombie; a lock is free at the moment its holders are dead.
running() { [ -e "$run/lock" ] && ! flock -n "$run/lock" true 2>/dev/null; }

engine_pid() { cat "$run/pid" 2>/dev/null; }

# Waits until the engine of this clone has said "ready".
await_ready() {
    local _
    for _ in {1..200}; do
        [ -e "$run/ready" ] && return 0
        running || return 1
        sleep 0.05
    done
    return 1
}

# Sets `enter`: the words that start a command in the engine's namespace, with all rights there. Empty: we are in it.
choose_entry() {
    local pid
    running || die "no engine is running in this clone; start one in another terminal: ./run.sh"
    await_ready || die "the engine of this clone does not get ready; look at its terminal, or: ./run.sh stop"
    pid=$(engine_pid)
    enter=()
    local ours theirs
    theirs=$(readlink "/proc/$pid/ns/net") ||
        die "the engine (process $pid) belongs to $(stat -c %U "/proc/$pid" 2>/dev/null || echo another user); use sudo"
    ours=$(readlink /proc/self/ns/net)
    [ "$ours" != "$theirs" ] || return 0
    if [ "$(readlink /proc/self/ns/user)" = "$(readlink "/proc/$pid/ns/user")" ]; then
        enter=(nsenter -t "$pid" -n --)
    else
        # Root of the machine is nobody in there, if the engine is another user's, and becomes its root.
        enter=(nsenter -t "$pid" -U -n --preserve-credentials -S 0 --)
    fi
}

hints() {
    local address=$1
    say "  what to type next, in another terminal:"
    if [ "$2" = host ]; then
        say "    ping $address    |    nc -N $address 7    |    iperf3 -c $address    |    iperf3 -c $address -R"
    else
        say "    ./run.sh exec ping $address"
        say "    ./run.sh exec nc -N $address 7            # echo; ^D ends it"
        say "    ./run.sh exec iperf3 -c $address          # and -R for the other way"
        say "    ./run.sh load 100    |    ./run.sh exec    # 100 clients at once; a shell in there"
    fi
    say "  ^C here, or ./run.sh stop, ends it and leaves nothing behind"
}

# Inside the new namespace: dies with its parent, loopback up, forwarding between TUN devices (for `connect`).
# shellcheck disable=SC2016
inside='[ "$PPID" = "$0" ] || exit 1
ip link set lo up || exit 1
echo 1 >/proc/sys/net/ipv4/ip_forward 2>/dev/null
exec "$@"'

# supervise WHERE WORD...: runs the engine as our child until it ends, passes its output, and ends it when we are told to.
supervise() {
    local where=$1 out pid line status asked='' address=''
    shift
    mkdir -p "$run" || die "cannot write $run"
    # Not for writing: the engine has it, too, so that it is free when both are gone.
    { : >>"$run/lock" && exec 9<"$run/lock"; } 2>/dev/null || {
        local owner
        owner=$(stat -c %U "$run/lock" 2>/dev/null || stat -c %U "$run")
        ! running || die "an engine of $owner is running in this clone (process $(engine_pid)); end it: sudo $me stop"
        die "cannot write $run, which belongs to $owner; give it back: sudo chown -R $(id -un) $run"
    }
    flock -w 1 9 || die "an engine is already running in this clone (process $(engine_pid)); end it: ./run.sh stop"
    rm -f "$run/ready"
    # A session of its own: ^C reaches only us, and the engine is asked once.
    exec {out}< <(exec setsid "$@" </dev/null)
    pid=$!
    echo "$pid" >"$run/pid"
    # shellcheck disable=SC2329
    on_signal() {
        if [ -z "$asked" ]; then kill -TERM "$pid"; else kill -KILL -- "-$pid"; fi 2>/dev/null
        asked=$1
    }
    # Without a reader, or room in its file, there is nothing to say, and an engine to serve on.
    trap '' PIPE XFSZ
    # Asked twice, it is killed.
    trap 'on_signal 130' INT
    trap 'on_signal 143' TERM HUP
    while :; do
        IFS= read -r line <&"$out" || {
            # Above 128: a signal cut the read short. Else the end, perhaps behind a last line without its newline.
            [ $? -le 128 ] || continue
            [ -n "$line" ] || break
        }
        say "$line"
        if [[ $line == ready:* ]]; then
            address=${line#ready: }
            address=${address%%[ /,]*}
            hints "$address" "$where"
            echo "$address" >"$run/ready"
        fi
    done
    # A wait that a signal cut short is not the end either.
    while wait "$pid"; status=$?; [ -e "/proc/$pid/exe" ]; do :; done
    trap - INT TERM HUP
    # A helper of its that was stopped hears of no end, and would keep the namespace.
    kill -KILL -- "-$pid" 2>/dev/null
    rm -f "$run/ready" "$run/pid"
    # With 1 and 2 the engine has said why by itself; with 0 it has printed what it was asked for (--help, --tcp help).
    [ -n "$address" ] || [ -n "$asked" ] || [ "$status" -le 2 ] ||
        warn "the engine ended before it was ready (status $status)"
    [ "$status" = 0 ] && [ -n "$asked" ] && exit "$asked"
    exit "$status"
}

# option NAME DEFAULT WORD...: the value of --NAME in the words.
option() {
    local name=--$1 value=$2
    shift 2
    while [ $# -gt 0 ]; do
        case $1 in
            "$name") value=${2-} ;;
            "$name="*) value=${1#*=} ;;
        esac
        shift
    done
    printf '%s' "$value"
}

serve_words() { # puts into `words` what `trust serve` is started with
    local extra=()
    read -ra extra <<<"${TRUST_ARGS:-}"
    # It keeps the lock that `supervise` takes, of all that it inherits.
    words=(serve --hold 9 ${extra[@]+"${extra[@]}"} "$@")
    [ -n "$(option address '' "${words[@]}")" ] || words+=(--address 10.7.0.2/24)
}

cmd_serve() {
    if [ "${1-}" = --host ]; then
        shift
        cmd_host "$@"
    fi
    require ip unshare setpriv flock setsid
    check_tun
    choose_namespace
    build trust
    serve_words "$@"
    supervise namespace "${fresh[@]}" setpriv --pdeathsig KILL sh -c "$inside" "$BASHPID" "$engine" "${words[@]}"
}

# ---- the way to the Internet --------------------------------------------------------------------------------------

# What --nat has changed lies in $run/nat until it is undone: UPLINK FORMER-FORWARDING.
nat_table=trust_nat

# nat_on TUN ADDRESS/PREFIX: forwards and masquerades for that network, and undoes it when this script ends. Refuses where
# something is in the way: nothing that exists is changed, but for the forwarding of the interface that leads out.
nat_on() {
    local tun=$1 address=$2 uplink former chain
    [[ $tun =~ ^[A-Za-z0-9_.-]+$ ]] || die "--nat: $tun is no name for a device here"
    uplink=$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
    [ -n "$uplink" ] || die "--nat: there is no default route in this namespace, and so no way out"
    require nft
    mkdir -p "$run" || die "cannot write $run"
    : >>"$run/nat.lock" && exec 6<"$run/nat.lock"
    flock -n 6 || die "--nat: another engine of this clone has it already"
    if [ -e "$run/nat" ]; then
        warn "--nat: undoing what a run that was killed has left"
        nat_off
    fi
    ! nft list table ip "$nat_table" >/dev/null 2>&1 ||
        die "--nat: there is a table ip $nat_table already, perhaps another engine's; if it is nobody's: nft delete table ip $nat_table"
    # Whoever drops by default would drop what we forward; to allow it would be to change his rules.
    chain=$(nft list chains 2>/dev/null | awk '
        $1 == "table" { table = $2 " " $3 }
        $1 == "chain" { chain = $2 }
        / hook forward / && /policy drop/ && table !~ /^(ip6|arp|bridge|netdev)/ { print table " " chain; exit }')
    [ -z "$chain" ] || die "--nat: this machine's firewall drops what is forwarded (nft chain $chain); that is left as it is"
    former=$(cat "/proc/sys/net/ipv4/conf/$uplink/forwarding")
    echo "$uplink $former" >"$run/nat"
    trap nat_off EXIT
    # Nobody gets in from outside. Where forwarding was off, it is on for our device and nothing else.
    local closed=''
    [ "$former" = 1 ] || closed="iifname \"$uplink\" oifname != \"$tun\" drop"
    nft -f - <<END || die "--nat: nft refuses; the kernel may lack NAT (modprobe nft_chain_nat nft_masq)"
table ip $nat_table {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr $address oifname "$uplink" masquerade
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        iifname != "$tun" oifname "$tun" ct state new drop
        $closed
    }
}
END
    warn "--nat: added the nft table ip $nat_table: what $address sends by $uplink is masqueraded, nobody gets in"
    if [ "$former" != 1 ]; then
        echo 1 >"/proc/sys/net/ipv4/conf/$uplink/forwarding" || die "--nat: net.ipv4.conf.$uplink.forwarding cannot be set"
        warn "--nat: net.ipv4.conf.$uplink.forwarding was $former and is 1, for $tun only: the table drops the rest"
    fi
}

# Undoes it, by what $run/nat says. Not the forwarding of our device: that goes with the device.
# shellcheck disable=SC2329
nat_off() {
    local uplink former
    trap - EXIT
    read -r uplink former 2>/dev/null <"$run/nat" || return 0
    if [ "$former" != 1 ] && echo "$former" 2>/dev/null >"/proc/sys/net/ipv4/conf/$uplink/forwarding"; then
        warn "--nat: net.ipv4.conf.$uplink.forwarding is $former again"
    fi
    nft delete table ip "$nat_table" 2>/dev/null && warn "--nat: removed the nft table ip $nat_table"
    rm -f "$run/nat"
}

# ---- in the current namespace ----------------------------------------------------------------------------------------

cmd_host() {
    local nat='' command=serve
    if [ "${1-}" = --nat ]; then
        nat=1
        shift
    fi
    case ${1-} in
        serve | fetch | connect | iperf3)
            command=$1
            shift
            ;;
        -* | '') ;;
        *) misuse "--host: serve, fetch, connect and iperf3 run there, $1 does not" ;;
    esac
    require ip flock setsid setpriv
    if [ -n "$nat" ] && ! is_root; then
        die "--nat changes what this machine forwards, so it is for root: sudo ./run.sh --host --nat"
    fi
    check_tun
    build trust
    local tun=trust0
    if [ "$command" = serve ]; then
        serve_words "$@"
    else
        words=("$command" "$@")
        [ -n "$(option tun '' "${words[@]}")" ] || words+=(--tun trust1)
        [ -n "$(option address '' "${words[@]}")" ] || words+=(--address 10.7.1.2/24)
    fi
    [ -z "$nat" ] || words+=(--forwarding --hold 6)
    # Before anything is changed: do the arguments make sense? What they ask to be printed (--help) is all there is to do.
    local address used said
    said=$("$engine" --check "${words[@]}") || exit
    if [ -n "$said" ]; then
        say "$said"
        exit 0
    fi
    tun=$(option tun trust0 "${words[@]}")
    address=$(option address '' "${words[@]}")
    [ ! -e "/sys/class/net/$tun" ] && ! ip link show dev "$tun" >/dev/null 2>&1 ||
        die "a device $tun exists already; choose another: ./run.sh --host --tun trust1"
    used=$({ ip route show match "${address%/*}" && ip route show root "$address"; } 2>/dev/null | grep -v '^default' | head -n 1)
    [ -z "$used" ] || die "$address is in use here ($used); choose another: ./run.sh --host --address 10.77.0.2/24"
    if [ -n "$nat" ]; then
        nat_on "$tun" "$address"
        # No packet of ours is larger than what the way out takes: whoever would have to say so may be silent.
        local uplink _ mtu
        read -r uplink _ <"$run/nat"
        mtu=$(ip -o link show dev "$uplink" | sed -n 's/.* mtu \([0-9]*\) .*/\1/p')
        [ -n "$(option mtu '' "${words[@]}")" ] || [ "${mtu:-1500}" -ge 1500 ] || words+=(--mtu "$mtu")
    fi
    if ! is_root; then
        require getcap setcap
        if [[ $(getcap "$engine") != *cap_net_admin*=*e* ]]; then
            say "sudo setcap cap_net_admin=eip $engine"
            sudo setcap cap_net_admin=eip "$engine" || die "without cap_net_admin no device can be made in this namespace; run as root"
        fi
    fi
    if [ "$command" != serve ]; then
        # ^C reaches the command by itself; this script stays to undo what it did.
        local child status
        env --default-signal=INT,QUIT setpriv --pdeathsig TERM "$engine" "${words[@]}" <&0 6>&- &
        child=$!
        trap : INT
        trap 'kill -TERM "$child" 2>/dev/null' TERM HUP
        while wait "$child"; status=$?; [ -e "/proc/$child/exe" ]; do :; done
        exit "$status"
    fi
    if is_root; then
        supervise host setpriv --pdeathsig KILL "$engine" "${words[@]}"
    fi
    # A binary that carries capabilities loses its pdeathsig when it starts: a small shell stands in between.
    # shellcheck disable=SC2016
    supervise host setpriv --pdeathsig TERM sh -c '
        [ "$PPID" = "$0" ] || exit 1
        trap "kill -TERM \$child 2>/dev/null" TERM
        "$@" & child=$!
        wait $child; status=$?
        while kill -0 $child 2>/dev/null; do wait $child; status=$?; done
        exit $status' "$BASHPID" "$engine" "${words[@]}"
}

cmd_exec() {
    choose_entry
    if [ $# = 0 ]; then
        say "a shell beside the engine; ^D leaves it"
        set -- "${SHELL:-/bin/sh}"
    elif ! command -v -- "$1" >/dev/null 2>&1; then
        local package sudo=''
        is_root || sudo='sudo '
        if package=$(package_of "$1"); then
            warn "$1 is not installed here; Debian has it: ${sudo}apt-get install -y $package"
        else
            warn "there is no program $1 here; install what has it, or give its path"
        fi
        exit 127
    fi
    exec ${enter[@]+"${enter[@]}"} "$@"
}

# outwards COMMAND WORD...: a command of the engine's on a stack of its own, beside the running engine.
outwards() {
    require ip nsenter flock
    running ||
        die "no engine is running in this clone, so there is nobody to connect to; start one in another terminal: ./run.sh"
    check_tun
    build trust
    local i
    choose_entry
    local links addresses
    links=$(${enter[@]+"${enter[@]}"} ip -o link)
    addresses=$(${enter[@]+"${enter[@]}"} ip -o -4 addr)
    for i in {1..254}; do
        [[ $links != *" trust$i:"* && $addresses != *" 10.7.$i."* ]] || continue
        # Held until this connection ends: another one started now takes the next number.
        : >>"$run/net$i.lock" && exec 8<"$run/net$i.lock"
        flock -n 8 || continue
        exec ${enter[@]+"${enter[@]}"} "$engine" "$@" --address "10.7.$i.2/24" --tun "trust$i" --hold 8
    done
    die "all subnets 10.7.1.0/24 to 10.7.254.0/24 are in use in the engine's namespace"
}

cmd_connect() {
    [ $# -ge 2 ] || misuse "connect: HOST and PORT are needed; like: ./run.sh connect 10.7.0.2 7"
    outwards connect "$@"
}

cmd_fetch() {
    [ $# -ge 1 ] || misuse "fetch: an URL is needed; like: ./run.sh fetch http://10.7.0.2/bytes/1000"
    outwards fetch "$@"
}

# Starts an engine beside this script when none is running; it ends with this script.
engine_beside() {
    running && return 0
    mkdir -p "$run"
    setpriv --pdeathsig KILL "$me" serve >"$run/beside.log" 2>&1 </dev/null &
    beside=$!
    trap 'end_engine; exit 143' INT TERM HUP
    local _
    for _ in {1..400}; do
        [ -e "$run/ready" ] && return 0
        [ -e "/proc/$beside/exe" ] || break
        sleep 0.05
    done
    cat "$run/beside.log" >&2
    die "the engine did not start"
}

cmd_load() {
    local usage='./run.sh load N [BYTES] [--kill K]' beside='' status=0 n=${1-} bytes=100000 kill=0 words=()
    [[ $n =~ ^[1-9][0-9]{0,5}$ ]] || misuse "load: N must be a number of clients from 1; $usage"
    shift
    if [[ ${1-} =~ ^[^-] ]]; then
        [[ $1 =~ ^[1-9][0-9]{0,14}$ ]] || misuse "load: BYTES must be a number from 1, not $1; $usage"
        bytes=$1
        shift
    fi
    while [ $# -gt 0 ]; do
        case $1 in
            --kill) kill=${2-} && shift ;;
            --kill=*) kill=${1#*=} ;;
            --seed | --timeout)
                words+=("$1" "${2-}")
                shift
                ;;
            *) misuse "load: what is $1? $usage" ;;
        esac
        [[ $kill =~ ^(0|[1-9][0-9]{0,5})$ ]] || misuse "load: --kill K must be a number; $usage"
        [ $# = 0 ] || shift
    done
    [ "$kill" -lt "$n" ] || misuse "load: K (--kill $kill) must be less than N ($n), so that somebody is left to be exact"
    [ "$kill" = 0 ] || [ "$bytes" -ge 4 ] || misuse "load: --kill needs 4 BYTES or more, for there to be a midway"
    [ "$kill" = 0 ] || words+=(--kill "$kill")
    # Before the long part: what an engine beside us needs.
    require nc ip unshare nsenter setpriv flock setsid
    running || { check_tun; choose_namespace; }
    build trust trust-tools
    engine_beside
    choose_entry
    ${enter[@]+"${enter[@]}"} "$built/nc-load" "$(cat "$run/ready")" 7 "$n" "$bytes" ${words[@]+"${words[@]}"} || status=$?
    [ -z "$beside" ] || end_engine
    exit "$status"
}

# Asks the running engine to end, and kills it when it has not 5 s after the time that open connections have (--drain).
end_engine() {
    local pid words=() drain limit i
    pid=$(engine_pid)
    [ -n "$pid" ] || die "an engine is just starting; try again"
    mapfile -d '' -t words 2>/dev/null <"/proc/$pid/cmdline"
    drain=$(option drain 3 ${words[@]+"${words[@]}"})
    [[ $drain =~ ^[0-9]{1,5}$ ]] || drain=3
    limit=$((5 + 10#$drain))
    kill -TERM "$pid" 2>/dev/null || die "process $pid belongs to $(stat -c %U "/proc/$pid" 2>/dev/null || echo another user); use sudo"
    for ((i = 0; i < limit * 20; i++)); do
        running || return 0
        sleep 0.05
    done
    warn "no answer within $limit s: killing it"
    # It leads a process group of its own.
    kill -KILL -- "-$pid" 2>/dev/null
    sleep 0.2
    ! running
}

cmd_stop() {
    # An engine that was killed just now holds the lock a moment longer than its device.
    if [ -e "$run/nat" ] && is_root && flock -w 0.5 "$run/nat.lock" true; then
        warn "--nat: undoing what a run that was killed has left"
        nat_off
    fi
    running || { say "no engine is running in this clone"; return 0; }
    end_engine && say "stopped"
}

# ---- measuring and testing --------------------------------------------------------------------------------------

driver() { # COMMAND OPTION...
    require nc ip unshare iperf3 ping
    check_tun
    choose_namespace
    build trust trust-tools
    local words=()
    # Namespaces are made by the driver; a user must be root of a user namespace for that.
    [[ ${fresh[1]} == -n ]] || words=(unshare -Ur)
    exec ${words[@]+"${words[@]}"} "$built/bench-driver" "$@" --engine "$engine" --tools "$built"
}

steps=()
step() { # NAME WORD...
    local name=$1 began=$SECONDS
    shift
    say "== $name: $*"
    if (cd "$top" && "$@" </dev/null); then
        steps+=("ok      $name ($((SECONDS - began)) s)")
    else
        steps+=("FAILED  $name ($((SECONDS - began)) s): $*")
    fi
}

# cargo counts a test binary that runs nothing as passed: so look at what ran.
all_tests() {
    local log status
    mkdir -p "$run" && log=$(mktemp "$run/tests.XXXXXX") || return 1
    cargo test --workspace --all-features --no-fail-fast 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    tools/every-test-ran . <"$log" || status=1
    rm -f "$log"
    return "$status"
}

# Each in a namespace of its own, as cargo starts them: in there an ordinary user may make a device, too. Each ends by itself
# but first_packet, which waits for packets and is told to stop. Built they are with the tests: alone they would have packages
# with other features.
all_examples() {
    local example examples=(embed mio_echo hyper_server hyper_client axum_hello)
    if [ "${TRUST_REQUIRE_TUN:-}" = 1 ] || (exec 7<>/dev/net/tun) 2>/dev/null; then
        examples+=(serve connect)
        timeout 2 tools/netns-exec "$unoptimized/examples/first_packet"
        [ $? = 124 ] || return 1
    else
        warn "examples that open a TUN device are left out: /dev/net/tun is not writable"
    fi
    for example in "${examples[@]}"; do
        timeout 300 tools/netns-exec "$unoptimized/examples/$example" || return 1
    done
}

cmd_test() {
    check_rust
    require cc ip unshare setpriv
    need nsenter flock setsid iperf3 nc ss tshark nft ping curl ab wrk python3 sshd ssh h2load nghttpd || warn "tests that need the programs above are skipped or fail"
    if cargo fmt --version >/dev/null 2>&1; then
        step format cargo fmt --all --check
    else
        steps+=("left out  format: rustup component add rustfmt")
    fi
    if cargo clippy --version >/dev/null 2>&1; then
        step lints cargo clippy --workspace --all-targets --all-features -- -D warnings
    else
        steps+=("left out  lints: rustup component add clippy")
    fi
    # What is started from here on can be told from what others run.
    export TRUST_TEST_RUN="$$.$RANDOM"
    local before
    mkdir -p "$run" && before=$(mktemp "$run/before.XXXXXX") && "$top/tools/leftovers" take "$before" || return 1
    # With all that the tests need of packages, for these to be compiled once.
    step programs cargo build --workspace --all-features --bins --examples
    step conformance "$unoptimized/conformance-check"
    step tests all_tests
    step docs env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps
    step examples all_examples
    step loom env RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}" \
        timeout 900 cargo test --profile loom --lib --target-dir target/loom loom
    step build cargo build --release --workspace
    step worlds env TRUST_WORLDS="${TRUST_WORLDS:-10000}" timeout 1200 \
        cargo test --release -p trust-tools --test worlds -- --nocapture
    step whole timeout 300 tools/smoke
    step leftovers tools/leftovers compare "$before"
    rm -f "$before"
    say "== summary"
    printf '%s\n' "${steps[@]}"
    ! printf '%s\n' "${steps[@]}" | grep -q '^FAILED'
}

command=${1-serve}
[ $# = 0 ] || shift
case $command in
    test | stop | demo | help | --help | -h)
        [ $# = 0 ] || misuse "$command takes nothing more, but there is: $*"
        ;;
esac
case $command in
    serve) cmd_serve "$@" ;;
    --host) cmd_host "$@" ;;
    exec) cmd_exec "$@" ;;
    connect) cmd_connect "$@" ;;
    fetch) cmd_fetch "$@" ;;
    iperf3) outwards iperf3 "$@" ;;
    load) cmd_load "$@" ;;
    demo) driver demo ;;
    bench) driver compare "$@" ;;
    test) cmd_test ;;
    stop) cmd_stop ;;
    help | --help | -h) usage ;;
    --*) cmd_serve "$command" "$@" ;;
    *) misuse "there is no command $command; ./run.sh help lists them" ;;
esac
