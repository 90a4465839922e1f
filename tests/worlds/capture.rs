//! A world as a pcapng file: each packet that a host sends or gets, for tshark and its kind.
//!
//! An interface for each host, raw IP, in nanoseconds from the begin of the world: the time of a packet is that of its
//! line in the trace. What a receiver must not take (a link has changed octets of it) and what is no wire segment says so
//! in a comment.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, PcapError, PcapResult};
use trust::sim::{HostId, Packet, Way, World};
use trust::tcp::Instant;

/// Comment on a packet that a link has changed.
pub const DAMAGED: &str = "damaged on the way";

/// if_tsresol: ten to the minus ninth.
const NANOSECONDS: u8 = 9;

struct Capture {
    writer: PcapNgWriter<BufWriter<File>>,
    /// Their places are the numbers of the interfaces.
    hosts: Vec<HostId>,
    start: Instant,
}

/// Writes what will happen in `world` to a file. It is complete once the world is dropped.
pub fn start(world: &mut World, path: &Path) -> PcapResult<()> {
    let comment = format!("world {}", world.seed());
    let options =
        vec![SectionHeaderOption::UserApplication("trust".into()), SectionHeaderOption::Comment(comment.into())];
    let section = SectionHeaderBlock { options, ..SectionHeaderBlock::default() };
    let file = File::create(path).map_err(PcapError::IoError)?;
    let mut writer = PcapNgWriter::with_section_header(BufWriter::new(file), section)?;
    let hosts: Vec<HostId> = world.hosts().collect();
    for host in &hosts {
        let options = vec![
            InterfaceDescriptionOption::IfName(world.host_name(*host).into()),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        // No limit: super-segments come whole.
        writer.write_pcapng_block(InterfaceDescriptionBlock { linktype: DataLink::RAW, snaplen: 0, options })?;
    }
    let mut capture = Capture { writer, hosts, start: world.now() };
    world.set_tap(Box::new(move |now, host, way, packet| {
        capture.write(now, host, way, packet).expect("the capture can be written");
    }));
    Ok(())
}

impl Capture {
    fn write(&mut self, now: Instant, host: HostId, way: Way, packet: &Packet) -> PcapResult<()> {
        let mut whole = packet.clone();
        whole.complete_checksum();
        // epb_flags, lowest two bits: inbound or outbound.
        let mut options = vec![EnhancedPacketOption::Flags(if way == Way::In { 1 } else { 2 })];
        if packet.gso_size > 0 {
            let comment = format!("super-segment of {} x {} octets", packet.wire_segments(), packet.gso_size);
            options.push(EnhancedPacketOption::Comment(comment.into()));
        }
        if packet.damaged {
            options.push(EnhancedPacketOption::Comment(DAMAGED.into()));
        }
        self.writer.write_pcapng_block(EnhancedPacketBlock {
            interface_id: self.hosts.iter().position(|known| *known == host).unwrap_or_default() as u32,
            timestamp: Duration::from_nanos(now.saturating_since(self.start).as_nanos()),
            original_len: whole.data.len() as u32,
            data: whole.data.into(),
            options,
        })?;
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Err(error) = self.writer.get_mut().flush() {
            eprintln!("the capture is not complete: {error}");
        }
    }
}
