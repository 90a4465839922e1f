//! IPv6 on the device: stock programs and our own, octet by octet, as the tests of IPv4 have them.
//!
//! Where the kernel has no IPv6 they are skipped, but for the one that says what is so then.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use trust::device::kernel_has_ipv6;

use crate::fetch::{Directory, Killed, listens};
use crate::forward::loopback;
use crate::iperf::Iperf;
use crate::support::*;

const TRUST: &str = env!("CARGO_BIN_EXE_trust");

/// The engine.
const HERE: &str = "fd00:7::2";
/// The kernel beside the engine of a command that goes out.
const KERNEL: &str = "fd00:7:0:1::1";

/// What these tests need.
fn ready(programs: &[&str]) -> Outcome {
    need(programs)?;
    if kernel_has_ipv6() { Ok(()) } else { Err("the kernel has no IPv6 here".to_owned()) }
}

/// Through the echo service and back.
fn echoes(address: &str, data: &[u8]) {
    let output = pipe(&mut bounded(120, "nc", &["-6", "-N", address, "7"]), data);
    assert!(output.status.success(), "nc: {} of {}, {}", output.stdout.len(), data.len(), output.status);
    assert_same(&output.stdout, data);
}

/// Both addresses are named, and answer; from the kernel nothing comes that nobody has asked for.
pub(crate) fn first_contact() -> Outcome {
    ready(&["ping", "nc", "ip"])?;
    let engine = Engine::start(&[]);
    assert!(engine.banner.contains("\nready: 10.7.0.2 fd00:7::2 echo:7 "), "{}", engine.banner);
    let addresses = must(5, "ip", &["-6", "-o", "addr", "show", "dev", "trust0"]);
    assert!(addresses.contains(" fd00:7::1/64 ") && addresses.lines().count() == 1, "no link-local one: {addresses}");
    assert!(!addresses.contains("tentative"), "{addresses}");
    for options in [&["-c", "3", "-i", "0.2"][..], &["-c", "1", "-s", "1452"]] {
        let text = must(10, "ping", &[&["-6", "-W", "2"], options, &[HERE]].concat());
        assert!(text.contains(" 0% packet loss"), "{text}");
    }
    echoes(HERE, &noise(5_000_000, 61));
    // Nobody listens there, so RST.
    let output = run(10, "nc", &["-6", "-v", "-N", HERE, "4444"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("refused"), "{}", describe(&output));
    let summary = engine.finish();
    assert_eq!(summary.number(" connections accepted"), 1.0);
    // The SYN to the closed port is all.
    assert!(!summary.text.contains("NotOurAddress"), "{}", summary.text);
    Ok(())
}

/// Segments in both directions, one by one or in super-segments, summed by us or by the device.
pub(crate) fn every_device() -> Outcome {
    ready(&["nc"])?;
    let data = noise(3_000_000, 62);
    for arguments in [
        &["--plan", "pipeline"][..],
        &["--offload", "off"],
        &["--mtu", "1280"],
        &["--mtu", "9000", "--plan", "fused"],
        &["--device", "tun-tap"],
        &["--steer", "learn", "--plan", "fused"],
    ] {
        let engine = Engine::start(arguments);
        echoes(HERE, &data);
        let summary = engine.finish();
        assert_eq!(summary.number(" closed"), 1.0, "{arguments:?}: {}", summary.text);
    }
    Ok(())
}

pub(crate) fn iperf3() -> Outcome {
    ready(&["iperf3"])?;
    let engine = Engine::start(&[]);
    for (arguments, streams) in [(&["-R"][..], 1), (&[], 1), (&["-P", "4", "--bidir"], 8)] {
        let report = Iperf::run_at(HERE, &[&["-6", "-t", "1"], arguments].concat());
        assert_eq!(report.streams(), streams, "{arguments:?}");
    }
    let summary = engine.finish();
    assert_eq!(summary.number(" connections accepted"), 13.0, "{}", summary.text);
    Ok(())
}

pub(crate) fn curl() -> Outcome {
    ready(&["curl"])?;
    let engine = Engine::start(&["--metrics", "9100"]);
    let get = |url: &str| must(20, "curl", &["-sSf", "-g", url]);
    let by_ipv4 = get("http://10.7.0.2/bytes/3000000");
    assert_same(get("http://[fd00:7::2]/bytes/3000000").as_bytes(), by_ipv4.as_bytes());
    assert!(get("http://[fd00:7::2]/").contains("[fd00:7::"), "the status page shows its reader");
    assert!(get("http://[fd00:7::2]:9100/metrics").contains("trust_connections"));
    assert!(get("http://10.7.0.2:9100/metrics").contains("trust_connections"));
    engine.finish();
    Ok(())
}

/// A server of the kernel's, on port 5000, that reads to the end and then says something.
fn answering<T>(got: &[u8], answer: &[u8], act: impl FnOnce() -> T) -> T {
    let mut bound = None;
    // What another test starts meanwhile has a listener of before open until its exec.
    eventually(Duration::from_secs(20), "the port is free", || {
        bound = TcpListener::bind("[::]:5000").ok();
        bound.is_some()
    });
    let listener = bound.unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut octets = Vec::new();
            stream.read_to_end(&mut octets).unwrap();
            assert_same(&octets, got);
            stream.write_all(answer).unwrap();
        });
        act()
    })
}

/// Our own commands to servers on the kernel's side.
pub(crate) fn outwards() -> Outcome {
    ready(&["python3", "iperf3", "ss"])?;
    let (up, down) = (noise(5_000_000, 63), noise(5_000_000, 64));
    let output = answering(&up, &down, || pipe(&mut bounded(60, TRUST, &["connect", KERNEL, "5000"]), &up));
    assert!(output.status.success(), "{}", describe(&output));
    assert_same(&output.stdout, &down);

    let directory = Directory::new("ipv6");
    std::fs::write(directory.path("noise"), &down).unwrap();
    let served = directory.path("");
    let server = ["-m", "http.server", "8000", "--bind", "::", "--directory", &served];
    let quiet = |command: &mut Command| {
        Killed(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let _http = quiet(&mut bounded(100, "python3", &server));
    listens(8000);
    let output = run(60, TRUST, &["fetch", &format!("http://[{KERNEL}]:8000/noise")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_same(&output.stdout, &down);

    let _iperf3 = quiet(&mut bounded(100, "iperf3", &["-s"]));
    listens(5201);
    let output = run(30, TRUST, &["iperf3", "-6", "-c", KERNEL, "-t", "1", "-P", "2"]);
    assert!(output.status.success(), "{}", describe(&output));
    // It is said what cannot be.
    for (words, said) in [
        (&["connect", "-4", KERNEL, "5000"][..], "fd00:7:0:1::1 has no IPv4 address"),
        (&["connect", "-6", "10.7.1.1", "5000"], "10.7.1.1 has no IPv6 address"),
        (&["connect", "-6", "--address", "10.7.1.2/24", KERNEL, "5000"], "-6: we have no IPv6 address"),
        (&["connect", "fd00:7:0:1::2", "5000"], "our own address; fd00:7:0:1::1 is the kernel"),
        (&["connect", "2001:db8::1", "5000"], "net.ipv6.conf.all.forwarding is 0"),
    ] {
        let output = run(10, TRUST, words);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(said) && text.lines().count() == 1, "{words:?}: {text}");
    }
    Ok(())
}

/// Both ways, and from one family into the other.
pub(crate) fn forwarded() -> Outcome {
    ready(&["nc", "ip"])?;
    loopback();
    let (up, down) = (noise(2_000_000, 65), noise(2_000_000, 66));
    let engine = Engine::start(&[
        "--service",
        "forward:6000=[::1]:5000",
        "--service",
        "reverse:[::1]:6001=[fd00:7::1]:5000",
        "--service",
        "reverse:6002=[fd00:7::1]:5000",
        "--service",
        "echo-sockets:1007",
    ]);
    for way in ["fd00:7::2 6000", "10.7.0.2 6000", "::1 6001", "127.0.0.1 6002"] {
        let output = answering(&up, &down, || {
            pipe(&mut bounded(60, "nc", &[&["-N"], &way.split(' ').collect::<Vec<_>>()[..]].concat()), &up)
        });
        assert!(output.status.success(), "{way}: {}", output.status);
        assert_same(&output.stdout, &down);
    }
    for address in ["[fd00:7::2]:1007", "10.7.0.2:1007"] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"both").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"both", "{address}");
    }
    engine.finish();
    Ok(())
}

/// RFC 8305: of two addresses of a host the first is dead; the other one is taken a quarter of a second later.
pub(crate) fn dead_address() -> Outcome {
    ready(&["unshare", "mount", "sh", "ip"])?;
    loopback();
    sysctl("ip_forward", "1")?;
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").map_err(|error| error.to_string())?;
    // Whoever gets there drops it, and says nothing.
    let engine = Engine::start(&["--service", "reverse:6001=both.test:7"]);
    let directory = Directory::new("both");
    std::fs::write(directory.path("hosts"), "fd00:7::99 both.test\n10.7.0.2 both.test\n").unwrap();
    std::fs::write(directory.path("nsswitch.conf"), "hosts: files\n").unwrap();
    let script = "mount --bind \"$1/hosts\" /etc/hosts && mount --bind \"$1/nsswitch.conf\" /etc/nsswitch.conf && shift && \
                  exec \"$0\" \"$@\"";
    let connect = |host: &str| {
        let arguments = ["-m", "sh", "-c", script, TRUST, &directory.path(""), "connect", host, "7"];
        let start = Instant::now();
        let output = pipe(&mut bounded(20, "unshare", &arguments), b"either");
        assert!(output.status.success(), "{}", describe(&output));
        assert_eq!(output.stdout, b"either");
        start.elapsed()
    };
    let (alone, both) = (connect("10.7.0.2"), connect("both.test"));
    eprintln!("ipv6_dead_address: {alone:?} by the one address, {both:?} behind a dead one");
    // Beside other tests a process may take long to begin; by its SYNs alone the dead one would take a minute and more.
    assert!(both < alone + Duration::from_secs(2), "{both:?} and not {alone:?}");
    let summary = engine.finish();
    assert!(summary.text.contains("NotOurAddress"), "the dead one was asked first: {}", summary.text);
    Ok(())
}

/// Flows are born on the worker on the CPU that sends, and no packet comes on another's queue; not even one of IPv6's own
/// questions, since the kernel has none.
pub(crate) fn local_births() -> Outcome {
    ready(&[])?;
    hash_allowed()?;
    need_cpus(2)?;
    let cpu = *trust::engine::usable_cpus().last().unwrap();
    let engine = Engine::start(&["--workers", "2", "--steer", "local", "--plan", "fused", "--tcp", "time_wait=1s"]);
    let client = thread::spawn(move || {
        assert!(core_affinity::set_for_current(core_affinity::CoreId { id: cpu }));
        for index in 0..1_000 {
            let mut stream = TcpStream::connect("[fd00:7::2]:7").unwrap_or_else(|e| panic!("connection {index}: {e}"));
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(b"?").unwrap();
            stream.read_exact(&mut [0]).unwrap_or_else(|e| panic!("connection {index}: {e}"));
        }
    });
    client.join().unwrap();
    thread::sleep(Duration::from_secs(4));
    let summary = engine.finish();
    assert_eq!(summary.number(" connections accepted"), 1_000.0, "{}", summary.text);
    assert!(summary.text.contains("forwarded between shards: 0\n"), "{}", summary.text);
    assert!(summary.text.contains("steering: 0 buckets claimed"), "{}", summary.text);
    Ok(())
}

/// By default it goes without, and says so; what was asked for is refused with what to do.
pub(crate) fn without() -> Outcome {
    let setting = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    if std::fs::write(setting, "1").is_err() && kernel_has_ipv6() {
        return Err(format!("{setting} cannot be set"));
    }
    let engine = Engine::start(&[]);
    assert!(engine.banner.contains("\nIPv4 alone: the kernel has no IPv6 here (net."), "{}", engine.banner);
    assert!(engine.banner.contains("\nready: 10.7.0.2 echo:7 "), "{}", engine.banner);
    echo_exact(20, b"by the other");
    engine.finish();
    let output = run(10, TRUST, &["serve", "--address", "fd00:7::2/64"]);
    let text = String::from_utf8_lossy(&output.stderr);
    let said = "trust: IPv6 is off in this network namespace, so 'trust0' can have no address of it; turn it on";
    assert!(output.status.code() == Some(1) && text.starts_with(said) && text.lines().count() == 1, "{text}");
    let engine = Engine::start(&["--mtu", "576"]);
    assert!(engine.banner.contains("\nIPv4 alone: an MTU below 1280 is too small"), "{}", engine.banner);
    engine.finish();
    Ok(())
}
