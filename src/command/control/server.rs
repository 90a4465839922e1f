//! The thread that answers on a control socket.
//!
//! It asks shards by message and writes what they say, a slice at a time: whoever does not read is waited for here, and
//! costs no shard anything, nor more memory than a slice. Counters are read where shards publish them.
//!
//! Must not contain: anything that takes a right; it runs behind the fence.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;
use trust::engine::{Handle, Slice};
use trust::flow::{Endpoint, ShardId};
use trust::shard::Counters;
use trust::shard::diag::{Cursor, Entry, Reset};

use super::super::{Error, threads};
use super::capture;
use super::events;
use super::filter::{Filter, States};
use super::metrics::{self, Format, Scraped};
use super::protocol::{Answer, Ask, Engine, LONGEST_REQUEST, Request, Socket, VERSION, Versioned};
use super::talk::{End, PATIENCE, SHARD, answer, write};

/// Who may ask at a time; others are told to come again.
const CLIENTS: usize = 16;

/// Who was told so and may still be sending; more are reset. Their descriptors and those of clients are counted in
/// `descriptors`.
const REFUSED: usize = 4;

/// For so long, and so many octets, who is refused is listened to.
const LAST_MOMENT: Duration = Duration::from_secs(1);
const LAST_OCTETS: usize = 256 << 10;

/// After so long it is looked again whether there is room for a RST.
const ROOM: Duration = Duration::from_millis(5);

/// For so long who captures or hears events may take for the last of them when the engine ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the answers are about.
#[derive(Debug)]
pub(crate) struct About {
    /// What does not change.
    pub(crate) engine: Engine,
    pub(crate) start: Instant,
    /// Names of the services in the shards, in their order.
    pub(crate) services: Vec<String>,
    /// Names of services that are applications on sockets, by port.
    pub(crate) applications: Vec<(u16, String)>,
}

/// The thread. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Server {
    stop: Option<oneshot::Sender<()>>,
    drain: watch::Sender<bool>,
    captures: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Begins to answer. What takes a right is done when it returns, but for a connection that is accepted.
    pub(crate) fn start(
        listener: Option<UnixListener>,
        scraped: Option<Scraped>,
        handle: Handle,
        about: About,
    ) -> Result<Self, Error> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (drain, drains) = watch::channel(false);
        let captures = Arc::<AtomicUsize>::default();
        let asked = Arc::new(Asked { handle, about, captures: Arc::clone(&captures), traces: AtomicUsize::new(0) });
        let thread = threads::start("control", move || {
            let served = runtime.block_on(async {
                let listener = listener.map(tokio::net::UnixListener::from_std).transpose()?;
                let answering = async {
                    match &listener {
                        Some(listener) => accept(listener, &asked).await,
                        None => std::future::pending().await,
                    }
                };
                let scraping = async {
                    if let Some(scraped) = scraped {
                        // An engine that drains has no listeners any more, and is looked at all the same.
                        let _ = metrics::serve(scraped, asked.handle.clone(), drains).await;
                    }
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    served = answering => served,
                    () = scraping => Ok(()),
                    _ = stopped => Ok(()),
                }
            });
            if let Err(error) = served {
                tracing::error!("the control socket: {error}");
            }
            // Shards have gone: what their taps and traces have seen last is still told.
            runtime.block_on(async {
                let end = Instant::now() + LAST_WORDS;
                let sessions = || asked.captures.load(Ordering::Relaxed) + asked.traces.load(Ordering::Relaxed);
                while sessions() > 0 && Instant::now() < end {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            // Who waits for a shard that has gone hears that we have.
            runtime.shutdown_background();
        })?;
        Ok(Self { stop: Some(stop), drain, captures, thread: Some(thread) })
    }

    /// Waits until somebody captures, for so long at most and as long as that may still be; whether somebody does.
    pub(crate) fn await_capture(&self, limit: Duration, mut has_ended: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + limit;
        while self.captures.load(Ordering::Relaxed) == 0 {
            if Instant::now() > end || has_ended() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// The engine drains: who scrapes it is let go.
    pub(crate) fn drain(&self) {
        self.drain.send_replace(true);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: &tokio::net::UnixListener, asked: &Arc<Asked>) -> io::Result<()> {
    let (places, leaving) = (Arc::new(Semaphore::new(CLIENTS)), Arc::new(Semaphore::new(REFUSED)));
    loop {
        let mut stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many files, perhaps, or a client that has gone again.
                tracing::debug!("the control socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            let line = Answer::Error(format!("{CLIENTS} others are asking; try again")).line();
            let _ = stream.try_write(line.as_bytes());
            if let Ok(turned_away) = Arc::clone(&leaving).try_acquire_owned() {
                tokio::spawn(async move {
                    let _turned_away = turned_away;
                    hang_up(stream).await;
                });
            }
            continue;
        };
        let asked = Arc::clone(asked);
        tokio::spawn(async move {
            let _place = place;
            if let Err(end) = asked.converse(&mut stream).await
                && let Some(why) = end
                && write(&mut stream, Answer::Error(why).line().as_bytes()).await.is_ok()
            {
                hang_up(stream).await;
            }
        });
    }
}

/// Ends a conversation in which something may be unread: closed with that, the connection would be reset, and what was
/// said last perhaps not be read. So we listen a little longer.
async fn hang_up(mut stream: UnixStream) {
    let _ = stream.shutdown().await;
    let listen = async {
        let (mut left, mut piece) = (LAST_OCTETS, [0; 1_024]);
        while left > 0
            && let Ok(got @ 1..) = stream.read(&mut piece).await
        {
            left = left.saturating_sub(got);
        }
    };
    let _ = timeout(LAST_MOMENT, listen).await;
}

/// What an engine says to those who ask.
#[derive(Debug)]
struct Asked {
    handle: Handle,
    about: About,
    /// How many get packets.
    captures: Arc<AtomicUsize>,
    /// How many are told of events.
    traces: AtomicUsize,
}

impl Asked {
    async fn converse(&self, stream: &mut UnixStream) -> Result<(), End> {
        let mut line = Vec::with_capacity(LONGEST_REQUEST);
        while let Some(len) = next_line(stream, &mut line).await? {
            let request = read_request(&line[..len]).map_err(Some)?;
            line.drain(..=len);
            match request {
                Ask::Engine => self.engine(stream).await?,
                Ask::Stats => self.stats(stream).await?,
                Ask::Metrics { openmetrics } => self.metrics(stream, openmetrics).await?,
                Ask::Events { filter, sample } => {
                    events::serve(stream, &self.handle, (&filter, sample), &self.traces).await?;
                }
                Ask::Capture { filter, snaplen, buffer } => {
                    let wanted = capture::Wanted { filter: &filter, snaplen, buffer };
                    capture::serve(stream, &self.handle, wanted, &self.captures).await?;
                }
                Ask::Sockets { filter } => {
                    let filter = Filter::parse(&filter, States::USUAL).map_err(Some)?;
                    self.sockets(stream, |socket| filter.matches(socket), false).await?;
                }
                Ask::Reset { filter, id } => {
                    let filter = Filter::parse(&filter, States::USUAL).map_err(Some)?;
                    let meant =
                        |socket: &Socket| id.as_ref().is_none_or(|id| *id == socket.id) && filter.matches(socket);
                    self.sockets(stream, meant, true).await?;
                }
            }
        }
        Ok(())
    }

    async fn engine(&self, stream: &mut UnixStream) -> Result<(), End> {
        let uptime_ms = self.about.start.elapsed().as_millis() as u64;
        let engine = Answer::Engine(Engine { uptime_ms, ..self.about.engine.clone() });
        write(stream, (engine.line() + &Answer::End { count: 1 }.line()).as_bytes()).await
    }

    async fn stats(&self, stream: &mut UnixStream) -> Result<(), End> {
        let value = |counters: &Counters| serde_json::to_value(counters).unwrap_or_default();
        let shards = self.handle.shard_counters();
        let mut text = String::new();
        for (shard, counters) in shards.iter().enumerate() {
            text += &Answer::Shard { shard: shard as u16, counters: value(counters) }.line();
        }
        text += &Answer::Total { counters: value(&self.handle.counters()) }.line();
        text += &Answer::End { count: shards.len() as u64 + 1 }.line();
        write(stream, text.as_bytes()).await
    }

    async fn metrics(&self, stream: &mut UnixStream, openmetrics: bool) -> Result<(), End> {
        /// Lines of an answer are about as long.
        const PIECE: usize = 16 << 10;
        let format = if openmetrics { Format::OpenMetrics } else { Format::Prometheus };
        let (mut count, mut piece) = (0, String::new());
        let text = metrics::write(&self.handle, format);
        let mut lines = text.split_inclusive('\n').peekable();
        while let Some(line) = lines.next() {
            piece += line;
            if piece.len() > PIECE || lines.peek().is_none() {
                count += 1;
                write(stream, Answer::Text(std::mem::take(&mut piece)).line().as_bytes()).await?;
            }
        }
        write(stream, Answer::End { count }.line().as_bytes()).await
    }

    /// Shows those that are meant; or ends them, and shows what was ended.
    async fn sockets(&self, stream: &mut UnixStream, meant: impl Fn(&Socket) -> bool, reset: bool) -> Result<(), End> {
        let mut count = 0;
        let (mut entries, mut text) = (Vec::new(), String::new());
        for shard in (0..self.handle.shards()).map(|index| ShardId(index as u16)) {
            let mut cursor = Some(Cursor::default());
            while let Some(from) = cursor {
                let Slice { entries: found, next } = self.slice(shard, from, entries).await?;
                for entry in &found {
                    // Listeners are the same on each.
                    if entry.state.is_none() && shard != ShardId(0) {
                        continue;
                    }
                    let socket = Socket::new(shard, entry, self.service(entry));
                    if !meant(&socket) {
                        continue;
                    }
                    match if reset { self.reset(shard, entry).await } else { Ok(true) } {
                        Ok(true) => {}
                        Ok(false) => continue,
                        Err(end) => {
                            // What was ended until now is known.
                            write(stream, text.as_bytes()).await?;
                            return Err(end);
                        }
                    }
                    count += 1;
                    text += &Answer::Socket(Box::new(socket)).line();
                }
                // Nothing is asked for that would have to be kept here: it waits where it is.
                write(stream, text.as_bytes()).await?;
                text.clear();
                (entries, cursor) = (found, next);
                entries.clear();
            }
        }
        write(stream, Answer::End { count }.line().as_bytes()).await
    }

    async fn slice(&self, shard: ShardId, from: Cursor, entries: Vec<Entry>) -> Result<Slice, End> {
        let (tell, told) = oneshot::channel();
        answer(self.handle.diag(shard, from, entries, move |slice| _ = tell.send(slice)), told).await
    }

    /// Whether it was there, and is not any more. Where the device takes no RST just now, it is waited for.
    async fn reset(&self, shard: ShardId, entry: &Entry) -> Result<bool, End> {
        let end = Instant::now() + SHARD;
        loop {
            let (tell, told) = oneshot::channel();
            match answer(self.handle.reset(shard, entry.id, move |reset| _ = tell.send(reset)), told).await? {
                Reset::Done => return Ok(true),
                Reset::Absent => return Ok(false),
                Reset::NoRoom if Instant::now() < end => tokio::time::sleep(ROOM).await,
                Reset::NoRoom => {
                    return Err(Some(format!(
                        "the device has taken no packet for {} s: no RST leaves",
                        SHARD.as_secs()
                    )));
                }
            }
        }
    }

    fn service(&self, entry: &Entry) -> Option<String> {
        let Endpoint { port, .. } = entry.quad.local;
        let name = self.about.services.get(usize::from(entry.service?));
        let application = || self.about.applications.iter().find(|(own, _)| *own == port).map(|(_, name)| name);
        Some(name.or_else(application).cloned().unwrap_or_else(|| "sockets".to_owned()))
    }
}

/// Reads on until there is a line in `line`, and returns how long it is without its newline; `None`: there is none any
/// more.
async fn next_line(stream: &mut UnixStream, line: &mut Vec<u8>) -> Result<Option<usize>, End> {
    loop {
        if let Some(len) = line.iter().position(|octet| *octet == b'\n') {
            return Ok(Some(len));
        }
        let mut piece = [0; 1_024];
        let room = LONGEST_REQUEST - line.len();
        if room == 0 {
            return Err(Some(format!("the request is longer than {LONGEST_REQUEST} octets")));
        }
        let room = room.min(piece.len());
        match timeout(PATIENCE, stream.read(&mut piece[..room])).await {
            Ok(Ok(0)) if line.is_empty() => return Ok(None),
            Ok(Ok(0)) => return Err(Some("the request has no end".to_owned())),
            Ok(Ok(len)) => line.extend_from_slice(&piece[..len]),
            Ok(Err(_)) | Err(_) => return Err(None),
        }
    }
}

fn read_request(line: &[u8]) -> Result<Ask, String> {
    let Versioned { v } = serde_json::from_slice(line).map_err(|error| format!("no request: {error}"))?;
    if v != VERSION {
        return Err(format!("version {v} of the protocol is asked for; this engine speaks {VERSION}"));
    }
    serde_json::from_slice(line).map(|Request { ask, .. }| ask).map_err(|error| format!("no request: {error}"))
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
