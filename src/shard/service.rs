//! What a service is and what it can do: the [`Service`] trait and the [`Io`] handle given to every call.
//!
//! A service runs inside a shard, on the shard's thread, to completion: it never blocks, never locks and never waits.
//! The shard calls it when something happened to one of its connections; it answers through [`Io`]. Several services
//! of the same name, one on each shard, talk by bounded messages ([`Io::send_to`]).
//!
//! Not here: how the shard keeps connections and stores, and any service.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::opening::{AcceptQueue, ConnectError, ConnectOptions, ListenError, ListenOptions};
use crate::flow::{Endpoint, Quad, ShardId};
use crate::tcp::{CloseReason, CongestionControl, Duration, Info, Instant, KeepAlive};

/// Names one connection of one shard. The generation tells a slot's present user from its earlier ones, so an id kept
/// too long is recognised as stale and never reaches a stranger's connection.
pub type ConnId = super::slab::Key;

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// What services of the same port send each other over shards. Made at the pace of connections, not of segments.
pub type Message = Box<dyn Any + Send>;

/// An application inside the shard. One instance for each shard and port; all calls come from the shard's thread.
///
/// Calls never nest: whatever a service does through [`Io`] reports back in a later call.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::{Ipv4Addr, Shutdown};
///
/// use trust::embed::Host;
/// use trust::net::TcpSocket;
/// use trust::shard::{ConnId, Io, Service};
/// use trust::tcp::{Duration, Instant};
///
/// /// Says at the end how much it was sent.
/// struct Count;
///
/// impl Service for Count {
///     fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
///         let unread = io.unread(conn);
///         io.consume(conn, unread);
///         // The word that is kept with a connection is enough for a number.
///         let octets = io.user(conn) + u64::from(unread);
///         io.set_user(conn, octets);
///         if io.at_eof(conn) {
///             io.send(conn, format!("{octets} octets").as_bytes());
///             io.close(conn);
///         }
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let (here, there) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
/// let mut now = Instant::ZERO;
/// let mut client = Host::builder().address(here).seed(1).build(now)?;
/// let mut server = Host::builder().address(there).service(Some(99), Box::new(Count)).seed(2).build(now)?;
/// let mut stream = TcpSocket::new(&client.stack()).connect_nonblocking((there, 99).into())?;
/// let mut run = || {
///     for _ in 0..5 {
///         client.poll(now, |packet| _ = server.receive(packet));
///         server.poll(now, |packet| _ = client.receive(packet));
///         now += Duration::from_millis(1);
///     }
/// };
/// run();
/// stream.write_all(b"one, two")?;
/// stream.shutdown(Shutdown::Write)?;
/// run();
/// let mut text = String::new();
/// stream.read_to_string(&mut text)?;
/// assert_eq!(text, "8 octets");
/// # Ok(())
/// # }
/// ```
pub trait Service: Send {
    /// A SYN for this service was answered: what may become a connection has begun, with this place in the order of
    /// [`Io::ticket`]. `tag` is its listener's ([`Io::listen`]), 0 on a fixed port. [`Service::accepted`] follows, or
    /// nothing. Of a SYN that was answered with a cookie nothing is known before that, and its place is that of its ACK.
    fn half_open(&mut self, io: &mut dyn Io, ticket: u64, quad: Quad, tag: u64) {
        let _ = (io, ticket, quad, tag);
    }

    /// A handshake is complete: passive (listening port) or active.
    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        let _ = (io, conn);
    }

    /// New in-order octets can be read, or the peer's stream has ended ([`Io::at_eof`]). Not repeated for octets the
    /// service leaves unread: the next call comes with the next octets.
    fn readable(&mut self, io: &mut dyn Io, conn: ConnId);

    /// The send side has room again after a call that found too little, or after an acknowledgment freed some; or the service
    /// has asked for this call ([`Io::call_again`]).
    fn writable(&mut self, io: &mut dyn Io, conn: ConnId) {
        let _ = (io, conn);
    }

    /// The peer announced urgent octets, or more of them (MUST-32); [`Io::urgent`] tells how many there are.
    fn urgent(&mut self, io: &mut dyn Io, conn: ConnId) {
        let _ = (io, conn);
    }

    /// The peer has acknowledged everything, our FIN included. Comes once after [`Io::shutdown`] or [`Io::close`], unless the
    /// connection is reset.
    fn finished(&mut self, io: &mut dyn Io, conn: ConnId) {
        let _ = (io, conn);
    }

    /// The connection is gone: the last call that names `conn`. Its user word and quad can still be read, and unless the
    /// service has closed it, its [`Io::info`] and what it has left unread, too.
    fn closed(&mut self, io: &mut dyn Io, conn: ConnId, reason: CloseReason) {
        let _ = (io, conn, reason);
    }

    /// A message from the same service on shard `from` (which may be this one). Order is kept for each pair of shards;
    /// between different senders there is none.
    fn message(&mut self, io: &mut dyn Io, from: ShardId, message: Message) {
        let _ = (io, from, message);
    }

    /// The engine is to stop soon, and asks again and again: whether this service holds something that is still to be sent
    /// before it closes a connection. Listeners are closed, connections that were closed ([`Io::close`]) are waited for, and
    /// perhaps those that are open ([`Engine::drain`](crate::engine::Engine::drain)): now is the time to end those with
    /// whose peers all is said, and to begin nothing that takes long.
    fn draining(&mut self, io: &mut dyn Io) -> bool {
        let _ = io;
        false
    }

    /// The engine is about to stop. What is sent now still goes out, if the connection may send it at once; nothing
    /// waits for an answer. Who has too much to say for one call goes on by [`Io::call_again`], for some tens of turns.
    fn stopping(&mut self, io: &mut dyn Io) {
        let _ = io;
    }

    /// Whether peers have been told of the end in words of the service's own, which a reset must not overtake: then its
    /// connections are left as they are when the engine stops. Others are reset.
    fn has_said_goodbye(&self) -> bool {
        false
    }

    /// A timer set by [`Io::set_timer`] has run out.
    fn timer(&mut self, io: &mut dyn Io, token: u64) {
        let _ = (io, token);
    }

    /// When its connections are probed and given up that say nothing, and whose peers may have vanished. Asked once a
    /// connection, when it is open; `None`, which is how connections begin (MUST-25): they are not. A configuration that
    /// switches keep-alive on for all ([`tcp::Config::keepalive`](crate::tcp::Config::keepalive)) comes first.
    fn keepalive(&self) -> Option<KeepAlive> {
        None
    }

    /// Whether connections of this service stay however long they are silent. Else the one that has been silent longest makes
    /// place for a new one when there are as many as there may be
    /// ([`Limits::idle_eviction`](super::Limits::idle_eviction)). Asked once, when the service is added to its shard.
    fn keeps_idle(&self) -> bool {
        false
    }

    /// Whether [`Service::has_mail`] is to be asked. Asked once, when the service is added to its shard.
    fn wants_mail(&self) -> bool {
        false
    }

    /// Whether other threads have left something to do for this service. Asked once a turn and before the thread parks,
    /// so it must be quick, and whoever leaves something wakes the thread. Each `true` draws one call of
    /// [`Service::mail`], and is then asked again, up to [`budget::MAIL`](super::budget::MAIL) times a turn; a service that
    /// stays at `true` keeps its thread from parking.
    fn has_mail(&self) -> bool {
        false
    }

    /// To do what other threads have left to do, or a piece of it: packets of all connections wait meanwhile.
    fn mail(&mut self, io: &mut dyn Io) {
        let _ = io;
    }
}

/// The handle through which a service acts, for one call. The shard gives it; whoever tests a service may have one of
/// its own.
///
/// No method blocks; only those that open something can fail. With a [`ConnId`] that is no longer alive every method is
/// a harmless no-op and yields zero, `false` or nothing. What is set on a connection counts from when it is open
/// ([`Service::accepted`]); only the fields of the IP header, the user timeout and the receive buffer count before,
/// too. Of the buffer the SYN has said what it has said.
pub trait Io {
    /// The shard's time in this turn; constant during a call.
    #[must_use]
    fn now(&self) -> Instant;

    /// For how long altogether the shard could not run, and its clock stood still: [`Io::now`] and this make the time of
    /// whoever drives the shard ([`Shard::begin_turn`](super::Shard::begin_turn)).
    #[must_use]
    fn absent(&self) -> Duration;

    /// The shard this call runs on.
    #[must_use]
    fn shard(&self) -> ShardId;

    /// How many shards there are; their ids are `0..shards`.
    #[must_use]
    fn shards(&self) -> u16;

    /// Both endpoints of `conn`.
    #[must_use]
    fn quad(&self, conn: ConnId) -> Quad;

    /// The place of `conn` in the order in which SYNs were answered, over all shards.
    #[must_use]
    fn ticket(&self, conn: ConnId) -> u64;

    /// The word the service keeps with `conn`; zero at first.
    #[must_use]
    fn user(&self, conn: ConnId) -> u64;

    /// Sets the word kept with `conn`.
    fn set_user(&mut self, conn: ConnId, user: u64);

    /// The first contiguous run of unread octets; empty when there is none. More may follow after [`Io::consume`].
    #[must_use]
    fn peek(&self, conn: ConnId) -> &[u8];

    /// Count of all unread in-order octets.
    #[must_use]
    fn unread(&self, conn: ConnId) -> u32;

    /// Drops the first `octets` unread octets (at most [`Io::unread`]); the receive window may open.
    fn consume(&mut self, conn: ConnId, octets: u32);

    /// Whether the peer's FIN has arrived in order and every octet before it has been consumed.
    #[must_use]
    fn at_eof(&self, conn: ConnId) -> bool;

    /// Queues a copy of as many octets of `data` as there is room for and tells how many; 0 means: wait for
    /// [`Service::writable`].
    fn send(&mut self, conn: ConnId, data: &[u8]) -> usize;

    /// Like [`Io::send`], but keeps a reference instead of a copy.
    fn send_static(&mut self, conn: ConnId, data: &'static [u8]) -> usize;

    /// Queues `bytes` without copying them: they are kept until the peer has acknowledged them and the device is done with
    /// the last frame that has some of them. So what matters is how large the allocation behind them is, not only what is
    /// queued of it. Less than 2,048 octets are copied, and so is all when too many pieces are under way already.
    ///
    /// Besides the application's own no reference is counted, but when `bytes` must be cut (see below).
    ///
    /// # Errors
    ///
    /// Gives back what there is no room for: the rest behind those octets that were queued, or all. Wait for
    /// [`Service::writable`] then. With a [`ConnId`] that is no longer alive nothing is queued.
    fn send_bytes(&mut self, conn: ConnId, bytes: Bytes) -> Result<(), Bytes>;

    /// How many octets [`Io::send`] would accept now.
    #[must_use]
    fn send_room(&self, conn: ConnId) -> u32;

    /// Asks for [`Service::writable`] as a [`send`](Io::send) does that found too little room.
    fn await_room(&mut self, conn: ConnId);

    /// Octets accepted and not yet acknowledged by the peer, whether on their way or still queued.
    #[must_use]
    fn unsent(&self, conn: ConnId) -> u32;

    /// Of these, the ones that were never sent (SIOCOUTQNSD of Linux).
    #[must_use]
    fn not_sent(&self, conn: ConnId) -> u32;

    /// Moves unread octets of `from` into the send side of `to`, as many as fit, and tells how many. Both may be the
    /// same connection.
    fn forward(&mut self, from: ConnId, to: ConnId) -> usize;

    /// Ends our direction: a FIN follows the queued octets. Reading goes on.
    fn shutdown(&mut self, conn: ConnId);

    /// The user behind the service is gone, and the service will [`close`](Self::close) when it has handed over the rest of the
    /// octets: until then the connection is an orphan like those that are closed, limited in number and in the time for
    /// which its peer may take nothing (OPS-22).
    fn leave(&mut self, conn: ConnId);

    /// Ends both directions: queued octets and a FIN still go out, what arrives is no longer wanted. With unread
    /// octets the connection is reset at once (RFC 1122 4.2.2.13). [`Service::closed`] is still to come.
    fn close(&mut self, conn: ConnId);

    /// Sends a RST and forgets the connection. [`Service::closed`] is still to come.
    fn abort(&mut self, conn: ConnId);

    /// Does as [`Io::abort`], for a connection whose place others need, and counts it
    /// ([`Counters::gave_way`](super::Counters::gave_way)).
    fn give_way(&mut self, conn: ConnId);

    /// Switches Nagle's algorithm off (`true`) or on.
    fn set_nodelay(&mut self, conn: ConnId, nodelay: bool);

    /// Keeps back what fills no segment, for at most 200 ms without anything else happening, or no longer; see
    /// [`Connection::set_cork`](crate::tcp::Connection::set_cork).
    fn set_cork(&mut self, conn: ConnId, cork: bool);

    /// Acknowledges at once, or delays again; see
    /// [`Connection::set_quickack`](crate::tcp::Connection::set_quickack).
    fn set_quickack(&mut self, conn: ConnId, quick: bool);

    /// Probes the peer when it is silent, or no longer (RFC 9293 3.8.4). At first `tcp::Config::keepalive` decides.
    fn set_keepalive(&mut self, conn: ConnId, keepalive: Option<KeepAlive>);

    /// Limits how long octets may stay unacknowledged, or unsent before a closed window; see
    /// [`Connection::set_user_timeout`](crate::tcp::Connection::set_user_timeout).
    fn set_user_timeout(&mut self, conn: ConnId, limit: Option<Duration>);

    /// Goes on with another congestion control. At first `tcp::Config::congestion` decides.
    fn set_congestion(&mut self, conn: ConnId, kind: CongestionControl);

    /// Limits the octets queued, sent ones included until they are acknowledged. At first `tcp::Config::send_buffer` does,
    /// and the limit grows; one that is set does not.
    fn set_send_buffer(&mut self, conn: ConnId, octets: u32);

    /// Limits the octets that may lie unread; see
    /// [`Connection::set_receive_buffer`](crate::tcp::Connection::set_receive_buffer).
    fn set_receive_buffer(&mut self, conn: ConnId, octets: u32);

    /// Limits the octets queued that were never sent ([`Io::not_sent`]); `None`: the send buffer alone counts. After a
    /// [`Io::send`] that found too little room, [`Service::writable`] comes when half of them are on their way.
    fn set_notsent_lowat(&mut self, conn: ConnId, octets: Option<u32>);

    /// TTL or hop limit of the packets from now on, at least 1; 64 at first (MUST-49).
    fn set_ttl(&mut self, conn: ConnId, ttl: u8);

    /// TOS octet or traffic class of the packets from now on: DSCP in the upper six bits (MUST-48). The lower two are
    /// TCP's own and do not count (SHLD-22). 0 at first.
    fn set_tos(&mut self, conn: ConnId, tos: u8);

    /// Whether urgent octets lie among the others (SO_OOBINLINE). Here they always do (RFC6093-6), so this sets nothing; it
    /// tells whether the wish is granted.
    fn set_oobinline(&mut self, _conn: ConnId, inline: bool) -> bool {
        inline
    }

    /// How many of the octets ahead, unread or still to come, the peer has called urgent (MUST-33); 0 when none.
    #[must_use]
    fn urgent(&self, conn: ConnId) -> u32;

    /// Counters and estimates of the connection; `None` when it is gone.
    #[must_use]
    fn info(&self, conn: ConnId) -> Option<Info>;

    /// Asks for a call of [`Service::writable`] soon, with nothing to wait for: for what is too long for one call, so that
    /// others have their turn meanwhile.
    fn call_again(&mut self, conn: ConnId);

    /// Asks for one call of [`Service::timer`] with `token` at or after `at`. Cannot be taken back: give tokens a
    /// generation, or check on arrival whether they still mean something.
    fn set_timer(&mut self, at: Instant, token: u64);

    /// Sends `message` to the same service (same port) on `shard`, which may be this one. Never nests: it is delivered
    /// in a later call.
    fn send_to(&mut self, shard: ShardId, message: Message);

    /// Which shard a connection between these ends belongs to: the only one that can open it.
    #[must_use]
    fn owner(&self, quad: &Quad) -> ShardId;

    /// Listens on `local` of this shard; an unspecified address stands for any of ours of its family. Which of several
    /// listeners of a port gets a SYN: one with the exact address, then one on any address, then a service whose own port
    /// it is. To serve all of a port's connections, listen on every shard.
    ///
    /// `backlog` bounds the connections in SYN-RECEIVED that take a record (one at least); further SYNs are answered with
    /// cookies, or dropped, so that their senders try again (OPS-19, [`Limits::syn_cookies`](super::Limits::syn_cookies)). `tag` is the service's own, see [`Io::tag`].
    ///
    /// # Errors
    ///
    /// See [`ListenError`]; existing listeners and connections stay as they are (MUST-41).
    fn listen(&mut self, local: Endpoint, backlog: u32, tag: u64) -> Result<(), ListenError>;

    /// Ends a listener of this service. Its connections in SYN-RECEIVED are reset (SM-LIS-6), established ones live on.
    fn unlisten(&mut self, local: Endpoint);

    /// Says whether this service takes new connections of its listener on `local`; at first it does. While it does not,
    /// SYNs are dropped, and handshakes that would be complete wait: the peer's ACK is ignored and the SYN-ACK repeated,
    /// until `syn_ack_retries` are used up. As Linux does with a full accept queue.
    fn set_accepting(&mut self, local: Endpoint, accepting: bool);

    /// Has the connections of this service's listener on `local` take places in `queue`, which may be shared with listeners
    /// on other shards. While it is full, things are as with [`Io::set_accepting`] at `false`. Who accepts a connection
    /// [leaves](AcceptQueue::leave) its place.
    fn set_accept_queue(&mut self, local: Endpoint, queue: Arc<AcceptQueue>);

    /// Says what the connections of this service's listener on `local` begin with, from the next SYN on.
    fn set_listen_options(&mut self, local: Endpoint, options: &ListenOptions);

    /// The tag of the listener that an accepted connection came through, also when that has ended since; 0 for others.
    #[must_use]
    fn tag(&self, conn: ConnId) -> u64;

    /// Opens a connection to `remote`. The service hears [`Service::accepted`], or [`Service::closed`] with the reason.
    ///
    /// The connection is this shard's, so that only ports count which lead segments here (RFC6056-MC): of 32,768 towards
    /// one remote end about as many as the number of shards ([`Io::shards`]) leaves to each. No other shard is tried. A socket
    /// has no shard before it is connected, and goes on to the next one; a service is on this shard, with all that it knows of
    /// the connection, and is told a [`ConnId`] that means nothing elsewhere. Who can do without that has its instance on
    /// another shard connect, by [`Io::send_to`].
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]; then it hears nothing. [`ConnectError::NoPort`]: this shard has no port left towards `remote`,
    /// though others may have some.
    fn connect(&mut self, remote: Endpoint, options: &ConnectOptions) -> Result<ConnId, ConnectError>;
}
