//! Sized bodies that are taken whole, whatever their clients read meanwhile.
//!
//! Many clients send all of a request before they read any of its answer. While a body goes back as it comes, such a
//! client and we would wait for each other as soon as its receive buffer and our send buffer are full. So the place of
//! the answer in send memory is found before the body is let in: the send buffer is as large as the largest body, and
//! the shard must be able to spare as much ([`Io::send_room`]). Memory is not set aside but counted: what others were
//! promised and have not sent yet. When there is too little, the body that began first gives way, if it has had
//! [`PATIENCE`] and still comes, or its answer lies here; else there is none for now.
//!
//! Must not contain: requests, answers.

use std::collections::BTreeMap;

use crate::shard::{ConnId, Io};
use crate::tcp::time::{Duration, Instant};

/// Octets of the largest sized body that is taken.
pub(super) const LARGEST: u64 = 16 << 20;
/// Bodies up to this are let in unasked: what a client has not read yet fits into its own receive buffer.
pub(super) const SMALL: u64 = 32 << 10;
/// A body and its answer may take so long before they give way to others: 1 MB a second for the largest, both ways.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// For the head of an answer, and for a block of memory that is not full.
const HEAD: u64 = 2 << 10;
/// What is queued for a connection at most.
const BUFFER: u32 = (LARGEST + HEAD) as u32;
/// Of what is free a connection may take one part in so many (`shard::shares`): whatever it takes itself, and others
/// take of what they were promised, leaves it less by that part.
const PARTS: u64 = 8;
/// So many of the oldest are looked at for one that gives way, and so many may at once.
const LOOKED_AT: usize = 64;
const AT_ONCE: usize = 16;

/// One that was let in.
#[derive(Debug)]
struct Body {
    conn: ConnId,
    since: Instant,
    /// Octets that have not been queued to go back.
    left: u64,
}

/// The bodies of a shard, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    all: BTreeMap<u64, Body>,
    /// Bodies let in so far.
    number: u64,
    /// Octets promised that have not been queued.
    owed: u64,
}

impl Bodies {
    /// Lets a body of `len` octets in, and says under which number. `None`: there is no memory for it.
    pub(super) fn admit(&mut self, io: &mut dyn Io, conn: ConnId, len: u64) -> Option<u64> {
        // Answers to requests before this one are in the buffer, too: what finds no room beside them waits for them.
        let wanted = (len + HEAD).min(u64::from(BUFFER.saturating_sub(io.unsent(conn))));
        // So that it is memory that limits the room.
        io.set_send_buffer(conn, u32::MAX);
        let fits = self.find_room(io, conn, wanted);
        io.set_send_buffer(conn, BUFFER);
        if !fits {
            return None;
        }
        self.number += 1;
        self.all.insert(self.number, Body { conn, since: io.now(), left: len });
        self.owed += len;
        Some(self.number)
    }

    /// Whether there is memory for so many octets, if need be that of others.
    fn find_room(&mut self, io: &mut dyn Io, conn: ConnId, wanted: u64) -> bool {
        let mut gone = 0;
        while u64::from(io.send_room(conn)) < wanted + (self.owed + wanted) / PARTS {
            let Some(oldest) = self.oldest(io).filter(|_| gone < AT_ONCE) else { return false };
            gone += 1;
            if let Some(body) = self.leave(oldest) {
                io.give_way(body);
            }
        }
        true
    }

    /// The body that began first, if others need not be patient with it any more.
    fn oldest(&mut self, io: &dyn Io) -> Option<u64> {
        for _ in 0..LOOKED_AT {
            let (&number, body) = self.all.first_key_value()?;
            if io.now().saturating_since(body.since) < PATIENCE {
                return None;
            }
            if body.left > 0 || u64::from(io.unsent(body.conn)) > SMALL {
                return Some(number);
            }
            // All of it has come, and the answer was read: it has nothing that others could need.
            self.all.pop_first();
        }
        None
    }

    /// So many octets of it have been queued to go back.
    pub(super) fn took(&mut self, number: u64, octets: u64) {
        if let Some(body) = self.all.get_mut(&number) {
            let octets = octets.min(body.left);
            body.left -= octets;
            self.owed -= octets;
        }
    }

    /// Its connection has ended, or goes on with something else; says which it was.
    pub(super) fn leave(&mut self, number: u64) -> Option<ConnId> {
        let body = self.all.remove(&number)?;
        self.owed -= body.left;
        Some(body.conn)
    }

    #[cfg(test)]
    pub(super) fn promised(&self) -> (usize, u64) {
        (self.all.len(), self.owed)
    }
}
