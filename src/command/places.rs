//! Places for so many connections. When all are taken the connection that is longest idle gives way to a new one.
//!
//! Idle is a connection through which no octet moves, in neither direction, whatever the reason: a client that has
//! vanished, one that does not read, one that says nothing. Who moves octets now and then pays for it with a store of the
//! time, no more: the order is put right when somebody has to go.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// How long a connection keeps its place against others while nothing moves.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Between two lines about it in the log.
const QUIET: Duration = Duration::from_secs(60);

/// Octets read and not yet written, of all connections; when there are more, each reads in small pieces.
const HELD: usize = 16 << 20;

/// Octets read at once, usually and when too many are held.
const PIECES: [usize; 2] = [64 << 10, 2 << 10];

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    begin: Instant,
    held: AtomicUsize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Taken>,
    /// When something moved last, and the number. May be behind what the connection itself knows.
    order: BTreeSet<(u64, u64)>,
    /// Since the last line in the log.
    gave_way: u64,
    refused: u64,
    said: Option<Instant>,
}

#[derive(Debug)]
struct Taken {
    /// As it stands in the order.
    stamp: u64,
    /// As it is, in ms since the beginning.
    moved: Arc<AtomicU64>,
    give_way: oneshot::Sender<()>,
}

/// A place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    moved: Arc<AtomicU64>,
}

/// Octets on their way from one end to the other.
pub(super) struct Held<'a> {
    places: &'a Places,
    octets: usize,
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        let (begin, held, table) = (Instant::now(), AtomicUsize::new(0), Mutex::default());
        Arc::new(Self { most, begin, held, table })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.begin).as_millis()).unwrap_or(u64::MAX)
    }

    /// How many there are.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Whether somebody has to go for the next one to have one.
    pub(super) fn are_taken(&self) -> bool {
        self.table().open.len() >= self.most
    }

    /// Whether nobody has one.
    pub(super) fn are_free(&self) -> bool {
        self.table().open.is_empty()
    }

    /// A place, and what is told when it is needed by another. `None`: all are taken, by connections that are not idle.
    pub(super) fn take(self: &Arc<Self>, now: Instant) -> Option<(Place, oneshot::Receiver<()>)> {
        let stamp = self.stamp(now);
        let mut table = self.table();
        if table.open.len() >= self.most && !table.give_way(stamp) {
            table.refused += 1;
            return None;
        }
        let number = table.next;
        table.next += 1;
        let (give_way, told) = oneshot::channel();
        let moved = Arc::new(AtomicU64::new(stamp));
        table.open.insert(number, Taken { stamp, moved: Arc::clone(&moved), give_way });
        table.order.insert((stamp, number));
        Some((Place { places: Arc::clone(self), number, moved }, told))
    }

    /// Has the longest idle connection end. `false`: none is idle.
    pub(super) fn give_way(&self, now: Instant) -> bool {
        let stamp = self.stamp(now);
        self.table().give_way(stamp)
    }

    /// What is to be said in the log, once in a while.
    pub(super) fn news(&self, now: Instant) -> Option<String> {
        let mut table = self.table();
        let quiet = table.said.is_some_and(|said| now.saturating_duration_since(said) < QUIET);
        if quiet || table.gave_way + table.refused == 0 {
            return None;
        }
        table.said = Some(now);
        let (gave_way, refused) = (std::mem::take(&mut table.gave_way), std::mem::take(&mut table.refused));
        let (open, most) = (table.open.len(), self.most);
        Some(format!(
            "{open} of {most} places are taken: {gave_way} idle connections were reset, {refused} new ones refused"
        ))
    }
}

impl Table {
    fn give_way(&mut self, now: u64) -> bool {
        let patience = PATIENCE.as_millis() as u64;
        while let Some(&(stamp, number)) = self.order.first() {
            if stamp.saturating_add(patience) > now {
                return false;
            }
            self.order.remove(&(stamp, number));
            let Some(taken) = self.open.get_mut(&number) else { continue };
            let moved = taken.moved.load(Ordering::Relaxed);
            if moved > stamp {
                taken.stamp = moved;
                self.order.insert((moved, number));
                continue;
            }
            if let Some(taken) = self.open.remove(&number) {
                // Its task may be about to end anyway.
                let _ = taken.give_way.send(());
            }
            self.gave_way += 1;
            return true;
        }
        false
    }
}

impl Place {
    /// An octet has moved.
    pub(super) fn moved(&self, now: Instant) {
        self.moved.store(self.places.stamp(now), Ordering::Relaxed);
    }

    /// How many octets to read at once.
    pub(super) fn piece(&self) -> usize {
        PIECES[usize::from(self.places.held.load(Ordering::Relaxed) > HELD)]
    }

    /// So many octets were read for which there was no room yet.
    pub(super) fn hold(&self, octets: usize) -> Held<'_> {
        self.places.held.fetch_add(octets, Ordering::Relaxed);
        Held { places: &self.places, octets }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.places.held.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.table();
        if let Some(taken) = table.open.remove(&self.number) {
            table.order.remove(&(taken.stamp, self.number));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_longest_idle_connection_gives_way_and_no_other() {
        let places = Places::new(3);
        let start = Instant::now();
        let mut taken: Vec<_> = (0..3).map(|place| places.take(start + SECOND * place).unwrap()).collect();
        assert!(places.take(start + SECOND * 29).is_none(), "nobody has been idle for so long");
        // The first one moves something, so the second is the one.
        taken[0].0.moved(start + SECOND * 20);
        let fourth = places.take(start + SECOND * 32).unwrap();
        let told: Vec<bool> = taken.iter_mut().map(|(_, told)| told.try_recv().is_ok()).collect();
        assert_eq!(told, [false, true, false]);
        // All are taken again, one by the third, which goes next.
        let fifth = places.take(start + SECOND * 33).unwrap();
        assert!(taken[2].1.try_recv().is_ok());
        assert!(places.take(start + SECOND * 49).is_none());
        // Who ends by itself leaves its place, once.
        taken.clear();
        let sixth = places.take(start + SECOND * 49).unwrap();
        assert!(places.take(start + SECOND * 49).is_none());
        drop((fourth, fifth, sixth));
        let table = places.table();
        assert!(table.open.is_empty() && table.order.is_empty());
    }

    /// Thousands of clients that vanished: each new one takes the place of one of them, in the order in which they came.
    #[test]
    fn vanished_clients_give_way_one_by_one() {
        let places = Places::new(4_096);
        let start = Instant::now();
        let mut vanished: Vec<_> = (0..4_096).map(|_| places.take(start).unwrap()).collect();
        assert!(places.take(start + PATIENCE - Duration::from_millis(1)).is_none());
        let later = start + PATIENCE;
        let honest: Vec<_> = (0..4_096).map(|_| places.take(later).unwrap()).collect();
        assert!(vanished.iter_mut().all(|(_, told)| told.try_recv().is_ok()));
        assert!(places.take(later).is_none());
        drop(vanished);
        assert_eq!(places.table().open.len(), honest.len());
    }

    #[test]
    fn the_log_hears_of_it_once_in_a_while() {
        let places = Places::new(1);
        let start = Instant::now();
        assert_eq!(places.news(start), None);
        let _first = places.take(start).unwrap();
        for _ in 0..5 {
            assert!(places.take(start).is_none());
        }
        let said = "1 of 1 places are taken: 0 idle connections were reset, 5 new ones refused";
        assert_eq!(places.news(start).as_deref(), Some(said));
        let _second = places.take(start + PATIENCE).unwrap();
        assert_eq!(places.news(start + PATIENCE), None, "too soon");
        let said = "1 of 1 places are taken: 1 idle connections were reset, 0 new ones refused";
        assert_eq!(places.news(start + QUIET).as_deref(), Some(said));
        assert_eq!(places.news(start + QUIET * 3), None, "nothing new");
    }

    #[test]
    fn pieces_are_small_while_too_much_is_held() {
        let places = Places::new(2);
        let (place, _told) = places.take(Instant::now()).unwrap();
        assert_eq!(place.piece(), PIECES[0]);
        let held = place.hold(HELD + 1);
        assert_eq!(place.piece(), PIECES[1]);
        drop(held);
        assert_eq!(place.piece(), PIECES[0]);
    }
}
