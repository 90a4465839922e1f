//! Tests of the wake-up protocol alone; the interleavings are explored in `wake_loom.rs`.

use std::{cell::Cell, rc::Rc};

use super::*;

impl Signal for Rc<Cell<u32>> {
    fn signal(&self) {
        self.set(self.get() + 1);
    }
}

#[test]
fn signals_at_most_once_for_each_announcement() {
    let signals = Rc::new(Cell::new(0));
    let (parker, unparker) = parker(Rc::clone(&signals));
    let other = parker.unparker().clone();
    assert!(!unparker.notify(Interest::ALL), "nobody announced");
    parker.announce(Interest::DATA);
    assert!(unparker.notify(Interest::DATA));
    assert!(!other.notify(Interest::DATA));
    assert_eq!(signals.get(), 1);
    parker.announce(Interest::DATA);
    assert!(other.notify(Interest::DATA));
    assert_eq!(signals.get(), 2);
}

#[test]
fn signals_only_for_what_was_announced() {
    let signals = Rc::new(Cell::new(0));
    let (parker, unparker) = parker(Rc::clone(&signals));
    parker.announce(Interest::RETURNS | Interest::ROOM);
    assert!(!unparker.notify(Interest::DATA));
    assert!(!unparker.notify(Interest::NONE));
    assert!(unparker.notify(Interest::DATA | Interest::ROOM), "the announcement survives what does not concern it");
    parker.announce(Interest::ALL);
    parker.cancel();
    assert!(!unparker.notify(Interest::ALL));
    assert_eq!(signals.get(), 1);
}

#[test]
fn wakes_a_poll_of_mio() {
    use std::time::Duration;

    const WAKE: mio::Token = mio::Token(7);
    let mut poll = mio::Poll::new().expect("poll");
    let (parker, unparker) = parker(mio::Waker::new(poll.registry(), WAKE).expect("waker"));
    let mut events = mio::Events::with_capacity(4);
    for _ in 0..3 {
        parker.announce(Interest::DATA);
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(unparker.notify(Interest::DATA)));
            poll.poll(&mut events, Some(Duration::from_secs(20))).expect("poll");
        });
        assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [WAKE]);
    }
}
