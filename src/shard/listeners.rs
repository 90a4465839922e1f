//! Who gets a SYN: listeners that services open and close as they run, and the fixed ports of services.
//!
//! One look-up by exact address and port, one by port on any address, one among the fixed ports; no scan. A listener that
//! was closed stays as long as connections remember whose children they are. Must not contain: handshakes, packets.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::opening::{AcceptQueue, ListenError, ListenOptions};
use crate::flow::Endpoint;
use crate::tcp::{self, Wishes};

/// Names a listener in a connection that has none.
pub(crate) const NO_LISTENER: u32 = u32::MAX;

/// Who gets a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) service: u16,
    /// [`NO_LISTENER`] for a fixed port.
    pub(crate) listener: u32,
}

#[derive(Debug)]
struct Listener {
    local: Endpoint,
    tag: u64,
    service: u16,
    backlog: u32,
    options: ListenOptions,
    /// The window scale of its SYN-ACKs. What was answered is kept elsewhere, or nowhere, without it: it stays as it was first.
    shift: Option<u8>,
    /// Tells it from all others that were ever opened on this shard.
    identity: u64,
    /// Children in SYN-RECEIVED: records, not connections.
    half_open: u32,
    /// Connections that name this listener.
    children: u32,
    /// The service takes completed handshakes.
    accepting: bool,
    /// What bounds those that wait to be accepted, with listeners of other shards.
    queue: Option<Arc<AcceptQueue>>,
    /// Not closed yet.
    open: bool,
}

/// A listener, or a fixed port, as observers see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listening {
    /// `None`: all of our addresses.
    pub(crate) local: Option<Endpoint>,
    pub(crate) port: u16,
    pub(crate) service: u16,
    /// Connections that wait to be accepted.
    pub(crate) waiting: u32,
    /// How many may.
    pub(crate) most: u32,
}

/// The listeners of a shard.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// Keys are endpoints of ours: nobody outside can make them collide.
    by_local: HashMap<Endpoint, u32, FixedState>,
    fixed: HashMap<u16, u16, FixedState>,
    all: Vec<Listener>,
    free: Vec<u32>,
    /// Listeners opened so far.
    opened: u64,
    /// Listeners that were closed and still have children in SYN-RECEIVED.
    closing: usize,
    /// The record at which the search for these goes on.
    sweep: u32,
}

/// The address that stands for any of the family of `addr`.
pub(crate) const fn unspecified(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

impl Listeners {
    /// A service's own port. The first service of a port keeps it.
    pub(crate) fn add_fixed(&mut self, port: u16, service: u16) {
        self.fixed.entry(port).or_insert(service);
    }

    /// Who gets a SYN to `local`: the exact address first, then any address, then the fixed ports.
    pub(crate) fn find(&self, local: Endpoint) -> Option<Target> {
        if !self.by_local.is_empty() {
            let any = Endpoint::new(unspecified(local.addr), local.port);
            if let Some(&listener) = self.by_local.get(&local).or_else(|| self.by_local.get(&any)) {
                return Some(Target { service: self.all[listener as usize].service, listener });
            }
        }
        self.fixed.get(&local.port).map(|&service| Target { service, listener: NO_LISTENER })
    }

    pub(crate) fn add(&mut self, service: u16, local: Endpoint, backlog: u32, tag: u64) -> Result<(), ListenError> {
        let fixed = local.addr.is_unspecified() && self.fixed.contains_key(&local.port);
        if fixed || self.by_local.contains_key(&local) {
            return Err(ListenError::AddressInUse);
        }
        self.opened += 1;
        let listener = Listener {
            local,
            tag,
            service,
            backlog,
            options: ListenOptions::default(),
            shift: None,
            identity: self.opened,
            half_open: 0,
            children: 0,
            accepting: true,
            queue: None,
            open: true,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.all[index as usize] = listener;
                index
            }
            None => {
                self.all.push(listener);
                (self.all.len() - 1) as u32
            }
        };
        self.by_local.insert(local, index);
        Ok(())
    }

    /// The open listener of `service` at `local`.
    pub(crate) fn own(&self, service: u16, local: Endpoint) -> Option<u32> {
        self.by_local.get(&local).copied().filter(|&index| self.all[index as usize].service == service)
    }

    /// Closes a listener. Its children in SYN-RECEIVED are to be reset.
    pub(crate) fn close(&mut self, index: u32) {
        let Some(listener) = self.all.get_mut(index as usize) else { return };
        listener.open = false;
        self.closing += usize::from(listener.half_open > 0);
        self.by_local.remove(&listener.local);
        self.forget_unused(index);
    }

    fn forget_unused(&mut self, index: u32) {
        let listener = &self.all[index as usize];
        if !listener.open && listener.children == 0 && listener.half_open == 0 {
            self.free.push(index);
        }
    }

    /// Fixed ports, and places for listeners: what [`listening`](Self::listening) takes is below this.
    pub(crate) fn slots(&self) -> u32 {
        (self.fixed.len() + self.all.len()) as u32
    }

    /// The fixed port or the open listener in this place: ports come first, lowest first.
    pub(crate) fn listening(&self, slot: u32) -> Option<Listening> {
        let Some(index) = (slot as usize).checked_sub(self.fixed.len()) else {
            // There are few, and who asks for them is in no hurry.
            let mut ports: Vec<_> = self.fixed.iter().collect();
            ports.sort_unstable();
            let (&port, &service) = *ports.get(slot as usize)?;
            return Some(Listening { local: None, port, service, waiting: 0, most: 0 });
        };
        let Listener { local, service, backlog, queue, .. } = self.all.get(index).filter(|listener| listener.open)?;
        let (waiting, most) = queue.as_ref().map_or((0, *backlog as usize), |queue| queue.level());
        let (waiting, most) = (waiting as u32, most.try_into().unwrap_or(u32::MAX));
        Some(Listening { local: Some(*local), port: local.port, service: *service, waiting, most })
    }

    /// Whether children of closed listeners are still to be reset.
    pub(crate) fn has_closing(&self) -> bool {
        self.closing > 0
    }

    /// Whether a listener is closed whose children are still to be reset.
    pub(crate) fn is_closed(&self, index: u32) -> bool {
        self.all.get(index as usize).is_some_and(|listener| !listener.open)
    }

    /// Whether a listener takes another SYN (OPS-19).
    pub(crate) fn admits(&self, index: u32) -> bool {
        self.all
            .get(index as usize)
            .is_none_or(|listener| listener.accepting && listener.queue.as_ref().is_none_or(|queue| !queue.is_full()))
    }

    /// Whether a listener has as many children in SYN-RECEIVED as it may.
    pub(crate) fn has_share(&self, index: u32) -> bool {
        self.all.get(index as usize).is_some_and(|listener| listener.half_open >= listener.backlog.max(1))
    }

    /// Tells who gets a SYN from all others that ever did or will.
    pub(crate) fn identity(&self, target: Target) -> u64 {
        const FIXED: u64 = 1 << 63;
        self.all.get(target.listener as usize).map_or(FIXED | u64::from(target.service), |listener| listener.identity)
    }

    /// The service of a listener.
    pub(crate) fn service(&self, index: u32) -> Option<u16> {
        self.all.get(index as usize).map(|listener| listener.service)
    }

    /// Takes a place in a listener's accept queue for a handshake that may be complete; `false`: it is full.
    pub(crate) fn take_place(&self, index: u32) -> bool {
        let Some(listener) = self.all.get(index as usize) else { return true };
        listener.accepting && listener.queue.as_ref().is_none_or(|queue| queue.enter())
    }

    /// The handshake was not complete.
    pub(crate) fn give_place_back(&self, index: u32) {
        if let Some(queue) = self.all.get(index as usize).and_then(|listener| listener.queue.as_ref()) {
            queue.leave();
        }
    }

    pub(crate) fn tag(&self, index: u32) -> u64 {
        self.all.get(index as usize).map_or(0, |listener| listener.tag)
    }

    /// What a listener's connections begin with.
    pub(crate) fn options(&self, index: u32) -> ListenOptions {
        self.all.get(index as usize).map_or_else(ListenOptions::default, |listener| listener.options)
    }

    /// What the handshakes of a listener's connections are to heed.
    pub(crate) fn wishes(&self, index: u32) -> Wishes {
        self.all
            .get(index as usize)
            .map_or_else(Wishes::default, |listener| Wishes { shift: listener.shift, ..listener.options.wishes() })
    }

    /// The same for a SYN that is answered now.
    pub(crate) fn wishes_of_syn(&mut self, index: u32, config: &tcp::Config) -> Wishes {
        let mut wishes = self.wishes(index);
        if let Some(listener) = self.all.get_mut(index as usize) {
            wishes.shift = Some(*listener.shift.get_or_insert_with(|| wishes.offered_shift(config)));
        }
        wishes
    }

    /// A child in SYN-RECEIVED was made.
    pub(crate) fn enter_handshake(&mut self, index: u32) {
        if let Some(listener) = self.all.get_mut(index as usize) {
            listener.half_open += 1;
        }
    }

    /// A child has left SYN-RECEIVED, for whatever reason.
    pub(crate) fn leave_handshake(&mut self, index: u32) {
        if let Some(listener) = self.all.get_mut(index as usize) {
            listener.half_open -= 1;
            if listener.half_open == 0 && !listener.open {
                self.closing -= 1;
                self.forget_unused(index);
            }
        }
    }

    /// A connection that names the listener was made.
    pub(crate) fn adopt(&mut self, index: u32) {
        if let Some(listener) = self.all.get_mut(index as usize) {
            listener.children += 1;
        }
    }

    /// A child is gone.
    pub(crate) fn orphan(&mut self, index: u32) {
        if let Some(listener) = self.all.get_mut(index as usize) {
            listener.children -= 1;
            self.forget_unused(index);
        }
    }

    /// Ends all, those of services' own ports, too.
    pub(crate) fn close_all(&mut self) {
        self.fixed.clear();
        let all: Vec<u32> = self.by_local.values().copied().collect();
        for index in all {
            self.close(index);
        }
    }

    /// Changes the listener that a service has on `local`, if it has one.
    fn change(&mut self, service: u16, local: Endpoint, change: impl FnOnce(&mut Listener)) {
        if let Some(index) = self.own(service, local) {
            change(&mut self.all[index as usize]);
        }
    }

    /// See [`Io::set_accepting`](super::Io::set_accepting).
    pub(crate) fn set_accepting(&mut self, service: u16, local: Endpoint, accepting: bool) {
        self.change(service, local, |listener| listener.accepting = accepting);
    }

    /// See [`Io::set_accept_queue`](super::Io::set_accept_queue).
    pub(crate) fn set_queue(&mut self, service: u16, local: Endpoint, queue: Arc<AcceptQueue>) {
        self.change(service, local, |listener| listener.queue = Some(queue));
    }

    /// See [`Io::set_listen_options`](super::Io::set_listen_options).
    pub(crate) fn set_options(&mut self, service: u16, local: Endpoint, options: &ListenOptions) {
        self.change(service, local, |listener| listener.options = *options);
    }

    /// The next of so many slots to be looked at for children whose listener is gone, round and round.
    pub(crate) fn next_of(&mut self, slots: u32) -> u32 {
        let slot = if self.sweep < slots { self.sweep } else { 0 };
        self.sweep = slot + 1;
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: u16 = 3;

    fn at(port: u16) -> Endpoint {
        Endpoint::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
    }

    #[test]
    fn a_listener_is_forgotten_with_its_last_child_and_not_before() {
        let mut listeners = Listeners::default();
        for (round, children) in [0, 1, 5, 0].into_iter().enumerate() {
            let tag = 10 + round as u64;
            assert_eq!(listeners.add(SERVICE, at(80), 100, tag), Ok(()));
            let index = listeners.find(at(80)).expect("there").listener;
            for _ in 0..children {
                listeners.enter_handshake(index);
                listeners.adopt(index);
                listeners.leave_handshake(index);
            }
            assert_eq!(listeners.identity(Target { service: SERVICE, listener: index }), listeners.opened);
            listeners.close(index);
            assert_eq!(listeners.find(at(80)), None);
            for _ in 0..children {
                assert_eq!(listeners.add(SERVICE, at(81), 1, 99), Ok(()));
                let other = listeners.find(at(81)).expect("there").listener;
                assert_ne!(other, index);
                assert_eq!(listeners.tag(index), tag);
                listeners.close(other);
                listeners.orphan(index);
            }
            assert!(listeners.all.len() <= 2, "places are used again");
            assert_eq!(listeners.free.len(), listeners.all.len());
        }
    }
}
