//! What the world wants of a host, and a host made of a closure.
//!
//! Must not contain: links, other hosts.

use std::any::Any;
use std::fmt;
use std::net::IpAddr;

use super::packet::Packet;
use super::rules::Violation;
use crate::flow::Quad;
use crate::tcp::{Info, Instant};

/// A host in the world. Packets that arrive at the same time are all handed in before it is polled.
pub trait Host {
    /// Its address.
    fn addr(&self) -> IpAddr;

    /// A packet arrives.
    fn receive(&mut self, now: Instant, packet: Packet);

    /// Does whatever is due and appends what it sends to `out`.
    fn poll(&mut self, now: Instant, out: &mut Vec<Packet>);

    /// When it wants to be polled even if nothing arrives.
    fn next_deadline(&mut self) -> Option<Instant>;

    /// What must hold between polls.
    ///
    /// # Errors
    ///
    /// What does not.
    fn check(&mut self) -> Result<(), Violation> {
        Ok(())
    }

    /// What there is to know of one of its connections; `None`: there is no such one, or the host does not tell.
    fn info(&mut self, quad: &Quad) -> Option<Info> {
        let _ = quad;
        None
    }

    /// Octets that it has refused although they lay inside the windows it had offered; `None`: it does not tell.
    fn refused(&mut self) -> Option<u64> {
        None
    }

    /// Whether its sending is held to the rules of [`Invariants`](super::Invariants).
    fn is_watched(&self) -> bool {
        true
    }

    /// The host itself, for whoever knows what it is.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// What happens to a [`ScriptedHost`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A packet has arrived.
    Packet(Packet),
    /// The time it had asked for has come.
    Time,
}

type Script = Box<dyn FnMut(Instant, Input, &mut Vec<Packet>) -> Option<Instant>>;

/// A host that does what a closure says: for each input it appends packets and names its next deadline.
pub struct ScriptedHost {
    addr: IpAddr,
    inbox: Vec<Packet>,
    deadline: Option<Instant>,
    watched: bool,
    script: Script,
}

impl fmt::Debug for ScriptedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedHost").field("addr", &self.addr).field("deadline", &self.deadline).finish()
    }
}

impl ScriptedHost {
    /// A host that is first called at `start`.
    pub fn new(
        addr: impl Into<IpAddr>,
        start: Option<Instant>,
        script: impl FnMut(Instant, Input, &mut Vec<Packet>) -> Option<Instant> + 'static,
    ) -> Self {
        Self { addr: addr.into(), inbox: Vec::new(), deadline: start, watched: true, script: Box::new(script) }
    }

    /// Frees it from the rules: a peer that misbehaves on purpose.
    #[must_use]
    pub fn unwatched(self) -> Self {
        Self { watched: false, ..self }
    }
}

impl Host for ScriptedHost {
    fn addr(&self) -> IpAddr {
        self.addr
    }

    fn receive(&mut self, _now: Instant, packet: Packet) {
        self.inbox.push(packet);
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<Packet>) {
        for packet in std::mem::take(&mut self.inbox) {
            self.deadline = (self.script)(now, Input::Packet(packet), out);
        }
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            self.deadline = (self.script)(now, Input::Time, out);
        }
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        self.deadline
    }

    fn is_watched(&self) -> bool {
        self.watched
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
