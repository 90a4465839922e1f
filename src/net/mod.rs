//! Sockets for programs on other threads: [`TcpListener`] and [`TcpStream`] with the names and semantics of `std::net`.
//!
//! ```text
//! application thread                                            shard's thread
//! TcpStream ── Handle ══ octet queues, bell, state ══ End ── Agent (a Service) ── connection
//! ```
//!
//! An application reaches a shard only through what is in the middle: two queues of octets for each socket, words with
//! bits, and one queue of commands for each shard. The shard's side waits for no lock and wakes only those who announced that
//! they wait.
//!
//! | file | holds |
//! | --- | --- |
//! | `mailbox`, `wait` | how commands reach a shard, how applications wait |
//! | `registration` | one socket in one event queue |
//! | `settings` | what can be set, as it is kept |
//! | `socket`, `listening` | what both sides of a socket and of a listener share |
//! | `command`, `agent` | what is asked of a shard's side, and that side |
//! | `stack` | [`Stack`], what all sockets share |
//! | `stream`, `listener` | what programs use |
//! | `accepting` | the order of accepting |
//! | `unopened` | [`TcpSocket`], a socket before it is open |
//! | `opening` | from a stack to open sockets |
//! | `options` | what can be set |
//! | `uncopied` | reading and writing without a copy |
//! | `events` | readiness for mio: [`EventQueue`] |
//! | `tokio` (feature `tokio`) | the same sockets for tasks |
//!
//! Each imports only files above it.

mod accepting;
mod agent;
mod command;
mod events;
mod listener;
mod listening;
mod mailbox;
mod opening;
mod options;
#[cfg(test)]
mod order_tests;
mod registration;
mod settings;
mod socket;
mod stack;
mod stream;
#[cfg(feature = "tokio")]
pub mod tokio;
mod uncopied;
mod unopened;
mod wait;
#[cfg(test)]
mod writing_tests;

pub(crate) use self::command::Mail;
pub use self::events::EventQueue;
pub use self::listener::{Incoming, TcpListener};
pub(crate) use self::mailbox::Reader;
pub use self::opening::BACKLOG;
pub use self::registration::{SocketEvent, Watchable};
pub(crate) use self::stack::Parts;
pub use self::stack::{SocketLimits, Stack};
pub use self::stream::TcpStream;
pub use self::unopened::TcpSocket;
pub use crate::shard::ConnectOptions;

// As std's sockets. A closure of the caller's (`read_with`) that panics has taken nothing; locks do not care for poison.
impl std::panic::UnwindSafe for Stack {}
impl std::panic::RefUnwindSafe for Stack {}
impl std::panic::UnwindSafe for TcpListener {}
impl std::panic::RefUnwindSafe for TcpListener {}
impl std::panic::UnwindSafe for TcpStream {}
impl std::panic::RefUnwindSafe for TcpStream {}
