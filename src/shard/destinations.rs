//! Ports that are free towards one remote end: for destinations that have many of our connections, so that a choice costs
//! the same whether nearly all ports are free or hardly any, and "none" is known at once.
//!
//! A destination with few connections is a count. From an eighth of its ports on it has a map of them, made in pieces by the
//! next opens. The map only proposes: whoever takes a port looks whether it is free indeed. So it must not miss a port that
//! comes free; that it offers one which is not (a listener has it, it is another shard's) costs a look.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::crowd::less_room;
use crate::flow::{Endpoint, Quad};
use crate::steering::EPHEMERAL_PORTS;

/// Ports to choose from.
const COUNT: usize = *EPHEMERAL_PORTS.end() as usize - *EPHEMERAL_PORTS.start() as usize + 1;
const WORDS: usize = COUNT / 64;
const _: () = assert!(COUNT.is_multiple_of(64) && WORDS.is_multiple_of(64));

/// Ports looked at for the map by one open.
pub(super) const PIECE: usize = 512;

/// What a port is for the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// Of another shard, or with a connection on it.
    Taken,
    /// With a TIME-WAIT record, which may give way.
    Waiting,
    Free,
}

/// The place of a port among those to choose from.
fn place(port: u16) -> Option<usize> {
    EPHEMERAL_PORTS.contains(&port).then(|| usize::from(port - EPHEMERAL_PORTS.start()))
}

fn port(place: usize) -> u16 {
    EPHEMERAL_PORTS.start() + place as u16
}

/// The ports towards one destination.
#[derive(Debug)]
struct Map {
    /// A bit for each port that is free.
    free: Box<[u64; WORDS]>,
    /// A bit for each word that has one.
    some: [u64; WORDS / 64],
    /// Ports with TIME-WAIT records, the oldest first, and some that are it no more.
    waiting: VecDeque<u16>,
    /// Ports below this place have been looked at.
    seen: usize,
}

impl Map {
    fn new() -> Self {
        Self { free: Box::new([0; WORDS]), some: [0; WORDS / 64], waiting: VecDeque::new(), seen: 0 }
    }

    fn set(&mut self, place: usize, free: bool) {
        let (word, bit) = (place / 64, 1 << (place % 64));
        if free {
            self.free[word] |= bit;
        } else {
            self.free[word] &= !bit;
        }
        let (of, bit) = (word / 64, 1 << (word % 64));
        if self.free[word] != 0 {
            self.some[of] |= bit;
        } else {
            self.some[of] &= !bit;
        }
    }

    /// Forgets the oldest that wait no more. Records go in the order in which they came, but for those that gave way.
    fn trim(&mut self) {
        while let Some(&oldest) = self.waiting.front() {
            let free = place(oldest).is_none_or(|place| self.free[place / 64] & (1 << (place % 64)) != 0);
            if !free && self.waiting.len() <= COUNT {
                break;
            }
            self.waiting.pop_front();
        }
    }

    /// The first free place from `from` on, wrapping round.
    fn next(&self, from: usize) -> Option<usize> {
        let above = self.free[from / 64] & (u64::MAX << (from % 64));
        if above != 0 {
            return Some(from / 64 * 64 + above.trailing_zeros() as usize);
        }
        let behind = from / 64 + 1;
        // The words behind, those of the beginning, and the first one once more.
        let whole = WORDS / 64;
        for step in 0..=whole {
            let of = (behind / 64 + step) % whole;
            let mask = if step == 0 && behind < WORDS { u64::MAX << (behind % 64) } else { u64::MAX };
            let words = self.some[of] & mask;
            if words != 0 {
                let word = of * 64 + words.trailing_zeros() as usize;
                return Some(word * 64 + self.free[word].trailing_zeros() as usize);
            }
        }
        None
    }
}

#[derive(Debug, Default)]
struct Destination {
    /// Ports that have a connection or a TIME-WAIT record which we opened.
    used: usize,
    map: Option<Box<Map>>,
}

/// Where the choice of a port stands for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// So few are used that one that is free is found by trying.
    Try,
    /// This one is free, for all we know.
    Free(u16),
    /// None is, but for the oldest in TIME-WAIT, if there is one.
    Waiting(Option<u16>),
}

/// The destinations to which we have connections.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    all: HashMap<(IpAddr, Endpoint), Destination, RandomState>,
    /// Destinations that have a map.
    maps: usize,
}

impl Destinations {
    /// What is to be done for a port towards `remote`, from that place on, by a shard among `shards`: see [`Choice`]. `look`
    /// tells what a port is; it is asked about a [`PIECE`] of them at most.
    pub(super) fn choose(
        &mut self,
        local: IpAddr,
        remote: Endpoint,
        shards: u16,
        from: u16,
        mut look: impl FnMut(u16) -> Port,
    ) -> Choice {
        let Some(destination) = self.all.get_mut(&(local, remote)) else { return Choice::Try };
        if destination.map.is_none() {
            let ours = COUNT / usize::from(shards.max(1));
            if destination.used < (ours / 8).max(16) {
                return Choice::Try;
            }
        }
        let maps = &mut self.maps;
        let map = destination.map.get_or_insert_with(|| {
            *maps += 1;
            Box::new(Map::new())
        });
        for place in map.seen..(map.seen + PIECE).min(COUNT) {
            match look(port(place)) {
                Port::Taken => {}
                Port::Waiting => map.waiting.push_back(port(place)),
                Port::Free => map.set(place, true),
            }
            map.seen = place + 1;
        }
        if map.seen < COUNT {
            return Choice::Try;
        }
        match map.next(usize::from(from) % COUNT) {
            Some(place) => Choice::Free(port(place)),
            None => Choice::Waiting(map.waiting.front().copied()),
        }
    }

    /// A port of a map turned out to be taken.
    pub(super) fn is_taken(&mut self, local: IpAddr, remote: Endpoint, taken: u16) {
        if let Some(map) = self.map(local, remote)
            && let Some(place) = place(taken)
        {
            map.set(place, false);
        }
    }

    /// Whoever stands first among those in TIME-WAIT is it no more.
    pub(super) fn waits_no_more(&mut self, local: IpAddr, remote: Endpoint) {
        if let Some(map) = self.map(local, remote) {
            map.waiting.pop_front();
        }
    }

    /// A connection was opened; did it take over a TIME-WAIT record?
    pub(super) fn opened(&mut self, quad: &Quad, reuses: bool) {
        let destination = self.all.entry((quad.local.addr, quad.remote)).or_default();
        destination.used += usize::from(!reuses);
        if let Some(map) = &mut destination.map
            && let Some(place) = place(quad.local.port)
        {
            map.set(place, false);
        }
    }

    /// The connection of `quad` is gone; did it leave a TIME-WAIT record? Or that is gone, and there is no connection.
    #[cold]
    pub(crate) fn closed(&mut self, quad: &Quad, waits: bool) {
        let key = (quad.local.addr, quad.remote);
        let Some(destination) = self.all.get_mut(&key) else { return };
        if let Some(map) = &mut destination.map
            && let Some(place) = place(quad.local.port)
            && place < map.seen
        {
            if waits {
                map.waiting.push_back(quad.local.port);
            } else {
                map.set(place, true);
            }
            map.trim();
        }
        if !waits {
            destination.used = destination.used.saturating_sub(1);
            if destination.used == 0 {
                self.maps -= usize::from(destination.map.is_some());
                self.all.remove(&key);
                if let Some(room) = less_room(self.all.len(), self.all.capacity()) {
                    self.all.shrink_to(room);
                }
            }
        }
    }

    /// Nobody listens on this port any more.
    pub(super) fn silent(&mut self, silent: u16) {
        let Some(place) = place(silent).filter(|_| self.maps > 0) else { return };
        for map in self.all.values_mut().filter_map(|destination| destination.map.as_deref_mut()) {
            if place < map.seen {
                map.set(place, true);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn map(&mut self, local: IpAddr, remote: Endpoint) -> Option<&mut Map> {
        self.all.get_mut(&(local, remote))?.map.as_deref_mut()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv4Addr;

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    fn remote() -> Endpoint {
        Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 80)
    }

    #[test]
    fn the_next_free_place_is_found_from_anywhere() {
        let mut map = Map::new();
        assert!((0..COUNT).step_by(61).all(|from| map.next(from).is_none()));
        let free = [0, 1, 63, 64, 4_095, 4_096, 20_000, COUNT - 1];
        for only in free {
            map.set(only, true);
            for from in [0, 1, 62, 63, 64, 65, 4_000, 4_095, 4_096, 4_097, 19_999, 20_000, 20_001, COUNT - 2, COUNT - 1]
            {
                assert_eq!(map.next(from), Some(only), "from {from}");
            }
            map.set(only, false);
        }
        free.iter().for_each(|place| map.set(*place, true));
        for from in (0..COUNT).step_by(7) {
            let expected = free.iter().copied().find(|place| *place >= from).unwrap_or(0);
            assert_eq!(map.next(from), Some(expected), "from {from}");
        }
    }

    /// One open looks at a piece of the ports, then at none any more.
    #[test]
    fn a_map_is_made_in_pieces_and_then_followed() {
        let mut all = Destinations::default();
        let quad = |port| Quad { local: Endpoint::new(LOCAL, port), remote: remote() };
        let first = *EPHEMERAL_PORTS.start();
        let mut used = std::collections::HashSet::new();
        let mut looks = Vec::new();
        let mut from = 0;
        // Until all are taken; the first few thousand by trying.
        while used.len() < COUNT {
            let mut looked = 0;
            let choice = all.choose(LOCAL, remote(), 1, from, |port| {
                looked += 1;
                if used.contains(&port) { Port::Taken } else { Port::Free }
            });
            looks.push(looked);
            let taken = match choice {
                Choice::Try => port(usize::from(from) % COUNT),
                Choice::Free(port) => port,
                Choice::Waiting(_) => panic!("{} are used", used.len()),
            };
            assert!(used.insert(taken), "{taken} twice");
            all.opened(&quad(taken), false);
            from = taken - first + 1;
        }
        assert_eq!((looks.iter().max(), looks.iter().sum::<usize>()), (Some(&PIECE), COUNT));
        let never = |_| -> Port { panic!("all were looked at") };
        assert_eq!(all.choose(LOCAL, remote(), 1, 9, never), Choice::Waiting(None));
        all.closed(&quad(first + 700), false);
        assert_eq!(all.choose(LOCAL, remote(), 1, 9, never), Choice::Free(first + 700));
        all.opened(&quad(first + 700), false);
        all.closed(&quad(first + 5), true);
        assert_eq!(all.choose(LOCAL, remote(), 1, 9, never), Choice::Waiting(Some(first + 5)));
        all.closed(&quad(first + 5), false);
        assert_eq!(all.choose(LOCAL, remote(), 1, 9, never), Choice::Free(first + 5));
        all.is_taken(LOCAL, remote(), first + 5);
        assert_eq!(all.choose(LOCAL, remote(), 1, 9, never), Choice::Waiting(None), "it waits no more");
        // What has waited is forgotten in time.
        for _ in 0..3 * COUNT {
            all.closed(&quad(first + 9), true);
        }
        assert!(all.map(LOCAL, remote()).unwrap().waiting.len() <= COUNT);
        // With the last connection the destination is forgotten.
        for port in used {
            all.closed(&quad(port), false);
        }
        assert!(all.all.is_empty() && all.maps == 0);
    }
}
