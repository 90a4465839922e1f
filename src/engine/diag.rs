//! Looking at what a running engine has: walks over its connections in slices, and ends of single ones.

use super::control::Control;
use super::question::{Question, Slice};
use super::running::{Engine, Handle};
use crate::flow::ShardId;
use crate::shard::diag::{Cursor, Entry, EntryId, Reset};
use crate::shard::tap::Tap;
use crate::shard::trace::Trace;
use crate::tcp::Instant;

impl Handle {
    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.peers().len()
    }

    /// Goes on with a walk over what a shard has: connections, half-open ones, records in TIME-WAIT, listeners. The shard
    /// adds up to [`budget::ENTRIES`](crate::shard::budget::ENTRIES) to `entries` in its next turn, and calls `answer`
    /// on its own thread, which is to be brief: to send, and wake. It remembers nothing of the walk, and a walk that does
    /// not go on costs nothing. `false`: the shard is behind with its messages or gone, and there will be no answer; nor
    /// is there when the engine stops meanwhile, `answer` is dropped then.
    #[must_use]
    pub fn diag(
        &self,
        shard: ShardId,
        from: Cursor,
        entries: Vec<Entry>,
        answer: impl FnOnce(Slice) + Send + 'static,
    ) -> bool {
        self.control(shard, Control::Question(Question::Walk { from, entries, answer: Box::new(answer) }))
    }

    /// Ends one thing that a walk has shown, as [`Shard::reset`](crate::shard::Shard::reset) does; `answer` hears what
    /// became of it, on the shard's thread. `false`: as [`diag`](Self::diag).
    #[must_use]
    pub fn reset(&self, shard: ShardId, entry: EntryId, answer: impl FnOnce(Reset) + Send + 'static) -> bool {
        self.control(shard, Control::Question(Question::Reset { entry, answer: Box::new(answer) }))
    }

    /// Puts a [tap](crate::shard::tap::tap) on a shard, which its reader ends by being dropped; `answer` hears the shard's
    /// time, on the shard's thread, or `None`: there is a tap already. `false`: as [`diag`](Self::diag).
    #[must_use]
    pub fn tap(&self, shard: ShardId, tap: Tap, answer: impl FnOnce(Option<Instant>) + Send + 'static) -> bool {
        self.control(shard, Control::Question(Question::Tap { tap: Box::new(tap), answer: Box::new(answer) }))
    }

    /// Puts a [trace](crate::shard::trace::trace) on a shard, as [`tap`](Self::tap) does a tap.
    #[must_use]
    pub fn trace(&self, shard: ShardId, trace: Trace, answer: impl FnOnce(Option<Instant>) + Send + 'static) -> bool {
        self.control(shard, Control::Question(Question::Trace { trace: Box::new(trace), answer: Box::new(answer) }))
    }
}

impl Engine {
    /// All connections, half-open ones, records in TIME-WAIT and listeners, each with its shard, as they are while this
    /// call goes from shard to shard. Listeners are the same on every shard, and told of the first. It may take a
    /// millisecond for a thousand; the shards serve meanwhile.
    ///
    /// ```
    /// use trust::device::memory::{MemoryOptions, pair};
    /// use trust::engine::{Engine, Pin};
    /// use trust::shard::diag::Table;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (device, _other_end) = pair(&MemoryOptions::default())?;
    /// let engine = Engine::builder().device(device, 1).address([10, 0, 0, 2].into()).pin(Pin::None).start()?;
    /// let _listener = engine.bind("10.0.0.2:80")?;
    /// let (_, listener) = engine.diag().pop().expect("it listens");
    /// assert_eq!((listener.id.table, listener.quad.local.port), (Table::Listeners, 80));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn diag(&self) -> Vec<(ShardId, Entry)> {
        let handle = self.handle();
        let mut all = Vec::new();
        for shard in (0..handle.shards()).map(|index| ShardId(index as u16)) {
            let mut cursor = Some(Cursor::default());
            let mut entries = Vec::new();
            while let Some(from) = cursor {
                let (tell, told) = crossbeam::channel::bounded(1);
                let list = std::mem::take(&mut entries);
                if !handle.diag(shard, from, list, move |slice| _ = tell.send(slice)) {
                    break;
                }
                // Gone, without an answer, is an engine that stops.
                let Ok(slice) = told.recv() else { break };
                (entries, cursor) = (slice.entries, slice.next);
                let first = shard == ShardId(0);
                let shown = entries.drain(..).filter(|entry| first || entry.state.is_some());
                all.extend(shown.map(|entry| (shard, entry)));
            }
        }
        all
    }
}
