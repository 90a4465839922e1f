//! One direction of a link: stages in a row, through which packets pass one by one, each stage at its own time.
//!
//! Must not contain: the stages themselves (`stages`, `gro`), hosts.

use std::fmt;

use super::packet::{Packet, View};
use crate::tcp::Instant;

/// One thing that a link does to packets.
pub trait Stage: fmt::Debug {
    /// A packet comes in at `exit.now()`. It leaves through `exit`, now or later, once, twice or never.
    fn enter(&mut self, packet: Packet, exit: &mut Exit<'_>);

    /// The time asked for by [`Exit::wake_at`] has come.
    fn wake(&mut self, exit: &mut Exit<'_>) {
        let _ = exit;
    }
}

/// What comes out of a stage.
#[derive(Debug)]
pub(super) enum Output {
    /// Goes on at that time.
    Pass(Instant, Packet),
    /// Goes back to the sender: an ICMP error of a router.
    Back(Packet),
    /// Something to tell of a packet.
    Note(&'static str, Option<View>),
    /// Goes nowhere, and why.
    Lost(&'static str, Packet),
    Wake(Instant),
}

/// The way out of a stage.
#[derive(Debug)]
pub struct Exit<'a> {
    now: Instant,
    out: &'a mut Vec<Output>,
}

impl<'a> Exit<'a> {
    pub(super) fn new(now: Instant, out: &'a mut Vec<Output>) -> Self {
        Self { now, out }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The packet goes on at once.
    pub fn pass(&mut self, packet: Packet) {
        self.out.push(Output::Pass(self.now, packet));
    }

    /// The packet goes on at `at`.
    pub fn pass_at(&mut self, at: Instant, packet: Packet) {
        self.out.push(Output::Pass(at.max(self.now), packet));
    }

    /// The packet is gone; `event` says how, in a word.
    pub fn lose(&mut self, packet: Packet, event: &'static str) {
        self.out.push(Output::Lost(event, packet));
    }

    /// Something happens to a packet that goes on, so that what leaves the link is not what came into it, in that
    /// order: it is repeated or changed, or may overtake others or be overtaken.
    pub fn note(&mut self, packet: &Packet, event: &'static str) {
        self.out.push(Output::Note(event, packet.view()));
    }

    /// A packet of the link's own goes to the sender.
    pub fn back(&mut self, packet: Packet) {
        self.out.push(Output::Back(packet));
    }

    /// Asks for one call of [`Stage::wake`] at `at`.
    pub fn wake_at(&mut self, at: Instant) {
        self.out.push(Output::Wake(at.max(self.now)));
    }
}
