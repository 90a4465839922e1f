//! What a test says about itself: lines like those of the stock client, or one JSON object with its names.

use std::net::SocketAddr;

use serde_json::{Value, json};
use trust::services::iperf3::protocol::{CpuUse, Params, PeerResults, StreamResult, stream_id};
use trust::services::iperf3::report::{RULE, line, scaled};

use super::super::console;
use super::streams::Stream;

/// How a test came out.
pub(super) struct Outcome<'a> {
    pub(super) streams: &'a [Stream],
    /// What we counted, and what the server did.
    pub(super) ours: &'a [StreamResult],
    pub(super) theirs: &'a PeerResults,
    pub(super) seconds: f64,
    pub(super) cpu: CpuUse,
}

/// Octets and retransmissions at some moment.
type Shown = (u64, u64);

pub(super) struct Output {
    json: bool,
    bidirectional: bool,
    shown: Vec<Shown>,
    connected: Vec<Value>,
    intervals: Vec<Value>,
    params: Value,
}

/// Both ends' account of one stream or of some.
#[derive(Clone, Copy, Default)]
struct Account {
    sent: u64,
    received: u64,
    retransmits: Option<u64>,
}

impl Account {
    fn add(&mut self, other: Self) {
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
        if let Some(more) = other.retransmits {
            self.retransmits = Some(self.retransmits.unwrap_or(0).saturating_add(more));
        }
    }
}

fn end(octets: u64, seconds: f64, retransmits: Option<u64>) -> Value {
    let mut value = json!({
        "start": 0,
        "end": seconds,
        "seconds": seconds,
        "bytes": octets,
        "bits_per_second": if seconds > 0.0 { octets as f64 * 8.0 / seconds } else { 0.0 },
    });
    if let Some(retransmits) = retransmits {
        value["retransmits"] = json!(retransmits);
    }
    value
}

impl Output {
    pub(super) fn new(json: bool, params: &Params) -> Self {
        let bidirectional = params.bidirectional;
        let params = params.to_json(0);
        Self { json, bidirectional, shown: Vec::new(), connected: Vec::new(), intervals: Vec::new(), params }
    }

    pub(super) fn say(&self, line: &str) {
        if !self.json {
            console::output().say(format!("{line}\n"));
        }
    }

    pub(super) fn connected(&mut self, index: usize, stream: &Stream, remote: SocketAddr) {
        let (local, id) = (stream.local, stream_id(index));
        let (ours, theirs) = ((local.ip(), local.port()), (remote.ip(), remote.port()));
        self.say(&format!("[{id:3}] local {} port {} connected to {} port {}", ours.0, ours.1, theirs.0, theirs.1));
        self.connected.push(json!({
            "socket": id, "local_host": ours.0, "local_port": ours.1, "remote_host": theirs.0, "remote_port": theirs.1,
        }));
        self.shown.push((0, 0));
    }

    pub(super) fn heading(&self, streams: &[Stream]) {
        let senders = if streams.iter().any(|stream| stream.sends) { "         Retr  Cwnd" } else { "" };
        self.say(&format!("[ ID]{}Interval           Transfer     Bitrate{senders}", self.column()));
    }

    fn column(&self) -> &'static str {
        if self.bidirectional { "[Role] " } else { " " }
    }

    /// The mark of a direction, which only a test in both needs.
    fn role(&self, sends: bool) -> &'static str {
        match (self.bidirectional, sends) {
            (false, _) => "",
            (true, true) => "[TX-C]",
            (true, false) => "[RX-C]",
        }
    }

    /// What moved since the last interval.
    pub(super) fn interval(&mut self, streams: &[Stream], from: f64, to: f64) {
        let mut values = Vec::new();
        for sends in [true, false] {
            let mut sum = (0, 0, 0);
            for (index, stream) in streams.iter().enumerate().filter(|(_, stream)| stream.sends == sends) {
                let (retransmits, cwnd) = if sends { stream.sender_info() } else { (0, 0) };
                let now = (stream.octets(), retransmits);
                let before = std::mem::replace(&mut self.shown[index], now);
                let (octets, again) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
                sum = (sum.0 + 1, sum.1 + octets, sum.2 + again);
                let rest = if sends {
                    format!("  {again:3}   {}Bytes", scaled(f64::from(cwnd), 1024.0))
                } else {
                    String::new()
                };
                self.say(&line(Some(index), self.role(sends), from..to, octets, &rest));
                let mut value = end(octets, to - from, sends.then_some(again));
                value["socket"] = json!(stream_id(index));
                value["start"] = json!(from);
                value["end"] = json!(to);
                value["sender"] = json!(sends);
                values.push(value);
            }
            if sum.0 > 1 {
                let rest = if sends { format!("  {:3}", sum.2) } else { String::new() };
                self.say(&line(None, self.role(sends), from..to, sum.1, &rest));
            }
        }
        if streams.len() > 1 {
            self.say(RULE.trim_end());
        }
        if self.json {
            self.intervals.push(json!({ "streams": values }));
        }
    }

    /// The account of both ends.
    pub(super) fn finish(&self, outcome: &Outcome<'_>) {
        let accounts: Vec<Account> =
            outcome.streams.iter().enumerate().map(|(index, _)| account(index, outcome)).collect();
        if self.json {
            console::output().say(format!("{:#}\n", self.to_json(&accounts, outcome)));
            return;
        }
        if outcome.streams.len() == 1 {
            self.say(RULE.trim_end());
        }
        self.say(&format!("[ ID]{}Interval           Transfer     Bitrate", self.column()));
        for sends in [true, false] {
            let of: Vec<_> = (0..accounts.len()).filter(|index| outcome.streams[*index].sends == sends).collect();
            let say = |id: Option<usize>, account: &Account| {
                let retransmits = account.retransmits.map_or_else(String::new, |count| format!("  {count:3}"));
                let role = self.role(sends);
                let rest = format!("{retransmits:<18}sender");
                self.say(&line(id, role, 0.0..outcome.seconds, account.sent, &rest));
                self.say(&line(id, role, 0.0..outcome.seconds, account.received, &format!("{:18}receiver", "")));
            };
            let mut sum = Account::default();
            for index in &of {
                sum.add(accounts[*index]);
                say(Some(*index), &accounts[*index]);
            }
            if of.len() > 1 {
                say(None, &sum);
            }
        }
    }

    fn to_json(&self, accounts: &[Account], outcome: &Outcome<'_>) -> Value {
        let seconds = outcome.seconds;
        let streams: Vec<_> = accounts
            .iter()
            .enumerate()
            .map(|(index, account)| {
                let sends = outcome.streams[index].sends;
                let mut sender = end(account.sent, seconds, account.retransmits);
                let mut receiver = end(account.received, seconds, None);
                for value in [&mut sender, &mut receiver] {
                    value["socket"] = json!(stream_id(index));
                    // As the stock client has it: whether this end was the sender.
                    value["sender"] = json!(sends);
                }
                json!({ "sender": sender, "receiver": receiver })
            })
            .collect();
        let mut value = json!({
            "start": { "connected": self.connected, "version": concat!("trust ", env!("CARGO_PKG_VERSION")),
                "test_start": self.params },
            "intervals": self.intervals,
            "end": {
                "streams": streams,
                "cpu_utilization_percent": {
                    "host_total": outcome.cpu.user + outcome.cpu.system,
                    "host_user": outcome.cpu.user,
                    "host_system": outcome.cpu.system,
                    "remote_total": outcome.theirs.cpu.user + outcome.theirs.cpu.system,
                    "remote_user": outcome.theirs.cpu.user,
                    "remote_system": outcome.theirs.cpu.system,
                },
            },
        });
        for sends in [true, false] {
            let mut sum = Account::default();
            let of = accounts.iter().zip(outcome.streams).filter(|(_, stream)| stream.sends == sends);
            of.clone().for_each(|(account, _)| sum.add(*account));
            if of.count() > 0 {
                // With both directions the plain names are those of what we send.
                let suffix = if self.bidirectional && !sends { "_bidir_reverse" } else { "" };
                value["end"][format!("sum_sent{suffix}")] = end(sum.sent, seconds, sum.retransmits);
                value["end"][format!("sum_received{suffix}")] = end(sum.received, seconds, None);
            }
        }
        value
    }
}

/// Who sends knows what was sent, who receives what arrived.
fn account(index: usize, outcome: &Outcome<'_>) -> Account {
    let ours = outcome.ours[index];
    let theirs = outcome.theirs.stream(stream_id(index)).unwrap_or_default();
    if outcome.streams[index].sends {
        Account { sent: ours.octets, received: theirs.octets, retransmits: ours.retransmits }
    } else {
        Account { sent: theirs.octets, received: ours.octets, retransmits: theirs.retransmits }
    }
}
