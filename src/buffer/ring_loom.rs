//! The model checker on the ring: every interleaving (within the bound on preemptions) of a producer and a consumer.
//! Run by `cargo xloom`.
#![allow(clippy::unwrap_used)]

use loom::{
    sync::atomic::{AtomicUsize as Count, Ordering::SeqCst},
    thread,
};

use super::*;

/// Explores `scenario` with at most `preemptions` switches away from a thread that could go on.
fn explore(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

/// Takes `items` in order, giving way while the ring is empty.
fn take_all(consumer: &mut Consumer<Box<usize>>, items: usize, mut one_by_one: bool) {
    let mut expected = 0;
    while expected < items {
        if one_by_one {
            if let Some(item) = consumer.pop() {
                assert_eq!(*item, expected);
                expected += 1;
                consumer.release();
            }
        } else {
            for item in consumer.drain(2) {
                assert_eq!(*item, expected);
                expected += 1;
            }
        }
        one_by_one = !one_by_one;
        thread::yield_now();
    }
}

#[test]
fn loom_single_items_pass_in_order_through_full_and_empty_across_the_wrap() {
    explore(3, || {
        let (mut producer, mut consumer) = ring_from(1, usize::MAX);
        let writer = thread::spawn(move || {
            for item in 0..2 {
                let mut item = Box::new(item);
                while let Err(back) = producer.push(item) {
                    item = back;
                    thread::yield_now();
                }
            }
        });
        take_all(&mut consumer, 2, true);
        writer.join().unwrap();
        assert!(consumer.pop().is_none());
    });
}

#[test]
fn loom_batches_pass_in_order_across_the_wrap() {
    explore(3, || {
        let (mut producer, mut consumer) = ring_from(3, usize::MAX - 1);
        let writer = thread::spawn(move || {
            let mut next = 0;
            while next < 5 {
                // Half of the batch one by one, the rest at once.
                if producer.has_room(1) {
                    producer.stage(Box::new(next)).unwrap();
                    next += 1;
                }
                next += producer.stage_from(&mut (next..5).map(Box::new));
                producer.publish();
                thread::yield_now();
            }
        });
        take_all(&mut consumer, 5, false);
        writer.join().unwrap();
    });
}

#[test]
fn loom_peeked_item_is_the_one_popped() {
    explore(3, || {
        let (mut producer, mut consumer) = ring_from(2, 0);
        let writer = thread::spawn(move || {
            producer.push(Box::new(7)).unwrap();
            producer.push(Box::new(8)).unwrap();
        });
        if let Some(item) = consumer.peek() {
            assert_eq!(**item, 7);
            **item = 9;
            assert_eq!(consumer.pop(), Some(Box::new(9)));
        }
        writer.join().unwrap();
        assert_eq!(consumer.drain(5).last(), Some(Box::new(8)));
    });
}

#[test]
fn loom_whoever_sees_the_first_item_sees_the_slots() {
    for way in 0..3 {
        explore(3, move || {
            let (mut producer, mut consumer) = ring_from(2, usize::MAX);
            assert!(consumer.is_empty() && producer.room() == 2);
            let writer = thread::spawn(move || {
                producer.stage(Box::new(7)).unwrap();
                producer.push(Box::new(8)).unwrap();
            });
            // Empty or not: whatever is seen is whole.
            let seen = match way {
                0 => consumer.pop(),
                1 => consumer.peek().map(|item| item.clone()),
                _ => consumer.drain(1).next(),
            };
            assert!(seen.is_none_or(|item| *item == 7));
            writer.join().unwrap();
            assert_eq!(consumer.drain(3).last(), Some(Box::new(8)));
        });
    }
}

/// Counts its drops.
struct Counted(loom::sync::Arc<Count>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn loom_items_are_dropped_once_whichever_end_goes_first() {
    explore(3, || {
        let drops = loom::sync::Arc::new(Count::new(0));
        let (mut producer, mut consumer) = ring_from(2, usize::MAX);
        let counted = (Counted(drops.clone()), Counted(drops.clone()));
        let writer = thread::spawn(move || {
            let _ = producer.push(counted.0);
            // The last one stays staged: dropping the end shows it.
            let _ = producer.stage(counted.1);
        });
        drop(consumer.pop());
        drop(consumer);
        writer.join().unwrap();
        assert_eq!(drops.load(SeqCst), 2);
    });
}

#[test]
fn loom_nothing_comes_after_closed_and_empty() {
    explore(3, || {
        let (mut producer, mut consumer) = ring_from(2, 0);
        let writer = thread::spawn(move || {
            producer.push(1).unwrap();
            producer.stage(2).unwrap();
        });
        let closed = consumer.is_closed();
        let seen = consumer.drain(2).count();
        assert!(!closed || seen == 2, "what is there when the producer is gone is all");
        writer.join().unwrap();
        assert!(consumer.is_closed());
        assert_eq!(seen + consumer.drain(2).count(), 2);
    });
}

#[test]
fn loom_the_producer_sees_the_consumer_go() {
    explore(3, || {
        let (mut producer, mut consumer) = ring_from(1, 0);
        let reader = thread::spawn(move || consumer.pop());
        let mut item = Some(Box::new(1));
        while let Some(back) = item.take() {
            item = producer.push(back).err();
        }
        let read = reader.join().unwrap();
        assert!(read.is_none_or(|item| *item == 1));
        assert!(producer.is_closed());
    });
}
