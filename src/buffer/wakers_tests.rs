//! Tests of the list alone; the interleavings are explored in `wakers_loom.rs`.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use super::*;

/// A task that counts how often it is woken.
#[derive(Default)]
struct Task {
    woken: AtomicUsize,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::Relaxed);
    }
}

impl Task {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How often it was woken since the last time it was asked.
    fn woken(&self) -> usize {
        self.woken.swap(0, Ordering::Relaxed)
    }

    fn waits(self: &Arc<Self>, wakers: &Wakers, place: Place) {
        let waker = Waker::from(Arc::clone(self));
        assert!(wakers.poll(place, &Context::from_waker(&waker), || false).is_pending());
    }
}

#[test]
fn all_who_wait_are_woken_once() {
    let wakers = Wakers::default();
    let tasks: Vec<_> = (0..5).map(|_| (Task::new(), Place::new())).collect();
    assert_eq!(wakers.notify(), 0, "nobody waits");
    for _ in 0..3 {
        tasks.iter().for_each(|(task, place)| task.waits(&wakers, *place));
        wakers.announce(4);
        assert_eq!(wakers.notify() & 4, 4);
        assert_eq!(wakers.notify(), 0);
        assert!(tasks.iter().all(|(task, _)| task.woken() == 1));
        assert_eq!(wakers.len(), 0);
    }
    assert_eq!(wakers.sequence().load(Ordering::Relaxed), 3);
}

#[test]
fn who_leaves_is_forgotten_and_nobody_else() {
    let wakers = Wakers::default();
    let (stays, goes) = (Task::new(), Task::new());
    let (place, gone) = (Place::new(), Place::new());
    stays.waits(&wakers, place);
    goes.waits(&wakers, gone);
    wakers.leave(gone);
    assert_eq!(Arc::strong_count(&goes), 1, "its waker is dropped");
    wakers.leave(gone);
    assert_eq!(wakers.len(), 1);
    wakers.notify();
    assert_eq!((stays.woken(), goes.woken()), (1, 0));
}

#[test]
fn a_place_has_one_waker_the_last_that_was_left() {
    let wakers = Wakers::default();
    let (first, then) = (Task::new(), Task::new());
    let place = Place::new();
    first.waits(&wakers, place);
    then.waits(&wakers, place);
    then.waits(&wakers, place);
    assert_eq!((wakers.len(), Arc::strong_count(&first)), (1, 1));
    wakers.notify();
    assert_eq!((first.woken(), then.woken()), (0, 1));
}

#[test]
fn by_hand_each_task_counts_and_a_bounded_number_is_kept() {
    let wakers = Wakers::default();
    let tasks: Vec<_> = (0..MOST_BY_HAND).map(|_| Task::new()).collect();
    for task in tasks.iter().chain(&tasks) {
        task.waits(&wakers, Place::BY_HAND);
    }
    assert_eq!(wakers.len(), MOST_BY_HAND);
    let own = Task::new();
    own.waits(&wakers, Place::new());
    let one_more = Task::new();
    one_more.waits(&wakers, Place::BY_HAND);
    assert_eq!(tasks[0].woken(), 1, "it has made way");
    assert_eq!(wakers.len(), MOST_BY_HAND + 1);
    wakers.notify();
    let woken: usize = tasks[1..].iter().chain([&own, &one_more]).map(|task| task.woken()).sum();
    assert_eq!((woken, tasks[0].woken()), (MOST_BY_HAND + 1, 0));
}

#[test]
fn what_is_ready_leaves_nothing_behind() {
    let wakers = Wakers::default();
    let context = Context::from_waker(Waker::noop());
    assert!(wakers.poll(Place::new(), &context, || true).is_ready());
    assert_eq!((wakers.len(), wakers.notify()), (0, 0));
}

/// Two of them to a socket: see `tests/costs/sockets.rs`.
#[test]
fn nobody_waiting_takes_forty_octets() {
    assert_eq!(size_of::<Wakers>(), 40);
}
