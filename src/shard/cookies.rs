//! The SYN cookies of a shard: what epoch it is, whether any are out, and which have made a connection.
//!
//! The secret and the epoch are the engine's ([`SharedCookies`]), so that every shard takes what another has made. Which were
//! used is known where they were used; that is where all segments of a flow come. Must not contain: what a cookie is made of
//! (`tcp::cookie`), packets.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;

use crate::tcp::cookie::{Cookie, CookieKey, Subject, epoch_at};
use crate::tcp::{Instant, SeqNum};
use crate::wire::options::TcpOptions;

/// Used cookies that a shard remembers of one epoch, 9 octets each. With half of them the epoch ends early, and at the cap
/// others of that epoch are refused: none is forgotten while it would be good.
const MOST_USED: usize = 65_536;

/// What the cookies of an engine have in common.
#[derive(Debug)]
pub struct SharedCookies {
    key: CookieKey,
    /// Epochs that were ended before their time.
    ahead: AtomicU64,
    /// The last epoch in which a cookie was made, and one more; 0: never.
    made: AtomicU64,
}

impl SharedCookies {
    /// With a secret of 128 random bits.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self { key: CookieKey::new(key), ahead: AtomicU64::new(0), made: AtomicU64::new(0) }
    }

    fn epoch(&self, now: Instant) -> u64 {
        // Relaxed, here and below: numbers by themselves. Who reads an older one for a moment takes a cookie a moment longer.
        epoch_at(now, self.ahead.load(Ordering::Relaxed))
    }
}

/// Which cookies of this epoch, and of the one before, have made a connection.
#[derive(Debug)]
pub(crate) struct Cookies {
    shared: Arc<SharedCookies>,
    /// Of `epoch`, and of the one before.
    used: [HashSet<u64, FixedState>; 2],
    epoch: u64,
}

impl Cookies {
    pub(crate) fn new(shared: Arc<SharedCookies>) -> Self {
        Self { shared, used: Default::default(), epoch: 0 }
    }

    /// The initial sequence number that answers a SYN.
    pub(crate) fn make(&self, now: Instant, subject: &Subject, mss: u16, options: &TcpOptions) -> SeqNum {
        let epoch = self.shared.epoch(now);
        if self.shared.made.load(Ordering::Relaxed) != epoch + 1 {
            self.shared.made.store(epoch + 1, Ordering::Relaxed);
        }
        self.shared.key.make(subject, epoch, mss, options)
    }

    /// Whether any that were made may still be good (RFC4987-3.6b).
    pub(crate) fn are_out(&self, now: Instant) -> bool {
        let made = self.shared.made.load(Ordering::Relaxed);
        made != 0 && made + 1 > self.shared.epoch(now)
    }

    /// What a cookie says; `None` if it is none, or has been used.
    pub(crate) fn check(&mut self, now: Instant, subject: &Subject, cookie: SeqNum) -> Option<Cookie> {
        let epoch = self.shared.epoch(now);
        self.turn_to(epoch);
        let cookie = self.shared.key.check(subject, epoch, cookie)?;
        let used = self.used_in(cookie.epoch)?;
        (used.len() < MOST_USED && !used.contains(&cookie.id)).then_some(cookie)
    }

    /// A connection was made of this one: it makes no other.
    pub(crate) fn note_used(&mut self, now: Instant, cookie: &Cookie) {
        let current = cookie.epoch == self.epoch;
        let Some(used) = self.used_in(cookie.epoch) else { return };
        used.insert(cookie.id);
        if current && used.len() == MOST_USED / 2 && self.shared.epoch(now) == self.epoch {
            self.shared.ahead.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn used_in(&mut self, epoch: u64) -> Option<&mut HashSet<u64, FixedState>> {
        self.used.get_mut(usize::try_from(self.epoch.checked_sub(epoch)?).ok()?)
    }

    /// Forgets those that are no good any more.
    fn turn_to(&mut self, epoch: u64) {
        if epoch <= self.epoch {
            return;
        }
        if epoch == self.epoch + 1 {
            self.used.swap(0, 1);
        } else {
            self.used[1] = HashSet::default();
        }
        self.used[0] = HashSet::default();
        self.epoch = epoch;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn subject(port: u16, irs: u32) -> Subject {
        let addr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        Subject { local: (addr, 80), remote: (addr, port), irs: SeqNum(irs), listener: 1 }
    }

    fn made(cookies: &Cookies, now: Instant, irs: u32) -> SeqNum {
        cookies.make(now, &subject(9, irs), 1_460, &TcpOptions::default())
    }

    #[test]
    fn a_cookie_is_used_once_for_as_long_as_it_is_good() {
        let shared = Arc::new(SharedCookies::new([1; 16]));
        let mut cookies = Cookies::new(Arc::clone(&shared));
        let mut now = Instant::from_secs(29);
        assert!(!cookies.are_out(now));
        let cookie = made(&cookies, now, 5);
        let other = made(&cookies, now, 6);
        assert!(cookies.are_out(now));
        let good = cookies.check(now, &subject(9, 5), cookie).expect("good");
        assert!(cookies.check(now, &subject(9, 5), cookie).is_some(), "checking is not using");
        cookies.note_used(now, &good);
        assert_eq!(cookies.check(now, &subject(9, 5), cookie), None);
        now = Instant::from_secs(59);
        assert!(cookies.are_out(now));
        assert_eq!(cookies.check(now, &subject(9, 5), cookie), None, "in the next epoch, too");
        assert!(cookies.check(now, &subject(9, 6), other).is_some());
        // Any shard takes it.
        assert!(Cookies::new(shared).check(now, &subject(9, 6), other).is_some());
        now = Instant::from_secs(60);
        assert!(!cookies.are_out(now));
        assert_eq!(cookies.check(now, &subject(9, 6), other), None);
    }

    /// The memory of used ones is bounded: the epoch ends early, nothing is forgotten.
    #[test]
    fn when_many_are_used_the_epoch_ends_early() {
        let shared = Arc::new(SharedCookies::new([1; 16]));
        let mut cookies = Cookies::new(Arc::clone(&shared));
        let now = Instant::from_secs(29);
        let most = MOST_USED as u32;
        let unused: Vec<SeqNum> = (0..2 * most).map(|irs| made(&cookies, now, irs)).collect();
        let mut taken = 0;
        for (irs, cookie) in (0..).zip(&unused) {
            if let Some(good) = cookies.check(now, &subject(9, irs), *cookie) {
                cookies.note_used(now, &good);
                taken += 1;
            }
        }
        assert_eq!(taken, MOST_USED, "of one epoch");
        assert_eq!(shared.epoch(now), 1, "one ahead of time");
        for (irs, cookie) in (0..).zip(&unused).step_by(97) {
            assert_eq!(cookies.check(now, &subject(9, irs), *cookie), None, "{irs} comes in again");
        }
        let late = made(&cookies, now, 7);
        assert!(cookies.check(now, &subject(9, 7), late).is_some(), "those of the new epoch are good");
        assert!(cookies.used.iter().all(|used| used.len() <= MOST_USED));
    }
}
