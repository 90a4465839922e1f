//! Memory and hand-over between the threads of the engine.
//!
//! * [`ring`]: the single-producer single-consumer ring, the only road between two stages;
//! * [`octets`]: the same for octets without bounds between them, for the threads of an application;
//! * [`wake`]: how a stage that ran out of work goes to sleep without missing what arrives meanwhile;
//! * `wakers`: the same for any number of tasks;
//! * [`packet`]: receive buffers, owned, moved through rings, never copied;
//! * [`send_memory`]: blocks of memory for data to be sent, leased to the device by the slice;
//! * [`frame`]: what travels in the rings: a received packet, a frame to be sent, the completion of one.
//!
//! Each pool belongs to one thread; a handle crosses the ring, the bytes do not. Nothing here knows of connections or
//! devices, and nothing here starts a thread.

#[cfg(not(loom))]
mod blocks;
#[cfg(not(loom))]
pub mod frame;
#[cfg(not(loom))]
pub(crate) mod mapping;
pub mod octets;
#[cfg(not(loom))]
pub mod packet;
#[cfg(not(loom))]
mod pages;
#[cfg(not(loom))]
mod region;
pub mod ring;
#[cfg(not(loom))]
pub mod send_memory;
pub(crate) mod sync;
pub mod wake;
// Of the models the whole of it is seen, of the library what sockets use.
#[cfg_attr(any(loom, not(feature = "tokio")), allow(dead_code))]
pub(crate) mod wakers;
