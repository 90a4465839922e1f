//! What greedy, silent and vanished clients do: each load takes what it can get and keeps it until it is dropped.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::Target;
use super::peers::Crowd;
use crate::support::size;

/// What a load keeps.
#[derive(Debug, Default)]
pub(crate) struct Held {
    sockets: Vec<TcpStream>,
    crowds: Vec<Crowd>,
    /// How many clients hold something.
    pub(crate) clients: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        for socket in &self.sockets {
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
        self.crowds.clear();
    }
}

/// An ordinary socket whose receive buffer is as small as the kernel makes it.
pub(crate) fn small_socket(to: SocketAddr) -> Result<TcpStream, String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(|e| e.to_string())?;
    socket.set_recv_buffer_size(2_304).map_err(|e| e.to_string())?;
    socket.connect_timeout(&SockAddr::from(to), Duration::from_secs(3)).map_err(|e| format!("connect: {e}"))?;
    socket.set_nonblocking(true).map_err(|e| e.to_string())?;
    Ok(socket.into())
}

/// So many sockets to a port; who is refused stays away, which the number held tells.
fn sockets(target: &Target, port: u16, count: usize) -> Vec<TcpStream> {
    let (mut sockets, mut refused) = (Vec::with_capacity(count), 0);
    while sockets.len() < count && refused < 5 {
        match small_socket(target.at(port)) {
            Ok(socket) => sockets.push(socket),
            Err(_) => refused += 1,
        }
    }
    sockets
}

/// Writes `much` octets of `data`, over and over, to each of them, or until nothing moves any more.
fn press(sockets: &[TcpStream], data: &[u8], much: usize) {
    let mut left = vec![much; sockets.len()];
    let (mut last, end) = (Instant::now(), Instant::now() + Duration::from_secs(size(3, 20) as u64));
    while last.elapsed() < Duration::from_millis(300) && Instant::now() < end {
        let mut open = false;
        for (mut socket, left) in sockets.iter().zip(&mut left).filter(|(_, left)| **left > 0) {
            open = true;
            let at = (much - *left) % data.len();
            match socket.write(&data[at..data.len().min(at + *left)]) {
                Ok(put) => {
                    *left -= put;
                    last = Instant::now();
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                // Reset: it has nothing more to say.
                Err(_) => *left = 0,
            }
        }
        if !open {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn held(sockets: Vec<TcpStream>, crowds: Vec<Crowd>) -> Held {
    let clients = sockets.len() + crowds.iter().map(Crowd::open).sum::<usize>();
    Held { sockets, crowds, clients }
}

/// Each sends one octet to echo and never acknowledges the answer.
pub(crate) fn holders(target: &Target) -> Result<Held, String> {
    let mut crowd = Crowd::connect(target, 7, 0, size(5_000, 10_000))?;
    crowd.send(b"h", 3);
    crowd.vanish();
    Ok(held(Vec::new(), vec![crowd]))
}

/// Each pipelines 240 requests and reads nothing: an answer is a head, which is copied, and a body, which is not.
pub(crate) fn pipeliners(target: &Target) -> Result<Held, String> {
    let sockets = sockets(target, 80, 200);
    let requests = b"GET /bytes/2048 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(240);
    press(&sockets, &requests, requests.len());
    Ok(held(sockets, Vec::new()))
}

/// Each writes 400 KB to echo and reads nothing.
pub(crate) fn unread(target: &Target) -> Result<Held, String> {
    let sockets = sockets(target, 7, size(1_000, 3_000));
    press(&sockets, &[b'u'; 65_536], 400_000);
    Ok(held(sockets, Vec::new()))
}

/// Each announces the largest body that is taken, sends as much of it as goes, and reads nothing.
pub(crate) fn unread_bodies(target: &Target) -> Result<Held, String> {
    const LARGEST: usize = 16 << 20;
    let sockets = sockets(target, 80, size(100, 8_000));
    let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGEST}\r\n\r\n");
    press(&sockets, head.as_bytes(), head.len());
    press(&sockets, &[b'b'; 65_536], LARGEST);
    Ok(held(sockets, Vec::new()))
}

/// Fifteen megabytes, more than lie on their way, come back from http, or word that there is no memory for them now: soon,
/// either way.
pub(crate) fn http_echo_serves(target: &Target) -> Result<Duration, String> {
    const LEN: usize = 15_000_000;
    let start = Instant::now();
    let said = |error: std::io::Error| format!("after {:?}: {error}", start.elapsed());
    let mut stream = TcpStream::connect(target.at(80)).map_err(said)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(said)?;
    stream.set_write_timeout(Some(Duration::from_secs(5))).map_err(said)?;
    let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {LEN}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![b'x'; LEN])).map_err(said)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(said)?;
    if answer.starts_with(b"HTTP/1.1 503 ") || (answer.starts_with(b"HTTP/1.1 200 ") && answer.len() > LEN) {
        return Ok(start.elapsed());
    }
    Err(format!("{} octets: {}", answer.len(), answer[..answer.len().min(60)].escape_ascii()))
}

/// Those that ask for much and never read, beside those that send much and never acknowledge what comes back.
pub(crate) fn readers_and_writers(target: &Target) -> Result<Held, String> {
    let count = size(200, 500);
    let mut readers = sockets(target, 19, count);
    let http = sockets(target, 80, count);
    let request = b"GET /bytes/100000000 HTTP/1.1\r\nHost: a\r\n\r\n";
    press(&http, request, request.len());
    readers.extend(http);
    let mut writers = Crowd::connect(target, 7, 0, size(2_000, 4_500))?;
    writers.send(&[b'w'; 56_000], 1);
    writers.vanish();
    Ok(held(readers, vec![writers]))
}

/// Those that have ended their direction: half of them owe a read, half never acknowledge the other side's end.
pub(crate) fn half_closed(target: &Target) -> Result<Held, String> {
    let count = size(500, 1_000);
    let sockets = sockets(target, 7, count);
    press(&sockets, &[b'c'; 20_000], 20_000);
    for socket in &sockets {
        let _ = socket.shutdown(Shutdown::Write);
    }
    let mut crowd = Crowd::connect(target, 7, 0, count)?;
    crowd.finish();
    crowd.vanish();
    Ok(held(sockets, vec![crowd]))
}

/// iperf3 tests that show a cookie and their parameters, and then wait for ever.
pub(crate) fn iperf3_controls(target: &Target) -> Result<Held, String> {
    let parameters = br#"{"tcp":true,"omit":0,"time":10,"num":0,"blockcount":0,"parallel":1,"len":131072}"#;
    let sockets = sockets(target, 5201, 300);
    for (index, mut socket) in sockets.iter().enumerate() {
        let cookie = format!("hostile{index:029}\0");
        let length = (parameters.len() as u32).to_be_bytes();
        let words = [cookie.as_bytes(), &length, parameters].concat();
        // A window takes as little at once; who is turned away is no longer there.
        let _ = socket.write_all(&words);
    }
    Ok(held(sockets, Vec::new()))
}

/// Clients of a forwarded port that are gone without a word: at full size more than there are places.
pub(crate) fn forwarded(target: &Target) -> Result<Held, String> {
    let crowd = Crowd::connect(target, FORWARDED, 0, size(2_000, 9_000))?;
    crowd.vanish();
    Ok(held(Vec::new(), vec![crowd]))
}

/// The port that is forwarded to an echo server of the kernel's.
pub(crate) const FORWARDED: u16 = 6_000;

/// A forwarded connection reaches its echo.
pub(crate) fn forward_serves(target: &Target) -> Result<Duration, String> {
    super::honest::visit(target.at(FORWARDED), Duration::from_secs(5))
}

/// The stock client has its megabyte carried.
pub(crate) fn iperf3_serves(target: &Target) -> Result<Duration, String> {
    let start = Instant::now();
    let output = crate::support::run(10, "iperf3", &["-c", &target.address.to_string(), "-n", "1M"]);
    if output.status.success() { Ok(start.elapsed()) } else { Err(crate::support::describe(&output)) }
}
