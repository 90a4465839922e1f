//! [`Order`]: which of the connections that are ready is accepted next.
//!
//! The lowest ticket that is ready, but for those that wait for an older handshake from the same address. Of an address
//! only its lowest ticket can be next, and only its youngest older handshake says until when that one is held: so each
//! address stands in one of two sorted lists, of those that are free and of those that are held, and moves when something
//! of its own changes. Whoever accepts pays for what is new since the last time and one look at the lists, however many
//! connections wait.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::net::IpAddr;

use super::listening::{HalfOpen, Listening, Ready};
use super::socket::Handle;
use crate::tcp::{Duration, Instant};

/// How long a connection waits for an older handshake from the same address.
pub(super) const PATIENCE: Duration = Duration::from_millis(2);

/// What the accepting side knows of one address.
#[derive(Debug)]
struct Source<T> {
    half_open: BTreeMap<u64, Instant>,
    ready: BTreeMap<u64, Ready<T>>,
    standing: Standing,
}

/// In which list an address stands.
#[derive(Debug, Clone, Copy)]
enum Standing {
    /// In none: nothing is ready.
    Idle,
    /// With its lowest ticket.
    Free(u64),
    /// Until then at the latest.
    Held(Instant),
}

/// What the accepting side knows, sorted: who is ready, and which older handshakes an address still has.
#[derive(Debug)]
pub(super) struct Order<T = Handle> {
    sources: HashMap<IpAddr, Source<T>>,
    free: BTreeMap<u64, IpAddr>,
    held: BTreeSet<(Instant, IpAddr)>,
    /// Handshakes by the end of their time; also those that are complete meanwhile.
    expiring: BinaryHeap<Reverse<(Instant, u64, IpAddr)>>,
    /// Handshakes and addresses looked at.
    #[cfg(test)]
    looks: u64,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self {
            sources: HashMap::new(),
            free: BTreeMap::new(),
            held: BTreeSet::new(),
            expiring: BinaryHeap::new(),
            #[cfg(test)]
            looks: 0,
        }
    }
}

/// What [`Order::next`] found.
#[allow(clippy::large_enum_variant)] // Lives for the blink of an eye; a box would be an allocation.
pub(super) enum Next<T = Handle> {
    Ready(Ready<T>),
    /// Something is ready, and held back until then at the latest.
    Held(Instant),
    Nothing,
}

impl Order {
    pub(super) fn learn(&mut self, listening: &Listening) {
        // First those that are ready: what is older than one of them was queued before.
        while let Some(ready) = listening.ready.pop() {
            self.completed(ready);
        }
        for news in &listening.half_open {
            while let Some(half_open) = news.pop() {
                self.began(half_open);
            }
        }
    }
}

impl<T> Order<T> {
    /// A handshake has begun.
    fn began(&mut self, HalfOpen { ticket, from, at }: HalfOpen) {
        let source = self.source(from);
        if source.ready.contains_key(&ticket) {
            return;
        }
        source.half_open.insert(ticket, at);
        let matters = !source.ready.is_empty();
        self.expiring.push(Reverse((at + PATIENCE, ticket, from)));
        if matters {
            self.settle(from);
        }
    }

    /// A handshake is complete.
    fn completed(&mut self, ready: Ready<T>) {
        let (ticket, from) = (ready.ticket, ready.from);
        let source = self.source(from);
        source.half_open.remove(&ticket);
        source.ready.insert(ticket, ready);
        self.settle(from);
    }

    /// The connection to accept at `now`.
    pub(super) fn next(&mut self, now: Instant) -> Next<T> {
        while let Some(&Reverse((end, ticket, from))) = self.expiring.peek()
            && end <= now
        {
            self.expiring.pop();
            if self.sources.get_mut(&from).is_some_and(|source| source.half_open.remove(&ticket).is_some()) {
                self.settle(from);
            }
            self.look();
        }
        if let Some((ticket, from)) = self.free.pop_first()
            && let Some(source) = self.sources.get_mut(&from)
            && let Some(ready) = source.ready.remove(&ticket)
        {
            source.standing = Standing::Idle;
            self.settle(from);
            return Next::Ready(ready);
        }
        self.held.first().map_or(Next::Nothing, |(until, _)| Next::Held(*until))
    }

    /// All that are ready, in no order.
    pub(super) fn ready(&self) -> impl Iterator<Item = &Ready<T>> {
        self.sources.values().flat_map(|source| source.ready.values())
    }

    fn source(&mut self, from: IpAddr) -> &mut Source<T> {
        self.sources.entry(from).or_insert_with(|| Source {
            half_open: BTreeMap::new(),
            ready: BTreeMap::new(),
            standing: Standing::Idle,
        })
    }

    /// Puts an address of which something has changed where it belongs.
    fn settle(&mut self, from: IpAddr) {
        self.look();
        let Some(source) = self.sources.get_mut(&from) else { return };
        match source.standing {
            Standing::Idle => {}
            Standing::Free(ticket) => {
                self.free.remove(&ticket);
            }
            Standing::Held(until) => {
                self.held.remove(&(until, from));
            }
        }
        source.standing = Standing::Idle;
        let Some((&ticket, _)) = source.ready.first_key_value() else {
            if source.half_open.is_empty() {
                self.sources.remove(&from);
            }
            return;
        };
        // Tickets are drawn as time goes on: of several older handshakes the youngest decides.
        source.standing = match source.half_open.range(..ticket).next_back() {
            None => {
                self.free.insert(ticket, from);
                Standing::Free(ticket)
            }
            Some((_, at)) => {
                let until = *at + PATIENCE;
                self.held.insert((until, from));
                Standing::Held(until)
            }
        };
    }

    #[inline]
    fn look(&mut self) {
        #[cfg(test)]
        {
            self.looks += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(1_000_000_000 + micros * 1_000)
    }

    /// What `accept` takes, in order, at `now`; and until when it waits in the end.
    fn taken(half_open: &[(u64, IpAddr, u64)], ready: &[(u64, IpAddr)], now: u64) -> (Vec<u64>, Option<Instant>) {
        let mut order = Order::default();
        for (ticket, from, micros) in half_open {
            order.began(HalfOpen { ticket: *ticket, from: *from, at: at(*micros) });
        }
        for (ticket, from) in ready {
            order.completed(Ready { ticket: *ticket, from: *from, handle: () });
        }
        let mut tickets = Vec::new();
        loop {
            match order.next(at(now)) {
                Next::Ready(ready) => tickets.push(ready.ticket),
                Next::Held(until) => return (tickets, Some(until)),
                Next::Nothing => return (tickets, None),
            }
        }
    }

    #[test]
    fn what_is_ready_comes_by_ticket() {
        assert_eq!(taken(&[], &[(7, A), (3, B), (5, A)], 0), (vec![3, 5, 7], None));
    }

    #[test]
    fn an_older_handshake_of_the_same_address_is_waited_for() {
        // SYN turns inverted: 4 completed on its shard before 3 did on its own.
        let half_open = [(3, A, 100)];
        assert_eq!(taken(&half_open, &[(4, A)], 200), (vec![], Some(at(2_100))));
        assert_eq!(taken(&half_open, &[(4, A)], 2_100), (vec![4], None), "not for ever");
        assert_eq!(taken(&half_open, &[(4, A), (3, A)], 200), (vec![3, 4], None), "and not when it is complete");
    }

    #[test]
    fn nobody_waits_for_another_address_or_a_younger_handshake() {
        assert_eq!(taken(&[(3, B, 100)], &[(4, A)], 200), (vec![4], None));
        assert_eq!(taken(&[(5, A, 100)], &[(4, A)], 200), (vec![4], None));
        assert_eq!(taken(&[(3, A, 100)], &[(4, A), (5, B)], 200), (vec![5], Some(at(2_100))), "others pass");
    }

    #[test]
    fn of_several_older_ones_the_youngest_decides() {
        let half_open = [(1, A, 0), (2, A, 700)];
        assert_eq!(taken(&half_open, &[(3, A)], 800), (vec![], Some(at(2_700))));
        assert_eq!(taken(&half_open, &[(2, A), (3, A)], 800), (vec![], Some(at(2_000))));
    }

    /// What all of them cost together, which is what a program that was away for a while pays: not their square.
    #[test]
    fn accepting_costs_the_same_however_many_wait() {
        for address in [|_| A, |ticket: u64| IpAddr::V4(std::net::Ipv4Addr::from(0x0a00_0000 + ticket as u32))] {
            let mut order = Order::default();
            for ticket in 0..8_000 {
                order.began(HalfOpen { ticket, from: address(ticket), at: at(ticket / 10) });
            }
            // The youngest first, so that each one is held by all before it.
            for ticket in (0..8_000).rev() {
                order.completed(Ready { ticket, from: address(ticket), handle: () });
                let _ = (ticket > 0).then(|| order.next(at(1_000)));
            }
            let waiting: usize = order.sources.values().map(|source| source.ready.len()).sum();
            let mut accepted = 0;
            while let Next::Ready(ready) = order.next(at(10_000)) {
                accepted += usize::from(ready.ticket < 8_000);
            }
            assert_eq!(accepted, waiting);
            assert!(order.looks <= 5 * 8_000, "{} looks", order.looks);
            assert!(order.sources.is_empty() && order.expiring.is_empty() && order.held.is_empty());
        }
    }

    /// The rule itself, with a list and no care for time.
    #[derive(Default)]
    struct Plain {
        half_open: BTreeMap<u64, (IpAddr, Instant)>,
        ready: BTreeMap<u64, IpAddr>,
    }

    impl Plain {
        fn next(&mut self, now: Instant) -> Option<u64> {
            self.half_open.retain(|ticket, (_, begun)| *begun + PATIENCE > now && !self.ready.contains_key(ticket));
            let held = |ticket: u64, from: IpAddr| self.half_open.range(..ticket).any(|(_, (other, _))| *other == from);
            let (&ticket, _) = self.ready.iter().find(|(ticket, from)| !held(**ticket, **from))?;
            self.ready.remove(&ticket);
            Some(ticket)
        }
    }

    proptest::proptest! {
        #[test]
        fn the_order_is_that_of_the_rule(
            steps in proptest::collection::vec((0_u64..400, proptest::bool::ANY, 0_u64..4), 1..200)
        ) {
            let (mut order, mut plain, mut now) = (Order::default(), Plain::default(), 1_000);
            let mut open: Vec<(u64, IpAddr)> = Vec::new();
            for (ticket, (micros, completes, from)) in steps.into_iter().enumerate() {
                let (ticket, from) = (ticket as u64, if from == 0 { B } else { A });
                now += micros;
                if completes && !open.is_empty() {
                    let (ticket, from) = open.swap_remove(micros as usize % open.len());
                    order.completed(Ready { ticket, from, handle: () });
                    plain.ready.insert(ticket, from);
                } else {
                    // Clocks of shards are as old as their turns.
                    let begun = at(now - micros % 50);
                    order.began(HalfOpen { ticket, from, at: begun });
                    plain.half_open.insert(ticket, (from, begun));
                    open.push((ticket, from));
                }
                if micros % 3 == 0 {
                    let next = match order.next(at(now)) {
                        Next::Ready(ready) => Some(ready.ticket),
                        Next::Held(until) => {
                            proptest::prop_assert!(until > at(now) && !plain.ready.is_empty());
                            None
                        }
                        Next::Nothing => {
                            proptest::prop_assert!(plain.ready.is_empty());
                            None
                        }
                    };
                    proptest::prop_assert_eq!(next, plain.next(at(now)));
                }
            }
        }
    }
}
