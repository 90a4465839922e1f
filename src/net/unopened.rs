//! [`TcpSocket`]: a socket before it is connected or listens.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::{Command, Mail};
use super::listener::TcpListener;
use super::settings::{Initial, LEAST_BUFFER, Settings};
use super::socket::{Birth, is};
use super::stack::{Stack, must_not_wait, stopped};
use super::stream::{Origin, TcpStream};
use crate::shard::{ConnectOptions, ListenOptions};
use crate::tcp::{self, CongestionControl, KeepAlive};

/// A socket that is not connected yet: options, a local address, then [`connect`](Self::connect) or
/// [`listen`](Self::listen). A connect that has failed can be tried again, to the same place or another.
///
/// What is set here counts from the first packet on, as far as it can: the user timeout bounds the handshake, the receive
/// buffer the window of the SYN and its scale, TTL and DSCP are those of all packets. Connections that a listener accepts
/// have the same options from the beginning, as on Linux.
///
/// ```
/// use trust::net::TcpSocket;
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
/// let any_port = TcpSocket::new(&server).bind("10.0.0.2:0".parse().expect("an address"))?;
/// let listener = any_port.listen(16)?;
///
/// let mut socket = TcpSocket::new(&client).bind("10.0.0.1:4000".parse().expect("an address"))?;
/// socket.options_mut().syn_retries = Some(2);
/// socket.set_receive_buffer(20_000);
/// assert!(socket.connect("10.0.0.2:1".parse().expect("an address")).is_err(), "nobody listens there");
/// let stream = socket.connect(listener.local_addr()?)?;
/// assert_eq!(stream.local_addr()?.port(), 4000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TcpSocket {
    stack: Stack,
    local: Option<SocketAddr>,
    options: ConnectOptions,
    /// What is not among these.
    initial: Initial,
}

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut socket = f.debug_struct("TcpSocket");
        if let Some(local) = &self.local {
            socket.field("addr", local);
        }
        socket.finish_non_exhaustive()
    }
}

impl TcpSocket {
    /// A socket of `stack`.
    #[must_use]
    pub fn new(stack: &Stack) -> Self {
        Self { stack: stack.clone(), local: None, options: ConnectOptions::default(), initial: Initial::default() }
    }

    /// Gives it a local address; port 0 leaves the choice open.
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable`: the address is not ours.
    pub fn bind(mut self, local: SocketAddr) -> io::Result<Self> {
        if !self.stack.is_ours(local.ip()) {
            return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
        }
        self.local = Some(local);
        Ok(self)
    }

    /// Options for connections that this socket opens, and but for the repetitions of the SYN for those it accepts.
    pub fn options_mut(&mut self) -> &mut ConnectOptions {
        &mut self.options
    }

    /// See [`TcpStream::set_user_timeout`].
    pub fn set_user_timeout(&mut self, limit: Option<Duration>) {
        self.options.user_timeout = limit.map(tcp::Duration::from);
    }

    /// See [`TcpStream::set_receive_buffer`].
    pub fn set_receive_buffer(&mut self, octets: u32) {
        self.options.receive_buffer = Some(octets);
    }

    /// See [`TcpStream::set_send_buffer`].
    pub fn set_send_buffer(&mut self, octets: u32) {
        self.initial.rare.send_buffer = Some(octets.max(LEAST_BUFFER));
    }

    /// See [`TcpStream::set_notsent_lowat`].
    pub fn set_notsent_lowat(&mut self, octets: Option<u32>) {
        self.initial.rare.notsent_lowat = octets;
    }

    /// See [`TcpStream::set_nodelay`].
    pub fn set_nodelay(&mut self, nodelay: bool) {
        self.initial.nodelay = nodelay;
    }

    /// See [`TcpStream::set_cork`].
    pub fn set_cork(&mut self, cork: bool) {
        self.initial.rare.cork = cork;
    }

    /// See [`TcpStream::set_quickack`].
    pub fn set_quickack(&mut self, quick: bool) {
        self.initial.rare.quickack = Some(quick);
    }

    /// See [`TcpStream::set_keepalive`].
    pub fn set_keepalive(&mut self, keepalive: Option<KeepAlive>) {
        self.initial.rare.keepalive = keepalive.is_some();
        self.initial.rare.times = keepalive.or(self.initial.rare.times);
    }

    /// See [`TcpStream::set_congestion`].
    pub fn set_congestion(&mut self, kind: CongestionControl) {
        self.initial.rare.congestion = Some(kind);
    }

    /// See [`TcpStream::set_linger`].
    pub fn set_linger(&mut self, linger: Option<Duration>) {
        self.initial.linger = linger;
    }

    /// Would send the first octets with the SYN (TCP_FASTOPEN_CONNECT, RFC 7413).
    ///
    /// # Errors
    ///
    /// `Unsupported` unless `false`: there is no fast open here yet.
    pub fn set_fastopen_connect(&mut self, on: bool) -> io::Result<()> {
        super::options::no_fastopen(on)
    }

    /// Listens; up to `backlog` completed connections wait for `accept`.
    ///
    /// # Errors
    ///
    /// `AddrInUse`; `InvalidInput` without a local address; or the engine has stopped.
    pub fn listen(&self, backlog: usize) -> io::Result<TcpListener> {
        let local = self.local.ok_or(io::ErrorKind::InvalidInput)?;
        let local = self.stack.reserve(local)?;
        let options = self.connect_options();
        let ConnectOptions { ttl, tos, mss, user_timeout, receive_buffer, .. } = options;
        let listen_options = ListenOptions { ttl, tos, mss, user_timeout, receive_buffer };
        TcpListener::open(&self.stack, local, backlog, listen_options, self.initial.with(&options))
    }

    /// Connects and waits for it.
    ///
    /// # Errors
    ///
    /// See [`Stack::connect`].
    pub fn connect(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        self.connect_until(remote, None)
    }

    pub(super) fn connect_until(&self, remote: SocketAddr, deadline: Option<Instant>) -> io::Result<TcpStream> {
        if !self.stack.may_wait() {
            return Err(must_not_wait());
        }
        let stream = self.start(remote)?;
        stream.await_connected(deadline)?;
        Ok(stream)
    }

    /// Connects without waiting: the stream, non-blocking, becomes writable when the handshake is complete or has failed;
    /// `take_error` then tells which. Our own end is known at once, on an [embedded](crate::embed) host that shares its
    /// thread after the next poll. After a failure the stream can be [connected again](TcpStream::connect_again).
    ///
    /// # Errors
    ///
    /// When no connection can be tried at all.
    pub fn connect_nonblocking(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.start(remote)?.coming_from(Arc::new(self.clone()));
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// Begins to connect, blocking or not as the stack is.
    pub(super) fn start(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let options = self.connect_options();
        self.start_with(remote, options, &self.initial.with(&options))
    }

    /// What it asks for of the shard.
    fn connect_options(&self) -> ConnectOptions {
        let receive_buffer = self.options.receive_buffer.map(|octets| octets.max(LEAST_BUFFER));
        ConnectOptions { receive_buffer, ..self.options }
    }

    fn start_with(&self, remote: SocketAddr, mut options: ConnectOptions, initial: &Initial) -> io::Result<TcpStream> {
        let Self { stack, local, .. } = self;
        let first = stack.shard_for(*local, remote).index();
        options.local = local.map(|local| stack.source(local, remote));
        let mails = stack.mails();
        // Where the choice of the port is ours, another shard may have one.
        let others = if local.is_none_or(|local| local.port() == 0) { mails.len() } else { 1 };
        let mut stream = start_on(stack, &mails[first], remote, &options, initial)?;
        for next in 1..others {
            if !stream.handle().socket.found_no_port() {
                break;
            }
            stream = start_on(stack, &mails[(first + next) % mails.len()], remote, &options, initial)?;
        }
        Ok(stream)
    }
}

impl Origin for TcpSocket {
    fn start_again(&self, remote: SocketAddr, settings: &Settings) -> io::Result<TcpStream> {
        let initial = settings.initial();
        let stream = self.start_with(remote, initial.override_in(self.connect_options()), &initial)?;
        stream.handle().settings.follow(settings);
        Ok(stream)
    }
}

fn start_on(
    stack: &Stack,
    mail: &Arc<Mail>,
    remote: SocketAddr,
    options: &ConnectOptions,
    initial: &Initial,
) -> io::Result<TcpStream> {
    let (handle, end) = stack.socket_on(mail, remote, initial);
    for change in initial.changes() {
        end.socket.change(change);
    }
    if !mail.send(Command::Connect(Box::new(Birth { end, remote: remote.into(), options: *options }))) {
        return Err(stopped());
    }
    let stream = TcpStream::new(handle);
    // The shard chooses our end in its next turn: known when this returns, as with the kernel, if somebody else runs the
    // shard meanwhile.
    let socket = &stream.handle().socket;
    if mail.may_wait() {
        socket.writing.wait(None, || socket.local.get().is_some() || socket.state() & is::CLOSED != 0);
    }
    Ok(stream)
}
