//! The model checker on announce, re-check, wait: no wake-up is ever lost. A lost one leaves the sleeper waiting with
//! everyone else done, which the checker reports as a deadlock. Run by `cargo xloom`.
#![allow(clippy::unwrap_used)]

use loom::{
    sync::{Arc as LoomArc, Condvar, Mutex},
    thread,
};

use super::*;
use crate::buffer::ring::{Consumer, Producer, ring};

/// Stands for an eventfd: remembers that it was signalled until somebody waited.
#[derive(Default)]
struct Event {
    signalled: Mutex<bool>,
    changed: Condvar,
}

impl Signal for LoomArc<Event> {
    fn signal(&self) {
        *self.signalled.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

impl Event {
    fn wait(&self) {
        let mut signalled = self.signalled.lock().unwrap();
        while !*signalled {
            signalled = self.changed.wait(signalled).unwrap();
        }
        *signalled = false;
    }
}

fn explore(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

/// What a stage does when its turn was empty: parks until `ready`, by the protocol.
fn park(parker: &Parker<LoomArc<Event>>, event: &Event, interest: Interest, mut ready: impl FnMut() -> bool) {
    parker.announce(interest);
    if !ready() {
        event.wait();
    }
    parker.cancel();
}

/// Receives until `items` have come, parking whenever nothing is there.
fn receive(
    parker: &Parker<LoomArc<Event>>,
    event: &Event,
    interest: Interest,
    rings: &mut [Consumer<u32>],
    items: usize,
) {
    let mut received = 0;
    loop {
        received += rings.iter_mut().map(|ring| ring.drain(8).count()).sum::<usize>();
        if received >= items {
            return;
        }
        park(parker, event, interest, || rings.iter_mut().any(|ring| !ring.is_empty()));
    }
}

fn send(mut producer: Producer<u32>, unparker: Unparker<LoomArc<Event>>, items: u32, what: Interest) {
    for item in 0..items {
        producer.push(item).unwrap();
        unparker.notify(what);
    }
}

#[test]
fn loom_one_producer_never_loses_a_wake_up() {
    explore(3, || {
        let event = LoomArc::new(Event::default());
        let (parker, unparker) = parker(event.clone());
        let (producer, consumer) = ring(4);
        let writer = thread::spawn(move || send(producer, unparker, 2, Interest::DATA));
        receive(&parker, &event, Interest::DATA, &mut [consumer], 2);
        writer.join().unwrap();
    });
}

#[test]
fn loom_two_producers_never_lose_a_wake_up() {
    explore(3, || {
        let event = LoomArc::new(Event::default());
        let (parker, unparker) = parker(event.clone());
        let ((first, first_out), (second, second_out)) = (ring(2), ring(2));
        let other = unparker.clone();
        let writers = [
            thread::spawn(move || send(first, unparker, 1, Interest::DATA)),
            thread::spawn(move || send(second, other, 1, Interest::DATA)),
        ];
        receive(&parker, &event, Interest::DATA, &mut [first_out, second_out], 2);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
}

/// The sleeper waits for data, then for returns only. Data that comes meanwhile must not take the second announcement away.
#[test]
fn loom_a_notification_of_no_interest_takes_nothing_away() {
    explore(3, || {
        let event = LoomArc::new(Event::default());
        let (parker, unparker) = parker(event.clone());
        let ((data, mut data_out), (returns, mut returns_out)) = (ring(2), ring(2));
        let other = unparker.clone();
        let writers = [
            thread::spawn(move || send(data, unparker, 2, Interest::DATA)),
            thread::spawn(move || send(returns, other, 1, Interest::RETURNS)),
        ];
        if data_out.pop().is_none() {
            park(&parker, &event, Interest::DATA | Interest::RETURNS, || {
                !data_out.is_empty() || !returns_out.is_empty()
            });
        }
        while returns_out.pop().is_none() {
            park(&parker, &event, Interest::RETURNS, || !returns_out.is_empty());
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
}

/// The same between a producer that waits for room and the consumer that makes it.
#[test]
fn loom_a_producer_waiting_for_room_is_woken() {
    explore(3, || {
        let event = LoomArc::new(Event::default());
        let (parker, unparker) = parker(event.clone());
        let (mut producer, mut consumer) = ring(1);
        producer.push(0).unwrap();
        let reader = thread::spawn(move || {
            let mut taken = 0;
            while taken < 2 {
                let now = consumer.drain(1).count();
                taken += now;
                if now > 0 {
                    unparker.notify(Interest::ROOM);
                } else {
                    thread::yield_now();
                }
            }
        });
        while producer.push(1).is_err() {
            park(&parker, &event, Interest::ROOM, || producer.room() > 0);
        }
        reader.join().unwrap();
    });
}

/// At most one signal for each announcement, with two producers racing for it.
#[test]
fn loom_one_announcement_draws_one_signal() {
    explore(3, || {
        let event = LoomArc::new(Event::default());
        let (parker, unparker) = parker(event.clone());
        parker.announce(Interest::DATA);
        let other = unparker.clone();
        let writer = thread::spawn(move || other.notify(Interest::DATA));
        let (ours, theirs) = (unparker.notify(Interest::ALL), writer.join().unwrap());
        assert!(ours != theirs, "one of the two signals");
        event.wait();
    });
}
