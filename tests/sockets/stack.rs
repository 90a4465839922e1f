//! What a stack must offer for the suite to run on it: `std::net`'s names and signatures, and the socket options.
//!
//! Streams are read and written through `&self` here, since a bound on `&Self` cannot be a supertrait; [`By`] turns
//! that into `Read` and `Write` again. Must not contain: behaviours.

use std::fmt::Debug;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Duration;

/// A TCP stack under test: one value for each behaviour, with nothing left of an earlier one.
///
/// Listeners live on the server's side, streams that connect on the client's; that may be one host or two.
pub(crate) trait Stack: Send + Sync + Sized + 'static {
    /// Prefix of the tests' names.
    const NAME: &'static str;
    /// Behaviours this stack does not have, each with the reason; reported as ignored.
    const LACKS: &'static [(&'static str, &'static str)];

    type Listener: Listener<Stream = Self::Stream>;
    type Stream: Stream;

    /// A fresh stack.
    fn start() -> Self;
    /// Where listeners listen.
    fn server_ip(&self) -> IpAddr;
    /// Where streams connect from.
    fn client_ip(&self) -> IpAddr;
    /// An address that no host of this stack has.
    fn foreign_ip(&self) -> IpAddr;
    /// A place from which no SYN is answered.
    fn black_hole(&self) -> SocketAddr;

    /// `TcpListener::bind`.
    fn bind(&self, address: SocketAddr) -> io::Result<Self::Listener>;
    /// Bind with the backlog of listen(2).
    fn bind_with_backlog(&self, address: SocketAddr, backlog: u32) -> io::Result<Self::Listener>;
    /// `TcpStream::connect`.
    fn connect(&self, address: SocketAddr) -> io::Result<Self::Stream>;
    /// `TcpStream::connect_timeout`.
    fn connect_timeout(&self, address: &SocketAddr, timeout: Duration) -> io::Result<Self::Stream>;
    /// Binds to `local` (SO_REUSEADDR off) and connects.
    fn connect_from(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<Self::Stream>;
    /// Connects with at most that many repetitions of the SYN (TCP_SYNCNT).
    fn connect_with_syn_count(&self, remote: SocketAddr, repetitions: u8) -> io::Result<Self::Stream>;
    /// Connects with a largest segment of its own (TCP_MAXSEG before connect).
    fn connect_with_maxseg(&self, remote: SocketAddr, octets: u16) -> io::Result<Self::Stream>;
    /// Begins to connect and does not wait: a non-blocking stream, as `mio::net::TcpStream::connect` gives it.
    fn start_connect(&self, remote: SocketAddr) -> io::Result<Self::Stream>;
    /// connect(2) on a stream that has been there before.
    fn connect_again(&self, stream: &mut Self::Stream, remote: SocketAddr) -> io::Result<()>;
}

/// `std::net::TcpListener`.
pub(crate) trait Listener: Send + Sync + Debug + 'static {
    type Stream;

    fn accept(&self) -> io::Result<(Self::Stream, SocketAddr)>;
    fn incoming(&self) -> impl Iterator<Item = io::Result<Self::Stream>> + '_;
    fn local_addr(&self) -> io::Result<SocketAddr>;
    fn try_clone(&self) -> io::Result<Self>
    where
        Self: Sized;
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
    fn set_ttl(&self, ttl: u32) -> io::Result<()>;
    fn ttl(&self) -> io::Result<u32>;
    fn take_error(&self) -> io::Result<Option<io::Error>>;
}

/// `std::net::TcpStream`.
pub(crate) trait Stream: Read + Write + Options + Send + Sync + Debug + 'static {
    fn read_ref(&self, into: &mut [u8]) -> io::Result<usize>;
    fn write_ref(&self, from: &[u8]) -> io::Result<usize>;
    fn read_vectored_ref(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize>;
    fn write_vectored_ref(&self, from: &[IoSlice<'_>]) -> io::Result<usize>;
    fn peek(&self, into: &mut [u8]) -> io::Result<usize>;
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
    fn try_clone(&self) -> io::Result<Self>
    where
        Self: Sized;
    fn local_addr(&self) -> io::Result<SocketAddr>;
    fn peer_addr(&self) -> io::Result<SocketAddr>;
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn read_timeout(&self) -> io::Result<Option<Duration>>;
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn write_timeout(&self) -> io::Result<Option<Duration>>;
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()>;
    fn nodelay(&self) -> io::Result<bool>;
    fn set_ttl(&self, ttl: u32) -> io::Result<()>;
    fn ttl(&self) -> io::Result<u32>;
    fn take_error(&self) -> io::Result<Option<io::Error>>;
}

/// The options beyond `std::net`, by the names of tcp(7), ip(7) and socket(7).
pub(crate) trait Options {
    /// SO_KEEPALIVE.
    fn set_keepalive(&self, on: bool) -> io::Result<()>;
    fn keepalive(&self) -> io::Result<bool>;
    /// TCP_KEEPIDLE, seconds.
    fn set_keepalive_idle(&self, seconds: u32) -> io::Result<()>;
    fn keepalive_idle(&self) -> io::Result<u32>;
    /// TCP_KEEPINTVL, seconds.
    fn set_keepalive_interval(&self, seconds: u32) -> io::Result<()>;
    fn keepalive_interval(&self) -> io::Result<u32>;
    /// TCP_KEEPCNT.
    fn set_keepalive_count(&self, probes: u32) -> io::Result<()>;
    fn keepalive_count(&self) -> io::Result<u32>;
    /// SO_LINGER, whole seconds.
    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()>;
    fn linger(&self) -> io::Result<Option<Duration>>;
    /// TCP_USER_TIMEOUT, milliseconds; 0: none.
    fn set_user_timeout(&self, milliseconds: u32) -> io::Result<()>;
    fn user_timeout(&self) -> io::Result<u32>;
    /// TCP_MAXSEG.
    fn set_maxseg(&self, octets: u32) -> io::Result<()>;
    fn maxseg(&self) -> io::Result<u32>;
    /// TCP_CONGESTION.
    fn set_congestion(&self, name: &str) -> io::Result<()>;
    fn congestion(&self) -> io::Result<String>;
    /// SO_SNDBUF.
    fn set_send_buffer(&self, octets: u32) -> io::Result<()>;
    fn send_buffer(&self) -> io::Result<u32>;
    /// SO_RCVBUF.
    fn set_receive_buffer(&self, octets: u32) -> io::Result<()>;
    fn receive_buffer(&self) -> io::Result<u32>;
    /// TCP_NOTSENT_LOWAT; 0: the system's.
    fn set_notsent_lowat(&self, octets: u32) -> io::Result<()>;
    fn notsent_lowat(&self) -> io::Result<u32>;
    /// TCP_QUICKACK.
    fn set_quickack(&self, on: bool) -> io::Result<()>;
    fn quickack(&self) -> io::Result<bool>;
    /// TCP_CORK.
    fn set_cork(&self, on: bool) -> io::Result<()>;
    fn cork(&self) -> io::Result<bool>;
    /// SO_OOBINLINE.
    fn set_oobinline(&self, on: bool) -> io::Result<()>;
    fn oobinline(&self) -> io::Result<bool>;
    /// IP_TOS.
    fn set_tos(&self, octet: u32) -> io::Result<()>;
    fn tos(&self) -> io::Result<u32>;
    /// send(2) with MSG_MORE.
    fn write_more(&self, from: &[u8]) -> io::Result<usize>;
    /// SIOCINQ: octets that can be read.
    fn unread(&self) -> io::Result<u32>;
    /// SIOCOUTQ: octets written and not acknowledged.
    fn unsent(&self) -> io::Result<u32>;
    /// SIOCOUTQNSD: octets written and never sent.
    fn not_sent(&self) -> io::Result<u32>;
    /// TCP_INFO, what the suite looks at.
    fn info(&self) -> io::Result<Info>;
}

/// Fields of `struct tcp_info` by their names there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Info {
    /// `TCP_ESTABLISHED` is 1; see [`state`].
    pub(crate) state: u8,
    /// Octets of a segment that we send.
    pub(crate) snd_mss: u32,
    /// Segments.
    pub(crate) snd_cwnd: u32,
    /// Microseconds.
    pub(crate) rtt: u32,
    /// Microseconds.
    pub(crate) rttvar: u32,
    /// Microseconds.
    pub(crate) min_rtt: u32,
    /// Microseconds.
    pub(crate) rto: u32,
    pub(crate) bytes_acked: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) notsent_bytes: u32,
    pub(crate) total_retrans: u32,
}

/// Values of [`Info::state`].
pub(crate) mod state {
    pub(crate) const ESTABLISHED: u8 = 1;
    pub(crate) const FIN_WAIT2: u8 = 5;
    pub(crate) const CLOSE: u8 = 7;
    pub(crate) const CLOSE_WAIT: u8 = 8;
}

/// `Read` and `Write` for a shared stream.
#[derive(Debug)]
pub(crate) struct By<'a, T>(pub(crate) &'a T);

impl<T: Stream> Read for By<'_, T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_ref(into)
    }
}

impl<T: Stream> Write for By<'_, T> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.write_ref(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
