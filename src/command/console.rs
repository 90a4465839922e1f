//! Standard output and standard error of a command, each behind a thread of its own.
//!
//! A disk may be full, a pipe may have nobody who reads it, a terminal may be stopped: whoever writes there himself ends or
//! waits with it, and with a shard all its connections. Here lines wait in a bounded queue, what comes beyond it is left out,
//! and so is what could not be written; both are counted.
//!
//! The threads begin when they are told to: what is said before waits for them.
//!
//! On a terminal the last line may be a live one, which is replaced once a second: other lines go above it.
//!
//! `tracing-appender` has such a writer, but does not count what failed, and says with `println!` that it could not end its
//! thread: for ever, or with a panic, in the very cases that this is for.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// Pieces of text that may wait; a line of the log is one.
const WAITING: usize = 8_192;

/// How long the end of a command waits for what was said to be written, where nothing depends on it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Octets that are written at once.
const AT_ONCE: usize = 64 << 10;

static OUTPUT: OnceLock<Console> = OnceLock::new();
static ERROR: OnceLock<Console> = OnceLock::new();

/// Standard output.
pub(super) fn output() -> &'static Console {
    OUTPUT.get_or_init(|| Console::new("stdout", io::stdout(), None))
}

/// Standard error.
pub(super) fn error() -> &'static Console {
    ERROR.get_or_init(|| Console::new("stderr", io::stderr(), Some(left_out)))
}

/// Starts both threads. They keep for ever what rights they find now, and with them it is too late to fork.
pub(super) fn begin() {
    [output(), error()].into_iter().for_each(Console::begin);
}

/// Gives what was said until [`LAST_WORDS`] after the first call of this to be written, on both together, and a moment
/// later: an end has a part or two, and outputs that nobody reads hold it up once. What is not written by then is lost.
pub(super) fn finish() {
    /// What a thread takes that has only to write.
    const MOMENT: Duration = Duration::from_millis(50);
    static END: OnceLock<Instant> = OnceLock::new();
    let end = *END.get_or_init(|| Instant::now() + LAST_WORDS);
    for console in [&OUTPUT, &ERROR].into_iter().filter_map(OnceLock::get) {
        console.begin();
        console.finish(end.saturating_duration_since(Instant::now()).max(MOMENT));
    }
}

/// What stands in the log where lines are missing.
fn left_out(lines: u64) -> String {
    format!("trust: {lines} lines are left out here, since what was before was not read in time\n")
}

/// One output: a queue of lines, the thread that writes them, and what was not written.
pub(super) struct Console {
    name: &'static str,
    queue: Sender<Message>,
    shared: Arc<Shared>,
    /// Until its thread takes it.
    writer: Arc<Mutex<Option<Writer>>>,
    begun: AtomicBool,
    /// No thread could be started.
    threadless: AtomicBool,
}

#[derive(Debug, Default)]
struct Shared {
    /// Pieces of text that were to be written, and that were.
    said: AtomicU64,
    written: AtomicU64,
    /// Pieces that were left out, since this was told last.
    left_out: AtomicU64,
    /// What was wrong the first time.
    failure: Mutex<Option<io::Error>>,
}

#[derive(Debug)]
enum Message {
    Text(Vec<u8>),
    /// The live line from now on; an empty one: none.
    Live(String),
    /// All that was before has been written.
    Done(Sender<()>),
}

impl Console {
    fn new(name: &'static str, place: impl Write + Send + 'static, notice: Option<fn(u64) -> String>) -> Self {
        let (queue, waiting) = bounded(WAITING);
        let shared = Arc::new(Shared::default());
        let (own, place) = (Arc::clone(&shared), Box::new(place));
        let (batch, live) = (Vec::new(), Live::default());
        let writer = Writer { waiting, shared: own, place, notice, batch, pieces: 0, live };
        let writer = Arc::new(Mutex::new(Some(writer)));
        Self { name, queue, shared, writer, begun: AtomicBool::new(false), threadless: AtomicBool::new(false) }
    }

    /// Starts the thread, if there is none yet.
    fn begin(&self) {
        if self.begun.swap(true, Ordering::Relaxed) {
            return;
        }
        let writer = Arc::clone(&self.writer);
        let run = move || {
            let writer = lock(&writer).take();
            writer.into_iter().for_each(Writer::run);
        };
        let spawned = thread::Builder::new().name(self.name.to_owned()).spawn(run);
        // As many as this user may have, perhaps: then what is said waits for the end.
        self.threadless.store(spawned.is_err(), Ordering::Relaxed);
    }

    /// Writes a piece of text, or leaves it out where too many wait.
    pub(super) fn say(&self, text: impl Into<Vec<u8>>) {
        self.shared.said.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(Message::Text(text.into())).is_err() {
            self.shared.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Replaces the live line, or ends it where this one is empty. It may be left out, as others.
    pub(super) fn say_live(&self, line: String) {
        let _ = self.queue.try_send(Message::Live(line));
    }

    /// Waits until all is written that ever will be, no longer than `limit`. Whether it is.
    pub(super) fn finish(&self, limit: Duration) -> bool {
        if self.threadless.load(Ordering::Relaxed) {
            lock(&self.writer).iter_mut().for_each(Writer::write_waiting);
            return true;
        }
        let start = Instant::now();
        let (done, told) = bounded(1);
        match self.queue.send_timeout(Message::Done(done), limit) {
            Ok(()) => told.recv_timeout(limit.saturating_sub(start.elapsed())) != Err(RecvTimeoutError::Timeout),
            Err(error) => error.is_disconnected(),
        }
    }

    /// Pieces of text that are not written: left out, failed, or still waiting.
    pub(super) fn unwritten(&self) -> u64 {
        let written = self.shared.written.load(Ordering::Acquire);
        self.shared.said.load(Ordering::Relaxed).saturating_sub(written)
    }

    /// What went wrong with writing since this was asked last, if anything.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        lock(&self.shared.failure).take()
    }
}

/// For the log: each call is one event.
impl Write for &Console {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.say(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's side.
struct Writer {
    waiting: Receiver<Message>,
    shared: Arc<Shared>,
    place: Box<dyn Write + Send>,
    notice: Option<fn(u64) -> String>,
    batch: Vec<u8>,
    pieces: u64,
    live: Live,
}

/// The live line, and whether it is what the terminal shows last.
#[derive(Debug, Default)]
struct Live {
    line: String,
    shown: bool,
}

impl Live {
    /// Makes room for other text.
    fn erase(&mut self, batch: &mut Vec<u8>) {
        if std::mem::take(&mut self.shown) {
            batch.extend_from_slice(b"\r\x1b[K");
        }
    }

    fn replace(&mut self, line: String, batch: &mut Vec<u8>) {
        if line.is_empty() {
            // The last one stays to be read.
            if std::mem::take(&mut self.shown) {
                batch.push(b'\n');
            }
        } else {
            self.erase(batch);
        }
        self.line = line;
    }

    fn show(&mut self, batch: &mut Vec<u8>) {
        if !self.line.is_empty() && !std::mem::replace(&mut self.shown, true) {
            // What does not fit is cut off by the terminal, which would go on in the next line otherwise (DECAWM).
            batch.extend_from_slice(b"\x1b[?7l");
            batch.extend_from_slice(self.line.as_bytes());
            batch.extend_from_slice(b"\x1b[?7h");
        }
    }
}

impl Writer {
    fn run(mut self) {
        while let Ok(first) = self.waiting.recv() {
            self.take(first);
            while self.batch.len() < AT_ONCE
                && let Ok(next) = self.waiting.try_recv()
            {
                self.take(next);
            }
            self.write();
        }
    }

    /// What has been said so far.
    fn write_waiting(&mut self) {
        while let Ok(next) = self.waiting.try_recv() {
            self.take(next);
        }
        self.write();
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Text(text) => {
                self.live.erase(&mut self.batch);
                self.batch.extend_from_slice(&text);
                self.pieces += 1;
            }
            Message::Live(line) => self.live.replace(line, &mut self.batch),
            Message::Done(done) => {
                self.write();
                let _ = done.try_send(());
            }
        }
    }

    fn write(&mut self) {
        let left_out = self.shared.left_out.swap(0, Ordering::Relaxed);
        if let Some(notice) = self.notice.filter(|_| left_out > 0) {
            self.live.erase(&mut self.batch);
            self.batch.extend_from_slice(notice(left_out).as_bytes());
        }
        self.live.show(&mut self.batch);
        if self.batch.is_empty() {
            return;
        }
        match self.place.write_all(&self.batch).and_then(|()| self.place.flush()) {
            Ok(()) => drop(self.shared.written.fetch_add(self.pieces, Ordering::Release)),
            Err(error) => drop(lock(&self.shared.failure).get_or_insert(error)),
        }
        self.batch.clear();
        self.pieces = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn started(place: impl Write + Send + 'static, notice: Option<fn(u64) -> String>) -> Console {
        let console = Console::new("test", place, notice);
        console.begin();
        console
    }

    #[test]
    fn what_is_said_is_written_in_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let console = Console::new("test", ours, Some(left_out));
        let lines: Vec<_> = (0..1_000).map(|n| format!("line {n}\n")).collect();
        // Some of it before there is a thread.
        let (before, then) = lines.split_at(500);
        before.iter().for_each(|line| console.say(line.as_str()));
        console.begin();
        then.iter().for_each(|line| console.say(line.as_str()));
        assert!(console.finish(SOON));
        drop(console);
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, lines.concat());
    }

    /// A user may have no more threads: what is said is written at the end.
    #[test]
    fn without_a_thread_the_end_writes_what_was_said() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let console = Console::new("test", ours, None);
        console.begun.store(true, Ordering::Relaxed);
        console.threadless.store(true, Ordering::Relaxed);
        console.say("why it ends\n");
        assert!(console.finish(SOON));
        assert_eq!(console.unwritten(), 0);
        drop(console);
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, "why it ends\n");
    }

    /// Each step is written before the next begins.
    #[test]
    fn lines_go_above_the_live_line() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let console = started(ours, None);
        let steps = [
            ("before\n", false, "before\n"),
            ("1 here", true, "\x1b[?7l1 here\x1b[?7h"),
            ("a line\n", false, "\r\x1b[Ka line\n\x1b[?7l1 here\x1b[?7h"),
            ("2 here", true, "\r\x1b[K\x1b[?7l2 here\x1b[?7h"),
            ("", true, "\n"),
        ];
        for (text, live, expected) in steps {
            if live {
                console.say_live(text.to_owned())
            } else {
                console.say(text)
            }
            assert!(console.finish(SOON));
            let mut text = vec![0; expected.len()];
            theirs.read_exact(&mut text).unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
        console.say("after\n");
        assert!(console.finish(SOON));
        drop(console);
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, "after\n");
    }

    /// Nobody is held up, and what is missing is counted and said in its place.
    #[test]
    fn who_does_not_read_misses_lines_and_holds_nobody_up() {
        const ALL: u64 = 3 * WAITING as u64;
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let console = started(ours, Some(left_out));
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        (0..ALL).for_each(|_| console.say(line.as_slice()));
        assert!(!console.finish(Duration::from_millis(10)), "a socket holds less than that");
        let reader = thread::spawn(move || {
            let mut text = String::new();
            theirs.read_to_string(&mut text).map(|_| text)
        });
        assert!(console.finish(SOON));
        let lost = console.unwritten();
        assert!(lost > 0);
        drop(console);
        let text = reader.join().unwrap().unwrap();
        let (whole, notices): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.len() == 99);
        assert_eq!(whole.len() as u64, ALL - lost);
        // One, unless the thread began late.
        let count = |notice: &str| notice.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(notices.iter().all(|notice| *notice == left_out(count(notice)).trim_end()), "{notices:?}");
        assert_eq!(notices.into_iter().map(count).sum::<u64>(), lost);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_the_next_is_tried() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let console = started(full, None);
        for n in 1..=3 {
            console.say("a line\n");
            assert!(console.finish(SOON));
            assert_eq!(console.unwritten(), n);
            assert_eq!(console.take_failure().unwrap().kind(), io::ErrorKind::StorageFull);
            assert!(console.take_failure().is_none());
        }
    }

    /// The reader has gone: neither a panic nor a signal.
    #[test]
    fn a_broken_pipe_is_an_error_like_others() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let console = started(ours, None);
        console.say("a line\n");
        assert!(console.finish(SOON));
        assert_eq!(console.take_failure().unwrap().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(console.unwritten(), 1);
    }
}
