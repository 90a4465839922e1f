//! What is said on a control socket: requests and answers, a line of JSON each.
//!
//! A request is one line, `{"v":1,"ask":"sockets","filter":"sport = :7"}`. Its answer is any number of lines and then one
//! that ends it: `{"end":{"count":3}}`, or `{"error":"..."}`, after which the engine hangs up. One connection may ask
//! again. A reader skips what it does not know, so that fields and kinds of lines can be added; what would mislead one that
//! does not know it is another version.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use trust::flow::ShardId;
use trust::shard::diag::{Entry, EntryId, Table};
use trust::tcp::{Duration, Info, Instant, State};

/// The version that is spoken here.
pub(crate) const VERSION: u32 = 1;

/// The longest request, with its newline.
pub(crate) const LONGEST_REQUEST: usize = 4_096;

/// The longest line of an answer, with its newline.
pub(crate) const LONGEST_ANSWER: usize = 64 << 10;

/// The least and the most octets that a shard may keep for who captures.
pub(crate) const BUFFERS: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;

/// What every request begins with, whatever its version.
#[derive(Debug, Deserialize)]
pub(crate) struct Versioned {
    pub(crate) v: u32,
}

/// A request.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) v: u32,
    #[serde(flatten)]
    pub(crate) ask: Ask,
}

/// What is asked for.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub(crate) enum Ask {
    /// What the engine is.
    Engine,
    /// Connections and listeners that the filter lets through.
    Sockets {
        #[serde(default)]
        filter: String,
    },
    /// The end of all those, each by a RST.
    Reset {
        filter: String,
        /// Of these, only the one of this name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// Counters of each shard, and of all together.
    Stats,
    /// The same and more as metrics: in OpenMetrics, or in the older format of Prometheus.
    Metrics {
        #[serde(default)]
        openmetrics: bool,
    },
    /// What senders decide, until either side hangs up.
    Events {
        #[serde(default)]
        filter: String,
        /// Of one connection in so many.
        #[serde(default)]
        sample: u32,
    },
    /// Packets: what comes behind the first line of the answer is no JSON, see `packets`.
    Capture {
        #[serde(default)]
        filter: String,
        /// Octets of a packet that are wanted; 0: all.
        #[serde(default)]
        snaplen: u32,
        /// Octets that each shard may keep for who reads slowly.
        buffer: u64,
    },
}

/// A line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// What the engine is.
    Engine(Engine),
    /// One of the sockets.
    Socket(Box<Socket>),
    /// Counters of a shard.
    Shard { shard: u16, counters: serde_json::Value },
    /// Those of all, stages included.
    Total { counters: serde_json::Value },
    /// A piece of a text, of whole lines.
    Text(String),
    /// Packets follow.
    Capture(Capturing),
    /// Something that a sender decided.
    Event(serde_json::Map<String, serde_json::Value>),
    /// There is nothing to say yet.
    Wait {},
    /// The end of an answer: how many lines came before.
    End { count: u64 },
    /// The end of the connection: what was wrong.
    Error(String),
}

/// What an engine is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Engine {
    /// The command's version.
    pub(crate) version: String,
    pub(crate) pid: u32,
    /// Name of its device.
    pub(crate) device: String,
    pub(crate) address: String,
    pub(crate) shards: u16,
    /// As the banner says.
    pub(crate) services: Vec<String>,
    /// For so long, in milliseconds.
    pub(crate) uptime_ms: u64,
}

/// What a capture begins with.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Capturing {
    pub(crate) shards: u16,
    /// Octets that are kept of each; 0: all.
    pub(crate) snaplen: u32,
    #[serde(flatten)]
    pub(crate) clock: ClockSnapshot,
}

/// The clocks of an engine and of the world at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClockSnapshot {
    /// The engine's time ...
    pub(crate) at_ns: u64,
    /// ... and what that is since 1970.
    pub(crate) wall_ns: u64,
}

impl ClockSnapshot {
    /// A time of the engine, in nanoseconds since 1970. What was before the moment counts as of then.
    pub(crate) fn wall(self, at: Instant) -> u64 {
        self.wall_ns.saturating_add(at.as_nanos().saturating_sub(self.at_ns))
    }
}

/// A connection or a listener. Times are in nanoseconds, sizes in octets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Socket {
    /// Names it for as long as it is there, and nothing afterwards.
    pub(crate) id: String,
    pub(crate) state: Stage,
    /// `None`: on every shard.
    #[serde(default)]
    pub(crate) shard: Option<u16>,
    pub(crate) local: SocketAddr,
    /// Of a listener: unspecified, port 0.
    pub(crate) peer: SocketAddr,
    pub(crate) recv_q: u32,
    pub(crate) send_q: u32,
    #[serde(default)]
    pub(crate) service: Option<String>,
    /// Its service or application has closed it.
    #[serde(default)]
    pub(crate) orphan: bool,
    /// The largest packet of the device.
    #[serde(default)]
    pub(crate) pmtu: u16,
    /// Since data was sent last, or the connection began.
    #[serde(default)]
    pub(crate) last_sent: Option<Duration>,
    /// Since a segment was received last.
    #[serde(default)]
    pub(crate) last_received: Option<Duration>,
    #[serde(default)]
    pub(crate) info: Option<Info>,
}

/// The states, with the words that `ss` has for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    #[serde(rename = "ESTAB")]
    Established,
    #[serde(rename = "SYN-SENT")]
    SynSent,
    #[serde(rename = "SYN-RECV")]
    SynReceived,
    #[serde(rename = "FIN-WAIT-1")]
    FinWait1,
    #[serde(rename = "FIN-WAIT-2")]
    FinWait2,
    #[serde(rename = "TIME-WAIT")]
    TimeWait,
    #[serde(rename = "UNCONN")]
    Closed,
    #[serde(rename = "CLOSE-WAIT")]
    CloseWait,
    #[serde(rename = "LAST-ACK")]
    LastAck,
    #[serde(rename = "LISTEN")]
    Listen,
    #[serde(rename = "CLOSING")]
    Closing,
}

impl Stage {
    /// As `ss` prints it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTAB",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECV",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::TimeWait => "TIME-WAIT",
            Self::Closed => "UNCONN",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }
}

impl From<Option<State>> for Stage {
    /// `None` listens.
    fn from(state: Option<State>) -> Self {
        match state {
            None => Self::Listen,
            Some(State::SynSent) => Self::SynSent,
            Some(State::SynReceived) => Self::SynReceived,
            Some(State::Established) => Self::Established,
            Some(State::FinWait1) => Self::FinWait1,
            Some(State::FinWait2) => Self::FinWait2,
            Some(State::CloseWait) => Self::CloseWait,
            Some(State::Closing) => Self::Closing,
            Some(State::LastAck) => Self::LastAck,
            Some(State::TimeWait) => Self::TimeWait,
            Some(State::Closed) => Self::Closed,
        }
    }
}

impl Socket {
    /// What is said of an entry on that shard, whose service has that name.
    pub(crate) fn new(shard: ShardId, entry: &Entry, service: Option<String>) -> Self {
        let since = |at| entry.now.saturating_since(at);
        Self {
            id: name(shard, entry.id),
            state: entry.state.into(),
            shard: entry.state.map(|_| shard.0),
            local: entry.quad.local.into(),
            peer: entry.quad.remote.into(),
            recv_q: entry.receive_queue,
            send_q: entry.send_queue,
            service,
            orphan: entry.detached,
            pmtu: entry.mtu,
            last_sent: entry.info.as_ref().map(|info| since(info.last_sent)),
            last_received: entry.info.as_ref().map(|info| since(info.last_received)),
            info: entry.info,
        }
    }
}

/// The name of an entry among those of all shards.
pub(crate) fn name(shard: ShardId, entry: EntryId) -> String {
    let table = match entry.table {
        Table::Listeners => 'l',
        Table::Connections => 'c',
        Table::HalfOpen => 'h',
        Table::TimeWait => 't',
    };
    format!("{shard}{table}{}", entry.id)
}

impl Answer {
    /// The line, newline included.
    pub(crate) fn line(&self) -> String {
        // None of these types fails to become JSON: keys are strings.
        let mut line = serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        for (text, ask) in [
            (r#"{"v":1,"ask":"engine"}"#, Ask::Engine),
            (r#"{"v":1,"ask":"sockets","filter":"sport = :7"}"#, Ask::Sockets { filter: "sport = :7".to_owned() }),
            (r#"{"v":1,"ask":"reset","filter":""}"#, Ask::Reset { filter: String::new(), id: None }),
            (r#"{"v":1,"ask":"stats"}"#, Ask::Stats),
        ] {
            let request = Request { v: VERSION, ask };
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
        }
        // What is added later is skipped, what may be left out is.
        let later = r#"{"v":1,"ask":"sockets","colour":"blue"}"#;
        assert_eq!(serde_json::from_str::<Request>(later).unwrap().ask, Ask::Sockets { filter: String::new() });
        // Nobody resets everything by leaving something out.
        assert!(serde_json::from_str::<Request>(r#"{"v":1,"ask":"reset"}"#).is_err());
    }

    #[test]
    fn every_state_has_the_word_of_its_line() {
        use State::*;
        for state in
            [SynSent, SynReceived, Established, FinWait1, FinWait2, CloseWait, Closing, LastAck, TimeWait, Closed]
                .into_iter()
                .map(Some)
                .chain([None])
        {
            let stage = Stage::from(state);
            assert_eq!(serde_json::to_string(&stage).unwrap(), format!("\"{}\"", stage.name()));
        }
    }

    /// The largest that there can be, twice over, fits a line.
    #[test]
    fn lines_of_sockets_are_far_below_their_bound() {
        let address = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
        let most = Duration::MAX;
        let socket = Socket {
            id: "65535c4294967295.4294967295".to_owned(),
            state: Stage::FinWait1,
            shard: Some(u16::MAX),
            local: address,
            peer: address,
            recv_q: u32::MAX,
            send_q: u32::MAX,
            service: Some("forward:65535=some-host.example:65535".to_owned()),
            orphan: true,
            pmtu: u16::MAX,
            last_sent: Some(most),
            last_received: Some(most),
            info: Some(Info { srtt: Some(most), min_rtt: Some(most), ..Info::default() }),
        };
        let len = Answer::Socket(Box::new(socket)).line().len();
        assert!((500..LONGEST_ANSWER / 8).contains(&len), "{len}");
    }
}
