//! The table: measured again and compared with the committed one.
//!
//! Not the whole product of all properties but one sweep for each: loss at a queue of one bandwidth-delay product (BDP),
//! depth of the queue without loss, reordering without loss. A run takes long enough for some dozens of loss events where
//! the path is full, and lossy rows are averages over three seeds.

use std::fmt::Write as _;
use std::path::Path as FilePath;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::{env, fs, thread};

use trust::tcp::CongestionControl::{self, Cubic, Reno};
use trust::tcp::Duration;

use crate::odd;
use crate::path::{Course, Flow, Path, Sender, ours};

/// Round trip in ms, rate in octets per second, and length of a run in s. The BDP is 8, 42, 83 and 167 packets.
pub const LINKS: [(u64, u64, u64); 4] =
    [(1, 12_500_000, 4), (10, 6_250_000, 10), (50, 2_500_000, 20), (200, 1_250_000, 60)];
/// Of a million.
pub const LOSSES: [u32; 5] = [0, 100, 1_000, 10_000, 20_000];

/// Runs `work` for each of `jobs` on all cores. Results are in the order of the jobs.
pub fn each<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(jobs.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { break };
                    let result = work(job);
                    results.lock().unwrap().push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// What several tests want to know and only the first that asks has measured.
struct Measured<K, V>(Mutex<Vec<(K, Arc<OnceLock<V>>)>>);

impl<K: PartialEq, V: Clone> Measured<K, V> {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Whoever asks for what another is measuring waits for it.
    fn get(&self, key: K, measure: impl FnOnce() -> V) -> V {
        let place = {
            let mut known = self.0.lock().unwrap();
            let index = known.iter().position(|(of, _)| *of == key).unwrap_or_else(|| {
                known.push((key, Arc::default()));
                known.len() - 1
            });
            Arc::clone(&known[index].1)
        };
        place.get_or_init(measure).clone()
    }
}

/// What one sender made of a path.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Of the rate, in 1/1000.
    pub goodput: u64,
    /// Payload sent again, of all payload sent, in 1/1000.
    pub resent: u64,
    /// Payload sent, of the payload received, in 1/1000.
    pub spent: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
}

/// Measures one sender over `seconds`, averaged over the seeds.
pub fn measure(path: &Path, sender: Sender, seconds: u64, seeds: u64) -> Cell {
    let flows = (1..=seeds).map(|seed| Course::new(seed, path, &[sender]).run(Duration::from_secs(seconds))[0]);
    sum(path, seconds * 1_000, flows)
}

/// Flows over `path` that were measured for `span` ms each, as one.
pub fn sum(path: &Path, span: u64, flows: impl IntoIterator<Item = Flow>) -> Cell {
    let (mut seeds, mut received, mut sent, mut again, mut timeouts) = (0, 0, 0, 0, 0);
    for flow in flows {
        seeds += 1;
        received += flow.received;
        sent += flow.sent.octets;
        again += flow.sent.octets - flow.sent.fresh;
        timeouts += flow.info.map_or(0, |info| info.timeouts);
    }
    let rate = path.policer.map_or(path.rate.unwrap_or(1), |(rate, _)| rate);
    Cell {
        goodput: received * 1_000 / (rate * span / 1_000 * seeds),
        resent: again * 1_000 / sent.max(1),
        spent: sent * 1_000 / received.max(1),
        timeouts,
    }
}

/// Who sends in a row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Ours, with that controller.
    Ours(CongestionControl),
    /// smoltcp.
    Rival,
}

/// Jain's index of two shares, in 1/1000.
pub fn jain(flows: &[Flow]) -> u64 {
    let sum: u128 = flows.iter().map(|flow| u128::from(flow.received)).sum();
    let squares: u128 = flows.iter().map(|flow| u128::from(flow.received).pow(2)).sum();
    (sum * sum * 1_000 / (flows.len() as u128 * squares).max(1)) as u64
}

/// A percentage of something in 1/1000.
pub fn percent(thousandths: u64) -> String {
    format!("{}.{}", thousandths / 10, thousandths % 10)
}

/// A path of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// One of [`LINKS`].
    pub link: (u64, u64, u64),
    /// Queue in half bandwidth-delay products.
    pub halves: u64,
    /// Packets lost, of a million.
    pub loss: u32,
    /// Packets held back, of a million.
    pub reorder: u32,
    /// Whether a policer takes half of the rate.
    pub policed: bool,
}

impl Row {
    fn path(&self) -> Path {
        let (rtt, rate, _) = self.link;
        let policer = self.policed.then_some((rate / 2, rate / 2 / 10));
        let path = Path::bottleneck(Duration::from_millis(rtt), rate, self.halves);
        Path { loss: self.loss, reorder: self.reorder, policer, ..path }
    }

    /// In how many seeds it is measured.
    pub fn seeds(&self) -> u64 {
        if self.loss + self.reorder > 0 { 3 } else { 1 }
    }

    /// Whether other stacks are measured, too.
    fn rival(&self) -> bool {
        self.halves == 2 && self.reorder == 0 && !self.policed
    }

    /// What `who` makes of it in the first `seeds` seeds.
    pub fn cell(&self, who: Who, seeds: u64) -> Cell {
        static FLOWS: Measured<(Row, Who, u64), Flow> = Measured::new();
        let (path, seconds) = (self.path(), self.link.2);
        let sender = match who {
            Who::Ours(control) => ours(control),
            Who::Rival => Sender::Smoltcp(Reno),
        };
        let flow = |seed| Course::new(seed, &path, &[sender]).run(Duration::from_secs(seconds))[0];
        sum(&path, seconds * 1_000, (1..=seeds).map(|seed| FLOWS.get((*self, who, seed), || flow(seed))))
    }
}

/// The rows with random loss, and those of the same links without.
pub fn lossy_rows() -> Vec<Row> {
    let row = |link, loss| Row { link, halves: 2, loss, reorder: 0, policed: false };
    LINKS.into_iter().flat_map(|link| LOSSES.map(|loss| row(link, loss))).collect()
}

fn rows() -> Vec<Row> {
    let row = |link| Row { link, halves: 2, loss: 0, reorder: 0, policed: false };
    let mut rows = lossy_rows();
    for link in LINKS {
        rows.extend([1, 8].map(|halves| Row { halves, ..row(link) }));
    }
    rows.extend(LINKS.map(|link| Row { reorder: 50_000, ..row(link) }));
    rows.push(Row { policed: true, ..row(LINKS[2]) });
    rows
}

const HEAD: &str = "\
# Goodput

Written by `TRUST_BLESS=1 cargo test --features sim --test goodput`, and compared without `TRUST_BLESS=1`. One bulk transfer
from shard to shard over a bottleneck with a drop-tail queue; virtual time, fixed seeds.

* Goodput: octets that the receiving application got from the start on, slow start included, in percent of the rate of
  the bottleneck (of the policer where there is one). Headers alone leave 96.5.
* Resent: payload sent again, in percent of all payload sent. RTOs: how often the retransmission timer fired.
* Queue in BDP (rate times round trip). Loss is random, behind the queue. Reordered: held back until 1 to 3 others have
  passed. Rows with loss or reordering are sums over three seeds.
* smoltcp: the goodput of smoltcp 0.12 as sender to the same receiver, with a send buffer of 4 MiB, in one seed. Its
  choice of algorithm changes nothing: its window bounds one burst, not what is in flight, and it resends from the hole on.

| RTT ms | Mbit/s | queue | loss % | reordered % | Reno | resent | RTOs | CUBIC | resent | RTOs | smoltcp | resent |
| --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |
";

const FAIR: &str = "
Two flows over one bottleneck of 20 Mbit/s with a queue of one BDP, for 120 s; shares of the second half in percent of the
rate, and Jain's index.

| RTT ms | first | second | first % | second % | Jain |
| --: | --- | --- | --: | --: | --: |
";

pub fn name(control: CongestionControl) -> &'static str {
    match control {
        Reno => "Reno",
        Cubic => "CUBIC",
    }
}

/// Two flows for a minute, and how they shared the next.
pub fn share(rtt: u64, pair: [CongestionControl; 2]) -> Vec<Flow> {
    static FLOWS: Measured<(u64, [CongestionControl; 2]), Vec<Flow>> = Measured::new();
    FLOWS.get((rtt, pair), || {
        let path = Path::bottleneck(Duration::from_millis(rtt), 2_500_000, 2);
        let mut course = Course::new(1, &path, &pair.map(ours));
        course.run(Duration::from_secs(60));
        course.run(Duration::from_secs(60))
    })
}

fn table() -> String {
    let rows = rows();
    let jobs: Vec<(&Row, Who)> = rows
        .iter()
        .flat_map(|row| {
            let rival = row.rival().then_some((row, Who::Rival));
            [Some((row, Who::Ours(Reno))), Some((row, Who::Ours(Cubic))), rival].into_iter().flatten()
        })
        .collect();
    let mut cells =
        each(&jobs, |(row, who)| row.cell(*who, if *who == Who::Rival { 1 } else { row.seeds() })).into_iter();
    let mut out = HEAD.to_owned();
    for row in &rows {
        let (rtt, rate, _) = row.link;
        let rate =
            if row.policed { format!("{}, policed to half", rate / 125_000) } else { (rate / 125_000).to_string() };
        let loss = format!("{}.{:02}", row.loss / 10_000, row.loss / 100 % 100);
        write!(out, "| {rtt} | {rate} | {} | {loss} | {} ", percent(row.halves * 5), row.reorder / 10_000).unwrap();
        for _ in 0..2 {
            let cell = cells.next().unwrap();
            write!(out, "| {} | {} | {} ", percent(cell.goodput), percent(cell.resent), cell.timeouts).unwrap();
        }
        if row.rival() {
            let cell = cells.next().unwrap();
            writeln!(out, "| {} | {} |", percent(cell.goodput), percent(cell.resent)).unwrap();
        } else {
            out.push_str("| | |\n");
        }
    }
    out.push_str(FAIR);
    let pairs =
        [(10, [Reno, Reno]), (10, [Cubic, Cubic]), (50, [Reno, Reno]), (50, [Cubic, Cubic]), (50, [Reno, Cubic])];
    for ((rtt, [first, second]), flows) in pairs.iter().zip(each(&pairs, |(rtt, pair)| share(*rtt, *pair))) {
        let shares: Vec<_> = flows.iter().map(|flow| percent(flow.received / (2_500 * 60))).collect();
        let index = jain(&flows);
        let (first, second) = (name(*first), name(*second));
        let index = format!("{}.{:03}", index / 1_000, index % 1_000);
        writeln!(out, "| {rtt} | {first} | {second} | {} | {} | {index} |", shares[0], shares[1]).unwrap();
    }
    out + &odd::table()
}

#[test]
fn the_table_is_what_is_measured() {
    // The package of the tools has this test, too, from its own folder.
    let is_here = |folder: &&FilePath| folder.join("tests/goodput").is_dir();
    let top = FilePath::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(is_here).unwrap();
    let file = top.join("tests/goodput/table.md");
    let measured = table();
    if env::var_os("TRUST_BLESS").is_some_and(|bless| bless == "1") {
        return fs::write(file, measured).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    let mut difference = String::new();
    let (mut old, mut new) = (committed.lines(), measured.lines());
    loop {
        match (old.next(), new.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => {
                for (sign, line) in [('-', a), ('+', b)] {
                    line.map(|line| writeln!(difference, "{sign}{line}"));
                }
            }
        }
    }
    assert!(
        difference.is_empty(),
        "goodput is not what tests/goodput/table.md says:\n{difference}\
         If that is meant, `TRUST_BLESS=1 cargo test --features sim --test goodput` writes the new table."
    );
}
