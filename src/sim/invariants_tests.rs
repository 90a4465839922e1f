//! Each rule turns red: a host or a packet that breaks it, and nothing else. What is sent again has tests of its own
//! (`resends_tests`), and so has what a host is inside (`shard_host_tests`).
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::wire::options::TcpOptions;
use crate::wire::tcp::TcpHeader;

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// ISN of A, so near the end that everything wraps.
const ISN: u32 = u32::MAX - 20;

/// A connection between A (port 1, sender) and B (port 2) seen by the checker, numbers relative to the ISNs.
struct Wire(Invariants);

impl Wire {
    /// After a handshake: MSS 1000 of B, window 5000 of B; no scaling.
    fn new() -> Self {
        let mut wire = Self(Invariants::default());
        let options = TcpOptions { mss: Some(1_000), ..TcpOptions::default() };
        wire.send(Flags::SYN, 0, 0, 5_000, &[], options).unwrap();
        wire.get(Flags::SYN | Flags::ACK, 0, 1, 5_000, &[], options);
        wire.send(Flags::ACK, 1, 1, 5_000, &[], TcpOptions::default()).unwrap();
        wire.polled();
        wire
    }

    fn packet(&self, forth: bool, header: &TcpHeader, payload: &[u8]) -> (Packet, View) {
        let (src, dst) = if forth { (A, B) } else { (B, A) };
        let (src_port, dst_port) = if forth { (1, 2) } else { (2, 1) };
        let packet = Packet::tcp(src, dst, &TcpHeader { src_port, dst_port, ..*header }, payload);
        let view = packet.view().unwrap();
        (packet, view)
    }

    fn send(
        &mut self,
        flags: Flags,
        seq: u32,
        ack: u32,
        window: u16,
        payload: &[u8],
        options: TcpOptions,
    ) -> Result<(), Violation> {
        let seq = ISN.wrapping_add(seq);
        let header = TcpHeader { flags, seq, ack, window, options, ..TcpHeader::default() };
        let (packet, view) = self.packet(true, &header, payload);
        self.0.sends(&packet, &view)
    }

    /// A sends data with the window it has told of before.
    fn data(&mut self, seq: u32, payload: &[u8]) -> Result<(), Violation> {
        self.send(Flags::ACK, seq, 1, 5_000, payload, TcpOptions::default())
    }

    /// A gets a packet from B.
    fn get(&mut self, flags: Flags, seq: u32, ack: u32, window: u16, payload: &[u8], options: TcpOptions) {
        let ack = ISN.wrapping_add(ack);
        let header = TcpHeader { flags, seq, ack, window, options, ..TcpHeader::default() };
        let (packet, view) = self.packet(false, &header, payload);
        self.0.arrives(&packet, &view);
    }

    fn polled(&mut self) {
        self.0.polled(IpAddr::V4(A));
    }
}

fn breaks(result: Result<(), Violation>, rule: Rule) {
    assert_eq!(result.map_err(|violation| violation.rule), Err(rule));
}

#[test]
fn what_is_sound_passes() {
    let mut wire = Wire::new();
    wire.data(1, &[1; 1_000]).unwrap();
    wire.data(1_001, &[2; 500]).unwrap();
    wire.data(501, &[&[1; 500][..], &[2; 200]].concat()).unwrap();
    wire.get(Flags::ACK, 1, 1_501, 3_500, &[], TcpOptions::default());
    wire.send(Flags::ACK | Flags::FIN, 1_501, 1, 5_000, &[3; 10], TcpOptions::default()).unwrap();
    wire.send(Flags::ACK | Flags::FIN, 1_501, 1, 5_000, &[3; 10], TcpOptions::default()).unwrap();
    assert!(wire.0.wrapped() && !wire.0.closed_a_window());
}

#[test]
fn sequence_order() {
    breaks(Wire::new().data(2, &[1; 10]), Rule::SequenceOrder);
    breaks(Wire::new().data(u32::MAX, &[1; 10]), Rule::SequenceOrder);
    let mut wire = Wire::new();
    wire.send(Flags::ACK | Flags::FIN, 1, 1, 5_000, &[1; 10], TcpOptions::default()).unwrap();
    breaks(wire.data(11, &[1; 1]), Rule::SequenceOrder);
    breaks(wire.send(Flags::ACK | Flags::FIN, 1, 1, 5_000, &[1; 5], TcpOptions::default()), Rule::SequenceOrder);
}

#[test]
fn ack_order() {
    let mut wire = Wire::new();
    breaks(wire.send(Flags::ACK, 1, 2, 5_000, &[], TcpOptions::default()), Rule::AckOrder);
    wire.get(Flags::ACK, 1, 1, 5_000, &[9; 10], TcpOptions::default());
    wire.send(Flags::ACK, 1, 11, 5_000, &[], TcpOptions::default()).unwrap();
    breaks(wire.send(Flags::ACK, 1, 1, 5_000, &[], TcpOptions::default()), Rule::AckOrder);
}

#[test]
fn shld_14_window_shrunk() {
    let mut wire = Wire::new();
    breaks(wire.send(Flags::ACK, 1, 1, 4_999, &[], TcpOptions::default()), Rule::WindowShrunk);
    let mut wire = Wire::new();
    wire.get(Flags::ACK, 1, 1, 5_000, &[9; 10], TcpOptions::default());
    wire.send(Flags::ACK, 1, 11, 4_990, &[], TcpOptions::default()).unwrap();
}

#[test]
fn resent_differs() {
    let mut wire = Wire::new();
    wire.data(1, b"hello").unwrap();
    wire.data(1, b"hello, world").unwrap();
    breaks(wire.data(4, b"la"), Rule::ResentDiffers);
}

#[test]
fn beyond_window() {
    let mut wire = Wire::new();
    for at in 0..5 {
        wire.data(1 + at * 1_000, &[0; 1_000]).unwrap();
    }
    // MUST-36: a probe of one octet passes.
    assert_eq!(wire.0.window_probes(), 0);
    wire.data(5_000, &[]).unwrap();
    assert_eq!(wire.0.window_probes(), 1);
    wire.data(5_001, &[0; 1]).unwrap();
    breaks(wire.data(5_001, &[0; 2]), Rule::BeyondWindow);
}

#[test]
fn must_16_beyond_mss() {
    breaks(Wire::new().data(1, &[0; 1_001]), Rule::BeyondMss);
    let options = TcpOptions { timestamps: Some(Default::default()), ..TcpOptions::default() };
    breaks(Wire::new().send(Flags::ACK, 1, 1, 5_000, &[0; 989], options), Rule::BeyondMss);
    Wire::new().send(Flags::ACK, 1, 1, 5_000, &[0; 988], options).unwrap();
}

#[test]
fn sm_gen_4_reset_answered() {
    let mut wire = Wire::new();
    wire.get(Flags::RST | Flags::ACK, 1, 1, 0, &[], TcpOptions::default());
    breaks(wire.send(Flags::RST, 1, 0, 0, &[], TcpOptions::default()), Rule::ResetAnswered);
    wire.polled();
    wire.send(Flags::RST, 1, 0, 0, &[], TcpOptions::default()).unwrap();
}

#[test]
fn ack_storm() {
    let mut wire = Wire::new();
    wire.get(Flags::ACK, 1, 1, 5_000, &[9; 10], TcpOptions::default());
    for _ in 0..2 {
        wire.send(Flags::ACK, 1, 11, 5_000, &[], TcpOptions::default()).unwrap();
    }
    breaks(wire.send(Flags::ACK, 1, 11, 5_000, &[], TcpOptions::default()), Rule::AckStorm);
}
