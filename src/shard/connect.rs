//! Active opens: the choice of our end, and the SYN.
//!
//! Must not contain: what becomes of the handshake (`receive`), ports of listeners (`listeners`).

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use super::conn::Phase;
use super::core::Core;
use super::listeners::{NO_LISTENER, Target};
use super::opening::{ConnectError, ConnectOptions, IpFields};
use super::routes::NoRoute;
use super::service::ConnId;
use crate::flow::{EPHEMERAL_PORTS, Endpoint, Quad, ports_for_shard};
use crate::tcp::{Handshake, SeqNum};

impl Core {
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
                let owner = self.shared.owner(&quad);
                if owner != self.config.id {
                    return Err(ConnectError::WrongShard(owner));
                }
                (quad, self.floor(&quad).ok_or(ConnectError::AddressInUse)?)
            }
        };
        let limits = &self.config.limits;
        if self.conns.len() >= limits.connections || self.connecting >= limits.connecting {
            return Err(ConnectError::Full);
        }
        let mut params = self.open_params(&quad, options.mss);
        if let Some(floor) = floor
            && !params.iss.gt(floor)
        {
            params.iss = floor + 1;
        }
        let mut handshake = Handshake::connect(&self.config.tcp, params, self.now);
        if let Some(count) = options.syn_retries {
            handshake.set_syn_retries(count);
        }
        let ticket = self.shared.tickets.fetch_add(1, Ordering::Relaxed);
        let origin = Target { service, listener: NO_LISTENER };
        let id = self.insert(quad, origin, Phase::Handshake(handshake), ticket).ok_or(ConnectError::Full)?;
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

    /// A port whose bucket this shard owns (RFC6056-MC) and on which nobody listens (RFC6056-3.1). Where to begin is for
    /// nobody to guess: double-hash port selection (RFC 6056 algorithm 4).
    fn choose_port(&mut self, local: IpAddr, remote: Endpoint) -> Result<(Quad, Option<SeqNum>), ConnectError> {
        let shared = &self.shared;
        let hash = shared.isn.port_hash(local, remote.addr, remote.port);
        let start = self.ports.start(hash);
        let ports =
            ports_for_shard(&shared.keys, &shared.owners, local, remote, self.config.id, start, EPHEMERAL_PORTS);
        let quads = || ports.clone().map(|port| Quad { local: Endpoint { addr: local, port }, remote });
        let silent = |quad: &Quad| self.listeners.find(quad.local).is_none();
        // One that was never used or is forgotten, if there is any.
        let quad = quads()
            .find(|quad| silent(quad) && self.floor(quad) == Some(None))
            .or_else(|| quads().find(|quad| silent(quad) && self.floor(quad).is_some()))
            .ok_or(ConnectError::NoPort)?;
        let floor = self.floor(&quad).ok_or(ConnectError::NoPort)?;
        self.ports.took(hash, quad.local.port);
        Ok((quad, floor))
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
