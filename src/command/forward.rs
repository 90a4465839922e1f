//! Forwarding: a listener on one of the two stacks, and for each connection one on the other stack.
//!
//! ```text
//! forward:2222=10.7.0.1:22    clients of our stack, port 2222  ──►  the kernel connects to 10.7.0.1, port 22
//! reverse:8080=192.0.2.7:80   clients of the kernel, 127.0.0.1 port 8080  ──►  our stack connects to 192.0.2.7, port 80
//! ```
//!
//! What one end does the other end sees: octets, the end of one direction while the other goes on, a reset. Nothing is read
//! that could not be written on: who stalls, stalls the other side by its window. All of it is one thread, on the sockets
//! that every program can use. What the kernel has to open for it is opened elsewhere: see [`opener`](super::opener).
//!
//! Both ends are probed when they are silent, so that who has vanished is gone after some minutes. When all places are
//! taken before that, the connection that is longest idle gives way: see [`places`](super::places).

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::net as kernel;
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use trust::net::{Stack, TcpSocket, tokio as ours};
use trust::services::KEEPALIVE;

use super::addresses::{Families, unspecified};
use super::complaints::Complaints;
use super::destination::Destination;
use super::eyeballs::first_that_answers;
use super::forward_rule::Forward;
use super::opener::Opener;
use super::places::{Place, Places};
use super::{Error, threads};

/// Connections of one forwarding at once, or fewer where fewer files may be open. When there are as many, idle ones give
/// way to new ones, and when none is idle, new ones are reset.
pub(super) const CONNECTIONS: usize = 8_192;

/// Connections that wait in the kernel to be accepted: as many as it allows (net.core.somaxconn). Our own stack's
/// listeners have [`trust::net::BACKLOG`].
const BACKLOG: u32 = i32::MAX as u32;

thread_local! {
    /// Where octets are while they move: one for all connections, since none keeps it over a wait.
    static BLOCK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// After an `accept` that failed for want of descriptors or memory.
const BREATH: Duration = Duration::from_millis(100);

/// What listens on the kernel's side, which may take rights, and nothing else yet.
#[derive(Debug)]
pub(super) struct Bound {
    runtime: Runtime,
    forwards: Vec<(Forward, Option<kernel::TcpListener>)>,
}

impl Bound {
    /// Listens on the kernel's ports of all of `wanted`. Who comes before the start waits.
    pub(super) fn new(wanted: Vec<Forward>) -> Result<Self, Error> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let within = runtime.enter();
        let bind = |forward: Forward| match forward.kernel_address() {
            None => Ok((forward, None)),
            Some(address) => {
                let listener = listen(address).map_err(|error| failed(&forward, &error))?;
                Ok((forward, Some(listener)))
            }
        };
        let forwards = wanted.into_iter().map(bind).collect::<Result<_, Error>>()?;
        drop(within);
        Ok(Self { runtime, forwards })
    }

    /// Begins, with so many places for each, and with a helper at the other end of `socket`.
    pub(super) fn start(self, stack: &Stack, places: usize, socket: OwnedFd) -> Result<Forwarding, Error> {
        let ours = Families::of(stack.addresses());
        let Self { runtime, forwards } = self;
        let within = runtime.enter();
        let opener = Opener::start(socket)?;
        let (mut kernel, mut taken) = (Vec::new(), Vec::new());
        for (number, (forward, listener)) in forwards.into_iter().enumerate() {
            let line = Line::open(&forward, ours, places, number, &opener);
            taken.push(Arc::clone(&line.places));
            match (listener, forward.port()) {
                (Some(listener), _) => {
                    kernel.push(runtime.spawn(from_kernel(listener, stack.clone(), line)).abort_handle());
                }
                (None, Some(port)) => {
                    for any in unspecified(stack) {
                        let listener = stack.bind((any, port)).map_err(|error| failed(&forward, &error))?;
                        runtime.spawn(from_ours(listener.into(), Arc::clone(&line)));
                    }
                }
                (None, None) => unreachable!("what has no port of ours listens on one of the kernel's"),
            }
        }
        drop(within);
        let (stop, stopped) = oneshot::channel();
        let thread = threads::start("forward", move || {
            let _ = runtime.block_on(stopped);
            // With the runtime its tasks go, and with each what it has open.
        })?;
        Ok(Forwarding { stop: Some(stop), thread: Some(thread), kernel, places: taken })
    }
}

fn failed(forward: &Forward, error: &io::Error) -> Error {
    let remedy = match (error.kind(), forward.kernel_address()) {
        (ErrorKind::AddrInUse, Some(address)) => {
            format!("; another program listens on {address}, take another port or address")
        }
        (ErrorKind::AddrNotAvailable, Some(address)) => {
            format!("; the kernel has no address {} here, ip addr lists those it has", address.ip())
        }
        (ErrorKind::PermissionDenied, Some(_)) => {
            "; ports below net.ipv4.ip_unprivileged_port_start are for root".to_owned()
        }
        _ => String::new(),
    };
    Error::Run(format!("--service {forward}: {error}{remedy}"))
}

/// The thread that forwards. Dropped, it resets what is open.
#[derive(Debug)]
pub(super) struct Forwarding {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// The tasks that listen on the kernel's side.
    kernel: Vec<AbortHandle>,
    /// Those of each forwarding.
    places: Vec<Arc<Places>>,
}

impl Forwarding {
    /// Takes no connections from the kernel any more. Those from our stack end with its listeners.
    pub(super) fn close_listeners(&self) {
        self.kernel.iter().for_each(AbortHandle::abort);
        // A matter of one turn of the thread, which waits for nothing but its sockets.
        let start = Instant::now();
        while !self.kernel.iter().all(AbortHandle::is_finished) && start.elapsed() < BREATH {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether no connection is open: each has a place.
    pub(super) fn is_idle(&self) -> bool {
        self.places.iter().all(|places| places.are_free())
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the connections of one forwarding have in common.
#[derive(Debug)]
struct Line {
    name: String,
    to: Arc<Destination>,
    opener: Arc<Opener>,
    /// The opener's word for it.
    number: usize,
    places: Arc<Places>,
    complaints: Arc<Complaints>,
}

impl Line {
    /// With so many places, begun in a runtime: a name that leads nowhere is told now, and not only to those who connect.
    fn open(forward: &Forward, ours: Families, places: usize, number: usize, opener: &Arc<Opener>) -> Arc<Self> {
        let line = Arc::new(Self {
            name: forward.to_string(),
            to: forward.destination(ours),
            opener: Arc::clone(opener),
            number,
            places: Places::new(places),
            complaints: Complaints::new(forward),
        });
        let first = Arc::clone(&line);
        tokio::spawn(async move {
            if let Err(error) = first.addresses().await {
                // It may lead somewhere later, when a network is there or an entry is made.
                tracing::warn!("{}: {error}; until that changes, whoever connects is reset", first.name);
            }
        });
        line
    }

    /// A connection of the kernel's. Where descriptors have run out, an idle connection gives way to it.
    async fn connect(&self) -> io::Result<kernel::TcpStream> {
        match self.opener.connect(self.number).await {
            Err(error) if out_of_descriptors(&error) && self.places.give_way(Instant::now()) => {
                tokio::time::sleep(BREATH).await;
                self.opener.connect(self.number).await
            }
            result => result,
        }
    }

    async fn addresses(&self) -> io::Result<Arc<[SocketAddr]>> {
        match self.to.known() {
            Some(known) => known,
            None => self.opener.look_up(self.number).await.map(Arc::from),
        }
    }

    /// A connection of our stack's.
    async fn connect_by(&self, stack: &Stack) -> io::Result<ours::TcpStream> {
        let addresses = self.addresses().await?;
        let server = first_that_answers(&addresses, |address| {
            let mut socket = TcpSocket::new(stack);
            // It may be given up when the server has heard of it, and we have not heard from the server.
            socket.set_linger(Some(Duration::ZERO));
            ours::TcpStream::open(socket, address)
        });
        let server = server.await?;
        // From here on `Reset` sees to it.
        server.get_ref().set_linger(None)?;
        Ok(server)
    }

    /// A place for a new connection. That somebody had to give way for it, or that there is none, is said once in a while.
    async fn find_place(&self) -> Option<(Place, oneshot::Receiver<()>)> {
        if self.places.are_taken() {
            // Who was told to go the last time goes first, so that no more descriptors are open than there are places.
            tokio::task::yield_now().await;
        }
        let now = Instant::now();
        let place = self.places.take(now);
        if let Some(news) = self.places.news(now) {
            let more = if self.places.most() < CONNECTIONS { "; ulimit -n allows no more places" } else { "" };
            tracing::warn!("{}: {news}{more}", self.name);
        }
        place
    }

    /// A connection that could not be opened is worth a word; how one ends is the business of its ends.
    fn report(&self, result: io::Result<()>) {
        if let Err(error) = result {
            self.complaints.say(&error);
        }
    }
}

async fn from_ours(listener: ours::TcpListener, line: Arc<Line>) {
    // Fails only when the engine has stopped.
    while let Ok((client, _)) = listener.accept().await {
        let client = Reset(Some(client));
        let Some((place, told)) = line.find_place().await else { continue };
        let line = Arc::clone(&line);
        tokio::spawn(async move {
            line.report(serve(client, line.connect(), place, told).await);
        });
    }
}

async fn from_kernel(listener: kernel::TcpListener, stack: Stack, line: Arc<Line>) {
    loop {
        let client = match listener.accept().await {
            Ok((client, _)) => Reset(Some(client)),
            Err(error) => {
                line.complaints.say(&error);
                if out_of_descriptors(&error) {
                    line.places.give_way(Instant::now());
                }
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let Some((place, told)) = line.find_place().await else { continue };
        let (line, stack) = (Arc::clone(&line), stack.clone());
        tokio::spawn(async move {
            line.report(serve(client, line.connect_by(&stack), place, told).await);
        });
    }
}

/// A listener of the kernel's. Who comes while we are busy waits in its queue.
fn listen(address: SocketAddr) -> io::Result<kernel::TcpListener> {
    let socket = if address.is_ipv4() { kernel::TcpSocket::new_v4() } else { kernel::TcpSocket::new_v6() }?;
    // Connections of an engine before us may still be in TIME-WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Of the process or of the machine: idle connections have some to give.
fn out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Connects to the server, and joins it to the client until both directions have ended, or until another is `told` to
/// have the place. `Err`: there is no connection.
async fn serve<C: End, S: End>(
    mut client: Reset<C>,
    connect: impl Future<Output = io::Result<S>>,
    place: Place,
    mut told: oneshot::Receiver<()>,
) -> io::Result<()> {
    client.get().prepare();
    let server = tokio::select! {
        server = connect => server?,
        // It did not wait.
        () = client.get().broken() => return Ok(()),
        _ = &mut told => return Ok(()),
    };
    server.prepare();
    let mut server = Reset(Some(server));
    let ended = {
        let (client, server) = (client.get(), server.get());
        let both = async { tokio::try_join!(carry(client, server, &place), carry(server, client, &place)) };
        tokio::select! {
            ended = both => ended.is_ok(),
            () = client.broken() => false,
            () = server.broken() => false,
            _ = &mut told => false,
        }
    };
    if ended {
        client.close();
        server.close();
    }
    Ok(())
}

/// Octets from one end to the other, until the first has no more.
async fn carry(from: &impl End, to: &impl End, place: &Place) -> io::Result<()> {
    loop {
        to.writable().await?;
        let Some(mut rest) = from.pass_on(to, place).await? else { return to.shut_write() };
        // What the other end had no room for is all that is kept.
        while !rest.is_empty() {
            let _held = place.hold(rest.len());
            to.writable().await?;
            if let Some(len) = unless_blocked(to.try_write(&rest))? {
                place.moved(Instant::now());
                rest.drain(..len);
            }
        }
    }
}

fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        result => result.map(Some),
    }
}

/// A connection that is reset when it is dropped before it was told to close: also when its task is, even one that the end
/// of the engine finds before it has run. So it is one from where it is accepted.
struct Reset<E: End>(Option<E>);

impl<E: End> Reset<E> {
    fn get(&self) -> &E {
        self.0.as_ref().expect("there until it is closed")
    }

    fn close(&mut self) {
        self.0 = None;
    }
}

impl<E: End> Drop for Reset<E> {
    fn drop(&mut self) {
        if let Some(end) = &self.0 {
            end.reset_on_drop();
        }
    }
}

/// What the streams of both stacks can do. Futures of one stream may wait at once, in one task.
trait End {
    async fn writable(&self) -> io::Result<()>;
    /// Waits for octets and moves to the other end what finds room there. Returned is what was read beyond that; `None`: the
    /// stream has ended.
    async fn pass_on(&self, to: &impl End, place: &Place) -> io::Result<Option<Vec<u8>>>;
    fn try_write(&self, block: &[u8]) -> io::Result<usize>;
    /// A FIN behind what was written.
    fn shut_write(&self) -> io::Result<()>;
    fn reset_on_drop(&self);
    /// Has the peer probed when it is silent, and what is written sent at once: where one end sends in pieces, so do we,
    /// and none of them waits here for an ACK that the other end delays (RFC 9293, 3.7.4).
    fn prepare(&self);
    /// Comes back when the connection is reset or timed out, also while nobody reads or writes.
    async fn broken(&self);
}

/// The peer was faster: how the connection ended is told elsewhere.
fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == ErrorKind::NotConnected { Ok(()) } else { Err(error) })
}

impl End for kernel::TcpStream {
    async fn writable(&self) -> io::Result<()> {
        Self::writable(self).await
    }

    async fn pass_on(&self, to: &impl End, place: &Place) -> io::Result<Option<Vec<u8>>> {
        self.readable().await?;
        BLOCK.with_borrow_mut(|block| {
            block.resize(place.piece(), 0);
            let Some(len) = unless_blocked(self.try_read(block))? else { return Ok(Some(Vec::new())) };
            if len == 0 {
                return Ok(None);
            }
            place.moved(Instant::now());
            let put = unless_blocked(to.try_write(&block[..len]))?.unwrap_or(0);
            Ok(Some(block[put..len].to_vec()))
        })
    }

    fn try_write(&self, block: &[u8]) -> io::Result<usize> {
        Self::try_write(self, block)
    }

    fn shut_write(&self) -> io::Result<()> {
        unless_gone(rustix::net::shutdown(self, rustix::net::Shutdown::Write).map_err(io::Error::from))
    }

    fn reset_on_drop(&self) {
        let _ = self.set_zero_linger();
    }

    fn prepare(&self) {
        // A socket that has broken meanwhile takes no options, and needs none.
        let _ = self.set_nodelay(true);
        let _ = sockopt::set_tcp_keepidle(self, KEEPALIVE.idle.into())
            .and_then(|()| sockopt::set_tcp_keepintvl(self, KEEPALIVE.interval.into()))
            .and_then(|()| sockopt::set_tcp_keepcnt(self, KEEPALIVE.count.into()))
            .and_then(|()| sockopt::set_socket_keepalive(self, true));
    }

    async fn broken(&self) {
        let error = self.ready(tokio::io::Interest::ERROR).await.and_then(|_| self.take_error());
        if !matches!(error, Ok(Some(_))) {
            // Whoever was about to read or write has heard of it.
            std::future::pending::<()>().await;
        }
    }
}

impl End for ours::TcpStream {
    async fn writable(&self) -> io::Result<()> {
        Self::writable(self).await
    }

    /// From where the octets came in: what finds no room stays there.
    async fn pass_on(&self, to: &impl End, place: &Place) -> io::Result<Option<Vec<u8>>> {
        let mut written = None;
        let show = |octets: &[u8]| {
            let result = to.try_write(octets);
            let taken = *result.as_ref().unwrap_or(&0);
            written = Some(result);
            taken
        };
        self.read_with(show).await?;
        let Some(result) = written else { return Ok(None) };
        if unless_blocked(result)?.is_some() {
            place.moved(Instant::now());
        }
        Ok(Some(Vec::new()))
    }

    fn try_write(&self, block: &[u8]) -> io::Result<usize> {
        Self::try_write(self, block)
    }

    fn shut_write(&self) -> io::Result<()> {
        unless_gone(self.get_ref().shutdown(Shutdown::Write))
    }

    fn reset_on_drop(&self) {
        let _ = self.get_ref().set_linger(Some(Duration::ZERO));
    }

    fn prepare(&self) {
        let _ = self.get_ref().set_nodelay(true);
        self.get_ref().set_keepalive(Some(KEEPALIVE));
    }

    async fn broken(&self) {
        self.closed().await;
        if !matches!(self.get_ref().take_error(), Ok(Some(_))) {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;

    /// A client and a server joined by us over sockets of the kernel, in a test's own namespace; what `act` gets are the far
    /// ends of both, our server's end and the places.
    fn joined(
        act: impl AsyncFnOnce(kernel::TcpStream, kernel::TcpStream, std::os::fd::OwnedFd, Arc<Places>),
    ) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = kernel::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            let pair = async || {
                let (near, far) = tokio::join!(kernel::TcpStream::connect(address), listener.accept());
                io::Result::Ok((near?, far?.0))
            };
            let ((client, near_client), (near_server, server)) = (pair().await?, pair().await?);
            let places = Places::new(1);
            let (place, told) = places.take(Instant::now()).unwrap();
            let ours = rustix::io::dup(&near_server).unwrap();
            let task = tokio::spawn(serve(Reset(Some(near_client)), async { Ok(near_server) }, place, told));
            let acted = act(client, server, ours, Arc::clone(&places));
            tokio::time::timeout(Duration::from_secs(60), acted).await.unwrap();
            tokio::time::timeout(Duration::from_secs(60), task).await.unwrap().unwrap()
        })
    }

    async fn read(stream: &kernel::TcpStream) -> io::Result<Vec<u8>> {
        let mut block = vec![0; 100];
        loop {
            stream.readable().await?;
            match stream.try_read(&mut block) {
                Ok(len) => return Ok(block[..len].to_vec()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    #[test]
    fn an_idle_connection_that_gives_way_is_reset_on_both_sides() {
        let result = joined(async |client, server, ours, places| {
            drop(ours);
            client.try_write(b"up").unwrap();
            assert_eq!(read(&server).await.unwrap(), b"up");
            assert!(places.take(Instant::now()).is_none(), "it has just moved something");
            let later = Instant::now() + super::super::places::PATIENCE;
            let new = places.take(later);
            assert!(new.is_some());
            for end in [client, server] {
                assert_eq!(read(&end).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            }
        });
        result.unwrap();
    }

    /// What is accepted and has not been served yet when the engine ends.
    #[test]
    fn a_connection_whose_task_has_not_run_is_reset() {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let client = listener.accept().unwrap().0;
        client.set_nonblocking(true).unwrap();
        runtime.block_on(async {
            let client = Reset(Some(kernel::TcpStream::from_std(client).unwrap()));
            let (place, told) = Places::new(1).take(Instant::now()).unwrap();
            let server = std::future::pending::<io::Result<kernel::TcpStream>>();
            drop(tokio::spawn(serve(client, server, place, told)));
        });
        drop(runtime);
        assert_eq!(std::io::Read::read(&mut peer, &mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn silent_ends_are_probed_and_pieces_do_not_wait() {
        let result = joined(async |client, server, ours, _| {
            client.try_write(b"up").unwrap();
            assert_eq!(read(&server).await.unwrap(), b"up");
            assert!(sockopt::socket_keepalive(&ours).unwrap());
            assert_eq!(sockopt::tcp_keepidle(&ours).unwrap(), Duration::from(KEEPALIVE.idle));
            assert!(sockopt::tcp_nodelay(&ours).unwrap());
            drop((client, server));
        });
        result.unwrap();
    }
}
