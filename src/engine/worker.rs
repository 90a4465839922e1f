//! The working stage: one shard between its rings.
//!
//! Must not contain: threads, waiting, protocol. The shard does all of that work; this moves packets, completions and
//! messages in and out of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::clock::Clock;
use super::control::{Control, Farewell, Left, Peer};
use super::load::{self, Done, Load};
use super::rx::{BATCH_OCTETS, BATCH_PACKETS};
use super::stage::Poll;
use crate::buffer::frame::{Completion, RxFrame};
use crate::buffer::packet::PacketBuf;
use crate::buffer::ring::{Consumer, Producer};
use crate::buffer::wake::{Interest, Unparker};
use crate::flow::ShardId;
use crate::shard::budget::{self, Work};
use crate::shard::{LOOK_AHEAD, PublishedCounters, Shard};
use crate::tcp::{Duration, Instant};

/// Counters are published this often while there is work, and before a thread parks.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(10);
/// After so many turns services have said their last words, or are such as never come to an end.
const LAST_TURNS: u32 = 64;

/// The rings between one receiving stage and this worker.
#[derive(Debug)]
pub(super) struct FromRx {
    pub(super) frames: Consumer<RxFrame>,
    pub(super) returns: Producer<PacketBuf>,
    /// `None`: that stage runs on the same thread.
    pub(super) unparker: Option<Unparker<mio::Waker>>,
}

/// One worker: a shard, the rings around it, and its control plane.
pub(super) struct Worker {
    shard: Shard,
    id: ShardId,
    clock: Clock,
    links: Links,
    /// Which of the inbound rings came first in the last turn.
    first: usize,
    /// Packets on their way from a ring into the shard.
    batch: Vec<RxFrame>,
    publish_at: Instant,
    load: Load,
    parks: u64,
    /// Who asks what is left.
    asked: Option<crossbeam::channel::Sender<Left>>,
    /// The services have heard of the stop: so many turns are left for what they say to get into the ring.
    last_turns: Option<u32>,
    /// All connections have been reset.
    reset: bool,
    /// The link's MTU has changed, and connections from this place on have not been told.
    untold: Option<usize>,
    /// What there was left to do at the last look.
    left: (u32, usize),
}

/// Everything a worker is connected to.
pub(super) struct Links {
    /// By pool: packets of pool `i` come from and go back to `inbound[i]`.
    pub(super) inbound: Vec<FromRx>,
    pub(super) completions: Consumer<Completion>,
    /// Wakes the tx stage, where that has a thread of its own.
    pub(super) tx: Option<Unparker<mio::Waker>>,
    pub(super) control: crossbeam::channel::Receiver<Control>,
    pub(super) peers: Vec<Peer>,
    pub(super) published: Arc<PublishedCounters>,
    /// How far all workers are with their last words.
    pub(super) farewell: Arc<Farewell>,
}

impl Worker {
    pub(super) fn new(shard: Shard, id: ShardId, clock: Clock, links: Links) -> Self {
        let publish_at = clock.now();
        Self {
            shard,
            id,
            clock,
            links,
            first: 0,
            batch: Vec::with_capacity(LOOK_AHEAD),
            publish_at,
            load: Load::new(publish_at),
            parks: 0,
            asked: None,
            last_turns: None,
            reset: false,
            untold: None,
            left: (0, 0),
        }
    }

    /// One turn of the shard.
    pub(super) fn poll(&mut self) -> Poll {
        let now = self.clock.now();
        self.shard.begin_turn(now);
        let mut work = 0;
        while let Some(completion) = self.links.completions.pop() {
            self.shard.complete(completion);
            work += 1;
        }
        self.links.completions.release();
        let mut octets = 0;
        let mut packets = 0;
        // Each turn another ring comes first: one that is never empty must not keep the others waiting.
        self.first = (self.first + 1) % self.links.inbound.len().max(1);
        let (behind, front) = self.links.inbound.split_at_mut(self.first);
        let tapped = self.shard.is_tapped();
        for inbound in front.iter_mut().chain(behind) {
            while packets < BATCH_PACKETS && octets < BATCH_OCTETS {
                let before = packets;
                while packets < BATCH_PACKETS && octets < BATCH_OCTETS && packets - before < LOOK_AHEAD {
                    let Some(frame) = inbound.frames.pop() else { break };
                    packets += 1;
                    octets += frame.packet.len();
                    self.batch.push(frame);
                }
                if packets == before {
                    break;
                }
                if tapped {
                    self.batch.drain(..).for_each(|frame| self.shard.receive_tapped(frame));
                } else {
                    self.shard.receive_all(&mut self.batch);
                }
            }
            inbound.frames.release();
        }
        work += packets;
        let messages = self.take_messages();
        work += messages + self.tell_of_link();
        if self.shard.has_mail() {
            work += self.shard.deliver_mail();
        }
        // Behind the mail: what was closed before the question counts.
        if let Some(asked) = self.asked.take() {
            let owes = self.shard.drain();
            let _ = asked.send(Left { owes, open: self.shard.has_open() });
        }
        let due = self.shard.next_deadline().is_some_and(|deadline| deadline <= now);
        if work > 0 || due || self.shard.has_work() {
            work += usize::from(due);
            let sent = self.shard.finish_turn();
            work += usize::from(sent) + usize::from(self.shard.has_backlog());
            if sent && let Some(tx) = &self.links.tx {
                tx.notify(Interest::DATA);
            }
            work += self.send_messages();
        }
        self.return_packets();
        if let Some(left) = self.last_turns {
            work += self.take_leave(left);
        }
        if work > 0 {
            let took = self.clock.now().saturating_since(now);
            let counters = self.shard.counters_mut();
            counters.note_turn(took);
            counters.note_work(Work::Packets, packets);
            counters.note_work(Work::Control, messages);
            if now >= self.publish_at {
                self.publish(now);
            }
            if self.load.is_due(now) {
                self.judge(now);
            }
        } else {
            self.load.idle();
        }
        Poll { work, drained: true }
    }

    /// What the control plane has to say, as much of it as a turn takes. Returns how many messages that were.
    fn take_messages(&mut self) -> usize {
        let mut messages = 0;
        while messages < budget::CONTROL
            && let Ok(control) = self.links.control.try_recv()
        {
            messages += 1;
            match control {
                Control::Message { service, from, message } => self.shard.message(service, from, message),
                Control::Connect { service, remote } => {
                    self.shard.connect(service, remote);
                }
                Control::Mtu(mtu) => {
                    self.shard.set_mtu(mtu);
                    self.untold = Some(0);
                }
                Control::Drain(asked) => self.asked = Some(asked),
                Control::Question(question) => {
                    let long = question.is_long();
                    question.answer(&mut self.shard);
                    if long {
                        // The next one has the next turn.
                        break;
                    }
                }
                Control::Stopping => {
                    self.shard.stopping();
                    self.last_turns = Some(LAST_TURNS);
                }
            }
        }
        messages
    }

    /// Goes on with telling connections that the link has another MTU. Whether there was something to do.
    fn tell_of_link(&mut self) -> usize {
        let Some(from) = self.untold else { return 0 };
        self.untold = self.shard.apply_mtu(from);
        1
    }

    /// One of the last turns. Peers are not left to wait for what will never come: when services have had their say,
    /// connections are reset, and when the tx stage has taken all of that, it is over.
    fn take_leave(&mut self, left: u32) -> usize {
        self.last_turns = Some(left.saturating_sub(1));
        if left > 0 && self.shard.has_work() {
            return 1;
        }
        if !self.reset {
            self.reset = self.shard.reset_connections();
            if self.shard.finish_turn()
                && let Some(tx) = &self.links.tx
            {
                tx.notify(Interest::DATA);
            }
        }
        let waiting = self.shard.frames_waiting();
        let left = (self.shard.places_reset(), waiting);
        let moves = left != std::mem::replace(&mut self.left, left);
        if self.reset && waiting == 0 {
            self.last_turns = None;
            self.links.farewell.said_all.fetch_add(1, Ordering::Release);
        }
        self.links.farewell.steps.fetch_add(u64::from(moves), Ordering::Relaxed);
        usize::from(moves)
    }

    fn send_messages(&mut self) -> usize {
        let mut sent = 0;
        while sent < budget::CONTROL
            && let Some((to, service, message)) = self.shard.take_message()
        {
            let Some(peer) = self.links.peers.get(to.index()) else { continue };
            if let Err(Control::Message { service, message, .. }) =
                peer.send(Control::Message { service, from: self.id, message })
            {
                // The other shard is behind: try again next turn.
                self.shard.return_message(to, service, message);
                break;
            }
            sent += 1;
        }
        sent
    }

    fn return_packets(&mut self) {
        let mut returned = false;
        while let Some(packet) = self.shard.take_released() {
            if let Some(inbound) = self.links.inbound.get_mut(usize::from(packet.pool())) {
                // Never full: as large as the pool.
                let _ = inbound.returns.stage(packet);
                returned = true;
            }
        }
        if returned {
            for inbound in &mut self.links.inbound {
                inbound.returns.publish();
                if let Some(unparker) = &inbound.unparker {
                    unparker.notify(Interest::RETURNS);
                }
            }
        }
    }

    /// Whether there is time left for new flows.
    fn judge(&mut self, now: Instant) {
        let counters = self.shard.counters_mut();
        let (turns, octets) = (counters.turns, counters.bytes_in + counters.bytes_out);
        let busy = self.load.judge(now, Done { cpu: load::thread_time(), turns, octets });
        self.shard.note_busy(busy);
    }

    fn publish(&mut self, now: Instant) {
        self.publish_at = now + PUBLISH_INTERVAL;
        self.shard.count_round_trips();
        let (parks, waiting) =
            (self.parks, self.links.inbound.iter_mut().map(|inbound| inbound.frames.len()).sum::<usize>());
        let counters = self.shard.counters();
        (counters.parks, counters.rx_ring) = (parks, waiting as u64);
        self.links.published.publish(counters);
    }

    /// Called before the thread parks.
    pub(super) fn before_park(&mut self) {
        self.parks += 1;
        let now = self.clock.now();
        self.load.idle();
        if self.load.is_due(now) {
            self.judge(now);
        } else if !self.load.is_bulk() {
            self.shard.note_busy(false);
        }
        self.publish(now);
    }

    /// What this stage must be woken for.
    pub(super) fn interest(&self) -> Interest {
        if self.shard.has_work() || self.shard.waits_for_tx() || self.last_turns.is_some() {
            Interest::DATA | Interest::ROOM
        } else {
            Interest::DATA
        }
    }

    /// Whether a turn would find something in the rings.
    pub(super) fn ready(&mut self) -> bool {
        !self.links.completions.is_empty()
            || !self.links.control.is_empty()
            || self.shard.can_transmit()
            || self.shard.has_mail()
            || self.shard.has_backlog()
            || self.links.inbound.iter_mut().any(|inbound| !inbound.frames.is_empty())
    }

    /// When the shard needs its next turn.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        let deadline = self.shard.next_deadline();
        // Completions draw no signal of their own unless room was waited for, and a message that found its shard's queue
        // full draws none at all: both are looked at soon enough.
        let waits = self.shard.awaits_completions() || self.shard.has_work() || self.last_turns.is_some();
        let look_again = waits.then(|| self.clock.now() + PUBLISH_INTERVAL);
        [deadline, look_again, self.load.deadline()].into_iter().flatten().min()
    }

    /// Publishes the last figures.
    pub(super) fn finish(&mut self) {
        let now = self.clock.now();
        self.publish(now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use super::*;
    use crate::buffer::ring::ring;
    use crate::shard::{ConnId, Io, Message, Secrets, Service, ShardConfig, ShardShared};
    use crate::steering::{OwnerTable, SteeringKeys};

    struct Postbox {
        full: Arc<AtomicBool>,
        read: Arc<AtomicUsize>,
    }

    impl Service for Postbox {
        fn readable(&mut self, _: &mut dyn Io, _: ConnId) {}
        fn wants_mail(&self) -> bool {
            true
        }
        fn has_mail(&self) -> bool {
            self.full.load(Ordering::SeqCst)
        }
        fn message(&mut self, _: &mut dyn Io, _: ShardId, message: Message) {
            let number = self.read.fetch_add(1, Ordering::SeqCst);
            assert_eq!(message.downcast_ref(), Some(&number));
        }
        fn mail(&mut self, _: &mut dyn Io) {
            self.full.store(false, Ordering::SeqCst);
            self.read.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A worker with nothing around it, and the way to its control plane.
    fn worker(service: impl Service + 'static) -> (Worker, crossbeam::channel::Sender<Control>) {
        let owners = Arc::new(OwnerTable::in_memory(1));
        let shared = ShardShared::new(SteeringKeys::from_random([1; 16]), owners, &Secrets::from_seed(4));
        let clock = Clock::start();
        let config = ShardConfig::sole(Vec::new());
        let (mut shard, _outlet) = Shard::new(config, shared, 1, 64, clock.now()).expect("sound settings");
        shard.add_service(None, Box::new(service));
        let (control, controls) = crossbeam::channel::bounded(10_000);
        let (_completed, completions) = ring(64);
        let published = Arc::new(PublishedCounters::default());
        let farewell = Arc::default();
        let links = Links {
            inbound: Vec::new(),
            completions,
            tx: None,
            control: controls,
            peers: Vec::new(),
            published,
            farewell,
        };
        let worker = Worker::new(shard, ShardId(0), clock, links);
        (worker, control)
    }

    fn postbox() -> Postbox {
        Postbox { full: Arc::new(AtomicBool::new(false)), read: Arc::new(AtomicUsize::new(0)) }
    }

    /// A thread does not park over mail, and the next turn delivers it.
    #[test]
    fn mail_is_work_and_keeps_the_thread_from_parking() {
        let postbox = postbox();
        let (full, read) = (Arc::clone(&postbox.full), Arc::clone(&postbox.read));
        let (mut worker, _control) = worker(postbox);
        for round in 0..3 {
            assert!(!worker.ready());
            assert_eq!((worker.poll().work, read.load(Ordering::SeqCst)), (0, round));
            full.store(true, Ordering::SeqCst);
            assert!(worker.ready());
            assert!(worker.poll().work > 0);
            assert_eq!(read.load(Ordering::SeqCst), round + 1);
        }
    }

    /// However many wait: each turn takes its part, the thread stays awake, and all come in their order.
    #[test]
    fn messages_come_in_pieces() {
        const MESSAGES: usize = 10_000;
        let postbox = postbox();
        let read = Arc::clone(&postbox.read);
        let (mut worker, control) = worker(postbox);
        for number in 0..MESSAGES {
            let message: Message = Box::new(number);
            let sent = control.try_send(Control::Message { service: 0, from: ShardId(0), message });
            assert!(sent.is_ok());
        }
        let mut turns = 0;
        while worker.ready() {
            let before = read.load(Ordering::SeqCst);
            assert!(worker.poll().work > 0);
            assert_eq!(read.load(Ordering::SeqCst) - before, budget::CONTROL.min(MESSAGES - before));
            turns += 1;
        }
        assert_eq!((read.load(Ordering::SeqCst), turns), (MESSAGES, MESSAGES.div_ceil(budget::CONTROL)));
        let counters = worker.shard.counters();
        assert_eq!(counters.most_in_a_turn(Work::Control), budget::CONTROL as u64);
        assert_eq!((counters.turns, counters.turn_times.iter().sum()), (turns as u64, turns as u64));
        assert!(counters.longest_turn > 0);
    }

    /// The same on the way out.
    #[test]
    fn messages_leave_in_pieces() {
        const MESSAGES: usize = 2 * budget::CONTROL + 10;
        struct Talker(Arc<AtomicBool>);
        impl Service for Talker {
            fn readable(&mut self, _: &mut dyn Io, _: ConnId) {}
            fn wants_mail(&self) -> bool {
                true
            }
            fn has_mail(&self) -> bool {
                self.0.load(Ordering::SeqCst)
            }
            fn mail(&mut self, io: &mut dyn Io) {
                self.0.store(false, Ordering::SeqCst);
                (0..MESSAGES).for_each(|number| io.send_to(ShardId(0), Box::new(number)));
            }
        }
        let (mut worker, control) = worker(Talker(Arc::new(AtomicBool::new(true))));
        worker.links.peers.push(Peer { control, unparker: None });
        // Each turn reads what the one before has sent.
        for sent in [budget::CONTROL, budget::CONTROL, 10, 0] {
            assert!(worker.ready() && worker.poll().work > 0);
            assert_eq!(worker.links.control.len(), sent);
        }
        assert!(!worker.ready());
    }
}
