//! A signal lets open connections end: what has begun is finished, nothing new begins, and it is over with the last one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::forward::{accept, bounded_stream, connect, listener, loopback, reset};
use crate::hostile::small_socket;
use crate::support::*;

/// `trust serve`, started as a terminal or as nohup would: with that action for SIGHUP, whatever ours is.
fn engine(arguments: &[&str], hangup: libc::sighandler_t) -> Engine {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trust"));
    command.args(["serve", "--stats", "1"]).args(arguments);
    // SAFETY: signal is a bare system call, fit for the moment between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::signal(libc::SIGHUP, hangup);
            Ok(())
        });
    }
    Engine::spawn(command)
}

fn echoes(mut stream: &TcpStream) {
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

/// Listeners are closed, one after the other, soon. Whom they still take leaves at once.
fn refuses(address: &str) {
    eventually(Duration::from_secs(5), address, || match TcpStream::connect(address) {
        Ok(stream) => {
            reset(stream);
            false
        }
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    });
}

/// By default, too: an answer that has begun arrives whole, and the connection ends behind it.
pub(crate) fn answers() -> Outcome {
    const LEN: usize = 20_000_000;
    let mut engine = engine(&[], libc::SIG_DFL);
    let mut stream = bounded_stream(TcpStream::connect((ENGINE, 80)).unwrap());
    write!(stream, "GET /bytes/{LEN} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut got = vec![0; 100_000];
    stream.read_exact(&mut got).unwrap();
    engine.signal(libc::SIGTERM);
    refuses("10.7.0.2:80");
    refuses("10.7.0.2:7");
    stream.read_to_end(&mut got).unwrap();
    let head = got.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(got.len() - head, LEN);
    drop(stream);
    assert!(engine.wait(Duration::from_secs(10)).success());
    Ok(())
}

/// Each of them lets connections go on and ends with the last one, or with another signal.
pub(crate) fn signals() -> Outcome {
    for (signal, again) in [(libc::SIGTERM, libc::SIGTERM), (libc::SIGINT, libc::SIGTERM), (libc::SIGHUP, libc::SIGINT)]
    {
        for patient in [true, false] {
            let mut engine = engine(&["--drain", "60"], libc::SIG_DFL);
            let mut open = bounded_stream(TcpStream::connect((ENGINE, 7)).unwrap());
            echoes(&open);
            engine.signal(signal);
            refuses("10.7.0.2:7");
            thread::sleep(Duration::from_millis(300));
            echoes(&open);
            if patient {
                open.shutdown(Shutdown::Write).unwrap();
                assert_eq!(open.read(&mut [0]).unwrap(), 0);
            } else {
                engine.signal(again);
            }
            let start = Instant::now();
            assert!(engine.wait(Duration::from_secs(10)).success());
            assert!(start.elapsed() < Duration::from_secs(10), "signal {signal}, patient {patient}");
            let text = engine.output();
            assert!(text.contains("connections are open and have 60s to end"), "{text}");
            if !patient {
                assert_eq!(open.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset, "signal {signal}");
            }
        }
    }
    // Who wants it to outlive the terminal says so as ever.
    let engine = engine(&[], libc::SIG_IGN);
    engine.signal(libc::SIGHUP);
    thread::sleep(Duration::from_millis(300));
    echo_exact(10, b"still there");
    engine.finish();
    Ok(())
}

/// Nobody is waited for longer than was said, and where nothing is open, not at all.
pub(crate) fn limit() -> Outcome {
    for (seconds, least, most) in [("2", 1_900, 8_000), ("0", 0, 1_900)] {
        let mut engine = engine(&["--drain", seconds], libc::SIG_DFL);
        let mut open = bounded_stream(TcpStream::connect((ENGINE, 7)).unwrap());
        echoes(&open);
        let start = Instant::now();
        engine.signal(libc::SIGTERM);
        assert!(engine.wait(Duration::from_secs(10)).success());
        let took = start.elapsed();
        assert!((least..most).contains(&took.as_millis()), "--drain {seconds}: {took:?}");
        assert_eq!(open.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let mut engine = engine(&["--drain", "60"], libc::SIG_DFL);
    engine.signal(libc::SIGTERM);
    assert!(engine.wait(Duration::from_secs(10)).success());
    assert!(!engine.output().contains("connections are open"), "{}", engine.output());
    Ok(())
}

/// What is forwarded goes on, both ways, and so do applications; the kernel's listeners close, too.
pub(crate) fn forwards() -> Outcome {
    loopback();
    let words = [
        ["--drain", "60"],
        ["--service", "forward:6000=127.0.0.1:5000"],
        ["--service", "reverse:6001=10.7.0.1:5000"],
        ["--service", "echo-sockets:1007"],
    ];
    let mut engine = engine(words.as_flattened(), libc::SIG_DFL);
    let listener: TcpListener = listener();
    let ways = ["10.7.0.2:6000", "127.0.0.1:6001"];
    let pairs: Vec<_> = ways.iter().map(|way| (connect(way), accept(&listener))).collect();
    let plain = connect("10.7.0.2:1007");
    echoes(&plain);
    let (mut slow, mut answering) = (small_socket(ways[1].parse().unwrap()).unwrap(), accept(&listener));
    slow.set_nonblocking(false).unwrap();
    engine.signal(libc::SIGTERM);
    for address in ways.iter().chain(&["10.7.0.2:1007"]) {
        refuses(address);
    }
    let data = noise(1_000_000, 51);
    for (mut client, mut server) in pairs {
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut got = Vec::new();
                server.read_to_end(&mut got).unwrap();
                server.write_all(&got).unwrap();
                server.shutdown(Shutdown::Write).unwrap();
            });
            client.write_all(&data).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            assert_same(&got, &data);
        });
        echoes(&plain);
    }
    plain.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&plain).read(&mut [0]).unwrap(), 0);
    // Soon its connection on our stack, the last one, has ended, and what came by it still waits for its reader.
    let data = noise(4_000_000, 52);
    slow.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answering.read(&mut [0]).unwrap(), 0);
    answering.write_all(&data).unwrap();
    drop(answering);
    thread::sleep(Duration::from_millis(500));
    slow.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (mut got, mut block) = (Vec::new(), [0; 4_096]);
    while let len @ 1.. = slow.read(&mut block).unwrap() {
        got.extend_from_slice(&block[..len]);
        thread::sleep(Duration::from_millis(1));
    }
    assert_same(&got, &data);
    assert!(engine.wait(Duration::from_secs(10)).success());
    Ok(())
}
