//! `trust fetch`: hyper on our sockets, against python's server and others on the kernel's.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;

fn fetch(arguments: &[&str]) -> Output {
    run(120, env!("CARGO_BIN_EXE_trust"), &[&["fetch"], arguments].concat())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory that goes with the test.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("trust-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A [`bounded`] child that ends with the test.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // What `timeout` has started goes with it when it is asked, and stays when it is killed.
        // SAFETY: the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGTERM) };
        let end = Instant::now() + Duration::from_secs(3);
        while self.0.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Python's server on port 8000 of this namespace.
pub(crate) fn http_server(directory: &Directory) -> Killed {
    let mut command = bounded(
        240,
        "python3",
        &["-m", "http.server", "8000", "--bind", "0.0.0.0", "--directory", &directory.path("")],
    );
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let server = Killed(child);
    listens(8000);
    server
}

/// A command behind the words that put it into some namespace.
pub(crate) fn within(prefix: &[String], limit: u64, words: &[&str]) -> Command {
    let all: Vec<&str> = prefix.iter().map(String::as_str).chain(words.iter().copied()).collect();
    bounded(limit, all[0], &all[1..])
}

/// Waits until somebody listens on a port of this namespace.
pub(crate) fn listens(port: u16) {
    listens_in(&[], port);
}

pub(crate) fn listens_in(prefix: &[String], port: u16) {
    eventually(Duration::from_secs(20), "a server listens", || {
        let output = within(prefix, 5, &["ss", "-Hltn", &format!("sport = :{port}")]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains(&format!(":{port}"))
    });
}

/// 50 MB of python's, octet by octet, into a file and into a pipe; a redirection only when asked; what is not there.
pub(crate) fn python() -> Outcome {
    need(&["python3", "ss"])?;
    let directory = Directory::new("fetch");
    let data = noise(50_000_000, 11);
    std::fs::write(directory.path("noise"), &data).unwrap();
    std::fs::create_dir(directory.path("sub")).unwrap();
    std::fs::write(directory.path("sub/index.html"), "in the directory").unwrap();
    let _server = http_server(&directory);

    let file = directory.path("fetched");
    let output = fetch(&["http://10.7.1.1:8000/noise", "-o", &file]);
    assert!(output.status.success(), "{}", describe(&output));
    assert_eq!(said(&output), "HTTP/1.0 200 OK\n");
    assert!(output.stdout.is_empty());
    assert_same(&std::fs::read(&file).unwrap(), &data);

    for words in [&["10.7.1.1:8000/noise"][..], &["10.7.1.1:8000/noise", "-o", "-"]] {
        let output = fetch(words);
        assert!(output.status.success(), "{}", said(&output));
        assert_same(&output.stdout, &data);
    }
    let output = fetch(&["10.7.1.1:8000/noise", "-o", "/dev/full"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).ends_with("trust: /dev/full: No space left on device (os error 28)\n"), "{}", said(&output));

    let output = fetch(&["http://10.7.1.1:8000/sub"]);
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), "HTTP/1.0 301 Moved Permanently\n"));
    assert_ne!(output.stdout, b"in the directory");
    let output = fetch(&["-L", "http://10.7.1.1:8000/sub"]);
    assert_eq!(output.stdout, b"in the directory", "{}", describe(&output));
    assert_eq!(said(&output), "HTTP/1.0 301 Moved Permanently\nHTTP/1.0 200 OK\n");

    let output = fetch(&["http://10.7.1.1:8000/nothing"]);
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    assert!(said(&output).contains("404") && String::from_utf8_lossy(&output.stdout).contains("404"));
    Ok(())
}

/// What cannot be fetched: said in one line, with status 2 where the command line makes no sense.
pub(crate) fn refusals() -> Outcome {
    for (url, status, words) in [
        ("https://10.7.1.1/", 2, "https needs TLS"),
        ("ftp://10.7.1.1/", 2, "only http"),
        ("http://10.7.1.1:1/", 1, "refused"),
        ("http://127.0.0.1/", 2, "loopback is not reached"),
    ] {
        let output = fetch(&[url]);
        assert_eq!(output.status.code(), Some(status), "{url}: {}", describe(&output));
        assert!(said(&output).contains(words) && said(&output).lines().count() == 1, "{url}: {}", said(&output));
    }
    // Nothing but our own network is routed: said at once, not after many unanswered SYNs.
    sysctl("ip_forward", "1")?;
    let output = fetch(&["http://192.0.2.1/", "--route", "10.8.0.0/16"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("no route"), "{}", said(&output));
    Ok(())
}

/// Who reads has read enough: the command ends without a word, by SIGPIPE.
pub(crate) fn into_head() -> Outcome {
    for command in ["connect 10.7.1.1 8000", "fetch http://10.7.1.1:8000/x"] {
        let listener = listen(8_000);
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
            // A request, or the end of no input.
            let _ = stream.read(&mut [0; 1_000]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            while stream.write_all(&[b'x'; 10_000]).is_ok() {}
        });
        let line = format!("{{ \"$0\" {command} </dev/null; echo status $? >&2; }} | head -c 10");
        let output = run(60, "sh", &["-c", &line, env!("CARGO_BIN_EXE_trust")]);
        assert_eq!(output.stdout.len(), 10, "{command}: {}", describe(&output));
        assert_eq!(said(&output).replace("HTTP/1.1 200 OK\n", ""), "status 141\n", "{command}");
        peer.join().unwrap();
    }
    Ok(())
}

/// Servers that do not do what they promise: a body that ends early, one without end, a circle of redirections.
pub(crate) fn broken_servers() -> Outcome {
    let answers: [(&[u8], &str); 4] = [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", "midway"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n", "10.7.1.1:8000: "),
        (b"\0\0\0\0 nonsense\r\n\r\n", "10.7.1.1:8000: "),
        (b"", "midway"),
    ];
    let listener = listen(8_000);
    let circle = |listener: &TcpListener, count: usize, answer: &[u8]| {
        for _ in 0..count {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1_000];
            let len = stream.read(&mut request).unwrap();
            assert!(request[..len].starts_with(b"GET /x HTTP/1.1\r\n"), "{:?}", String::from_utf8_lossy(&request));
            stream.write_all(answer).unwrap();
        }
    };
    thread::scope(|scope| {
        for (answer, words) in answers {
            let server = scope.spawn(|| circle(&listener, 1, answer));
            let output = fetch(&["http://10.7.1.1:8000/x"]);
            server.join().unwrap();
            assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
            assert!(said(&output).contains(words), "{words}: {}", said(&output));
        }
        let answer = b"HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n";
        let server = scope.spawn(|| circle(&listener, 11, answer));
        let output = fetch(&["-L", "http://10.7.1.1:8000/x"]);
        server.join().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
        assert!(said(&output).contains("more than 10 redirections"), "{}", said(&output));
        // An answer that does not wait for the question is one all the same.
        for _ in 0..20 {
            let server = scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
            });
            let output = fetch(&["http://10.7.1.1:8000/x"]);
            server.join().unwrap();
            assert!(output.status.success() && output.stdout == b"abc", "{}", describe(&output));
        }
        // What was typed made sense, so that is no matter of status 2.
        let answer = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n";
        let server = scope.spawn(|| circle(&listener, 1, answer));
        let output = fetch(&["-L", "http://10.7.1.1:8000/x"]);
        server.join().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
        assert!(said(&output).contains("redirected to http://127.0.0.1/: 127.0.0.1: loopback"), "{}", said(&output));
    });
    Ok(())
}
