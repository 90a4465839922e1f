//! What things cost: octets of memory, allocations, the time until an answer.
//!
//! | file | holds |
//! | --- | --- |
//! | `allocations` | none in steady state |
//! | `connections`, `sockets`, `tokio_crowd` | what one of very many costs |
//! | `idle`, `send_memory` | what costs before it is used, and while it is full |
//! | `peaks` | what was used and is given back |
//! | `promptness` | how soon a thread that slept answers |
//! | `counting` | the allocator that counts |
//!
//! Each is measured in a process of its own, one after the other: an allocator counts for its whole process, and what a
//! process keeps resident depends on what it has done before. To measure one without the harness around it:
//! `TRUST_COST=NAME cargo test --test costs`.

#![allow(clippy::unwrap_used, missing_docs)]

mod allocations;
mod connections;
mod counting;
#[cfg(feature = "tokio")]
#[path = "../crowd/mod.rs"]
mod crowd;
mod idle;
mod peaks;
mod promptness;
#[path = "../rig/mod.rs"]
mod rig;
mod send_memory;
mod sockets;
#[cfg(feature = "tokio")]
mod tokio_crowd;

use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use allocations::{CHARGEN, DISCARD, REPEATER};
use libtest_mimic::{Arguments, Failed, Trial};
use trust::engine::PlanKind::{Fused, Pipeline};

/// Names what this process is to measure.
const COST: &str = "TRUST_COST";

/// What is measured, by its name.
const COSTS: &[(&str, fn())] = &[
    ("segments_into_discard_fused_1", || allocations::in_steady_state(Fused, 1, DISCARD)),
    ("acks_into_chargen_fused_1", || allocations::in_steady_state(Fused, 1, CHARGEN)),
    ("acks_into_repeater_fused_1", || allocations::in_steady_state(Fused, 1, REPEATER)),
    ("segments_into_discard_fused_2", || allocations::in_steady_state(Fused, 2, DISCARD)),
    ("acks_into_chargen_fused_2", || allocations::in_steady_state(Fused, 2, CHARGEN)),
    ("acks_into_repeater_fused_2", || allocations::in_steady_state(Fused, 2, REPEATER)),
    ("segments_into_discard_pipeline_1", || allocations::in_steady_state(Pipeline, 1, DISCARD)),
    ("acks_into_chargen_pipeline_1", || allocations::in_steady_state(Pipeline, 1, CHARGEN)),
    ("acks_into_repeater_pipeline_1", || allocations::in_steady_state(Pipeline, 1, REPEATER)),
    ("packets_between_embedded_hosts", allocations::between_embedded_hosts),
    ("an_established_connection_costs_less_than_a_kilobyte", connections::established),
    ("idle_sockets_give_their_memory_back", sockets::idle),
    #[cfg(feature = "tokio")]
    ("ten_thousand_streams_echo_and_a_stalled_reader_slows_nobody", tokio_crowd::echo),
    ("a_listener_costs_less_than_two_kilobytes_a_shard", idle::listeners),
    ("rings_of_128_shards_cost_little_until_they_are_used", idle::rings),
    ("ten_thousand_senders_of_an_octet_take_little_memory", send_memory::of_ten_thousand),
    ("a_peak_of_send_memory_is_given_back", send_memory::at_a_peak),
    ("what_was_used_at_a_peak_is_given_back_fused", || peaks::is_given_back(Fused)),
    ("what_was_used_at_a_peak_is_given_back_pipeline", || peaks::is_given_back(Pipeline)),
    ("a_packet_is_answered_at_once", promptness::of_answers),
    ("a_timer_fires_when_it_is_due", promptness::of_timers),
];

fn main() -> ExitCode {
    if let Ok(wanted) = std::env::var(COST) {
        let (_, measure) = COSTS.iter().find(|(name, _)| *name == wanted).expect("a name of the list");
        // On a thread: the main one's arena clears what it has from the kernel, which is clear, and so makes it resident.
        let measured = thread::spawn(measure).join();
        return if measured.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = COSTS.iter().map(|&(name, _)| Trial::test(name, move || alone(name))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Measures it in a process that has done nothing else.
fn alone(name: &str) -> Result<(), Failed> {
    let mut process = Command::new(std::env::current_exe()?);
    let status = process.env(COST, name).stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(Failed::from(format!("{name}: {status}"))) }
}

/// Resident octets of this process.
fn resident() -> u64 {
    const PAGE: u64 = 4_096;
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * PAGE
}
