//! Instructions that one segment takes through a whole shard: parse, flow table, header prediction, service, answer,
//! frame, with the turn around it. Unlike times they come out the same on a busy machine.
//!
//! `cargo bench --bench instructions [name...]` runs each scene twice under `valgrind --tool=callgrind`, with N and with
//! 3 N segments; the difference over 2 N is the cost of one, without the costs of the process and the handshake. The
//! counts belong to one compiler, and compare two versions of the code built by the same one.
//!
//! What stands in for the device and the peer is in the counts too: it writes headers into buffers and counts frames.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::hint::black_box;
use std::process::{Command, ExitCode};

use rig::{Peer, Rig, TRUSTED};
use trust::services::chargen::Chargen;
use trust::services::discard::Discard;
use trust::services::echo::Echo;
use trust::shard::Offload;
use trust::tcp::Duration;
use trust::wire::options::Timestamps;
use trust::wire::tcp::Flags;

/// Payload of a full segment with timestamps.
const MSS: u32 = 1_448;
/// As many of them as the device makes one packet of.
const SUPER: u32 = 44 * MSS;
/// IPv4, TCP and timestamps.
const HEADERS: usize = 52;
/// A request, and its response.
const SMALL: u32 = 100;

/// Name, segments a turn, what is measured.
const SCENES: [(&str, u32, &str); 6] = [
    ("data", 32, "a data segment of 1,448 octets, 32 a turn; none is sent but the ACKs"),
    ("data-1", 1, "the same, one a turn"),
    ("data-64k", 1, "44 of them merged into one packet, one a turn"),
    ("ack", 32, "an ACK of 1,448 octets to a bulk sender, 32 a turn, and the data that follows"),
    ("ack-1", 1, "the same, one a turn"),
    ("echo", 1, "a request of 100 octets, its response and the ACK of the one before"),
];

/// Segments of the shorter run, before which nothing is counted; in it buffers have grown and windows have opened.
const WARM: u32 = 3_200;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [scene, segments] = args.as_slice()
        && let Ok(segments) = segments.parse()
    {
        run(scene, segments);
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = args.iter().find(|arg| SCENES.iter().all(|(name, ..)| name != arg)) {
        eprintln!(
            "instructions: no scene is called {unknown:?}; there are: {}",
            SCENES.map(|(name, ..)| name).join(", ")
        );
        return ExitCode::from(2);
    }
    println!("{:<10} {:>12}  of one", "scene", "instructions");
    for (scene, _, of) in SCENES.iter().filter(|(name, ..)| args.is_empty() || args.iter().any(|arg| arg == name)) {
        match (count(scene, WARM), count(scene, 3 * WARM)) {
            (Ok(short), Ok(long)) => {
                println!("{scene:<10} {:>12.1}  {of}", (long - short) as f64 / f64::from(2 * WARM));
            }
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("instructions: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Instructions of a whole run, as callgrind counts them.
fn count(scene: &str, segments: u32) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([scene, &segments.to_string()])
        .output()
        .map_err(|error| format!("valgrind does not run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let refs = said.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    match refs.and_then(|count| count.parse().ok()) {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!("valgrind: {}: {}", output.status, said.lines().last().unwrap_or_default())),
    }
}

/// One connection with timestamps to a service of a shard with offload, and the packet that is sent over it again and again.
struct Scene {
    rig: Rig,
    peer: Peer,
    /// The headers of its packets, and their length with the payload.
    head: Vec<u8>,
    len: usize,
    batch: u32,
    /// TSval of the peer at its last packet, and of the shard at that time.
    stamps: Timestamps,
    micros: u32,
}

impl Scene {
    /// Connected to `port`; packets will have `len` octets of payload.
    fn new(port: u16, len: u32, batch: u32) -> Self {
        let mut rig =
            Rig::with(|config| config.offload = Offload { checksum: true, tso4: true, tso6: true }, 256, 1_024);
        rig.shard.add_service(Some(7), Box::new(Echo));
        rig.shard.add_service(Some(9), Box::new(Discard));
        rig.shard.add_service(Some(19), Box::new(Chargen));
        let mut peer = Peer::new(40_000, port);
        peer.syn_options.timestamps = Some(Timestamps { val: 1, ecr: 0 });
        peer.open(&mut rig);
        peer.take(&mut rig);
        rig.blind = true;
        let mut head = peer.packet_at(0, Flags::ACK, &vec![0; len as usize]);
        let len = head.len();
        head.truncate(HEADERS);
        let stamps = peer.stamps.unwrap();
        Self { rig, peer, head, len, batch, stamps, micros: 0 }
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
            let fields = [(24, seq), (28, self.peer.ack), (44, val), (48, ecr)];
            for (at, field) in fields {
                self.head[at..at + 4].copy_from_slice(&field.to_be_bytes());
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
    let (_, batch, _) = SCENES.into_iter().find(|(name, ..)| *name == scene).expect("a scene of the list");
    let mut done = 0;
    let mut scene = match scene {
        "data" | "data-1" | "data-64k" => {
            let len = if scene == "data-64k" { SUPER } else { MSS };
            let mut scene = Scene::new(9, len, batch);
            while done < segments {
                done += scene.turn(segments - done, |peer| {
                    peer.seq = peer.seq.wrapping_add(len);
                    true
                });
            }
            assert_eq!(scene.rig.counters().payload_in, u64::from(segments) * u64::from(len));
            scene
        }
        "ack" | "ack-1" => {
            let mut scene = Scene::new(19, 0, batch);
            let start = scene.peer.ack.wrapping_sub(scene.sent());
            while done < segments {
                let end = start.wrapping_add(scene.sent());
                done += scene.turn(segments - done, |peer| {
                    let left = end.wrapping_sub(peer.ack);
                    peer.ack = peer.ack.wrapping_add(left.min(MSS));
                    left > 0 || done == 0 // what came with the handshake is taken and not acknowledged yet
                });
            }
            scene
        }
        _ => {
            let mut scene = Scene::new(7, SMALL, batch);
            let start = scene.peer.ack;
            while done < segments {
                let end = start.wrapping_add(scene.sent());
                done += scene.turn(segments - done, |peer| {
                    peer.seq = peer.seq.wrapping_add(SMALL);
                    peer.ack = end;
                    true
                });
            }
            assert_eq!(scene.sent(), segments * SMALL);
            scene
        }
    };
    let counters = scene.rig.counters();
    let share = counters.segments_predicted as f64 / counters.segments_in as f64;
    assert!(share > 0.95, "only {:.1} % of the segments were predicted", share * 100.0);
}
