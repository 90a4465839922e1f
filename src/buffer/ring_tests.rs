//! Tests of the ring on real threads and alone; the interleavings are explored in `ring_loom.rs`.
#![allow(clippy::unwrap_used)]

use std::{collections::VecDeque, rc::Rc, time::Duration};

use proptest::prelude::*;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn staged_items_show_after_publish_only() {
    let (mut producer, mut consumer) = ring(4);
    producer.stage(1).unwrap();
    producer.stage(2).unwrap();
    assert_eq!(consumer.pop(), None);
    assert!(consumer.is_empty());
    producer.publish();
    assert_eq!(consumer.len(), 2);
    assert_eq!(consumer.peek(), Some(&mut 1));
    assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some(1), Some(2), None));
}

#[test]
fn what_is_finished_at_its_place_shows_finished() {
    let (mut producer, mut consumer) = ring(1);
    let stage = |producer: &mut Producer<_>, first| {
        producer.stage_with(
            || vec![first],
            |item| {
                item.push(2);
                item.len()
            },
        )
    };
    assert_eq!((stage(&mut producer, 1), stage(&mut producer, 3)), (Some(2), None));
    producer.publish();
    assert_eq!(consumer.pop(), Some(vec![1, 2]));
}

#[test]
fn slots_come_back_at_release_only() {
    let (mut producer, mut consumer) = ring(3);
    for item in 0..3 {
        producer.push(item).unwrap();
    }
    assert_eq!(producer.push(3), Err(3));
    assert_eq!(consumer.pop(), Some(0));
    assert_eq!((producer.push(3), producer.room()), (Err(3), 0));
    consumer.release();
    assert_eq!(producer.room(), 1);
    assert!(producer.has_room(1) && !producer.has_room(2));
    producer.push(3).unwrap();
    assert_eq!(consumer.drain(2).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(producer.room(), 2);
    // Items not iterated over stay.
    drop(consumer.drain(9));
    assert_eq!((consumer.pop(), consumer.pop()), (Some(3), None));
    assert_eq!(producer.room(), 3);
}

#[test]
fn a_pop_that_finds_nothing_hands_the_slots_back() {
    let (mut producer, mut consumer) = ring(2);
    producer.push(1).unwrap();
    producer.push(2).unwrap();
    assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some(1), Some(2), None));
    assert_eq!(producer.room(), 2);
}

#[test]
fn capacity_is_exact_though_slots_are_a_power_of_two() {
    for capacity in [1, 2, 3, 5, 64, 100] {
        let (mut producer, mut consumer) = ring(capacity);
        let accepted = (0..200).take_while(|&item| producer.stage(item).is_ok()).count();
        assert_eq!(accepted, capacity);
        producer.publish();
        assert_eq!(consumer.drain(usize::MAX).len(), capacity);
        assert_eq!((producer.capacity(), consumer.capacity()), (capacity, capacity));
    }
}

#[test]
fn stages_from_an_iterator_what_there_is_room_for() {
    let (mut producer, mut consumer) = ring_from(4, usize::MAX - 2);
    let mut items = 0..10;
    assert_eq!(producer.stage_from(&mut items), 4);
    assert_eq!(producer.stage_from(&mut items), 0);
    producer.publish();
    assert_eq!(consumer.drain(2).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(producer.stage_from(&mut items), 2);
    producer.publish();
    assert_eq!(consumer.drain(9).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_eq!(producer.stage_from(&mut std::iter::once(7)), 1);
    assert_eq!(items, 6..10, "no item without room is taken");
}

#[test]
fn a_forgotten_drain_shows_no_item_twice() {
    let (mut producer, mut consumer) = ring(4);
    for item in 0..4 {
        producer.push(Box::new(item)).unwrap();
    }
    let mut drain = consumer.drain(3);
    assert_eq!(drain.next(), Some(Box::new(0)));
    drain.for_each(std::mem::forget);
    std::mem::forget(consumer.drain(0));
    assert_eq!(consumer.pop(), Some(Box::new(3)));
    producer.push(Box::new(4)).unwrap();
    let drain = consumer.drain(1);
    std::mem::forget(drain);
    assert_eq!(consumer.pop(), None, "lost, but not read again");
    assert_eq!(producer.room(), 4);
}

#[test]
fn indices_wrap_around() {
    let (mut producer, mut consumer) = ring_from(3, usize::MAX - 4);
    for item in 0..20 {
        producer.push(item).unwrap();
        producer.push(item + 100).unwrap();
        assert_eq!(consumer.len(), 2);
        assert_eq!(consumer.drain(8).collect::<Vec<_>>(), [item, item + 100]);
    }
    assert_eq!(producer.room(), 3);
}

#[test]
fn stats_count_items_batches_full_and_high_water() {
    let (mut producer, mut consumer) = ring(16);
    for item in 0..2 {
        producer.push(item).unwrap();
    }
    // Below an eighth of the capacity nobody looks.
    assert_eq!(producer.stats(), RingStats { items: 2, batches: 2, high_water: 0, full: 0 });
    assert_eq!(consumer.drain(16).count(), 2);
    for item in 0..10 {
        producer.stage(item).unwrap();
    }
    producer.publish();
    producer.publish();
    assert_eq!(producer.stats(), RingStats { items: 12, batches: 3, high_water: 10, full: 0 });
    assert_eq!(consumer.drain(16).count(), 10);
    for item in 0..9 {
        producer.push(item).unwrap();
    }
    assert_eq!(producer.stats().high_water, 10, "the stale copy of the consumer's index must not count");
    while producer.stage(0).is_ok() {}
    producer.publish();
    assert_eq!(producer.stats(), RingStats { items: 28, batches: 13, high_water: 16, full: 1 });
}

#[test]
fn each_end_sees_the_other_go() {
    let (mut producer, mut consumer) = ring(4);
    assert!(!producer.is_closed() && !consumer.is_closed());
    producer.stage(1).unwrap();
    drop(producer);
    assert!(consumer.is_closed());
    assert_eq!((consumer.pop(), consumer.pop()), (Some(1), None), "what was staged is not lost");
    let (mut producer, consumer) = ring(4);
    producer.push(1).unwrap();
    drop(consumer);
    assert!(producer.is_closed());
}

#[test]
fn items_are_dropped_once() {
    let item = Rc::new(());
    for (pushed, popped, released) in [(0, 0, 0), (3, 0, 0), (3, 3, 0), (4, 2, 1), (4, 2, 2)] {
        for producer_first in [false, true] {
            let (mut producer, mut consumer) = ring_from(4, usize::MAX - 1);
            for _ in 0..pushed {
                producer.push(Rc::clone(&item)).unwrap();
            }
            for count in 0..popped {
                drop(consumer.pop().unwrap());
                if count < released {
                    consumer.release();
                }
            }
            assert_eq!(Rc::strong_count(&item), 1 + pushed - popped);
            if producer_first {
                drop(producer);
                drop(consumer);
            } else {
                drop(consumer);
                drop(producer);
            }
            assert_eq!(Rc::strong_count(&item), 1);
        }
    }
}

#[test]
#[should_panic(expected = "sensible capacity")]
fn no_ring_without_room() {
    drop(ring::<u8>(0));
}

#[test]
fn two_threads_keep_order_one_by_one() {
    let (mut producer, mut consumer) = ring_from(7, usize::MAX - 1000);
    const ITEMS: u64 = 200_000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for item in 0..ITEMS {
                producer.push_wait(Box::new(item), LIMIT).unwrap();
            }
        });
        for expected in 0..ITEMS {
            assert_eq!(*consumer.pop_wait(LIMIT).unwrap(), expected);
        }
        assert_eq!(consumer.pop_wait(LIMIT), None);
        assert!(consumer.is_closed());
    });
}

#[test]
fn two_threads_keep_order_in_batches() {
    let (mut producer, mut consumer) = ring(64);
    const ITEMS: u64 = 500_000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut next = 0;
            while next < ITEMS {
                let batch = (next % 33 + 1).min(ITEMS - next) as usize;
                for _ in 0..batch.min(producer.room()) {
                    producer.stage(next).unwrap();
                    next += 1;
                }
                producer.publish();
                std::thread::yield_now();
            }
        });
        let mut expected = 0;
        while expected < ITEMS {
            for item in consumer.drain(20) {
                assert_eq!(item, expected);
                expected += 1;
            }
            std::thread::yield_now();
        }
        assert_eq!(consumer.pop(), None);
    });
}

#[test]
fn waiting_ends_with_the_limit() {
    let (mut producer, mut consumer) = ring(1);
    let limit = Duration::from_millis(5);
    assert_eq!(consumer.pop_wait(limit), None);
    producer.push(1).unwrap();
    assert_eq!(producer.push_wait(2, limit), Err(2));
    drop(consumer);
    assert_eq!(producer.push_wait(2, LIMIT), Err(2));
}

#[derive(Debug, Clone)]
enum Step {
    Stage,
    Publish,
    Push,
    Pop,
    Release,
    Drain(usize, usize),
    StageFrom(u32),
    Peek,
    Room,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Stage),
        1 => Just(Step::Publish),
        2 => Just(Step::Push),
        3 => Just(Step::Pop),
        1 => Just(Step::Release),
        1 => (0_usize..6, 0_usize..6).prop_map(|(max, taken)| Step::Drain(max, taken)),
        1 => (0_u32..6).prop_map(Step::StageFrom),
        1 => Just(Step::Peek),
        1 => Just(Step::Room),
    ]
}

proptest! {
    /// The ring against queues of what is staged, shown, and taken but not given back.
    #[test]
    fn behaves_as_a_queue(capacity in 1_usize..9, start in 0_usize..12, steps in prop::collection::vec(step(), 0..200)) {
        let (mut producer, mut consumer) = ring_from(capacity, 0_usize.wrapping_sub(start));
        let (mut staged, mut shown, mut held) = (VecDeque::new(), VecDeque::new(), 0);
        let mut next = 0_u32;
        for step in steps {
            let room = capacity - staged.len() - shown.len() - held;
            match step {
                Step::Stage => {
                    prop_assert_eq!(producer.stage(next).is_ok(), room > 0);
                    if room > 0 {
                        staged.push_back(next);
                    }
                    next += 1;
                }
                Step::Push => {
                    prop_assert_eq!(producer.push(next).is_ok(), room > 0);
                    if room > 0 {
                        staged.push_back(next);
                        shown.append(&mut staged);
                    }
                    next += 1;
                }
                Step::StageFrom(items) => {
                    let took = producer.stage_from(&mut (next..next + items));
                    prop_assert_eq!(took, room.min(items as usize));
                    staged.extend(next..next + took as u32);
                    next += items;
                }
                Step::Publish => {
                    producer.publish();
                    shown.append(&mut staged);
                }
                Step::Pop => {
                    let item = consumer.pop();
                    prop_assert_eq!(item, shown.pop_front());
                    held = if item.is_some() { held + 1 } else { 0 };
                }
                Step::Release => {
                    consumer.release();
                    held = 0;
                }
                Step::Drain(max, taken) => {
                    let drain = consumer.drain(max);
                    prop_assert_eq!(drain.len(), shown.len().min(max));
                    for item in drain.take(taken) {
                        prop_assert_eq!(Some(item), shown.pop_front());
                    }
                    held = 0;
                }
                Step::Peek => prop_assert_eq!(consumer.peek().copied(), shown.front().copied()),
                Step::Room => prop_assert_eq!(producer.room(), room),
            }
            prop_assert_eq!(consumer.len(), shown.len());
        }
    }
}
