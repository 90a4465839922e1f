//! Hostile load against the running engine: whatever greedy, silent and vanished clients hold, an honest one that comes
//! later is served, one that was there before goes on, and memory is bounded and comes back.
//!
//! | file | holds |
//! | --- | --- |
//! | here | the trials: a load, what is asked of the engine beside it, the kernel beside the same, the table |
//! | `loads` | what the clients of each load do |
//! | `peers` | peers by hand on a packet socket, where one must not acknowledge |
//! | `honest` | honest clients, and how long they wait |
//! | `floods` | SYNs from addresses that nobody has |
//! | `fragments` | fragments from such |
//!
//! The regular run asks for service and exactness, with bounds that a busy machine keeps; `TRUST_SOAK=1` has each load
//! for a minute on three plans, beside the kernel's TCP under the same load, and asserts what is measured, too.

mod floods;
mod fragments;
mod honest;
mod loads;
mod peers;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use socket2::SockAddr;

pub(crate) use self::honest::{Transfer, exact};
use self::honest::{Visits, visit};
use self::loads::Held;
pub(crate) use self::loads::small_socket;
use crate::crowd::tool;
use crate::fetch::{Killed, listens, listens_in};
use crate::forward::loopback;
use crate::nat::Namespace;
use crate::netns;
use crate::support::*;

/// Beyond the engine's budget: the program itself, and what its memory is managed with.
const BESIDES_THE_BUDGET: u64 = 64 << 20;

/// How long an honest client waits before it gives up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is attacked: the engine behind its TUN device, or the kernel of another namespace behind a pair of Ethernet
/// devices.
#[derive(Debug)]
pub(crate) struct Target {
    device: &'static str,
    address: Ipv4Addr,
    /// Of the Ethernet device behind; a TUN device has none.
    ethernet: Option<[u8; 6]>,
}

impl Target {
    const ENGINE: Self = Self { device: "trust0", address: ENGINE, ethernet: None };
    const KERNEL: Self = Self { device: "k0", address: Ipv4Addr::new(10, 8, 0, 2), ethernet: Some([2, 0, 0, 0, 0, 2]) };

    fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// Where a packet socket sends to.
    fn link_address(&self) -> io::Result<SockAddr> {
        link_address(self.device, libc::ETH_P_IP, self.ethernet)
    }
}

/// The address of a packet socket on a device, for packets of that protocol.
pub(crate) fn link_address(device: &str, protocol: i32, ethernet: Option<[u8; 6]>) -> io::Result<SockAddr> {
    let name = std::ffi::CString::new(device)?;
    // SAFETY: the name is a string that ends with 0.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    let init = |storage: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        let address = storage.cast::<libc::sockaddr_ll>();
        // SAFETY: the storage holds an address of any family, zeroed and aligned, and is ours for this call.
        let address = unsafe {
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            &mut *address
        };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (protocol as u16).to_be();
        address.sll_ifindex = index as i32;
        if let Some(ethernet) = ethernet {
            address.sll_halen = 6;
            address.sll_addr[..6].copy_from_slice(&ethernet);
        }
        Ok(())
    };
    // SAFETY: family, length and fields of a packet socket's address are filled in above.
    unsafe { SockAddr::try_init(init) }.map(|((), address)| address)
}

/// An honest client; says how long it took.
type Probe = fn(&Target) -> Result<Duration, String>;

/// A load, and what is asked beside it.
struct Load {
    name: &'static str,
    take: fn(&Target) -> Result<Held, String>,
    /// What the engine is started with.
    arguments: &'static [&'static str],
    /// The plan of the regular run.
    plan: &'static [&'static str],
    /// One more honest client, and when it is to be served at the latest after the load has taken what it can.
    also: Option<(Probe, Duration)>,
}

/// Readers and writers beside worker threads, everything on each thread, one shard.
const PLANS: [&[&str]; 3] = [&["--plan", "fused"], &["--plan", "pipeline"], &["--workers", "1"]];

const LOADS: [Load; 8] = [
    Load { name: "holders_of_one_octet", take: loads::holders, arguments: &[], plan: PLANS[2], also: None },
    Load { name: "http_pipeliners", take: loads::pipeliners, arguments: &[], plan: PLANS[0], also: None },
    Load { name: "unread_echoes", take: loads::unread, arguments: &[], plan: PLANS[1], also: None },
    // What nobody reads gives way after half a minute, if it is more than others leave.
    Load {
        name: "unread_http_echoes",
        take: loads::unread_bodies,
        arguments: &[],
        plan: PLANS[0],
        also: Some((loads::http_echo_serves, Duration::from_secs(35))),
    },
    Load {
        name: "readers_beside_writers",
        take: loads::readers_and_writers,
        arguments: &[],
        plan: PLANS[2],
        also: None,
    },
    Load { name: "half_closed", take: loads::half_closed, arguments: &[], plan: PLANS[0], also: None },
    Load {
        name: "iperf3_controls",
        take: loads::iperf3_controls,
        arguments: &[],
        plan: PLANS[0],
        also: Some((loads::iperf3_serves, Duration::ZERO)),
    },
    // Places of forward are taken from those that have been idle for half a minute, not before.
    Load {
        name: "vanished_forwards",
        take: loads::forwarded,
        arguments: &["--service", "forward:6000=127.0.0.1:5000"],
        plan: PLANS[1],
        also: Some((loads::forward_serves, Duration::from_secs(35))),
    },
];

/// A test for each load, and for floods.
pub(crate) fn trials() -> Vec<Trial> {
    let load = |load: &'static Load| netns::trial_or_skip(&format!("hostile_{}", load.name), || endure(load));
    let mut trials: Vec<_> = LOADS.iter().map(load).collect();
    trials.extend([
        netns::trial_or_skip("hostile_syn_flood_at_half_of_what_the_queue_takes", floods::half),
        netns::trial_or_skip("hostile_syn_flood_of_700_a_second", floods::trickle),
        netns::trial_or_skip("hostile_syn_flood_at_the_highest_rate", floods::highest),
        netns::trial_or_skip("hostile_fragments_of_each_kind", fragments::storms),
    ]);
    trials
}

fn endure(load: &Load) -> Outcome {
    need(&["ip", "ss", "nsenter", "unshare"])?;
    let _turn = measured_alone();
    if load.name == "iperf3_controls" {
        need(&["iperf3"])?;
    }
    raise_open_files(9_000)?;
    loopback();
    let _behind = forwarded_to();
    let share = if soak() { Some(kernel_keeps(load)?) } else { None };
    let plans = if soak() { &PLANS[..] } else { &[load.plan] };
    let mut faults = Vec::new();
    for plan in plans {
        faults.extend(engine_endures(load, plan, share)?);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// Where it is measured, one load after the other.
fn measured_alone() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    // One that failed leaves nothing that the next must not see.
    soak().then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The server that a port is forwarded to.
fn forwarded_to() -> Killed {
    let words = ["server", "--address", "127.0.0.1", "--service", "echo:5000"];
    let mut command = bounded(550, tool("ktcp").to_str().unwrap(), &words);
    let server = Killed(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    listens(5000);
    server
}

/// What part of its speed a transfer keeps beside this load on the kernel's TCP.
fn kernel_keeps(load: &Load) -> Result<f64, String> {
    let namespace = Namespace::new();
    let ip = |line: &str| drop(must(10, "ip", &line.split(' ').collect::<Vec<_>>()));
    let ethernet = "02:00:00:00:00:02";
    ip(&format!("link add k0 type veth peer name k1 address {ethernet} netns {}", namespace.pid()));
    ip("addr add 10.8.0.1/24 dev k0");
    ip("link set k0 up");
    namespace.must("ip addr add 10.8.0.2/24 dev k1");
    namespace.must("ip link set k1 up");
    // Answers to the peers that nobody has come back to us, where nobody takes them either.
    namespace.must("ip route add 10.64.0.0/10 via 10.8.0.1");
    let services = ["echo:7", "discard:9", "chargen:19", "chargen:80", "echo:5201", "echo:6000"];
    let driver = tool("ktcp");
    let mut words = vec![driver.to_str().unwrap(), "server"];
    services.iter().for_each(|service| words.extend(["--service", service]));
    let _server = namespace.spawn(&words);
    listens_in(&namespace.prefix(), 6000);
    let transfer = Transfer::start(Target::KERNEL.address);
    let alone = transfer.rate(ALONE);
    let held = (load.take)(&Target::KERNEL)?;
    let (beside, _) = beside(&Target::KERNEL, load, &transfer, Duration::from_secs(15));
    drop(held);
    let alone = (alone + transfer.rate(ALONE)) / 2.0;
    let _ = transfer.end();
    Ok(beside / alone)
}

/// What a megabyte both ways takes at most beside a load, where it is measured: it is a matter of milliseconds, mostly.
const SLOW: Duration = Duration::from_secs(2);

/// How long a transfer is measured alone, before a load and after it.
const ALONE: Duration = Duration::from_secs(3);

/// What honest clients saw beside a load.
#[derive(Debug, Default)]
struct Seen {
    visits: Visits,
    megabytes: Visits,
    also: Visits,
}

/// Honest clients for a span, one after another; with the speed of the transfer meanwhile.
fn beside(target: &Target, load: &Load, transfer: &Transfer, span: Duration) -> (f64, Seen) {
    let (start, octets) = (Instant::now(), transfer.octets());
    let mut seen = Seen::default();
    let data = noise(1_000_000, 23);
    let (pause, mut next) = (span / 6, start);
    while start.elapsed() < span {
        seen.visits.add(visit(target.at(7), PATIENCE));
        thread::sleep(Duration::from_millis(2));
        if Instant::now() >= next {
            next = Instant::now() + pause;
            seen.megabytes.add(exact(target.at(7), &data, PATIENCE));
            if let Some((also, from)) = load.also.filter(|_| target.device == Target::ENGINE.device) {
                // Below the number of places there is nothing to wait for.
                if !soak() || start.elapsed() >= from {
                    seen.also.add(also(target));
                }
            }
        }
    }
    ((transfer.octets() - octets) as f64 / start.elapsed().as_secs_f64(), seen)
}

/// Everything that is asked of an engine beside a load; what is wrong.
fn engine_endures(load: &Load, plan: &[&str], kernel: Option<f64>) -> Result<Vec<String>, String> {
    let engine = Engine::start(&[load.arguments, plan].concat());
    let pid = engine.pid();
    let budget = budget(engine.banner.matches("worker (shard").count() as u64);
    let transfer = Transfer::start(ENGINE);
    let alone = transfer.rate(if soak() { ALONE } else { Duration::from_millis(300) });
    let before = memory(pid, "VmRSS");
    let held = (load.take)(&Target::ENGINE)?;
    let clients = held.clients;
    let span = if soak() { Duration::from_secs(60) } else { Duration::from_millis(1_500) };
    let (rate, seen) = beside(&Target::ENGINE, load, &transfer, span);
    let after_load = transfer.octets();
    drop(held);
    let mut faults = Vec::new();
    let name = format!("{} {}", load.name, plan.join(" "));
    let mut fault = |what: String| faults.push(format!("{name}: {what}"));
    for (what, visits) in [("visits", &seen.visits), ("megabytes both ways", &seen.megabytes), (load.name, &seen.also)]
    {
        if let Some(first) = visits.failures.first() {
            let all = visits.failures.len() + visits.served.len();
            fault(format!("{} of {all} {what} failed, the first: {first}", visits.failures.len()));
        }
    }
    if clients == 0 {
        fault("the load held nothing".to_owned());
    }
    if seen.visits.served.is_empty() || seen.megabytes.served.is_empty() {
        fault("nobody was served".to_owned());
    }
    // Alive: it moves while the load is there, or at the latest now.
    let moved = rate > 0.0 || {
        thread::sleep(Duration::from_secs(2));
        transfer.octets() > after_load
    };
    let keeps = rate / if soak() { (alone + transfer.rate(ALONE)) / 2.0 } else { alone };
    if let Err(why) = transfer.end() {
        fault(format!("the established transfer: {why}"));
    } else if !moved || (soak() && rate == 0.0) {
        fault("the established transfer stood still".to_owned());
    }
    let (p99, worst) = seen.visits.p99_and_worst();
    if soak() && p99 > Duration::from_millis(100) && !seen.visits.served.is_empty() {
        fault(format!("p99 of {} visits {p99:.1?}", seen.visits.served.len()));
    }
    // The window of one who comes late promises what there is; what is refused would wait for timeouts.
    if let Some(longest) = seen.megabytes.served.iter().max().filter(|longest| soak() && **longest > SLOW) {
        fault(format!("a megabyte both ways took {longest:.1?}"));
    }
    if let Some(kernel) = kernel.filter(|kernel| keeps < kernel / 2.0) {
        fault(format!("a transfer keeps {:.0} % of its speed, {:.0} % on the kernel", 100.0 * keeps, 100.0 * kernel));
    }
    let peak = memory(pid, "VmHWM");
    if peak > budget + BESIDES_THE_BUDGET {
        fault(format!("{} of memory at the peak, the budget is {}", megabytes(peak), megabytes(budget)));
    }
    // Nothing of them is left, and neither is their memory.
    let (mut after, end) = (memory(pid, "VmRSS"), Instant::now() + Duration::from_secs(30));
    let left = || engine.stats().iter().map(|shard| shard.connections).sum::<u64>();
    while Instant::now() < end && (left() > 0 || (soak() && after * 5 > before * 6)) {
        thread::sleep(Duration::from_millis(100));
        after = memory(pid, "VmRSS");
    }
    // A reset that the device dropped: the next probe of a closed window learns of it, two minutes later at most.
    let end = Instant::now() + Duration::from_secs(if soak() { 125 } else { 0 });
    while Instant::now() < end && left() > 0 {
        thread::sleep(Duration::from_millis(100));
        after = memory(pid, "VmRSS");
    }
    if left() > 0 {
        fault(format!("{} connections are left after all that time", left()));
    }
    if soak() && after * 5 > before * 6 {
        fault(format!("{} of memory afterwards, {} before", megabytes(after), megabytes(before)));
    }
    add_row(Row {
        load: load.name.to_owned(),
        plan: plan.join(" "),
        clients: clients.to_string(),
        served: format!("{} of {}", seen.visits.served.len(), seen.visits.served.len() + seen.visits.failures.len()),
        p99,
        worst,
        megabyte: seen.megabytes.p99_and_worst().1,
        keeps: kernel
            .map_or(format!("{:.0}", 100.0 * keeps), |kernel| format!("{:.0} / {:.0}", 100.0 * keeps, 100.0 * kernel)),
        memory: format!("{} {} {}", before >> 20, peak >> 20, after >> 20),
    });
    engine.finish();
    Ok(faults)
}

/// What an engine with these shards may hold by its defaults, octets: send memory, octets received, packet buffers.
fn budget(shards: u64) -> u64 {
    let config = trust::config::EngineConfig::new(Vec::new());
    let packets = config.packet_buffers as u64 + u64::from(config.send_chunks);
    shards * ((packets << 16) + config.limits.held_octets / 4 * 5)
}

/// A line of a process's status, octets.
pub(crate) fn memory(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_else(|| panic!("no {name} of process {pid}:\n{text}")) << 10
}

fn megabytes(octets: u64) -> String {
    format!("{} MB", octets >> 20)
}

/// What a load came to.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) load: String,
    pub(crate) plan: String,
    /// How many hold something; of a flood, how many SYNs the device dropped.
    pub(crate) clients: String,
    pub(crate) served: String,
    pub(crate) p99: Duration,
    pub(crate) worst: Duration,
    /// The longest that a megabyte took to echo and back; nothing where none was sent.
    pub(crate) megabyte: Duration,
    /// What part of its speed an established transfer keeps, percent; on the kernel's TCP, where that was measured.
    pub(crate) keeps: String,
    /// Megabytes before, at the peak, afterwards.
    pub(crate) memory: String,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

pub(crate) fn add_row(row: Row) {
    ROWS.lock().unwrap().push(row);
}

/// What was measured, as a table; nothing when nothing was.
pub(crate) fn print_table() {
    let rows = ROWS.lock().unwrap();
    if rows.is_empty() {
        return;
    }
    println!(
        "{:24} {:16} {:>14} {:>14} {:>9} {:>9} {:>9} {:>10} {:>14}",
        "load", "plan", "clients", "served", "p99 ms", "worst ms", "1 MB ms", "keeps %", "memory MB"
    );
    for row in rows.iter() {
        let milliseconds = |span: Duration| match span {
            Duration::MAX => "-".to_owned(),
            span => format!("{:.1}", span.as_secs_f64() * 1e3),
        };
        println!(
            "{:24} {:16} {:>14} {:>14} {:>9} {:>9} {:>9} {:>10} {:>14}",
            row.load,
            row.plan,
            row.clients,
            row.served,
            milliseconds(row.p99),
            milliseconds(row.worst),
            milliseconds(row.megabyte),
            row.keeps,
            row.memory
        );
    }
    println!(
        "served: visits; 1 MB: the longest to echo and back; keeps: what a transfer keeps of its speed, / on the kernel's TCP; \
         memory: before, peak, after"
    );
}
