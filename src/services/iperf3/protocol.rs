//! The iperf3 protocol's values: state bytes, the cookie, length-prefixed JSON blobs, parameters and results.
//!
//! Everything here is a function of the octets given; states of a test are in `session`, sockets nowhere near. Nothing
//! panics, whatever a client sends: a blob is limited before it is stored, unknown keys are skipped, numbers may be
//! written in any of JSON's ways (clients exist that write -1 as 2^64 - 1).

use serde_json::{Map, Value, json};

use crate::tcp::CongestionControl;

/// Octets of the cookie that opens every connection: 36 characters and a NUL.
pub(super) const COOKIE_LEN: usize = 37;

/// Names a test: the same on its control connection and on its data connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Cookie(pub(super) [u8; COOKIE_LEN]);

/// Octets a parameter blob may have.
pub(super) const PARAMS_MAX: u32 = 8 * 1024;
/// Octets a result blob may have.
pub(super) const RESULTS_MAX: u32 = 1024 * 1024;
/// Streams a client may ask for in each direction.
pub(super) const PARALLEL_MAX: u64 = 128;
/// The block length when the client names none.
pub(super) const DEFAULT_BLOCK: u32 = 128 * 1024;
/// The largest block length.
pub(super) const BLOCK_MAX: u64 = 1024 * 1024;
/// Longest test, in seconds (a day).
const TIME_MAX: u64 = 86_400;

/// The single octets of the control connection.
pub(super) mod state {
    pub(in super::super) const TEST_START: u8 = 1;
    pub(in super::super) const TEST_RUNNING: u8 = 2;
    pub(in super::super) const TEST_END: u8 = 4;
    pub(in super::super) const PARAM_EXCHANGE: u8 = 9;
    pub(in super::super) const CREATE_STREAMS: u8 = 10;
    pub(in super::super) const SERVER_TERMINATE: u8 = 11;
    pub(in super::super) const CLIENT_TERMINATE: u8 = 12;
    pub(in super::super) const EXCHANGE_RESULTS: u8 = 13;
    pub(in super::super) const DISPLAY_RESULTS: u8 = 14;
    pub(in super::super) const IPERF_DONE: u8 = 16;
    pub(in super::super) const ACCESS_DENIED: u8 = 0xff;
    pub(in super::super) const SERVER_ERROR: u8 = 0xfe;
}

/// Why a test cannot go on; the client's own error numbers, which it turns into a sentence for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum ServerError {
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
    pub(super) fn encode(self) -> [u8; 9] {
        let mut out = [0; 9];
        out[0] = state::SERVER_ERROR;
        out[1..5].copy_from_slice(&(self as i32).to_be_bytes());
        out
    }
}

/// Collects one blob (length in four octets, big-endian; then so much JSON) from whatever pieces it comes in.
#[derive(Debug)]
pub(super) struct BlobReader {
    max: u32,
    prefix: [u8; 4],
    prefix_len: u8,
    body: Vec<u8>,
}

/// What [`BlobReader::feed`] has made of its input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Blob {
    /// More input is needed.
    Partial,
    /// The blob's text.
    Complete(Vec<u8>),
    /// It announces more octets than allowed.
    TooLong,
}

impl BlobReader {
    /// A reader for a blob of at most `max` octets.
    pub(super) fn new(max: u32) -> Self {
        Self { max, prefix: [0; 4], prefix_len: 0, body: Vec::new() }
    }

    /// Takes what belongs to the blob from the front of `input`; tells how much that was. Memory grows with what has
    /// arrived, not with what was announced.
    pub(super) fn feed(&mut self, input: &[u8]) -> (usize, Blob) {
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
pub(super) fn encode_blob(value: &Value) -> Vec<u8> {
    let text = value.to_string();
    let mut out = (text.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

/// What the client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Params {
    /// Seconds at the start that count for nothing.
    pub(super) omit: u32,
    /// Seconds the test takes; 0 when octets or blocks end it.
    pub(super) time: u32,
    /// Streams in each direction, 1 to 128.
    pub(super) parallel: u16,
    /// The server sends.
    pub(super) reverse: bool,
    /// Both send.
    pub(super) bidirectional: bool,
    /// Octets in a block, 1 to 1 MiB.
    pub(super) len: u32,
    /// No Nagle algorithm on data connections.
    pub(super) nodelay: bool,
    /// Limit for each sending stream in bit/s; 0 is none.
    pub(super) bandwidth: u64,
    /// Blocks sent at once under `bandwidth`; 0 is one.
    pub(super) burst: u32,
    /// How often the limit is looked at, in microseconds.
    pub(super) pacing_timer: u32,
    /// A second limit in bit/s, smooth; 0 is none.
    pub(super) fqrate: u64,
    /// The results are to carry our report as text.
    pub(super) server_output: bool,
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
    pub(super) fn parse(text: &[u8]) -> Result<Self, ServerError> {
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

    /// Data connections the client opens.
    pub(super) fn streams(&self) -> usize {
        usize::from(self.parallel) * if self.bidirectional { 2 } else { 1 }
    }

    /// Whether this side sends on the stream opened as number `index`. With `bidirectional` the client opens those it
    /// sends on first.
    pub(super) fn sends(&self, index: usize) -> bool {
        if self.bidirectional { index >= usize::from(self.parallel) } else { self.reverse }
    }

    /// Whether this side sends on any stream.
    pub(super) fn sends_at_all(&self) -> bool {
        self.reverse || self.bidirectional
    }
}

/// The id both ends give to the stream opened as number `index`: 1, 3, 4, 5, ... (2 is never used).
pub(super) fn stream_id(index: usize) -> usize {
    if index == 0 { 1 } else { index + 2 }
}

/// Whether `text` may pass as the client's results. What is in them is for the client's own user.
pub(super) fn results_acceptable(text: &[u8]) -> bool {
    let parsed: Result<std::collections::BTreeMap<String, serde::de::IgnoredAny>, _> = serde_json::from_slice(text);
    parsed.is_ok()
}

/// What this side has counted on one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StreamResult {
    /// Octets moved after the omitted seconds.
    pub(super) octets: u64,
    /// Segments sent again after the omitted seconds; `None` for a stream we receive.
    pub(super) retransmits: Option<u64>,
}

/// Processor use in percent of one processor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct CpuUse {
    pub(super) user: f64,
    pub(super) system: f64,
}

/// Our results for the client. `seconds` is how long the test took without the omitted part; `text` the report it may
/// have asked for.
pub(super) fn results(
    params: &Params,
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
        "sender_has_retransmits": if params.sends_at_all() { 1 } else { -1 },
        "congestion_used": congestion.name(),
        "streams": streams,
    });
    if let Some(text) = text {
        value["server_output_text"] = json!(text);
    }
    value
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
