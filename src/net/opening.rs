//! The ways from a [`Stack`] to sockets that are open.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::listener::TcpListener;
use super::stack::Stack;
use super::stream::TcpStream;
use super::unopened::TcpSocket;

/// Completed connections that a listener keeps for `accept` unless told otherwise (Linux: net.core.somaxconn).
pub const BACKLOG: usize = 4_096;

impl Stack {
    /// Listens on the first of the given addresses that can be had, with the usual backlog. Port 0 chooses one; an
    /// unspecified address (0.0.0.0) stands for all of ours. When it returns every shard listens; an
    /// [embedded](crate::embed) host does from its next poll on, before it looks at packets.
    ///
    /// # Errors
    ///
    /// `AddrInUse`, `AddrNotAvailable` (not ours), `InvalidInput` (no address given), or the engine has stopped.
    pub fn bind(&self, address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        each(address, |address| TcpSocket::new(self).bind(address)?.listen(BACKLOG))
    }

    /// Connects to the first of the given addresses that answers.
    ///
    /// # Errors
    ///
    /// As [`std::net::TcpStream::connect`]: `ConnectionRefused`, `TimedOut`, `NetworkUnreachable`...; `Unsupported` on
    /// an [embedded](crate::embed) host that shares its thread: see [`TcpSocket::connect_nonblocking`].
    pub fn connect(&self, address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        each(address, |address| TcpSocket::new(self).connect(address))
    }

    /// As [`connect`](Self::connect) to one address, for a limited time.
    ///
    /// # Errors
    ///
    /// `TimedOut`; `InvalidInput` for a duration of zero; as `connect`.
    pub fn connect_timeout(&self, address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
        }
        TcpSocket::new(self).connect_until(*address, std::time::Instant::now().checked_add(timeout))
    }
}

fn each<T>(address: impl ToSocketAddrs, mut attempt: impl FnMut(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut last = None;
    for address in address.to_socket_addrs()? {
        match attempt(address) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

pub(crate) fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses")
}
