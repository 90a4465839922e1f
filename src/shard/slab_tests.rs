//! Tests of the slab.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[test]
fn a_key_names_its_value_and_no_later_one() {
    let mut slab = Slab::new();
    let first = slab.insert("a");
    assert_eq!(slab.get(first), Some(&"a"));
    assert_eq!(slab.key(first.slot), Some(first));
    assert_eq!(slab.remove(first), Some("a"));
    assert_eq!((slab.get(first), slab.key(first.slot)), (None, None));
    assert_eq!(slab.remove(first), None);
    let second = slab.insert("b");
    assert_eq!(second.slot, first.slot, "last freed, first used");
    assert_ne!(second, first);
    assert_eq!(slab.get(first), None);
    assert_eq!(slab.get_mut(first), None);
    assert_eq!(slab.at(first.slot), Some(&"b"), "by slot alone");
    *slab.get_mut(second).unwrap() = "c";
    assert_eq!(slab.at_mut(second.slot), Some(&mut "c"));
    assert_eq!((slab.at(999_999), slab.get(Key { slot: 999_999, generation: 0 })), (None, None));
    slab.prefetch(0, 9);
    slab.prefetch(999_999, 9);
}

#[test]
fn a_value_may_know_its_key() {
    let mut slab = Slab::new();
    let key = slab.insert_with(|key| key);
    assert_eq!(slab.get(key), Some(&key));
}

#[test]
fn two_values_at_once_within_a_page_and_across() {
    let mut slab = Slab::new();
    let keys: Vec<_> = (0..PAGE + 1).map(|value| slab.insert(value)).collect();
    for (a, b) in [(3, 7), (7, 3), (3, PAGE), (PAGE, 3)] {
        let (left, right) = slab.pair_mut(keys[a], keys[b]).unwrap();
        assert_eq!((*left, *right), (a, b));
    }
    assert!(slab.pair_mut(keys[3], keys[3]).is_none());
    slab.remove(keys[3]);
    assert!(slab.pair_mut(keys[3], keys[4]).is_none());
    assert!(slab.pair_mut(keys[4], keys[3]).is_none());
}

#[test]
fn values_do_not_move_when_the_slab_grows() {
    let mut slab = Slab::new();
    let key = slab.insert(0);
    let address = std::ptr::from_ref(slab.get(key).unwrap());
    for value in 1..5 * PAGE {
        slab.insert(value);
    }
    assert_eq!(std::ptr::from_ref(slab.get(key).unwrap()), address);
    assert_eq!((slab.len(), slab.high_water(), slab.slots()), (5 * PAGE, 5 * PAGE, 5 * PAGE));
}

/// A peak is not held for ever: what is left of it, whichever it is, holds its own pages, and one is kept.
#[test]
fn pages_of_a_peak_go_back() {
    let mut slab = Slab::new();
    for order in [1, 769, 10 * PAGE - 1] {
        let mut keys: Vec<_> = (0..10 * PAGE).map(|value| slab.insert(value)).collect();
        assert_eq!((slab.pages_held(), slab.slots()), (10, 10 * PAGE), "slots are used again");
        // In the order of slots, far apart (an odd step goes round all of them), and backwards.
        let last = keys[(10 * PAGE - 1) * order % keys.len()];
        for place in 0..10 * PAGE - 1 {
            assert!(slab.remove(keys[place * order % keys.len()]).is_some());
        }
        assert!(slab.get(last).is_some() && slab.pages_held() <= 2, "{} pages for one value", slab.pages_held());
        // Few values find room where there is some.
        keys = (0..PAGE).map(|value| slab.insert(value)).collect();
        assert!(slab.pages_held() <= 2, "{} pages for {} values", slab.pages_held(), slab.len());
        for key in keys.into_iter().chain([last]) {
            assert!(slab.remove(key).is_some());
        }
        assert_eq!((slab.len(), slab.pages_held()), (0, 1));
    }
}

/// A number of values that swings around a page's end does not make and drop a page each time.
#[test]
fn a_page_is_kept_for_the_next_value() {
    let mut slab = Slab::new();
    let _full: Vec<_> = (0..PAGE).map(|value| slab.insert(value)).collect();
    let key = slab.insert(0);
    let page = std::ptr::from_ref(slab.get(key).unwrap());
    slab.remove(key);
    assert_eq!(slab.pages_held(), 2);
    let key = slab.insert(1);
    assert_eq!(std::ptr::from_ref(slab.get(key).unwrap()), page);
}

proptest! {
    #[test]
    fn behaves_as_a_map(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..600)) {
        let mut slab = Slab::new();
        let mut model = HashMap::new();
        let mut keys = Vec::new();
        for (value, (insert, index)) in steps.into_iter().enumerate() {
            if insert || keys.is_empty() {
                let key = slab.insert(value);
                prop_assert_eq!(model.insert(key, value), None);
                keys.push(key);
            } else {
                // Of all keys ever given out: most are stale.
                let key = keys[index.index(keys.len())];
                if value % 2 == 0 {
                    prop_assert_eq!(slab.remove(key), model.remove(&key));
                } else {
                    prop_assert_eq!(slab.discard(key), model.remove(&key).is_some());
                }
            }
            prop_assert_eq!(slab.len(), model.len());
        }
        for key in keys {
            prop_assert_eq!(slab.get(key), model.get(&key));
        }
        prop_assert_eq!(slab.iter().map(|(key, value)| (key, *value)).collect::<HashMap<_, _>>(), model.clone());
        prop_assert_eq!(slab.iter_mut().map(|(key, value)| (key, *value)).collect::<HashMap<_, _>>(), model);
    }
}
