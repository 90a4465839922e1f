//! `trust capture`: the packets of a running engine, as a file for Wireshark and its kind.
//!
//! | file | holds |
//! | --- | --- |
//! | `cut` | super-segments cut into what the wire would carry |
//! | `file` | pcapng: sections, interfaces, packets, what was missed; files one after another |
//!
//! The engine keeps what the ring of each shard has room for and opens no file: all of that is here.

mod cut;
mod file;

use std::io::{self, BufReader, IsTerminal};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use self::file::{Files, Names, Start};
use super::control::client::Which;
use super::control::merge::Merge;
use super::control::packet_filter::PacketFilter;
use super::control::packets::{self, Item};
use super::control::protocol::{Ask, BUFFERS};
use super::{Error, threads};

/// Options of `trust capture`.
#[derive(Debug, Args)]
pub(crate) struct Capture {
    /// Where to write, as pcapng; -: to the standard output, for a reader behind a pipe.
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,

    /// Which packets, in the language of tcpdump: protocols, (src, dst) host, net, port, portrange, less, greater, and, or,
    /// not, brackets. Like 'tcp port 80 and host 10.7.0.1'. Without it: all.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,

    /// How many octets of each packet are kept; 0: all.
    #[arg(short, long, value_name = "OCTETS", default_value_t = 0)]
    snaplen: u32,

    /// Begin another file when one is so large: FILE, FILE.1, FILE.2 and so on. Like 64k, 100M, 1G.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    rotate: Option<u64>,

    /// Of the files that --rotate makes, keep the last so many.
    #[arg(long, value_name = "FILES", requires = "rotate", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,

    /// Cut super-segments into the segments that a wire would carry.
    #[arg(long)]
    cut: bool,

    /// End after so many packets.
    #[arg(short, long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,

    /// How much each shard may keep until it is taken from it. Like 4M.
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = buffer)]
    buffer: u64,

    #[command(flatten)]
    which: Which,
}

/// Starts a capture of the engine of this process, whose control socket is there: a process of its own, since this one will
/// open no files any more. It begins when the engine answers, and ends with it.
pub(super) fn begin(file: &Path, control: Option<&Path>) -> Result<Child, Error> {
    let Some(control) = control else { return Err(Error::Usage("--capture needs a control socket".to_owned())) };
    let file = std::path::absolute(file)?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["capture".as_ref(), "--write".as_ref(), file.as_os_str(), "--control".as_ref(), control.as_os_str()]);
    // ^C is for the engine, and its end for the capture.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().map_err(|error| Error::Run(format!("--capture: {error}")))
}

/// A number of octets: 64k, 100M, 1G.
fn size(text: &str) -> Result<u64, String> {
    let units = [('k', 10), ('K', 10), ('M', 20), ('G', 30)];
    let (number, shift) = units
        .into_iter()
        .find_map(|(unit, shift)| text.strip_suffix(unit).map(|number| (number, shift)))
        .unwrap_or((text, 0));
    let octets = number.parse::<u64>().ok().filter(|octets| *octets > 0 && number.len() < 12);
    octets.and_then(|octets| octets.checked_shl(shift)).ok_or_else(|| "not a size, like 64k, 100M or 1G".to_owned())
}

/// What a shard may keep.
fn buffer(text: &str) -> Result<u64, String> {
    size(text).and_then(|octets| if BUFFERS.contains(&octets) { Ok(octets) } else { Err("it is 64k to 1G".to_owned()) })
}

impl Capture {
    pub(crate) fn run(self) -> Result<(), Error> {
        PacketFilter::parse(&self.filter).map_err(Error::Usage)?;
        let ask = Ask::Capture { filter: self.filter.clone(), snaplen: self.snaplen, buffer: self.buffer };
        let to_output = self.write.as_os_str() == "-";
        if to_output && self.rotate.is_some() {
            return Err(Error::Usage("--rotate needs files: name one with --write".to_owned()));
        }
        if to_output && io::stdout().is_terminal() {
            let what = "--write -: the standard output is a terminal; name a file, or put a reader behind a pipe";
            return Err(Error::Usage(what.to_owned()));
        }
        let client = self.which.connect()?;
        let names = if to_output {
            Names::Output
        } else {
            Names::Files { first: self.write.clone(), rotate: self.rotate, keep: self.keep }
        };
        let is_new = !to_output && !self.write.exists();
        // First: nobody is asked for what cannot be written.
        let out = names.open()?;
        let (capturing, input) = client.capture(ask).inspect_err(|_| {
            if is_new {
                let _ = std::fs::remove_file(&self.write);
            }
        })?;
        let mut files = Files::begin(names, out, Start { capturing, filter: self.filter.clone() })?;
        if to_output {
            threads::end_without_reader()?;
        }
        let over =
            until(input.get_ref().try_clone()?, self.seconds.map(|seconds| Duration::from_secs(seconds.into())))?;
        // Whoever has read that may send a signal.
        eprintln!("capturing to {}; ^C ends it", self.write.display());
        let captured = self.take(input, &mut files, &over);
        let written = files.finish();
        eprintln!("{}", files.summary());
        captured.and(written)
    }

    /// Writes what comes until there is nothing more.
    fn take(&self, mut input: BufReader<UnixStream>, files: &mut Files, over: &AtomicBool) -> Result<(), Error> {
        let mut order = Merge::default();
        let mut left = self.count.unwrap_or(u64::MAX);
        loop {
            let item = match packets::read(&mut input) {
                Ok(item) => item,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error.into()),
                // It has ended, or was killed.
                Err(_) => None,
            };
            let tick = match item {
                Some(Item::Packet(packet)) => {
                    order.add(packet.shard, packet.sight.at, packet);
                    continue;
                }
                Some(Item::Tick(tick)) => {
                    files.counted(&tick.counts);
                    Some(tick.at)
                }
                None => None,
            };
            while left > 0
                && let Some((_, packet)) = order.take(tick)
            {
                left -= 1;
                if self.cut && packet.sight.gso_size > 0 {
                    for segment in cut::cut(&packet) {
                        files.write(&segment)?;
                    }
                } else {
                    files.write(&packet)?;
                }
            }
            files.flush()?;
            if left == 0 {
                return Ok(());
            }
            if tick.is_none() {
                if !over.load(Ordering::Acquire) {
                    eprintln!("the engine has ended");
                }
                return Ok(());
            }
        }
    }
}

/// Hangs up when a signal says so, or the time is over; what comes back says whether that was.
fn until(stream: UnixStream, time: Option<Duration>) -> Result<Arc<AtomicBool>, Error> {
    let (over, interrupted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for signal in threads::ending_signals() {
        // The second one ends it at once.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&interrupted))?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let told = Arc::clone(&over);
    let end = time.map(|time| Instant::now() + time);
    // Not waited for: it sleeps.
    threads::start("end", move || {
        while !interrupted.load(Ordering::Acquire) && end.is_none_or(|end| Instant::now() < end) {
            std::thread::sleep(Duration::from_millis(20));
        }
        told.store(true, Ordering::Release);
        let _ = stream.shutdown(Shutdown::Write);
    })?;
    Ok(over)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, octets) in [("1", 1), ("64k", 65_536), ("64K", 65_536), ("100M", 104_857_600), ("1G", 1 << 30)] {
            assert_eq!(size(text), Ok(octets), "{text}");
        }
        for text in ["", "k", "0", "-1", "1kk", "1.5M", "99999999999999999999", "1T", "M1"] {
            assert!(size(text).is_err(), "{text}");
        }
        for (text, fits) in [("63k", false), ("64k", true), ("1G", true), ("1025M", false), ("x", false)] {
            assert_eq!(buffer(text).is_ok(), fits, "{text}");
        }
    }
}
