//! Captures of worlds are read back by others.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::Block;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use trust::sim::World;

use crate::recipe::Kind;
use crate::{MOST_STEPS, build, capture};

/// A file that goes with the test.
struct Captured(PathBuf);

impl Drop for Captured {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A world in a file, and its trace.
fn captured(seed: u64, test: &str) -> (Captured, String) {
    let file = Captured(std::env::temp_dir().join(format!("trust-world-{}-{test}.pcapng", std::process::id())));
    let mut world: World = build(seed, Kind::Any).world;
    world.trace().keep_all();
    capture::start(&mut world, &file.0).unwrap();
    world.run(MOST_STEPS).unwrap();
    let trace = world.trace().to_string();
    (file, trace)
}

/// Of a line of the trace: time, place and whether it is about a packet that a host sends or gets.
fn line(text: &str) -> Option<(Duration, &str, &str)> {
    let mut words = text.split_whitespace();
    let (time, place, event) = (words.next()?, words.next()?, words.next()?);
    let (secs, nanos) = time.split_once('.')?;
    let time = Duration::new(secs.parse().ok()?, nanos.parse().ok()?);
    Some((time, place, event.trim_end_matches(','))).filter(|(.., event)| matches!(*event, "in" | "out"))
}

#[test]
fn a_capture_holds_what_the_trace_tells() {
    for seed in 0..8 {
        let (file, trace) = captured(seed, "trace");
        let mut lines = trace.lines().filter_map(line);
        let mut reader = PcapNgReader::new(File::open(&file.0).unwrap()).unwrap();
        let mut names = Vec::new();
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(interface) => {
                    assert_eq!(interface.linktype, DataLink::RAW);
                    assert!(interface.options.contains(&InterfaceDescriptionOption::IfTsResol(9)));
                    names.extend(interface.options.iter().find_map(|option| match option {
                        InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                        _ => None,
                    }));
                }
                Block::EnhancedPacket(packet) => {
                    let inbound = packet.options.contains(&EnhancedPacketOption::Flags(1));
                    let name = names[packet.interface_id as usize].as_str();
                    let found = (packet.timestamp, name, if inbound { "in" } else { "out" });
                    assert_eq!(lines.next(), Some(found), "world {seed}");
                    // Unless the first octet is what was changed.
                    let is_ip = matches!(packet.data[0], 0x45 | 0x60);
                    assert!(is_ip || packet.options.len() > 1, "world {seed}: neither IPv4 nor IPv6");
                    assert_eq!(packet.original_len as usize, packet.data.len());
                }
                other => panic!("world {seed}: {other:?}"),
            }
        }
        assert_eq!(names, ["client", "server"]);
        assert_eq!(lines.next(), None, "world {seed}: the capture is shorter than the trace");
    }
}

/// What tshark finds in a file; nothing where there is no tshark.
fn tshark(file: &Captured, filter: &str, field: &str) -> Option<Vec<String>> {
    let mut command = Command::new("timeout");
    // Without anybody's own preferences.
    command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME").env("LC_ALL", "C");
    command.args(["90", "tshark", "-n", "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-r"]);
    let output = command.arg(&file.0).args(["-Y", filter, "-T", "fields", "-e", field]).output().unwrap();
    if output.status.code() == Some(127) {
        eprintln!("left out: tshark is not installed");
        return None;
    }
    assert!(output.status.success(), "tshark {filter:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

#[test]
fn tshark_reads_a_capture() {
    // In the second, links have changed octets of packets, which are to be told apart.
    for damage in [false, true] {
        let mut worlds = (0..).map(|seed| (seed, captured(seed, "tshark")));
        let found = worlds.find(|(_, (_, trace))| trace.contains("in, damaged") == damage);
        let (seed, (file, trace)) = found.unwrap();
        let damaged = format!("frame.comment contains \"{}\"", capture::DAMAGED);
        let bad = "_ws.malformed || ip.checksum.status == \"Bad\" || tcp.checksum.status == \"Bad\"";
        let Some(wrong) = tshark(&file, &format!("({bad}) && !({damaged})"), "frame.number") else { return };
        assert!(wrong.is_empty(), "world {seed}: frames {wrong:?}");
        let found = tshark(&file, &format!("({bad}) && {damaged}"), "frame.number").unwrap();
        assert_eq!(!found.is_empty(), damage, "world {seed}");
        let names =
            tshark(&file, "tcp.flags.syn == 1 && tcp.flags.ack == 0 && frame.p2p_dir == 0", "frame.interface_name");
        assert_eq!(names.unwrap().first().map(String::as_str), Some("client"), "the first SYN leaves the client");
        let first = trace.lines().find_map(line).unwrap().0;
        let times = tshark(&file, "frame.number == 1", "frame.time_epoch").unwrap();
        assert_eq!(times, [format!("{}.{:09}", first.as_secs(), first.subsec_nanos())]);
    }
}
