//! From a configuration, a plan and a device to an engine that is [`Prepared`]: its stages, and the rings between them.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crossbeam::channel::{self, Sender};

use super::clock::Clock;
use super::control::{CONTROL_QUEUE, Control, Farewell, Peer};
use super::error::EngineError;
use super::factory::ServiceFactory;
use super::link::Link;
use super::patience::Patience;
use super::plan::{Plan, StageId};
use super::prepared::{Prepared, Waiting};
use super::runner::{Runner, Stage};
use super::running::Engine;
use super::rx::{Rx, ToWorker};
use super::stage::StageStats;
use super::tx::{FromWorker, Tx};
use super::worker::{FromRx, Links, Worker};
use crate::buffer::frame::Completion;
use crate::buffer::mapping::Mapping;
use crate::buffer::packet::PacketPool;
use crate::buffer::ring::{Consumer, ring};
use crate::buffer::send_memory::CHUNK_LEN;
use crate::buffer::wake::Unparker;
use crate::config::{EngineConfig, Steer};
use crate::device::{BUFFER_LEN, Capabilities, Device, QueuePair};
use crate::flow::ShardId;
use crate::net::{Mail, Parts, Reader, Stack};
use crate::shard::{Limits, Outlet, PublishedCounters, Secrets, Shard, ShardConfig, ShardShared};
use crate::steering::program::{self, Steering};
use crate::steering::{OwnerTable, SteeringKeys};

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
        let (owners, steering) = steer(config.steer, &keys, &plan, &mut *device)?;
        let secrets = Secrets::random().map_err(|error| EngineError::Random(error.to_string()))?;
        let shared = ShardShared::new(keys, Arc::clone(&owners), &secrets);
        let queues = device.take_queues();
        if queues.len() != plan.queues {
            return Err(EngineError::Queues { device: queues.len(), plan: plan.queues });
        }
        let mut wiring = Wiring::new(&config, &plan)?;
        let stack = wiring.stack(&shared, services);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..plan.workers).map(|_| channel::bounded(CONTROL_QUEUE)).unzip();
        let (mut counters, farewell) = (Vec::new(), Arc::new(Farewell::default()));
        for (index, control) in receivers.into_iter().enumerate() {
            let (id, me) = (ShardId(index as u16), StageId::Worker(index));
            let (mut shard, completions) = wiring.shard(index, &shared, &capabilities)?;
            for service in services {
                shard.add_service(service.port, (service.make)());
            }
            shard.add_service(None, Box::new(stack.agent(id)));
            let published = Arc::new(PublishedCounters::default());
            counters.push(Arc::clone(&published));
            let links = Links {
                inbound: wiring.inbound(me),
                completions,
                tx: wiring.unparker(me, StageId::Tx(plan.queue_of(index))),
                control,
                peers: wiring.peers(&senders, plan.thread_of(me)),
                published,
                farewell: Arc::clone(&farewell),
            };
            wiring.put(me, Stage::Worker(Box::new(Worker::new(shard, id, wiring.clock, links))));
        }
        let peers = wiring.peers(&senders, None);
        let stages = wiring.readers_and_writers(queues, &shared);
        let stop = Arc::new(AtomicBool::new(false));
        let unparkers = wiring.threads.iter().map(|thread| thread.parker.unparker()).collect();
        let link = watch_link(&mut *device, wiring.peers(&senders, Some(0)), capabilities.mtu);
        let runners = wiring.runners(&stop, link)?;
        let engine = Self {
            plan,
            steering,
            owners,
            threads: Vec::new(),
            stop,
            farewell,
            unparkers,
            peers,
            stack,
            counters,
            stages,
            _device: Mutex::new(device),
        };
        Ok(Prepared { engine, runners })
    }
}

/// Threads to be, while stages are put on them and joined by rings.
struct Wiring<'a> {
    config: &'a EngineConfig,
    plan: &'a Plan,
    clock: Clock,
    threads: Vec<Waiting>,
    /// The readers' ends of their rings to the workers, by queue.
    to_workers: Vec<Vec<ToWorker>>,
    /// The writers' ends of their rings from the workers, by queue.
    from_workers: Vec<Vec<FromWorker>>,
}

impl<'a> Wiring<'a> {
    fn new(config: &'a EngineConfig, plan: &'a Plan) -> Result<Self, EngineError> {
        Ok(Self {
            config,
            plan,
            clock: Clock::start(),
            threads: plan.threads.iter().map(|_| Waiting::new()).collect::<Result<_, _>>()?,
            to_workers: (0..plan.queues).map(|_| Vec::new()).collect(),
            from_workers: (0..plan.queues).map(|_| Vec::new()).collect(),
        })
    }

    /// What wakes the thread of the stage `to`, for the stage `from`; `None`: both share one.
    fn unparker(&self, from: StageId, to: StageId) -> Option<Unparker<mio::Waker>> {
        let (from, to) = (self.plan.thread_of(from), self.plan.thread_of(to)?);
        (from != Some(to)).then(|| self.threads[to].parker.unparker())
    }

    /// Puts a stage on its thread.
    fn put(&mut self, id: StageId, stage: Stage) {
        if let Some(thread) = self.plan.thread_of(id) {
            self.threads[thread].put(self.plan, id, stage);
        }
    }

    /// Sockets: one queue of commands a shard.
    fn stack(&self, shared: &ShardShared, services: &[ServiceFactory]) -> Stack {
        let mail = |worker| {
            let thread = self.plan.thread_of(StageId::Worker(worker));
            Arc::new(Mail::new(Reader::Thread(thread.map(|thread| self.threads[thread].parker.unparker()))))
        };
        let clock = self.clock;
        Stack::new(Parts {
            mails: (0..self.plan.workers).map(mail).collect(),
            addresses: self.config.addresses.clone(),
            keys: shared.keys,
            owners: Arc::clone(&shared.owners),
            now: Arc::new(move || clock.now()),
            limits: self.config.sockets,
            seed: shared.seed,
            routes: self.config.routes.clone(),
            service_ports: services.iter().filter_map(|service| service.port).collect(),
        })
    }

    /// The control plane of all shards, as the thread `from` sees it.
    fn peers(&self, senders: &[Sender<Control>], from: Option<usize>) -> Vec<Peer> {
        let peer = |(to, control): (usize, &Sender<Control>)| {
            let thread = self.plan.thread_of(StageId::Worker(to));
            let same = from.is_some() && from == thread;
            let unparker = thread.filter(|_| !same).map(|thread| self.threads[thread].parker.unparker());
            Peer { control: control.clone(), unparker }
        };
        senders.iter().enumerate().map(peer).collect()
    }

    /// A shard with the ring to its writer, and the completions that come back.
    fn shard(
        &mut self,
        index: usize,
        shared: &ShardShared,
        capabilities: &Capabilities,
    ) -> Result<(Shard, Consumer<Completion>), EngineError> {
        let EngineConfig { packet_buffers, limits, .. } = *self.config;
        let config = ShardConfig {
            id: ShardId(index as u16),
            shards: self.plan.workers as u16,
            addresses: self.config.addresses.clone(),
            routes: self.config.routes.clone(),
            mtu: capabilities.mtu,
            offload: capabilities.offload(),
            limits: Limits {
                // A quarter of the buffers stays free for rx, however many readers stall on all the shards.
                held_packets: limits.held_packets.min((packet_buffers * 3 / 4 / self.plan.workers) as u64),
                ..limits
            },
            tcp: self.config.tcp,
            log_connections: self.config.log_connections,
            log_segments: self.config.log_segments,
        };
        // Room for what a turn may need at once, whatever was asked for.
        let tx_ring = self.config.tx_ring.max(128);
        let (shard, Outlet { frames, memory }) =
            Shard::new(config, shared.clone(), self.config.send_chunks, tx_ring, self.clock.now())?;
        let (completions, taken) = ring(tx_ring);
        let queue = self.plan.queue_of(index);
        let unparker = self.unparker(StageId::Tx(queue), StageId::Worker(index));
        self.from_workers[queue].push(FromWorker { frames, completions, memory, unparker });
        Ok((shard, taken))
    }

    /// The rings from all readers to a worker.
    fn inbound(&mut self, worker: StageId) -> Vec<FromRx> {
        let mut inbound = Vec::new();
        for queue in 0..self.plan.queues {
            let reader = StageId::Rx(queue);
            // As many places as buffers: neither ring is ever full.
            let (frames_in, frames) = ring(self.config.packet_buffers);
            let (returns, returns_out) = ring(self.config.packet_buffers);
            let to_worker = ToWorker::new(frames_in, returns_out, self.unparker(reader, worker));
            self.to_workers[queue].push(to_worker);
            inbound.push(FromRx { frames, returns, unparker: self.unparker(worker, reader) });
        }
        inbound
    }

    /// Puts a reader and a writer on each queue, when all workers are there. Their figures.
    fn readers_and_writers(&mut self, queues: Vec<QueuePair>, shared: &ShardShared) -> Vec<Arc<StageStats>> {
        let ends = std::mem::take(&mut self.to_workers).into_iter().zip(std::mem::take(&mut self.from_workers));
        let mut figures = Vec::new();
        for (queue, ((rx_queue, tx_queue), (to_workers, from_workers))) in queues.into_iter().zip(ends).enumerate() {
            let stats = Arc::new(StageStats::default());
            figures.push(Arc::clone(&stats));
            let pool = PacketPool::new(queue as u16, self.config.packet_buffers, BUFFER_LEN);
            let rx = Rx::new(rx_queue, pool, to_workers, shared, queue, Arc::clone(&stats));
            self.put(StageId::Rx(queue), Stage::Rx(rx));
            self.put(StageId::Tx(queue), Stage::Tx(Tx::new(tx_queue, from_workers, stats)));
        }
        figures
    }

    /// What the threads will run.
    fn runners(self, stop: &Arc<AtomicBool>, mut link: Option<Link>) -> Result<Vec<Runner>, EngineError> {
        let Self { config, plan, clock, threads, .. } = self;
        // The first thread watches the link.
        let runner = |waiting: Waiting| -> Result<Runner, EngineError> {
            let runner = Runner {
                stages: waiting.stages.into_iter().map(|(_, stage)| stage).collect(),
                parker: waiting.parker,
                poll: waiting.poll,
                alarm: waiting.alarm,
                link: link.take(),
                clock,
                stop: Arc::clone(stop),
                busy_poll: config.busy_poll,
                patience: plan.exclusive.then(|| Patience::new(clock.now())),
            };
            runner.register().map_err(EngineError::Thread)?;
            Ok(runner)
        };
        threads.into_iter().map(runner).collect()
    }
}

/// What notices that the device's MTU changes. Where that cannot be had, it is taken to stay as it is.
fn watch_link(device: &mut dyn Device, peers: Vec<Peer>, mtu: u16) -> Option<Link> {
    match device.watch_mtu() {
        Ok(watch) => watch.map(|watch| Link::new(watch, peers, mtu)),
        Err(error) => {
            tracing::warn!("{}: a change of its MTU will not be noticed: {error}", device.name());
            None
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
    Mapping::new(len).map(drop).map_err(refused)
}

/// Makes the owner table and, where it may, has the kernel follow it.
fn steer(
    steer: Steer,
    keys: &SteeringKeys,
    plan: &Plan,
    device: &mut dyn Device,
) -> Result<(Arc<OwnerTable>, &'static str), EngineError> {
    let workers = plan.workers as u16;
    let in_memory = || Arc::new(OwnerTable::in_memory(workers));
    if plan.queues == 1 {
        return Ok((in_memory(), "one queue"));
    }
    if steer == Steer::Learn {
        return Ok((in_memory(), "learn"));
    }
    // A device without a kernel has no CPU that sends: there a flow is born where its SYN is read.
    let owners = if steer == Steer::Local { Arc::new(OwnerTable::by_birth(workers)) } else { in_memory() };
    if device.steer_by_owner(keys, &owners) {
        return Ok((owners, if steer == Steer::Local { "local" } else { "hash" }));
    }
    let cpus: Vec<_> = (0..plan.workers).map(|worker| plan.birthplace(worker)).collect();
    if steer == Steer::Local && cpus.iter().all(Option::is_none) {
        return Err(EngineError::Unpinned);
    }
    // By default only where every worker can have flows of its own.
    let mut refused = None;
    if steer == Steer::Local || (steer == Steer::Auto && cpus.iter().all(Option::is_some)) {
        match attach(device, program::load_by_birth(keys, &cpus)) {
            Ok(owners) => return Ok((owners, "local")),
            Err(error) => refused = Some(error),
        }
    }
    // Without rights there is no other program either; an old kernel may take the simpler one.
    let hash = match refused {
        Some(error) if steer == Steer::Local || error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => attach(device, program::load(keys, workers)),
    };
    match hash {
        Ok(owners) => Ok((owners, "hash")),
        Err(error) if steer == Steer::Auto => {
            tracing::warn!("steering by learning: {error}");
            Ok((in_memory(), "learn"))
        }
        Err(error) => Err(EngineError::Steering(error)),
    }
}

/// Has the kernel steer the packets of `device` by a program that was loaded; the table that it reads.
fn attach(device: &mut dyn Device, loaded: io::Result<Steering>) -> io::Result<Arc<OwnerTable>> {
    let steering = loaded?;
    device.attach_steering(steering.program.as_fd())?;
    Ok(Arc::new(steering.table))
}

fn random<const N: usize>() -> Result<[u8; N], EngineError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| EngineError::Random(error.to_string()))?;
    Ok(bytes)
}
