//! The engine: shards on pinned threads between the queues of a device. The only room with threads.
//!
//! ```text
//!   device queue ──► rx ──ring──► worker (shard) ──ring──► tx ──► device queue
//!                     ▲            │        ▲               │
//!                     └───returns──┘        └──completions──┘
//! ```
//!
//! `rx`, `worker` and `tx` are plain structs whose `poll` does a bounded batch. A [`Plan`] says which thread runs which
//! of them; the rings between two stages are the same whether they share a thread or not.

mod builder;
mod clock;
mod plan;
mod prepared;
mod runner;
mod rx;
mod tx;
mod worker;

use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use memmap2::MmapOptions;

use self::clock::Clock;

pub use self::builder::{BuildError, Builder};
pub use crate::config::{EngineConfig, ParseSteerError, Steer};

pub use self::plan::{ParsePinError, ParsePlanError, Pin, Plan, PlanError, PlanKind, StageId, ThreadPlan};
pub use self::prepared::Prepared;
use self::prepared::Waiting;
use self::runner::{Runner, Stage};
use self::rx::{Rx, ToWorker};
use self::tx::{FromWorker, Tx};
use self::worker::{Control, Farewell, FromRx, Left, Peer, Worker};
use crate::buffer::packet::PacketPool;
use crate::buffer::ring::ring;
use crate::buffer::send_memory::CHUNK_LEN;
use crate::buffer::wake::{Interest, Unparker};
use crate::device::{BUFFER_LEN, Device};
use crate::flow::{Endpoint, ShardId};
use crate::net::{Mail, Parts, Reader, Stack, TcpListener, TcpStream};
use crate::shard::{
    Counters, DropReason, Limits, Message, Outlet, PublishedCounters, Secrets, Service, Shard, ShardConfig, ShardShared,
};
use crate::steering::{OwnerTable, SteeringKeys, program};
use crate::tcp::ConfigError;

/// A service and where it listens: made once for each shard.
pub struct ServiceFactory {
    /// `None`: for connections that the engine opens.
    pub port: Option<u16>,
    /// Makes the instance of one shard.
    pub make: Box<dyn Fn() -> Box<dyn Service> + Send>,
}

impl ServiceFactory {
    /// A service that listens on `port`; `make` makes the instance of each shard.
    #[must_use]
    pub fn new(port: u16, make: impl Fn() -> Box<dyn Service> + Send + 'static) -> Self {
        Self { port: Some(port), make: Box::new(make) }
    }
}

impl std::fmt::Debug for ServiceFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceFactory").field("port", &self.port).finish_non_exhaustive()
    }
}

/// Why an engine did not start or came to an end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The device has another number of queues than the plan.
    #[error("the device has {device} queues, the plan needs {plan}")]
    Queues {
        /// Of the device.
        device: usize,
        /// Of the plan.
        plan: usize,
    },
    /// A setting of TCP is wrong.
    #[error("TCP settings: {0}")]
    Config(#[from] ConfigError),
    /// [`Steer::Hash`] was asked for and is not to be had.
    #[error("steering by hash: {0}; steering by learning (learn) needs no rights")]
    Steering(io::Error),
    /// The kernel gave no random numbers.
    #[error("no random numbers from the kernel: {0}")]
    Random(String),
    /// Epoll, eventfd, a timer or a thread could not be made.
    #[error("cannot set up a stage thread: {0}")]
    Thread(io::Error),
    /// There is not so much address space, of which memory is taken as it is needed.
    #[error("{} MB of address space cannot be had for packets and data to be sent ({error})", octets >> 20)]
    Memory {
        /// How much the configuration needs, octets: see [`EngineConfig::set_memory`] and [`EngineConfig::packet_buffers`].
        octets: u64,
        /// What the kernel said.
        error: io::Error,
    },
    /// A stage thread panicked or lost its device.
    #[error("engine thread {thread} failed: {why}")]
    Failed {
        /// Its name.
        thread: String,
        /// What it said.
        why: String,
    },
}

impl EngineError {
    pub(crate) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Queues { .. } | Self::Config(_) => io::ErrorKind::InvalidInput,
            Self::Steering(error) | Self::Thread(error) | Self::Memory { error, .. } => error.kind(),
            Self::Random(_) | Self::Failed { .. } => io::ErrorKind::Other,
        }
    }
}

/// What one call of a stage's `poll` did.
#[derive(Debug, Clone, Copy)]
struct Poll {
    /// Items moved; zero: there was nothing to do.
    work: usize,
    /// The device queue was left empty (always so for stages without one).
    drained: bool,
}

/// Figures of a reader or writer that its shard does not see.
#[derive(Debug, Default)]
struct StageStats {
    forwarded: AtomicU64,
    refused: AtomicU64,
}

/// A running engine.
///
/// Dropping it stops it at once, as [`stop`](Self::stop) does: connections are reset, and with them goes what streams that
/// were closed before still had to send. To have that arrive, end with [`shutdown`](Self::shutdown), or close streams with
/// [linger](TcpStream::set_linger), which waits for each of them.
pub struct Engine {
    plan: Plan,
    steering: &'static str,
    threads: Vec<JoinHandle<Result<(), EngineError>>>,
    stop: Arc<AtomicBool>,
    /// How far workers are whose services have heard of the stop.
    farewell: Arc<Farewell>,
    unparkers: Vec<Unparker<mio::Waker>>,
    peers: Vec<Peer>,
    stack: Stack,
    counters: Vec<Arc<PublishedCounters>>,
    stages: Vec<Arc<StageStats>>,
    // Queues, and with them the steering program, live as long as the engine. Behind a lock that nobody takes, so that an
    // engine can be shared by threads.
    _device: Mutex<Box<dyn Device>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("plan", &self.plan).field("steering", &self.steering).finish_non_exhaustive()
    }
}

/// A way into a running engine from any thread: messages to services, connections to be opened.
#[derive(Debug, Clone)]
pub struct Handle {
    peers: Vec<Peer>,
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

    /// Asks a shard to open a connection for a service, which hears `accepted` or `closed`. `false`: as [`send`](Self::send).
    #[must_use]
    pub fn connect(&self, shard: ShardId, service: u16, remote: Endpoint) -> bool {
        self.control(shard, Control::Connect { service, remote })
    }

    fn control(&self, shard: ShardId, control: Control) -> bool {
        self.peers.get(shard.index()).is_some_and(|peer| peer.send(control).is_ok())
    }
}

/// Messages that may wait for a shard.
const CONTROL_QUEUE: usize = 4_096;

/// How long a drain or a shutdown waits for the answer of a shard.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A stop waits as long for the last words of the shards as they get on with them, and in any case no longer than this ...
const FAREWELL: Duration = Duration::from_secs(5);

/// ... and without anything moving so long: on a busy machine a thread may have to wait for its turn.
const SILENCE: Duration = Duration::from_secs(1);

/// How often a drain or a shutdown looks what is left.
const ASK_AGAIN: Duration = Duration::from_millis(5);

impl Engine {
    /// Starts the stages of `plan` on `device`, with the given services on every shard. They run when it returns.
    ///
    /// # Errors
    ///
    /// See [`EngineError`].
    pub fn start(
        config: EngineConfig,
        plan: Plan,
        device: Box<dyn Device>,
        services: &[ServiceFactory],
    ) -> Result<Self, EngineError> {
        Self::prepare(config, plan, device, services)?.start()
    }

    /// Does all of [`start`](Self::start) that may take rights, and starts no thread: see [`Prepared`].
    ///
    /// # Errors
    ///
    /// See [`EngineError`].
    pub fn prepare(
        config: EngineConfig,
        plan: Plan,
        mut device: Box<dyn Device>,
        services: &[ServiceFactory],
    ) -> Result<Prepared, EngineError> {
        config.tcp.validate()?;
        check_memory(&config, &plan)?;
        let capabilities = device.capabilities();
        let keys = SteeringKeys::from_random(random()?);
        let (owners, steering) = steer(config.steer, &keys, plan.workers, plan.queues, &mut *device)?;
        let secrets = Secrets::random().map_err(|error| EngineError::Random(error.to_string()))?;
        let shared = ShardShared::new(keys, Arc::clone(&owners), &secrets);
        let queues = device.take_queues();
        if queues.len() != plan.queues {
            return Err(EngineError::Queues { device: queues.len(), plan: plan.queues });
        }
        let clock = Clock::start();
        let mut threads = plan.threads.iter().map(|_| Waiting::new()).collect::<Result<Vec<_>, _>>()?;
        let unparker_to = |threads: &[Waiting], from: StageId, to: StageId| {
            let (from, to) = (plan.thread_of(from), plan.thread_of(to)?);
            (from != Some(to)).then(|| threads[to].parker.unparker())
        };

        // Sockets: one queue of commands a shard.
        let mails = (0..plan.workers)
            .map(|worker| {
                let thread = plan.thread_of(StageId::Worker(worker));
                Arc::new(Mail::new(Reader::Thread(thread.map(|thread| threads[thread].parker.unparker()))))
            })
            .collect();
        let stack = Stack::new(Parts {
            mails,
            addresses: config.addresses.clone(),
            keys,
            owners: Arc::clone(&owners),
            now: Arc::new(move || clock.now()),
            limits: config.sockets,
            seed: shared.seed,
            routes: config.routes.clone(),
            service_ports: services.iter().filter_map(|service| service.port).collect(),
        });

        // Control plane: one channel a shard.
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..plan.workers).map(|_| crossbeam::channel::bounded(CONTROL_QUEUE)).unzip();
        let peers_from = |threads: &[Waiting], from: Option<usize>| -> Vec<Peer> {
            senders
                .iter()
                .enumerate()
                .map(|(to, control)| {
                    let thread = plan.thread_of(StageId::Worker(to));
                    let same = from.is_some() && from == thread;
                    let unparker = thread.filter(|_| !same).map(|thread| threads[thread].parker.unparker());
                    Peer { control: control.clone(), unparker }
                })
                .collect()
        };
        let peers = peers_from(&threads, None);

        // Workers, with the far ends of their rings collected for readers and writers.
        let mut to_workers: Vec<Vec<ToWorker>> = (0..plan.queues).map(|_| Vec::new()).collect();
        let mut from_workers: Vec<Vec<FromWorker>> = (0..plan.queues).map(|_| Vec::new()).collect();
        let mut counters = Vec::new();
        let farewell = Arc::new(Farewell::default());
        for (index, control) in receivers.into_iter().enumerate() {
            let me = StageId::Worker(index);
            let mut inbound = Vec::new();
            for (queue, to_workers) in to_workers.iter_mut().enumerate() {
                // As many places as buffers: neither ring is ever full.
                let (frames_in, frames_out) = ring(config.packet_buffers);
                let (returns_in, returns_out) = ring(config.packet_buffers);
                let unparker = unparker_to(&threads, StageId::Rx(queue), me);
                to_workers.push(ToWorker::new(frames_in, returns_out, unparker));
                let unparker = unparker_to(&threads, me, StageId::Rx(queue));
                inbound.push(FromRx { frames: frames_out, returns: returns_in, unparker });
            }
            let shard_config = ShardConfig {
                id: ShardId(index as u16),
                shards: plan.workers as u16,
                addresses: config.addresses.clone(),
                routes: config.routes.clone(),
                mtu: capabilities.mtu,
                offload: capabilities.offload(),
                limits: Limits {
                    // A quarter of the buffers stays free for rx, however many readers stall on all the shards.
                    held_packets: config.limits.held_packets.min((config.packet_buffers * 3 / 4 / plan.workers) as u64),
                    ..config.limits
                },
                tcp: config.tcp,
                log_connections: config.log_connections,
                log_segments: config.log_segments,
            };
            // Room for what a turn may need at once, whatever was asked for.
            let tx_ring = config.tx_ring.max(128);
            let (mut shard, Outlet { frames, memory }) =
                Shard::new(shard_config, shared.clone(), config.send_chunks, tx_ring, clock.now())?;
            let (completions_in, completions_out) = ring(tx_ring);
            let queue = plan.queue_of(index);
            let unparker = unparker_to(&threads, StageId::Tx(queue), me);
            from_workers[queue].push(FromWorker { frames, completions: completions_in, memory, unparker });
            for service in services {
                shard.add_service(service.port, (service.make)());
            }
            shard.add_service(None, Box::new(stack.agent(ShardId(index as u16))));
            let published = Arc::new(PublishedCounters::default());
            counters.push(Arc::clone(&published));
            let thread = plan.thread_of(me);
            let worker = Worker::new(
                shard,
                ShardId(index as u16),
                clock,
                inbound,
                completions_out,
                unparker_to(&threads, me, StageId::Tx(queue)),
                control,
                peers_from(&threads, thread),
                published,
                Arc::clone(&farewell),
            );
            if let Some(thread) = thread {
                threads[thread].put(&plan, me, Stage::Worker(Box::new(worker)));
            }
        }
        let mut stages = Vec::new();
        let ends = to_workers.into_iter().zip(from_workers);
        for (queue, ((rx_queue, tx_queue), (to_workers, from_workers))) in queues.into_iter().zip(ends).enumerate() {
            let stats = Arc::new(StageStats::default());
            stages.push(Arc::clone(&stats));
            let pool = PacketPool::new(queue as u16, config.packet_buffers, BUFFER_LEN);
            let owners = Arc::clone(&owners);
            let rx = Rx::new(rx_queue, pool, to_workers, keys, owners, queue, Arc::clone(&stats));
            let tx = Tx::new(tx_queue, from_workers, stats);
            for (id, stage) in [(StageId::Rx(queue), Stage::Rx(rx)), (StageId::Tx(queue), Stage::Tx(tx))] {
                if let Some(thread) = plan.thread_of(id) {
                    threads[thread].put(&plan, id, stage);
                }
            }
        }

        let stop = Arc::new(AtomicBool::new(false));
        let unparkers: Vec<_> = threads.iter().map(|thread| thread.parker.unparker()).collect();
        let engine = Self {
            steering,
            threads: Vec::new(),
            stop: Arc::clone(&stop),
            farewell,
            unparkers,
            peers,
            stack,
            counters,
            stages,
            _device: Mutex::new(device),
            plan,
        };
        let spin = engine.plan.exclusive;
        let mut runners = Vec::new();
        for waiting in threads {
            let runner = Runner {
                stages: waiting.stages.into_iter().map(|(_, stage)| stage).collect(),
                parker: waiting.parker,
                poll: waiting.poll,
                alarm: waiting.alarm,
                clock,
                stop: Arc::clone(&stop),
                busy_poll: config.busy_poll,
                spin,
            };
            runner.register().map_err(EngineError::Thread)?;
            runners.push(runner);
        }
        Ok(Prepared { engine, runners })
    }

    /// The plan it runs.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How packets are steered: `hash` or `learn`, or `one queue`.
    #[must_use]
    pub fn steering(&self) -> &'static str {
        self.steering
    }

    /// Begins to build an engine. Without a word more it opens a TUN device, which takes rights; here two engines are joined in
    /// memory:
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::Ipv4Addr;
    /// use std::thread;
    /// use trust::device::memory::{MemoryOptions, pair};
    /// use trust::engine::{Engine, Pin};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (a, b) = pair(&MemoryOptions::default())?;
    /// let (here, there) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    /// let server = Engine::builder().device(a, 1).address(there.into()).pin(Pin::None).start()?;
    /// let client = Engine::builder().device(b, 1).address(here.into()).pin(Pin::None).start()?;
    ///
    /// let listener = server.bind((there, 80))?;
    /// let serving = thread::spawn(move || -> std::io::Result<()> {
    ///     let (mut stream, from) = listener.accept()?;
    ///     assert_eq!(from.ip(), here);
    ///     stream.write_all(b"good day")
    /// });
    /// let mut text = String::new();
    /// client.connect((there, 80))?.read_to_string(&mut text)?;
    /// assert_eq!(text, "good day");
    /// serving.join().expect("no panic")?;
    /// # Ok(())
    /// # } // Dropped, an engine stops its threads.
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
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
        Handle { peers: self.peers.clone() }
    }

    /// Last published counters of each shard.
    #[must_use]
    pub fn shard_counters(&self) -> Vec<Counters> {
        self.counters.iter().map(|counters| counters.read()).collect()
    }

    /// Counters of all shards and stages together.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut total = Counters::default();
        for shard in self.shard_counters() {
            total.add(&shard);
        }
        for stage in &self.stages {
            total.forwarded += stage.forwarded.load(Ordering::Relaxed);
            total.drops[DropReason::DeviceRefused.index()] += stage.refused.load(Ordering::Relaxed);
        }
        total
    }

    /// Whether a thread has ended by itself: then [`stop`](Self::stop) tells why.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Takes no new connections any more, and waits until those that are open have ended, or `timeout` is over. `true`: none
    /// is open, and nothing is owed; `false`: some are, or the engine [has failed](Self::has_failed). The engine goes on
    /// either way: call this again to go on waiting (it may be with no timeout, just to know), and then
    /// [`stop`](Self::stop), which resets what is left, or [`shutdown`](Self::shutdown), which waits for what was closed.
    ///
    /// Listeners are closed at the beginning, those of services for good: SYNs are answered with resets, `accept` hands out
    /// what is ready and then says `ConnectionAborted`. Services are asked to come to an end
    /// ([`Service::draining`]): HTTP closes connections behind their present answer. Open is a connection that its
    /// application or service has not closed, whatever its peer has done, and one that is being opened.
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
    /// over. Listeners are closed at the beginning: SYNs are answered with resets, `accept` hands out what is ready and then
    /// says `ConnectionAborted`. `true`: nothing was owed any more; `false`: it took too long, and the rest is lost.
    ///
    /// Only connections that were closed are waited for (a stream: when its last handle was dropped); those that are still
    /// open, and what is written to them meanwhile, are reset in the end as by [`stop`](Self::stop). To let them end by
    /// themselves, [`drain`](Self::drain) before.
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
    /// Has the shards close their listeners, and asks what is left until it is as wanted, or `timeout` is over. Whether it is.
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

/// Whether there is address space for what is about to be taken of it: an allocation that fails ends the program.
fn check_memory(config: &EngineConfig, plan: &Plan) -> Result<(), EngineError> {
    /// For the rest: stacks of threads, tables, the first connections.
    const OTHER: u64 = 64 << 20;
    let chunks = u64::from(config.send_chunks) * plan.workers as u64;
    let packets = config.packet_buffers as u64 * plan.queues as u64;
    let octets = chunks
        .saturating_mul(CHUNK_LEN as u64)
        .saturating_add(packets.saturating_mul(BUFFER_LEN as u64))
        .saturating_add(OTHER);
    let refused = |error| EngineError::Memory { octets, error };
    let len = usize::try_from(octets).map_err(|_| refused(io::ErrorKind::OutOfMemory.into()))?;
    MmapOptions::new().len(len).map_anon().map(drop).map_err(refused)
}

/// Makes the owner table and, where it may, has the kernel follow it.
fn steer(
    steer: Steer,
    keys: &SteeringKeys,
    workers: usize,
    queues: usize,
    device: &mut dyn Device,
) -> Result<(Arc<OwnerTable>, &'static str), EngineError> {
    let in_memory = || Arc::new(OwnerTable::in_memory(workers as u16));
    if queues == 1 {
        return Ok((in_memory(), "one queue"));
    }
    if steer != Steer::Learn {
        let owners = in_memory();
        if device.steer_by_owner(keys, &owners) {
            return Ok((owners, "hash"));
        }
        let loaded = program::load(keys, workers as u16)
            .and_then(|steering| device.attach_steering(steering.program.as_fd()).map(|()| steering));
        match loaded {
            Ok(steering) => return Ok((Arc::new(steering.table), "hash")),
            Err(error) if steer == Steer::Hash => return Err(EngineError::Steering(error)),
            Err(error) => tracing::warn!("steering by learning: {error}"),
        }
    }
    Ok((in_memory(), "learn"))
}

fn random<const N: usize>() -> Result<[u8; N], EngineError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| EngineError::Random(error.to_string()))?;
    Ok(bytes)
}

/// The CPUs this process may use.
#[must_use]
pub fn usable_cpus() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}
