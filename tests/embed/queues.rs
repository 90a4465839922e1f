//! Hosts on devices' queues and on queues of the caller's own.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::RawFd;

use trust::device::memory::{MemoryOptions, pair};
use trust::device::{Device, QueuePair, Received, RxQueue, Transmitted, TxQueue};
use trust::net::TcpSocket;
use trust::shard::Offload;
use trust::tcp::{Duration, Instant};
use trust::wire::vnet::{RxOffload, TxChecksum, TxOffload};

use crate::link::{SERVER, at, client, octets, server};
use crate::transfers::{read_some, write_some};

const ALL: Offload = Offload { checksum: true, tso4: true, tso6: true };

/// A megabyte there and back again over these queues, polled in turn; how many packets the client sent.
fn echo(offload: Offload, mtu: u16, queues: [QueuePair; 2]) -> u64 {
    let mut now = Instant::from_secs(1);
    let mut client = client().offload(offload).mtu(mtu).build(now).unwrap();
    let mut server = server().offload(offload).mtu(mtu).build(now).unwrap();
    let listener = server.stack().bind((SERVER, 80)).unwrap();
    let stream = TcpSocket::new(&client.stack()).connect_nonblocking(at(80)).unwrap();
    let [(mut client_rx, mut client_tx), (mut server_rx, mut server_tx)] = queues;
    let data = octets(1_000_000, 1);
    let (mut accepted, mut there, mut back) = (None, Vec::new(), Vec::new());
    let (mut written, mut echoed, mut finished, mut ended) = (0, 0, false, false);
    for _ in 0..1_000_000 {
        client.poll_queues(now, &mut *client_rx, &mut *client_tx).unwrap();
        server.poll_queues(now, &mut *server_rx, &mut *server_tx).unwrap();
        accepted = accepted.or_else(|| listener.accept().ok());
        if stream.peer_addr().is_ok() {
            write_some(&stream, &data, &mut written, 100_000);
        }
        if let Some((accepted, _)) = &accepted {
            let end = read_some(accepted, &mut there, 100_000);
            echoed += (&*accepted).write(&there[echoed..]).unwrap_or(0);
            if end && echoed == there.len() && !finished {
                finished = true;
                accepted.shutdown(Shutdown::Write).unwrap();
            }
        }
        ended = ended || (accepted.is_some() && read_some(&stream, &mut back, 100_000));
        if ended {
            break;
        }
        now += Duration::from_micros(300);
    }
    assert!(ended && back == data, "{} octets came back", back.len());
    let dropped = client.counters().dropped_total() + server.counters().dropped_total();
    assert_eq!(dropped, 0);
    client.counters().packets_out
}

fn memory(offload: bool, mtu: u16, slots: usize) -> [QueuePair; 2] {
    let options = MemoryOptions { offload, mtu, slots, ..MemoryOptions::default() };
    let (mut a, mut b) = pair(&options).unwrap();
    [a.take_queues().remove(0), b.take_queues().remove(0)]
}

#[test]
fn a_device_with_offload_gets_super_segments() {
    let packets = echo(ALL, 1_500, memory(true, 1_500, 256));
    assert!(packets < 400, "{packets} packets for a megabyte");
}

/// With few places a super-segment is often cut in several polls.
#[test]
fn a_device_without_offload_gets_wire_packets_as_it_has_room() {
    for slots in [1, 2, 7, 256] {
        echo(Offload::default(), 576, memory(false, 576, slots));
    }
}

#[test]
fn checksums_alone_can_be_left_to_the_device() {
    echo(Offload { checksum: true, ..Offload::default() }, 1_500, memory(true, 1_500, 256));
}

#[test]
fn the_largest_packets_pass_through_devices() {
    for (offload, offloads) in [(Offload::default(), false), (ALL, true)] {
        echo(offload, 65_535, memory(offloads, 65_535, 8));
    }
}

/// A user's own queues: a list, which takes so many packets at a time and loses every so-many-th.
#[derive(Default)]
struct List {
    packets: VecDeque<Vec<u8>>,
}

type Shared = std::sync::Arc<std::sync::Mutex<List>>;

struct Out {
    list: Shared,
    room: usize,
    mtu: usize,
}

impl TxQueue for Out {
    fn transmit(&mut self, header: &[u8], payload: &[&[u8]], offload: &TxOffload) -> io::Result<Transmitted> {
        assert_eq!((offload.checksum, offload.gso_size), (TxChecksum::Done, 0), "this queue does nothing itself");
        let mut list = self.list.lock().unwrap();
        if list.packets.len() >= self.room {
            return Ok(Transmitted::Full);
        }
        let packet = [header, &payload.concat()].concat();
        assert!(packet.len() <= self.mtu, "{} octets", packet.len());
        list.packets.push_back(packet);
        Ok(Transmitted::Sent)
    }
}

struct In(Shared);

impl RxQueue for In {
    fn receive(&mut self, buf: &mut [u8]) -> io::Result<Option<Received>> {
        let Some(packet) = self.0.lock().unwrap().packets.pop_front() else { return Ok(None) };
        // With something in front of it, as from a driver with a header of its own.
        buf[10..10 + packet.len()].copy_from_slice(&packet);
        Ok(Some(Received { start: 10, len: packet.len(), offload: RxOffload::default() }))
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }
}

#[test]
fn a_users_own_queues_carry_what_a_device_does() {
    for (room, mtu) in [(1, 1_500), (3, 1_500), (100, 576), (5, 9_000)] {
        let (there, back) = (Shared::default(), Shared::default());
        let out = |list: &Shared| Out { list: list.clone(), room, mtu: mtu.into() };
        let client: QueuePair = (Box::new(In(back.clone())), Box::new(out(&there)));
        let server: QueuePair = (Box::new(In(there.clone())), Box::new(out(&back)));
        echo(Offload::default(), mtu, [client, server]);
    }
}

/// What a full queue left is first in the next poll, wherever that sends to.
#[test]
fn the_rest_of_a_super_segment_follows_by_another_way() {
    let list = Shared::default();
    let mut out = Out { list: list.clone(), room: 4, mtu: 1_500 };
    let mut now = Instant::from_secs(1);
    let (mut a, mut b) = (client().build(now).unwrap(), server().build(now).unwrap());
    let listener = b.stack().bind((SERVER, 80)).unwrap();
    let stream = TcpSocket::new(&a.stack()).connect_nonblocking(at(80)).unwrap();
    for _ in 0..3 {
        a.poll(now, |packet| assert!(b.receive(packet)));
        b.poll(now, |packet| assert!(a.receive(packet)));
        now += Duration::from_millis(1);
    }
    let (accepted, _) = listener.accept().unwrap();
    let (data, mut done, mut got) = (octets(30_000, 1), 0, Vec::new());
    write_some(&stream, &data, &mut done, data.len());
    assert_eq!(done, data.len());
    a.poll_into(now, &mut out).unwrap();
    assert_eq!(list.lock().unwrap().packets.len(), 4);
    assert_eq!(a.next_deadline(), Some(now + Duration::from_micros(200)), "tries again soon");
    let mut rest = 0;
    for packet in list.lock().unwrap().packets.drain(..) {
        assert!(b.receive(&packet));
    }
    for _ in 0..20 {
        a.poll(now, |packet| {
            rest += 1;
            assert!(b.receive(packet));
        });
        b.poll(now, |packet| assert!(a.receive(packet)));
        read_some(&accepted, &mut got, 10_000);
        now += Duration::from_millis(1);
    }
    assert!(got == data);
    assert_eq!(a.counters().retransmits, 0, "nothing was sent twice in {rest} packets");
    assert_eq!(rest + 4, 30_000usize.div_ceil(1_448), "the FIN is in the last");
}

#[test]
fn packets_come_in_without_a_copy_and_no_more_than_may_wait() {
    let now = Instant::from_secs(1);
    let mut host = server().inbox(2).build(now).unwrap();
    let mut sender = client().build(now).unwrap();
    let _stream = TcpSocket::new(&sender.stack()).connect_nonblocking(at(80)).unwrap();
    let mut syn = Vec::new();
    sender.poll(now, |packet| syn = packet.to_vec());
    let mut buffer = host.buffer();
    buffer.storage_mut()[20..20 + syn.len()].copy_from_slice(&syn);
    buffer.set_range(20, syn.len());
    assert_eq!(host.buffers_in_use(), 1);
    assert!(host.receive_buffer(buffer, RxOffload::default()));
    assert!(host.receive(&syn));
    assert!(!host.receive(&syn), "two wait already");
    let spare = host.buffer();
    assert!(!host.receive_buffer(spare, RxOffload::default()));
    let mut answers = 0;
    host.poll(now, |_| answers += 1);
    assert_eq!(answers, 2, "nobody listens: a RST for each");
    assert_eq!((host.counters().packets_in, host.buffers_in_use()), (2, 0));
    assert!(!host.receive(&[0; 70_000]), "longer than any packet");
    assert!(host.receive(&[]) && host.receive(&[0x45; 3]), "nonsense is dropped by the host");
    host.poll(now, |_| panic!("and not answered"));
    assert_eq!((host.counters().dropped_total(), host.buffers_in_use()), (2, 0));
}
