//! [`Engine`]: a running engine, and how it comes to its end.

use std::io;
use std::net::ToSocketAddrs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::control::{Control, Farewell, Left, Peer};
use super::error::EngineError;
use super::plan::Plan;
use super::stage::StageStats;
use crate::buffer::wake::{Interest, Unparker};
use crate::device::Device;
use crate::flow::{Endpoint, ShardId};
use crate::net::{Stack, TcpListener, TcpStream};
use crate::shard::{Counters, DropReason, Message, PublishedCounters};
use crate::steering::OwnerTable;

/// A running engine.
///
/// Dropping it stops it at once, as [`stop`](Self::stop) does: connections are reset, and with them goes what streams
/// that were closed before still had to send. To have that arrive, end with [`shutdown`](Self::shutdown), or close
/// streams with [linger](TcpStream::set_linger), which waits for each of them.
///
/// ```
/// use trust::device::memory::{MemoryOptions, pair};
/// use trust::engine::{Engine, Pin};
///
/// # fn main() -> std::io::Result<()> {
/// let (device, _other_end) = pair(&MemoryOptions::default())?;
/// let mut engine = Engine::builder().device(device, 1).address([10, 0, 0, 2].into()).pin(Pin::None).start()?;
/// // Its stack goes to other threads, which open sockets.
/// let stack = engine.stack();
/// std::thread::spawn(move || stack.bind("10.0.0.2:80")).join().expect("no panic")?;
/// assert_eq!(engine.counters().dropped_total(), 0);
/// assert!(!engine.has_failed());
/// engine.stop()?;
/// # Ok(())
/// # }
/// ```
pub struct Engine {
    pub(super) plan: Plan,
    pub(super) steering: &'static str,
    pub(super) owners: Arc<OwnerTable>,
    pub(super) threads: Vec<JoinHandle<Result<(), EngineError>>>,
    pub(super) stop: Arc<AtomicBool>,
    /// How far workers are whose services have heard of the stop.
    pub(super) farewell: Arc<Farewell>,
    pub(super) unparkers: Vec<Unparker<mio::Waker>>,
    pub(super) peers: Vec<Peer>,
    pub(super) stack: Stack,
    pub(super) counters: Vec<Arc<PublishedCounters>>,
    pub(super) stages: Vec<Arc<StageStats>>,
    // Queues, and with them the steering program, live as long as the engine. Behind a lock that nobody takes, so that
    // an engine can be shared by threads.
    pub(super) _device: Mutex<Box<dyn Device>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Plan { kind, workers, queues, .. } = &self.plan;
        let mut engine = f.debug_struct("Engine");
        engine.field("addresses", &self.stack.addresses()).field("plan", kind);
        engine.field("workers", workers).field("queues", queues).field("steering", &self.steering);
        engine.field("running", &(!self.threads.is_empty() && !self.has_failed())).finish_non_exhaustive()
    }
}

/// A way into a running engine from any thread: messages to services, connections to be opened.
#[derive(Clone)]
pub struct Handle {
    peers: Vec<Peer>,
    counters: Vec<Arc<PublishedCounters>>,
    stages: Vec<Arc<StageStats>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("shards", &self.peers.len()).finish()
    }
}

impl Handle {
    /// Sends a message to the service with that index (its place in the list given to [`Engine::start`]) on a shard.
    ///
    /// # Errors
    ///
    /// `false`: the shard is behind with its messages or gone; the message is dropped.
    #[must_use]
    pub fn send(&self, shard: ShardId, service: u16, message: Message) -> bool {
        self.control(shard, Control::Message { service, from: shard, message })
    }

    /// Asks a shard to open a connection for a service, which hears `accepted` or `closed`. `false`: as
    /// [`send`](Self::send).
    #[must_use]
    pub fn connect(&self, shard: ShardId, service: u16, remote: Endpoint) -> bool {
        self.control(shard, Control::Connect { service, remote })
    }

    /// As [`Engine::shard_counters`].
    #[must_use]
    pub fn shard_counters(&self) -> Vec<Counters> {
        published(&self.counters)
    }

    /// As [`Engine::counters`].
    #[must_use]
    pub fn counters(&self) -> Counters {
        total(&self.counters, &self.stages)
    }

    /// Of each reader, how many packet buffers it has, and how many of them are at home.
    pub(super) fn packet_pools(&self) -> Vec<[u64; 2]> {
        let read =
            |stage: &Arc<StageStats>| [&stage.buffers, &stage.buffers_free].map(|cell| cell.load(Ordering::Relaxed));
        self.stages.iter().map(read).collect()
    }

    pub(super) fn peers(&self) -> &[Peer] {
        &self.peers
    }

    pub(super) fn control(&self, shard: ShardId, control: Control) -> bool {
        self.peers.get(shard.index()).is_some_and(|peer| peer.send(control).is_ok())
    }
}

fn published(counters: &[Arc<PublishedCounters>]) -> Vec<Counters> {
    counters.iter().map(|counters| counters.read()).collect()
}

fn total(counters: &[Arc<PublishedCounters>], stages: &[Arc<StageStats>]) -> Counters {
    let mut total = Counters::default();
    for shard in published(counters) {
        total.add(&shard);
    }
    for stage in stages {
        total.forwarded += stage.forwarded.load(Ordering::Relaxed);
        total.drops[DropReason::DeviceRefused.index()] += stage.refused.load(Ordering::Relaxed);
        for (reason, dropped) in DropReason::OF_FRAGMENTS.into_iter().zip(&stage.fragments) {
            total.drops[reason.index()] += dropped.load(Ordering::Relaxed);
        }
    }
    total
}

/// How long a drain or a shutdown waits for the answer of a shard.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A stop waits as long for the last words of the shards as they get on with them, and in any case no longer than this
/// ...
const FAREWELL: Duration = Duration::from_secs(5);

/// ... and without anything moving so long: on a busy machine a thread may have to wait for its turn.
const SILENCE: Duration = Duration::from_secs(1);

/// How often a drain or a shutdown looks what is left.
const ASK_AGAIN: Duration = Duration::from_millis(5);

impl Engine {
    /// The plan it runs.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How packets are steered: `local`, `hash` or `learn`, or `one queue`.
    #[must_use]
    pub fn steering(&self) -> &'static str {
        self.steering
    }

    /// How many buckets of the owner table are claimed now, by flows or by SYNs of which nothing came yet; `None`: all are
    /// dealt out for good. Looks at the whole table.
    #[must_use]
    pub fn claimed_buckets(&self) -> Option<usize> {
        self.owners.is_by_birth().then(|| self.owners.claimed_buckets())
    }

    /// What sockets are opened on, for as many threads as like.
    #[must_use]
    pub fn stack(&self) -> Stack {
        self.stack.clone()
    }

    /// Listens; see [`Stack::bind`].
    ///
    /// # Errors
    ///
    /// As [`Stack::bind`].
    pub fn bind(&self, address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        self.stack.bind(address)
    }

    /// Connects; see [`Stack::connect`].
    ///
    /// # Errors
    ///
    /// As [`Stack::connect`].
    pub fn connect(&self, address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        self.stack.connect(address)
    }

    /// A handle for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { peers: self.peers.clone(), counters: self.counters.clone(), stages: self.stages.clone() }
    }

    /// Last published counters of each shard.
    #[must_use]
    pub fn shard_counters(&self) -> Vec<Counters> {
        published(&self.counters)
    }

    /// Counters of all shards and stages together.
    #[must_use]
    pub fn counters(&self) -> Counters {
        total(&self.counters, &self.stages)
    }

    /// Whether a thread has ended by itself: then [`stop`](Self::stop) tells why.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Takes no new connections any more, and waits until those that are open have ended, or `timeout` is over. `true`:
    /// none is open, and nothing is owed; `false`: some are, or the engine [has failed](Self::has_failed). The engine
    /// goes on either way: call this again to go on waiting (it may be with no timeout, just to know), and then
    /// [`stop`](Self::stop), which resets what is left, or [`shutdown`](Self::shutdown), which waits for what was
    /// closed.
    ///
    /// Listeners are closed at the beginning, those of services for good: SYNs are answered with resets, `accept` hands
    /// out what is ready and then says `ConnectionAborted`. Services are asked to come to an end
    /// ([`Service::draining`](crate::shard::Service::draining)): HTTP closes connections behind their present answer.
    /// Open is a connection that its application or service has not closed, whatever its peer has done, and one that is
    /// being opened.
    ///
    /// ```
    /// # use std::io::{Read, Write};
    /// # use std::net::{IpAddr, Ipv4Addr, Shutdown};
    /// # use std::time::Duration;
    /// # use trust::device::memory::{MemoryOptions, pair};
    /// # use trust::engine::{Engine, Pin};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (a, b) = pair(&MemoryOptions::default())?;
    /// # let start = |device, last| {
    /// #     let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    /// #     Engine::builder().device(device, 1).address(address).pin(Pin::None).start()
    /// # };
    /// # let (mut engine, other) = (start(a, 2)?, start(b, 1)?);
    /// let listener = engine.bind("10.0.0.2:80")?;
    /// let mut client = other.connect("10.0.0.2:80")?;
    /// let (mut stream, _) = listener.accept()?;
    /// assert!(!engine.drain(Duration::ZERO), "the stream is open");
    /// assert!(other.connect("10.0.0.2:80").is_err(), "there is no listener any more");
    ///
    /// stream.write_all(b"good bye")?;
    /// stream.shutdown(Shutdown::Write)?;
    /// let mut text = String::new();
    /// client.read_to_string(&mut text)?;
    /// drop((stream, client));
    /// assert!(engine.drain(Duration::from_secs(30)));
    /// engine.stop()?;
    /// # assert_eq!(text, "good bye");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "what is still open is reset by a stop"]
    pub fn drain(&self, timeout: Duration) -> bool {
        self.settles(timeout, |left| !left.owes && !left.open)
    }

    /// Stops when everything that applications and services have sent and closed has been acknowledged, or `timeout` is
    /// over. Listeners are closed at the beginning: SYNs are answered with resets, `accept` hands out what is ready and
    /// then says `ConnectionAborted`. `true`: nothing was owed any more; `false`: it took too long, and the rest is
    /// lost.
    ///
    /// Only connections that were closed are waited for (a stream: when its last handle was dropped); those that are
    /// still open, and what is written to them meanwhile, are reset in the end as by [`stop`](Self::stop). To let them
    /// end by themselves, [`drain`](Self::drain) before.
    ///
    /// ```
    /// # use std::io::{Read, Write};
    /// # use std::net::{IpAddr, Ipv4Addr};
    /// # use trust::device::memory::{MemoryOptions, pair};
    /// # use trust::engine::{Engine, Pin};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (a, b) = pair(&MemoryOptions::default())?;
    /// # let start = |device, last| {
    /// #     let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    /// #     Engine::builder().device(device, 1).address(address).pin(Pin::None).start()
    /// # };
    /// # let (engine, other) = (start(a, 2)?, start(b, 1)?);
    /// # let listener = other.bind("10.0.0.1:80")?;
    /// let mut stream = engine.connect("10.0.0.1:80")?;
    /// stream.write_all(b"the last word")?;
    /// drop(stream);
    /// assert!(engine.shutdown(std::time::Duration::from_secs(30))?);
    /// # let mut text = String::new();
    /// # listener.accept()?.0.read_to_string(&mut text)?;
    /// # assert_eq!(text, "the last word");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub fn shutdown(mut self, timeout: Duration) -> Result<bool, EngineError> {
        let settled = self.settles(timeout, |left| !left.owes);
        self.stop().map(|()| settled)
    }

    /// Stops all threads and waits for them: what is open is reset, and what is owed to peers is lost; see
    /// [`shutdown`](Self::shutdown). Services hear of it before (`Service::stopping`).
    ///
    /// # Errors
    ///
    /// The first failure of a thread, if one failed.
    pub fn stop(&mut self) -> Result<(), EngineError> {
        if !self.threads.is_empty() && !self.has_failed() {
            self.tell_services();
        }
        self.stop.store(true, Ordering::SeqCst);
        for unparker in &self.unparkers {
            unparker.notify(Interest::ALL);
        }
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            let ended = thread.join().unwrap_or_else(|_| {
                Err(EngineError::Failed { thread: "?".to_owned(), why: "panicked twice".to_owned() })
            });
            if result.is_ok() {
                result = ended;
            }
        }
        result
    }
}

impl Engine {
    /// Has the shards close their listeners, and asks what is left until it is as wanted, or `timeout` is over. Whether
    /// it is.
    fn settles(&self, timeout: Duration, wanted: impl Fn(Left) -> bool) -> bool {
        let start = Instant::now();
        loop {
            if wanted(self.left()) {
                return true;
            }
            let more = timeout.saturating_sub(start.elapsed());
            if more.is_zero() || self.has_failed() {
                return false;
            }
            std::thread::sleep(more.min(ASK_AGAIN));
        }
    }

    /// What is left in all shards together; of one that does not say, the worst is thought.
    fn left(&self) -> Left {
        let (said, answers) = crossbeam::channel::bounded(self.peers.len());
        let asked = self.peers.iter().filter(|peer| peer.send(Control::Drain(said.clone())).is_ok()).count();
        drop(said);
        let answers: Vec<_> = (0..asked).map_while(|_| answers.recv_timeout(LAST_WORDS).ok()).collect();
        let silent = answers.len() < self.peers.len();
        let any = |of: fn(&Left) -> bool| silent || answers.iter().any(of);
        Left { owes: any(|left| left.owes), open: any(|left| left.open) }
    }

    /// Lets the services say what they have to say at the end, and the shards reset what is open.
    fn tell_services(&self) {
        let told = self.peers.iter().filter(|peer| peer.send(Control::Stopping).is_ok()).count();
        let start = Instant::now();
        let (mut steps, mut moved) = (0, start);
        while self.farewell.said_all.load(Ordering::Acquire) < told && !self.has_failed() {
            let now = Instant::now();
            let done = self.farewell.steps.load(Ordering::Relaxed);
            if done != std::mem::replace(&mut steps, done) {
                moved = now;
            }
            if now - start > FAREWELL || now - moved > SILENCE {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// As [`Engine::stop`]: resets what is open, and does not wait for what is owed; [`Engine::shutdown`] does.
impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!("{error}");
        }
    }
}
