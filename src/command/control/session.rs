//! A tracing session: an observer on each shard of an engine, and the time that all of them have told everything up to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use trust::engine::Handle;
use trust::flow::ShardId;
use trust::shard::tap::TapReader;
use trust::shard::trace::TraceReader;
use trust::tcp;

use super::protocol::ClockSnapshot;
use super::talk::{End, answer};

/// What a shard notes in a turn has the time of the turn's begin, and may be shown so much later.
const LAG: tcp::Duration = tcp::Duration::from_millis(100);

/// What a shard is to call with its time, or with `None`: it is observed already.
pub(super) type Tell = Box<dyn FnOnce(Option<tcp::Instant>) + Send>;

/// The end of an observer at which what it has seen is read.
pub(super) trait Reader {
    /// Looks what there is now.
    fn look(&mut self);

    /// Whether the shard is gone, or has ended it.
    fn is_closed(&self) -> bool;
}

impl Reader for TapReader {
    fn look(&mut self) {
        self.look();
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }
}

impl Reader for TraceReader {
    fn look(&mut self) {
        self.look();
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }
}

/// Observers on all shards; dropped, it ends them.
#[derive(Debug)]
pub(super) struct Session<R> {
    /// By shard.
    pub(super) readers: Vec<R>,
    /// The engine's clock, and our own at that moment.
    start: (tcp::Instant, Instant),
    wall_ns: u64,
}

impl<R: Reader> Session<R> {
    /// Puts an observer on each shard: `observe` asks that shard, and says whether it could be asked. `taken` is what there is
    /// to say where somebody else observes.
    pub(super) async fn begin(
        handle: &Handle,
        taken: &str,
        mut observe: impl FnMut(ShardId, Tell) -> (R, bool),
    ) -> Result<Self, End> {
        let (mut readers, mut start) = (Vec::new(), None);
        for shard in (0..handle.shards()).map(|index| ShardId(index as u16)) {
            let (tell, told) = oneshot::channel();
            let tell = move |now: Option<tcp::Instant>| _ = tell.send(now.map(|now| (now, Instant::now())));
            let (reader, asked) = observe(shard, Box::new(tell));
            let Some(times) = answer(asked, told).await? else { return Err(Some(taken.to_owned())) };
            start.get_or_insert(times);
            readers.push(reader);
        }
        let Some(start) = start else { return Err(Some("there is no shard".to_owned())) };
        let wall = SystemTime::now().checked_sub(start.1.elapsed());
        let wall = wall.and_then(|wall| wall.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        Ok(Self { readers, start, wall_ns: wall.as_nanos() as u64 })
    }

    /// The engine's clock and that of the world at the begin.
    pub(super) fn clock(&self) -> ClockSnapshot {
        ClockSnapshot { at_ns: self.start.0.as_nanos(), wall_ns: self.wall_ns }
    }

    /// Looks what there is now on each shard. All from before the time that comes back has been seen then; `None`: nothing
    /// more comes.
    pub(super) fn look(&mut self) -> Option<tcp::Instant> {
        let (at, then) = self.start;
        // Both before the look: what comes behind it is later, and what closes behind it may have said something.
        let now = at + tcp::Duration::from_nanos(then.elapsed().as_nanos() as u64);
        let closed = self.readers.iter().all(R::is_closed);
        self.readers.iter_mut().for_each(R::look);
        (!closed).then(|| now.saturating_sub(LAG))
    }
}

/// A session among those that there are, for as long as it is there.
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    pub(super) fn new(sessions: &'a AtomicUsize) -> Self {
        sessions.fetch_add(1, Ordering::Relaxed);
        Self(sessions)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Fake {
        looks: u32,
        closed: bool,
    }

    impl Reader for Fake {
        fn look(&mut self) {
            self.looks += 1;
        }

        fn is_closed(&self) -> bool {
            self.closed
        }
    }

    fn session(at: u64) -> Session<Fake> {
        let start = (tcp::Instant::from_nanos(at), Instant::now());
        Session { readers: vec![Fake::default(), Fake::default()], start, wall_ns: 7 }
    }

    #[test]
    fn all_is_seen_up_to_a_lag_behind_the_engines_clock() {
        const SECOND: u64 = 1_000_000_000;
        let mut session = session(5 * SECOND);
        let (before, first) = (session.start.1.elapsed(), session.look());
        let after = session.start.1.elapsed();
        let seen = first.map(|first| first.as_nanos() + LAG.as_nanos() - 5 * SECOND);
        assert!(seen.is_some_and(|seen| (before.as_nanos()..=after.as_nanos()).contains(&seen.into())), "{seen:?}");
        assert!(session.look() >= first && session.readers.iter().all(|reader| reader.looks == 2));
        assert_eq!(session.clock(), ClockSnapshot { at_ns: 5 * SECOND, wall_ns: 7 });
    }

    #[test]
    fn more_may_come_until_the_last_shard_has_closed() {
        let mut session = session(0);
        session.readers[1].closed = true;
        assert_eq!(session.look(), Some(tcp::Instant::ZERO), "an engine younger than the lag");
        session.readers[0].closed = true;
        assert_eq!(session.look(), None);
        assert!(session.readers.iter().all(|reader| reader.looks == 2), "what was there last is looked at, too");
    }
}
