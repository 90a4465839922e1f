//! The model checker on the list of wakers: whoever waits is woken, whatever others who wait, give up or publish do meanwhile.
//! A lost wake-up leaves its task waiting with everyone else done, which the checker reports as a deadlock. Run by
//! `cargo xloom`.
#![allow(clippy::unwrap_used)]

use std::sync::Arc as StdArc;
use std::task::Wake;

use loom::{
    sync::{Arc, Condvar, Mutex, atomic::AtomicBool},
    thread,
};

use super::*;

/// What a task of a runtime, or a thread, sleeps on.
#[derive(Default)]
struct Event {
    signalled: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Event {
    fn wake(self: StdArc<Self>) {
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

/// Things that are waited for, and who waits for them.
#[derive(Default)]
struct World {
    wakers: Wakers,
    published: [AtomicBool; 2],
}

impl World {
    fn is_there(&self, which: usize) -> bool {
        self.published[which].load(Ordering::Acquire)
    }

    fn publish(&self, which: usize) -> u32 {
        self.published[which].store(true, Ordering::Release);
        self.wakers.notify()
    }

    /// What a runtime does with a task.
    fn run_task(&self, mut ready: impl FnMut(&Self) -> bool) {
        let event = StdArc::new(Event::default());
        let (waker, place) = (Waker::from(StdArc::clone(&event)), Place::new());
        while self.wakers.poll(place, &Context::from_waker(&waker), || ready(self)).is_pending() {
            event.wait();
        }
        self.wakers.leave(place);
    }
}

fn explore(preemptions: usize, scenario: impl Fn(Arc<World>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || scenario(Arc::new(World::default())));
}

#[test]
fn loom_every_task_that_waits_is_woken() {
    explore(3, |world| {
        let tasks = [0, 1].map(|_| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.run_task(|world| world.is_there(0)))
        });
        world.publish(0);
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

#[test]
fn loom_who_gives_up_takes_nobodys_wake_up_along() {
    explore(3, |world| {
        let (waiting, leaving) = (Arc::clone(&world), Arc::clone(&world));
        let waiting = thread::spawn(move || waiting.run_task(|world| world.is_there(0)));
        let leaving = thread::spawn(move || {
            let place = Place::new();
            let _ = leaving.wakers.poll(place, &Context::from_waker(Waker::noop()), || false);
            leaving.wakers.leave(place);
        });
        world.publish(0);
        waiting.join().unwrap();
        leaving.join().unwrap();
        assert_eq!(world.wakers.len(), 0);
    });
}

/// Two who publish may each find the other, or the task, at the list.
#[test]
fn loom_two_who_publish_wake_one_task_for_both() {
    explore(3, |world| {
        let (waiting, publishing) = (Arc::clone(&world), Arc::clone(&world));
        let waiting = thread::spawn(move || waiting.run_task(|world| world.is_there(0) && world.is_there(1)));
        let publishing = thread::spawn(move || publishing.publish(1));
        world.publish(0);
        waiting.join().unwrap();
        publishing.join().unwrap();
    });
}

#[test]
fn loom_a_thread_beside_a_task_is_told_of_too() {
    const THREAD: u32 = 1;
    explore(3, |world| {
        let sleeping = StdArc::new(Event::default());
        let (task, thread, event) = (Arc::clone(&world), Arc::clone(&world), StdArc::clone(&sleeping));
        let task = thread::spawn(move || task.run_task(|world| world.is_there(0)));
        let thread = thread::spawn(move || {
            thread.wakers.announce(THREAD);
            if !thread.is_there(0) {
                event.wait();
            }
        });
        if world.publish(0) & THREAD != 0 {
            sleeping.wake();
        }
        task.join().unwrap();
        thread.join().unwrap();
    });
}
