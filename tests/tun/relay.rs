//! Forwarding as people use it every day: small pieces that must not wait, HTTP/2, crowds that come at once, clients that
//! vanish, and limits on open files.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net as kernel;
use tokio::task::JoinSet;

use crate::fetch::{Directory, Killed, listens, within};
use crate::forward::{WAYS, accept, bounded_stream, connect, engine, listener, loopback};
use crate::support::*;

/// A request in two pieces a millisecond apart, and an answer likewise: no piece waits for the ACK of the one before, which
/// the other end delays by 40 ms. Where they do, nearly every round is that long; on a machine that is busy otherwise some
/// are.
pub(crate) fn pieces() -> Outcome {
    const ROUNDS: usize = 100;
    const STALL: Duration = Duration::from_millis(20);
    let engine = engine();
    for way in WAYS {
        let listener = listener();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = accept(&listener);
                stream.set_nodelay(true).unwrap();
                while stream.read_exact(&mut [0; 10]).is_ok() {
                    in_pieces(&mut stream, b"and reply ");
                }
            });
            let mut stream = connect(way);
            stream.set_nodelay(true).unwrap();
            let mut round = || {
                let start = Instant::now();
                in_pieces(&mut stream, b"a question");
                stream.read_exact(&mut [0; 10]).unwrap();
                start.elapsed()
            };
            let stalls = (0..ROUNDS).filter(|_| round() >= STALL).count();
            assert!(stalls < ROUNDS / 2, "{way}: {stalls} rounds of {ROUNDS} took {STALL:?} or more");
        });
    }
    engine.finish();
    Ok(())
}

fn in_pieces(stream: &mut TcpStream, octets: &[u8]) {
    let (first, second) = octets.split_at(octets.len() / 2);
    stream.write_all(first).unwrap();
    thread::sleep(Duration::from_millis(1));
    stream.write_all(second).unwrap();
}

/// A hundred streams of HTTP/2 on one connection, whose windows are opened by small frames the other way.
pub(crate) fn http2() -> Outcome {
    need(&["nghttpd", "h2load", "ss"])?;
    loopback();
    let directory = Directory::new("h2");
    std::fs::write(directory.path("page"), noise(200_000, 51)).unwrap();
    let words = ["nghttpd", "--no-tls", "-d", &directory.path(""), "5000"];
    let child = within(&[], 240, &words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _server = Killed(child.unwrap());
    listens(5000);
    let engine = engine();
    let ways = ["127.0.0.1:5000", WAYS[0], WAYS[1]];
    let [direct, relayed @ ..] = ways.map(h2load);
    // 20 MB by windows of 64 KB are 300 round trips, of which each may stall for 40 ms: 12 s in all.
    let bound = 10 * direct + Duration::from_secs(3);
    for (way, took) in WAYS.iter().zip(relayed) {
        assert!(took <= bound, "{way}: {took:?}, {direct:?} without us");
    }
    engine.finish();
    Ok(())
}

/// How long a hundred pages take, all asked for at once over one connection, with the windows that the protocol begins with.
fn h2load(way: &str) -> Duration {
    let url = format!("http://{way}/page");
    let text = must(60, "h2load", &["-n", "100", "-c", "1", "-m", "100", "-w", "16", "-W", "16", &url]);
    assert!(text.contains(" 100 succeeded, 0 failed"), "{text}");
    let took = text.split("finished in ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let at = took.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let number: f64 = took[..at].parse().unwrap();
    Duration::from_secs_f64(match &took[at..] {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        unit => panic!("{unit}: {text}"),
    })
}

/// A thousand clients that come at once while we are away: the kernel keeps them all for us.
pub(crate) fn crowd() -> Outcome {
    const CLIENTS: usize = 1_000;
    const AWAY: Duration = Duration::from_millis(300);
    raise_open_files(2 * CLIENTS as u64 + 100)?;
    let engine = engine();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = kernel::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind("0.0.0.0:5000".parse().unwrap()).unwrap();
        let server = socket.listen(4_096).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = server.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        // All of them each time; in time, once: a machine may have other things to do.
        let mut shortest = Duration::MAX;
        for _ in 0..5 {
            engine.signal(libc::SIGSTOP);
            let mut clients = JoinSet::new();
            (0..CLIENTS).for_each(|_| drop(clients.spawn(visit())));
            tokio::time::sleep(AWAY).await;
            engine.signal(libc::SIGCONT);
            let back = Instant::now();
            for done in clients.join_all().await {
                done.unwrap_or_else(|error| panic!("after {:?}: {error}", back.elapsed()));
            }
            shortest = shortest.min(back.elapsed());
            if shortest < Duration::from_millis(500) {
                break;
            }
        }
        assert!(shortest < Duration::from_millis(500), "the last of them was served after {shortest:?}");
    });
    assert_eq!(nstat("TcpExtListenOverflows"), 0, "connections that the queue had no place for");
    engine.finish();
    Ok(())
}

async fn visit() -> io::Result<()> {
    let talk = async {
        let mut stream = kernel::TcpStream::connect(WAYS[1]).await?;
        stream.write_all(b"hello").await?;
        let mut back = [0; 5];
        stream.read_exact(&mut back).await?;
        assert_eq!(&back, b"hello");
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(60), talk).await?
}

/// `trust serve` leading both ways to port 5000, under a limit as the shell sets it.
fn limited(limit: &str) -> Command {
    let [forward, reverse] = ["forward:6000=127.0.0.1:5000", "reverse:6001=10.7.0.1:5000"];
    let mut command = Command::new("sh");
    let script = format!("ulimit {limit} && exec \"$@\"");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_trust"), "serve", "--stats", "1"]);
    command.args(["--service", forward, "--service", reverse]);
    command
}

/// What it says to too low a limit.
fn refusal(limit: u64) -> Output {
    limited(&format!("-n {limit}")).stdin(Stdio::null()).output().unwrap()
}

/// How many open files it asks for, at the least.
fn needed() -> u64 {
    let text = String::from_utf8_lossy(&refusal(14).stderr).into_owned();
    let number = text.split("ulimit -n ").nth(1).and_then(|rest| rest.split(',').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number in: {text}"))
}

/// An echo on port 5000, until it is dropped.
struct Echo {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start() -> Self {
        let listener = Arc::new(listener());
        let accepting = Arc::clone(&listener);
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                thread::spawn(move || {
                    let _ = io::copy(&mut &stream, &mut &stream);
                });
            }
        });
        Self { listener, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn hello(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"hello")?;
    let mut back = [0; 5];
    stream.read_exact(&mut back)?;
    assert_eq!(&back, b"hello");
    Ok(())
}

/// Too few open files are refused at the start, with the number; the soft limit is none.
pub(crate) fn open_files() -> Outcome {
    loopback();
    let needed = needed();
    for limit in [10, 14, needed - 1] {
        let output = refusal(limit);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{limit}: {}", describe(&output));
        assert!(text.contains(&format!("ulimit -n {needed}")) && text.lines().count() == 1, "{limit}: {text}");
        assert!(output.stdout.is_empty(), "{limit}: {}", describe(&output));
    }
    let engine = Engine::spawn(limited("-Sn 64"));
    let _server = Echo::start();
    let clients: Vec<_> = (0..200).map(|client| connect(WAYS[client % 2])).collect();
    clients.iter().for_each(|client| hello(client).unwrap());
    engine.finish();
    Ok(())
}

/// Clients that hold every place and say nothing more lose them to others after half a minute, of which a line is written,
/// and no second one within a minute. As many files may be open as are asked for, and not one more.
pub(crate) fn vanished() -> Outcome {
    loopback();
    const PLACES: usize = 16;
    const LATER: usize = 50;
    let engine = Engine::spawn(limited(&format!("-n {}", needed())));
    let _server = Echo::start();
    let silent: Vec<_> = (0..2 * PLACES).map(|client| connect(WAYS[client % 2])).collect();
    silent.iter().for_each(|client| hello(client).unwrap());
    let since = Instant::now();
    let visit = |client: usize| TcpStream::connect(WAYS[client % 2]).and_then(|stream| hello(&bounded_stream(stream)));
    // Before that they keep their places.
    (0..2 * LATER).for_each(|client| assert!(visit(client).is_err(), "a place beyond the last"));
    assert!(since.elapsed() < Duration::from_secs(25), "too slow to be told from silence");
    thread::sleep(Duration::from_secs(31).saturating_sub(since.elapsed()));
    let later: Vec<_> = (0..2 * PLACES).map(|client| connect(WAYS[client % 2])).collect();
    later.iter().for_each(|client| hello(client).unwrap());
    drop((silent, later));
    for client in 0..2 * LATER {
        // A place is free again when the engine has seen the end of who had it.
        eventually(Duration::from_secs(10), "there is a place", || visit(client).is_ok());
    }
    let text = engine.output();
    let lines: Vec<_> = text.lines().filter(|line| line.contains(" WARN ") && !line.contains("steering")).collect();
    for way in ["forward:6000", "reverse:127.0.0.1:6001"] {
        let about: Vec<_> = lines.iter().filter(|line| line.contains(way)).collect();
        assert_eq!(about.len(), 1, "{way}: {lines:#?}");
        assert!(about[0].contains("16 of 16 places are taken") && about[0].contains("ulimit -n"), "{about:?}");
    }
    engine.finish();
    Ok(())
}

/// A name that leads nowhere is told at the start, connections that fail by a line a second with their number, and a name
/// that leads somewhere leads there.
pub(crate) fn failures() -> Outcome {
    const FAILURES: usize = 300;
    loopback();
    let (nowhere, refused) = ("forward:6000=nowhere.invalid:5000", "forward:6001=127.0.0.1:4999");
    let named = "forward:6002=localhost:5000";
    let engine = Engine::start(&["--service", nowhere, "--service", refused, "--service", named]);
    let said = |about: &str| -> Vec<String> {
        let text = engine.output();
        text.lines().filter_map(|line| line.split_once(about)?.1.strip_prefix(": ").map(str::to_owned)).collect()
    };
    eventually(Duration::from_secs(30), "the name is told", || !said(nowhere).is_empty());
    assert!(said(nowhere)[0].starts_with("nowhere.invalid: the name cannot be resolved ("), "{:?}", said(nowhere));
    let fails = |port: u16| {
        let result = TcpStream::connect((ENGINE, port)).and_then(|stream| hello(&bounded_stream(stream)));
        assert!(result.is_err(), "port {port}");
    };
    fails(6000);
    let server = Echo::start();
    hello(&connect("10.7.0.2:6002")).unwrap();
    drop(server);

    let start = Instant::now();
    (0..FAILURES).for_each(|_| fails(6001));
    let counted = || {
        let more = |line: &String| line.split_once(" more within a second, ").map_or(1, |(n, _)| n.parse().unwrap());
        said(refused).iter().map(more).sum::<usize>()
    };
    eventually(Duration::from_secs(10), "each of them is counted", || counted() == FAILURES);
    let lines = said(refused);
    assert!(lines.len() as u64 <= 2 + start.elapsed().as_secs(), "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("Connection refused")), "{lines:#?}");
    engine.finish();
    Ok(())
}
