//! A thread of the stand-in: it reads its queue, answers, and writes to whoever has room.

use super::flow::{Flows, Place, Prod};
use super::{PAGE, PATIENCE};
use crate::sys;
use std::fs::File;
use std::hint::spin_loop;
use std::io::{self, Read};
use std::time::Instant;

/// Packets that are read before writers have their turn.
const BATCH: usize = 64;
const LARGEST: usize = 1 << 17;

pub(super) fn run(queue: &File, cpu: usize, flows: &Flows, spin: bool, until: Option<Instant>) -> io::Result<()> {
    sys::pin_to_cpu(cpu)?;
    let mut buffer = vec![0_u8; PAGE + LARGEST];
    let aligned = buffer.as_ptr().align_offset(PAGE).min(PAGE);
    let buffer = &mut buffer[aligned..];
    // Those with room in their window, and all that were ever among them.
    let mut ready: Vec<Place> = Vec::new();
    let mut senders: Vec<Place> = Vec::new();
    let mut turns = 0_u32;
    loop {
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(64) && until.is_some_and(|end| Instant::now() >= end) {
            return Ok(());
        }
        let mut idle = true;
        for _ in 0..BATCH {
            let mut from = queue;
            match from.read(buffer) {
                Ok(length) => {
                    idle = false;
                    let Some(place) = flows.take(queue, &buffer[..length]) else { continue };
                    ready.push(place);
                    if !senders.contains(&place) {
                        senders.push(place);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        ready.retain(|&place| flows.pump(queue, place));
        if !idle || !ready.is_empty() {
            continue;
        }
        if spin {
            spin_loop();
        } else if !sys::wait_readable(queue, PATIENCE)? {
            senders.retain(|&place| match flows.prod(place) {
                Prod::Serve => {
                    ready.push(place);
                    true
                }
                Prod::Leave => true,
                Prod::Forget => false,
            });
            if until.is_some_and(|end| Instant::now() >= end) {
                return Ok(());
            }
        }
    }
}
