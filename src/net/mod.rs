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
//! | `stack` | [`Stack`], the way in |
//! | `unopened` | [`TcpSocket`], a socket before it is open |
//! | `listener`, `stream` | what programs use |
//! | `uncopied` | reading and writing without a copy |
//! | `options`, `settings` | what can be set, and how it is kept |
//! | `events` | readiness for mio: [`EventQueue`] |
//! | `socket` | what both sides of a socket share |
//! | `mail`, `wait` | how commands reach a shard, how applications wait |
//! | `accepting` | the order of accepting |
//! | `agent` | the shard's side |

mod accepting;
mod agent;
mod events;
mod listener;
mod mail;
mod options;
#[cfg(test)]
mod order_tests;
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

pub use self::events::{EventQueue, SocketEvent, Watchable};
pub use self::listener::{Incoming, TcpListener};
pub(crate) use self::mail::{Mail, Reader};
pub use self::options::ConnectOptions;
pub(crate) use self::stack::Parts;
pub use self::stack::{BACKLOG, SocketLimits, Stack};
pub use self::stream::TcpStream;
pub use self::unopened::TcpSocket;

// As std's sockets. A closure of the caller's (`read_with`) that panics has taken nothing; locks do not care for poison.
impl std::panic::UnwindSafe for Stack {}
impl std::panic::RefUnwindSafe for Stack {}
impl std::panic::UnwindSafe for TcpListener {}
impl std::panic::RefUnwindSafe for TcpListener {}
impl std::panic::UnwindSafe for TcpStream {}
impl std::panic::RefUnwindSafe for TcpStream {}
