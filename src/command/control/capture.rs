//! The packets of a running engine for one who asks: taps on its shards, and what they have seen down the socket.
//!
//! Whoever does not read is waited for here; the taps count meanwhile what they cannot keep.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use trust::engine::Handle;
use trust::flow::ShardId;
use trust::shard::tap::{self, TapOptions, TapReader};
use trust::tcp;

use super::packet_filter::PacketFilter;
use super::packets::{self, Tick};
use super::protocol::{Answer, Capturing};
use super::talk::{End, answer, write};

/// How often the rings of the taps are looked at, while they are found empty.
const LOOK: Duration = Duration::from_millis(10);

/// What a shard notes in a turn has the time of the turn's begin, and may be shown so much later.
const LAG: tcp::Duration = tcp::Duration::from_millis(100);

/// Octets that are written at a time.
const BATCH: usize = 256 << 10;

/// The least and the most that a tap may keep for its reader.
const BUFFERS: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;

/// What a capture keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) filter: &'a str,
    /// Octets of a packet; 0: all.
    pub(super) snaplen: u32,
    /// Octets of the ring of each shard.
    pub(super) buffer: u64,
}

/// Sends packets until the other side hangs up, or the engine ends.
pub(super) async fn serve(
    stream: &mut UnixStream,
    handle: &Handle,
    wanted: Wanted<'_>,
    captures: &AtomicUsize,
) -> Result<(), End> {
    let filter = PacketFilter::parse(wanted.filter).map_err(Some)?;
    if !BUFFERS.contains(&wanted.buffer) {
        return Err(Some(format!("a buffer is {} to {} octets", BUFFERS.start(), BUFFERS.end())));
    }
    let mut readers = Vec::new();
    let mut start = None;
    for shard in (0..handle.shards()).map(|index| ShardId(index as u16)) {
        let filter = filter.clone();
        let (tap, reader) = tap::tap(TapOptions {
            snaplen: wanted.snaplen,
            buffer: wanted.buffer as usize,
            filter: (!filter.is_empty()).then(|| Box::new(move |facts: &tap::Facts| filter.matches(facts)) as _),
        });
        let (tell, told) = oneshot::channel();
        let asked = handle.tap(shard, tap, move |now| _ = tell.send(now.map(|now| (now, Instant::now()))));
        let Some(times) = answer(asked, told).await? else {
            return Err(Some("another capture is going on".to_owned()));
        };
        start.get_or_insert(times);
        readers.push(reader);
    }
    let _counted = Counted::new(captures);
    let Some((at, then)) = start else { return Err(Some("there is no shard".to_owned())) };
    let wall = SystemTime::now().checked_sub(then.elapsed()).and_then(|wall| wall.duration_since(UNIX_EPOCH).ok());
    let capturing = Capturing {
        shards: readers.len() as u16,
        snaplen: wanted.snaplen,
        at_ns: at.as_nanos(),
        wall_ns: wall.unwrap_or_default().as_nanos() as u64,
    };
    write(stream, Answer::Capture(capturing).line().as_bytes()).await?;
    let clock = |now: Instant| at + tcp::Duration::from_nanos(now.saturating_duration_since(then).as_nanos() as u64);
    let (mut reads, mut writes) = stream.split();
    let mut taps = Taps { readers, octets: Vec::new(), batch: Vec::with_capacity(2 * BATCH) };
    let mut hung_up = false;
    loop {
        let now = clock(Instant::now());
        let closed = taps.readers.iter().all(TapReader::is_closed);
        taps.readers.iter_mut().for_each(TapReader::look);
        while taps.fill() {
            writes.write_all(&taps.batch).await.map_err(|_| None)?;
            taps.batch.clear();
        }
        let over = hung_up || closed;
        // At the end nothing more comes.
        let at = if over { tcp::Instant::MAX } else { now.saturating_sub(LAG) };
        let counts = taps.readers.iter().map(TapReader::counts).collect();
        packets::write_tick(&mut taps.batch, &Tick { at, counts });
        writes.write_all(&taps.batch).await.map_err(|_| None)?;
        taps.batch.clear();
        if over {
            // Whoever hung up may still read; there is nothing more to ask.
            return Err(None);
        }
        tokio::select! {
            read = reads.read_u8() => hung_up |= read.is_err(),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// One that captures, for as long as it is there.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(captures: &'a AtomicUsize) -> Self {
        captures.fetch_add(1, Ordering::Relaxed);
        Self(captures)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the taps have seen.
struct Taps {
    readers: Vec<TapReader>,
    octets: Vec<u8>,
    /// Not written yet.
    batch: Vec<u8>,
}

impl Taps {
    /// Takes what fits a batch; whether it is full.
    fn fill(&mut self) -> bool {
        for (shard, reader) in self.readers.iter_mut().enumerate() {
            while self.batch.len() < BATCH
                && let Some(sight) = reader.next(&mut self.octets)
            {
                packets::write_packet(&mut self.batch, shard as u16, &sight, &self.octets);
            }
            reader.release();
        }
        self.batch.len() >= BATCH
    }
}
