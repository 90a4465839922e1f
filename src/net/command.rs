//! [`Command`]: what applications ask of a shard's agent, and the way there.
//!
//! A socket that wants its shard's attention sets bits in its own bell and sends one [`Command::Ring`] when the bell
//! was silent. So the queue holds at most one of those for each socket, however much is written and read.

use crossbeam::channel::Sender;

use super::listening::Opening;
use super::mailbox::Mailbox;
use super::socket::{Answer, Birth, Doorbell, Key};
use crate::flow::Endpoint;
use crate::tcp::Instant;

/// The commands for one shard.
pub(crate) type Mail = Mailbox<Command>;

/// What an application asks of a shard.
#[derive(Debug)]
pub(crate) enum Command {
    /// The socket with that key has set bits in its bell.
    Ring(Key),
    /// Open a connection.
    Connect(Box<Birth>),
    /// Listen.
    Listen(Box<Opening>),
    /// Listen no more.
    Unlisten { local: Endpoint, tag: u64, done: Sender<()> },
    /// TTL of connections accepted from now on.
    ListenTtl { local: Endpoint, tag: u64, ttl: u8 },
    /// Look at the accept queue of that listener again at `at`.
    Remind { tag: u64, at: Instant },
    /// What does the connection look like?
    Inquire(Key, Sender<Answer>),
}

impl Doorbell for Mail {
    fn ring(&self, key: Key) {
        self.send(Command::Ring(key));
    }

    fn inquire(&self, key: Key, reply: Sender<Answer>) -> bool {
        self.send(Command::Inquire(key, reply))
    }

    fn may_wait(&self) -> bool {
        Mailbox::may_wait(self)
    }
}
