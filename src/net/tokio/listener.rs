//! [`TcpListener`]: connections, accepted by tasks.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::task::{Context, Poll};

use super::stream::TcpStream;
use crate::buffer::wakers::Place;
use crate::net::Stack;

/// An asynchronous [`TcpListener`](crate::net::TcpListener).
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use trust::net::tokio::{TcpListener, TcpStream};
///
/// # use std::net::{IpAddr, Ipv4Addr};
/// # use trust::device::memory::{MemoryOptions, pair};
/// # use trust::engine::{Engine, Pin};
/// # fn main() -> std::io::Result<()> {
/// # let (a, b) = pair(&MemoryOptions::default())?;
/// # let start = |device, last| {
/// #     let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
/// #     Engine::builder().device(device, 1).address(address).pin(Pin::None).start()
/// # };
/// # let (serving, connecting) = (start(a, 2)?, start(b, 1)?);
/// # let (server, client) = (serving.stack(), connecting.stack());
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let listener = TcpListener::bind(&server, "10.0.0.2:7")?;
/// tokio::spawn(async move {
///     while let Ok((mut stream, _)) = listener.accept().await {
///         tokio::spawn(async move {
///             let (mut reader, mut writer) = stream.split();
///             tokio::io::copy(&mut reader, &mut writer).await
///         });
///     }
/// });
/// let mut stream = TcpStream::connect(&client, "10.0.0.2:7").await?;
/// stream.write_all(b"echo").await?;
/// let mut got = [0; 4];
/// stream.read_exact(&mut got).await?;
/// assert_eq!(&got, b"echo");
/// # Ok(())
/// # })
/// # }
/// ```
pub struct TcpListener {
    inner: crate::net::TcpListener,
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner, f)
    }
}

impl From<crate::net::TcpListener> for TcpListener {
    fn from(inner: crate::net::TcpListener) -> Self {
        Self { inner }
    }
}

impl TcpListener {
    /// Listens; see [`Stack::bind`]. Waits a moment for the shards, so it blocks for about a turn, and longer to look a name
    /// up.
    ///
    /// # Errors
    ///
    /// As [`Stack::bind`].
    pub fn bind(stack: &Stack, address: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self { inner: stack.bind(address)? })
    }

    /// Takes the next connection.
    ///
    /// # Errors
    ///
    /// `ConnectionAborted` when the engine has stopped.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut waiting = self.inner.listening().waiting.enter();
        let accepting = poll_fn(|context| self.inner.poll_accept(|ready| waiting.poll(context, ready)));
        let (stream, address) = accepting.await?;
        Ok((stream.into(), address))
    }

    /// As [`accept`](Self::accept), by hand. A task that polls no more may be woken once more for it; of more than 32 that
    /// poll by hand at once some are woken for nothing, and have to ask again.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let waiting = &self.inner.listening().waiting;
        let accepted = self.inner.poll_accept(|ready| waiting.poll(Place::BY_HAND, context, ready));
        accepted.map_ok(|(stream, address)| (stream.into(), address))
    }

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The listener underneath.
    #[must_use]
    pub fn get_ref(&self) -> &crate::net::TcpListener {
        &self.inner
    }

    /// TTL or hop limit of the connections it accepts from now on (IP_TTL).
    ///
    /// # Errors
    ///
    /// As [`set_ttl`](crate::net::TcpListener::set_ttl) of a blocking listener.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.inner.set_ttl(ttl)
    }

    /// See [`set_ttl`](Self::set_ttl).
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn ttl(&self) -> io::Result<u32> {
        self.inner.ttl()
    }

    /// The blocking listener; as [`TcpStream::into_inner`].
    #[must_use]
    pub fn into_inner(self) -> crate::net::TcpListener {
        let _ = self.inner.set_nonblocking(false);
        self.inner
    }
}
