//! What `forward` and `reverse` need of the kernel, done by a [helper](super::helper): names are looked up, and
//! connections opened and handed over.
//!
//! The helper knows the forwardings from the command line, and is asked for one by its place there: no other host and
//! no other port is reached through it, whoever asks.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::sockopt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::Error;
use super::addresses::Families;
use super::destination::Destination;
use super::eyeballs::first_that_answers;
use super::fencing::Fencing;
use super::forward_rule::Forward;
use super::helper;

/// Addresses of a host that are tried.
const ADDRESSES: usize = 16;

/// Characters of what an error says that fit into a message, however they are written there.
const WORDS: usize = 512;

/// What the engine asks for.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// A connection to where the forwarding at this place leads.
    Connect { id: u64, forward: usize },
    /// Its addresses.
    LookUp { id: u64, forward: usize },
    /// Nobody waits for it any more.
    Cancel { id: u64 },
}

/// What the helper says to it. With a connection comes its descriptor.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    id: u64,
    result: Result<Found, Refusal>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Found {
    Connection,
    Addresses(Vec<SocketAddr>),
}

/// What was found, and the connection if it is one.
type Opened = io::Result<(Found, Option<OwnedFd>)>;

/// An `io::Error`, as it crosses.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    code: Option<i32>,
    text: String,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { code: error.raw_os_error(), text: error.to_string().chars().take(WORDS).collect() }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        refusal.code.map_or_else(|| Self::other(refusal.text), Self::from_raw_os_error)
    }
}

// ---- the helper's end -----------------------------------------------------------------------------------------------

/// Forks a helper that opens what these forwardings need, and nothing else. Our stack has addresses of the families `ours`.
pub(super) fn fork(fencing: &Fencing, forwards: &[Forward], ours: Families) -> Result<OwnedFd, Error> {
    let ports = forwards.iter().filter(|forward| forward.port().is_some()).map(Forward::to_port).collect();
    helper::fork(fencing, &helper::Role::Opener(ports), |socket| {
        let served = runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
            let served = runtime.block_on(serve(socket, forwards, ours));
            // A name that is being looked up holds nobody up.
            runtime.shutdown_background();
            served
        });
        if let Err(error) = served {
            helper::complain(&error);
        }
    })
}

/// Where a forwarding leads.
#[derive(Clone)]
struct Goal {
    to: Arc<Destination>,
    /// It is the kernel that connects; where it does not, our stack does, and needs addresses.
    by_kernel: bool,
}

impl Goal {
    /// In a runtime, which looks up the name when it is asked for.
    fn new(forward: &Forward, ours: Families) -> Self {
        let to = forward.destination(ours);
        tokio::spawn(Arc::clone(&to).look_up());
        Self { to, by_kernel: forward.port().is_some() }
    }

    async fn connect(&self) -> Opened {
        if !self.by_kernel {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let stream = first_that_answers(&self.to.addresses().await?, open).await?;
        Ok((Found::Connection, Some(stream.into_std()?.into())))
    }

    async fn look_up(&self) -> Opened {
        let all = self.to.addresses().await?;
        Ok((Found::Addresses(all.iter().copied().take(ADDRESSES).collect()), None))
    }
}

/// Closed before anybody has it, here, on its way, or by an engine that has ended meanwhile, it is reset: an end of the
/// stream is what a client has sent.
async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_zero_linger()?;
    socket.connect(address).await
}

async fn serve(socket: OwnedFd, forwards: &[Forward], ours: Families) -> io::Result<()> {
    let goals: Vec<_> = forwards.iter().map(|forward| Goal::new(forward, ours)).collect();
    let socket = Arc::new(asynchronous(socket)?);
    let open: Arc<Mutex<HashMap<u64, AbortHandle>>> = Arc::default();
    while let Some((request, _)) = receive::<Request>(&socket).await? {
        let (id, forward, connect) = match request {
            Request::Connect { id, forward } => (id, forward, true),
            Request::LookUp { id, forward } => (id, forward, false),
            Request::Cancel { id } => {
                if let Some(task) = lock(&open).remove(&id) {
                    task.abort();
                }
                continue;
            }
        };
        let goal = goals.get(forward).ok_or(ErrorKind::InvalidData)?.clone();
        let (socket, opened) = (Arc::clone(&socket), Arc::clone(&open));
        let task = tokio::spawn(async move {
            let found = if connect { goal.connect().await } else { goal.look_up().await };
            lock(&opened).remove(&id);
            if let Err(error) = answer(&socket, id, found).await {
                // Too many descriptors are on their way (unix(7), ETOOMANYREFS). When it is that the engine is gone, that
                // is heard elsewhere.
                let _ = answer(&socket, id, Err(error)).await;
            }
        });
        // It begins when we wait next.
        lock(&open).insert(id, task.abort_handle());
    }
    Ok(())
}

async fn answer(socket: &UnixStream, id: u64, found: Opened) -> io::Result<()> {
    let (result, with) = match found {
        Ok((found, with)) => (Ok(found), with),
        Err(error) => (Err(Refusal::from(error)), None),
    };
    let message = Answer { id, result };
    let send = || helper::send(socket.as_fd(), &message, with.as_ref().map(AsFd::as_fd));
    socket.async_io(Interest::WRITABLE, send).await
}

// ---- the engine's end -----------------------------------------------------------------------------------------------

/// Has the helper open things.
#[derive(Debug)]
pub(super) struct Opener {
    socket: UnixStream,
    next: AtomicU64,
    /// `None`: the helper is gone.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Opened>>>>,
}

impl Opener {
    /// In a runtime, which hears the answers.
    pub(super) fn start(socket: OwnedFd) -> io::Result<Arc<Self>> {
        let waiting = Mutex::new(Some(HashMap::new()));
        let opener = Arc::new(Self { socket: asynchronous(socket)?, next: AtomicU64::new(0), waiting });
        tokio::spawn(Arc::clone(&opener).hear());
        Ok(opener)
    }

    async fn hear(self: Arc<Self>) {
        while let Ok(Some((Answer { id, result }, with))) = receive::<Answer>(&self.socket).await {
            let waiting = lock(&self.waiting).as_mut().and_then(|waiting| waiting.remove(&id));
            if let Some(waiting) = waiting {
                let _ = waiting.send(result.map(|found| (found, with)).map_err(io::Error::from));
            }
        }
        tracing::error!(
            "{}: no name is looked up and no connection of the kernel's is opened any more; open connections, and reverse \
             to addresses, go on",
            helper::gone()
        );
        // With its sender gone, each hears that it waits in vain.
        drop(lock(&self.waiting).take());
    }

    /// A connection of the kernel's for the forwarding at this place.
    pub(super) async fn connect(&self, forward: usize) -> io::Result<TcpStream> {
        match self.ask(|id| Request::Connect { id, forward }).await? {
            (Found::Connection, Some(socket)) => {
                let stream = TcpStream::from_std(std::net::TcpStream::from(socket))?;
                // Now it has somebody who says how it ends.
                sockopt::set_socket_linger(&stream, None)?;
                Ok(stream)
            }
            // It came, and there was no number left for it.
            (Found::Connection, None) => Err(io::Error::from_raw_os_error(libc::EMFILE)),
            (Found::Addresses(_), _) => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// The addresses of the host to which the forwarding at this place leads, as far as they are of use.
    pub(super) async fn look_up(&self, forward: usize) -> io::Result<Vec<SocketAddr>> {
        match self.ask(|id| Request::LookUp { id, forward }).await? {
            (Found::Addresses(addresses), _) => Ok(addresses),
            (Found::Connection, _) => Err(ErrorKind::InvalidData.into()),
        }
    }

    async fn ask(&self, request: impl FnOnce(u64) -> Request) -> Opened {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (found, waiting) = oneshot::channel();
        lock(&self.waiting).as_mut().ok_or_else(helper::gone)?.insert(id, found);
        let _ticket = Ticket { opener: self, id };
        let message = request(id);
        self.socket.async_io(Interest::WRITABLE, || helper::send(self.socket.as_fd(), &message, None)).await?;
        waiting.await.unwrap_or_else(|_| Err(helper::gone()))
    }
}

/// Dropped before there was an answer, it takes the question back.
struct Ticket<'a> {
    opener: &'a Opener,
    id: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let waits = lock(&self.opener.waiting).as_mut().is_some_and(|waiting| waiting.remove(&self.id).is_some());
        if waits {
            // When there is no room for it the helper goes on, and what it finds is closed when it comes.
            let message = Request::Cancel { id: self.id };
            let _ = helper::send(self.opener.socket.as_fd(), &message, None);
        }
    }
}

// ---- both -----------------------------------------------------------------------------------------------------------

/// A stream of messages, as far as waiting goes.
fn asynchronous(socket: OwnedFd) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

async fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    socket.async_io(Interest::READABLE, || helper::receive(socket.as_fd())).await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;
    use std::net::{Ipv4Addr, TcpListener};

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    /// Both ends in one process, over the same socket; `act` gets the engine's.
    fn joined<T>(forwards: &[Forward], act: impl AsyncFnOnce(Arc<Opener>) -> T) -> T {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
            let helper = serve(theirs, forwards, Families::BOTH);
            let engine = async {
                let opener = Opener::start(ours).unwrap();
                act(opener).await
            };
            tokio::select! {
                result = engine => result,
                ended = helper => panic!("the helper has ended: {ended:?}"),
            }
        })
    }

    #[test]
    fn connections_are_handed_over_and_refusals_keep_their_numbers() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let forwards =
            [format!("forward:1=127.0.0.1:{port}").parse().unwrap(), "reverse:2=127.0.0.1:80".parse().unwrap()];
        let (refused, denied, addresses) = joined(&forwards, async |opener| {
            let stream = opener.connect(0).await.unwrap();
            let (peer, from) = listener.accept().unwrap();
            assert_eq!(stream.local_addr().unwrap(), from);
            drop((peer, listener));
            let (refused, denied) = (opener.connect(0).await.unwrap_err(), opener.connect(1).await.unwrap_err());
            (refused, denied, opener.look_up(1).await.unwrap())
        });
        assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED));
        // To there it is our stack that connects.
        assert_eq!(denied.to_string(), io::Error::from(ErrorKind::PermissionDenied).to_string());
        assert_eq!(addresses, ["127.0.0.1:80".parse().unwrap()]);
    }

    /// What the engine has not taken when it ends is no end of a stream.
    #[test]
    fn connections_that_nobody_takes_are_reset() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let forwards = [format!("forward:1=127.0.0.1:{}", listener.local_addr().unwrap().port()).parse().unwrap()];
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut peer = runtime.block_on(async {
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
            let engine = async {
                helper::send(ours.as_fd(), &Request::Connect { id: 1, forward: 0 }, None).unwrap();
                let ours = asynchronous(ours).unwrap();
                ours.readable().await.unwrap();
                listener.accept().unwrap().0
            };
            tokio::select! {
                peer = engine => peer,
                ended = serve(theirs, &forwards, Families::BOTH) => panic!("the helper has ended: {ended:?}"),
            }
        });
        drop(runtime);
        assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    /// A question that was taken back leaves nothing behind, and the next one gets its own answer.
    #[test]
    fn who_does_not_wait_any_more_takes_his_question_back() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let forwards =
            [format!("forward:1=127.0.0.1:{port}").parse().unwrap(), "reverse:2=127.0.0.1:80".parse().unwrap()];
        joined(&forwards, async |opener| {
            {
                let mut waiting = Box::pin(opener.connect(0));
                let polled = std::future::poll_fn(|context| std::task::Poll::Ready(waiting.as_mut().poll(context)));
                assert!(polled.await.is_pending());
                assert_eq!(lock(&opener.waiting).as_ref().unwrap().len(), 1);
            }
            assert_eq!(lock(&opener.waiting).as_ref().unwrap().len(), 0);
            assert_eq!(opener.look_up(1).await.unwrap().len(), 1);
        });
    }

    #[test]
    fn only_what_the_command_line_names_is_opened() {
        let forwards = ["reverse:2=127.0.0.1:80".parse().unwrap()];
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
            helper::send(ours.as_fd(), &Request::Connect { id: 0, forward: 1 }, None).unwrap();
            assert_eq!(serve(theirs, &forwards, Families::BOTH).await.unwrap_err().kind(), ErrorKind::InvalidData);
        });
    }
}
