//! What the two sides of one socket share: the application's handle, and the shard's end in its [`Agent`](super::agent).
//!
//! ```text
//!   application                     shared                        shard
//!   Handle.writer ═══════════ octet queue ═════════════► End.outgoing ─► connection
//!   Handle.reader ◄══════════ octet queue ══════════════ End.incoming ◄─ connection
//!                 bell: what the application wants ─────►
//!                 ◄───── state: what has become of the connection; error
//! ```
//!
//! The shard never waits for a lock. The application's ends lie behind locks because a stream can be cloned; they are held
//! while octets are copied, never while somebody waits.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use crossbeam::channel::Sender;
use crossbeam::queue::SegQueue;

use super::registration::Registration;
use super::settings::{Change, Initial, Settings};
use super::wait::Waiters;
use crate::buffer::octets::{OctetBudget, OctetReader, OctetWriter, octet_queue};
use crate::flow::Endpoint;
use crate::shard::{ConnectOptions, slab};
use crate::tcp::{self, CloseReason, Info};
use crate::wire::icmp::Unreachable;

/// Names a socket in its shard's agent.
pub(crate) type Key = slab::Key;

/// What the application wants of the shard: bits of the bell.
pub(crate) mod want {
    /// There is something in the outgoing queue.
    pub(crate) const SEND: u32 = 1;
    /// The incoming queue, which was full, has room.
    pub(crate) const ROOM: u32 = 2;
    /// A FIN behind what is in the outgoing queue.
    pub(crate) const SHUT_WRITE: u32 = 4;
    /// Nobody uses the socket any more: send what there is, then close.
    pub(crate) const CLOSE: u32 = 8;
    /// Reset.
    pub(crate) const ABORT: u32 = 16;
    /// Options have changed.
    pub(crate) const CHANGE: u32 = 32;
    /// The shard does not know the socket yet and will look at the bell when it does.
    pub(crate) const UNBORN: u32 = 64;
    /// A peek would see more than the full incoming queue holds.
    pub(crate) const SHOW: u32 = 128;
}

/// What has become of the socket. The first bits are only ever set; `CHOKED`, `FULL`, `MORE` and `BEHIND` come and go.
pub(crate) mod is {
    /// The handshake is complete.
    pub(crate) const CONNECTED: u32 = 1;
    /// The peer has ended its direction, and all octets before that are in the incoming queue.
    pub(crate) const ENDED: u32 = 2;
    /// There is no connection any more.
    pub(crate) const CLOSED: u32 = 4;
    /// The application has shut down reading.
    pub(crate) const SHUT_READ: u32 = 8;
    /// The application has shut down writing.
    pub(crate) const SHUT_WRITE: u32 = 16;
    /// The shard found no room in the incoming queue and wants to hear of some.
    pub(crate) const CHOKED: u32 = 32;
    /// The peer has acknowledged everything, our FIN included.
    pub(crate) const FINISHED: u32 = 64;
    /// The application found no room in the outgoing queue and wants to hear of a fair amount of it.
    pub(crate) const FULL: u32 = 128;
    /// The application has promised more: what it wrote last is to wait for it.
    pub(crate) const MORE: u32 = 256;
    /// The connection holds received octets for which the incoming queue had no room.
    pub(crate) const BEHIND: u32 = 512;
}

/// The way from a socket to its shard's agent.
pub(crate) trait Doorbell: std::fmt::Debug + Send + Sync {
    /// The socket with that key has set bits in its bell.
    fn ring(&self, key: Key);

    /// Asks what its connection looks like. `false`: the shard is gone.
    fn inquire(&self, key: Key, reply: Sender<Answer>) -> bool;

    /// Whether an application may wait for what the agent does.
    fn may_wait(&self) -> bool;
}

/// What a shard says of a connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Answer {
    /// `None`: there is no synchronized connection (any more).
    pub(crate) info: Option<Info>,
    /// Octets the peer has not acknowledged, sent or not.
    pub(crate) unacknowledged: u32,
    /// Octets in the receive store, not yet in the socket's queue.
    pub(crate) unread: u32,
    /// Octets that were never sent.
    pub(crate) not_sent: u32,
}

/// What an application's handles and the shard know of one socket: its state, what it wants, and who waits for it.
#[derive(Debug)]
pub(crate) struct Socket {
    doorbell: Arc<dyn Doorbell>,
    /// The socket's place in the agent, once it has one.
    key: AtomicU64,
    bell: AtomicU32,
    state: AtomicU32,
    /// The pending error as an errno; 0: none (SO_ERROR).
    error: AtomicI32,
    /// Options that have changed; made when the first one does.
    changes: OnceLock<Box<SegQueue<Change>>>,
    /// What there was to know of the connection in the end.
    last_info: OnceLock<Box<Info>>,
    pub(crate) reading: Waiters,
    pub(crate) writing: Waiters,
    /// The event queue that watches the socket.
    pub(crate) watch: ArcSwapOption<Registration>,
    pub(crate) local: OnceLock<SocketAddr>,
    pub(crate) remote: SocketAddr,
    /// The application's ends of the queues. The shard only tries these locks, to give back the memory of an idle socket.
    reader: Mutex<OctetReader>,
    writer: Mutex<OctetWriter>,
    /// When so few octets are left in the outgoing queue, a writer that found it full is told.
    send_low: AtomicU32,
    /// When so few octets are left in the incoming queue, a shard that found it full is told.
    receive_low: AtomicU32,
    /// Octets written that may be unsent (TCP_NOTSENT_LOWAT); [`UNLIMITED`].
    most_unsent: AtomicU32,
    /// Octets written that were sent, at least; kept while there is such a limit. Counts as the outgoing queue does.
    sent: AtomicUsize,
    look: Look,
}

/// No limit for unsent octets.
const UNLIMITED: u32 = u32::MAX;

/// A peek that would see more than lies in the full incoming queue.
#[derive(Debug, Default)]
struct Look {
    /// Octets that it would see.
    octets: AtomicU32,
    /// How often that was asked for.
    asked: AtomicU32,
    /// Up to which of them the shard has brought what there is.
    shown: AtomicU32,
}

/// What may be left in a queue of that capacity when who waits for room in it is told: enough that the other side has
/// something to do meanwhile, and so little that it is worth while to wake somebody. As Linux has it for writers.
fn low(capacity: usize) -> u32 {
    u32::try_from(capacity - capacity.div_ceil(3)).unwrap_or(u32::MAX)
}

impl Socket {
    fn new(
        doorbell: Arc<dyn Doorbell>,
        remote: SocketAddr,
        capacities: Capacities,
        reader: OctetReader,
        writer: OctetWriter,
    ) -> Self {
        Self {
            doorbell,
            key: AtomicU64::new(u64::MAX),
            bell: AtomicU32::new(want::UNBORN),
            state: AtomicU32::new(0),
            error: AtomicI32::new(0),
            changes: OnceLock::new(),
            last_info: OnceLock::new(),
            reading: Waiters::default(),
            writing: Waiters::default(),
            watch: ArcSwapOption::empty(),
            local: OnceLock::new(),
            remote,
            reader: Mutex::new(reader),
            writer: Mutex::new(writer),
            send_low: AtomicU32::new(low(capacities.send)),
            receive_low: AtomicU32::new(low(capacities.receive)),
            most_unsent: AtomicU32::new(UNLIMITED),
            sent: AtomicUsize::new(0),
            look: Look::default(),
        }
    }

    // ---- the application's side ----

    /// Asks for the shard's attention.
    pub(crate) fn ring(&self, wants: u32) {
        if self.bell.fetch_or(wants, Ordering::AcqRel) == 0 {
            self.doorbell.ring(self.key());
        }
    }

    /// Has the shard apply an option.
    pub(crate) fn change(&self, change: Change) {
        self.changes.get_or_init(Box::default).push(change);
        self.ring(want::CHANGE);
    }

    pub(crate) fn doorbell(&self) -> &Arc<dyn Doorbell> {
        &self.doorbell
    }

    /// Whether the shard has taken the socket in; only then [`key`](Self::key) means something.
    pub(crate) fn is_born(&self) -> bool {
        self.bell.load(Ordering::Acquire) & want::UNBORN == 0
    }

    pub(crate) fn key(&self) -> Key {
        let key = self.key.load(Ordering::Acquire);
        Key { slot: (key >> 32) as u32, generation: key as u32 }
    }

    #[inline]
    pub(crate) fn state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }

    /// Takes the pending error, as reading SO_ERROR does.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        if self.error.load(Ordering::Relaxed) == 0 {
            return None;
        }
        match self.error.swap(0, Ordering::AcqRel) {
            0 => None,
            errno => Some(io::Error::from_raw_os_error(errno)),
        }
    }

    fn is_full(&self) -> bool {
        self.state.load(Ordering::Relaxed) & is::FULL != 0
    }

    /// Whether it was closed, by a shard that has no port for it.
    pub(crate) fn found_no_port(&self) -> bool {
        self.state() & is::CLOSED != 0 && self.error.load(Ordering::Acquire) == libc::EADDRNOTAVAIL
    }

    pub(crate) fn has_error(&self) -> bool {
        self.error.load(Ordering::Acquire) != 0
    }

    /// The pending error, which stays.
    pub(crate) fn pending_error(&self) -> Option<io::Error> {
        let errno = self.error.load(Ordering::Acquire);
        (errno != 0).then(|| io::Error::from_raw_os_error(errno))
    }

    /// Nothing more is to be read than what lies here (EPOLLRDHUP).
    pub(crate) fn is_read_closed(&self) -> bool {
        self.state() & (is::CLOSED | is::ENDED | is::SHUT_READ) != 0
    }

    /// Both directions have ended (EPOLLHUP).
    pub(crate) fn is_write_closed(&self) -> bool {
        let state = self.state();
        state & is::CLOSED != 0 || (state & is::SHUT_WRITE != 0 && state & is::ENDED != 0)
    }

    /// Counters and estimates of a connection that has ended.
    pub(crate) fn last_info(&self) -> Option<Info> {
        self.last_info.get().map(|info| **info)
    }

    /// Sets state bits and tells everybody who waits.
    pub(crate) fn set(&self, bits: u32) {
        self.mark(bits);
        self.notify_all();
    }

    /// Sets state bits. To be followed by [`notify_all`](Self::notify_all).
    pub(crate) fn mark(&self, bits: u32) {
        self.state.fetch_or(bits, Ordering::AcqRel);
    }

    pub(crate) fn notify_all(&self) {
        self.notify_readers();
        self.notify_writers();
    }

    /// After octets were read, with so many left: the shard is told if it waits for room, and there is a fair amount of it.
    pub(crate) fn made_room(&self, left: usize) {
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) & is::CHOKED != 0
            && left <= self.receive_low.load(Ordering::Relaxed) as usize
        {
            self.state.fetch_and(!is::CHOKED, Ordering::AcqRel);
            self.ring(want::ROOM);
        }
    }

    /// The outgoing queue is full. Who wants to wait looks once more at its room afterwards, and if this says `true`, has
    /// the shard look as well ([`want::SEND`]): what it has sent meanwhile, nobody else knows.
    pub(crate) fn found_no_room(&self) -> bool {
        let before = self.state.fetch_or(is::FULL, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        before & is::FULL == 0 && self.limits_unsent()
    }

    /// Limits the octets written and not sent.
    pub(crate) fn limit_unsent(&self, octets: Option<u32>) {
        self.most_unsent.store(tcp::unsent_limit(octets).unwrap_or(UNLIMITED), Ordering::Relaxed);
    }

    pub(crate) fn limits_unsent(&self) -> bool {
        self.most_unsent.load(Ordering::Relaxed) != UNLIMITED
    }

    /// How many octets may be written behind the `written` first ones of the stream, as far as the limit for unsent ones goes.
    pub(crate) fn may_write(&self, written: usize) -> usize {
        match self.most_unsent.load(Ordering::Relaxed) {
            UNLIMITED => usize::MAX,
            most => (most as usize).saturating_sub(self.unsent(written)),
        }
    }

    /// How many of the `written` first octets of the stream are unsent, at most.
    fn unsent(&self, written: usize) -> usize {
        written.wrapping_sub(self.sent.load(Ordering::Acquire))
    }

    /// Whether who waits to write may, with so many octets unsent: no more than half of what is allowed.
    fn is_below_limit(&self, unsent: usize) -> bool {
        let most = self.most_unsent.load(Ordering::Relaxed);
        most == UNLIMITED || unsent <= most as usize / 2
    }

    /// Has the shard bring what the incoming queue had no room for, as far as a look at `octets` goes. Tells what to ask
    /// [`has_shown`](Self::has_shown) for.
    pub(crate) fn ask_to_show(&self, octets: usize) -> u32 {
        self.look.octets.fetch_max(u32::try_from(octets).unwrap_or(u32::MAX), Ordering::Relaxed);
        let asked = self.look.asked.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        self.ring(want::SHOW);
        asked
    }

    /// Whether the shard has brought what it was asked for, or never will.
    pub(crate) fn has_shown(&self, asked: u32) -> bool {
        let ahead = asked.wrapping_sub(self.look.shown.load(Ordering::Acquire)) as i32;
        ahead <= 0 || self.state() & is::CLOSED != 0
    }

    /// The outgoing queue takes so many octets from now on.
    pub(crate) fn set_send_capacity(&self, octets: usize) {
        self.send_low.store(low(octets), Ordering::Relaxed);
    }

    /// Whether what is written last is to wait for more. To be followed by a ring.
    pub(crate) fn promise_more(&self, more: bool) {
        if more {
            self.state.fetch_or(is::MORE, Ordering::AcqRel);
        } else {
            self.state.fetch_and(!is::MORE, Ordering::AcqRel);
        }
    }

    // ---- the shard's side ----

    /// The agent has put the socket into its place.
    pub(crate) fn adopt(&self, key: Key) {
        self.key.store(u64::from(key.slot) << 32 | u64::from(key.generation), Ordering::Release);
    }

    /// What the application wants; the bell is silent afterwards.
    pub(crate) fn wants(&self) -> u32 {
        self.bell.swap(0, Ordering::AcqRel)
    }

    /// The next option to be applied.
    pub(crate) fn next_change(&self) -> Option<Change> {
        self.changes.get()?.pop()
    }

    /// The incoming queue is full. The caller looks once more at its room afterwards.
    pub(crate) fn choke(&self) {
        self.state.fetch_or(is::CHOKED | is::BEHIND, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// All that was received lies in the incoming queue.
    pub(crate) fn caught_up(&self) {
        if self.state.load(Ordering::Relaxed) & is::BEHIND != 0 {
            self.state.fetch_and(!is::BEHIND, Ordering::AcqRel);
        }
    }

    /// For a peek: what it has asked for, to be said when that is [shown](Self::shown), and the octets that it would see.
    pub(crate) fn look(&self) -> (u32, usize) {
        let asked = self.look.asked.load(Ordering::Acquire);
        (asked, self.look.octets.swap(0, Ordering::Relaxed) as usize)
    }

    pub(crate) fn shown(&self, asked: u32) {
        self.look.shown.store(asked, Ordering::Release);
        self.notify_readers();
    }

    /// So many octets have left the outgoing queue, of which `not_sent` were not sent.
    pub(crate) fn set_sent(&self, taken: usize, not_sent: usize) {
        self.sent.store(taken.wrapping_sub(not_sent), Ordering::Release);
    }

    /// The incoming queue takes so many octets from now on.
    pub(crate) fn set_receive_capacity(&self, octets: usize) {
        self.receive_low.store(low(octets), Ordering::Relaxed);
    }

    /// After octets were taken out of the outgoing queue, or sent, and `not_sent` of those taken are not: a writer is told if
    /// it waits for room, and there is a fair amount of it. Whether one waits on.
    pub(crate) fn freed_room(&self, outgoing: &OctetReader, not_sent: usize) -> bool {
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) & is::FULL == 0 {
            return false;
        }
        let queued = outgoing.len();
        if queued > self.send_low.load(Ordering::Relaxed) as usize || !self.is_below_limit(queued + not_sent) {
            return true;
        }
        self.state.fetch_and(!is::FULL, Ordering::AcqRel);
        self.notify_writers();
        false
    }

    #[inline]
    pub(crate) fn notify_readers(&self) {
        self.reading.notify();
        self.notify_watch();
    }

    #[inline]
    pub(crate) fn notify_writers(&self) {
        self.writing.notify();
        self.notify_watch();
    }

    #[inline]
    fn notify_watch(&self) {
        let watch = self.watch.load();
        if let Some(registration) = &*watch {
            registration.signal();
        }
    }

    /// The peer has acknowledged everything, our FIN included: a lingering drop waits for it.
    pub(crate) fn finished(&self) {
        self.state.fetch_or(is::FINISHED, Ordering::AcqRel);
        self.writing.notify();
    }

    /// To be said before [`close`](Self::close).
    pub(crate) fn keep_info(&self, info: Info) {
        let _ = self.last_info.set(Box::new(info));
    }

    /// The connection is gone. What was said of it first counts.
    pub(crate) fn close(&self, errno: i32) {
        if errno != 0 && self.state() & is::CLOSED == 0 {
            self.error.store(errno, Ordering::Release);
        }
        self.set(is::CLOSED);
    }
}

/// The errno that tells an application why its connection ended (0: orderly).
pub(crate) fn errno_of(reason: CloseReason, state: u32) -> i32 {
    match reason {
        CloseReason::Normal => 0,
        CloseReason::Refused => libc::ECONNREFUSED,
        CloseReason::Unreachable(why) => match why {
            Unreachable::Network => libc::ENETUNREACH,
            Unreachable::Host => libc::EHOSTUNREACH,
            Unreachable::Protocol => libc::ENOPROTOOPT,
            Unreachable::Port => libc::ECONNREFUSED,
            Unreachable::SourceRoute => libc::EOPNOTSUPP,
            Unreachable::HostUnknown => libc::EHOSTDOWN,
            Unreachable::Isolated => libc::ENONET,
            Unreachable::Prohibited => libc::EACCES,
            Unreachable::Parameter => libc::EPROTO,
        },
        // As Linux says it: behind the peer's FIN a reset is a broken pipe.
        CloseReason::Reset if state & is::ENDED != 0 => libc::EPIPE,
        CloseReason::Reset => libc::ECONNRESET,
        CloseReason::TimedOut | CloseReason::UserTimeout => libc::ETIMEDOUT,
        // Given up while it was being opened.
        CloseReason::Aborted if state & is::CONNECTED == 0 => libc::ECONNRESET,
        CloseReason::Aborted | CloseReason::LocalClose | CloseReason::Evicted => libc::ECONNABORTED,
    }
}

/// The shard's end of a socket. Dropped without a word (the shard is gone), it tells the application.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) socket: Arc<Socket>,
    /// From the application.
    pub(crate) outgoing: OctetReader,
    /// To the application.
    pub(crate) incoming: OctetWriter,
}

impl End {
    /// Gives back the memory of queues that are empty, unless the application is at work on them.
    pub(crate) fn trim(&mut self) {
        // The writing end lets go first, the reading end frees.
        self.incoming.trim();
        if let Ok(mut reader) = self.socket.reader.try_lock() {
            reader.trim();
        }
        if let Ok(mut writer) = self.socket.writer.try_lock() {
            writer.trim();
        }
        self.outgoing.trim();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if self.socket.state() & is::CLOSED == 0 {
            self.socket.close(libc::ECONNABORTED);
        }
    }
}

/// A connection to be opened.
#[derive(Debug)]
pub(crate) struct Birth {
    pub(crate) end: End,
    pub(crate) remote: Endpoint,
    pub(crate) options: ConnectOptions,
}

/// The application's end of a socket, shared by all clones of a stream.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) socket: Arc<Socket>,
    pub(crate) settings: Settings,
}

impl Handle {
    pub(crate) fn reader(&self) -> MutexGuard<'_, OctetReader> {
        // A panic in the middle of a copy leaves the queue as it was.
        self.socket.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, OctetWriter> {
        self.socket.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// Whether there is room to write, and if it is the rest of a queue that was full, a fair amount of it. If not, the
    /// writers are told when there is.
    pub(crate) fn has_room(&self) -> bool {
        let socket = &self.socket;
        let writer = self.writer();
        let enough = || {
            let rest = !socket.is_full() || writer.room() >= writer.capacity().div_ceil(3);
            rest && writer.room() > 0 && socket.is_below_limit(socket.unsent(writer.written()))
        };
        if enough() {
            return true;
        }
        let asks = socket.found_no_room();
        let enough = enough();
        drop(writer);
        if asks {
            socket.ring(want::SEND);
        }
        enough
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // As Linux does (and RFC 1122 4.2.2.13 asks): what was received and not read makes it a reset.
        let unread = !self.reader().is_empty();
        let abort = unread || self.settings.linger() == Some(std::time::Duration::ZERO);
        self.socket.ring(if abort { want::ABORT } else { want::CLOSE });
        let may_wait = self.socket.doorbell().may_wait();
        if let Some(linger) = self.settings.linger().filter(|linger| may_wait && !abort && !linger.is_zero()) {
            let deadline = std::time::Instant::now().checked_add(linger);
            self.socket.writing.wait(deadline, || self.socket.state() & (is::FINISHED | is::CLOSED) != 0);
        }
    }
}

/// Sizes of a socket's two queues, octets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacities {
    pub(crate) send: usize,
    pub(crate) receive: usize,
}

/// Both ends of a new socket.
pub(crate) fn socket(
    doorbell: Arc<dyn Doorbell>,
    remote: SocketAddr,
    capacities: Capacities,
    budget: &Arc<OctetBudget>,
    initial: &Initial,
) -> (Handle, End) {
    let settings = Settings::from(initial);
    let capacities = Capacities {
        send: initial.send_buffer().map_or(capacities.send, |octets| octets as usize),
        receive: initial.receive_buffer().map_or(capacities.receive, |octets| octets as usize),
    };
    if !doorbell.may_wait() {
        settings.set_nonblocking(true);
    }
    let (writer, outgoing) = octet_queue(capacities.send, budget);
    let (incoming, reader) = octet_queue(capacities.receive, budget);
    let socket = Arc::new(Socket::new(doorbell, remote, capacities, reader, writer));
    socket.limit_unsent(initial.notsent_lowat());
    let end = End { socket: Arc::clone(&socket), outgoing, incoming };
    (Handle { socket, settings }, end)
}
