//! A TCP engine in user space for Linux: sockets named as those of [`std::net`], on a stack of their own.
//!
//! A TUN device with many queues carries packets to pinned *shards*, each of which owns its connections outright;
//! descriptors travel between threads over lock-free rings, bytes stay where they are. A connection itself is a value
//! without clock, thread or descriptor, so the same stack runs in memory, too, by a clock of one's own and from a seed.
//!
//! * **Modern TCP.** SACK, RACK-TLP, PRR, F-RTO and undo, CUBIC and HyStart++, timestamps and PAWS, SYN cookies that
//!   keep all options; held to the RFCs requirement by requirement.
//! * **Familiar sockets.** Blocking ones with the results of `std::net`, error numbers included; readiness for mio;
//!   streams and listeners for tokio, which hyper and axum take as they are.
//! * **Bounded.** Memory, half-open connections, answers to strangers and the work of a turn have shares and limits:
//!   ten thousand peers that take what they can leave the others theirs.
//! * **Deterministic where it is wanted.** An [embedded](embed) host does the same again for the same calls.
//!
//! # A server
//!
//! On a TUN device that the engine makes: `trust0`, with 10.7.0.1 for the kernel and 10.7.0.2 for us. To make one is a
//! right, which every program has in a namespace of its own: `unshare -Urn`.
//!
//! ```no_run
//! use std::io::{Read, Write};
//!
//! use trust::engine::Engine;
//!
//! # fn main() -> std::io::Result<()> {
//! let engine = Engine::builder().start()?;
//! let listener = engine.bind("10.7.0.2:7000")?;
//! loop {
//!     let (mut stream, from) = listener.accept()?;
//!     let mut line = [0; 100];
//!     let got = stream.read(&mut line)?;
//!     println!("{from} says {:?}", String::from_utf8_lossy(&line[..got]));
//!     stream.write_all(&line[..got])?;
//! }
//! # }
//! ```
//!
//! # Both ends in memory
//!
//! Two engines joined by a device that is a piece of memory: no right is needed, and this very code is run as a test.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::Shutdown;
//!
//! use trust::device::memory::{MemoryOptions, pair};
//! use trust::engine::{Engine, Pin};
//!
//! # fn main() -> std::io::Result<()> {
//! let (here, there) = pair(&MemoryOptions::default())?;
//! let server = Engine::builder().device(here, 1).address([10, 0, 0, 1].into()).pin(Pin::None).start()?;
//! let client = Engine::builder().device(there, 1).address([10, 0, 0, 2].into()).pin(Pin::None).start()?;
//!
//! let listener = server.bind("10.0.0.1:7")?;
//! let mut stream = client.connect("10.0.0.1:7")?;
//! let (mut accepted, from) = listener.accept()?;
//! assert_eq!(from, stream.local_addr()?);
//!
//! stream.write_all(b"a question")?;
//! stream.shutdown(Shutdown::Write)?;
//! let mut question = String::new();
//! accepted.read_to_string(&mut question)?;
//! assert_eq!(question, "a question");
//! # Ok(())
//! # }
//! ```
//!
//! # Where to start
//!
//! | you have | start from |
//! | --- | --- |
//! | blocking sockets | [`engine::Builder`], [`net::TcpStream`], [`net::TcpListener`], [`net::TcpSocket`] |
//! | many connections in one thread | [`net::EventQueue`], with mio |
//! | tasks | `net::tokio`, feature `tokio` |
//! | a loop and a clock of your own | [`embed::Host`] |
//! | a protocol that should run without a thread of its own | [`shard::Service`] |
//! | something that carries IP packets | [`device::Device`] |
//! | nothing but the protocol | [`tcp::Connection`] |
//!
//! # Features
//!
//! * `cli` (default): the command `trust`, and what only it needs; all features below but `axum` come with it.
//!   Programs that use the library do without: `default-features = false`.
//! * `axum`: the listener of `net::tokio` is one of axum's.
//! * `fence`: gives up user, capabilities, files and system calls, when it is asked.
//! * `hyper`: the streams of `net::tokio` have hyper's traits for reading and writing.
//! * `services`: applications that run inside a shard: echo, discard, daytime, chargen, HTTP and an iperf3 server.
//! * `sim`: a deterministic world of hosts and bad links, to try one's own applications and changes in.
//! * `tokio`: `AsyncRead`, `AsyncWrite` and an async listener; the runtime is the user's own.
//! * `tun-tap`: a TUN device with one plain queue, by the package of that name. It takes a C compiler.
//!
//! # The map
//!
//! | room | holds |
//! | --- | --- |
//! | [`wire`] | octets to values and back: IP, TCP, options, ICMP, checksum, virtio header; no state |
//! | [`buffer`] | packet pools, send memory, octet queues, the ring, the wake-up protocol |
//! | [`flow`] | names of flows: endpoint, quad, shard's number |
//! | [`steering`] | which shard owns a flow: the hash, the owner table, the same in eBPF |
//! | [`tcp`] | one connection, without input or output: no clock, no descriptor, no thread, no random source |
//! | [`device`] | queues: multi-queue TUN, plain TUN (feature `tun-tap`), in memory; wrappers |
//! | [`shard`] | flow table, timing wheel, byte stores, the turn, the `Service` trait |
//! | `services` (feature `services`) | echo, discard, daytime, chargen, http, iperf3: one file or folder each |
//! | [`net`] | sockets for programs on other threads: listener, stream, readiness |
//! | [`embed`] | one shard with sockets on the caller's thread and clock |
//! | [`config`] | what an engine is told at its start |
//! | [`engine`] | rx, worker, tx, plan, start and stop: the only room with threads |
//! | `fence` (feature `fence`) | gives up rights |
//! | `sim` (feature `sim`) | a deterministic world of hosts and links, for tests and tools |
//!
//! Each room imports only rooms above it: `tests/arrows/table.txt` has the arrows, and a test holds the code to them.
//!
//! # Further reading
//!
//! How the rooms depend on one another, where each mechanism is, and a segment and a write followed through the code:
//! [`architecture`], which is `docs/architecture.md` of the repository. Beside it there are `docs/programs.md` (more on
//! sockets, with examples), `docs/operating.md` (the command), `docs/measurements.md` and `docs/conformance/` (each
//! requirement, where it is kept, and what shows it).

/// `Debug` as `Display`, for errors.
///
/// `main` returning a `Result` prints the `Debug` of an error, and so do `unwrap` and `expect`: to people, who have use for
/// the sentence with what to do about it and none for names of variants (`Error: Device(NodeAccess)`). Errors of anyhow
/// and jiff say there what they say otherwise, for this reason. Code looks at variants and fields, which are public.
#[cfg(not(loom))]
macro_rules! debug_as_display {
    ($error:ty) => {
        impl ::core::fmt::Debug for $error {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Display::fmt(self, f)
            }
        }
    };
}

pub mod buffer;
#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
pub mod device;
#[cfg(not(loom))]
pub mod embed;
#[cfg(not(loom))]
pub mod engine;
#[cfg(all(feature = "fence", not(loom)))]
pub mod fence;
#[cfg(not(loom))]
pub mod flow;
#[cfg(not(loom))]
pub mod net;
#[cfg(all(feature = "services", not(loom)))]
pub mod services;
#[cfg(not(loom))]
pub mod shard;
#[cfg(all(feature = "sim", not(loom)))]
pub mod sim;
#[cfg(not(loom))]
pub mod steering;
/// What of it the model checker explores.
#[cfg(loom)]
mod steering {
    mod bucket;
}
#[cfg(not(loom))]
pub mod tcp;
#[cfg(not(loom))]
pub mod wire;

/// `docs/architecture.md`, for whoever reads or changes the code.
///
/// Where that page leads to others of the repository, this one leads to the [front page](crate#further-reading), which
/// names them: the first definition of a link counts.
///
/// [operating]: crate#further-reading
/// [measurements]: crate#further-reading
/// [conformance]: crate#further-reading
#[cfg(all(doc, not(loom)))]
#[doc = include_str!("../docs/architecture.md")]
pub mod architecture {}
