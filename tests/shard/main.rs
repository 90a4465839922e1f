//! One shard, driven by hand and packet by packet under a virtual clock.
//!
//! | file | holds |
//! | --- | --- |
//! | `conversations` | how connections open, carry data and end |
//! | `runs` | segments that come one after another, and what ends a run of them |
//! | `requirements` | what needs IP, tables or several connections |
//! | `crumbs` | each reason to drop a packet |
//! | `counted` | what is counted of connections |
//! | `icmp` | ICMP errors, from whoever they come |
//! | `listen`, `half_open` | listeners, backlogs, SYN cookies |
//! | `buckets` | buckets of the owner table: claimed and given back |
//! | `opens`, `endings`, `orphans` | connections as a service opens them, hears of their end, and leaves them |
//! | `resources`, `budgets`, `bodies`, `send_bytes` | what each may take of memory, places and turns |
//! | `diag`, `tap`, `trace` | what observers see |
//! | `door` | a service that does what its test asks of it |

#![cfg(feature = "services")]
#![allow(clippy::unwrap_used, missing_docs)]

mod bodies;
mod buckets;
mod budgets;
mod conversations;
mod counted;
mod crumbs;
mod diag;
mod door;
mod endings;
mod half_open;
mod icmp;
mod listen;
mod opens;
mod orphans;
mod requirements;
mod resources;
#[path = "../rig/mod.rs"]
mod rig;
mod runs;
mod send_bytes;
mod tap;
mod trace;
