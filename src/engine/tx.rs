//! The sending stage: writes the frames of its workers to a device queue and returns each frame's memory.
//!
//! Must not contain: threads, waiting, TCP.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::rx::{BATCH_OCTETS, BATCH_PACKETS};
use super::stage::{Poll, StageStats};
use crate::buffer::frame::{Completion, TxFrame};
use crate::buffer::ring::{Consumer, Producer};
use crate::buffer::send_memory::SendReader;
use crate::buffer::wake::{Interest, Unparker};
use crate::device::{Transmitted, TxQueue};
use crate::tcp::{Duration, Instant};

/// The rings between one worker and this stage.
#[derive(Debug)]
pub(super) struct FromWorker {
    pub(super) frames: Consumer<TxFrame>,
    /// Frames that the device has taken. As large as `frames`, and drained before it is filled again.
    pub(super) completions: Producer<Completion>,
    /// Reads that worker's send memory.
    pub(super) memory: SendReader,
    /// `None`: the worker runs on the same thread.
    pub(super) unparker: Option<Unparker<mio::Waker>>,
}

/// One sending stage: writes its workers' frames to one device queue, and sends their completions back.
pub(super) struct Tx {
    queue: Box<dyn TxQueue>,
    workers: Vec<FromWorker>,
    stats: Arc<StageStats>,
    refused: u64,
    /// The device had no room for the frame that is next, and gives no sign when it has.
    stalled: bool,
}

/// How soon a device that was full is tried again.
const RETRY: Duration = Duration::from_micros(200);

impl Tx {
    pub(super) fn new(queue: Box<dyn TxQueue>, workers: Vec<FromWorker>, stats: Arc<StageStats>) -> Self {
        Self { queue, workers, stats, refused: 0, stalled: false }
    }

    /// Writes one batch.
    pub(super) fn poll(&mut self) -> io::Result<Poll> {
        let mut total = 0;
        self.stalled = false;
        for index in 0..self.workers.len() {
            total += self.drain(index)?;
        }
        if total > 0 {
            self.queue.flush()?;
        }
        Ok(Poll { work: total, drained: true })
    }

    fn drain(&mut self, index: usize) -> io::Result<usize> {
        let worker = &mut self.workers[index];
        let mut packets = 0;
        let mut octets = 0;
        let mut completed = false;
        while packets < BATCH_PACKETS && octets < BATCH_OCTETS && worker.completions.has_room(1) {
            let Some(frame) = worker.frames.peek() else { break };
            octets += frame.len();
            match self.queue.transmit(frame.header(), &frame.payload(&worker.memory), &frame.offload)? {
                Transmitted::Sent => {}
                Transmitted::Full => {
                    self.stalled = true;
                    break;
                }
                Transmitted::Dropped => {
                    self.refused += 1;
                    self.stats.refused.store(self.refused, Ordering::Relaxed);
                }
            }
            packets += 1;
            let Some(frame) = worker.frames.pop() else { break };
            if let Some(completion) = frame.complete() {
                // There is room: looked for above.
                let _ = worker.completions.stage(completion);
                completed = true;
            }
        }
        worker.frames.release();
        if completed {
            worker.completions.publish();
        }
        if packets > 0
            && let Some(unparker) = &worker.unparker
        {
            unparker.notify(Interest::ROOM);
        }
        Ok(packets)
    }

    /// Whether a turn would find something in the rings.
    pub(super) fn ready(&mut self) -> bool {
        !self.stalled && self.workers.iter_mut().any(|worker| !worker.frames.is_empty())
    }

    /// When the device is to be tried again, if it was full.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.stalled.then(|| now + RETRY)
    }
}
