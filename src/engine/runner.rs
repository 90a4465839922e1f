//! A stage thread: runs its stages as long as there is work, then waits without missing any.
//!
//! Waiting is announce, re-check, wait (see [`crate::buffer::wake`]); where it waits is mio, on the device queues of its
//! receiving stages and one waker. TUN under mio is edge-triggered: a thread parks only after each of its queues said
//! "empty" since the last event. Must not contain: what the stages do.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::unix::SourceFd;
use mio::{Events, Token};

use super::clock::Clock;
use super::link::Link;
use super::patience::Patience;
use super::rx::Rx;
use super::tx::Tx;
use super::worker::Worker;
use crate::buffer::wake::{Interest, Parker};
use crate::tcp::{Duration, Instant};

pub(super) const WAKER: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);
const LINK: Token = Token(usize::MAX - 2);

/// Deadlines nearer than this wait on a timerfd: the timeout of epoll is in milliseconds, rounded up.
const FINE: Duration = Duration::from_millis(20);

/// So many batches are still written after the stop: about what a ring holds.
const LAST_BATCHES: usize = 16;

/// A stage of any kind.
pub(super) enum Stage {
    Rx(Rx),
    Worker(Box<Worker>),
    Tx(Tx),
}

/// A thread's stages, and all that it takes to run them and to sleep between.
pub(super) struct Runner {
    pub(super) stages: Vec<Stage>,
    pub(super) parker: Parker<mio::Waker>,
    pub(super) poll: mio::Poll,
    pub(super) alarm: Alarm,
    /// One of the threads watches the link.
    pub(super) link: Option<Link>,
    pub(super) clock: Clock,
    pub(super) stop: Arc<AtomicBool>,
    /// Never park.
    pub(super) busy_poll: bool,
    /// How long it looks again before it parks. `None`: other threads of ours need its CPU, so it does not.
    pub(super) patience: Option<Patience>,
}

impl Runner {
    /// Runs until told to stop. What it waits on has been [registered](Self::register).
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        while !self.stop.load(Ordering::Relaxed) {
            let (work, drained) = self.turn()?;
            if let Some(link) = &mut self.link {
                link.turn();
            }
            if work > 0 {
                if let Some(patience) = &mut self.patience
                    && patience.waits()
                {
                    patience.found(self.clock.now());
                }
                continue;
            }
            if self.busy_poll {
                self.rest();
                std::hint::spin_loop();
                continue;
            }
            if let Some(patience) = &mut self.patience
                && patience.nothing(self.clock.now())
            {
                std::hint::spin_loop();
                continue;
            }
            if drained {
                self.park(&mut events)?;
            }
        }
        for stage in &mut self.stages {
            match stage {
                Stage::Worker(worker) => worker.finish(),
                // The last words of the services. A device that takes them no more is no failure now.
                Stage::Tx(tx) => {
                    let written = (0..LAST_BATCHES).take_while(|_| tx.poll().is_ok_and(|poll| poll.work > 0));
                    written.for_each(drop);
                }
                Stage::Rx(_) => {}
            }
        }
        Ok(())
    }

    /// Runs every stage once. Returns how much was done and whether all queues were left empty.
    fn turn(&mut self) -> io::Result<(usize, bool)> {
        let (mut work, mut drained) = (0, true);
        for stage in &mut self.stages {
            let poll = match stage {
                Stage::Rx(rx) => rx.poll()?,
                Stage::Worker(worker) => worker.poll(),
                Stage::Tx(tx) => tx.poll()?,
            };
            work += poll.work;
            drained &= poll.drained;
        }
        if work > 0 {
            for stage in &mut self.stages {
                if let Stage::Rx(rx) = stage {
                    rx.wake_workers();
                }
            }
        }
        Ok((work, drained))
    }

    /// What parked threads do between their sleeps.
    fn rest(&mut self) {
        for stage in &mut self.stages {
            if let Stage::Rx(rx) = stage
                && rx.has_idle()
            {
                rx.rest(self.clock.now());
            }
        }
    }

    fn park(&mut self, events: &mut Events) -> io::Result<()> {
        for stage in &mut self.stages {
            if let Stage::Worker(worker) = stage {
                worker.before_park();
            }
        }
        // DATA always: that is also how the engine's stop reaches us.
        let interest = self.stages.iter().fold(Interest::DATA, |interest, stage| {
            interest
                | match stage {
                    Stage::Rx(rx) => rx.interest(),
                    Stage::Worker(worker) => worker.interest(),
                    Stage::Tx(_) => Interest::DATA,
                }
        });
        self.parker.announce(interest);
        let ready = self.stop.load(Ordering::SeqCst)
            || self.stages.iter_mut().any(|stage| match stage {
                Stage::Rx(rx) => rx.ready(),
                Stage::Worker(worker) => worker.ready(),
                Stage::Tx(tx) => tx.ready(),
            });
        if !ready {
            let deadline = self.stages.iter_mut().filter_map(|stage| match stage {
                Stage::Worker(worker) => worker.deadline(),
                Stage::Tx(tx) => tx.deadline(self.clock.now()),
                Stage::Rx(rx) => rx.rest(self.clock.now()),
            });
            let deadline = deadline.min();
            let timeout = self.timeout(deadline)?;
            if timeout != Some(std::time::Duration::ZERO) {
                match self.poll.poll(events, timeout) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.parker.cancel();
        if let Some(link) = &mut self.link
            && events.iter().any(|event| event.token() == LINK)
        {
            // They stay until the next wait, and there may be none for a while.
            events.clear();
            link.look();
        }
        Ok(())
    }

    /// How long epoll may sleep. A near deadline is left to the alarm; one that has come gives zero.
    fn timeout(&self, deadline: Option<Instant>) -> io::Result<Option<std::time::Duration>> {
        let Some(deadline) = deadline else { return Ok(None) };
        let left = deadline.saturating_since(self.clock.now());
        if left.is_zero() {
            return Ok(Some(std::time::Duration::ZERO));
        }
        if left < FINE {
            self.alarm.set(left)?;
            return Ok(None);
        }
        Ok(Some(std::time::Duration::from_nanos(left.as_nanos())))
    }

    /// Has the poll look at the queues and the alarm: before the thread is there, so that what is missing is told by the start.
    pub(super) fn register(&self) -> io::Result<()> {
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&self.alarm.fd.as_raw_fd()), ALARM, mio::Interest::READABLE)?;
        if let Some(fd) = self.link.as_ref().and_then(Link::fd) {
            registry.register(&mut SourceFd(&fd), LINK, mio::Interest::READABLE)?;
        }
        for (index, stage) in self.stages.iter().enumerate() {
            if let Stage::Rx(rx) = stage
                && let Some(fd) = rx.fd()
            {
                registry.register(&mut SourceFd(&fd), Token(index), mio::Interest::READABLE)?;
            }
        }
        Ok(())
    }
}

/// A timer with nanosecond resolution that mio can wait on.
#[derive(Debug)]
pub(super) struct Alarm {
    fd: OwnedFd,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed; the result is checked.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Fires once, `after` from now. Edge-triggered: what it counts need not be read.
    fn set(&self, after: Duration) -> io::Result<()> {
        let nanos = after.as_nanos().max(1);
        let value = libc::timespec {
            tv_sec: (nanos / 1_000_000_000) as libc::time_t,
            tv_nsec: (nanos % 1_000_000_000) as libc::c_long,
        };
        let spec = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: `spec` lives through the call, the old value is not asked for.
        let result = unsafe { libc::timerfd_settime(self.fd.as_raw_fd(), 0, &spec, std::ptr::null_mut()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
