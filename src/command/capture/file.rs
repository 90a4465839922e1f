//! pcapng files (draft-ietf-opsawg-pcapng): a section, an interface for each shard, packets, what was missed.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, PcapError};
use trust::device::segment;
use trust::shard::tap::{Cause, Note, TapCounts, Way};

use super::super::Error;
use super::super::control::packets::Packet;
use super::super::control::protocol::Capturing;

/// if_tsresol: ten to the minus ninth.
const NANOSECONDS: u8 = 9;

/// Octets that are written at a time.
const BATCH: usize = 256 << 10;

/// What the file says of its begin.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) capturing: Capturing,
    pub(super) filter: String,
}

/// Where it goes.
#[derive(Debug)]
pub(super) enum Names {
    Output,
    Files { first: PathBuf, rotate: Option<u64>, keep: Option<u32> },
}

impl Names {
    /// The first file, with what there may be in it: that goes when there is something to write.
    pub(super) fn open(&self) -> Result<Out, Error> {
        Ok(match self {
            Self::Output => Out::Output(io::stdout()),
            Self::Files { first, .. } => {
                let opened = File::options().write(true).create(true).truncate(false).open(first);
                Out::File(opened.map_err(|error| named(first, &error))?)
            }
        })
    }
}

/// Files, one after another.
pub(super) struct Files {
    names: Names,
    start: Start,
    /// Whole blocks that are not written yet.
    blocks: PcapNgWriter<Vec<u8>>,
    /// Where each of them ends.
    ends: Vec<usize>,
    out: Out,
    /// How many files there were before.
    number: u32,
    /// Octets that are in the file.
    written: u64,
    packets: u64,
    /// Packets whose time is before that of one already written.
    late: u64,
    newest: Duration,
    counts: Vec<TapCounts>,
    failed: bool,
}

pub(super) enum Out {
    Output(io::Stdout),
    File(File),
}

impl Write for Out {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Output(output) => output.write(octets),
            Self::File(file) => file.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Output(output) => output.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

impl Files {
    /// The first one, which is `out`.
    pub(super) fn begin(names: Names, out: Out, start: Start) -> Result<Self, Error> {
        if let (Out::File(file), Names::Files { first, .. }) = (&out, &names)
            && file.metadata().is_ok_and(|metadata| metadata.is_file())
        {
            file.set_len(0).map_err(|error| named(first, &error))?;
        }
        let counts = vec![TapCounts::default(); start.capturing.shards.into()];
        let blocks = section(&start)?;
        let mut files = Self {
            names,
            start,
            blocks,
            ends: Vec::new(),
            out,
            number: 0,
            written: 0,
            packets: 0,
            late: 0,
            newest: Duration::ZERO,
            counts,
            failed: false,
        };
        files.ends.push(files.blocks.get_ref().len());
        files.flush()?;
        Ok(files)
    }

    /// What the taps have counted so far.
    pub(super) fn counted(&mut self, counts: &[TapCounts]) {
        for (mine, theirs) in self.counts.iter_mut().zip(counts) {
            *mine = *theirs;
        }
    }

    pub(super) fn write(&mut self, packet: &Packet) -> Result<(), Error> {
        let Packet { shard, sight, octets } = packet;
        if usize::from(*shard) >= self.counts.len() {
            return Ok(());
        }
        let mut whole = None;
        // Of a super-segment, too: it is then sound as one packet.
        if sight.checksum_start > 0 && sight.kept == sight.len {
            let mut copy = octets.clone();
            segment::fill_checksum(&mut copy);
            whole = Some(copy);
        }
        let timestamp = Duration::from_nanos(self.start.capturing.clock.wall(sight.at));
        // epb_flags, lowest two bits: inbound or outbound.
        let mut options = vec![EnhancedPacketOption::Flags(if sight.way == Way::In { 1 } else { 2 })];
        if sight.missed > 0 {
            options.push(EnhancedPacketOption::DropCount(sight.missed.into()));
        }
        let mut comments = Vec::new();
        match sight.note {
            Note::None => {}
            Note::Dropped(reason) => comments.push(format!("dropped: {}", reason.name())),
            Note::Again(cause) => comments.push(format!("sent again: {}", why(cause))),
        }
        if sight.gso_size > 0 {
            comments.push(format!("super-segment, cut every {} octets", sight.gso_size));
        }
        if sight.way == Way::In && u16::from(sight.queue) != *shard {
            comments.push(format!("came by queue {}", sight.queue));
        }
        if sight.missed > 0 {
            comments.push(format!("{} packets before this one were missed", sight.missed));
        }
        if timestamp < self.newest {
            self.late += 1;
            comments.push("late: packets of later times are in front of it".to_owned());
        }
        self.newest = self.newest.max(timestamp);
        options.extend(comments.into_iter().map(|comment| EnhancedPacketOption::Comment(comment.into())));
        let block = EnhancedPacketBlock {
            interface_id: (*shard).into(),
            timestamp,
            original_len: sight.len,
            data: whole.as_ref().unwrap_or(octets).into(),
            options,
        };
        self.blocks.write_pcapng_block(block).map_err(pcap)?;
        self.ends.push(self.blocks.get_ref().len());
        self.packets += 1;
        if self.blocks.get_ref().len() > BATCH {
            self.flush()?;
        }
        self.rotate()
    }

    /// Another file, if this one is large enough.
    fn rotate(&mut self) -> Result<(), Error> {
        let Names::Files { first, rotate: Some(most), keep } = &self.names else { return Ok(()) };
        if self.written + (self.blocks.get_ref().len() as u64) < *most {
            return Ok(());
        }
        let (next, oldest) = (self.number + 1, keep.and_then(|keep| (self.number + 1).checked_sub(keep)));
        let (next, oldest) = (numbered(first, next), oldest.map(|oldest| numbered(first, oldest)));
        self.statistics()?;
        self.flush()?;
        self.out = Out::File(create(&next)?);
        self.number += 1;
        self.written = 0;
        self.blocks = section(&self.start)?;
        self.ends = vec![self.blocks.get_ref().len()];
        if let Some(oldest) = oldest {
            std::fs::remove_file(&oldest).map_err(|error| named(&oldest, &error))?;
        }
        Ok(())
    }

    /// What was seen and missed up to now.
    fn statistics(&mut self) -> Result<(), Error> {
        for (shard, TapCounts { seen, missed }) in self.counts.iter().enumerate() {
            let options =
                vec![InterfaceStatisticsOption::IsbIfRecv(*seen), InterfaceStatisticsOption::IsbIfDrop(*missed)];
            // The upper half comes first, in the section's order of octets; the writer takes the whole as one number.
            let nanos = self.newest.as_nanos() as u64;
            let timestamp = if cfg!(target_endian = "little") { nanos.rotate_left(32) } else { nanos };
            let block = InterfaceStatisticsBlock { interface_id: shard as u32, timestamp, options };
            self.blocks.write_pcapng_block(block).map_err(pcap)?;
            self.ends.push(self.blocks.get_ref().len());
        }
        Ok(())
    }

    /// Writes what there is. What cannot be written whole is taken out of the file again, to the last whole block: it
    /// stays readable.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let result = self.out.write_all(self.blocks.get_ref()).and_then(|()| self.out.flush());
        let Err(error) = result else {
            self.written += self.blocks.get_ref().len() as u64;
            self.blocks.get_mut().clear();
            self.ends.clear();
            return Ok(());
        };
        self.failed = true;
        let (Out::File(file), Names::Files { first, .. }) = (&self.out, &self.names) else {
            return Err(Error::output(error));
        };
        if let Ok(there) = file.metadata().map(|metadata| metadata.len()) {
            let ends = self.ends.iter().map(|end| self.written + *end as u64);
            let whole = ends.take_while(|end| *end <= there).last().unwrap_or(self.written);
            let _ = file.set_len(whole);
        }
        Err(named(&numbered(first, self.number), &error))
    }

    /// The end of the last file.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        if self.failed {
            return Ok(());
        }
        self.statistics()?;
        self.flush()
    }

    /// One line for people.
    pub(super) fn summary(&self) -> String {
        let missed: u64 = self.counts.iter().map(|counts| counts.missed).sum();
        let seen: u64 = self.counts.iter().map(|counts| counts.seen).sum();
        let mut text = format!("{} packets written, {seen} seen, {missed} missed", self.packets);
        if self.late > 0 {
            text += &format!(", {} late", self.late);
        }
        if self.number > 0 {
            text += &format!(", in {} files", self.number + 1);
        }
        text
    }
}

fn why(cause: Cause) -> &'static str {
    match cause {
        Cause::Loss => "it was found lost",
        Cause::Timeout => "the retransmission timer fired",
        Cause::Probe => "a probe",
    }
}

/// The begin of each file.
fn section(start: &Start) -> Result<PcapNgWriter<Vec<u8>>, Error> {
    let mut options = vec![SectionHeaderOption::UserApplication(concat!("trust ", env!("CARGO_PKG_VERSION")).into())];
    if !start.filter.is_empty() {
        options.push(SectionHeaderOption::Comment(format!("filter: {}", start.filter).into()));
    }
    let section = SectionHeaderBlock { options, ..SectionHeaderBlock::default() };
    let mut writer = PcapNgWriter::with_section_header(Vec::with_capacity(2 * BATCH), section).map_err(pcap)?;
    for shard in 0..start.capturing.shards {
        let options = vec![
            InterfaceDescriptionOption::IfName(format!("shard {shard}").into()),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        let snaplen = start.capturing.snaplen;
        let block = InterfaceDescriptionBlock { linktype: DataLink::RAW, snaplen, options };
        writer.write_pcapng_block(block).map_err(pcap)?;
    }
    Ok(writer)
}

fn create(path: &Path) -> Result<File, Error> {
    File::create(path).map_err(|error| named(path, &error))
}

fn named(path: &Path, error: &io::Error) -> Error {
    Error::Run(format!("{}: {error}", path.display()))
}

/// Into memory nothing fails but what has no sense.
fn pcap(error: PcapError) -> Error {
    Error::Run(format!("the capture: {error}"))
}

/// FILE, FILE.1, FILE.2; with an ending, file.1.pcapng.
fn numbered(first: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return first.to_owned();
    }
    match first.extension() {
        Some(ending) => first.with_extension(format!("{number}.{}", ending.display())),
        None => first.with_extension(number.to_string()),
    }
}
