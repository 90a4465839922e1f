//! Start and end: signals, what stays behind, idle cost, and life without rights.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::fetch::Directory;
use crate::support::*;

/// Links, addresses, routes and firewall of this namespace.
fn state() -> String {
    let mut text = must(5, "ip", &["-o", "link"]) + &must(5, "ip", &["-o", "address"]);
    text += &must(5, "ip", &["route", "show", "table", "all"]);
    text += &must(5, "ip", &["rule"]);
    if need(&["nft"]).is_ok() {
        text += &String::from_utf8_lossy(&run(5, "nft", &["list", "ruleset"]).stdout);
    }
    text
}

/// An octet comes back.
fn answers(mut stream: &TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

fn ends_by(signal: i32) -> Outcome {
    need(&["ip", "nc"])?;
    let before = state();
    let engine = Engine::start(&[]);
    assert!(state().contains("trust0"), "{}", state());
    echo_exact(10, &noise(100_000, 1));
    // One that stands open at the end, on both sides (gvisor#8748).
    let open = TcpStream::connect((ENGINE, 7)).unwrap();
    answers(&open);
    let mut busy = TcpStream::connect((ENGINE, 19)).unwrap();
    busy.read_exact(&mut [0; 1_000]).unwrap();
    let summary = engine.end_by(signal);
    assert_eq!(summary.number(" connections accepted"), 3.0);
    assert_eq!(state(), before);
    // Neither waits for what will never come.
    for mut stream in [open, busy] {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let error = std::io::copy(&mut stream, &mut std::io::sink()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    Ok(())
}

pub(crate) fn term() -> Outcome {
    ends_by(libc::SIGTERM)
}

pub(crate) fn int() -> Outcome {
    ends_by(libc::SIGINT)
}

/// Killed hard, at work.
pub(crate) fn killed() -> Outcome {
    need(&["ip", "nc"])?;
    let before = state();
    let mut engine = Engine::start(&[]);
    echo_exact(10, &noise(100_000, 2));
    // Chargen, which never stops by itself.
    let mut open = TcpStream::connect((ENGINE, 19)).unwrap();
    open.read_exact(&mut [0; 1_000]).unwrap();
    engine.signal(libc::SIGKILL);
    assert!(!engine.wait(Duration::from_secs(5)).success());
    // The kernel takes the interface away when the last descriptor is gone, which may be a moment later.
    eventually(Duration::from_secs(2), "nothing stays behind", || state() == before);
    Ok(())
}

/// The name of a running engine's interface is refused to a second one, in a line that helps.
pub(crate) fn second_engine() -> Outcome {
    let engine = Engine::start(&[]);
    let output = run(10, env!("CARGO_BIN_EXE_trust"), &["serve"]);
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.trim_end().lines().count() == 1 && text.contains("trust0"), "{}", describe(&output));
    echo_exact(10, b"still there");
    engine.finish();
    Ok(())
}

/// Standard error of a command that has to end soon with this status, after one line and nothing on standard output.
pub(crate) fn refusal(program: &str, arguments: &[&str], status: i32) -> String {
    let output = run(10, program, arguments);
    let said = describe(&output);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {said}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "{arguments:?} takes one line: {said}");
    text
}

/// What the command line cannot mean ends with 2, what cannot be done here with 1. (The words are tested by the parser.)
pub(crate) fn refusals() -> Outcome {
    let table: &[(&[&str], i32, &str)] = &[
        (&[], 2, "no subcommand"),
        (&["serv"], 2, "there are serve, connect, fetch, iperf3, ss, kill, stats, capture, events, see trust --help"),
        (&["serve", "--tcp", "bogus=1"], 2, "trust: --tcp: there is no TCP setting \"bogus\""),
        (&["fetch", "http://10.7.1.1:65616/"], 2, "no host with a port from 1 to 65535"),
        (&["--check", "fetch", "https://10.7.1.1/"], 2, "https needs TLS"),
        (&["--check", "serve", "--tcp", "bogus=1"], 2, "\"bogus\""),
        (&["serve", "--colour"], 2, "trust serve --help"),
        (&["serve", "--workers", "abc"], 2, "--workers abc"),
        (&["serve", "--pin", "999"], 2, "--pin 999: this process may not use such a CPU; there are "),
        (&["serve", "--pin", "0", "--workers", "2"], 2, "--pin names fewer CPUs (1) than --workers 2"),
        (&["serve", "--pin", "0,0"], 2, "named twice"),
        (&["serve", "--service", "echo:4242", "--service", "http:4242"], 2, "choose another port"),
        (&["serve", "--tun", "a/b"], 2, "--tun"),
        (&["serve", "--tun", "lo"], 1, "choose another name"),
        (&["connect", "localhost", "7"], 2, "10.7.1.1"),
        (&["connect", "127.0.0.9", "7"], 2, "loopback"),
        (&["connect", "nobody.invalid", "7"], 1, "nobody.invalid"),
    ];
    for (arguments, status, what) in table {
        let text = refusal(env!("CARGO_BIN_EXE_trust"), arguments, *status);
        assert!(text.starts_with("trust: ") && text.contains(what), "{arguments:?}: {text}");
    }
    // Help is no refusal.
    assert!(must(5, env!("CARGO_BIN_EXE_trust"), &["serve", "--help"]).lines().count() > 20);
    Ok(())
}

/// Limits of the process that are too low are refused at the start, in one line that says which; above them it serves.
pub(crate) fn limits() -> Outcome {
    need(&["sh", "nc"])?;
    let limited = |limit: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit {limit} && exec \"$0\" serve --workers 2"), env!("CARGO_BIN_EXE_trust")]);
        command
    };
    let refusal = |limit: &str| {
        let script = format!("ulimit {limit} && exec \"$0\" serve --workers 2");
        let output = run(10, "sh", &["-c", &script, env!("CARGO_BIN_EXE_trust")]);
        let text = String::from_utf8_lossy(&output.stderr);
        // Where steering takes a right that is not there, a warning says so first.
        let own = text.lines().filter(|line| line.starts_with("trust: ")).count();
        assert!(output.status.code() == Some(1) && own == 1, "{limit}: {}", describe(&output));
        assert!(!text.contains("panicked") && !text.contains("backtrace"), "{limit}: {text}");
        text.into_owned()
    };
    assert!(refusal("-v 500000").contains("take less: --workers 1, --memory 16M"));
    let mut served = 0;
    for files in 5..40 {
        let limit = format!("-n {files}");
        let output = run(
            1,
            "sh",
            &["-c", &format!("ulimit {limit} && exec \"$0\" serve --workers 2"), env!("CARGO_BIN_EXE_trust")],
        );
        if String::from_utf8_lossy(&output.stdout).contains("ready: ") {
            // Enough for the start is enough to serve.
            served += 1;
            if served > 3 {
                break;
            }
            let engine = Engine::spawn(limited(&limit));
            echo_exact(10, b"good day");
            engine.finish();
        } else {
            assert!(served == 0, "{limit}: {}", describe(&output));
            refusal(&limit);
        }
    }
    assert!(served > 3, "not with 40 descriptors");
    // A log at the limit of its file is like one on a full disk. In blocks of half a kilobyte or of a whole one.
    let directory = Directory::new("limits");
    let line = "ulimit -f 8 && exec \"$0\" serve --stats 1 --log segments >\"$1\" 2>\"$1.log\"";
    let mut command = bounded(60, "sh", &["-c", line, env!("CARGO_BIN_EXE_trust"), &directory.path("output")]);
    let child = crate::fetch::Killed(command.spawn().unwrap());
    eventually(Duration::from_secs(20), "it serves", || TcpStream::connect((ENGINE, 7)).is_ok());
    for _ in 0..20 {
        echo_exact(10, b"good day");
    }
    assert!(std::fs::metadata(directory.path("output.log")).unwrap().len() <= 8 << 10);
    drop(child);
    // No thread may be had: whoever says why has none either. Root is not limited, so another user is.
    if crate::fence::can_change_user() {
        let output = run(10, "prlimit", &["--nproc=1", env!("CARGO_BIN_EXE_trust"), "serve", "--user", "4321"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
        assert!(text.contains("trust: ") && text.contains("Resource temporarily unavailable"), "{}", describe(&output));
    }
    Ok(())
}

/// A usual port goes to another service, and only what is asked for is served.
pub(crate) fn ports() -> Outcome {
    let echoes = |port| answers(&TcpStream::connect((ENGINE, port)).unwrap());
    let ready = |engine: &Engine, services: &str| {
        let ipv6 = if trust::device::kernel_has_ipv6() { "fd00:7::2 " } else { "" };
        let wanted = format!("ready: 10.7.0.2 {ipv6}{services}");
        assert!(engine.banner.lines().any(|line| line == wanted), "{}", engine.banner);
    };
    let engine = Engine::start(&["--service", "echo:80"]);
    ready(&engine, "echo:7 discard:9 daytime:13 chargen:19 iperf3:5201 echo:80");
    echoes(7);
    echoes(80);
    engine.finish();
    let engine = Engine::start(&["--no-default-services", "--service", "echo:80"]);
    ready(&engine, "echo:80");
    echoes(80);
    assert!(TcpStream::connect((ENGINE, 7)).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused));
    engine.finish();
    let engine = Engine::start(&["--no-default-services"]);
    ready(&engine, "(no services)");
    engine.finish();
    Ok(())
}

/// `ip link del` is advice for a TUN device that nobody holds, never for an interface of another kind.
pub(crate) fn taken_names() -> Outcome {
    need(&["ip"])?;
    for name in ["lo", "veth7"] {
        if name == "veth7" {
            must(5, "ip", &["link", "add", name, "type", "veth", "peer", "name", "veth8"]);
        }
        let text = refusal(env!("CARGO_BIN_EXE_trust"), &["serve", "--tun", name], 1);
        assert!(!text.contains("del") && text.contains("choose another name"), "{text}");
    }
    must(5, "ip", &["tuntap", "add", "dev", "trust0", "mode", "tun"]);
    let text = refusal(env!("CARGO_BIN_EXE_trust"), &["serve"], 1);
    assert!(text.contains("ip link del trust0"), "{text}");
    Ok(())
}

/// run.sh: what it refuses itself, and no second line behind what the engine says.
pub(crate) fn run_sh() -> Outcome {
    need(&["bash", "ip", "unshare", "setpriv", "flock", "setsid", "nsenter"])?;
    let state = std::env::temp_dir().join(format!("trust-run-{}", std::process::id()));
    let run_sh = concat!(env!("CARGO_MANIFEST_DIR"), "/run.sh");
    // No build: this binary; a state directory of its own.
    let settings = [
        format!("TRUST_BIN={}", env!("CARGO_BIN_EXE_trust")),
        format!("TRUST_RUN_DIR={}", state.display()),
        "TRUST_NO_INSTALL=1".to_owned(),
    ];
    let table: &[(&[&str], i32, &str)] = &[
        (&["nonsense"], 2, "run.sh: there is no command nonsense; ./run.sh help"),
        (&["stop", "now"], 2, "run.sh: stop takes nothing more"),
        (&["test", "unit"], 2, "run.sh: test takes nothing more"),
        (&["connect"], 2, "run.sh: connect: HOST and PORT"),
        (&["connect", "10.7.0.2", "7"], 1, "run.sh: no engine is running in this clone"),
        (&["exec", "true"], 1, "run.sh: no engine is running in this clone"),
        (&["load"], 2, "run.sh: load: N must be"),
        (&["load", "0"], 2, "run.sh: load: N must be"),
        (&["load", "5", "0"], 2, "run.sh: load: BYTES must be a number from 1, not 0"),
        (&["load", "5", "x"], 2, "run.sh: load: BYTES must be a number from 1, not x"),
        (&["load", "5", "--kill", "10"], 2, "run.sh: load: K (--kill 10) must be less than N (5)"),
        (&["load", "5", "--kill", "5"], 2, "must be less than N"),
        (&["load", "5", "--kill"], 2, "run.sh: load: --kill K must be a number"),
        (&["load", "5", "--kil", "2"], 2, "run.sh: load: what is --kil?"),
        (&["serve", "--workers", "abc"], 2, "trust: --workers abc"),
        (&["--mtu", "1"], 2, "trust: --mtu 1"),
        (&["serve", "--tun", "lo"], 1, "trust: an interface named 'lo' exists already"),
    ];
    for (arguments, status, what) in table {
        let words: Vec<_> =
            settings.iter().map(String::as_str).chain([run_sh]).chain(arguments.iter().copied()).collect();
        let text = refusal("env", &words, *status);
        assert!(text.contains(what), "{arguments:?}: {text}");
    }
    // What is only printed is printed, and that is all.
    for arguments in [
        &["--tcp", "help"][..],
        &["serve", "--help"],
        &["--host", "--tcp", "help"],
        &["connect", "--help"],
        &["fetch", "-h"],
        &["iperf3", "--help"],
        &["exec", "--help"],
        &["ss", "--help"],
        &["events", "-h"],
        &["stop", "--help"],
        &["test", "-h"],
        &["load", "--help"],
    ] {
        let words: Vec<_> =
            settings.iter().map(String::as_str).chain([run_sh]).chain(arguments.iter().copied()).collect();
        let output = run(10, "env", &words);
        let said = describe(&output);
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {said}");
        assert!(String::from_utf8_lossy(&output.stdout).lines().count() > 10, "{arguments:?}: {said}");
    }
    // An engine that has just gone is nobody's: its starter holds the lock for a moment longer.
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("pid"), "4000000\n").unwrap();
    let lock = state.join("lock");
    let mut holder = bounded(5, "flock", &[lock.to_str().unwrap(), "sh", "-c", "echo held; sleep 0.5"]);
    let mut holder = holder.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 5];
    holder.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    let words: Vec<_> = settings.iter().map(String::as_str).chain([run_sh, "stop"]).collect();
    let output = run(10, "env", &words);
    assert!(output.status.success() && output.stdout == b"stopped\n", "{}", describe(&output));
    holder.wait().unwrap();
    let _ = std::fs::remove_dir_all(state);
    Ok(())
}

/// An upload that is cut off at its end leaves data under way, which is answered by resets: the summary says what kind.
pub(crate) fn resets() -> Outcome {
    need(&["iperf3"])?;
    let engine = Engine::start(&[]);
    must(20, "iperf3", &["-c", "10.7.0.2", "-n", "2M", "--bidir"]);
    let summary = engine.finish();
    assert!(summary.number(" resets sent (closed port, data behind our close, or aborted)") >= 1.0, "{}", summary.text);
    Ok(())
}

/// User and system time of a process so far.
fn cpu_time(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Fields are counted behind the name, which may hold spaces: utime is the 12th from there, stime the 13th.
    let fields: Vec<_> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // SAFETY: no memory is involved.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as u64;
    Duration::from_millis(ticks * 1000 / per_second)
}

fn resident_kilobytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// 1,000 connections that have nothing to say cost nothing.
fn idle(plan: &str) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trust"));
    // Without --stats, which would be work.
    command.args(["serve", "--plan", plan]);
    let engine = Engine::spawn(command);
    let start = resident_kilobytes(engine.pid());
    assert!(start < 100_000, "{start} KB at start");
    raise_open_files(1_100)?;
    let connections: Vec<_> = (0..1_000).map(|_| TcpStream::connect((ENGINE, 7)).unwrap()).collect();
    connections.iter().for_each(answers);
    std::thread::sleep(Duration::from_millis(500));
    let (before, span) = (cpu_time(engine.pid()), Duration::from_secs(size(5, 10) as u64));
    std::thread::sleep(span);
    let used = cpu_time(engine.pid()) - before;
    assert!(used < span / 100, "{used:?} of CPU in {span:?}");
    // They are all alive.
    connections.iter().for_each(answers);
    drop(connections);
    assert_eq!(engine.finish().number(" connections accepted"), 1_000.0);
    Ok(())
}

pub(crate) fn idle_fused() -> Outcome {
    idle("fused")
}

pub(crate) fn idle_pipeline() -> Outcome {
    idle("pipeline")
}

/// A user without rights: as nobody where the device allows, else as the root of a new user namespace.
pub(crate) fn unprivileged() -> Outcome {
    need(&["unshare", "setpriv", "nsenter", "ip", "nc", "sh"])?;
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let probe = "test -w /dev/net/tun && test -x \"$0\" && unshare -Urn true";
    let trust = env!("CARGO_BIN_EXE_trust");
    let as_nobody = run(10, "setpriv", &[&nobody[..], &["sh", "-c", probe, trust]].concat()).status.success();
    let probe = run(10, "unshare", &["-Urn", "true"]);
    if !probe.status.success() {
        return Err(format!("user namespaces: {}", describe(&probe)));
    }
    let mut command = Command::new(if as_nobody { "setpriv" } else { "unshare" });
    if as_nobody {
        command.args(nobody).arg("unshare");
    }
    command.args(["-Urn", "sh", "-c", "ip link set lo up && exec \"$0\" serve --stats 1", trust]);
    let engine = Engine::spawn(command);
    let pid = engine.pid().to_string();
    let enter = ["-t", &pid, "-U", "-n", "--preserve-credentials", "nc", "-N", "10.7.0.2", "7"];
    let data = noise(1_000_000, 14);
    let output = pipe(&mut bounded(20, "nsenter", &enter), &data);
    assert!(output.status.success(), "{}, {}", output.status, String::from_utf8_lossy(&output.stderr));
    assert_same(&output.stdout, &data);
    // bpf(2) is for root nearly everywhere; then one line says what happens instead.
    let text = engine.output();
    if !engine.banner.contains("steering hash") && !engine.banner.contains("steering local") {
        let workers = engine.banner.matches("worker (shard").count();
        let lines = text.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
        assert_eq!(lines, usize::from(workers > 1), "one line about steering: {text}");
        assert!(workers == 1 || engine.banner.contains("steering learn"), "{text}");
    }
    engine.finish();
    Ok(())
}

/// What tests leave behind is found: a process, an interface, a file, firewall rules; and nothing where nothing is left.
pub(crate) fn leftovers() -> Outcome {
    need(&["bash", "ip", "nft", "unshare"])?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/leftovers");
    let directory = Directory::new("leftovers");
    let (state, temporary) = (directory.path("state"), directory.path("temporary"));
    std::fs::create_dir(&temporary).unwrap();
    let leftovers = |word: &str| {
        let mut command = bounded(20, script, &[word, &state]);
        command.env("TMPDIR", &temporary).env("TRUST_TEST_RUN", &state).env("TRUST_PATIENCE", "0").output().unwrap()
    };
    let (clean, dirty) = (
        |output: &Output| output.status.success() && output.stdout.is_empty(),
        |output: &Output, what: &str| output.status.code() == Some(1) && describe(output).contains(what),
    );
    assert!(leftovers("take").status.success());
    let output = leftovers("compare");
    assert!(clean(&output), "{}", describe(&output));

    let mut planted = bounded(60, "sleep", &["50"]).env("TRUST_TEST_RUN", &state).spawn().unwrap();
    eventually(Duration::from_secs(5), "sleep is found", || dirty(&leftovers("compare"), "sleep 50"));
    planted.kill().unwrap();
    planted.wait().unwrap();
    eventually(Duration::from_secs(5), "it goes with what started it", || clean(&leftovers("compare")));

    must(5, "ip", &["tuntap", "add", "dev", "left7", "mode", "tun"]);
    assert!(dirty(&leftovers("compare"), "left7"));
    must(5, "ip", &["link", "del", "left7"]);
    let file = format!("{temporary}/trust-planted");
    std::fs::write(&file, "").unwrap();
    assert!(dirty(&leftovers("compare"), "trust-planted"));
    std::fs::remove_file(file).unwrap();
    must(5, "nft", &["add", "table", "ip", "planted"]);
    assert!(dirty(&leftovers("compare"), "planted"));
    must(5, "nft", &["delete", "table", "ip", "planted"]);
    assert!(clean(&leftovers("compare")));
    Ok(())
}
