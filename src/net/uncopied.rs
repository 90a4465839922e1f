//! Sending and receiving without a copy on the application's side: [`Bytes`] on the way out, borrowed octets on the way in.
//!
//! What an application writes as `Bytes` stays where it is until the peer has acknowledged it. What it reads by
//! [`read_with`](TcpStream::read_with) it sees in the socket's own queue.

use std::io;
use std::mem;

use bytes::{Buf, Bytes};

use super::stream::TcpStream;
use crate::buffer::octets::{LEAST_PIECE, OctetWriter};

impl TcpStream {
    /// Writes `bytes` without copying them: they are kept, and with them the allocation they are a part of, until the peer
    /// has acknowledged them. As [`write`](io::Write::write), a blocking call returns when all are queued. What is queued
    /// is gone from `bytes`; the number of octets is returned.
    ///
    /// Pays for pieces of some kilobytes and more: less than 2,048 octets are copied.
    ///
    /// # Errors
    ///
    /// As writing.
    pub fn write_bytes(&self, bytes: &mut Bytes) -> io::Result<usize> {
        self.transmit_all(bytes.len(), |_| self.try_write_bytes(bytes))
    }

    pub(crate) fn try_write_bytes(&self, bytes: &mut Bytes) -> io::Result<usize> {
        self.try_transmit(bytes.is_empty(), false, |writer, most| push(writer, bytes, most))
    }

    /// Reads in place: `take` is shown the first octets that are there, as many as lie in one piece, and says how many of
    /// them it is done with, which is what is returned. The rest comes again. At the end of the stream 0 is returned and
    /// `take` not called.
    ///
    /// While `take` runs no other thread can read the stream, and if it reads the stream itself, it waits for ever.
    ///
    /// # Errors
    ///
    /// As reading.
    pub fn read_with(&self, mut take: impl FnMut(&[u8]) -> usize) -> io::Result<usize> {
        self.receive(|reader| reader.take_with(&mut take))
    }
}

/// Puts at most so many octets.
fn push(writer: &mut OctetWriter, bytes: &mut Bytes, most: usize) -> usize {
    let before = bytes.len();
    // A crumb would be copied: better to wait for more room.
    if writer.room() < before.min(LEAST_PIECE).min(writer.capacity().div_ceil(3)) {
        return 0;
    }
    if most < before {
        let rest = writer.push_bytes(bytes.slice(..most)).map_or_else(|rest| rest.len(), |()| 0);
        bytes.advance(most - rest);
    } else if let Err(rest) = writer.push_bytes(mem::take(bytes)) {
        *bytes = rest;
    }
    before - bytes.len()
}
