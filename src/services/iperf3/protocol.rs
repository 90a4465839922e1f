//! The iperf3 protocol's values, for servers and clients: state bytes, the cookie, length-prefixed JSON blobs, parameters
//! and results.
//!
//! Everything here is a function of the octets given; states of a test are in `session`, sockets nowhere near. Nothing
//! panics, whatever a peer sends: a blob is limited before it is stored, unknown keys are skipped, numbers may be
//! written in any of JSON's ways (peers exist that write -1 as 2^64 - 1).

use serde_json::{Map, Value, json};

use crate::tcp::CongestionControl;

/// Octets of the cookie that opens every connection: 36 characters and a NUL.
pub const COOKIE_LEN: usize = 37;

/// Names a test: the same on its control connection and on its data connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookie(pub [u8; COOKIE_LEN]);

impl Cookie {
    /// A cookie from random octets, in the letters of stock clients.
    #[must_use]
    pub fn from_random(random: [u8; COOKIE_LEN - 1]) -> Self {
        const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut cookie = [0; COOKIE_LEN];
        for (letter, random) in cookie.iter_mut().zip(random) {
            *letter = LETTERS[usize::from(random % 32)];
        }
        Self(cookie)
    }
}

/// Octets a parameter blob may have.
pub const PARAMS_MAX: u32 = 8 * 1024;
/// Octets a result blob may have, for the side that has asked for a report in it.
pub const RESULTS_MAX: u32 = 1024 * 1024;
/// Octets a client's results may have besides those of its streams, and for each stream. The stock client needs about 200
/// and 180; every test may make us keep as many for some seconds.
const RESULTS_BASE: u32 = 4 * 1024;
const RESULTS_STREAM: u32 = 512;
/// Streams a client may ask for in each direction.
pub const PARALLEL_MAX: u64 = 128;
/// The block length when the client names none.
pub const DEFAULT_BLOCK: u32 = 128 * 1024;
/// The largest block length.
pub const BLOCK_MAX: u64 = 1024 * 1024;
/// Longest test, in seconds (a day).
const TIME_MAX: u64 = 86_400;

/// The single octets of the control connection.
pub mod state {
    /// Server: all streams are there.
    pub const TEST_START: u8 = 1;
    /// Server: move octets.
    pub const TEST_RUNNING: u8 = 2;
    /// Client: the test is over.
    pub const TEST_END: u8 = 4;
    /// Server: send the parameters.
    pub const PARAM_EXCHANGE: u8 = 9;
    /// Server: open the data connections.
    pub const CREATE_STREAMS: u8 = 10;
    /// Server: it is being stopped.
    pub const SERVER_TERMINATE: u8 = 11;
    /// Client: it is being stopped.
    pub const CLIENT_TERMINATE: u8 = 12;
    /// Server: send the results, then read mine.
    pub const EXCHANGE_RESULTS: u8 = 13;
    /// Server: all is said.
    pub const DISPLAY_RESULTS: u8 = 14;
    /// Client: the last word.
    pub const IPERF_DONE: u8 = 16;
    /// Server: busy with another test.
    pub const ACCESS_DENIED: u8 = 0xff;
    /// Server: it cannot do that; two numbers follow, big-endian: iperf3's error and errno.
    pub const SERVER_ERROR: u8 = 0xfe;
}

/// Why a test cannot go on; the client's own error numbers, which it turns into a sentence for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ServerError {
    /// More streams than a test may have.
    TooManyStreams = 6,
    /// Block length out of range.
    BlockLength = 7,
    /// A control octet that means nothing here.
    UnknownMessage = 110,
    /// Parameters that cannot be read.
    Params = 114,
    /// The data connections did not come, or went.
    Streams = 120,
    /// Neither UDP nor SCTP is served.
    Protocol = 131,
}

impl ServerError {
    /// The message: state octet, error number, and no `errno`, so that the client adds no misleading sentence.
    #[must_use]
    pub fn encode(self) -> [u8; 9] {
        let mut out = [0; 9];
        out[0] = state::SERVER_ERROR;
        out[1..5].copy_from_slice(&(self as i32).to_be_bytes());
        out
    }
}

/// Collects one blob (length in four octets, big-endian; then so much JSON) from whatever pieces it comes in.
#[derive(Debug)]
pub struct BlobReader {
    max: u32,
    prefix: [u8; 4],
    prefix_len: u8,
    body: Vec<u8>,
}

/// What [`BlobReader::feed`] has made of its input.
#[derive(Debug, PartialEq, Eq)]
pub enum Blob {
    /// More input is needed.
    Partial,
    /// The blob's text.
    Complete(Vec<u8>),
    /// It announces more octets than allowed.
    TooLong,
}

impl BlobReader {
    /// A reader for a blob of at most `max` octets.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self { max, prefix: [0; 4], prefix_len: 0, body: Vec::new() }
    }

    /// Takes what belongs to the blob from the front of `input`; tells how much that was. Memory grows with what has
    /// arrived, not with what was announced.
    pub fn feed(&mut self, input: &[u8]) -> (usize, Blob) {
        let have = usize::from(self.prefix_len);
        let head = input.len().min(4 - have);
        self.prefix[have..have + head].copy_from_slice(&input[..head]);
        self.prefix_len += head as u8;
        if self.prefix_len < 4 {
            return (head, Blob::Partial);
        }
        let announced = u32::from_be_bytes(self.prefix);
        if announced > self.max {
            return (head, Blob::TooLong);
        }
        let rest = &input[head..];
        let body = rest.len().min((announced as usize).saturating_sub(self.body.len()));
        self.body.extend_from_slice(&rest[..body]);
        let blob = if self.body.len() == announced as usize {
            Blob::Complete(std::mem::take(&mut self.body))
        } else {
            Blob::Partial
        };
        (head + body, blob)
    }
}

/// A blob made of `value`.
#[must_use]
pub fn encode_blob(value: &Value) -> Vec<u8> {
    let text = value.to_string();
    let mut out = (text.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

/// What the client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Seconds at the start that count for nothing.
    pub omit: u32,
    /// Seconds the test takes; 0 when octets or blocks end it.
    pub time: u32,
    /// Streams in each direction, 1 to 128.
    pub parallel: u16,
    /// The server sends.
    pub reverse: bool,
    /// Both send.
    pub bidirectional: bool,
    /// Octets in a block, 1 to 1 MiB.
    pub len: u32,
    /// No Nagle algorithm on data connections.
    pub nodelay: bool,
    /// Limit for each sending stream in bit/s; 0 is none.
    pub bandwidth: u64,
    /// Blocks sent at once under `bandwidth`; 0 is one.
    pub burst: u32,
    /// How often the limit is looked at, in microseconds.
    pub pacing_timer: u32,
    /// A second limit in bit/s, smooth; 0 is none.
    pub fqrate: u64,
    /// The results are to carry our report as text.
    pub server_output: bool,
}

/// A number however it is written, cut to what `u64` holds.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        // The cast saturates and turns NaN into 0.
        value.as_f64().map(|number| number as u64)
    })
}

impl Params {
    /// Reads the parameter blob's text.
    ///
    /// # Errors
    ///
    /// What iperf3's server says to a client whose parameters it does not take.
    pub fn parse(text: &[u8]) -> Result<Self, ServerError> {
        let map: Map<String, Value> = serde_json::from_slice(text).map_err(|_| ServerError::Params)?;
        let integer = |key: &str| map.get(key).and_then(number);
        let small = |key: &str| u32::try_from(integer(key).unwrap_or(0)).unwrap_or(u32::MAX);
        // Old clients are served by their mere presence, new ones write `true`.
        let flag = |key: &str| match map.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(value) => number(value) != Some(0),
        };
        let seconds = |key: &str| integer(key).unwrap_or(0).min(TIME_MAX) as u32;

        if flag("udp") || flag("sctp") || !flag("tcp") {
            return Err(ServerError::Protocol);
        }
        let parallel = integer("parallel").unwrap_or(1);
        if parallel > PARALLEL_MAX {
            return Err(ServerError::TooManyStreams);
        }
        let len = match integer("len") {
            None | Some(0) => u64::from(DEFAULT_BLOCK),
            Some(len) if len <= BLOCK_MAX => len,
            Some(_) => return Err(ServerError::BlockLength),
        };
        Ok(Self {
            omit: seconds("omit"),
            time: seconds("time"),
            parallel: parallel.max(1) as u16,
            reverse: flag("reverse"),
            bidirectional: flag("bidirectional"),
            len: len as u32,
            nodelay: flag("nodelay"),
            bandwidth: integer("bandwidth").unwrap_or(0),
            burst: small("burst"),
            pacing_timer: small("pacing_timer"),
            fqrate: integer("fqrate").unwrap_or(0),
            server_output: flag("get_server_output"),
        })
    }

    /// As a client sends it; `octets`: how many end the test, 0 where the time does.
    #[must_use]
    pub fn to_json(&self, octets: u64) -> Value {
        let mut value = json!({
            "tcp": true,
            "omit": self.omit,
            "time": self.time,
            "num": octets,
            "blockcount": 0,
            "parallel": self.parallel,
            "len": self.len,
            "pacing_timer": self.pacing_timer,
            "client_version": "3.12",
        });
        // Old servers go by presence.
        for (key, set) in [("reverse", self.reverse), ("bidirectional", self.bidirectional), ("nodelay", self.nodelay)]
        {
            if set {
                value[key] = json!(true);
            }
        }
        for (key, number) in [("bandwidth", self.bandwidth), ("burst", self.burst.into()), ("fqrate", self.fqrate)] {
            if number > 0 {
                value[key] = json!(number);
            }
        }
        if self.server_output {
            value["get_server_output"] = json!(1);
        }
        value
    }

    /// Data connections the client opens.
    #[must_use]
    pub fn streams(&self) -> usize {
        usize::from(self.parallel) * if self.bidirectional { 2 } else { 1 }
    }

    /// Whether the server sends on the stream opened as number `index`. With `bidirectional` the client opens those it
    /// sends on first.
    #[must_use]
    pub fn sends(&self, index: usize) -> bool {
        if self.bidirectional { index >= usize::from(self.parallel) } else { self.reverse }
    }

    /// Whether the server sends on any stream.
    #[must_use]
    pub fn sends_at_all(&self) -> bool {
        self.reverse || self.bidirectional
    }
}

/// The id both ends give to the stream opened as number `index`: 1, 3, 4, 5, ... (2 is never used).
#[must_use]
pub fn stream_id(index: usize) -> usize {
    if index == 0 { 1 } else { index + 2 }
}

/// Octets the results of a client with so many streams may have.
#[must_use]
pub fn results_max(streams: usize) -> u32 {
    RESULTS_BASE + RESULTS_STREAM * u32::try_from(streams).unwrap_or(u32::MAX).min(2 * PARALLEL_MAX as u32)
}

/// Whether `text` may pass as the client's results. What is in them is for the client's own user.
#[must_use]
pub fn results_acceptable(text: &[u8]) -> bool {
    let parsed: Result<std::collections::BTreeMap<String, serde::de::IgnoredAny>, _> = serde_json::from_slice(text);
    parsed.is_ok()
}

/// What one side has counted on one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamResult {
    /// Octets moved after the omitted seconds.
    pub octets: u64,
    /// Segments sent again after the omitted seconds; `None` for a stream that side receives.
    pub retransmits: Option<u64>,
}

/// Processor use in percent of one processor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuUse {
    /// In user code.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

/// Our results for the other side. `sends`: whether we send on any stream; `seconds` is how long the test took without the
/// omitted part; `text` the report that a client may have asked for.
#[must_use]
pub fn results(
    sends: bool,
    congestion: CongestionControl,
    cpu: CpuUse,
    streams: &[StreamResult],
    seconds: f64,
    text: Option<&str>,
) -> Value {
    let streams: Vec<Value> = streams
        .iter()
        .enumerate()
        .map(|(index, stream)| {
            let retransmits = stream.retransmits.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX));
            json!({
                "id": stream_id(index),
                "bytes": stream.octets,
                "retransmits": retransmits,
                "jitter": 0,
                "errors": 0,
                "omitted_errors": 0,
                "packets": 0,
                "omitted_packets": 0,
                "start_time": 0,
                "end_time": seconds,
            })
        })
        .collect();
    let mut value = json!({
        "cpu_util_total": cpu.user + cpu.system,
        "cpu_util_user": cpu.user,
        "cpu_util_system": cpu.system,
        "sender_has_retransmits": if sends { 1 } else { -1 },
        "congestion_used": congestion.name(),
        "streams": streams,
    });
    if let Some(text) = text {
        value["server_output_text"] = json!(text);
    }
    value
}

/// The other side's results.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerResults {
    /// Processor use over there.
    pub cpu: CpuUse,
    /// By stream id.
    streams: Vec<(u64, StreamResult)>,
}

impl PeerResults {
    /// Reads the result blob's text; `None`: it is no such thing.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let map: Map<String, Value> = serde_json::from_slice(text).ok()?;
        let percent =
            |key: &str| map.get(key).and_then(Value::as_f64).filter(|percent| percent.is_finite()).unwrap_or(0.0);
        let streams = map.get("streams")?.as_array()?;
        let streams = streams.iter().filter_map(|stream| {
            let count = |key: &str| stream.get(key).and_then(number);
            // -1, also in the clothes of 2^64 - 1: not counted.
            let retransmits = stream.get("retransmits").and_then(Value::as_f64);
            let retransmits = retransmits.filter(|count| (0.0..1e15).contains(count)).map(|count| count as u64);
            Some((count("id")?, StreamResult { octets: count("bytes")?, retransmits }))
        });
        let cpu = CpuUse { user: percent("cpu_util_user"), system: percent("cpu_util_system") };
        Some(Self { cpu, streams: streams.collect() })
    }

    /// What was counted on the stream with that id.
    #[must_use]
    pub fn stream(&self, id: usize) -> Option<StreamResult> {
        self.streams.iter().find(|(of, _)| *of == id as u64).map(|(_, result)| *result)
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
