//! The ends of connections as a service hears of them: what was acknowledged, what can still be read, what is remembered;
//! and the places of those that wait to be accepted.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use trust::flow::{Endpoint, ShardId};
use trust::shard::{AcceptQueue, ConnId, ConnectError, ConnectOptions, DropReason, Io, Message, Service};
use trust::tcp::{CloseReason, Duration, State};
use trust::wire::options::{TcpOptions, Timestamps};
use trust::wire::tcp::{Flags, TcpHeader};

use crate::rig::{self, OURS, PEER, Peer, Rig, endings, probe, tcp_packet};

const PORT: u16 = 7;

/// What an [`Ear`] has heard, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    Accepted,
    Finished,
    Closed { reason: CloseReason, unread: Vec<u8>, eof: bool, info: Option<(State, u64)> },
}

type Act = fn(&mut dyn Io, ConnId);

/// A service that reads nothing until the end.
struct Ear {
    accepted: Act,
    readable: Act,
    heard: Arc<Mutex<Vec<Heard>>>,
}

fn ear(accepted: Act, readable: Act) -> (Box<dyn Service>, Arc<Mutex<Vec<Heard>>>) {
    let heard = Arc::default();
    (Box::new(Ear { accepted, readable, heard: Arc::clone(&heard) }), heard)
}

const NOTHING: Act = |_, _| {};

impl Service for Ear {
    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        self.heard.lock().unwrap().push(Heard::Accepted);
        (self.accepted)(io, conn);
    }

    fn readable(&mut self, io: &mut dyn Io, conn: ConnId) {
        (self.readable)(io, conn);
    }

    fn finished(&mut self, _: &mut dyn Io, _: ConnId) {
        self.heard.lock().unwrap().push(Heard::Finished);
    }

    fn closed(&mut self, io: &mut dyn Io, conn: ConnId, reason: CloseReason) {
        let mut unread = Vec::new();
        while !io.peek(conn).is_empty() {
            unread.extend_from_slice(io.peek(conn));
            io.consume(conn, io.peek(conn).len() as u32);
        }
        let info = io.info(conn).map(|info| (info.state, info.bytes_received));
        self.heard.lock().unwrap().push(Heard::Closed { reason, unread, eof: io.at_eof(conn), info });
    }
}

/// A connect whose user gives up in the very turn in which the SYN-ACK arrives: the ACK goes out before the RST, so that
/// the peer's listener has a connection that was reset, and not none.
#[test]
fn regression_an_abort_in_the_turn_of_the_syn_ack_acknowledges_it_first() {
    let mut rig = Rig::new();
    let (service, heard) = ear(|io, conn| io.abort(conn), NOTHING);
    let service = rig.shard.add_service(None, service);
    rig.begin();
    rig.shard.connect(service, Endpoint::new(IpAddr::V4(PEER), 5_000)).unwrap();
    rig.finish();
    let syn = rig.next();
    let header = TcpHeader {
        src_port: 5_000,
        dst_port: syn.header.src_port,
        seq: 70_000,
        ack: syn.header.seq.wrapping_add(1),
        flags: Flags::SYN | Flags::ACK,
        window: 60_000,
        options: TcpOptions { mss: Some(1_460), ..TcpOptions::default() },
        ..TcpHeader::default()
    };
    rig.turn(&[tcp_packet(PEER, OURS, &header, &[])]);
    let sent: Vec<_> = rig.sent.iter().map(|sent| (sent.header.flags, sent.header.seq, sent.header.ack)).collect();
    let (seq, ack) = (header.ack, 70_001);
    assert_eq!(sent, [(Flags::ACK, seq, ack), (Flags::RST | Flags::ACK, seq, ack)]);
    assert_eq!(heard.lock().unwrap().len(), 2);
    rig.sent.clear();
    rig.assert_empty();
}

/// Both ways to end: after a half-close, and as an orphan, which nobody else reports on.
#[test]
fn the_acknowledgment_of_the_fin_is_told_once() {
    for act in [(|io, conn| io.shutdown(conn)) as Act, |io, conn| io.close(conn)] {
        let mut rig = Rig::new();
        let (service, heard) = ear(act, NOTHING);
        rig.shard.add_service(Some(PORT), service);
        let mut peer = rig.connect(40_000, PORT);
        peer.take(&mut rig);
        assert!(peer.got_fin);
        assert_eq!(*heard.lock().unwrap(), [Heard::Accepted], "not before the peer says so");
        rig.turn(&[peer.ack()]);
        assert_eq!(*heard.lock().unwrap(), [Heard::Accepted, Heard::Finished]);
        rig.turn(&[peer.ack()]);
        let fin = peer.fin();
        rig.turn(&[fin]);
        let heard = heard.lock().unwrap();
        assert!(matches!(heard[..], [Heard::Accepted, Heard::Finished, Heard::Closed { .. }]), "{heard:?}");
    }
}

/// As Linux keeps a receive queue after a reset; RFC 9293 3.10.7.4 would have it flushed.
#[test]
fn what_came_before_a_reset_can_be_read_when_it_is_told() {
    for fin in [false, true] {
        let mut rig = Rig::new();
        let (service, heard) = ear(NOTHING, NOTHING);
        rig.shard.add_service(Some(PORT), service);
        let mut peer = rig.connect(40_000, PORT);
        let mut packets = vec![peer.data(b"last "), peer.data(b"words")];
        if fin {
            packets.push(peer.fin());
        }
        rig.turn(&packets);
        rig.turn(&[peer.rst()]);
        let expected = Heard::Closed {
            reason: CloseReason::Reset,
            unread: b"last words".to_vec(),
            eof: fin,
            info: Some((State::Closed, 10)),
        };
        assert_eq!(*heard.lock().unwrap(), [Heard::Accepted, expected]);
        rig.sent.clear();
        rig.assert_empty();
    }
}

/// Who reads nothing in `closed` leaves nothing behind.
#[test]
fn what_is_not_read_after_a_reset_is_freed() {
    let mut rig = Rig::new();
    let (service, _) = rig::probe(|_, _| {});
    rig.shard.add_service(Some(PORT), service);
    for port in 40_000..40_100 {
        let mut peer = rig.connect(port, PORT);
        let data = peer.data(&[1; 1_000]);
        let early = peer.packet_at(500, Flags::ACK, &[2; 700]);
        rig.turn(&[data, early]);
        rig.turn(&[peer.rst()]);
    }
    rig.sent.clear();
    rig.assert_empty();
}

/// A service that has closed is told nothing of what came afterwards.
#[test]
fn there_is_no_info_for_who_has_closed() {
    let mut rig = Rig::new();
    let (service, heard) = ear(NOTHING, |io, conn| {
        io.consume(conn, io.unread(conn));
        io.close(conn);
    });
    rig.shard.add_service(Some(PORT), service);
    let mut peer = rig.connect(40_000, PORT);
    let data = peer.data(b"x");
    rig.turn(&[data]);
    peer.take(&mut rig);
    rig.turn(&[peer.rst()]);
    let expected = Heard::Closed { reason: CloseReason::Reset, unread: vec![], eof: false, info: None };
    assert_eq!(*heard.lock().unwrap(), [Heard::Accepted, expected]);
}

/// SC-19: the places are shared by two shards; a completed handshake waits for one as long as its SYN-ACK is repeated.
#[test]
fn sc_19_the_accept_queue_of_a_listener_is_one_for_all_shards() {
    let places = Arc::new(AcceptQueue::new(3));
    let accepted = Arc::new(AtomicU64::new(0));
    let mut rigs: Vec<Rig> = (0..2).map(|_| rig_with_queue(&places, &accepted)).collect();
    let count = || accepted.load(Ordering::Relaxed);
    // One handshake of each shard is half done when the queue fills up.
    let mut waiting: Vec<_> = (0..2).map(|_| Peer::new(41_000, PORT)).collect();
    for (rig, peer) in rigs.iter_mut().zip(&mut waiting) {
        rig.turn(&[peer.syn()]);
        let syn_ack = rig.next();
        peer.seq = syn_ack.header.ack;
        peer.ack = syn_ack.header.seq.wrapping_add(1);
    }
    for (index, port) in [(0, 40_000), (1, 40_000), (0, 40_001)] {
        assert!(!places.is_full());
        rigs[index].connect(port, PORT);
    }
    assert!(places.is_full());
    assert_eq!(count(), 3);
    for (rig, peer) in rigs.iter_mut().zip(&waiting) {
        rig.turn(&[peer.ack()]);
        rig.turn(&[Peer::new(42_000, PORT).syn()]);
        assert!(rig.sent.is_empty(), "no answer at all");
        assert_eq!(rig.dropped(DropReason::AcceptQueueFull), 2);
    }
    assert_eq!(count(), 3);
    places.leave();
    for (rig, peer) in rigs.iter_mut().zip(&waiting) {
        rig.advance(Duration::from_millis(1_100));
        assert!(rig.next().has(Flags::SYN | Flags::ACK), "repeated");
        rig.turn(&[peer.ack()]);
    }
    assert_eq!(count(), 4, "one of the two has got the place");
    // Segments that complete nothing keep no place.
    places.leave();
    rigs[1].turn(&[waiting[1].packet_at(0, Flags::RST, &[])]);
    assert!(!places.is_full());
}

/// A shard that listens with these places.
fn rig_with_queue(places: &Arc<AcceptQueue>, accepted: &Arc<AtomicU64>) -> Rig {
    struct Listens(Arc<AcceptQueue>, Arc<AtomicU64>);
    impl Service for Listens {
        fn message(&mut self, io: &mut dyn Io, _: ShardId, _: Message) {
            let local = Endpoint::new(IpAddr::V4(OURS), PORT);
            io.listen(local, 100, 1).unwrap();
            io.set_accept_queue(local, Arc::clone(&self.0));
        }
        fn accepted(&mut self, _: &mut dyn Io, _: ConnId) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
        fn readable(&mut self, _: &mut dyn Io, _: ConnId) {}
    }
    let mut rig = Rig::new();
    let service = rig.shard.add_service(None, Box::new(Listens(Arc::clone(places), Arc::clone(accepted))));
    rig.begin();
    rig.shard.message(service, ShardId(0), Box::new(()));
    rig.finish();
    rig
}

type Opened = Arc<Mutex<Vec<Result<ConnId, ConnectError>>>>;

/// A service that opens a connection from [`OWN_PORT`] to the peer for each message, and closes it as soon as it is open.
#[derive(Clone, Default)]
struct Opener {
    opened: Opened,
    endings: Arc<Mutex<Vec<CloseReason>>>,
}

const OWN_PORT: u16 = 1_234;
const ITS_PORT: u16 = 5_000;

impl Service for Opener {
    fn message(&mut self, io: &mut dyn Io, _: ShardId, _: Message) {
        let local = Some(Endpoint::new(IpAddr::V4(OURS), OWN_PORT));
        let options = ConnectOptions { local, ..ConnectOptions::default() };
        let result = io.connect(Endpoint::new(IpAddr::V4(PEER), ITS_PORT), &options);
        self.opened.lock().unwrap().push(result);
    }

    fn accepted(&mut self, io: &mut dyn Io, conn: ConnId) {
        io.close(conn);
    }

    fn readable(&mut self, _: &mut dyn Io, _: ConnId) {}

    fn closed(&mut self, _: &mut dyn Io, _: ConnId, reason: CloseReason) {
        self.endings.lock().unwrap().push(reason);
    }
}

impl Opener {
    fn open(&self, rig: &mut Rig, service: u16) -> Result<ConnId, ConnectError> {
        rig.begin();
        rig.shard.message(service, ShardId(0), Box::new(()));
        rig.finish();
        self.opened.lock().unwrap().pop().unwrap()
    }
}

/// What the peer sends: numbers as given, timestamps if there are any.
fn from_peer(flags: Flags, seq: u32, ack: u32, stamps: Option<Timestamps>) -> Vec<u8> {
    let syn = flags.contains(Flags::SYN);
    let options = TcpOptions { mss: syn.then_some(1_460), timestamps: stamps, ..TcpOptions::default() };
    let header =
        TcpHeader { src_port: ITS_PORT, dst_port: OWN_PORT, seq, ack, flags, window: 60_000, urgent: 0, options };
    tcp_packet(PEER, OURS, &header, &[])
}

/// A connection that we opened and closed, in TIME-WAIT: the next number we would send, and our last TSval.
fn into_time_wait(rig: &mut Rig, opener: &Opener, service: u16, stamps: bool) -> (u32, u32) {
    opener.open(rig, service).unwrap();
    let syn = rig.next();
    let ours = syn.header.options.timestamps.unwrap();
    let echo = stamps.then_some(Timestamps { val: 70, ecr: ours.val });
    let next = syn.header.seq.wrapping_add(1);
    rig.turn(&[from_peer(Flags::SYN | Flags::ACK, 90_000, next, echo)]);
    rig.turn(&[from_peer(Flags::FIN | Flags::ACK, 90_001, next.wrapping_add(1), echo)]);
    assert_eq!((rig.counters().time_wait, rig.counters().connections), (1, 0));
    let last = rig.sent.iter().filter_map(|sent| sent.header.options.timestamps).map(|stamps| stamps.val).next_back();
    rig.sent.clear();
    (next.wrapping_add(1), last.unwrap_or(ours.val))
}

/// OPS-20, SM-TW-6: an open of ours takes a quad over from TIME-WAIT, if timestamps tell the new from the old and a second
/// has gone by.
#[test]
fn ops_20_an_open_over_time_wait_needs_timestamps_and_a_second() {
    for (stamps, millis, granted) in [(true, 0, false), (true, 900, false), (true, 1_000, true), (false, 30_000, false)]
    {
        let (mut rig, opener) = (Rig::new(), Opener::default());
        let service = rig.shard.add_service(None, Box::new(opener.clone()));
        let (next, last) = into_time_wait(&mut rig, &opener, service, stamps);
        rig.advance(Duration::from_millis(millis));
        let result = opener.open(&mut rig, service);
        assert_eq!(result.is_ok(), granted, "{stamps} {millis}: {result:?}");
        if !granted {
            assert_eq!(result, Err(ConnectError::AddressInUse));
            continue;
        }
        let syn = rig.next();
        let ahead = syn.header.seq.wrapping_sub(next);
        assert!(ahead > 65_535 && ahead < 1 << 31, "the ISS is {ahead} ahead of what the old one has sent");
        let val = syn.header.options.timestamps.unwrap().val;
        assert!(val.wrapping_sub(last) as i32 > 0, "{val} after {last}");
        assert_eq!(rig.counters().time_wait, 1, "until the peer has agreed");
        let echo = Some(Timestamps { val: 71, ecr: val });
        rig.turn(&[from_peer(Flags::SYN | Flags::ACK, 900_000, syn.header.seq.wrapping_add(1), echo)]);
        assert_eq!((rig.counters().time_wait, rig.counters().time_wait_reused), (0, 1));
        assert_eq!(rig.counters().connected, 2);
    }
}

/// The peer may not have seen the end of the old connection: it answers with an ACK, is reset, and takes the next SYN.
/// Nothing of that, nor a refusal, takes the record away.
#[test]
fn ops_20_the_record_stays_until_the_new_connection_is_open() {
    let (mut rig, opener) = (Rig::new(), Opener::default());
    let service = rig.shard.add_service(None, Box::new(opener.clone()));
    let (next, _) = into_time_wait(&mut rig, &opener, service, true);
    rig.advance(Duration::from_secs(2));
    opener.open(&mut rig, service).unwrap();
    let syn = rig.next();
    let val = syn.header.options.timestamps.unwrap().val;
    let echo = Some(Timestamps { val: 71, ecr: val });
    // LAST-ACK of the peer.
    rig.turn(&[from_peer(Flags::ACK, 90_002, next, echo)]);
    let reset = rig.next();
    assert!(reset.has(Flags::RST) && reset.header.seq == next, "{:?}", reset.header);
    rig.advance(Duration::from_millis(1_100));
    assert_eq!(rig.next().header.seq, syn.header.seq, "the SYN again");
    rig.turn(&[from_peer(Flags::RST | Flags::ACK, 0, syn.header.seq.wrapping_add(1), None)]);
    assert_eq!(opener.endings.lock().unwrap().last(), Some(&CloseReason::Refused));
    assert_eq!((rig.counters().time_wait, rig.counters().time_wait_reused), (1, 0));
}

/// However many there are, and however little of the tx ring is free: each peer hears of the end.
#[test]
fn the_reset_of_all_connections_waits_for_room_in_the_ring() {
    let mut rig = Rig::with(|_| {}, 256, 64);
    let (service, calls) = probe(|_, _| {});
    rig.shard.add_service(Some(PORT), service);
    for place in 0..200 {
        rig.connect(40_000 + place, PORT);
    }
    rig.sent.clear();
    let mut rounds = 0;
    loop {
        rounds += 1;
        rig.begin();
        let all = rig.shard.reset_connections();
        rig.finish();
        if all {
            break;
        }
    }
    assert!((2..200).contains(&rounds), "{rounds}");
    assert_eq!(rig.sent.iter().filter(|sent| sent.has(Flags::RST)).count(), 200);
    assert_eq!(endings(&calls), vec![CloseReason::Aborted; 200]);
}
