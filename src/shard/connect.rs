//! Active opens: the choice of our end, and the SYN.
//!
//! Must not contain: what becomes of the handshake (`receive`), ports of listeners (`listeners`).

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use super::conn::Phase;
use super::destinations::{Choice, Destinations, Port};
use super::hasher::Flow;
use super::listeners::{NO_LISTENER, Target};
use super::opening::{ConnectError, ConnectOptions};
use super::ports::epoch;
use super::routes::NoRoute;
use super::service::ConnId;
use super::state::ShardState;
use crate::flow::{Endpoint, Quad};
use crate::steering::{EPHEMERAL_PORTS, ports_for_shard};
use crate::tcp::{Handshake, SeqNum};
use crate::wire::ip::IpFields;

/// Ports tried in order, and as many far apart.
const TRIES: usize = 64;
/// Ports chosen, should others be faster to claim their buckets.
const CLAIMS: usize = 8;
/// Between ports far apart: odd, so that it comes to each of them, and about the golden section.
const STRIDE: u16 = 0x9e37;

impl ShardState {
    /// See [`Io::connect`](super::Io::connect).
    pub(crate) fn open(
        &mut self,
        service: u16,
        remote: Endpoint,
        options: &ConnectOptions,
    ) -> Result<ConnId, ConnectError> {
        let ours = &self.config.addresses;
        // OPS-33: what comes from ourselves is dropped.
        if remote.port == 0 || ours.contains(&remote.addr) {
            return Err(ConnectError::NoRoute);
        }
        let local = self.local_address(remote.addr, options.local.map(|local| local.addr))?;
        let (quad, floor) = match options.local.map_or(0, |local| local.port) {
            0 => self.choose_port(local, remote)?,
            port => {
                let quad = Quad { local: Endpoint::new(local, port), remote };
                if !self.claim_bucket(&quad) || !self.owns(&quad) {
                    return Err(ConnectError::WrongShard(self.shared.owner(&quad)));
                }
                self.look_at_bucket(&quad);
                (quad, self.floor(&quad).ok_or(ConnectError::AddressInUse)?)
            }
        };
        if self.connecting >= self.config.limits.connecting || !self.has_place() {
            return Err(ConnectError::Full);
        }
        let mut params = self.open_params(&quad, options.mss);
        if let Some(floor) = floor
            && !params.iss.gt(floor)
        {
            params.iss = floor + 1;
        }
        let mut handshake = Handshake::connect(&self.config.tcp, params, self.now).wishing(options.wishes());
        if let Some(count) = options.syn_retries {
            handshake.set_syn_retries(count);
        }
        let ticket = self.shared.tickets.fetch_add(1, Ordering::Relaxed);
        let origin = Target { service, listener: NO_LISTENER };
        let flow = Flow { quad, hash: self.hash(&quad) };
        let id = self.insert(&flow, origin, Phase::Handshake(handshake), ticket).ok_or(ConnectError::Full)?;
        self.counters.opens += 1;
        self.destinations.opened(&quad, floor.is_some());
        if let Some(conn) = self.conns.get_mut(id) {
            conn.user = options.user;
            conn.ip = IpFields::default().with(options.ttl, options.tos);
        }
        self.touch(id);
        Ok(id)
    }

    /// MUST-43; without a wish, the address that the route says (MUST-44).
    fn local_address(&self, remote: IpAddr, wish: Option<IpAddr>) -> Result<IpAddr, ConnectError> {
        let ours = &self.config.addresses;
        let source = self.config.routes.source(remote, ours).map_err(|NoRoute| ConnectError::NoRoute)?;
        match wish {
            Some(wish) if wish.is_ipv4() != remote.is_ipv4() => Err(ConnectError::NotOurAddress),
            Some(wish) if !wish.is_unspecified() => {
                if ours.contains(&wish) {
                    Ok(wish)
                } else {
                    Err(ConnectError::NotOurAddress)
                }
            }
            _ => source.ok_or(ConnectError::NoAddress),
        }
    }

    /// A port whose bucket this shard owns, from now on if it was vacant (RFC6056-MC), and on which nobody listens
    /// (RFC6056-3.1). Where to begin is for nobody to guess: double-hash port selection (RFC 6056 algorithm 4).
    fn choose_port(&mut self, local: IpAddr, remote: Endpoint) -> Result<(Quad, Option<SeqNum>), ConnectError> {
        let hash = self.shared.isn.port_hash(local, remote.addr, remote.port, epoch(self.now));
        let start = self.ports.start(hash);
        let mut destinations = std::mem::take(&mut self.destinations);
        let tried = Cell::new(0);
        let choose = || self.port_among(&mut destinations, local, remote, start, &tried);
        // A vacant bucket may be another's the moment after it was looked at.
        let chosen = std::iter::repeat_with(choose)
            .take(CLAIMS)
            .find(|chosen| chosen.as_ref().is_none_or(|(quad, _)| self.claim_bucket(quad)));
        self.destinations = destinations;
        self.counters.ports_tried += tried.get();
        let (quad, floor) = chosen.flatten().ok_or(ConnectError::NoPort)?;
        self.look_at_bucket(&quad);
        self.ports.took(hash, quad.local.port);
        Ok((quad, floor))
    }

    /// One that was never used or is forgotten, if there is any; else one in TIME-WAIT that gives way.
    fn port_among(
        &self,
        destinations: &mut Destinations,
        local: IpAddr,
        remote: Endpoint,
        start: u16,
        tried: &Cell<u64>,
    ) -> Option<(Quad, Option<SeqNum>)> {
        let quad = |port| Quad { local: Endpoint { addr: local, port }, remote };
        let silent = |quad: &Quad| self.listeners.find(quad.local).is_none();
        let look = |port| {
            tried.set(tried.get() + 1);
            let quad = quad(port);
            let hash = self.hash(&quad);
            if !self.owns(&quad) || self.lookup(hash, &quad).is_some() {
                Port::Taken
            } else if self.time_wait.get(hash, &quad).is_some() {
                Port::Waiting
            } else {
                Port::Free
            }
        };
        for _ in 0..TRIES {
            match destinations.choose(local, remote, self.config.shards, start, look) {
                Choice::Try => return self.try_ports(local, remote, start, tried),
                Choice::Free(port) if look(port) == Port::Free && silent(&quad(port)) => {
                    return Some((quad(port), None));
                }
                Choice::Free(port) => destinations.is_taken(local, remote, port),
                // The map has not heard of buckets that others have given back.
                Choice::Waiting(None) if self.buckets.is_some() => {
                    return self.try_ports(local, remote, start, tried);
                }
                Choice::Waiting(None) => return None,
                Choice::Waiting(Some(port)) => {
                    let floor = self.floor(&quad(port));
                    if floor.is_none() && look(port) == Port::Waiting {
                        // The others are younger.
                        return None;
                    }
                    destinations.waits_no_more(local, remote);
                    if let Some(floor) = floor
                        && silent(&quad(port))
                    {
                        return Some((quad(port), floor));
                    }
                }
            }
        }
        None
    }

    /// Tries ports where few are used: in order first, which finds one in nearly all cases, then far apart, should there be
    /// a run of used ones.
    fn try_ports(
        &self,
        local: IpAddr,
        remote: Endpoint,
        start: u16,
        tried: &Cell<u64>,
    ) -> Option<(Quad, Option<SeqNum>)> {
        let from = |start, count| {
            let ports = ports_for_shard(|quad| self.owns(quad), local, remote, start, EPHEMERAL_PORTS);
            ports.take(count).map(|port| Quad { local: Endpoint { addr: local, port }, remote })
        };
        let (mut gives_way, mut seen) = (None, 0);
        let in_order = from(start, TRIES).enumerate();
        let apart = (1..TRIES).flat_map(|step| from(start.wrapping_add((step as u16).wrapping_mul(STRIDE)), 1));
        for (number, quad) in in_order.chain(apart.map(|quad| (TRIES, quad))) {
            if number < TRIES {
                seen = number + 1;
            } else if seen < TRIES {
                // These were all that we have.
                break;
            }
            tried.set(tried.get() + 1);
            if self.listeners.find(quad.local).is_some() {
                continue;
            }
            match self.floor(&quad) {
                Some(None) => return Some((quad, None)),
                Some(floor) => gives_way = gives_way.or(Some((quad, floor))),
                None => {}
            }
        }
        gives_way
    }

    /// Whether a connection between these ends can be this shard's.
    fn owns(&self, quad: &Quad) -> bool {
        self.shared.owners.is_open_to(self.shared.keys.hash_quad(quad), self.config.id)
    }

    /// Whether a connection between these ends can be opened, and what its ISS must be greater than, if anything. `None`:
    /// there is one, or was shortly before.
    fn floor(&self, quad: &Quad) -> Option<Option<SeqNum>> {
        let hash = self.hash(quad);
        if self.lookup(hash, quad).is_some() {
            return None;
        }
        match self.time_wait.get(hash, quad) {
            Some(record) => record.yields(&self.config.tcp, self.now).map(Some),
            None => Some(None),
        }
    }
}
