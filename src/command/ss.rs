//! `trust ss`: the connections of a running engine, with the columns and words of `ss -tin`.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::{ArgAction, Args};
use trust::tcp::{self, Info};

use super::Error;
use super::control::client::{Client, Which};
use super::control::filter::{Filter, States};
use super::control::protocol::{Answer, Ask, Socket};

/// So many lines are looked at for how wide columns are; then they are written as they come.
const LOOK_AHEAD: usize = 512;

/// Options of `trust ss`.
#[derive(Debug, Args)]
pub(crate) struct Ss {
    /// Which connections, in the language of ss: [state STATE | exclude STATE]... [EXPRESSION], like
    /// state established '( sport = :7 or dport = :http )' dst 10.7.0.1
    #[arg(value_name = "FILTER", trailing_var_arg = true)]
    filter: Vec<String>,

    /// Listeners, half-open connections and TIME-WAIT, too.
    #[arg(short, long)]
    all: bool,

    /// Only listeners.
    #[arg(short, long, conflicts_with = "all")]
    listening: bool,

    /// Not what there is to know of each: only the columns.
    #[arg(short, long)]
    brief: bool,

    /// No line with the names of the columns.
    #[arg(short = 'H', long)]
    no_header: bool,

    /// What there is to know in the same line.
    #[arg(short = 'O', long)]
    oneline: bool,

    /// How many connections there are, by state and shard.
    #[arg(short, long, conflicts_with_all = ["filter", "all", "listening", "brief", "oneline", "no_header"])]
    summary: bool,

    /// A line of JSON for each; times in nanoseconds, sizes in octets.
    #[arg(long)]
    json: bool,

    /// Again and again, every so many seconds (1, unless told with =).
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "1",
          value_parser = super::options::seconds)]
    watch: Option<u64>,

    /// TCP, with what there is to know of each, in numbers: so it is always. For who types ss -tin.
    #[arg(short = 't', short_aliases = ['i', 'n'], action = ArgAction::Count)]
    _tin: u8,

    #[command(flatten)]
    which: Which,
}

impl Ss {
    pub(crate) fn run(self) -> Result<(), Error> {
        let filter = self.filter()?;
        let mut output = io::BufWriter::new(io::stdout().lock());
        let terminal = io::stdout().is_terminal();
        loop {
            // Each time anew: an engine has few places for those who ask.
            let mut client = self.which.connect()?;
            if self.watch.is_some() && terminal {
                // Cursor home, and the rest of the screen away.
                output.write_all(b"\x1b[H\x1b[2J").map_err(Error::output)?;
            }
            if self.summary {
                output.write_all(summary(&mut client, self.json)?.as_bytes()).map_err(Error::output)?;
            } else {
                self.show(&mut client, &filter, &mut output)?;
            }
            drop(client);
            output.flush().map_err(Error::output)?;
            let Some(seconds) = self.watch else { return Ok(()) };
            std::thread::sleep(Duration::from_secs(seconds));
            if !terminal && !self.json {
                output.write_all(b"\n").map_err(Error::output)?;
            }
        }
    }

    fn filter(&self) -> Result<Filter, Error> {
        let states = match (self.all, self.listening) {
            (true, _) => States::ALL,
            (_, true) => States::LISTENING,
            _ => States::USUAL,
        };
        Filter::parse(&self.filter.join(" "), states).map_err(Error::Usage)
    }

    fn show(&self, client: &mut Client, filter: &Filter, output: &mut impl Write) -> Result<(), Error> {
        let mut table = Table::new(self);
        let mut early = Vec::new();
        let asked = client.ask(Ask::Sockets { filter: filter.to_string() }, |answer| {
            let Answer::Socket(socket) = answer else { return Ok(()) };
            if self.json {
                serde_json::to_writer(&mut *output, &socket)?;
                return output.write_all(b"\n").map_err(Error::output);
            }
            if table.is_fixed {
                return output.write_all(table.row(&socket).as_bytes()).map_err(Error::output);
            }
            table.widen(&socket);
            early.push(*socket);
            if early.len() == LOOK_AHEAD {
                write_early(&mut table, &mut early, output)?;
            }
            Ok(())
        });
        // What was said is shown, also where the answer ends early.
        if !self.json && !table.is_fixed && (asked.is_ok() || !early.is_empty()) {
            write_early(&mut table, &mut early, output)?;
        }
        asked.map(drop)
    }
}

fn write_early(table: &mut Table, early: &mut Vec<Socket>, output: &mut impl Write) -> Result<(), Error> {
    table.is_fixed = true;
    let rows: String = early.drain(..).map(|socket| table.row(&socket)).collect();
    output.write_all((table.header() + &rows).as_bytes()).map_err(Error::output)
}

/// What is above the columns of a width of their own.
const NAMES: [&str; 5] = ["Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "Service"];

/// Sockets in columns.
#[derive(Debug)]
pub(super) struct Table {
    header: bool,
    details: bool,
    oneline: bool,
    /// Of both queues, local and peer addresses, and services.
    widths: [usize; 5],
    /// Something was written.
    is_fixed: bool,
}

impl Table {
    fn new(options: &Ss) -> Self {
        Self { header: !options.no_header, details: !options.brief, oneline: options.oneline, ..Self::brief() }
    }

    /// Only the columns.
    pub(super) fn brief() -> Self {
        let widths = NAMES.map(str::len);
        Self { header: true, details: false, oneline: false, widths, is_fixed: false }
    }

    pub(super) fn widen(&mut self, socket: &Socket) {
        for (width, cell) in self.widths.iter_mut().zip(cells(socket)) {
            *width = cell.len().max(*width);
        }
    }

    pub(super) fn header(&self) -> String {
        if !self.header {
            return String::new();
        }
        format!("{:<10} {} Shard Id\n", "State", self.line(NAMES.map(str::to_owned)))
    }

    fn line(&self, cells: [String; 5]) -> String {
        let columns = cells.into_iter().zip(self.widths).map(|(cell, width)| format!("{cell:<width$}"));
        columns.collect::<Vec<_>>().join(" ")
    }

    pub(super) fn row(&self, socket: &Socket) -> String {
        let shard = socket.shard.map_or_else(|| "*".to_owned(), |shard| shard.to_string());
        let mut row = format!("{:<10} {} {shard:<5} {}", socket.state.name(), self.line(cells(socket)), socket.id);
        let details = if self.details { details(socket) } else { String::new() };
        if !details.is_empty() {
            let _ = write!(row, "{}{details}", if self.oneline { " " } else { "\n\t " });
        }
        row.push('\n');
        row
    }
}

fn cells(socket: &Socket) -> [String; 5] {
    let address = |address: std::net::SocketAddr| match (address.ip().is_unspecified(), address.port()) {
        (true, 0) => "*:*".to_owned(),
        (true, port) => format!("*:{port}"),
        _ => address.to_string(),
    };
    let service = socket.service.clone().unwrap_or_else(|| "-".to_owned());
    [socket.recv_q.to_string(), socket.send_q.to_string(), address(socket.local), address(socket.peer), service]
}

/// What there is to know, in the words of `ss` and in their order. Segments are of MSS octets.
fn details(socket: &Socket) -> String {
    let Some(info) = &socket.info else { return String::new() };
    let mut words = Vec::new();
    let mut say = |word: String| words.push(word);
    estimates(socket, info, &mut say);
    amounts(socket, info, &mut say);
    limits(info, &mut say);
    losses(info, &mut say);
    say(format!("rcv_space:{}", info.receive_buffer));
    if info.not_sent > 0 {
        say(format!("notsent:{}", info.not_sent));
    }
    if let Some(min_rtt) = info.min_rtt {
        say(format!("minrtt:{}", millis(min_rtt)));
    }
    say(format!("snd_wnd:{} rcv_wnd:{}", info.send_window, info.receive_window));
    words.join(" ")
}

/// What was agreed on, and what is thought of the path.
fn estimates(socket: &Socket, info: &Info, say: &mut impl FnMut(String)) {
    for (on, word) in [(info.timestamps, "ts"), (info.sack, "sack")] {
        if on {
            say(word.to_owned());
        }
    }
    say(info.congestion.to_string());
    let (peers, ours) = info.window_shifts;
    if (peers, ours) != (0, 0) {
        say(format!("wscale:{peers},{ours}"));
    }
    say(format!("rto:{}", millis(info.rto)));
    if info.backoffs > 0 {
        say(format!("backoff:{}", info.backoffs));
    }
    if let Some(srtt) = info.srtt {
        say(format!("rtt:{}/{}", millis(srtt), millis(info.rttvar)));
    }
    say(format!("mss:{} pmtu:{} advmss:{}", info.mss, socket.pmtu, info.receive_mss));
    let mss = info.mss.max(1);
    say(format!("cwnd:{}", (info.cwnd / mss).max(1)));
    if info.ssthresh != u32::MAX {
        say(format!("ssthresh:{}", (info.ssthresh / mss).max(1)));
    }
}

/// How much was sent and received, how fast and when.
fn amounts(socket: &Socket, info: &Info, say: &mut impl FnMut(String)) {
    for (octets, word) in [
        (info.bytes_sent, "bytes_sent"),
        (info.bytes_resent, "bytes_retrans"),
        (info.bytes_acked, "bytes_acked"),
        (info.bytes_received, "bytes_received"),
    ] {
        if octets > 0 {
            say(format!("{word}:{octets}"));
        }
    }
    if let Some(srtt) = info.srtt.filter(|srtt| !srtt.is_zero()) {
        say(format!("send {:.0}bps", f64::from(info.cwnd) * 8e9 / srtt.as_nanos() as f64));
    }
    for (since, word) in [(socket.last_sent, "lastsnd"), (socket.last_received, "lastrcv")] {
        if let Some(since) = since {
            say(format!("{word}:{}", since.as_millis()));
        }
    }
    if let Some(rate) = info.delivery_rate {
        say(format!("delivery_rate {}bps", rate.saturating_mul(8)));
    }
    if info.delivery_app_limited {
        say("app_limited".to_owned());
    }
}

/// What is on its way, and what became of it.
fn losses(info: &Info, say: &mut impl FnMut(String)) {
    let segments = |octets: u32| octets.div_ceil(info.mss.max(1));
    if info.flight > 0 {
        say(format!("unacked:{}", segments(info.flight)));
    }
    if info.retransmits > 0 {
        say(format!("retrans:{}/{}", segments(info.resent), info.retransmits));
    }
    for (octets, word) in [(info.lost, "lost"), (info.sacked, "sacked")] {
        if octets > 0 {
            say(format!("{word}:{}", segments(octets)));
        }
    }
    if info.recovery.dsacks > 0 {
        say(format!("dsack_dups:{}", info.recovery.dsacks));
    }
    if info.reordering_seen {
        say("reord_seen:1".to_owned());
    }
}

/// For how long the sender was busy, and what part of that it was held up.
fn limits(info: &Info, say: &mut impl FnMut(String)) {
    if info.busy.is_zero() {
        return;
    }
    say(format!("busy:{}ms", info.busy.as_millis()));
    for (time, word) in [(info.rwnd_limited, "rwnd_limited"), (info.sndbuf_limited, "sndbuf_limited")] {
        if !time.is_zero() {
            let part = time.as_nanos() as f64 * 100.0 / info.busy.as_nanos() as f64;
            say(format!("{word}:{}ms({part:.1}%)", time.as_millis()));
        }
    }
}

/// Milliseconds, to the microsecond, without zeros at the end.
fn millis(time: tcp::Duration) -> String {
    let text = format!("{:.3}", time.as_nanos() as f64 / 1e6);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// How many there are, by state and shard: gauges of the shards.
fn summary(client: &mut Client, json: bool) -> Result<String, Error> {
    let mut rows = Vec::new();
    client.ask(Ask::Stats, |answer| {
        match answer {
            Answer::Shard { shard, counters } => rows.push((shard.to_string(), Gauges::read(&counters))),
            Answer::Total { counters } => rows.push(("all".to_owned(), Gauges::read(&counters))),
            _ => {}
        }
        Ok(())
    })?;
    let mut text = String::new();
    if json {
        for (shard, gauges) in &rows {
            let Gauges { open, half_open, connecting, orphans, time_wait } = gauges;
            let row = serde_json::json!({
                "shard": shard, "estab": open, "synrecv": half_open, "synsent": connecting, "orphaned": orphans,
                "timewait": time_wait,
            });
            let _ = writeln!(text, "{row}");
        }
        return Ok(text);
    }
    let _ = writeln!(
        text,
        "{:<6} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "Shard", "TCP", "estab", "synrecv", "synsent", "orphaned", "timewait"
    );
    for (shard, gauges) in rows {
        let Gauges { open, half_open, connecting, orphans, time_wait } = gauges;
        let tcp = open + half_open + connecting + time_wait;
        let _ =
            writeln!(text, "{shard:<6} {tcp:>8} {open:>8} {half_open:>8} {connecting:>8} {orphans:>8} {time_wait:>8}");
    }
    Ok(text)
}

/// How many of each there are now.
#[derive(Debug, PartialEq, Eq)]
struct Gauges {
    /// In any state from ESTABLISHED on but TIME-WAIT.
    open: u64,
    /// SYN-RECEIVED.
    half_open: u64,
    /// SYN-SENT.
    connecting: u64,
    orphans: u64,
    time_wait: u64,
}

impl Gauges {
    fn read(counters: &serde_json::Value) -> Self {
        let number = |name: &str| counters.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let (half_open, connecting) = (number("half_open"), number("connecting"));
        Self {
            open: number("connections").saturating_sub(half_open),
            half_open: half_open.saturating_sub(connecting),
            connecting,
            orphans: number("orphans"),
            time_wait: number("time_wait"),
        }
    }
}

#[cfg(test)]
#[path = "ss_tests.rs"]
mod tests;
