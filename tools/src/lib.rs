//! Instruments for judging `trust` from the outside: everything here talks through *kernel* sockets or drives stock
//! programs. Nothing here may import the engine: an instrument that shares code with what it measures proves little.
//!
//! | module | holds |
//! | --- | --- |
//! | [`arguments`] | command lines, refused in one line |
//! | [`sys`] | pinning, idle scheduling, limits, children that die with us |
//! | [`netns`] | anonymous network namespaces |
//! | [`tun`] | TUN devices, and a program that steers them by CPU |
//! | [`client`] | the measuring client: bulk up and down, request/response, connections |
//! | [`server`] | the same services as the engine, served by the kernel's TCP |
//! | [`ceiling`] | a stand-in without any TCP: the upper bound of a comparison |
//! | [`mod@bench`] | the interleaved comparison and the demonstration |
//! | [`conformance`] | the tables of requirements against what code and tests cite |
//! | [`links`] | links and cited places of the documents |
//! | [`metrics`] | what can be counted of how the code is built, against bounds that only fall |

pub mod arguments;
pub mod bench;
pub mod ceiling;
pub mod client;
pub mod conformance;
pub mod links;
pub mod metrics;
pub mod netns;
pub mod server;
pub mod sys;
pub mod tun;
