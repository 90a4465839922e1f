//! `trust connect`: nc on our stack, against stock nc on the kernel's.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::*;

fn connect(limit: u64, host: &str, port: &str) -> std::process::Command {
    bounded(limit, env!("CARGO_BIN_EXE_trust"), &["connect", host, port])
}

/// Megabytes both ways at once, each direction with its own end.
pub(crate) fn both_ways() -> Outcome {
    need(&["nc", "ss"])?;
    let len = size(20_000_000, 100_000_000);
    let (up, down) = (noise(len, 1), noise(len, 2));
    // Any address: the engine's device and with it 10.7.1.1 come later.
    let mut server = bounded(120, "nc", &["-l", "-N", "0.0.0.0", "5000"]);
    let (served, connected) = std::thread::scope(|scope| {
        let served = scope.spawn(|| pipe(&mut server, &down));
        eventually(Duration::from_secs(5), "nc listens", || {
            must(5, "ss", &["-Hltn", "sport = :5000"]).contains(":5000")
        });
        let connected = pipe(&mut connect(120, "10.7.1.1", "5000"), &up);
        (served.join().unwrap(), connected)
    });
    assert!(connected.status.success(), "trust connect: {}, {}", connected.status, lossy(&connected.stderr));
    assert!(served.status.success(), "nc: {}, {}", served.status, lossy(&served.stderr));
    assert_same(&served.stdout, &up);
    assert_same(&connected.stdout, &down);
    assert!(!must(5, "ip", &["-o", "link"]).contains("trust1"));
    Ok(())
}

fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Refused: at once, a line that says so, an exit code like nc's.
pub(crate) fn refused() -> Outcome {
    let start = Instant::now();
    let output = connect(20, "10.7.1.1", "5001").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    assert!(lossy(&output.stderr).contains("refused"), "{}", describe(&output));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    Ok(())
}

/// The peer resets in the middle: not a success.
pub(crate) fn reset() -> Outcome {
    let listener = std::net::TcpListener::bind("0.0.0.0:5000").map_err(|e| e.to_string())?;
    let peer = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut octet = [0; 1];
        std::io::Read::read_exact(&mut &stream, &mut octet).unwrap();
        // Closing with octets unread makes the kernel reset.
        std::thread::sleep(Duration::from_millis(100));
    });
    let output = pipe(&mut connect(20, "10.7.1.1", "5000"), &noise(100_000, 3));
    peer.join().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    assert!(lossy(&output.stderr).contains("reset"), "{}", describe(&output));
    Ok(())
}
