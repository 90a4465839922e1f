//! `trust connect`: nc on our stack, against stock nc on the kernel's.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;

fn connect(limit: u64, host: &str, port: &str) -> std::process::Command {
    bounded(limit, env!("CARGO_BIN_EXE_trust"), &["connect", host, port])
}

/// Megabytes both ways at once. Our end of input comes last: with `-l`, nc drops the rest of its own at the peer's FIN.
pub(crate) fn both_ways() -> Outcome {
    need(&["nc", "ss"])?;
    let len = size(20_000_000, 100_000_000);
    let (up, down) = (noise(len, 1), noise(len, 2));
    // Any address: the engine's device and with it 10.7.1.1 come later.
    let mut server = bounded(120, "nc", &["-l", "-N", "0.0.0.0", "5000"]);
    thread::scope(|scope| {
        let served = scope.spawn(|| pipe(&mut server, &down));
        eventually(Duration::from_secs(5), "nc listens", || {
            must(5, "ss", &["-Hltn", "sport = :5000"]).contains(":5000")
        });
        let mut command = connect(120, "10.7.1.1", "5000");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let up = &up;
        let writer = scope.spawn(move || stdin.write_all(up).map(|()| stdin));
        let mut got = vec![0; len];
        stdout.read_exact(&mut got).unwrap_or_else(|e| panic!("down: {e}, {}", child.wait().unwrap()));
        assert_same(&got, &down);
        drop(writer.join().unwrap().unwrap());
        got.clear();
        stdout.read_to_end(&mut got).unwrap();
        assert_same(&got, b"");
        let status = child.wait().unwrap();
        assert!(status.success(), "trust connect: {status}");
        let served = served.join().unwrap();
        assert!(served.status.success(), "nc: {}, {}", served.status, lossy(&served.stderr));
        assert_same(&served.stdout, up);
    });
    assert!(!must(5, "ip", &["-o", "link"]).contains("trust1"));
    Ok(())
}

/// Our input ends, then comes all of theirs: half-closed, the connection carries it, and what standard output has not
/// taken yet when both sides are closed is not lost.
pub(crate) fn half_closed() -> Outcome {
    let len = size(20_000_000, 100_000_000);
    let (up, down) = (noise(len, 3), noise(len, 4));
    let listener = TcpListener::bind("0.0.0.0:5000").map_err(|e| e.to_string())?;
    thread::scope(|scope| {
        let peer = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            stream.write_all(&down).unwrap();
            got
        });
        let mut slow = bounded(120, "sh", &["-c", "\"$0\" connect 10.7.1.1 5000 | (sleep 2; cat)"]);
        slow.arg(env!("CARGO_BIN_EXE_trust"));
        let output = pipe(&mut slow, &up);
        assert!(output.status.success(), "{}, {}", output.status, lossy(&output.stderr));
        assert_same(&output.stdout, &down);
        assert_same(&peer.join().unwrap(), &up);
    });
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
    let listener = TcpListener::bind("0.0.0.0:5000").map_err(|e| e.to_string())?;
    let peer = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut octet = [0; 1];
        (&stream).read_exact(&mut octet).unwrap();
        // Closing with octets unread makes the kernel reset.
        thread::sleep(Duration::from_millis(100));
    });
    let output = pipe(&mut connect(20, "10.7.1.1", "5000"), &noise(100_000, 3));
    peer.join().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    assert!(lossy(&output.stderr).contains("reset"), "{}", describe(&output));
    Ok(())
}

/// A standard input that cannot be read ends what is sent, as nothing in it would, and is told.
pub(crate) fn input_that_fails() -> Outcome {
    let listener = TcpListener::bind("0.0.0.0:5000").map_err(|e| e.to_string())?;
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert!(got.is_empty());
        stream.write_all(b"the answer").unwrap();
    });
    let directory = std::fs::File::open("/").unwrap();
    let output = connect(20, "10.7.1.1", "5000").stdin(directory).output().unwrap();
    peer.join().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    assert_eq!(lossy(&output.stderr), "trust: standard input: Is a directory (os error 21)\n");
    assert_eq!(lossy(&output.stdout), "the answer");
    Ok(())
}

/// Nobody answers: said once, soon, while it goes on.
pub(crate) fn silence() -> Outcome {
    // In our own prefix, and nobody's.
    let output = run(4, env!("CARGO_BIN_EXE_trust"), &["connect", "10.7.1.9", "7"]);
    assert_eq!(output.status.code(), Some(124), "it goes on: {}", describe(&output));
    let text = lossy(&output.stderr);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("trust: no answer yet from 10.7.1.9:7 (SYN sent again); "), "{text}");
    Ok(())
}

/// An engine on another device of this namespace: out of reach while the kernel does not forward, and that is said.
pub(crate) fn not_forwarded() -> Outcome {
    sysctl("ip_forward", "0")?;
    let engine = Engine::start(&[]);
    let start = Instant::now();
    let output = run(10, env!("CARGO_BIN_EXE_trust"), &["connect", "10.7.0.2", "7"]);
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    let text = lossy(&output.stderr);
    assert!(text.lines().count() == 1 && text.contains("net.ipv4.ip_forward"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    sysctl("ip_forward", "1")?;
    let data = noise(300_000, 5);
    let output = pipe(&mut connect(20, "10.7.0.2", "7"), &data);
    assert!(output.status.success(), "{}", describe(&output));
    assert!(output.stderr.is_empty(), "{}", describe(&output));
    assert_same(&output.stdout, &data);
    engine.finish();
    Ok(())
}
