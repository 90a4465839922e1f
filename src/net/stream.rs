//! [`TcpStream`]: a connection, with the names, signatures and results of [`std::net::TcpStream`].

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token, event};

use super::registration::Descriptor;
use super::settings::{Change, Settings};
use super::socket::{Handle, is, want};
use crate::buffer::octets::{OctetReader, OctetWriter};

/// What a stream was connected by, and may be connected by again.
pub(super) trait Origin: Send + Sync {
    /// Begins to connect once more, with what has been set on the stream since.
    fn start_again(&self, remote: SocketAddr, settings: &Settings) -> io::Result<TcpStream>;
}

/// A TCP connection of a [`Stack`](super::Stack).
///
/// `Read` and `Write` are there for `TcpStream` and for `&TcpStream`, so that two threads can use one stream;
/// [`try_clone`](Self::try_clone) gives another handle on the same connection. When the last handle is dropped the rest
/// of what was written is sent in the background, followed by a FIN; octets that were received and not read make it a
/// reset instead, as on Linux (RFC 1122 4.2.2.13).
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::Shutdown;
/// use std::time::Duration;
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
/// let listener = server.bind("10.0.0.2:80")?;
/// let mut stream = client.connect("10.0.0.2:80")?;
/// let (mut accepted, _) = listener.accept()?;
///
/// stream.set_nodelay(true)?;
/// stream.write_all(b"a question")?;
/// stream.shutdown(Shutdown::Write)?;
/// let mut question = String::new();
/// accepted.read_to_string(&mut question)?;
/// assert_eq!(question, "a question");
///
/// // The other direction is still open, and silent.
/// stream.set_read_timeout(Some(Duration::from_millis(10)))?;
/// assert_eq!(stream.read(&mut [0; 9]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
/// assert_eq!(stream.info()?.bytes_sent, 10);
/// drop(accepted);
/// stream.set_read_timeout(None)?;
/// assert_eq!(stream.read(&mut [0; 9])?, 0);
/// # Ok(())
/// # }
/// ```
///
/// There is no descriptor behind it that octets could be read from, and so it is not `AsFd`. What tells the kernel's epoll
/// of its readiness is an [`EventQueue`](super::EventQueue), which has one descriptor for all sockets; in a
/// `mio::Registry` itself a stream has one of its own.
pub struct TcpStream {
    handle: Arc<Handle>,
    /// With a `mio::Registry`, if the stream is in one itself.
    descriptor: Descriptor,
    /// What it was connected by, if that did not wait: it may be tried again.
    origin: Option<Arc<dyn Origin>>,
}

/// As that of [`std::net::TcpStream`], with the connection's state in the place of the descriptor:
/// `TcpStream { addr: 10.0.0.1:40000, peer: 10.0.0.2:80, state: Connected }`.
impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = &self.handle.socket;
        let mut stream = f.debug_struct("TcpStream");
        if let Some(addr) = socket.local.get() {
            stream.field("addr", addr);
        }
        stream.field("peer", &socket.remote).field("state", &Seen::of(socket.state()));
        if let Some(error) = socket.pending_error() {
            stream.field("error", &format_args!("{error}"));
        }
        stream.finish()
    }
}

/// What an application sees of its connection. The states of TCP are the shard's: [`TcpStream::info`] asks it for them.
#[derive(Debug)]
enum Seen {
    Connecting,
    Connected,
    /// The peer has ended its direction, or reading was shut down.
    ReadClosed,
    /// Our direction has ended.
    WriteClosed,
    /// Both have, and the connection goes on until that is acknowledged.
    Closing,
    Closed,
}

impl Seen {
    fn of(state: u32) -> Self {
        if state & is::CLOSED != 0 {
            return Self::Closed;
        }
        if state & is::CONNECTED == 0 {
            return Self::Connecting;
        }
        match (state & (is::ENDED | is::SHUT_READ) != 0, state & is::SHUT_WRITE != 0) {
            (false, false) => Self::Connected,
            (true, false) => Self::ReadClosed,
            (false, true) => Self::WriteClosed,
            (true, true) => Self::Closing,
        }
    }
}

impl TcpStream {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle: Arc::new(handle), descriptor: Descriptor::default(), origin: None }
    }

    /// It came from there, by a connect that did not wait.
    pub(super) fn coming_from(mut self, origin: Arc<dyn Origin>) -> Self {
        self.handle.settings.connecting();
        self.origin = Some(origin);
        self
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn clone_handle(&self) -> Self {
        let origin = self.origin.clone();
        Self { handle: Arc::clone(&self.handle), descriptor: Descriptor::default(), origin }
    }

    /// The address of our end.
    ///
    /// # Errors
    ///
    /// `NotConnected` before a local address was chosen.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.handle.socket.local.get().copied().ok_or_else(not_connected)
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// `NotConnected` before the handshake is complete and after the connection has ended.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let state = self.handle.socket.state();
        if state & is::CONNECTED == 0 || state & is::CLOSED != 0 {
            return Err(not_connected());
        }
        Ok(self.handle.socket.remote)
    }

    /// Another handle on the same connection: octets read through one are gone for the other.
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(self.clone_handle())
    }

    /// connect(2) on a socket that has been there before. Of an attempt that goes on or has succeeded it tells; after
    /// one that has failed, by [`connect_nonblocking`](super::TcpSocket::connect_nonblocking), the first call tells
    /// that, and the next one tries anew: with the options that are set by then, from the local address that the socket
    /// was bound to, if it was. An event queue or a `mio::Registry` that watches the stream goes on doing so. Clones of
    /// the stream stay what they are: handles on the attempt that has failed.
    ///
    /// # Errors
    ///
    /// `EALREADY` while the handshake goes on, `EISCONN` after it (but the first call after a non-blocking connect has
    /// succeeded returns `Ok`); the pending error, or `ECONNABORTED` if it was taken, after an attempt that has failed; of a
    /// new one `EINPROGRESS` where the stream is non-blocking, else as [`Stack::connect`](super::Stack::connect).
    pub fn connect_again(&mut self, remote: SocketAddr) -> io::Result<()> {
        let (socket, settings) = (&self.handle.socket, &self.handle.settings);
        let errno = |errno| Err(io::Error::from_raw_os_error(errno));
        let state = socket.state();
        if state & is::CONNECTED != 0 {
            return if settings.told() { errno(libc::EISCONN) } else { Ok(()) };
        }
        if state & is::CLOSED == 0 {
            return errno(libc::EALREADY);
        }
        let told = settings.told();
        if let Some(error) = socket.take_error() {
            return Err(error);
        }
        let Some(origin) = self.origin.as_ref().filter(|_| told) else { return errno(libc::ECONNABORTED) };
        let new = origin.start_again(remote, settings)?;
        let nonblocking = settings.nonblocking();
        self.watch_instead(&new);
        self.handle = new.handle;
        if nonblocking {
            self.handle.settings.connecting();
            return errno(libc::EINPROGRESS);
        }
        self.await_connected(None)
    }

    /// Waits for the end of the handshake.
    pub(crate) fn await_connected(&self, deadline: Option<Instant>) -> io::Result<()> {
        let socket = &self.handle.socket;
        let settled = || socket.state() & (is::CONNECTED | is::CLOSED) != 0;
        if !socket.writing.wait(deadline, settled) {
            socket.ring(want::ABORT);
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        self.check_connected()
    }

    /// What the handshake, which is over, has come to.
    pub(crate) fn check_connected(&self) -> io::Result<()> {
        let socket = &self.handle.socket;
        if socket.state() & is::CONNECTED == 0 {
            return Err(socket.take_error().unwrap_or_else(super::stack::stopped));
        }
        Ok(())
    }

    /// Reads without taking: the same octets come again. It sees all that was received, up to a full socket queue and
    /// receive buffer, as far as `buffer` has room, and the [memory of all queues](super::SocketLimits::queued) has. What the
    /// queue had no room for the shard has to bring, which takes about a turn: a non-blocking call sees without it what lies
    /// in the queue, and the stream becomes readable anew when there is more to be seen.
    ///
    /// # Errors
    ///
    /// As reading.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(asked) = self.ask_to_show(buffer.len())
            && !self.handle.settings.nonblocking()
        {
            let socket = &self.handle.socket;
            socket.reading.wait(None, || socket.has_shown(asked));
        }
        self.receive(|reader| look(reader, buffer))
    }

    /// Asks for what lies behind the full queue, if there is something and a look at `octets` would see it. Then it is worth
    /// while to wait until the socket [has shown](super::socket::Socket::has_shown) it.
    pub(crate) fn ask_to_show(&self, octets: usize) -> Option<u32> {
        let socket = &self.handle.socket;
        // First the state: what the shard has brought before it said that there is no more, is in the queue then.
        let more = socket.state() & (is::BEHIND | is::CLOSED) == is::BEHIND;
        (more && self.handle.reader().len() < octets).then(|| socket.ask_to_show(octets))
    }

    /// Writes with the promise of more (MSG_MORE): what does not fill a segment waits for the next write without it, for at
    /// most 200 ms.
    ///
    /// # Errors
    ///
    /// As writing.
    pub fn write_more(&self, buffer: &[u8]) -> io::Result<usize> {
        self.transmit(&[IoSlice::new(buffer)], true)
    }

    /// Ends one direction or both. Octets written before still arrive, followed by a FIN; what was received before a
    /// `shutdown(Read)` can still be read.
    ///
    /// # Errors
    ///
    /// `NotConnected` after the connection has ended. During the handshake it gives the attempt up.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let socket = &self.handle.socket;
        let state = socket.state();
        if state & is::CLOSED != 0 {
            return Err(not_connected());
        }
        if state & is::CONNECTED == 0 {
            // As Linux has it: the attempt is given up, and the pending error says so.
            socket.close(libc::ECONNRESET);
            socket.ring(want::ABORT);
            return Ok(());
        }
        if state & is::ENDED != 0 && state & is::SHUT_WRITE != 0 {
            // Both directions have ended: the connection has, or does so in this very moment.
            return Err(not_connected());
        }
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            socket.set(is::SHUT_READ);
        }
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            // What another handle is writing lies in the queue before the shard hears of the end, or is refused.
            let writer = self.handle.writer();
            socket.mark(is::SHUT_WRITE);
            drop(writer);
            socket.notify_all();
            socket.ring(want::SHUT_WRITE);
        }
        Ok(())
    }

    /// How long a read waits at most; `None`: for ever.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a duration of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.handle.settings.set_read_timeout(checked(timeout)?);
        Ok(())
    }

    /// How long a write waits at most; `None`: for ever.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a duration of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.handle.settings.set_write_timeout(checked(timeout)?);
        Ok(())
    }

    /// See [`set_read_timeout`](Self::set_read_timeout).
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.handle.settings.read_timeout())
    }

    /// See [`set_write_timeout`](Self::set_write_timeout).
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.handle.settings.write_timeout())
    }

    /// Whether calls return `WouldBlock` instead of waiting; for all clones.
    ///
    /// # Errors
    ///
    /// `Unsupported`: they are to wait, and the stream's [embedded](crate::embed) host shares the thread.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        if !nonblocking && !self.handle.socket.doorbell().may_wait() {
            return Err(super::stack::must_not_wait());
        }
        self.handle.settings.set_nonblocking(nonblocking);
        Ok(())
    }

    /// Takes the pending error (SO_ERROR).
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.handle.socket.take_error())
    }

    /// Switches Nagle's algorithm off (`true`) or on (TCP_NODELAY).
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.handle.settings.set_nodelay(nodelay);
        self.handle.socket.change(Change::NoDelay(nodelay));
        Ok(())
    }

    /// See [`set_nodelay`](Self::set_nodelay).
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.handle.settings.nodelay())
    }

    /// What dropping the last handle does (SO_LINGER): `None` sends the rest in the background, zero resets, another
    /// time waits so long for the end of the connection.
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.handle.settings.set_linger(linger);
        Ok(())
    }

    /// See [`set_linger`](Self::set_linger).
    ///
    /// # Errors
    ///
    /// Never; as `std` has it.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.handle.settings.linger())
    }

    // ---- how octets move ----

    /// Whether a read would return at once.
    pub(crate) fn is_readable(&self) -> bool {
        let socket = &self.handle.socket;
        let over = is::ENDED | is::CLOSED | is::SHUT_READ;
        socket.state() & over != 0 || !self.handle.reader().is_empty() || socket.has_error()
    }

    /// Whether a write would return at once.
    pub(crate) fn is_writable(&self) -> bool {
        let socket = &self.handle.socket;
        let state = socket.state();
        state & (is::CLOSED | is::SHUT_WRITE) != 0
            || (state & is::CONNECTED != 0 && self.handle.has_room())
            || socket.has_error()
    }

    /// One try to [`peek`](Self::peek).
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))] // Blocking ones go through `receive`.
    pub(crate) fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_receive(|reader| look(reader, buffer))
    }

    /// One try to receive: `WouldBlock` when there is nothing yet. `take` returns how much it took.
    pub(crate) fn try_receive(&self, take: impl FnOnce(&mut OctetReader) -> usize) -> io::Result<usize> {
        let socket = &self.handle.socket;
        let mut reader = self.handle.reader();
        // Before the look into the queue: what the end of the stream follows is in it already.
        let state = socket.state();
        if !reader.is_empty() {
            let taken = take(&mut reader);
            let left = reader.len();
            drop(reader);
            socket.made_room(left);
            return Ok(taken);
        }
        if state & (is::ENDED | is::SHUT_READ) != 0 {
            return Ok(0);
        }
        if let Some(error) = socket.take_error() {
            return Err(error);
        }
        if state & is::CLOSED != 0 {
            // As Linux has it: an attempt that has failed, once that is told, is a connection that has ended.
            return Ok(0);
        }
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }

    /// One try to send: `WouldBlock` when there is no room. `put` is told how much it may put at most, and returns how much
    /// it did; `nothing`: there is nothing to put, only to be told whether it could be.
    pub(crate) fn try_transmit(
        &self,
        nothing: bool,
        more: bool,
        put: impl FnOnce(&mut OctetWriter, usize) -> usize,
    ) -> io::Result<usize> {
        let socket = &self.handle.socket;
        let mut writer = self.handle.writer();
        // Under the lock: see `shutdown`.
        let state = socket.state();
        if let Some(error) = socket.take_error() {
            return Err(error);
        }
        if state & (is::SHUT_WRITE | is::CLOSED) != 0 {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        if state & is::CONNECTED == 0 {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        if nothing {
            return Ok(0);
        }
        let most = socket.may_write(writer.written());
        let sent = put(&mut writer, most);
        if sent == 0 {
            drop(writer);
            if socket.found_no_room() {
                socket.ring(want::SEND);
            }
            // Nobody tells of what was freed meanwhile: we do.
            if self.handle.has_room() {
                socket.notify_writers();
            }
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        // Before another write, which may promise something else.
        if more != (state & is::MORE != 0) {
            socket.promise_more(more);
        }
        drop(writer);
        socket.ring(want::SEND);
        Ok(sent)
    }

    /// A read into no room waits for octets, too, as the kernel's does, and takes none.
    pub(super) fn receive(&self, mut take: impl FnMut(&mut OctetReader) -> usize) -> io::Result<usize> {
        let mut deadline = None;
        loop {
            match self.try_receive(&mut take) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let settings = &self.handle.settings;
                    if settings.nonblocking() {
                        return Err(error);
                    }
                    if deadline.is_none() {
                        deadline = settings.read_timeout().map(after);
                    }
                    if !self.handle.socket.reading.wait(deadline.flatten(), || self.is_readable()) {
                        return Err(io::Error::from_raw_os_error(libc::EAGAIN));
                    }
                }
                result => return result,
            }
        }
    }

    fn transmit(&self, buffers: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        let total = buffers.iter().map(|buffer| buffer.len()).sum();
        self.transmit_all(total, |done| self.try_transmit_slices(buffers, done, more))
    }

    /// As the kernel's `send`: a blocking call returns when everything is queued, or, if something is, with how much. `put`
    /// is told how much was queued before.
    pub(super) fn transmit_all(
        &self,
        total: usize,
        mut put: impl FnMut(usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut done = 0;
        let mut deadline = None;
        loop {
            if done > 0 && self.handle.socket.has_error() {
                // The next call tells it.
                return Ok(done);
            }
            match put(done) {
                Ok(sent) => done += sent,
                Err(_) if done > 0 && self.handle.settings.nonblocking() => return Ok(done),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let settings = &self.handle.settings;
                    if settings.nonblocking() {
                        return Err(error);
                    }
                    if deadline.is_none() {
                        deadline = settings.write_timeout().map(after);
                    }
                    if !self.handle.socket.writing.wait(deadline.flatten(), || self.is_writable()) {
                        return if done > 0 { Ok(done) } else { Err(io::Error::from_raw_os_error(libc::EAGAIN)) };
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
            if done == total {
                return Ok(done);
            }
        }
    }

    /// As [`try_transmit`](Self::try_transmit), with what follows the `skip` first octets of `buffers`.
    pub(crate) fn try_transmit_slices(
        &self,
        buffers: &[IoSlice<'_>],
        mut skip: usize,
        more: bool,
    ) -> io::Result<usize> {
        let nothing = buffers.iter().all(|buffer| buffer.is_empty());
        self.try_transmit(nothing, more, |writer, most| {
            let mut sent = 0;
            for buffer in buffers {
                let rest = buffer.get(skip..).unwrap_or_default();
                skip = skip.saturating_sub(buffer.len());
                let put = writer.write(&rest[..rest.len().min(most - sent)]);
                sent += put;
                if put < rest.len() {
                    break;
                }
            }
            sent
        })
    }
}

/// Copies what is there into `buffer` and leaves it where it is.
fn look(reader: &OctetReader, buffer: &mut [u8]) -> usize {
    let mut done = 0;
    for run in reader.slices() {
        let take = run.len().min(buffer.len() - done);
        buffer[done..done + take].copy_from_slice(&run[..take]);
        done += take;
        if done == buffer.len() {
            break;
        }
    }
    done
}

/// Takes what is there into `buffers`, one after the other.
pub(super) fn scatter(reader: &mut OctetReader, buffers: &mut [IoSliceMut<'_>]) -> usize {
    let mut done = 0;
    for buffer in buffers {
        let got = reader.read(buffer);
        done += got;
        if got < buffer.len() {
            break;
        }
    }
    done
}

fn checked(timeout: Option<Duration>) -> io::Result<Option<Duration>> {
    if timeout == Some(Duration::ZERO) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
    }
    Ok(timeout)
}

/// `None`: so far away that it never comes.
fn after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

pub(crate) fn not_connected() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOTCONN)
}

impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(|reader| reader.read(buffer))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.receive(|reader| scatter(reader, buffers))
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.transmit(&[IoSlice::new(buffer)], false)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.transmit(buffers, false)
    }

    /// Does nothing: what was written is on its way.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for TcpStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl event::Source for TcpStream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        let mut descriptor = std::mem::take(&mut self.descriptor);
        let result = descriptor.register(self, registry, token, interests);
        self.descriptor = descriptor;
        result
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        let mut descriptor = std::mem::take(&mut self.descriptor);
        let result = descriptor.reregister(self, registry, token, interests);
        self.descriptor = descriptor;
        result
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let mut descriptor = std::mem::take(&mut self.descriptor);
        descriptor.deregister(self, registry)
    }
}
