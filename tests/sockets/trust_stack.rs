//! Our own sockets: two engines in this process, joined by a device in memory, or two embedded hosts, each polled by a
//! thread. Servers live on one, clients on the other.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::time::Duration;

use trust::device::memory::{MemoryOptions, pair};
use trust::embed::Host;
use trust::engine::{Engine, Pin};
use trust::net::{self, TcpListener, TcpSocket, TcpStream};
use trust::tcp::{KeepAlive, State};

use crate::hosts::Hosts;
use crate::stack::{Info, Listener, Options, Stack, Stream, state};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));

/// Engines in which threads of theirs run shards.
#[derive(Debug)]
pub(crate) struct Engines {
    _both: [Engine; 2],
}

/// Where the stacks of both sides come from.
pub(crate) trait Origin: Sized + Send + Sync + 'static {
    const NAME: &'static str;

    /// Server and client.
    fn start() -> (Self, [net::Stack; 2]);
}

impl Origin for Engines {
    const NAME: &'static str = "trust";

    fn start() -> (Self, [net::Stack; 2]) {
        let (a, b) = pair(&MemoryOptions { queues: 2, slots: 1_024, ..MemoryOptions::default() }).unwrap();
        let start =
            |device, address| Engine::builder().device(device, 2).address(address).pin(Pin::None).start().unwrap();
        let both = [start(a, SERVER), start(b, CLIENT)];
        let stacks = both.each_ref().map(Engine::stack);
        (Self { _both: both }, stacks)
    }
}

impl Origin for Hosts {
    const NAME: &'static str = "embedded";

    fn start() -> (Self, [net::Stack; 2]) {
        let both = Self::start([SERVER, CLIENT].map(|address| Host::builder().address(address)));
        let stacks = both.stacks.clone();
        (both, stacks)
    }
}

/// Our stack on both sides.
#[derive(Debug)]
pub(crate) struct Ours<O> {
    server: net::Stack,
    client: net::Stack,
    _origin: O,
}

pub(crate) type Trust = Ours<Engines>;
pub(crate) type Embedded = Ours<Hosts>;

impl<O: Origin> Stack for Ours<O> {
    const NAME: &'static str = O::NAME;
    const LACKS: &'static [(&'static str, &'static str)] = &[
        ("to_itself", "a stack has no loopback: what is for its own address has no way out and back"),
        ("send_buffer_is_doubled", "buffers are taken as given; Linux doubles them for its own records"),
        ("receive_buffer_is_doubled", "buffers are taken as given; Linux doubles them for its own records"),
    ];

    type Listener = TcpListener;
    type Stream = Socket;

    fn start() -> Self {
        let (origin, [server, client]) = O::start();
        Self { server, client, _origin: origin }
    }

    fn server_ip(&self) -> IpAddr {
        SERVER
    }

    fn client_ip(&self) -> IpAddr {
        CLIENT
    }

    fn foreign_ip(&self) -> IpAddr {
        // TEST-NET-1 (RFC 5737).
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77))
    }

    fn black_hole(&self) -> SocketAddr {
        // Nobody has this address, and the other engine drops what is not for it.
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 0, 99)), 9)
    }

    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.server.bind(address)
    }

    fn bind_with_backlog(&self, address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
        TcpSocket::new(&self.server).bind(address)?.listen(backlog as usize)
    }

    fn connect(&self, address: SocketAddr) -> io::Result<Socket> {
        self.client.connect(address).map(Socket::new)
    }

    fn connect_timeout(&self, address: &SocketAddr, timeout: Duration) -> io::Result<Socket> {
        self.client.connect_timeout(address, timeout).map(Socket::new)
    }

    fn connect_from(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<Socket> {
        TcpSocket::new(&self.client).bind(local)?.connect(remote).map(Socket::new)
    }

    fn connect_with_syn_count(&self, remote: SocketAddr, repetitions: u8) -> io::Result<Socket> {
        let mut socket = TcpSocket::new(&self.client);
        socket.options_mut().syn_retries = Some(repetitions);
        socket.connect(remote).map(Socket::new)
    }

    fn connect_with_maxseg(&self, remote: SocketAddr, octets: u16) -> io::Result<Socket> {
        let mut socket = TcpSocket::new(&self.client);
        socket.options_mut().mss = Some(octets);
        socket.connect(remote).map(Socket::new)
    }

    fn start_connect(&self, remote: SocketAddr) -> io::Result<Socket> {
        TcpSocket::new(&self.client).connect_nonblocking(remote).map(Socket::new)
    }

    fn connect_again(&self, stream: &mut Socket, remote: SocketAddr) -> io::Result<()> {
        stream.0.connect_again(remote)
    }
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Socket(TcpStream);

impl Socket {
    fn new(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl Listener for TcpListener {
    type Stream = Socket;

    fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        self.accept().map(|(stream, from)| (Socket::new(stream), from))
    }
    fn incoming(&self) -> impl Iterator<Item = io::Result<Socket>> + '_ {
        self.incoming().map(|stream| stream.map(Socket::new))
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
    fn try_clone(&self) -> io::Result<Self> {
        self.try_clone()
    }
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.set_nonblocking(nonblocking)
    }
    fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.set_ttl(ttl)
    }
    fn ttl(&self) -> io::Result<u32> {
        self.ttl()
    }
    fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.take_error()
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Socket {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.write(from)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Stream for Socket {
    fn read_ref(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(into)
    }
    fn write_ref(&self, from: &[u8]) -> io::Result<usize> {
        (&self.0).write(from)
    }
    fn read_vectored_ref(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&self.0).read_vectored(into)
    }
    fn write_vectored_ref(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.0).write_vectored(from)
    }
    fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        self.0.peek(into)
    }
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }
    fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(timeout)
    }
    fn read_timeout(&self) -> io::Result<Option<Duration>> {
        self.0.read_timeout()
    }
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_write_timeout(timeout)
    }
    fn write_timeout(&self) -> io::Result<Option<Duration>> {
        self.0.write_timeout()
    }
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.set_nonblocking(nonblocking)
    }
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.0.set_nodelay(nodelay)
    }
    fn nodelay(&self) -> io::Result<bool> {
        self.0.nodelay()
    }
    fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.0.set_ttl(ttl)
    }
    fn ttl(&self) -> io::Result<u32> {
        self.0.ttl()
    }
    fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }
}

fn invalid<T>() -> io::Result<T> {
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

impl Socket {
    /// Changes the times of keep-alive, on or off.
    fn keepalive_times(&self, change: impl FnOnce(&mut KeepAlive)) {
        let mut times = self.0.keepalive_times();
        change(&mut times);
        self.0.set_keepalive_times(times);
    }
}

fn seconds(value: u32) -> io::Result<trust::tcp::Duration> {
    if (1..=32_767).contains(&value) { Ok(trust::tcp::Duration::from_secs(value.into())) } else { invalid() }
}

impl Options for Socket {
    fn set_keepalive(&self, on: bool) -> io::Result<()> {
        self.0.set_keepalive(on.then(|| self.0.keepalive_times()));
        Ok(())
    }
    fn keepalive(&self) -> io::Result<bool> {
        Ok(self.0.keepalive().is_some())
    }
    fn set_keepalive_idle(&self, idle: u32) -> io::Result<()> {
        let idle = seconds(idle)?;
        self.keepalive_times(|times| times.idle = idle);
        Ok(())
    }
    fn keepalive_idle(&self) -> io::Result<u32> {
        Ok(self.0.keepalive_times().idle.as_secs_f64() as u32)
    }
    fn set_keepalive_interval(&self, interval: u32) -> io::Result<()> {
        let interval = seconds(interval)?;
        self.keepalive_times(|times| times.interval = interval);
        Ok(())
    }
    fn keepalive_interval(&self) -> io::Result<u32> {
        Ok(self.0.keepalive_times().interval.as_secs_f64() as u32)
    }
    fn set_keepalive_count(&self, probes: u32) -> io::Result<()> {
        if !(1..=127).contains(&probes) {
            return invalid();
        }
        self.keepalive_times(|times| times.count = probes as u8);
        Ok(())
    }
    fn keepalive_count(&self) -> io::Result<u32> {
        Ok(self.0.keepalive_times().count.into())
    }
    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.0.set_linger(linger)
    }
    fn linger(&self) -> io::Result<Option<Duration>> {
        self.0.linger()
    }
    fn set_user_timeout(&self, milliseconds: u32) -> io::Result<()> {
        if milliseconds > i32::MAX as u32 {
            return invalid();
        }
        self.0.set_user_timeout((milliseconds > 0).then(|| Duration::from_millis(milliseconds.into())));
        Ok(())
    }
    fn user_timeout(&self) -> io::Result<u32> {
        Ok(self.0.user_timeout().map_or(0, |limit| limit.as_millis() as u32))
    }
    fn set_maxseg(&self, octets: u32) -> io::Result<()> {
        self.0.set_maxseg(octets)
    }
    fn maxseg(&self) -> io::Result<u32> {
        self.0.maxseg()
    }
    fn set_congestion(&self, name: &str) -> io::Result<()> {
        let kind = name.parse().map_err(|_| io::Error::from_raw_os_error(libc::ENOENT))?;
        self.0.set_congestion(kind);
        Ok(())
    }
    fn congestion(&self) -> io::Result<String> {
        Ok(self.0.congestion().unwrap_or_default().to_string())
    }
    fn set_send_buffer(&self, octets: u32) -> io::Result<()> {
        self.0.set_send_buffer(octets);
        Ok(())
    }
    fn send_buffer(&self) -> io::Result<u32> {
        Ok(self.0.send_buffer().unwrap_or(0))
    }
    fn set_receive_buffer(&self, octets: u32) -> io::Result<()> {
        self.0.set_receive_buffer(octets);
        Ok(())
    }
    fn receive_buffer(&self) -> io::Result<u32> {
        Ok(self.0.receive_buffer().unwrap_or(0))
    }
    fn set_notsent_lowat(&self, octets: u32) -> io::Result<()> {
        self.0.set_notsent_lowat((octets > 0).then_some(octets));
        Ok(())
    }
    fn notsent_lowat(&self) -> io::Result<u32> {
        Ok(self.0.notsent_lowat().unwrap_or(0))
    }
    fn set_quickack(&self, on: bool) -> io::Result<()> {
        self.0.set_quickack(on);
        Ok(())
    }
    fn quickack(&self) -> io::Result<bool> {
        Ok(self.0.quickack())
    }
    fn set_cork(&self, on: bool) -> io::Result<()> {
        self.0.set_cork(on);
        Ok(())
    }
    fn cork(&self) -> io::Result<bool> {
        Ok(self.0.cork())
    }
    fn set_oobinline(&self, on: bool) -> io::Result<()> {
        self.0.set_oobinline(on);
        Ok(())
    }
    fn oobinline(&self) -> io::Result<bool> {
        Ok(self.0.oobinline())
    }
    fn set_tos(&self, octet: u32) -> io::Result<()> {
        self.0.set_tos(octet as u8);
        Ok(())
    }
    fn tos(&self) -> io::Result<u32> {
        Ok(self.0.tos().into())
    }
    fn write_more(&self, from: &[u8]) -> io::Result<usize> {
        self.0.write_more(from)
    }
    fn unread(&self) -> io::Result<u32> {
        self.0.unread().map(|octets| octets as u32)
    }
    fn unsent(&self) -> io::Result<u32> {
        self.0.unacknowledged().map(|octets| octets as u32)
    }
    fn not_sent(&self) -> io::Result<u32> {
        self.0.not_sent().map(|octets| octets as u32)
    }
    fn info(&self) -> io::Result<Info> {
        let info = match self.0.info() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                return Ok(Info { state: state::CLOSE, ..Info::default() });
            }
            info => info?,
        };
        let micros = |time: trust::tcp::Duration| (time.as_nanos() / 1_000) as u32;
        Ok(Info {
            state: match info.state {
                State::Established => state::ESTABLISHED,
                State::FinWait2 => state::FIN_WAIT2,
                State::CloseWait => state::CLOSE_WAIT,
                _ => state::CLOSE,
            },
            snd_mss: info.mss,
            snd_cwnd: info.cwnd / info.mss.max(1),
            rtt: info.srtt.map_or(0, micros),
            rttvar: micros(info.rttvar),
            min_rtt: info.min_rtt.map_or(0, micros),
            rto: micros(info.rto),
            bytes_acked: info.bytes_acked,
            bytes_received: info.bytes_received,
            bytes_sent: info.bytes_sent,
            notsent_bytes: info.not_sent,
            total_retrans: info.retransmits as u32,
        })
    }
}
