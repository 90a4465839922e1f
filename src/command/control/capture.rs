//! The packets of a running engine for one who asks: taps on its shards, and what they have seen down the socket.
//!
//! Whoever does not read is waited for here; the taps count meanwhile what they cannot keep.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use trust::engine::Handle;
use trust::shard::tap::{self, TapOptions, TapReader};
use trust::tcp;

use super::packet_filter::PacketFilter;
use super::packets::{self, Tick};
use super::protocol::{Answer, BUFFERS, Capturing};
use super::session::{Counted, Session};
use super::talk::{End, write};

/// How often the rings of the taps are looked at, while they are found empty.
const LOOK: Duration = Duration::from_millis(10);

/// Octets that are written at a time.
const BATCH: usize = 256 << 10;

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
    let session = Session::begin(handle, "another capture is going on", |shard, tell| {
        let filter = filter.clone();
        let (tap, reader) = tap::tap(TapOptions {
            snaplen: wanted.snaplen,
            buffer: wanted.buffer as usize,
            filter: (!filter.is_empty()).then(|| Box::new(move |facts: &tap::Facts| filter.matches(facts)) as _),
        });
        (reader, handle.tap(shard, tap, tell))
    });
    let session = session.await?;
    let _counted = Counted::new(captures);
    let shards = session.readers.len() as u16;
    let capturing = Capturing { shards, snaplen: wanted.snaplen, clock: session.clock() };
    write(stream, Answer::Capture(capturing).line().as_bytes()).await?;
    let (mut reads, mut writes) = stream.split();
    let mut taps = Taps { session, octets: Vec::new(), batch: Vec::with_capacity(2 * BATCH) };
    let mut hung_up = false;
    loop {
        let seen = taps.session.look();
        while taps.fill() {
            writes.write_all(&taps.batch).await.map_err(|_| None)?;
            taps.batch.clear();
        }
        // At the end nothing more comes.
        let before = seen.filter(|_| !hung_up);
        let at = before.unwrap_or(tcp::Instant::MAX);
        let counts = taps.session.readers.iter().map(TapReader::counts).collect();
        packets::write_tick(&mut taps.batch, &Tick { at, counts });
        writes.write_all(&taps.batch).await.map_err(|_| None)?;
        taps.batch.clear();
        if before.is_none() {
            // Whoever hung up may still read; there is nothing more to ask.
            return Err(None);
        }
        tokio::select! {
            read = reads.read_u8() => hung_up |= read.is_err(),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// What the taps have seen.
struct Taps {
    session: Session<TapReader>,
    octets: Vec<u8>,
    /// Not written yet.
    batch: Vec<u8>,
}

impl Taps {
    /// Takes what fits a batch; whether it is full.
    fn fill(&mut self) -> bool {
        for (shard, reader) in self.session.readers.iter_mut().enumerate() {
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
