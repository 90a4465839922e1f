//! `trust iperf3 -c HOST`: the client of the iperf3 protocol, against stock servers, on our sockets.
//!
//! | file | holds |
//! | --- | --- |
//! | here | options and the conversation on the control connection |
//! | `streams` | the data connections |
//! | `output` | what is said about it, as text or JSON |
//!
//! The protocol's values are those of the server among the services. The client owns the end of a test in every mode.

mod output;
mod streams;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use signal_hook::consts::SIGINT;
use trust::engine::{Engine, usable_cpus};
use trust::net::TcpStream;
use trust::services::iperf3::protocol::{
    self, Blob, BlobReader, Cookie, CpuUse, Params, PeerResults, StreamResult, state,
};

use self::output::{Outcome, Output};
use self::streams::{Shared, Stream};
use super::fencing::Inherited;
use super::options::{port, seconds};
use super::outward::{self, Outward, explain};
use super::{Error, console};

/// For the server's next word, outside the test itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two lines of a stream.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often the running test looks at its clock and its server.
const LOOK: Duration = Duration::from_millis(20);

/// Options of `trust iperf3`, as the stock client has them.
#[derive(Debug, Args)]
pub(crate) struct Iperf3 {
    /// The server: host name or address.
    #[arg(short = 'c', long = "client", value_name = "HOST")]
    host: String,

    /// The server's port.
    #[arg(short, long, default_value = "5201", value_parser = port, allow_negative_numbers = true)]
    port: u16,

    /// Seconds to send for.
    #[arg(short, long, value_name = "SECONDS", default_value = "10", value_parser = seconds, allow_negative_numbers = true)]
    time: u64,

    /// Octets to send instead, all streams together, like 100M.
    #[arg(short = 'n', long, value_name = "OCTETS", value_parser = binary, conflicts_with = "time", allow_negative_numbers = true)]
    bytes: Option<u64>,

    /// Streams at once in each direction.
    #[arg(short = 'P', long, value_name = "N", default_value = "1", value_parser = parallel, allow_negative_numbers = true)]
    parallel: u16,

    /// The server sends.
    #[arg(short = 'R', long)]
    reverse: bool,

    /// Both send.
    #[arg(long, conflicts_with = "reverse")]
    bidir: bool,

    /// Bits per second that each sending stream is limited to, like 100M. Default: none.
    #[arg(short = 'b', long, value_name = "BITRATE", value_parser = decimal, allow_negative_numbers = true)]
    bitrate: Option<u64>,

    /// Octets of a block that is written or read at once, like 128K.
    #[arg(short = 'l', long, value_name = "OCTETS", default_value = "128K", value_parser = block, allow_negative_numbers = true)]
    length: u64,

    /// Report in JSON when it is over.
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    outward: Outward,
}

fn scaled(text: &str, step: u64) -> Option<u64> {
    let (digits, power) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1),
        (at, 'm' | 'M') => (&text[..at], 2),
        (at, 'g' | 'G') => (&text[..at], 3),
        (at, 't' | 'T') => (&text[..at], 4),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(step.pow(power)).filter(|value| *value > 0 && *value < u64::MAX)
}

fn binary(text: &str) -> Result<u64, String> {
    scaled(text, 1024).ok_or_else(|| "not a number of octets from 1, like 1000000 or 100M (times 1024)".to_owned())
}

fn decimal(text: &str) -> Result<u64, String> {
    scaled(text, 1000).ok_or_else(|| "not a number of bits per second from 1, like 100M (times 1000)".to_owned())
}

fn block(text: &str) -> Result<u64, String> {
    let length = binary(text)?;
    if length <= protocol::BLOCK_MAX { Ok(length) } else { Err("more than a block may have, 1M".to_owned()) }
}

fn parallel(text: &str) -> Result<u16, String> {
    let right = |n: &u16| (1..=protocol::PARALLEL_MAX).contains(&u64::from(*n));
    text.parse()
        .ok()
        .filter(right)
        .ok_or_else(|| format!("not a number of streams from 1 to {}", protocol::PARALLEL_MAX))
}

impl Iperf3 {
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.outward.check()
    }

    pub(crate) fn run(mut self, inherited: Inherited) -> Result<(), Error> {
        let fencing = self.outward.fence(inherited)?;
        let remotes = self.outward.resolve(&self.host, self.port)?;
        let params = self.params();
        let workers = if params.streams() == 1 { 1 } else { usable_cpus().len() };
        let Some(mut engine) = self.outward.start(workers, fencing)? else { return Ok(()) };
        let result = Client::connect(&engine, &remotes, &self, params).and_then(Client::run);
        engine.stop()?;
        // Who reads slowly gets all of it.
        while !console::output().finish(INTERVAL) {}
        console::output().take_failure().map_or(result, |error| Err(Error::output(error)))
    }

    fn params(&self) -> Params {
        Params {
            omit: 0,
            time: if self.bytes.is_some() { 0 } else { self.time as u32 },
            parallel: self.parallel,
            reverse: self.reverse,
            bidirectional: self.bidir,
            len: self.length as u32,
            nodelay: false,
            bandwidth: self.bitrate.unwrap_or(0),
            burst: 0,
            pacing_timer: 1_000,
            fqrate: 0,
            server_output: false,
        }
    }
}

/// One test.
struct Client<'a> {
    engine: &'a Engine,
    remote: SocketAddr,
    params: Params,
    octets: Option<u64>,
    cookie: Cookie,
    control: TcpStream,
    streams: Vec<Stream>,
    shared: Arc<Shared>,
    output: Output,
}

impl<'a> Client<'a> {
    fn connect(engine: &'a Engine, remotes: &[SocketAddr], options: &Iperf3, params: Params) -> Result<Self, Error> {
        let output = Output::new(options.json, &params);
        output.say(&format!("Connecting to host {}, port {}", options.host, options.port));
        let (control, remote) = outward::connect(&engine.stack(), remotes)?;
        control.set_nodelay(true)?;
        control.set_linger(Some(Duration::from_secs(2)))?;
        let mut random = [0; protocol::COOKIE_LEN - 1];
        getrandom::fill(&mut random).map_err(|error| Error::Run(format!("no random numbers: {error}")))?;
        let mut client = Self {
            engine,
            remote,
            params,
            octets: options.bytes,
            cookie: Cookie::from_random(random),
            control,
            streams: Vec::new(),
            shared: Shared::new(options.bytes),
            output,
        };
        let cookie = client.cookie;
        client.tell(&cookie.0)?;
        Ok(client)
    }

    /// From the first word to the last.
    fn run(mut self) -> Result<(), Error> {
        let result = self.converse();
        self.shared.stop();
        for stream in &mut self.streams {
            stream.join();
        }
        result
    }

    fn converse(&mut self) -> Result<(), Error> {
        self.expect(state::PARAM_EXCHANGE)?;
        let params = protocol::encode_blob(&self.params.to_json(self.octets.unwrap_or(0)));
        self.tell(&params)?;
        self.expect(state::CREATE_STREAMS)?;
        self.open_streams()?;
        self.expect(state::TEST_START)?;
        self.expect(state::TEST_RUNNING)?;

        let interrupted = Arc::new(AtomicBool::new(false));
        // The second time it is meant.
        signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&interrupted))?;
        signal_hook::flag::register(SIGINT, Arc::clone(&interrupted))?;
        let before = super::serve::cpu_time();
        let start = Instant::now();
        for stream in &mut self.streams {
            stream.start(&self.shared, self.params.len as usize, self.params.bandwidth)?;
        }
        let seconds = self.watch(start, &interrupted)?;
        self.shared.end_test();
        let after = super::serve::cpu_time();
        let percent = |after: trust::tcp::Duration, before: trust::tcp::Duration| {
            (after.as_nanos().saturating_sub(before.as_nanos())) as f64 / seconds / 1e7
        };
        let cpu = CpuUse { user: percent(after.user, before.user), system: percent(after.system, before.system) };
        self.tell(&[state::TEST_END])?;
        // What a write has put in its queue while we stopped may have arrived: it counts.
        for stream in self.streams.iter_mut().filter(|stream| stream.sends) {
            stream.join();
        }
        let ours: Vec<_> = self.streams.iter().map(result_of).collect();
        self.expect(state::EXCHANGE_RESULTS)?;
        let sends = self.streams.iter().any(|stream| stream.sends);
        let congestion = self.streams.first().and_then(Stream::congestion).unwrap_or_default();
        let results = protocol::results(sends, congestion, cpu, &ours, seconds, None);
        self.tell(&protocol::encode_blob(&results))?;
        let theirs = self.hear_blob()?;
        let theirs = PeerResults::parse(&theirs).ok_or_else(|| self.broken("the server's results cannot be read"))?;
        self.expect(state::DISPLAY_RESULTS)?;
        self.output.finish(&Outcome { streams: &self.streams, ours: &ours, theirs: &theirs, seconds, cpu });
        // Whoever closes first after this does no harm: all is said.
        let _ = self.tell(&[state::IPERF_DONE]);
        let _ = self.control.shutdown(std::net::Shutdown::Write);
        Ok(())
    }

    /// One after the other: the server knows them by their order, those we send on first.
    fn open_streams(&mut self) -> Result<(), Error> {
        for index in 0..self.params.streams() {
            let (socket, _) = outward::connect(&self.engine.stack(), &[self.remote])?;
            (&socket).write_all(&self.cookie.0).map_err(|error| self.failed(&error))?;
            self.await_taken(&socket)?;
            let stream = Stream::new(socket, !self.params.sends(index))?;
            self.output.connected(index, &stream, self.remote);
            self.streams.push(stream);
        }
        Ok(())
    }

    /// Waits until the server has acknowledged the cookie, and so has the connection among those it is to accept. The next
    /// one may be another shard's, whose packets wait for nobody: it would come before this one.
    fn await_taken(&self, socket: &TcpStream) -> Result<(), Error> {
        let start = Instant::now();
        while socket.info().map_err(|error| self.failed(&error))?.bytes_acked < protocol::COOKIE_LEN as u64 {
            if let Some(error) = socket.take_error()? {
                return Err(self.failed(&error));
            }
            if start.elapsed() > PATIENCE {
                return Err(self.failed(&io::ErrorKind::WouldBlock.into()));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// The test itself; how many seconds it took.
    fn watch(&mut self, start: Instant, interrupted: &AtomicBool) -> Result<f64, Error> {
        self.output.heading(&self.streams);
        self.control.set_read_timeout(Some(LOOK))?;
        let time = (self.params.time > 0).then(|| Duration::from_secs(self.params.time.into()));
        let mut next = INTERVAL;
        let mut last = Duration::ZERO;
        loop {
            if let Some(word) = self.overhear()? {
                return Err(self.unexpected(word));
            }
            if let Some(error) = console::output().take_failure() {
                self.tell(&[state::CLIENT_TERMINATE])?;
                return Err(Error::output(error));
            }
            let elapsed = start.elapsed();
            if interrupted.load(Ordering::Relaxed) {
                self.output.interval(&self.streams, last.as_secs_f64(), elapsed.as_secs_f64());
                self.tell(&[state::CLIENT_TERMINATE])?;
                return Err(Error::Run("interrupted: the client has terminated".to_owned()));
            }
            if let Some(error) = self.shared.failure() {
                // The server may be about to say why.
                std::thread::sleep(LOOK);
                return match self.overhear()? {
                    Some(word) => Err(self.unexpected(word)),
                    None => Err(self.failed(&error)),
                };
            }
            let moved = |sends: bool| -> u64 {
                self.streams.iter().filter(|stream| stream.sends == sends).map(Stream::octets).sum()
            };
            let over = match (self.octets, time) {
                (Some(octets), _) => moved(true) >= octets || moved(false) >= octets,
                (None, Some(time)) => elapsed >= time,
                (None, None) => true,
            };
            if over || elapsed >= next {
                // A last interval of a moment says nothing.
                if elapsed >= last + LOOK * 5 || last.is_zero() {
                    self.output.interval(&self.streams, last.as_secs_f64(), elapsed.as_secs_f64());
                    last = elapsed;
                }
                next += INTERVAL;
            }
            if over {
                self.control.set_read_timeout(Some(PATIENCE))?;
                return Ok(elapsed.as_secs_f64());
            }
        }
    }

    // ---- words ----

    fn tell(&mut self, octets: &[u8]) -> Result<(), Error> {
        self.control.write_all(octets).map_err(|error| self.failed(&error))
    }

    fn hear(&mut self, octets: &mut [u8]) -> Result<(), Error> {
        self.control.read_exact(octets).map_err(|error| self.failed(&error))
    }

    fn expect(&mut self, word: u8) -> Result<(), Error> {
        self.control.set_read_timeout(Some(PATIENCE))?;
        let mut heard = [0];
        self.hear(&mut heard)?;
        if heard[0] == word { Ok(()) } else { Err(self.unexpected(heard[0])) }
    }

    /// What the server says in the middle of a test, if it does, within [`LOOK`].
    fn overhear(&mut self) -> Result<Option<u8>, Error> {
        let mut heard = [0];
        match self.control.read(&mut heard) {
            Ok(0) => Err(self.broken("the server has ended the control connection")),
            Ok(_) => Ok(Some(heard[0])),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn hear_blob(&mut self) -> Result<Vec<u8>, Error> {
        let mut reader = BlobReader::new(protocol::RESULTS_MAX);
        // Octet by octet: what follows the blob is another word.
        loop {
            let mut octet = [0];
            self.hear(&mut octet)?;
            match reader.feed(&octet).1 {
                Blob::Partial => {}
                Blob::Complete(text) => return Ok(text),
                Blob::TooLong => return Err(self.broken("the server's results are too long")),
            }
        }
    }

    fn unexpected(&mut self, word: u8) -> Error {
        match word {
            state::ACCESS_DENIED => self.broken("the server is busy running a test; try again later"),
            state::SERVER_TERMINATE => self.broken("the server has terminated"),
            state::SERVER_ERROR => {
                let mut numbers = [0; 8];
                let code = match self.hear(&mut numbers) {
                    Ok(()) => i32::from_be_bytes([numbers[0], numbers[1], numbers[2], numbers[3]]),
                    Err(error) => return error,
                };
                self.broken(&format!("the server refuses the test with iperf3's error {code}"))
            }
            word => self.broken(&format!("the server says {word}, which means nothing here; is it an iperf3 server?")),
        }
    }

    fn broken(&self, why: &str) -> Error {
        Error::Run(format!("{}: {why}", self.remote))
    }

    fn failed(&self, error: &io::Error) -> Error {
        self.broken(&match error.kind() {
            io::ErrorKind::UnexpectedEof => "the server has ended a connection before its time".to_owned(),
            io::ErrorKind::WouldBlock => format!("the server has said nothing for {} s", PATIENCE.as_secs()),
            _ => explain(error, true),
        })
    }
}

fn result_of(stream: &Stream) -> StreamResult {
    StreamResult { octets: stream.octets(), retransmits: stream.sends.then(|| stream.sender_info().0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_suffixes() {
        assert_eq!(binary("100M"), Ok(100 << 20));
        assert_eq!(decimal("100M"), Ok(100_000_000));
        assert_eq!(binary("17"), Ok(17));
        assert_eq!(block("1M"), Ok(1 << 20));
        for wrong in ["", "M", "0", "1.5M", "-1", "1X", "18446744073709551615", "99999999999T", "é"] {
            assert!(binary(wrong).is_err(), "{wrong}");
        }
        assert!(block("2M").is_err());
        assert!(parallel("129").is_err() && parallel("0").is_err() && parallel("128") == Ok(128));
    }
}
