//! The reference: `std::net` on loopback, options by setsockopt(2) and ioctl(2).

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::stack::{Info, Listener, Options, Stack, Stream};

/// Sockets of the kernel on 127.0.0.1, in a network namespace of their own where that is permitted.
#[derive(Debug)]
pub(crate) struct Std {
    /// A listener whose accept queue is full: it drops every SYN.
    full: TcpListener,
    _filler: TcpStream,
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Stack for Std {
    const NAME: &'static str = "std";
    const LACKS: &'static [(&'static str, &'static str)] = &[];

    type Listener = TcpListener;
    type Stream = TcpStream;

    fn start() -> Self {
        own_namespace();
        let full = listen((LOOPBACK, 0).into(), 0).unwrap();
        let filler = TcpStream::connect(full.local_addr().unwrap()).unwrap();
        Self { full, _filler: filler }
    }

    fn server_ip(&self) -> IpAddr {
        LOOPBACK
    }

    fn client_ip(&self) -> IpAddr {
        LOOPBACK
    }

    fn foreign_ip(&self) -> IpAddr {
        // TEST-NET-1 (RFC 5737).
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77))
    }

    fn black_hole(&self) -> SocketAddr {
        self.full.local_addr().unwrap()
    }

    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(address)
    }

    fn bind_with_backlog(&self, address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
        listen(address, backlog)
    }

    fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address)
    }

    fn connect_timeout(&self, address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        TcpStream::connect_timeout(address, timeout)
    }

    fn connect_from(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(local), Type::STREAM, None)?;
        socket.bind(&local.into())?;
        socket.connect(&remote.into())?;
        Ok(socket.into())
    }

    fn connect_with_syn_count(&self, remote: SocketAddr, repetitions: u8) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(remote), Type::STREAM, None)?;
        let stream: TcpStream = socket.into();
        set_int(&stream, TCP, libc::TCP_SYNCNT, repetitions.into())?;
        SockRef::from(&stream).connect(&remote.into())?;
        Ok(stream)
    }

    fn connect_with_maxseg(&self, remote: SocketAddr, octets: u16) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(remote), Type::STREAM, None)?;
        let stream: TcpStream = socket.into();
        stream.set_maxseg(octets.into())?;
        SockRef::from(&stream).connect(&remote.into())?;
        Ok(stream)
    }

    fn start_connect(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(remote), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&remote.into()) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
            _ => Ok(socket.into()),
        }
    }

    fn connect_again(&self, stream: &mut TcpStream, remote: SocketAddr) -> io::Result<()> {
        SockRef::from(&*stream).connect(&remote.into())
    }
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog as i32)?;
    Ok(socket.into())
}

/// Moves this thread, and those it starts, to a network namespace of its own with loopback up: ports and TIME-WAIT of
/// one behaviour are none of another's. Where that is forbidden they share the one there is.
fn own_namespace() {
    // SAFETY: a number goes in; only this thread moves.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return;
    }
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: `request` is a valid ifreq with a name that ends in a zero.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(result, 0, "loopback cannot be brought up: {}", io::Error::last_os_error());
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept()
    }
    fn incoming(&self) -> impl Iterator<Item = io::Result<TcpStream>> + '_ {
        self.incoming()
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

impl Stream for TcpStream {
    fn read_ref(&self, into: &mut [u8]) -> io::Result<usize> {
        (&*self).read(into)
    }
    fn write_ref(&self, from: &[u8]) -> io::Result<usize> {
        (&*self).write(from)
    }
    fn read_vectored_ref(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(into)
    }
    fn write_vectored_ref(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(from)
    }
    fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        self.peek(into)
    }
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
    fn try_clone(&self) -> io::Result<Self> {
        self.try_clone()
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.peer_addr()
    }
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(timeout)
    }
    fn read_timeout(&self) -> io::Result<Option<Duration>> {
        self.read_timeout()
    }
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_write_timeout(timeout)
    }
    fn write_timeout(&self) -> io::Result<Option<Duration>> {
        self.write_timeout()
    }
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.set_nonblocking(nonblocking)
    }
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.set_nodelay(nodelay)
    }
    fn nodelay(&self) -> io::Result<bool> {
        self.nodelay()
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

fn set<T>(stream: &TcpStream, level: i32, name: i32, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is `len` octets long and only read.
    let result = unsafe { libc::setsockopt(stream.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_int(stream: &TcpStream, level: i32, name: i32, value: u32) -> io::Result<()> {
    set(stream, level, name, &(value as i32))
}

/// `T` is made of integers, so that whatever the kernel writes is a value of it.
fn get<T: Copy>(stream: &TcpStream, level: i32, name: i32, mut value: T) -> io::Result<T> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` octets to `value`.
    let result = unsafe { libc::getsockopt(stream.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

fn get_int(stream: &TcpStream, level: i32, name: i32) -> io::Result<u32> {
    get(stream, level, name, 0i32).map(|value| value as u32)
}

fn count(stream: &TcpStream, request: libc::Ioctl) -> io::Result<u32> {
    let mut value: libc::c_int = 0;
    // SAFETY: these requests write one int.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), request, &raw mut value) };
    if result == 0 { Ok(value as u32) } else { Err(io::Error::last_os_error()) }
}

/// linux/sockios.h; not in libc for every target.
const SIOCOUTQNSD: libc::Ioctl = 0x894b;

const TCP: i32 = libc::IPPROTO_TCP;
const SOCKET: i32 = libc::SOL_SOCKET;

impl Options for TcpStream {
    fn set_keepalive(&self, on: bool) -> io::Result<()> {
        set_int(self, SOCKET, libc::SO_KEEPALIVE, on.into())
    }
    fn keepalive(&self) -> io::Result<bool> {
        Ok(get_int(self, SOCKET, libc::SO_KEEPALIVE)? != 0)
    }
    fn set_keepalive_idle(&self, seconds: u32) -> io::Result<()> {
        set_int(self, TCP, libc::TCP_KEEPIDLE, seconds)
    }
    fn keepalive_idle(&self) -> io::Result<u32> {
        get_int(self, TCP, libc::TCP_KEEPIDLE)
    }
    fn set_keepalive_interval(&self, seconds: u32) -> io::Result<()> {
        set_int(self, TCP, libc::TCP_KEEPINTVL, seconds)
    }
    fn keepalive_interval(&self) -> io::Result<u32> {
        get_int(self, TCP, libc::TCP_KEEPINTVL)
    }
    fn set_keepalive_count(&self, probes: u32) -> io::Result<()> {
        set_int(self, TCP, libc::TCP_KEEPCNT, probes)
    }
    fn keepalive_count(&self) -> io::Result<u32> {
        get_int(self, TCP, libc::TCP_KEEPCNT)
    }
    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        SockRef::from(self).set_linger(linger)
    }
    fn linger(&self) -> io::Result<Option<Duration>> {
        SockRef::from(self).linger()
    }
    fn set_user_timeout(&self, milliseconds: u32) -> io::Result<()> {
        set_int(self, TCP, libc::TCP_USER_TIMEOUT, milliseconds)
    }
    fn user_timeout(&self) -> io::Result<u32> {
        get_int(self, TCP, libc::TCP_USER_TIMEOUT)
    }
    fn set_maxseg(&self, octets: u32) -> io::Result<()> {
        set_int(self, TCP, libc::TCP_MAXSEG, octets)
    }
    fn maxseg(&self) -> io::Result<u32> {
        get_int(self, TCP, libc::TCP_MAXSEG)
    }
    fn set_congestion(&self, name: &str) -> io::Result<()> {
        let mut value = [0u8; 16];
        value[..name.len()].copy_from_slice(name.as_bytes());
        set(self, TCP, libc::TCP_CONGESTION, &value)
    }
    fn congestion(&self) -> io::Result<String> {
        let name = get(self, TCP, libc::TCP_CONGESTION, [0u8; 16])?;
        Ok(String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned())
    }
    fn set_send_buffer(&self, octets: u32) -> io::Result<()> {
        set_int(self, SOCKET, libc::SO_SNDBUF, octets)
    }
    fn send_buffer(&self) -> io::Result<u32> {
        get_int(self, SOCKET, libc::SO_SNDBUF)
    }
    fn set_receive_buffer(&self, octets: u32) -> io::Result<()> {
        set_int(self, SOCKET, libc::SO_RCVBUF, octets)
    }
    fn receive_buffer(&self) -> io::Result<u32> {
        get_int(self, SOCKET, libc::SO_RCVBUF)
    }
    fn set_notsent_lowat(&self, octets: u32) -> io::Result<()> {
        set_int(self, TCP, libc::TCP_NOTSENT_LOWAT, octets)
    }
    fn notsent_lowat(&self) -> io::Result<u32> {
        get_int(self, TCP, libc::TCP_NOTSENT_LOWAT)
    }
    fn set_quickack(&self, on: bool) -> io::Result<()> {
        set_int(self, TCP, libc::TCP_QUICKACK, on.into())
    }
    fn quickack(&self) -> io::Result<bool> {
        Ok(get_int(self, TCP, libc::TCP_QUICKACK)? != 0)
    }
    fn set_cork(&self, on: bool) -> io::Result<()> {
        set_int(self, TCP, libc::TCP_CORK, on.into())
    }
    fn cork(&self) -> io::Result<bool> {
        Ok(get_int(self, TCP, libc::TCP_CORK)? != 0)
    }
    fn set_oobinline(&self, on: bool) -> io::Result<()> {
        set_int(self, SOCKET, libc::SO_OOBINLINE, on.into())
    }
    fn oobinline(&self) -> io::Result<bool> {
        Ok(get_int(self, SOCKET, libc::SO_OOBINLINE)? != 0)
    }
    fn set_tos(&self, octet: u32) -> io::Result<()> {
        set_int(self, libc::IPPROTO_IP, libc::IP_TOS, octet)
    }
    fn tos(&self) -> io::Result<u32> {
        get_int(self, libc::IPPROTO_IP, libc::IP_TOS)
    }
    fn write_more(&self, from: &[u8]) -> io::Result<usize> {
        SockRef::from(self).send_with_flags(from, libc::MSG_MORE | libc::MSG_NOSIGNAL)
    }
    fn unread(&self) -> io::Result<u32> {
        count(self, libc::FIONREAD)
    }
    fn unsent(&self) -> io::Result<u32> {
        count(self, libc::TIOCOUTQ)
    }
    fn not_sent(&self) -> io::Result<u32> {
        count(self, SIOCOUTQNSD)
    }
    fn info(&self) -> io::Result<Info> {
        let octets = get(self, TCP, libc::TCP_INFO, [0u8; 256])?;
        // Offsets of linux/tcp.h, which never change: fields are only ever added at the end.
        let word = |at: usize| u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
        let long = |at: usize| {
            let mut value = [0; 8];
            value.copy_from_slice(&octets[at..at + 8]);
            u64::from_ne_bytes(value)
        };
        Ok(Info {
            state: octets[0],
            rto: word(8),
            snd_mss: word(16),
            rtt: word(68),
            rttvar: word(72),
            snd_cwnd: word(80),
            total_retrans: word(100),
            bytes_acked: long(120),
            bytes_received: long(128),
            notsent_bytes: word(144),
            min_rtt: word(148),
            bytes_sent: long(200),
        })
    }
}
