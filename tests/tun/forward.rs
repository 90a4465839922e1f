//! Forwarding both ways: what one end does the other sees, for nc, for ssh and for sockets that do as they like.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::fetch::{Directory, Killed, listens, listens_in, within};
use crate::support::*;

/// Where clients connect to, for each way: through our stack to a server of the kernel's, and through the kernel, our stack
/// and the kernel again.
pub(crate) const WAYS: [&str; 2] = ["10.7.0.2:6000", "127.0.0.1:6001"];

/// An engine that leads both ways to port 5000 of this namespace.
pub(crate) fn engine() -> Engine {
    loopback();
    Engine::start(&["--service", "forward:6000=127.0.0.1:5000", "--service", "reverse:6001=10.7.0.1:5000"])
}

/// A new namespace has it down.
pub(crate) fn loopback() {
    must(5, "ip", &["link", "set", "lo", "up"]);
}

/// Tests bind this port again and again. A program that another test starts meanwhile has the closed listener open until
/// its exec, and so long the port is taken.
pub(crate) fn listener() -> TcpListener {
    let mut bound = None;
    eventually(Duration::from_secs(20), "the port is free", || match TcpListener::bind("0.0.0.0:5000") {
        Ok(listener) => bound.replace(listener).is_none(),
        Err(error) if error.kind() == ErrorKind::AddrInUse => false,
        Err(error) => panic!("{error}"),
    });
    bound.unwrap()
}

pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    bounded_stream(listener.accept().unwrap().0)
}

pub(crate) fn connect(way: &str) -> TcpStream {
    bounded_stream(TcpStream::connect(way).unwrap())
}

/// Nothing waits for ever.
pub(crate) fn bounded_stream(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Ends a connection at once.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Stock nc at both ends, half-closed from either side: first all of one direction, then all of the other.
pub(crate) fn half_closed() -> Outcome {
    need(&["nc", "ss"])?;
    let len = size(5_000_000, 50_000_000);
    let (up, down) = (noise(len, 21), noise(len, 22));
    let engine = engine();
    for way in ["10.7.0.2 6000", "127.0.0.1 6001"] {
        // The server answers when it has heard all.
        let listener = listener();
        let output = thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = accept(&listener);
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                assert_same(&got, &up);
                stream.write_all(&down).unwrap();
            });
            let arguments: Vec<_> = ["-N"].into_iter().chain(way.split(' ')).collect();
            pipe(&mut bounded(60, "nc", &arguments), &up)
        });
        assert!(output.status.success(), "{way}: {}", describe(&output));
        assert_same(&output.stdout, &down);
        drop(listener);
    }
    for way in WAYS {
        // The client speaks when the server has ended: stock nc as the server, which ends its direction with its input.
        let mut server = bounded(60, "nc", &["-l", "-N", "0.0.0.0", "5000"]);
        thread::scope(|scope| {
            let served = scope.spawn(|| pipe(&mut server, &down));
            listens(5000);
            let mut stream = connect(way);
            let mut got = vec![0; len];
            stream.read_exact(&mut got).unwrap();
            assert_same(&got, &down);
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{way}: its end, while we have not ended");
            // Whether nc takes more then is its own affair; ours is that the end gets there.
            stream.shutdown(Shutdown::Write).unwrap();
            let served = served.join().unwrap();
            assert!(served.status.success(), "{way}: {}", describe(&served));
        });
        let listener = listener();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = accept(&listener);
                stream.shutdown(Shutdown::Write).unwrap();
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                assert_same(&got, &up);
            });
            let mut stream = connect(way);
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            stream.write_all(&up).unwrap();
        });
    }
    engine.await_stats("all connections end", Duration::from_secs(10), |now| now.connections == 0);
    engine.finish();
    Ok(())
}

/// Megabytes both ways at once, on many connections.
pub(crate) fn both_ways() -> Outcome {
    let len = size(3_000_000, 30_000_000);
    let engine = engine();
    let listener = listener();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                let stream = accept(&listener);
                scope.spawn(move || {
                    std::io::copy(&mut &stream, &mut &stream).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                });
            }
        });
        for seed in 0..20 {
            scope.spawn(move || {
                let (stream, data) = (connect(WAYS[seed % 2]), noise(len, seed as u64));
                thread::scope(|scope| {
                    scope.spawn(|| {
                        (&stream).write_all(&data).unwrap();
                        stream.shutdown(Shutdown::Write).unwrap();
                    });
                    let mut got = Vec::new();
                    (&stream).read_to_end(&mut got).unwrap();
                    assert_same(&got, &data);
                });
            });
        }
    });
    engine.finish();
    Ok(())
}

/// A reset of either end reaches the other: in the middle, behind a half-close, and while nobody reads or writes.
pub(crate) fn resets() -> Outcome {
    let engine = engine();
    for way in WAYS {
        let listener = listener();
        for half_closed in [false, true] {
            for by_client in [true, false] {
                let client = connect(way);
                let server = accept(&listener);
                (&client).write_all(b"up").unwrap();
                (&server).read_exact(&mut [0; 2]).unwrap();
                let (goes, mut stays) = if by_client { (client, server) } else { (server, client) };
                if half_closed {
                    goes.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(stays.read(&mut [0]).unwrap(), 0);
                }
                reset(goes);
                let what = format!("{way}, half-closed {half_closed}, by the client {by_client}");
                // Behind the end of the stream a read says nothing more, and there is nothing to write: it is told unasked.
                let start = Instant::now();
                let error = loop {
                    let result = if half_closed { stays.take_error() } else { stays.read(&mut [0]).map(|_| None) };
                    match result {
                        Err(error) | Ok(Some(error)) => break error,
                        Ok(None) => {
                            assert!(half_closed && start.elapsed() < Duration::from_secs(10), "{what}: no error")
                        }
                    }
                    thread::sleep(Duration::from_millis(20));
                };
                let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(kinds.contains(&error.kind()), "{what}: {error}");
            }
        }
        // Nobody listens behind it: the client is reset, perhaps before it knows that it is connected.
        drop(listener);
        let error = TcpStream::connect(way).and_then(|stream| bounded_stream(stream).read(&mut [0])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{way}");
    }
    // The engine ends in the middle: that is no end of the stream.
    let listener = listener();
    let mut open: Vec<_> = WAYS.iter().map(|way| (connect(way), accept(&listener))).collect();
    engine.finish();
    for (client, server) in &mut open {
        for stream in [client, server] {
            assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }
    Ok(())
}

/// Who does not read stops the other end, and loses nothing.
pub(crate) fn back_pressure() -> Outcome {
    let engine = engine();
    for way in WAYS {
        let listener = listener();
        let client = connect(way);
        let server = accept(&listener);
        let data = noise(200_000_000, 31);
        client.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut sent = 0;
        while sent < data.len() {
            match (&client).write(&data[sent..]) {
                Ok(len) => sent += len,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{way}: {error}");
                    break;
                }
            }
        }
        assert!(sent < 100_000_000, "{way}: {sent} octets went nowhere");
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        (&server).read_to_end(&mut got).unwrap();
        assert_same(&got, &data[..sent]);
    }
    engine.finish();
    Ok(())
}

/// Nonsense and what is taken, refused in one line.
pub(crate) fn refusals() -> Outcome {
    loopback();
    let _taken = TcpListener::bind("127.0.0.1:6001").map_err(|e| e.to_string())?;
    for (service, status, said) in [
        ("forward:6000=nowhere", 2, "forward:PORT=HOST:PORT"),
        ("forward:4242=127.0.0.1:22", 2, "port 4242 has a service already"),
        ("reverse:6001=127.0.0.1:22", 1, "Address already in use"),
    ] {
        let words = ["serve", "--service", "echo:4242", "--service", service];
        let output = run(10, env!("CARGO_BIN_EXE_trust"), &words);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{service}: {}", describe(&output));
        // Unprivileged there is a warning about steering before it.
        let own = text.lines().filter(|line| line.starts_with("trust: ")).count();
        assert!(text.contains(said) && own == 1, "{service}: {text}");
    }
    Ok(())
}

/// A stock sshd on port 2200 of the namespace that `prefix` leads to, with keys and a configuration of its own.
pub(crate) fn sshd(directory: &Directory, prefix: &[String]) -> Result<Killed, String> {
    need(&["sshd", "ssh", "scp", "ssh-keygen", "ss", "unshare", "mount"])?;
    if !std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.trim_start().starts_with("0 ") && map.contains("4294967295"))
    {
        return Err("sshd needs to be root, not only of a user namespace".to_owned());
    }
    for key in ["host", "user"] {
        must(20, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &directory.path(key)]);
    }
    std::fs::copy(directory.path("user.pub"), directory.path("authorized")).unwrap();
    let configuration = format!(
        "Port 2200\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
         PasswordAuthentication no\nSubsystem sftp internal-sftp\nUseDNS no\n",
        directory.path("host"),
        directory.path("authorized")
    );
    std::fs::write(directory.path("sshd_config"), configuration).unwrap();
    // It wants /run/sshd: in a mount namespace of its own, so that this machine stays as it is.
    let script = "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec \"$(command -v sshd)\" -D -e -f \"$0\"";
    let mut command = within(prefix, 240, &["unshare", "-m", "sh", "-c", script, &directory.path("sshd_config")]);
    let log = std::fs::File::create(directory.path("sshd.log")).unwrap();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let server = Killed(child);
    listens_in(prefix, 2200);
    Ok(server)
}

/// The options that keep ssh and scp away from this machine's own configuration.
pub(crate) fn ssh(program: &str, directory: &Directory, port: &str, arguments: &[&str]) -> Command {
    let key = directory.path("user");
    let port_option = if program == "scp" { "-P" } else { "-p" };
    let options = [
        &["-F", "none", "-i", &key, port_option, port][..],
        &["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"],
        &["-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"],
        arguments,
    ];
    bounded(100, program, &options.concat())
}

/// A session and a file copy to a stock sshd: through our stack, and with our stack as the client's side.
pub(crate) fn secure_shell() -> Outcome {
    let directory = Directory::new("ssh");
    let _server = sshd(&directory, &[])?;
    loopback();
    let engine =
        Engine::start(&["--service", "forward:6000=127.0.0.1:2200", "--service", "reverse:6001=10.7.0.1:2200"]);
    let data = noise(size(5_000_000, 100_000_000), 41);
    std::fs::write(directory.path("file"), &data).unwrap();
    for (host, port) in [("10.7.0.2", "6000"), ("127.0.0.1", "6001")] {
        let log = || std::fs::read_to_string(directory.path("sshd.log")).unwrap_or_default();
        let user = format!("root@{host}");
        let script = "read line; echo got $line; wc -c; exit 7";
        let output = pipe(&mut ssh("ssh", &directory, port, &[&user, script]), b"one line\nand the rest");
        assert_eq!(output.status.code(), Some(7), "{}\n{}", describe(&output), log());
        assert_eq!(output.stdout, b"got one line\n12\n", "{}", describe(&output));

        let (there, back) = (directory.path("there"), directory.path("back"));
        for (from, to) in
            [(directory.path("file"), format!("{user}:{there}")), (format!("{user}:{there}"), back.clone())]
        {
            let output = ssh("scp", &directory, port, &["-q", &from, &to]).output().unwrap();
            assert!(output.status.success(), "{from} to {to}: {}\n{}", describe(&output), log());
        }
        assert_same(&std::fs::read(&back).unwrap(), &data);
        for copy in [there, back] {
            std::fs::remove_file(copy).unwrap();
        }
    }
    engine.finish();
    Ok(())
}
