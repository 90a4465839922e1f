//! [`TcpStream`]: a connection, read and written by tasks.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};

use crate::buffer::octets::OctetReader;
use crate::buffer::wakers::Place;
use crate::net::opening::no_address;
use crate::net::socket::{Handle, is};
use crate::net::stream::scatter;
use crate::net::{Stack, TcpSocket};

/// An asynchronous [`TcpStream`](crate::net::TcpStream), with the names and signatures of `tokio::net::TcpStream`.
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
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
/// let listener = TcpListener::bind(&server, "10.0.0.2:80")?;
/// let mut stream = TcpStream::connect(&client, "10.0.0.2:80").await?;
/// let (accepted, _) = listener.accept().await?;
///
/// stream.set_nodelay(true)?;
/// stream.write_all(b"a question").await?;
/// stream.shutdown().await?;
/// let (mut reader, mut writer) = accepted.into_split();
/// let mut question = String::new();
/// reader.read_to_string(&mut question).await?;
/// assert_eq!(question, "a question");
///
/// writer.write_all(b"an answer").await?;
/// let mut answer = [0; 100];
/// let ready = stream.ready(Interest::READABLE | Interest::WRITABLE).await?;
/// assert!(ready.is_writable(), "told at once, and a write fails: this direction has ended");
/// stream.readable().await?;
/// let octets = stream.try_read(&mut answer)?;
/// assert_eq!(&answer[..octets], b"an answer");
/// # Ok(())
/// # })
/// # }
/// ```
pub struct TcpStream {
    inner: crate::net::TcpStream,
    places: Places,
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner, f)
    }
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

impl From<crate::net::TcpStream> for TcpStream {
    fn from(inner: crate::net::TcpStream) -> Self {
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
        Err(last.unwrap_or_else(no_address))
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
    async fn opened(stream: crate::net::TcpStream) -> io::Result<Self> {
        let socket = &stream.handle().socket;
        socket.writing.until(|| socket.state() & (is::CONNECTED | is::CLOSED) != 0).await;
        stream.check_connected()?;
        Ok(stream.into())
    }

    /// The stream underneath, for options, addresses and `info`.
    #[must_use]
    pub fn get_ref(&self) -> &crate::net::TcpStream {
        &self.inner
    }

    /// The blocking stream; where an [embedded](crate::embed) host shares the thread, it is non-blocking as all are.
    #[must_use]
    pub fn into_inner(self) -> crate::net::TcpStream {
        // Fails where nobody may wait.
        let _ = self.inner.set_nonblocking(false);
        self.inner
    }

    /// The address of our end.
    ///
    /// # Errors
    ///
    /// As [`local_addr`](crate::net::TcpStream::local_addr) of a blocking stream.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// As [`peer_addr`](crate::net::TcpStream::peer_addr) of a blocking stream.
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

    /// Waits until the stream is ready for something of `interest`, and tells for what. May be wrong once in a while, as
    /// [`readable`](Self::readable).
    ///
    /// # Errors
    ///
    /// Never: what is wrong is told by reading and writing.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        let socket = &self.inner.handle().socket;
        let (mut reading, mut writing) = (socket.reading.enter(), socket.writing.enter());
        // Ends and errors are told in both places.
        let reads = interest.is_readable() || !interest.is_writable();
        poll_fn(|context| {
            let mut found = Ready::EMPTY;
            let mut look = || {
                found = self.readiness(interest);
                !found.is_empty()
            };
            let told = (reads && reading.poll(context, &mut look).is_ready())
                || (interest.is_writable() && writing.poll(context, &mut look).is_ready());
            if told { Poll::Ready(Ok(found)) } else { Poll::Pending }
        })
        .await
    }

    /// What of `interest` the stream is ready for. There is no urgent data here that would be told of by itself.
    fn readiness(&self, interest: Interest) -> Ready {
        let socket = &self.inner.handle().socket;
        let mut ready = Ready::EMPTY;
        let mut add = |so: bool, what: Ready| ready |= if so { what } else { Ready::EMPTY };
        if interest.is_readable() {
            add(self.inner.is_readable(), Ready::READABLE);
        }
        if interest.is_readable() || interest.is_priority() {
            add(socket.is_read_closed(), Ready::READ_CLOSED);
        }
        if interest.is_writable() {
            add(self.inner.is_writable(), Ready::WRITABLE);
            add(socket.is_write_closed(), Ready::WRITE_CLOSED);
        }
        if interest.is_error() {
            add(socket.has_error(), Ready::ERROR);
        }
        ready
    }

    /// As [`readable`](Self::readable), by hand. As [`AsyncRead`] it knows the task that asked last.
    ///
    /// # Errors
    ///
    /// Never: what is wrong is told by the read.
    pub fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_readable(context).map(Ok)
    }

    /// As [`writable`](Self::writable), by hand. As [`AsyncWrite`] it knows the task that asked last.
    ///
    /// # Errors
    ///
    /// Never: what is wrong is told by the write.
    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writable(context).map(Ok)
    }

    /// Sends small pieces at once (Nagle's algorithm is off, `TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// As [`set_nodelay`](crate::net::TcpStream::set_nodelay) of a blocking stream.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.inner.set_nodelay(nodelay)
    }

    /// Whether small pieces are sent at once.
    ///
    /// # Errors
    ///
    /// As [`nodelay`](crate::net::TcpStream::nodelay) of a blocking stream.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.inner.nodelay()
    }

    /// What becomes of octets that are not acknowledged when the stream is dropped (`SO_LINGER`).
    ///
    /// # Errors
    ///
    /// As [`set_linger`](crate::net::TcpStream::set_linger) of a blocking stream.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.inner.set_linger(linger)
    }

    /// Has the stream reset when it is dropped: [`set_linger`](Self::set_linger) with no time.
    ///
    /// # Errors
    ///
    /// As [`set_linger`](crate::net::TcpStream::set_linger) of a blocking stream.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.inner.set_linger(Some(Duration::ZERO))
    }

    /// As it was set by [`set_linger`](Self::set_linger).
    ///
    /// # Errors
    ///
    /// As [`linger`](crate::net::TcpStream::linger) of a blocking stream.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.inner.linger()
    }

    /// Time to live (IPv4) or hop limit (IPv6) of packets that leave from now on.
    ///
    /// # Errors
    ///
    /// As [`set_ttl`](crate::net::TcpStream::set_ttl) of a blocking stream.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.inner.set_ttl(ttl)
    }

    /// Time to live of packets that leave.
    ///
    /// # Errors
    ///
    /// As [`ttl`](crate::net::TcpStream::ttl) of a blocking stream.
    pub fn ttl(&self) -> io::Result<u32> {
        self.inner.ttl()
    }

    /// Acknowledges at once instead of with a delay (`TCP_QUICKACK`).
    ///
    /// # Errors
    ///
    /// Never; as tokio has it.
    pub fn set_quickack(&self, quick: bool) -> io::Result<()> {
        self.inner.set_quickack(quick);
        Ok(())
    }

    /// As [`quickack`](crate::net::TcpStream::quickack) of a blocking stream.
    ///
    /// # Errors
    ///
    /// Never; as tokio has it.
    pub fn quickack(&self) -> io::Result<bool> {
        Ok(self.inner.quickack())
    }

    /// What went wrong with the connection, once.
    ///
    /// # Errors
    ///
    /// As [`take_error`](crate::net::TcpStream::take_error) of a blocking stream.
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

    /// As [`try_read`](Self::try_read), into several buffers, one after the other.
    ///
    /// # Errors
    ///
    /// As [`try_read`](Self::try_read).
    pub fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Ok(0);
        }
        self.inner.try_receive(|reader| scatter(reader, buffers))
    }

    /// As [`try_read`](Self::try_read), behind what `buffer` has, and as much as it has room for without growing (a full
    /// `Vec` makes some).
    ///
    /// # Errors
    ///
    /// As [`try_read`](Self::try_read).
    pub fn try_read_buf<B: BufMut>(&self, buffer: &mut B) -> io::Result<usize> {
        if !buffer.has_remaining_mut() {
            return Ok(0);
        }
        let room = buffer.chunk_mut().len();
        self.inner.try_receive(|reader| hand_over(reader, room, |run| buffer.put_slice(run)))
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
        self.try_write_vectored(&[IoSlice::new(buffer)])
    }

    /// As [`try_write`](Self::try_write), from several buffers, one after the other.
    ///
    /// # Errors
    ///
    /// As [`try_write`](Self::try_write).
    pub fn try_write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Ok(0);
        }
        self.inner.try_transmit_slices(buffers, 0, false)
    }

    /// Does `f` if the stream is ready for something of `interest`. `f` must not wait: it is one of the `try_` methods,
    /// or something that is done with a [stream underneath](Self::get_ref) that was made non-blocking.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it is not; else those of `f`.
    pub fn try_io<R>(&self, interest: Interest, f: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        if self.readiness(interest).is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        f()
    }

    /// Does `f`, as [`try_io`](Self::try_io), as often as it takes until it says something else than `WouldBlock`.
    ///
    /// # Errors
    ///
    /// Those of `f`.
    pub async fn async_io<R>(&self, interest: Interest, mut f: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        loop {
            self.ready(interest).await?;
            match f() {
                // Ready, but not for that: there may be too little room.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => step_back().await,
                result => return result,
            }
        }
    }

    /// Reads without taking, as [`peek`](crate::net::TcpStream::peek) of a blocking stream does.
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

    /// As [`peek`](Self::peek), by hand: how many octets are in `buffer` now. What lies behind a full socket queue is
    /// not waited for: the stream becomes readable anew when there is more to be seen.
    ///
    /// # Errors
    ///
    /// As reading.
    pub fn poll_peek(&self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        loop {
            let _ = self.inner.ask_to_show(buffer.remaining());
            match self.inner.try_peek(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_readable(context)),
                result => return Poll::Ready(result.inspect(|octets| buffer.advance(*octets))),
            }
        }
    }

    /// As [`write_bytes`](crate::net::TcpStream::write_bytes): queues `bytes` without copying them, and waits until all are.
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

    /// As [`read_with`](crate::net::TcpStream::read_with).
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

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.places.handle.socket.reading.poll(self.places.reading, context, || self.inner.is_readable())
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.places.handle.socket.writing.poll(self.places.writing, context, || self.inner.is_writable())
    }

    /// Hands what is there to `put`, up to `room` octets; how many it got.
    pub(super) fn receive(
        &self,
        context: &mut Context<'_>,
        room: usize,
        mut put: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if room == 0 {
            return Poll::Ready(Ok(0));
        }
        loop {
            match self.inner.try_receive(|reader| hand_over(reader, room, &mut put)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_readable(context)),
                result => return Poll::Ready(result),
            }
        }
    }

    pub(super) fn transmit(&self, context: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
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

    pub(super) fn finish(&self) -> io::Result<()> {
        match self.inner.shutdown(Shutdown::Write) {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.receive(context, buffer.remaining(), |run| buffer.put_slice(run)).map_ok(drop)
    }
}

/// Moves what is there out of the queue, up to `room` octets; how many that were.
fn hand_over(reader: &mut OctetReader, room: usize, mut put: impl FnMut(&[u8])) -> usize {
    let mut done = 0;
    while done < room {
        let run = reader.peek();
        let take = run.len().min(room - done);
        if take == 0 {
            break;
        }
        put(&run[..take]);
        reader.consume(take);
        done += take;
    }
    done
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.transmit(context, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.transmit(context, buffers)
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
        Poll::Ready(self.finish())
    }
}

/// Lets other tasks go first.
async fn step_back() {
    let mut stepped = false;
    poll_fn(|context| {
        if std::mem::replace(&mut stepped, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
