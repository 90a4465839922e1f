//! The same sockets for tokio (feature `tokio`): [`TcpStream`] is `AsyncRead` and `AsyncWrite`, [`TcpListener`] has an
//! async `accept`; names and signatures are those of `tokio::net`. No descriptor and no runtime of ours: a task's waker is
//! called by the shard.
//!
//! hyper and axum take them as they are: with the feature `hyper` a stream is a `hyper::rt::Read` and `hyper::rt::Write`
//! itself, and with the feature `axum` a listener is an `axum::serve::Listener`. Whatever else takes a stream that is
//! `AsyncRead` and `AsyncWrite` (rustls, tungstenite, h2, tower) needs neither.
//!
//! Cancel safety: `accept`, `readable`, `writable`, `peek` and every read and write lose nothing when their future is
//! dropped before it is done; a dropped `connect` gives the connection up. Any number of tasks may wait for the same thing,
//! through one stream or listener or through clones, beside threads that block: all are woken, and who comes first gets it.
//! Only the `AsyncRead` and `AsyncWrite` of one stream, and what else is polled by hand there, know one task for each
//! direction, the last that asked.
//!
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use trust::net::tokio::{TcpListener, TcpStream};
//!
//! # use std::net::{IpAddr, Ipv4Addr};
//! # use trust::device::memory::{MemoryOptions, pair};
//! # use trust::engine::{Engine, Pin};
//! # fn main() -> std::io::Result<()> {
//! # let (a, b) = pair(&MemoryOptions::default())?;
//! # let start = |device, last| {
//! #     let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
//! #     Engine::builder().device(device, 1).address(address).pin(Pin::None).start()
//! # };
//! # let (serving, connecting) = (start(a, 2)?, start(b, 1)?);
//! # let (server, client) = (serving.stack(), connecting.stack());
//! let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! runtime.block_on(async {
//!     let listener = TcpListener::bind(&server, "10.0.0.2:80")?;
//!     let serving = tokio::spawn(async move {
//!         let (mut stream, _) = listener.accept().await?;
//!         stream.write_all(b"good day").await
//!     });
//!     let mut stream = TcpStream::connect(&client, "10.0.0.2:80").await?;
//!     let mut text = String::new();
//!     stream.read_to_string(&mut text).await?;
//!     assert_eq!(text, "good day");
//!     serving.await?
//! })
//! # }
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `stream`, `split` | [`TcpStream`], and its halves |
//! | `listener` | [`TcpListener`] |
//! | `for_hyper`, `for_axum` | traits of theirs |

#[cfg(feature = "axum")]
mod for_axum;
#[cfg(feature = "hyper")]
mod for_hyper;
mod listener;
mod split;
mod stream;

pub use self::listener::TcpListener;
pub use self::split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use self::stream::TcpStream;
