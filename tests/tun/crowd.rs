//! Many connections at once: a thousand stock clients, readers that stall, a flood of short connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::*;

/// One of the tools of this workspace: built with the engine, or now.
pub(crate) fn tool(name: &str) -> PathBuf {
    // target/PROFILE/trust
    let engine = PathBuf::from(env!("CARGO_BIN_EXE_trust"));
    let driver = engine.with_file_name(name);
    let (profile, target) = (engine.parent().unwrap(), engine.parent().and_then(|p| p.parent()).unwrap());
    let profile = profile.file_name().unwrap().to_str().unwrap();
    let mut command = bounded(400, env!("CARGO"), &["build", "-q", "-p", "trust-tools", "--bin", name]);
    command.args(["--profile", if profile == "debug" { "dev" } else { profile }, "--target-dir"]).arg(target);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success() && driver.exists(), "{driver:?}: {}", describe(&output));
    driver
}

/// 1,000 clients with 100 kB each. Octet by octet is the driver's work.
fn thousand(kill: usize) -> Outcome {
    need(&["nc"])?;
    hash_allowed()?;
    need_cpus(2)?;
    raise_open_files(2_100)?;
    let driver = tool("nc-load");
    let engine = Engine::start(&["--workers", "2", "--steer", "hash"]);
    let kill_text = kill.to_string();
    let arguments = ["10.7.0.2", "7", "1000", "100000", "--json", "--timeout", "60", "--kill", &kill_text];
    let output = run(100, driver.to_str().unwrap(), &arguments);
    assert!(output.status.success(), "{}", describe(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["exact"].as_u64(), report["killed"].as_u64()), (Some(1000 - kill as u64), Some(kill as u64)));
    assert_eq!(report["failed"].as_u64(), Some(0), "{report}");
    engine.await_stats("nothing is kept of them", Duration::from_secs(5), |now| {
        now.connections == 0 && now.chunks == 0 && now.held_packets == 0 && now.held_octets == 0
    });
    let summary = engine.finish();
    let shares = summary.accepted_by_shard();
    assert_eq!(shares.iter().sum::<u64>(), 1_000, "{}", summary.text);
    assert!(shares.len() == 2 && shares.iter().all(|share| (400..=600).contains(share)), "{}", summary.text);
    assert!(!summary.text.contains("BacklogFull") && !summary.text.contains("NoRoom"), "{}", summary.text);
    Ok(())
}

pub(crate) fn thousand_clients() -> Outcome {
    thousand(0)
}

pub(crate) fn thousand_clients_200_killed() -> Outcome {
    thousand(200)
}

/// Echo clients that write until nothing more goes, and never read.
fn stalled(count: usize) -> Vec<TcpStream> {
    let streams: Vec<_> = (0..count)
        .map(|_| {
            let stream = TcpStream::connect((ENGINE, 7)).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        })
        .collect();
    let (block, mut last) = ([b'.'; 65_536], Instant::now());
    // Full when half a second brings no more room anywhere.
    let end = Instant::now() + Duration::from_secs(20);
    while last.elapsed() < Duration::from_millis(500) && Instant::now() < end {
        for mut stream in &streams {
            match stream.write(&block) {
                Ok(taken) => {
                    assert!(taken > 0);
                    last = Instant::now();
                }
                Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock, "{e}"),
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    streams
}

/// The one that reads is about as fast as it is alone.
pub(crate) fn stalled_readers() -> Outcome {
    need(&["nc"])?;
    raise_open_files(100)?;
    let data = noise(size(10_000_000, 50_000_000), 8);
    let engine = Engine::start(&[]);
    // The best of three: other work on this machine only ever adds.
    let measure = || (0..3).map(|_| echo_exact(60, &data)).min().unwrap();
    let alone = measure();
    let crowd = stalled(64);
    let beside = measure();
    // Held up by them it would take for ever; how fast this machine is otherwise, is no matter of this test.
    assert!(beside < 4 * alone + Duration::from_secs(2), "alone {alone:?}, beside 64 that stall {beside:?}");
    drop(crowd);
    engine.await_stats("nothing is kept of them", Duration::from_secs(5), |now| {
        now.connections == 0 && now.chunks == 0 && now.held_packets == 0 && now.held_octets == 0
    });
    engine.finish();
    Ok(())
}

/// Short connections one after the other from one address, closed by the engine first (daytime): its TIME-WAIT records
/// pile up, ports come round again, and none is refused.
pub(crate) fn short_connections() -> Outcome {
    const CLIENTS: usize = 4;
    let each = size(5_000, 200_000) / CLIENTS;
    // So few that the regular run uses each port more than once.
    sysctl("ip_local_port_range", if soak() { "1024 65535" } else { "40000 42000" })?;
    let engine = Engine::start(&[]);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            thread::spawn(move || {
                let mut line = String::new();
                for index in 0..each {
                    let who = || format!("connection {index} of client {client}");
                    let mut stream = connect_patiently().unwrap_or_else(|e| panic!("{}: {e}", who()));
                    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                    line.clear();
                    // To the end: our FIN is the answer to theirs.
                    stream.read_to_string(&mut line).unwrap_or_else(|e| panic!("{}: {e}", who()));
                    assert!(line.ends_with("-UTC\r\n"), "{}: {line:?}", who());
                    let _ = stream.shutdown(Shutdown::Write);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let summary = engine.finish();
    assert_eq!(summary.number(" connections accepted"), (each * CLIENTS) as f64, "{}", summary.text);
    assert!(!summary.text.contains("BacklogFull") && !summary.text.contains("NoRoom"), "{}", summary.text);
    Ok(())
}

/// With local birth: connection after connection from one CPU is served there without a packet on the wrong queue, and when
/// TIME-WAIT is over nothing is left in the owner table.
pub(crate) fn local_births() -> Outcome {
    hash_allowed()?;
    need_cpus(2)?;
    let count = size(5_000, 100_000);
    let cpu = *trust::engine::usable_cpus().last().unwrap();
    // The kernel's side must not run out of ports.
    sysctl("tcp_max_tw_buckets", "100")?;
    let engine = Engine::start(&["--workers", "2", "--steer", "local", "--plan", "fused", "--tcp", "time_wait=1s"]);
    assert!(engine.banner.contains("steering local"), "{}", engine.banner);
    let client = thread::spawn(move || {
        assert!(core_affinity::set_for_current(core_affinity::CoreId { id: cpu }));
        for index in 0..count {
            // Every other one is closed by the engine first, which keeps a TIME-WAIT record.
            let (port, request) = if index % 2 == 0 { (13, &b""[..]) } else { (7, &b"?"[..]) };
            let mut stream = TcpStream::connect((ENGINE, port)).unwrap_or_else(|e| panic!("connection {index}: {e}"));
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(request).unwrap();
            let mut octets = [0; 256];
            let got = stream.read(&mut octets).unwrap_or_else(|e| panic!("connection {index}: {e}"));
            assert!(got > 0 && (port == 13 || octets[..got] == *request), "connection {index}: {got}");
        }
    });
    client.join().unwrap();
    // TIME-WAIT, and a whole round of the sweep.
    thread::sleep(Duration::from_secs(4));
    let summary = engine.finish();
    assert_eq!(summary.number(" connections accepted"), count as f64, "{}", summary.text);
    assert!(summary.text.contains("forwarded between shards: 0\n"), "{}", summary.text);
    assert!(summary.text.contains("steering: 0 buckets claimed"), "{}", summary.text);
    assert!(!summary.text.contains("NotOwner"), "{}", summary.text);
    // All were born on the CPU of their client, but for what came while that worker had no time.
    let shares = summary.accepted_by_shard();
    assert!(shares[1] as f64 > 0.9 * count as f64, "{}", summary.text);
    Ok(())
}

/// One CPU sends 10,000 connections: the worker there keeps no more than its part.
pub(crate) fn one_sender_many_flows() -> Outcome {
    const FLOWS: usize = 10_000;
    hash_allowed()?;
    need_cpus(2)?;
    raise_open_files(FLOWS as u64 / 2 + 4_000)?;
    sysctl("ip_local_port_range", "20000 65535")?;
    let cpu = trust::engine::usable_cpus()[0];
    let engine = Engine::start(&["--workers", "2", "--steer", "local", "--plan", "fused"]);
    let client = thread::spawn(move || {
        assert!(core_affinity::set_for_current(core_affinity::CoreId { id: cpu }));
        let connect = |index| TcpStream::connect((ENGINE, 7)).unwrap_or_else(|e| panic!("connection {index}: {e}"));
        (0..FLOWS).map(connect).collect::<Vec<_>>()
    });
    let streams = client.join().unwrap();
    engine.await_stats("all are there", Duration::from_secs(10), |now| now.connections == FLOWS as u64);
    let held: Vec<_> = engine.stats().iter().map(|shard| shard.connections).collect();
    let least = *held.iter().min().unwrap();
    assert!(least * 5 >= FLOWS as u64, "{held:?}");
    drop(streams);
    engine.finish();
    Ok(())
}

/// Connects; the kernel itself may be out of ports for a moment, which is not the engine's refusal.
fn connect_patiently() -> std::io::Result<TcpStream> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect_timeout(&(ENGINE, 13).into(), Duration::from_secs(10)) {
            Err(e) if e.kind() == ErrorKind::AddrNotAvailable && Instant::now() < end => {
                thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}
