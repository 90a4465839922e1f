//! The same sockets for tokio (feature `tokio`): [`TcpStream`] is `AsyncRead` and `AsyncWrite`, [`TcpListener`] has an async
//! `accept`. No descriptor and no runtime of ours: a task's waker is called by the shard.
//!
//! Cancel safety: `accept`, `readable`, `writable`, `peek` and every read and write lose nothing when their future is
//! dropped before it is done; a dropped `connect` gives the connection up. Any number of tasks may wait for the same thing,
//! through one stream or listener or through clones, beside threads that block: all are woken, and who comes first gets it.
//! Only the `AsyncRead` and `AsyncWrite` of one stream, which nobody can share, know one task for each direction, the last
//! that asked.
//!
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use trust::net::tokio::{TcpListener, TcpStream};
//!
//! # use std::net::{IpAddr, Ipv4Addr};
//! # use trust::device::memory::{MemoryOptions, pair};
//! # use trust::engine::{Engine, Pin};
//! # fn main() -> std::io::Result<()> {
//! # let (a, b) = pair(&MemoryOptions::default())?;
//! # let start = |device, last| {
//! #     let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
//! #     Engine::builder().device(device, 1).address(address).pin(Pin::None).start()
//! # };
//! # let (serving, connecting) = (start(a, 2)?, start(b, 1)?);
//! # let (server, client) = (serving.stack(), connecting.stack());
//! let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! runtime.block_on(async {
//!     let listener = TcpListener::bind(&server, "10.0.0.2:80")?;
//!     let serving = tokio::spawn(async move {
//!         let (mut stream, _) = listener.accept().await?;
//!         stream.write_all(b"good day").await
//!     });
//!     let mut stream = TcpStream::connect(&client, "10.0.0.2:80").await?;
//!     let mut text = String::new();
//!     stream.read_to_string(&mut text).await?;
//!     assert_eq!(text, "good day");
//!     serving.await?
//! })
//! # }
//! ```

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::{Handle, is};
use super::{Stack, TcpSocket};
use crate::buffer::wakers::Place;

/// An asynchronous [`TcpStream`](super::TcpStream).
#[derive(Debug)]
pub struct TcpStream {
    inner: super::TcpStream,
    places: Places,
}

/// Where the task waits that reads by `poll_read`, and the one that writes by `poll_write`.
#[derive(Debug)]
struct Places {
    handle: Arc<Handle>,
    reading: Place,
    writing: Place,
}

impl Drop for Places {
    fn drop(&mut self) {
        self.handle.socket.reading.leave(self.reading);
        self.handle.socket.writing.leave(self.writing);
    }
}

impl From<super::TcpStream> for TcpStream {
    fn from(inner: super::TcpStream) -> Self {
        let places = Places { handle: Arc::clone(inner.handle()), reading: Place::new(), writing: Place::new() };
        Self { inner, places }
    }
}

impl TcpStream {
    /// Connects to the first of the given addresses that answers. To look a name up blocks the thread; addresses do not.
    ///
    /// # Errors
    ///
    /// As [`Stack::connect`].
    pub async fn connect(stack: &Stack, address: impl ToSocketAddrs) -> io::Result<Self> {
        // No iterator lives over a wait: the future is to be `Send`.
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        let mut last = None;
        for address in addresses {
            // Nor does the socket with all its options: a task would have to keep it.
            let attempt = match TcpSocket::new(stack).start(address) {
                Ok(stream) => Self::opened(stream).await,
                Err(error) => Err(error),
            };
            match attempt {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(super::opening::no_address))
    }

    /// Connects a socket whose options are set.
    ///
    /// # Errors
    ///
    /// As [`Stack::connect`].
    pub async fn open(socket: TcpSocket, address: SocketAddr) -> io::Result<Self> {
        Self::opened(socket.start(address)?).await
    }

    /// Waits for the end of the handshake.
    async fn opened(stream: super::TcpStream) -> io::Result<Self> {
        let socket = &stream.handle().socket;
        socket.writing.until(|| socket.state() & (is::CONNECTED | is::CLOSED) != 0).await;
        stream.check_connected()?;
        Ok(stream.into())
    }

    /// The stream underneath, for options, addresses and `info`.
    #[must_use]
    pub fn get_ref(&self) -> &super::TcpStream {
        &self.inner
    }

    /// The blocking stream; where an [embedded](crate::embed) host shares the thread, it is non-blocking as all are.
    #[must_use]
    pub fn into_inner(self) -> super::TcpStream {
        // Fails where nobody may wait.
        let _ = self.inner.set_nonblocking(false);
        self.inner
    }

    /// The address of our end.
    ///
    /// # Errors
    ///
    /// As [`super::TcpStream::local_addr`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// As [`super::TcpStream::peer_addr`].
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.peer_addr()
    }

    /// Waits until a read would do something. May be wrong once in a while: `try_read` then says `WouldBlock`.
    ///
    /// # Errors
    ///
    /// Never: what is wrong is told by the read.
    pub async fn readable(&self) -> io::Result<()> {
        self.inner.handle().socket.reading.until(|| self.inner.is_readable()).await;
        Ok(())
    }

    /// Waits until a write would do something.
    ///
    /// # Errors
    ///
    /// Never: what is wrong is told by the write.
    pub async fn writable(&self) -> io::Result<()> {
        self.inner.handle().socket.writing.until(|| self.inner.is_writable()).await;
        Ok(())
    }

    /// Sends small pieces at once (Nagle's algorithm is off, `TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// As [`super::TcpStream::set_nodelay`].
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.inner.set_nodelay(nodelay)
    }

    /// Whether small pieces are sent at once.
    ///
    /// # Errors
    ///
    /// As [`super::TcpStream::nodelay`].
    pub fn nodelay(&self) -> io::Result<bool> {
        self.inner.nodelay()
    }

    /// What becomes of octets that are not acknowledged when the stream is dropped (`SO_LINGER`).
    ///
    /// # Errors
    ///
    /// As [`super::TcpStream::set_linger`].
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.inner.set_linger(linger)
    }

    /// As it was set by [`set_linger`](Self::set_linger).
    ///
    /// # Errors
    ///
    /// As [`super::TcpStream::linger`].
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.inner.linger()
    }

    /// Time to live (IPv4) or hop limit (IPv6) of packets that leave from now on.
    ///
    /// # Errors
    ///
    /// As [`super::TcpStream::set_ttl`].
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.inner.set_ttl(ttl)
    }

    /// Time to live of packets that leave.
    ///
    /// # Errors
    ///
    /// As [`super::TcpStream::ttl`].
    pub fn ttl(&self) -> io::Result<u32> {
        self.inner.ttl()
    }

    /// What went wrong with the connection, once.
    ///
    /// # Errors
    ///
    /// As [`super::TcpStream::take_error`].
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.inner.take_error()
    }

    /// Waits until there is no connection any more: both directions have ended, or it was reset, or has timed out. Why,
    /// [`take_error`](Self::take_error) tells.
    pub async fn closed(&self) {
        let socket = &self.inner.handle().socket;
        socket.reading.until(|| socket.state() & is::CLOSED != 0).await;
    }

    /// Reads what is there.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nothing; as reading.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.inner.try_receive(|reader| reader.read(buffer))
    }

    /// Writes as much as there is room for.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is no room; as writing.
    pub fn try_write(&self, buffer: &[u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.inner.try_transmit_slices(&[IoSlice::new(buffer)], 0, false)
    }

    /// Reads without taking, as [`peek`](super::TcpStream::peek) of a blocking stream does.
    ///
    /// # Errors
    ///
    /// As reading.
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(asked) = self.inner.ask_to_show(buffer.len()) {
            let socket = &self.inner.handle().socket;
            socket.reading.until(|| socket.has_shown(asked)).await;
        }
        loop {
            match self.inner.try_peek(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                result => return result,
            }
        }
    }

    /// As [`write_bytes`](super::TcpStream::write_bytes): queues `bytes` without copying them, and waits until all are.
    /// Cancel safe: `bytes` always has what is not queued yet.
    ///
    /// # Errors
    ///
    /// As writing.
    pub async fn write_bytes(&self, bytes: &mut Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.inner.try_write_bytes(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                result => drop(result?),
            }
        }
        Ok(())
    }

    /// As [`read_with`](super::TcpStream::read_with).
    ///
    /// # Errors
    ///
    /// As reading.
    pub async fn read_with(&self, mut take: impl FnMut(&[u8]) -> usize) -> io::Result<usize> {
        loop {
            match self.inner.try_receive(|reader| reader.take_with(&mut take)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                result => return result,
            }
        }
    }

    /// Two halves for two tasks; dropping the write half sends a FIN.
    #[must_use]
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let stream = Arc::new(self);
        (OwnedReadHalf { stream: Arc::clone(&stream) }, OwnedWriteHalf { stream, shutdown_on_drop: true })
    }

    /// Two halves that borrow the stream.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf { stream: self }, WriteHalf { stream: self })
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.places.handle.socket.reading.poll(self.places.reading, context, || self.inner.is_readable())
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.places.handle.socket.writing.poll(self.places.writing, context, || self.inner.is_writable())
    }

    fn receive(&self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            let received = self.inner.try_receive(|reader| {
                let mut done = 0;
                while buffer.remaining() > 0 {
                    let run = reader.peek();
                    let take = run.len().min(buffer.remaining());
                    if take == 0 {
                        break;
                    }
                    buffer.put_slice(&run[..take]);
                    reader.consume(take);
                    done += take;
                }
                done
            });
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_readable(context)),
                result => return Poll::Ready(result.map(drop)),
            }
        }
    }

    fn transmit(&self, context: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        loop {
            match self.inner.try_transmit_slices(buffers, 0, false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_writable(context)),
                result => return Poll::Ready(result),
            }
        }
    }

    fn finish(&self) -> io::Result<()> {
        match self.inner.shutdown(Shutdown::Write) {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.receive(context, buffer)
    }
}

macro_rules! writes {
    ($half:ty, |$this:ident| $stream:expr) => {
        impl AsyncWrite for $half {
            fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
                let $this = &*self;
                $stream.transmit(context, &[IoSlice::new(buffer)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffers: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let $this = &*self;
                $stream.transmit(context, buffers)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            /// Does nothing: what was written is on its way.
            fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            /// A FIN follows what was written.
            fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $this = &*self;
                Poll::Ready($stream.finish())
            }
        }
    };
}

writes!(TcpStream, |this| this);
writes!(WriteHalf<'_>, |this| this.stream);
writes!(OwnedWriteHalf, |this| this.stream);

/// The reading half of a stream, borrowed.
#[derive(Debug)]
pub struct ReadHalf<'a> {
    stream: &'a TcpStream,
}

/// The writing half of a stream, borrowed.
#[derive(Debug)]
pub struct WriteHalf<'a> {
    stream: &'a TcpStream,
}

/// The reading half of a stream.
#[derive(Debug)]
pub struct OwnedReadHalf {
    stream: Arc<TcpStream>,
}

/// The writing half of a stream. Dropped, it ends our direction with a FIN.
#[derive(Debug)]
pub struct OwnedWriteHalf {
    stream: Arc<TcpStream>,
    shutdown_on_drop: bool,
}

impl AsyncRead for ReadHalf<'_> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream.receive(context, buffer)
    }
}

impl AsyncRead for OwnedReadHalf {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream.receive(context, buffer)
    }
}

impl AsRef<TcpStream> for OwnedReadHalf {
    fn as_ref(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsRef<TcpStream> for OwnedWriteHalf {
    fn as_ref(&self) -> &TcpStream {
        &self.stream
    }
}

/// Two halves that were not of one stream.
#[derive(Debug)]
pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

impl std::fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("tried to reunite halves that are not from the same stream")
    }
}

impl std::error::Error for ReuniteError {}

impl OwnedReadHalf {
    /// Joins the two halves of one stream again.
    ///
    /// # Errors
    ///
    /// Gives both back when they are of different streams.
    pub fn reunite(self, other: OwnedWriteHalf) -> Result<TcpStream, ReuniteError> {
        if !Arc::ptr_eq(&self.stream, &other.stream) {
            return Err(ReuniteError(self, other));
        }
        other.forget();
        // Ours is the last one now.
        Ok(Arc::try_unwrap(self.stream).unwrap_or_else(|stream| stream.inner.clone_handle().into()))
    }
}

impl OwnedWriteHalf {
    /// Drops the half without a FIN.
    pub fn forget(mut self) {
        self.shutdown_on_drop = false;
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if self.shutdown_on_drop {
            let _ = self.stream.finish();
        }
    }
}

/// An asynchronous [`TcpListener`](super::TcpListener).
#[derive(Debug)]
pub struct TcpListener {
    inner: super::TcpListener,
}

impl From<super::TcpListener> for TcpListener {
    fn from(inner: super::TcpListener) -> Self {
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

    /// The blocking listener; as [`TcpStream::into_inner`].
    #[must_use]
    pub fn into_inner(self) -> super::TcpListener {
        let _ = self.inner.set_nonblocking(false);
        self.inner
    }
}
