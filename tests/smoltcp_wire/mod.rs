//! What lies between smoltcp and a simulated link, for tests with smoltcp at one end.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant as SmolInstant;

/// A device that is two lists.
#[derive(Debug)]
pub struct Wire {
    /// Largest IP packet, octets.
    pub mtu: usize,
    /// Packets that smoltcp has not looked at.
    pub inbox: VecDeque<Vec<u8>>,
    /// Packets that it wants sent.
    pub outbox: Vec<Vec<u8>>,
}

impl Wire {
    /// Empty, for packets of 1500 octets.
    pub fn new() -> Self {
        Self { mtu: 1_500, inbox: VecDeque::new(), outbox: Vec::new() }
    }
}

/// Our clock as smoltcp reads it.
pub fn smol(now: trust::tcp::Instant) -> SmolInstant {
    SmolInstant::from_micros(now.as_micros() as i64)
}

/// What arrives.
pub struct Rx(Vec<u8>);
/// Where to put what leaves.
pub struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(Rx, Tx<'_>)> {
        self.inbox.pop_front().map(|packet| (Rx(packet), Tx(&mut self.outbox)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.outbox))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}
