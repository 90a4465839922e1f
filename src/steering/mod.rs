//! Which shard owns a flow: `owner = table[hash(remote, local) & 65535]`.
//!
//! The hash is computed in two places that must agree to the bit: in [`SteeringKeys`], and in the small eBPF
//! [`program`] that the kernel runs to pick the queue. Both look into one [`OwnerTable`]. This is the only room that
//! decides an owner. Buckets are dealt out to the shards at the start, or (steering by birth) vacant until the kernel's
//! program or a reader claims one for the CPU that sends a SYN. Nothing here knows connections or devices: attaching the program is the device's business.
//!
//! | file | holds |
//! | --- | --- |
//! | `keys` | the hash of packets and flows |
//! | `fragments` | whole packets of fragments |
//! | `owner_table` | from the hash to the owner |
//! | `bucket` | one entry of it: claimed, given back |
//! | `births` | which shards take new buckets |
//! | [`program`] | the same in eBPF, for the kernel |
//! | `ports` | ports that lead to a shard |

mod births;
mod bucket;
mod fragments;
mod keys;
mod owner_table;
mod ports;
pub mod program;

pub use self::fragments::{Fragments, Joined, Unjoined};
pub use self::keys::SteeringKeys;
pub use self::owner_table::{BUCKETS, OwnerTable};
pub use self::ports::{EPHEMERAL_PORTS, ports_for_shard};

#[cfg(test)]
mod tests;
