//! Embedding: a whole host, sockets included, that runs where and when its caller says.
//!
//! A [`Host`] is one [`Shard`] with its memory and a [`Stack`]. It starts no thread, reads no clock and opens no device:
//! IP packets are handed in and come out, time is what the caller says, and with a [`seed`](Builder::seed) the same calls
//! give the same history. Sockets are those of [`net`](crate::net), with all their options.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::Ipv4Addr;
//! use trust::embed::Host;
//! use trust::net::TcpSocket;
//! use trust::tcp::{Duration, Instant};
//!
//! # fn main() -> std::io::Result<()> {
//! let (here, there) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
//! let mut now = Instant::ZERO;
//! let mut client = Host::builder().address(here).seed(1).build(now)?;
//! let mut server = Host::builder().address(there).seed(2).build(now)?;
//! let listener = server.stack().bind((there, 80))?;
//! let mut stream = TcpSocket::new(&client.stack()).connect_nonblocking((there, 80).into())?;
//!
//! // Each host's packets are the other's, a millisecond later.
//! let mut run = |turns| {
//!     for _ in 0..turns {
//!         client.poll(now, |packet| _ = server.receive(packet));
//!         server.poll(now, |packet| _ = client.receive(packet));
//!         now += Duration::from_millis(1);
//!     }
//! };
//! run(3);
//! let (mut accepted, _) = listener.accept()?;
//! stream.write_all(b"hello")?;
//! run(3);
//! let mut got = [0; 5];
//! accepted.read_exact(&mut got)?;
//! assert_eq!(&got, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Who polls
//!
//! * The thread that has the sockets (the default). No call can wait then: sockets and listeners are non-blocking from the
//!   start and cannot be made otherwise, [`Stack::connect`] and its like fail with `Unsupported` instead of waiting for
//!   ever. What sockets are told to do is done by the next poll; what asks the connection a question is asked of the host
//!   ([`Host::info`]). Readiness is told by [`EventQueue`](crate::net::EventQueue) and to tasks
//!   ([`net::tokio`](crate::net)) as always.
//! * Another thread, for [`Builder::polled_elsewhere`]: sockets block as those of an engine do.
//!
//! # When to poll
//!
//! After packets were handed in, after sockets were used ([`Builder::waker`] tells of that), and at
//! [`Host::next_deadline`].
//!
//! | file | holds |
//! | --- | --- |
//! | `builder` | [`Builder`] |
//! | `driver` | a shard with its ring and buffers |

mod builder;
mod driver;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use self::builder::{BuildError, Builder};
pub(crate) use self::driver::Driver;
#[cfg(feature = "sim")]
pub(crate) use self::driver::sole_owner;
use crate::buffer::frame::{RxFrame, TxFrame};
use crate::buffer::packet::PacketBuf;
use crate::buffer::send_memory::SendReader;
use crate::device::cutter::Cutter;
use crate::device::{RxQueue, Transmitted, TxQueue};
use crate::flow::{Endpoint, ShardId};
use crate::net::{Mail, Stack, TcpStream};
pub use crate::shard::Secrets;
use crate::shard::{ConnId, Counters, DropReason, Message, Offload, Shard};
use crate::tcp::{Duration, Info, Instant};
use crate::wire::vnet::{RxOffload, TxOffload};

/// Turns of one poll. What is left to do then is due at once.
const MOST_TURNS: usize = 1_000;
/// Packets read from a queue in one turn, so that what they draw is sent before the next ones.
const BATCH: usize = 64;
/// How soon a queue that was full is tried again.
const RETRY: Duration = Duration::from_micros(200);

/// A whole host on its caller's thread and clock, with sockets beside it.
///
/// ```
/// use std::net::IpAddr;
///
/// use trust::embed::Host;
/// use trust::net::TcpSocket;
/// use trust::tcp::Instant;
/// use trust::wire::ip;
///
/// # fn main() -> std::io::Result<()> {
/// let (here, there) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
/// let mut host = Host::builder().address(here).seed(7).build(Instant::ZERO)?;
/// let _stream = TcpSocket::new(&host.stack()).connect_nonblocking((there, 80).into())?;
/// let mut packets = Vec::new();
/// host.poll(Instant::ZERO, |packet| packets.push(packet.to_vec()));
/// let syn = ip::parse(&packets[0], true).expect("a packet");
/// assert_eq!((syn.src, syn.dst), (here, there));
/// // Nobody answers: it is to be polled again, for the next SYN, if nothing happens before.
/// assert!(host.next_deadline() > Some(Instant::ZERO));
/// # Ok(())
/// # }
/// ```
pub struct Host {
    driver: Driver,
    stack: Stack,
    mail: Arc<Mail>,
    /// `now` as sockets see it.
    time: Arc<AtomicU64>,
    now: Instant,
    inbox: Vec<RxFrame>,
    most_in_inbox: usize,
    /// What the user's queues do by themselves.
    offload: Offload,
    cutter: Cutter,
    /// For packets that a closure wants in one piece.
    scratch: Vec<u8>,
    /// The user's queue has no room for what is next.
    full: bool,
    /// The last poll ended before everything was done.
    behind: bool,
    refused: u64,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses = self.stack.addresses();
        f.debug_struct("Host").field("addresses", &addresses).field("now", &self.now).finish_non_exhaustive()
    }
}

impl Host {
    /// Begins to build a host.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn new(
        driver: Driver,
        stack: Stack,
        mail: Arc<Mail>,
        time: Arc<AtomicU64>,
        offload: Offload,
        most_in_inbox: usize,
    ) -> Self {
        let now = Instant::from_nanos(time.load(Ordering::Relaxed));
        Self {
            driver,
            stack,
            mail,
            time,
            now,
            inbox: Vec::new(),
            most_in_inbox,
            offload,
            cutter: Cutter::default(),
            scratch: Vec::new(),
            full: false,
            behind: false,
            refused: 0,
        }
    }

    /// What sockets are opened on.
    #[must_use]
    pub fn stack(&self) -> Stack {
        self.stack.clone()
    }

    // ---- packets and time ----

    /// Hands in a whole IP packet, which is copied, for the next poll. `false`: it was dropped, since it is longer than any
    /// IP packet or as many wait as [may](Builder::inbox).
    pub fn receive(&mut self, packet: &[u8]) -> bool {
        if self.inbox.len() >= self.most_in_inbox {
            return false;
        }
        let Some(mut buffer) = self.driver.buffer_for(packet.len()) else { return false };
        buffer.storage_mut()[..packet.len()].copy_from_slice(packet);
        buffer.set_range(0, packet.len());
        self.inbox.push(RxFrame { packet: buffer, offload: RxOffload::default(), refusal: None });
        true
    }

    /// An empty buffer of [`BUFFER_LEN`](crate::device::BUFFER_LEN) octets to receive a packet into, for
    /// [`receive_buffer`](Self::receive_buffer). The host remembers that it is out: bring it back.
    pub fn buffer(&mut self) -> PacketBuf {
        let mut buffer = self.driver.buffer();
        buffer.set_range(0, 0);
        buffer
    }

    /// Hands in the packet in the buffer's range without copying it, with what is known of its checksum and segments.
    /// `false`: as [`receive`](Self::receive).
    pub fn receive_buffer(&mut self, packet: PacketBuf, offload: RxOffload) -> bool {
        if self.inbox.len() >= self.most_in_inbox {
            self.driver.put(packet);
            return false;
        }
        self.inbox.push(RxFrame { packet, offload, refusal: None });
        true
    }

    /// Does everything that is to be done at `now`: packets that were handed in, what sockets want, timers. `out` gets the
    /// packets to be sent, whole wire packets within the MTU. A `now` before the last one counts as that.
    pub fn poll(&mut self, now: Instant, mut out: impl FnMut(&[u8])) {
        let mut scratch = std::mem::take(&mut self.scratch);
        // A closure does nothing for us, whatever the user's queues do.
        let never_fails = self.turns(now, Offload::default(), None, |header, payload, _| {
            if payload.is_empty() {
                out(header);
            } else {
                scratch.clear();
                scratch.extend_from_slice(header);
                payload.iter().for_each(|part| scratch.extend_from_slice(part));
                out(&scratch);
            }
            Ok(Transmitted::Sent)
        });
        debug_assert!(never_fails.is_ok());
        self.scratch = scratch;
    }

    /// As [`poll`](Self::poll), into a queue. When it is full the rest waits in the host for the next poll.
    ///
    /// # Errors
    ///
    /// Those of the queue: it is gone.
    pub fn poll_into(&mut self, now: Instant, tx: &mut dyn TxQueue) -> io::Result<()> {
        self.turns(now, self.offload, None, |header, payload, offload| tx.transmit(header, payload, offload))?;
        tx.flush()
    }

    /// As [`poll_into`](Self::poll_into), with what there is in another queue. Both may be those of a
    /// [`Device`](crate::device::Device), or the caller's own.
    ///
    /// # Errors
    ///
    /// Those of the queues: they are gone.
    pub fn poll_queues(&mut self, now: Instant, rx: &mut dyn RxQueue, tx: &mut dyn TxQueue) -> io::Result<()> {
        self.turns(now, self.offload, Some(rx), |header, payload, offload| tx.transmit(header, payload, offload))?;
        tx.flush()
    }

    /// When the host must be polled next even if nothing happens: at the latest `now` of the last poll if it has something
    /// to do already. `None`: never.
    #[must_use]
    pub fn next_deadline(&mut self) -> Option<Instant> {
        let shard = &mut self.driver.shard;
        let busy = self.behind || !self.inbox.is_empty() || shard.has_mail() || (!self.full && shard.has_work());
        if busy {
            return Some(self.now);
        }
        let retry = self.full.then(|| self.now + RETRY);
        [shard.next_deadline(), retry].into_iter().flatten().min().map(|at| at.max(self.now))
    }

    fn turns(
        &mut self,
        now: Instant,
        can: Offload,
        mut rx: Option<&mut dyn RxQueue>,
        mut transmit: impl FnMut(&[u8], &[&[u8]], &TxOffload) -> io::Result<Transmitted>,
    ) -> io::Result<()> {
        self.now = self.now.max(now);
        self.time.store(self.now.as_nanos(), Ordering::Relaxed);
        self.mail.look();
        for _ in 0..MOST_TURNS {
            self.driver.shard.begin_turn(self.now);
            // First of all: who has begun to listen does so before the packets that came meanwhile.
            self.driver.shard.deliver_mail();
            for frame in self.inbox.drain(..) {
                self.driver.receive(frame);
            }
            let more = match rx.as_deref_mut() {
                Some(rx) => self.read(rx)?,
                None => false,
            };
            self.driver.finish_turn();
            let (cutter, refused) = (&mut self.cutter, &mut self.refused);
            let take = |frame: &TxFrame, memory: &SendReader| -> io::Result<bool> {
                let payload = frame.payload(memory);
                let result = cutter.send(frame.header(), &payload, frame.offload, can, &mut transmit)?;
                *refused += u64::from(result == Transmitted::Dropped);
                Ok(result != Transmitted::Full)
            };
            self.full = !self.driver.drain(take, |shard, completion| shard.complete(completion))?;
            let shard = &mut self.driver.shard;
            let due = shard.next_deadline().is_some_and(|at| at <= self.now);
            self.behind = more || due || shard.has_mail() || (!self.full && shard.has_work());
            if self.full || !self.behind {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads a batch; whether there may be more.
    fn read(&mut self, rx: &mut dyn RxQueue) -> io::Result<bool> {
        for _ in 0..BATCH {
            let mut packet = self.driver.buffer();
            match rx.receive(packet.storage_mut()) {
                Ok(Some(received)) => {
                    packet.set_range(received.start, received.len);
                    self.driver.receive(RxFrame { packet, offload: received.offload, refusal: None });
                }
                nothing => {
                    self.driver.put(packet);
                    return nothing.map(|_| false);
                }
            }
        }
        Ok(true)
    }

    // ---- questions ----

    /// Counters and estimates of a stream's connection: [`TcpStream::info`] for a host that shares its thread with its
    /// sockets. What was asked of the sockets before is done first.
    ///
    /// # Errors
    ///
    /// As there; `InvalidInput`: a stream of another stack.
    pub fn info(&mut self, stream: &TcpStream) -> io::Result<Info> {
        self.serving(stream, |serve| stream.info_from(Some(serve)))
    }

    /// Octets received and not yet read: see [`TcpStream::unread`].
    ///
    /// # Errors
    ///
    /// `InvalidInput`: a stream of another stack.
    pub fn unread(&mut self, stream: &TcpStream) -> io::Result<usize> {
        self.serving(stream, |serve| stream.unread_from(Some(serve)))
    }

    /// Octets written that the peer has not acknowledged: see [`TcpStream::unacknowledged`].
    ///
    /// # Errors
    ///
    /// `InvalidInput`: a stream of another stack.
    pub fn unacknowledged(&mut self, stream: &TcpStream) -> io::Result<usize> {
        self.serving(stream, |serve| stream.unacknowledged_from(Some(serve)))
    }

    /// Octets written that were never sent: see [`TcpStream::not_sent`].
    ///
    /// # Errors
    ///
    /// `InvalidInput`: a stream of another stack.
    pub fn not_sent(&mut self, stream: &TcpStream) -> io::Result<usize> {
        self.serving(stream, |serve| stream.not_sent_from(Some(serve)))
    }

    fn serving<T>(&mut self, stream: &TcpStream, ask: impl FnOnce(&mut dyn FnMut()) -> io::Result<T>) -> io::Result<T> {
        if !std::ptr::addr_eq(Arc::as_ptr(stream.handle().socket.doorbell()), Arc::as_ptr(&self.mail)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a stream of another stack"));
        }
        let shard = &mut self.driver.shard;
        ask(&mut || while shard.deliver_mail() > 0 {})
    }

    /// The shard, to look at: its connections with their states, estimates and timers.
    #[must_use]
    pub fn shard(&self) -> &Shard {
        &self.driver.shard
    }

    /// Counters, gauges as of now.
    #[must_use]
    pub fn counters(&mut self) -> Counters {
        let mut counters = *self.driver.shard.counters();
        counters.drops[DropReason::DeviceRefused.index()] += self.refused;
        counters
    }

    /// Packet buffers that are in use: handed in and not yet looked at, kept by connections, or out with the caller.
    #[must_use]
    pub fn buffers_in_use(&self) -> usize {
        self.driver.buffers_out()
    }

    // ---- services ----

    /// Hands a message to a service, by its place in the order in which the builder got them.
    pub fn message(&mut self, service: u16, message: Message) {
        self.driver.shard.message(service, ShardId(0), message);
    }

    /// Opens a connection for a service: see [`Shard::connect`].
    pub fn connect(&mut self, service: u16, remote: Endpoint) -> Option<ConnId> {
        self.driver.shard.connect(service, remote)
    }

    /// Tells services that the end is near; what they send leaves with the next polls.
    pub fn stopping(&mut self) {
        self.driver.shard.stopping();
    }
}
