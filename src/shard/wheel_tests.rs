//! Tests of the timing wheel: by hand, and against a sorted map.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::tcp::time::Duration;

const TICK: Duration = Duration::from_nanos(1 << TICK_BITS);

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn expire(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
    let mut slots = Vec::new();
    wheel.expired(now, &mut |slot| slots.push(slot));
    slots.sort_unstable();
    slots
}

/// OPS-48.
#[test]
fn fires_in_time_and_never_early() {
    for delay in [0, 1, 100_000, 65_536, 40_000_000, 200_000_000, 60_000_000_000, 7_200_000_000_000, 1 << 60] {
        for start in [0, 1, 65_535, 65_536, 123_456_789_012_345, (1 << 58) - 70_000] {
            let mut wheel = Wheel::new(at(start));
            let deadline = at(start + delay);
            wheel.insert(5, deadline);
            if delay > 0 {
                assert_eq!(expire(&mut wheel, at(start + delay - 1)), [0_u32; 0]);
            }
            let next = wheel.next().unwrap();
            assert!(next < deadline + TICK, "{delay} {start}");
            assert_eq!(expire(&mut wheel, deadline + TICK), [5], "{delay} {start}");
            assert_eq!((wheel.next(), wheel.len()), (None, 0));
        }
    }
}

#[test]
fn one_wake_up_for_a_deadline_however_far() {
    for delay in [100_000, 40_000_000, 60_000_000_000, 7_200_000_000_000] {
        let mut wheel = Wheel::new(at(987_654_321));
        wheel.insert(0, at(987_654_321 + delay));
        let next = wheel.next().unwrap();
        assert!(next >= at(987_654_321 + delay), "waking earlier would be in vain");
        assert_eq!(expire(&mut wheel, next), [0]);
    }
}

#[test]
fn a_deadline_moved_back_costs_one_call_in_vain() {
    let mut wheel = Wheel::new(at(0));
    for millis in 200..300 {
        wheel.insert(3, Instant::from_millis(millis));
    }
    assert_eq!(wheel.deadline(3), Some(Instant::from_millis(299)));
    let first = wheel.next().unwrap();
    assert!(first < Instant::from_millis(201));
    assert_eq!(expire(&mut wheel, first), [0_u32; 0]);
    let second = wheel.next().unwrap();
    assert!(second >= Instant::from_millis(299));
    assert_eq!(expire(&mut wheel, second), [3]);
}

#[test]
fn a_deadline_moved_nearer_fires_there() {
    let mut wheel = Wheel::new(at(0));
    wheel.insert(3, Instant::from_secs(60));
    wheel.insert(3, Instant::from_millis(1));
    assert_eq!(wheel.len(), 1);
    assert_eq!(expire(&mut wheel, Instant::from_millis(2)), [3]);
    assert_eq!(expire(&mut wheel, Instant::from_secs(61)), [0_u32; 0]);
}

#[test]
fn removed_entries_do_not_fire() {
    let mut wheel = Wheel::new(at(0));
    for slot in 0..4 {
        wheel.insert(slot, Instant::from_millis(5));
    }
    wheel.remove(2);
    wheel.remove(2);
    wheel.remove(77);
    wheel.remove(3);
    assert_eq!(wheel.deadline(2), None);
    assert_eq!(expire(&mut wheel, Instant::from_secs(1)), [0, 1]);
    wheel.insert(9, at(0));
    wheel.remove(9);
    assert!(wheel.is_empty() && wheel.next().is_none());
}

#[test]
fn the_end_of_time_is_far_but_harmless() {
    let mut wheel = Wheel::new(at(1));
    wheel.insert(0, Instant::MAX);
    assert_eq!(expire(&mut wheel, at(u64::MAX - (1 << 20))), [0_u32; 0]);
    assert_eq!(expire(&mut wheel, Instant::MAX), [0]);
    wheel.insert(0, Instant::MAX);
    assert_eq!(expire(&mut wheel, Instant::MAX), [0]);
}

#[test]
fn time_that_goes_back_stands_still() {
    let mut wheel = Wheel::new(Instant::from_secs(10));
    assert_eq!(expire(&mut wheel, Instant::from_secs(5)), [0_u32; 0]);
    wheel.insert(1, Instant::from_secs(11));
    assert_eq!(expire(&mut wheel, Instant::from_secs(4)), [0_u32; 0]);
    assert_eq!(expire(&mut wheel, Instant::from_secs(12)), [1]);
}

#[test]
fn a_slot_set_again_while_popping_comes_out_when_due() {
    let mut wheel = Wheel::new(at(0));
    let now = Instant::from_millis(10);
    wheel.insert(1, Instant::from_millis(3));
    wheel.insert(2, Instant::from_millis(9));
    let mut fired = Vec::new();
    while let Some(slot) = wheel.pop_expired(now) {
        fired.push(slot);
        if fired.len() == 1 {
            wheel.insert(slot, Instant::from_millis(5));
        } else {
            wheel.insert(slot, Instant::from_millis(12));
        }
    }
    assert_eq!(fired.len(), 3);
    assert_eq!(expire(&mut wheel, Instant::from_millis(13)), [1, 2]);
}

/// However many deadlines come at once, or have moved back meanwhile and must be filed anew.
#[test]
fn a_crowd_is_looked_at_bit_by_bit() {
    const CROWD: u32 = 10_000;
    const LOOKS: usize = 100;
    let mut wheel = Wheel::new(at(0));
    // All in one bucket of the fourth level. Every other one moves back.
    for slot in 0..CROWD {
        wheel.insert(slot, Instant::from_secs(40) + Duration::from_micros(slot.into()));
    }
    for slot in (0..CROWD).step_by(2) {
        wheel.insert(slot, Instant::from_secs(50));
    }
    let now = Instant::from_secs(41);
    let (mut fired, mut calls) = (Vec::new(), 0);
    while wheel.next().is_some_and(|next| next <= now) {
        let mut looks = LOOKS;
        while let Some(slot) = wheel.pop_within(now, &mut looks) {
            fired.push(slot);
        }
        calls += 1;
        assert!(fired.len() <= calls * LOOKS && calls < 1_000);
        // Meanwhile others come and go as ever.
        wheel.insert(CROWD + 7, now + Duration::from_millis(calls as u64));
        wheel.remove(1);
    }
    assert!(calls >= CROWD as usize / LOOKS);
    fired.sort_unstable();
    assert!(fired.iter().copied().filter(|slot| *slot != 1).eq((3..CROWD).step_by(2)), "{}", fired.len());
    let left = CROWD as usize / 2 + 1;
    assert_eq!((wheel.len(), expire(&mut wheel, Instant::from_secs(51)).len()), (left, left));
    assert!(wheel.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Insert { slot: u32, delay: u64 },
    InsertPast { slot: u32, ago: u64 },
    Remove { slot: u32 },
    Pass { time: u64 },
    Sleep,
}

/// Spans from nanoseconds to hours, all magnitudes alike.
fn span() -> impl Strategy<Value = u64> {
    (0_u32..44, any::<u64>()).prop_map(|(bits, random)| random & ((1 << bits) - 1))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0_u32..12, span()).prop_map(|(slot, delay)| Step::Insert { slot, delay }),
        1 => (0_u32..12, span()).prop_map(|(slot, ago)| Step::InsertPast { slot, ago }),
        1 => (0_u32..12).prop_map(|slot| Step::Remove { slot }),
        3 => span().prop_map(|time| Step::Pass { time }),
        3 => Just(Step::Sleep),
    ]
}

proptest! {
    /// What fires is exactly what a sorted map says, whatever the order of calls; `next` is never late and never in vain
    /// twice.
    #[test]
    fn fires_what_a_sorted_map_fires(start in span(), steps in prop::collection::vec(step(), 0..150)) {
        let mut now = at(start);
        let mut wheel = Wheel::new(now);
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert { slot, delay } => {
                    let deadline = now + Duration::from_nanos(delay);
                    wheel.insert(slot, deadline);
                    model.insert(slot, deadline);
                }
                Step::InsertPast { slot, ago } => {
                    let deadline = now - Duration::from_nanos(ago);
                    wheel.insert(slot, deadline);
                    model.insert(slot, deadline);
                }
                Step::Remove { slot } => {
                    wheel.remove(slot);
                    model.remove(&slot);
                }
                Step::Pass { .. } | Step::Sleep => {
                    now = match step {
                        Step::Pass { time } => now + Duration::from_nanos(time),
                        _ => wheel.next().map_or(now, |next| next.max(now)),
                    };
                    let due: Vec<u32> = model
                        .iter()
                        .filter(|(_, deadline)| tick_of(**deadline) <= tick_at(now))
                        .map(|(slot, _)| *slot)
                        .collect();
                    due.iter().for_each(|slot| {
                        model.remove(slot);
                    });
                    prop_assert_eq!(expire(&mut wheel, now), due);
                    prop_assert!(wheel.next().is_none_or(|next| next > now), "the next wait would not wait");
                }
            }
            prop_assert_eq!(wheel.len(), model.len());
            let first = model.values().min().map(|deadline| instant_of(tick_of(*deadline)).max(now));
            prop_assert_eq!(wheel.next().is_some(), first.is_some());
            prop_assert!(wheel.next() <= first, "{:?} is later than {:?}", wheel.next(), first);
            for (slot, deadline) in &model {
                prop_assert_eq!(wheel.deadline(*slot), Some(*deadline));
            }
        }
        // Asleep until the end: every entry fires, after at most one call in vain each.
        for slot in expire(&mut wheel, now) {
            prop_assert!(tick_of(model.remove(&slot).unwrap()) <= tick_at(now));
        }
        let mut calls = 0;
        while let Some(next) = wheel.next() {
            now = next.max(now);
            for slot in expire(&mut wheel, now) {
                prop_assert_eq!(tick_of(model.remove(&slot).unwrap()), tick_at(now), "late or early");
            }
            calls += 1;
            prop_assert!(calls <= 60);
        }
        prop_assert!(model.is_empty());
    }
}
