//! [`Mailbox`]: the way from applications into one shard: a queue of commands, and a signal when the shard sleeps.
//!
//! Must not contain: what is commanded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use crossbeam::queue::SegQueue;

use crate::buffer::wake::{Interest, Unparker};

/// Who reads the mail.
#[derive(Debug)]
pub(crate) enum Reader {
    /// A thread of the engine, which may sleep.
    Thread(Option<Unparker<mio::Waker>>),
    /// Whoever polls an embedded host.
    Embedder {
        /// Called for the first command after each look.
        waker: Option<Waker>,
        /// Polling goes on while a call waits, because another thread does it.
        independent: bool,
    },
}

/// The commands that applications have for one shard, and the way to wake it for them.
#[derive(Debug)]
pub(crate) struct Mailbox<C> {
    commands: SegQueue<C>,
    reader: Reader,
    /// The embedder's waker has been called since his last look.
    called: AtomicBool,
    /// Nobody reads it any more.
    closed: AtomicBool,
}

impl<C> Mailbox<C> {
    pub(crate) fn new(reader: Reader) -> Self {
        let (called, closed) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { commands: SegQueue::new(), reader, called, closed }
    }

    /// Whether an application may wait for what the reader does: not where it would itself have to make it read.
    pub(crate) fn may_wait(&self) -> bool {
        match &self.reader {
            Reader::Thread(_) => true,
            Reader::Embedder { independent, .. } => *independent,
        }
    }

    /// `false`: the shard is gone; what the command held is dropped.
    pub(crate) fn send(&self, command: C) -> bool {
        self.commands.push(command);
        // The reader closes first and empties afterwards: either it sees this command or we see that it has closed.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.closed.load(Ordering::Relaxed) {
            while self.commands.pop().is_some() {}
            return false;
        }
        match &self.reader {
            Reader::Thread(Some(unparker)) => {
                unparker.notify(Interest::DATA);
            }
            Reader::Embedder { waker: Some(waker), .. } if !self.called.swap(true, Ordering::AcqRel) => {
                waker.wake_by_ref();
            }
            Reader::Thread(None) | Reader::Embedder { .. } => {}
        }
        true
    }

    /// The embedder is about to look: from here on another command calls him again.
    pub(crate) fn look(&self) {
        self.called.swap(false, Ordering::AcqRel);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(crate) fn next(&self) -> Option<C> {
        self.commands.pop()
    }

    /// No more commands are taken. What is still there is dropped, and with it what waits for an answer.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        while self.commands.pop().is_some() {}
    }
}
