//! The subcommands of `trust` and what they share: options for the device and the engine.

mod addresses;
mod arguments;
mod capture;
mod complaints;
mod connect;
mod console;
mod control;
mod descriptors;
mod destination;
mod echo_sockets;
mod error;
mod events;
mod eyeballs;
mod fencing;
mod fetch;
mod forward;
mod forward_rule;
mod helper;
mod iperf3;
mod kill;
mod observe;
mod opener;
mod options;
mod outward;
mod places;
mod refusal;
mod serve;
mod ss;
mod stats;
mod switch;
mod threads;
mod wanted;

pub(crate) use self::arguments::{last_words, main};
pub(crate) use self::error::Error;
