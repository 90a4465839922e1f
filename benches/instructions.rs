//! Instructions that one segment takes through a whole shard: parse, flow table, header prediction, service, answer,
//! frame, with the turn around it. Unlike times they come out the same on a busy machine.
//!
//! `cargo bench --bench instructions [name...]` runs each scene twice under `valgrind --tool=callgrind`, with N and with
//! 3 N segments; the difference over 2 N is the cost of one, without the costs of the process and the handshake. The
//! counts belong to one compiler, and compare two versions of the code built by the same one.
//!
//! With `--check` it fails where a scene takes 5 % more than `instructions.txt` beside this file says, and tells which
//! take 5 % less, for which the file is to be written anew: that is what `--write` does. With `--many` the scenes with
//! 100,000 connections run besides, each segment at one of them by chance, and their misses of the first and the last
//! level of the cache are counted as well. They take minutes.
//!
//! What stands in for the device and the peer is in the counts too: it writes headers into buffers and counts frames.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::process::{Command, ExitCode};

use rig::{OURS, OURS_V6, Peer, Rig, TRUSTED, tcp_packet};
use trust::services::chargen::Chargen;
use trust::services::discard::Discard;
use trust::services::echo::Echo;
use trust::shard::{Offload, ShardConfig};
use trust::tcp::Duration;
use trust::wire::options::{TcpOptions, Timestamps};
use trust::wire::tcp::{Flags, TcpHeader};

/// Payload of a full segment with timestamps.
const MSS: u32 = 1_448;
/// As many of them as the device makes one packet of.
const SUPER: u32 = 44 * MSS;
/// IPv4, TCP and timestamps; of IPv6 there are 20 octets more.
const HEADERS: usize = 52;
const MORE_V6: usize = 20;
/// A request, and its response.
const SMALL: u32 = 100;
/// Connections where there are many.
const MANY: u32 = 100_000;

/// What is measured, segments a turn, and whether it takes minutes.
struct Kind {
    name: &'static str,
    batch: u32,
    many: bool,
    of: &'static str,
}

const fn kind(name: &'static str, batch: u32, of: &'static str) -> Kind {
    Kind { name, batch, many: false, of }
}

const fn many(name: &'static str, batch: u32, of: &'static str) -> Kind {
    Kind { name, batch, many: true, of }
}

const SCENES: [Kind; 13] = [
    kind("data", 32, "a data segment of 1,448 octets, 32 a turn; none is sent but the ACKs"),
    kind("data-1", 1, "the same, one a turn"),
    kind("data-64k", 1, "44 of them merged into one packet, one a turn"),
    kind("ack", 32, "an ACK of 1,448 octets to a bulk sender, 32 a turn, and the data that follows"),
    kind("ack-1", 1, "the same, one a turn"),
    kind("data-v6", 32, "as data, by IPv6, 20 octets less in each"),
    kind("ack-v6", 32, "as ack, by IPv6"),
    kind("echo", 1, "a request of 100 octets, its response and the ACK of the one before"),
    kind("connect", 1, "a connection from its SYN to its end, which the peer begins: four packets in, three out"),
    kind("sack", 32, "a data segment, each two of them in the wrong order: every other ACK has a SACK block"),
    many("data-many", 32, "as data, each segment at one of 100,000 connections"),
    many("ack-many", 32, "as ack, each at one of 100,000"),
    many("echo-many", 1, "as echo, at one of 100,000"),
];

/// Segments of the shorter run, before which nothing is counted; in it buffers have grown and windows have opened.
const WARM: u32 = 3_200;

/// How much more a scene of IPv6 may take than the same of IPv4, as a ratio.
const MORE_OF_V6: f64 = 1.05;

/// How much more a scene may take than what is written down, and how much less before that is wrong, in percent.
const MARGIN: f64 = 5.0;

/// What is written down of the scenes.
const WRITTEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [scene, segments] = args.as_slice()
        && let Ok(segments) = segments.parse()
    {
        run(scene, segments);
        return ExitCode::SUCCESS;
    }
    let (options, names): (Vec<_>, Vec<_>) = args.iter().map(String::as_str).partition(|arg| arg.starts_with("--"));
    let known = ["--check", "--write", "--many"];
    if let Some(unknown) = options.iter().find(|option| !known.contains(option)) {
        eprintln!("instructions: no option is called {unknown}; there are: {}", known.join(", "));
        return ExitCode::from(2);
    }
    if let Some(unknown) = names.iter().find(|arg| SCENES.iter().all(|kind| kind.name != **arg)) {
        let all = SCENES.map(|kind| kind.name).join(", ");
        eprintln!("instructions: no scene is called {unknown:?}; there are: {all}");
        return ExitCode::from(2);
    }
    let with_many = options.contains(&"--many");
    let wanted = |kind: &&Kind| if names.is_empty() { with_many || !kind.many } else { names.contains(&kind.name) };
    println!("{:<10} {:>12} {:>8} {:>8}  of one", "scene", "instructions", "L1 miss", "LL miss");
    let mut measured = BTreeMap::new();
    for kind in SCENES.iter().filter(wanted) {
        match measure(kind) {
            Ok(of_one) => {
                let misses = |at: usize| of_one.get(at).map_or_else(String::new, |count| format!("{count:.1}"));
                println!("{:<10} {:>12.1} {:>8} {:>8}  {}", kind.name, of_one[0], misses(1), misses(2), kind.of);
                measured.insert(kind.name, of_one[0]);
            }
            Err(error) => {
                eprintln!("instructions: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if options.contains(&"--write") {
        return write(&measured);
    }
    if options.contains(&"--check") { check(&measured) } else { ExitCode::SUCCESS }
}

/// Instructions of one segment, and where there are many connections its misses of both caches.
fn measure(kind: &Kind) -> Result<Vec<f64>, String> {
    let (short, long) = (count(kind, WARM)?, count(kind, 3 * WARM)?);
    Ok(short.iter().zip(&long).map(|(short, long)| (long - short) as f64 / f64::from(2 * WARM)).collect())
}

/// What of a whole run callgrind counts.
fn count(kind: &Kind, segments: u32) -> Result<Vec<u64>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let cache = if kind.many { "--cache-sim=yes" } else { "--cache-sim=no" };
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", cache])
        .arg(program)
        .args([kind.name, &segments.to_string()])
        .output()
        .map_err(|error| format!("valgrind does not run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // Ir, then reads and writes: Dr Dw, and the misses I1mr D1mr D1mw ILmr DLmr DLmw.
    let line = said.lines().find_map(|line| line.split_once("Collected :")).map_or("", |(_, counts)| counts);
    let counts: Vec<u64> = line.split_whitespace().map_while(|count| count.parse().ok()).collect();
    match *counts.as_slice() {
        [instructions] if output.status.success() => return Ok(vec![instructions]),
        [instructions, _, _, i1, d1r, d1w, il, dlr, dlw] if output.status.success() => {
            return Ok(vec![instructions, i1 + d1r + d1w, il + dlr + dlw]);
        }
        _ => {}
    }
    Err(format!("valgrind: {}: {}", output.status, said.lines().last().unwrap_or_default()))
}

/// Writes down what was measured; of scenes that were not, what was written before stays.
fn write(measured: &BTreeMap<&str, f64>) -> ExitCode {
    let mut all = written().unwrap_or_default();
    all.extend(measured.iter().map(|(name, count)| ((*name).to_owned(), *count)));
    let mut text =
        String::from("# Instructions of one segment by scene: see instructions.rs, whose --check compares them.\n");
    for (name, count) in all {
        text += &format!("{name} {count:.1}\n");
    }
    match std::fs::write(WRITTEN, text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {WRITTEN}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn written() -> Result<BTreeMap<String, f64>, String> {
    let text = std::fs::read_to_string(WRITTEN).map_err(|error| format!("{WRITTEN}: {error}"))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, count) = line.split_once(' ').ok_or_else(|| format!("{WRITTEN}: {line}"))?;
            Ok((name.to_owned(), count.parse().map_err(|_| format!("{WRITTEN}: {line}"))?))
        })
        .collect()
}

/// Compares what was measured with what is written down.
fn check(measured: &BTreeMap<&str, f64>) -> ExitCode {
    let written = match written() {
        Ok(written) => written,
        Err(error) => {
            eprintln!("instructions: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    for (name, count) in measured {
        let ipv4 = name.strip_suffix("-v6").and_then(|same| measured.get(same));
        if let Some(ipv4) = ipv4.filter(|ipv4| *count > *ipv4 * MORE_OF_V6) {
            eprintln!("instructions: {name} takes {:.3} of what IPv4 takes, {MORE_OF_V6} at most", count / ipv4);
            code = ExitCode::FAILURE;
        }
        let Some(before) = written.get(*name) else {
            eprintln!("instructions: of {name} nothing is written down in {WRITTEN}: --write does that");
            code = ExitCode::FAILURE;
            continue;
        };
        let more = (count / before - 1.0) * 100.0;
        if more > MARGIN {
            eprintln!("instructions: {name} takes {more:.1} % more than the {before:.1} that are written down");
            code = ExitCode::FAILURE;
        } else if more < -MARGIN {
            eprintln!("instructions: {name} takes {:.1} % less than is written down: write it down (--write)", -more);
        }
    }
    code
}

/// A shard with offload and the services that scenes need.
fn shard() -> Rig {
    let tweak = |config: &mut ShardConfig| {
        config.offload = Offload { checksum: true, tso4: true, tso6: true };
        config.addresses.push(OURS_V6.into());
    };
    let mut rig = Rig::with(tweak, 256, 1_024);
    rig.shard.add_service(Some(7), Box::new(Echo));
    rig.shard.add_service(Some(9), Box::new(Discard));
    rig.shard.add_service(Some(19), Box::new(Chargen));
    rig
}

/// One connection with timestamps to a service of a shard with offload, and the packet that is sent over it again and again.
struct Scene {
    rig: Rig,
    peer: Peer,
    /// The headers of its packets, where that of TCP begins, and their length with the payload.
    head: Vec<u8>,
    tcp_at: usize,
    len: usize,
    batch: u32,
    /// TSval of the peer at its last packet, and of the shard at that time.
    stamps: Timestamps,
    micros: u32,
}

impl Scene {
    /// Connected to `port`; packets will have `len` octets of payload.
    fn new(port: u16, len: u32, batch: u32) -> Self {
        Self::with(Peer::new(40_000, port), len, batch)
    }

    /// With that peer.
    fn with(mut peer: Peer, len: u32, batch: u32) -> Self {
        let mut rig = shard();
        peer.syn_options.timestamps = Some(Timestamps { val: 1, ecr: 0 });
        peer.open(&mut rig);
        peer.take(&mut rig);
        rig.blind = true;
        let mut head = peer.packet_at(0, Flags::ACK, &vec![0; len as usize]);
        let len = head.len();
        let more = if peer.addr.is_ipv6() { MORE_V6 } else { 0 };
        head.truncate(HEADERS + more);
        let stamps = peer.stamps.unwrap();
        Self { rig, peer, head, tcp_at: 20 + more, len, batch, stamps, micros: 0 }
    }

    /// A turn, 100 microseconds after the last: a batch of packets, `most` at most, each with the numbers that `next` has
    /// moved to.
    fn turn(&mut self, most: u32, mut next: impl FnMut(&mut Peer) -> bool) -> u32 {
        self.rig.now += Duration::from_micros(100);
        self.micros += 100;
        self.rig.begin();
        let mut received = 0;
        while received < self.batch.min(most) {
            let seq = self.peer.seq;
            if !next(&mut self.peer) {
                break;
            }
            // What the shard sent in the turn before is echoed.
            let (val, ecr) = (self.stamps.val + self.micros / 1_000, self.stamps.ecr + (self.micros - 100) / 1_000);
            let tcp: &mut [u8; 32] = self.head[self.tcp_at..].first_chunk_mut().unwrap();
            for (at, field) in [(4, seq), (8, self.peer.ack), (24, val), (28, ecr)] {
                tcp[at..at + 4].copy_from_slice(&field.to_be_bytes());
            }
            self.rig.receive_head(black_box(&self.head), self.len, TRUSTED);
            received += 1;
        }
        self.rig.finish();
        received
    }

    /// Octets that the shard has sent.
    fn sent(&mut self) -> u32 {
        self.rig.counters().payload_out as u32
    }
}

/// Runs `scene` with that many segments.
fn run(scene: &str, segments: u32) {
    let kind = SCENES.iter().find(|kind| kind.name == scene).expect("a scene of the list");
    let batch = kind.batch;
    let mut rig = match scene {
        "data" | "data-1" => data(Scene::new(9, MSS, batch), MSS, segments),
        "data-64k" => data(Scene::new(9, SUPER, batch), SUPER, segments),
        // 20 octets less fit into each.
        "data-v6" => {
            data(Scene::with(Peer::v6(40_000, 9), MSS - MORE_V6 as u32, batch), MSS - MORE_V6 as u32, segments)
        }
        "ack" | "ack-1" => acks(Scene::new(19, 0, batch), MSS, segments),
        "ack-v6" => acks(Scene::with(Peer::v6(40_000, 19), 0, batch), MSS - MORE_V6 as u32, segments),
        "echo" => echo(segments),
        "connect" => return connections(segments),
        "sack" => return out_of_order(batch, segments),
        _ => return with_many(scene, batch, segments),
    };
    let counters = rig.counters();
    let share = counters.segments_predicted as f64 / counters.segments_in as f64;
    assert!(share > 0.95, "only {:.1} % of the segments were predicted", share * 100.0);
}

fn data(mut scene: Scene, len: u32, segments: u32) -> Rig {
    let mut done = 0;
    while done < segments {
        done += scene.turn(segments - done, |peer| {
            peer.seq = peer.seq.wrapping_add(len);
            true
        });
    }
    assert_eq!(scene.rig.counters().payload_in, u64::from(segments) * u64::from(len));
    scene.rig
}

fn acks(mut scene: Scene, mss: u32, segments: u32) -> Rig {
    let start = scene.peer.ack.wrapping_sub(scene.sent());
    let mut done = 0;
    while done < segments {
        let end = start.wrapping_add(scene.sent());
        done += scene.turn(segments - done, |peer| {
            let left = end.wrapping_sub(peer.ack);
            peer.ack = peer.ack.wrapping_add(left.min(mss));
            left > 0 || done == 0 // what came with the handshake is taken and not acknowledged yet
        });
    }
    scene.rig
}

fn echo(segments: u32) -> Rig {
    let mut scene = Scene::new(7, SMALL, 1);
    let start = scene.peer.ack;
    let mut done = 0;
    while done < segments {
        let end = start.wrapping_add(scene.sent());
        done += scene.turn(segments - done, |peer| {
            peer.seq = peer.seq.wrapping_add(SMALL);
            peer.ack = end;
            true
        });
    }
    assert_eq!(scene.sent(), segments * SMALL);
    scene.rig
}

/// Of each two segments the second comes first.
fn out_of_order(batch: u32, segments: u32) {
    let mut scene = Scene::new(9, MSS, batch);
    let (mut done, mut nth) = (0, 0);
    let first = scene.peer.seq;
    scene.peer.seq = first.wrapping_add(MSS);
    while done < segments {
        done += scene.turn(segments - done, |peer| {
            nth += 1;
            // The places are 1, 0, 3, 2 and so on; what leaves is where the peer was before.
            let place = (nth ^ 1) * MSS;
            peer.seq = first.wrapping_add(place);
            true
        });
    }
    let counters = scene.rig.counters();
    assert!(counters.segments_out_of_order >= u64::from(segments / 2 - 1), "{}", counters.segments_out_of_order);
    assert!(counters.payload_in >= u64::from(segments - 2) * u64::from(MSS));
}

/// The address and port of the `nth` peer of many.
fn peer_of(nth: u32) -> (Ipv4Addr, u16) {
    (Ipv4Addr::new(10, 7, 1, (nth / 50_000) as u8 + 1), 10_000 + (nth % 50_000) as u16)
}

/// A packet of the `nth` peer to `port` without payload.
fn packet(nth: u32, port: u16, flags: Flags, numbers: (u32, u32), options: TcpOptions) -> Vec<u8> {
    let (addr, src_port) = peer_of(nth);
    let header = TcpHeader {
        src_port,
        dst_port: port,
        seq: numbers.0,
        ack: numbers.1,
        flags,
        window: 60_000,
        urgent: 0,
        options,
    };
    tcp_packet(addr, OURS, &header, &[])
}

/// A number of the header that the shard has sent last.
fn number(rig: &Rig, at: usize) -> u32 {
    u32::from_be_bytes(rig.last_header[at..at + 4].try_into().unwrap())
}

/// The SYN of all peers.
fn syn_options() -> TcpOptions {
    TcpOptions {
        mss: Some(1_460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { val: 1, ecr: 0 }),
        ..TcpOptions::default()
    }
}

/// Connections one after another. What is changed in a packet is written into a copy of it; the device vouches for the
/// checksum.
fn connections(segments: u32) {
    let mut rig = shard();
    (rig.blind, rig.keep_header) = (true, true);
    let syn = packet(0, 9, Flags::SYN, (1_000, 0), syn_options());
    let stamps = |rig: &Rig| TcpOptions {
        timestamps: Some(Timestamps { val: 2, ecr: number(rig, 44) }),
        ..TcpOptions::default()
    };
    let mut ack = packet(0, 9, Flags::ACK, (1_001, 0), stamps(&rig));
    let turn = |rig: &mut Rig, packet: &[u8]| {
        rig.now += Duration::from_micros(100);
        rig.begin();
        rig.receive_head(black_box(packet), packet.len(), TRUSTED);
        rig.finish();
    };
    let mut syn = syn;
    for nth in 0..segments {
        let port = 10_000 + (nth % 50_000) as u16;
        syn[20..22].copy_from_slice(&port.to_be_bytes());
        ack[20..22].copy_from_slice(&port.to_be_bytes());
        turn(&mut rig, &syn);
        // The SYN-ACK has MSS, SACK permitted with the timestamps, and the window scale.
        let (iss, val) = (number(&rig, 24), number(&rig, 48));
        ack[24..28].copy_from_slice(&1_001_u32.to_be_bytes());
        ack[28..32].copy_from_slice(&iss.wrapping_add(1).to_be_bytes());
        ack[48..52].copy_from_slice(&val.to_be_bytes());
        ack[33] = Flags::ACK.0;
        turn(&mut rig, &ack);
        ack[33] = (Flags::ACK | Flags::FIN).0;
        turn(&mut rig, &ack);
        ack[24..28].copy_from_slice(&1_002_u32.to_be_bytes());
        ack[28..32].copy_from_slice(&iss.wrapping_add(2).to_be_bytes());
        ack[33] = Flags::ACK.0;
        turn(&mut rig, &ack);
    }
    let counters = rig.counters();
    assert_eq!((counters.accepted, counters.closed), (u64::from(segments), u64::from(segments)));
    assert_eq!((counters.connections, counters.resets_out), (0, 0));
}

/// 100,000 connections, and segments at those that a generator of random numbers names.
fn with_many(scene: &str, batch: u32, segments: u32) {
    // The service, and what each segment brings and acknowledges, in octets.
    let (port, len, acks) = match scene {
        "data-many" => (9, MSS, 0),
        "ack-many" => (19, 0, MSS),
        _ => (7, SMALL, 0),
    };
    let mut rig = shard();
    (rig.blind, rig.keep_header) = (true, true);
    // SEG.SEQ, SEG.ACK and TSecr of each.
    let mut numbers = Vec::with_capacity(MANY as usize);
    for nth in 0..MANY {
        rig.turn(&[packet(nth, port, Flags::SYN, (1_000, 0), syn_options())]);
        let (iss, ecr) = (number(&rig, 24), number(&rig, 48));
        let options = TcpOptions { timestamps: Some(Timestamps { val: 1, ecr }), ..TcpOptions::default() };
        let ack = iss.wrapping_add(1);
        rig.turn(&[packet(nth, port, Flags::ACK, (1_001, ack), options)]);
        numbers.push((1_001_u32, ack, ecr));
    }
    assert_eq!(rig.counters().connections, u64::from(MANY));
    let stamps = TcpOptions { timestamps: Some(Timestamps { val: 1, ecr: 0 }), ..TcpOptions::default() };
    let mut head = packet(0, port, Flags::ACK, (0, 0), stamps);
    let total = HEADERS + len as usize;
    head[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    let mut random = 1_u64;
    let mut done = 0;
    let mut frames = Vec::with_capacity(batch as usize);
    while done < segments {
        // So little that no timer of those who are not asked comes: nobody acknowledges their last response.
        rig.now += Duration::from_micros(1);
        rig.begin();
        for _ in 0..batch.min(segments - done) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let nth = ((random >> 33) % u64::from(MANY)) as u32;
            let (addr, src_port) = peer_of(nth);
            let (seq, ack, ecr) = &mut numbers[nth as usize];
            *ack = ack.wrapping_add(acks);
            head[10..12].fill(0);
            head[12..16].copy_from_slice(&addr.octets());
            let sum = trust::wire::checksum::finish(trust::wire::checksum::sum(&head[..20]));
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            head[20..22].copy_from_slice(&src_port.to_be_bytes());
            for (at, field) in [(24, *seq), (28, *ack), (48, *ecr)] {
                head[at..at + 4].copy_from_slice(&field.to_be_bytes());
            }
            *seq = seq.wrapping_add(len);
            frames.push(rig.frame_head(black_box(&head), total, TRUSTED));
            done += 1;
        }
        rig.shard.receive_all(&mut frames);
        rig.finish();
        if scene == "echo-many" {
            // The response, which the next request over this connection acknowledges.
            let last = ((random >> 33) % u64::from(MANY)) as usize;
            numbers[last].1 = number(&rig, 24).wrapping_add(SMALL);
        }
    }
    let counters = rig.counters();
    assert_eq!(counters.connections, u64::from(MANY));
    assert!(counters.segments_predicted >= u64::from(segments) * 9 / 10, "{}", counters.segments_predicted);
}
