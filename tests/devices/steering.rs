//! The kernel's steering program and the Rust hash agree, packet by packet. The kernel runs the program
//! (BPF_PROG_TEST_RUN), so this needs the right to use bpf(2): without it the tests are ignored with the reason, or
//! fail when `TRUST_REQUIRE_TUN=1` is set. The last test attaches the program to a device and sends through it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use libtest_mimic::{Completion, Failed, Trial};
use trust::device::{BUFFER_LEN, Device, TunDevice, TunOptions};
use trust::flow::{Endpoint, Quad, ShardId};
use trust::steering::program::{self, Steering};
use trust::steering::{BUCKETS, SteeringKeys};

use crate::netns;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::ignorable_test("program_and_rust_agree_on_10_000_packets", || with_program(1, agree)),
        Trial::ignorable_test("plain_tcp_reaches_the_owner_of_its_quad", || with_program(3, owner_of_quad)),
        Trial::ignorable_test("vacant_buckets_go_where_the_hash_says", || with_program(4, vacant)),
        Trial::ignorable_test("births_program_and_rust_agree_on_10_000_packets", || with_births(agree_on_births)),
        Trial::ignorable_test("births_go_to_the_cpu_that_sends", || with_births(births)),
        Trial::ignorable_test("births_that_race_have_one_winner", || with_births(race)),
        Trial::ignorable_test("a_change_of_the_table_is_seen_at_once", || with_program(4, change)),
        match program::load(&steering_keys(), 4) {
            Ok(steering) => netns::trial("the_kernel_obeys_the_table", move || obey(&steering)),
            // For the reason.
            Err(_) => Trial::ignorable_test("the_kernel_obeys_the_table", || with_program(4, |_, _| Ok(()))),
        },
    ]
}

fn steering_keys() -> SteeringKeys {
    SteeringKeys::from_random(*b"any 16 octets do")
}

type Test = fn(&SteeringKeys, &Steering) -> Result<(), Failed>;

fn with_program(shards: u16, test: Test) -> Result<Completion, Failed> {
    let keys = steering_keys();
    match program::load(&keys, shards) {
        Ok(steering) => test(&keys, &steering).map(|()| Completion::Completed),
        Err(e)
            if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
                && std::env::var_os("TRUST_REQUIRE_TUN").is_none_or(|v| v != "1") =>
        {
            Ok(Completion::ignored_with(e))
        }
        Err(e) => Err(e.into()),
    }
}

/// A table whose entry `i` says owner `i`: the program then returns the hash itself.
fn reveal_hash(steering: &Steering) {
    for bucket in 0..BUCKETS {
        steering.table.set(bucket as u32, Some(ShardId(bucket as u16)));
    }
}

fn agree(keys: &SteeringKeys, steering: &Steering) -> Result<(), Failed> {
    reveal_hash(steering);
    let mut random = Rng::with_seed(0x5eed);
    let mut by_class = [0u32; CLASSES];
    for i in 0..10_000 {
        let class = i % CLASSES;
        let packet = generate(class, &mut random);
        let (program, rust) = (steering.run(&packet)?, keys.hash_packet(&packet));
        if program != rust {
            return Err(format!("class {class}: program {program}, Rust {rust}, packet {packet:02x?}").into());
        }
        by_class[class] += u32::from(rust != 0);
    }
    // The comparison means something only where hashes are not all the 0 of the unknown.
    for (class, &hashed) in by_class.iter().enumerate() {
        if (class != GARBAGE && class != TRUNCATED) && hashed < 300 {
            return Err(format!("class {class}: only {hashed} packets hashed").into());
        }
    }
    Ok(())
}

fn owner_of_quad(keys: &SteeringKeys, steering: &Steering) -> Result<(), Failed> {
    let mut random = Rng::with_seed(7);
    for i in 0..1_000 {
        let (quad, packet) = plain_tcp(i % 2 == 1, &mut random);
        let (queue, owner) = (steering.run(&packet)?, steering.table.owner(keys.hash_quad(&quad)));
        if queue != u32::from(owner.0) {
            return Err(format!("{quad}: queue {queue}, owner {owner}").into());
        }
    }
    Ok(())
}

fn vacant(keys: &SteeringKeys, steering: &Steering) -> Result<(), Failed> {
    let mut random = Rng::with_seed(9);
    let (quad, packet) = plain_tcp(false, &mut random);
    let hash = keys.hash_quad(&quad);
    steering.table.set(hash, None);
    let (queue, owner, claimed) = (steering.run(&packet)?, steering.table.owner(hash), steering.table.claimed(hash));
    let says = ShardId((hash % 4) as u16);
    if (queue, owner, claimed) == (u32::from(says.0), says, None) {
        Ok(())
    } else {
        Err(format!("{queue} {owner}").into())
    }
}

/// Workers on CPU 0 and on the last one, and one that is nowhere.
fn with_births(test: fn(&SteeringKeys, &Steering, &[usize]) -> Result<(), Failed>) -> Result<Completion, Failed> {
    let (keys, usable) = (steering_keys(), trust::engine::usable_cpus());
    let places = [usable[0], usable[usable.len() - 1]];
    match program::load_by_birth(&keys, &[Some(places[0]), Some(places[1]).filter(|_| usable.len() > 1), None]) {
        Ok(steering) => {
            // Whatever it pins, it pins a thread of its own.
            let run = || test(&keys, &steering, &usable);
            std::thread::scope(|scope| scope.spawn(run).join().expect("no panic")).map(|()| Completion::Completed)
        }
        Err(e)
            if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
                && std::env::var_os("TRUST_REQUIRE_TUN").is_none_or(|v| v != "1") =>
        {
            Ok(Completion::ignored_with(e))
        }
        Err(e) => Err(e.into()),
    }
}

fn pin(cpu: usize) {
    assert!(core_affinity::set_for_current(core_affinity::CoreId { id: cpu }), "CPU {cpu}");
}

/// A packet with these flags, if it is TCP.
fn flagged(mut packet: Vec<u8>, flags: u8) -> Vec<u8> {
    let tcp = if packet[0] >> 4 == 6 { 40 } else { usize::from(packet[0] & 15) * 4 };
    if let Some(octet) = packet.get_mut(tcp + 13) {
        *octet = flags;
    }
    packet
}

/// Whatever packet comes, a bucket is claimed if, and only if, Rust sees a birth in it.
fn agree_on_births(keys: &SteeringKeys, steering: &Steering, usable: &[usize]) -> Result<(), Failed> {
    pin(usable[0]);
    let (mut random, mut births) = (Rng::with_seed(0xb0b0), [0; CLASSES]);
    for i in 0..10_000 {
        let class = i % CLASSES;
        let packet =
            flagged(generate(class, &mut random), [0x02, 0x12, 0xc2, 0x06, 0x10, random.u8(..)][i / CLASSES % 6]);
        let (hash, born) = (keys.hash_packet(&packet), SteeringKeys::is_birth(&packet));
        let expected = if born { ShardId(0) } else { steering.table.owner(hash) };
        let queue = steering.run(&packet)?;
        let claimed = steering.table.claimed(hash);
        if queue != u32::from(expected.0) || claimed != born.then_some(expected) {
            return Err(format!("class {class}: queue {queue}, {claimed:?}, birth {born}, {packet:02x?}").into());
        }
        births[class] += u32::from(born);
        steering.table.set(hash, None);
    }
    // IPv4 plain, with payload and with options; IPv6 plain.
    let enough = [0, 1, 2, 9].iter().all(|class| births[*class] > 150);
    if enough && births[5] == 0 { Ok(()) } else { Err(format!("births by class: {births:?}").into()) }
}

fn births(keys: &SteeringKeys, steering: &Steering, usable: &[usize]) -> Result<(), Failed> {
    let mut random = Rng::with_seed(13);
    for round in 0..100 {
        let (quad, packet) = plain_tcp(round % 2 == 1, &mut random);
        let (hash, syn) = (keys.hash_quad(&quad), flagged(packet, 0x02));
        for (shard, cpu) in [(0, usable[0]), (1, usable[usable.len() - 1])].into_iter().take(usable.len()) {
            steering.table.set(hash, None);
            pin(cpu);
            let first = (steering.run(&syn)?, steering.table.claimed(hash));
            if first != (shard, Some(ShardId(shard as u16))) {
                return Err(format!("CPU {cpu}: {first:?}").into());
            }
            // Its other segments, from wherever.
            pin(usable[0]);
            let others = [0x02, 0x12, 0x10, 0x11].map(|flags| steering.run(&flagged(syn.clone(), flags)));
            if others.iter().any(|queue| queue.as_ref().ok() != Some(&shard)) {
                return Err(format!("{others:?}").into());
            }
        }
        // A shard that has no time leaves it to the hash, which names an owner all the same.
        steering.table.set(hash, None);
        steering.table.tell_load(ShardId(0), 1, true);
        pin(usable[0]);
        let says = ShardId((hash % 3) as u16);
        let busy = (steering.run(&syn)?, steering.table.claimed(hash));
        steering.table.tell_load(ShardId(0), 1, false);
        if busy != (u32::from(says.0), Some(says)) {
            return Err(format!("busy: {busy:?}, the hash says {says}").into());
        }
        steering.table.set(hash, None);
    }
    if steering.table.claimed_buckets() == 0 { Ok(()) } else { Err("some are claimed".into()) }
}

/// One SYN and its copy, sent on two CPUs at once: one owner, and both packets go there.
fn race(keys: &SteeringKeys, steering: &Steering, usable: &[usize]) -> Result<(), Failed> {
    const ROUNDS: usize = 3_000;
    if usable.len() < 2 {
        return Ok(());
    }
    let mut random = Rng::with_seed(17);
    let syns: Vec<_> = (0..ROUNDS).map(|_| plain_tcp(false, &mut random)).map(|(q, p)| (q, flagged(p, 0x02))).collect();
    let at = AtomicUsize::new(0);
    let run = |cpu: usize| -> io::Result<Vec<u32>> {
        pin(cpu);
        let mut queues = Vec::new();
        for (round, (_, syn)) in syns.iter().enumerate() {
            at.fetch_add(1, Ordering::SeqCst);
            while at.load(Ordering::SeqCst) < 2 * (round + 1) {
                std::hint::spin_loop();
            }
            queues.push(steering.run(syn)?);
        }
        Ok(queues)
    };
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(usable[usable.len() - 1]));
        (run(usable[0]), other.join().expect("no panic"))
    });
    let (one, other) = (one?, other?);
    for (round, (quad, _)) in syns.iter().enumerate() {
        let owner = steering.table.claimed(keys.hash_quad(quad)).map(|owner| u32::from(owner.0));
        if Some(one[round]) != owner || Some(other[round]) != owner {
            return Err(format!("round {round}: queues {} and {}, owner {owner:?}", one[round], other[round]).into());
        }
    }
    let won = one.iter().filter(|queue| **queue == 0).count();
    if (1..ROUNDS).contains(&won) { Ok(()) } else { Err(format!("one CPU won {won} of {ROUNDS}: no race").into()) }
}

fn change(keys: &SteeringKeys, steering: &Steering) -> Result<(), Failed> {
    let mut random = Rng::with_seed(11);
    let (quad, packet) = plain_tcp(false, &mut random);
    for owner in [3, 1, 2, 0, 3] {
        steering.table.set(keys.hash_quad(&quad), Some(ShardId(owner)));
        let queue = steering.run(&packet)?;
        if queue != u32::from(owner) {
            return Err(format!("owner {owner}, queue {queue}").into());
        }
    }
    Ok(())
}

/// Packets of many flows (TCP and, by address only, UDP) come in on the queue that the table names.
fn obey(steering: &Steering) {
    const QUEUES: usize = 4;
    let options = TunOptions {
        addresses: vec![(IpAddr::V4(Ipv4Addr::new(10, 7, 0, 1)), 24)],
        queues: QUEUES as u16,
        ..TunOptions::default()
    };
    let mut device = TunDevice::create(&options).expect("a device in a namespace of its own");
    device.attach_steering(steering.program.as_fd()).expect("the program is a socket filter");
    let mut queues = device.take_queues();
    let udp = UdpSocket::bind("10.7.0.1:0").expect("an address of this host");
    let flows = 100;
    (0..flows).for_each(|i| try_connect(Ipv4Addr::new(10, 7, 0, 2), 1_000 + i));
    for host in 2..2 + flows as u8 {
        udp.send_to(b"x", (Ipv4Addr::new(10, 7, 0, host), 9)).expect("room on an idle device");
    }
    let (keys, mut buffer) = (steering_keys(), vec![0; BUFFER_LEN]);
    let mut seen = [[0; QUEUES]; 2];
    for (queue, (rx, _)) in queues.iter_mut().enumerate() {
        while let Some(packet) = rx.receive(&mut buffer).expect("an open queue") {
            let packet = &buffer[packet.start..packet.start + packet.len];
            // Not what the host sends by itself when the link comes up, before the program was there (IPv6).
            let kind = match (packet[0], packet[9]) {
                (0x45, 6) => 0,
                (0x45, 17) => 1,
                _ => continue,
            };
            assert_eq!(steering.table.owner(keys.hash_packet(packet)).index(), queue, "{packet:02x?}");
            seen[kind][queue] += 1;
        }
    }
    for counts in seen {
        assert!(counts.iter().sum::<u32>() >= u32::from(flows) && counts.iter().all(|&n| n > 0), "{seen:?}");
    }
}

/// Starts a connection that nobody answers: its SYN has left when this returns.
fn try_connect(addr: Ipv4Addr, port: u16) {
    let refused = TcpStream::connect_timeout(&(addr, port).into(), Duration::from_millis(1));
    assert_eq!(refused.err().map(|e| e.kind()), Some(io::ErrorKind::TimedOut));
}

const CLASSES: usize = 16;
const TRUNCATED: usize = 14;
const GARBAGE: usize = 15;

fn generate(class: usize, r: &mut Rng) -> Vec<u8> {
    match class {
        0 => ipv4(r, 0, 6, 0, 20),
        1 => {
            let payload = 20 + r.usize(..1_400);
            ipv4(r, 0, 6, 0x4000, payload)
        }
        2 => {
            let words = 1 + r.usize(..10);
            ipv4(r, words, 6, 0x4000, 20)
        }
        // The TCP header is cut, by the packet's end.
        3 => {
            let (words, payload) = (r.usize(..3), r.usize(..20));
            ipv4(r, words, 6, 0, payload)
        }
        // Fragments: first, middle, last; the reserved bit and DF alone do not make one.
        4 => {
            let word = [0x2000, 0x2001 + r.usize(..0x1fff) as u16, 1 + r.usize(..0x1fff) as u16, 0xc000][r.usize(..4)];
            ipv4(r, 0, 6, word, 40)
        }
        5 => ipv4(r, 0, 17, 0, 28),
        // ICMP: echo and anything, then an error that quotes a segment.
        6 => {
            let payload = 8 + r.usize(..60);
            ipv4(r, 0, 1, 0, payload)
        }
        7 => {
            let quoted = ipv4(r, 0, 6, 0x4000, 20);
            let mut packet = ipv4(r, 0, 1, 0, 8);
            packet[20] = 3;
            packet.extend_from_slice(&quoted[..28 + r.usize(..13)]);
            packet
        }
        8 => {
            let mut packet = ipv4(r, 0, 6, 0, 40);
            packet[0] = 0x40 | r.usize(..5) as u8; // IHL below 5
            packet
        }
        9 => {
            let payload = 20 + r.usize(..1_400);
            ipv6(r, 6, payload)
        }
        10 => {
            let payload = r.usize(..25);
            ipv6(r, 6, payload)
        }
        // Extension headers: hop-by-hop, routing, fragment, destination options, before TCP.
        11 => {
            let next = [0, 43, 44, 60][r.usize(..4)];
            let mut packet = ipv6(r, next, 48);
            packet[40..42].copy_from_slice(&[6, 0]);
            packet
        }
        12 => ipv6(r, 17, 30),
        13 => {
            let quoted = ipv6(r, 6, 20);
            let mut packet = ipv6(r, 58, 8);
            packet[40] = 1;
            packet.extend_from_slice(&quoted);
            packet
        }
        TRUNCATED => {
            let mut packet = if r.usize(..2) == 0 { ipv4(r, 0, 6, 0, 40) } else { ipv6(r, 6, 40) };
            packet.truncate(1 + r.usize(..packet.len()));
            packet
        }
        _ => (0..1 + r.usize(..100)).map(|_| r.u8(..)).collect(),
    }
}

fn ipv4(r: &mut Rng, option_words: usize, protocol: u8, fragment: u16, payload: usize) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..20 + 4 * option_words + payload).map(|_| r.u8(..)).collect();
    packet[0] = 0x45 + option_words as u8;
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[9] = protocol;
    packet
}

fn ipv6(r: &mut Rng, next: u8, payload: usize) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..40 + payload).map(|_| r.u8(..)).collect();
    packet[0] = 0x60 | packet[0] & 15;
    packet[6] = next;
    packet
}

fn plain_tcp(v6: bool, r: &mut Rng) -> (Quad, Vec<u8>) {
    let port = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let address = |bytes: &[u8]| match *bytes {
        [a, b, c, d] => IpAddr::from([a, b, c, d]),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).expect("4 or 16 octets")),
    };
    let (packet, at, len, tcp) = if v6 { (ipv6(r, 6, 20), 8, 16, 40) } else { (ipv4(r, 0, 6, 0, 20), 12, 4, 20) };
    let remote = Endpoint::new(address(&packet[at..at + len]), port(&packet, tcp));
    let local = Endpoint::new(address(&packet[at + len..at + 2 * len]), port(&packet, tcp + 2));
    (Quad { local, remote }, packet)
}
