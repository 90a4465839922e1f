//! The plan of a comparison: which sides and rows under which conditions, how often, and in which order.

use super::peers::Peer;
use super::row::Row;
use serde::{Deserialize, Serialize};

/// What serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The engine, with these further words for `trust serve`.
    Engine(Vec<String>),
    /// The kernel's TCP in a second namespace behind a veth pair.
    Kernel,
    /// The stand-in without any TCP, in this shape.
    Ceiling(String),
    /// Another stack.
    Peer(Peer),
}

/// A side and what tables and `--sides` call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contestant {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

impl Contestant {
    /// A side by its name.
    #[must_use]
    pub fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_string(), kind }
    }

    /// Whether `--sides WORD` means this one: a part of its name, or a group.
    #[must_use]
    pub fn answers_to(&self, word: &str) -> bool {
        let group = match self.kind {
            Kind::Engine(_) => "engine",
            Kind::Kernel => "kernel",
            Kind::Ceiling(_) => "ceiling",
            Kind::Peer(_) => "peers",
        };
        word == group || self.name == word || (word.len() > 2 && self.name.contains(word))
    }

    /// Whether it has what a row needs: stand-ins and peers run no applications, and echo no more than a window.
    #[must_use]
    pub fn has(&self, row: Row) -> bool {
        matches!(self.kind, Kind::Engine(_) | Kind::Kernel)
            || Row::STANDARD.iter().any(|standard| standard.mode() == row.mode() && !row.is_through_sockets())
    }

    /// Whether it is one of ours without TCP.
    #[must_use]
    pub fn is_ceiling(&self) -> bool {
        matches!(self.kind, Kind::Ceiling(_))
    }
}

/// Conditions that are equal on all sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// MTU of TUN and veth.
    pub mtu: u32,
    /// Whether the device may segment and checksum (TSO on veth, vnet header on TUN).
    pub offload: bool,
    /// Whether the scheduler may move the client, and the kernel's server; else each has a CPU.
    pub roaming: bool,
    /// Congestion control of every kernel socket; `None`: the kernel's default.
    pub congestion: Option<String>,
    /// Root of a user namespace only, which may not call bpf(2), as `./run.sh` of a normal user.
    pub rootless: bool,
}

impl Conditions {
    /// What peers are measured under, and all else unless told: the usual MTU, offload, a CPU each, Reno.
    #[must_use]
    pub fn usual() -> Self {
        Self { mtu: 1500, offload: true, roaming: false, congestion: Some("reno".to_string()), rootless: false }
    }

    /// In a few words.
    #[must_use]
    pub fn told(&self) -> String {
        format!(
            "MTU {}, offload {}, client {}, congestion control {}{}",
            self.mtu,
            if self.offload { "on" } else { "off" },
            if self.roaming { "roaming" } else { "pinned" },
            self.congestion.as_deref().unwrap_or("the kernel's default"),
            if self.rootless { ", rootless (no bpf(2))" } else { "" }
        )
    }
}

/// Conditions with the sides and rows that are measured under them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The conditions.
    pub conditions: Conditions,
    /// Who is compared.
    pub sides: Vec<Contestant>,
    /// In what.
    pub rows: Vec<Row>,
    /// How often.
    pub rounds: usize,
}

/// A comparison from its begin to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `full`, `quick` or `selected`: what runs are compared with in the history.
    pub name: String,
    /// All that is measured.
    pub settings: Vec<Setting>,
    /// Seconds that count, for each of our own client's rows.
    pub seconds: f64,
    /// Seconds before them that do not.
    pub warmup: f64,
    /// Seconds between rows, in which ports and queues come to rest.
    pub pause: f64,
    /// Whole seconds of each iperf3 row.
    pub iperf_seconds: u64,
    /// Keep idle CPUs from halting.
    pub spin: bool,
}

/// A side that is started once and measured in all rows of its setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Index of the setting.
    pub setting: usize,
    /// Round, from 0.
    pub round: usize,
    /// Index of the side in its setting.
    pub side: usize,
}

impl Plan {
    /// All units in order: round by round; in each all settings; in each of those all sides, another one first in each
    /// round. What drifts in the machine meets all sides alike, and a run that is cut short has something of everything.
    #[must_use]
    pub fn units(&self) -> Vec<Unit> {
        let rounds = self.settings.iter().map(|setting| setting.rounds).max().unwrap_or(0);
        let mut units = Vec::new();
        for round in 0..rounds {
            for (index, setting) in self.settings.iter().enumerate().filter(|(_, setting)| round < setting.rounds) {
                let sides = setting.sides.len();
                units.extend((0..sides).map(|turn| Unit { setting: index, round, side: (turn + round) % sides }));
            }
        }
        units
    }

    /// Seconds that a unit takes, about.
    #[must_use]
    pub fn seconds_of(&self, unit: Unit) -> f64 {
        const START: f64 = 0.6;
        const PROCESS: f64 = 0.1;
        let row = |row: &Row| match row.mode() {
            None => self.iperf_seconds as f64 + 3.0 * PROCESS + self.pause,
            Some(_) => self.seconds + self.warmup + PROCESS + self.pause,
        };
        START + self.settings[unit.setting].rows.iter().map(row).sum::<f64>()
    }

    /// Seconds that units take, about.
    #[must_use]
    pub fn duration(&self, units: &[Unit]) -> f64 {
        units.iter().map(|&unit| self.seconds_of(unit)).sum()
    }
}

/// What the engine here can be told, and what this machine allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Words of `trust serve --steer`, but for `auto`.
    pub steering: Vec<String>,
    /// Whether bpf(2) may be called.
    pub bpf: bool,
}

impl Offered {
    /// Reads what `trust serve --help` says of `--steer`.
    #[must_use]
    pub fn from_help(help: &str, bpf: bool) -> Self {
        let words =
            help.split_once("--steer <").and_then(|(_, rest)| rest.split_once('>')).map_or("", |(words, _)| words);
        let needs_bpf = |word: &str| word != "learn";
        let steering = words.split('|').filter(|word| !word.is_empty() && *word != "auto" && (bpf || !needs_bpf(word)));
        Self { steering: steering.map(str::to_string).collect(), bpf }
    }
}

/// What was asked for on the command line.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Less than three minutes.
    pub quick: bool,
    /// Begins of names of rows; empty: those that belong to the setting.
    pub rows: Vec<String>,
    /// Names of sides, parts of them or groups; empty: those that belong to the setting.
    pub sides: Vec<String>,
    /// Rounds of everything.
    pub rounds: Option<usize>,
    /// Seconds of each row.
    pub seconds: Option<f64>,
    /// Conditions; what is empty is as usual, and if all are, the whole list of conditions.
    pub mtu: Vec<u32>,
    /// As `mtu`.
    pub offload: Vec<bool>,
    /// As `mtu`.
    pub roaming: Vec<bool>,
    /// As `mtu`; "default" is the kernel's own.
    pub congestion: Vec<String>,
    /// As `mtu`.
    pub rootless: bool,
    /// Further words for `trust serve`.
    pub serve: Vec<String>,
    /// Let idle CPUs halt.
    pub halt: bool,
}

impl Wanted {
    fn names_conditions(&self) -> bool {
        let lists = self.mtu.is_empty() && self.offload.is_empty() && self.roaming.is_empty();
        !lists || !self.congestion.is_empty() || self.rootless
    }

    /// The plan of all that.
    ///
    /// # Errors
    /// Nothing is left of it; the message says which word meets nothing.
    pub fn plan(&self, offered: &Offered) -> Result<Plan, String> {
        let narrowed = self.names_conditions() || !self.rows.is_empty() || !self.sides.is_empty();
        let mut settings = match (self.quick, narrowed) {
            (_, true) => self.crossed(offered),
            (true, false) => vec![quick(offered)],
            (false, false) => full(offered),
        };
        for setting in &mut settings {
            self.narrow(setting);
        }
        settings.retain(|setting| !setting.rows.is_empty() && !setting.sides.is_empty());
        let side = |word: &&String| !settings.iter().flat_map(|s| &s.sides).any(|side| side.answers_to(word));
        if let Some(word) = self.sides.iter().find(side) {
            return Err(format!("no side is called {word} under these conditions; --list shows them"));
        }
        let row =
            |word: &&String| !settings.iter().flat_map(|s| &s.rows).any(|row| row.name().starts_with(word.as_str()));
        if let Some(word) = self.rows.iter().find(row) {
            return Err(format!("no row is called {word} under these conditions; --list shows them"));
        }
        let narrowed = narrowed || self.rounds.is_some() || self.seconds.is_some() || !self.serve.is_empty();
        Ok(Plan {
            name: if narrowed {
                "selected"
            } else if self.quick {
                "quick"
            } else {
                "full"
            }
            .to_string(),
            settings,
            seconds: self.seconds.unwrap_or(if self.quick { 0.4 } else { 0.8 }),
            warmup: if self.quick { 0.15 } else { 0.25 },
            pause: 0.1,
            iperf_seconds: if self.quick { 1 } else { 2 },
            spin: !self.halt,
        })
    }

    /// Every combination of the conditions that are named.
    fn crossed(&self, offered: &Offered) -> Vec<Setting> {
        let usual = Conditions::usual();
        let or = |given: &[bool], usual: bool| if given.is_empty() { vec![usual] } else { given.to_vec() };
        let mtus = if self.mtu.is_empty() { vec![usual.mtu] } else { self.mtu.clone() };
        let congestion: Vec<Option<String>> = match self.congestion.as_slice() {
            [] => vec![usual.congestion.clone()],
            names => names.iter().map(|name| Some(name.clone()).filter(|name| name != "default")).collect(),
        };
        let mut settings = Vec::new();
        for &mtu in &mtus {
            for &offload in &or(&self.offload, true) {
                for &roaming in &or(&self.roaming, false) {
                    for congestion in &congestion {
                        let congestion = congestion.clone();
                        let rootless = self.rootless || !offered.bpf;
                        let conditions = Conditions { mtu, offload, roaming, congestion, rootless };
                        let sides = sides_of(&conditions, offered);
                        let rows = if self.quick { QUICK.to_vec() } else { Row::STANDARD.to_vec() };
                        settings.push(Setting { conditions, sides, rows, rounds: 5 });
                    }
                }
            }
        }
        settings
    }

    /// Leaves what was named, and adds rows that are only measured when they are.
    fn narrow(&self, setting: &mut Setting) {
        let named = |row: &Row| self.rows.iter().any(|word| row.name().starts_with(word.as_str()));
        if !self.rows.is_empty() {
            setting.rows = Row::STANDARD.into_iter().chain(Row::PROGRAMS).filter(named).collect();
        }
        if !self.sides.is_empty() {
            // Whatever can be measured under these conditions, and not only what the list of settings has there.
            setting.sides.retain(|side| self.sides.iter().any(|word| side.answers_to(word)));
        }
        setting.rounds = self.rounds.unwrap_or(setting.rounds);
        for side in &mut setting.sides {
            if let Kind::Engine(words) = &mut side.kind {
                words.extend(self.serve.iter().cloned());
            }
        }
    }
}

/// The rows of `--quick`.
const QUICK: [Row; 7] = [Row::Up(1), Row::Up(8), Row::Down(1), Row::Rr(1), Row::Rr(32), Row::Cr(1), Row::Cr(64)];

fn trust() -> Contestant {
    Contestant::new("trust", Kind::Engine(Vec::new()))
}

fn kernel() -> Contestant {
    Contestant::new("kernel", Kind::Kernel)
}

/// Each plan with each steering.
fn engines(offered: &Offered, plans: &[&str], steering: impl Fn(&str) -> bool) -> Vec<Contestant> {
    let mut engines = Vec::new();
    for plan in plans {
        for steer in offered.steering.iter().filter(|steer| steering(steer)) {
            let words = ["--plan", plan, "--steer", steer].map(str::to_string).to_vec();
            engines.push(Contestant { name: format!("{plan}-{steer}"), kind: Kind::Engine(words) });
        }
    }
    engines
}

/// The stand-ins that can be had: without bpf(2) packets cannot be steered by CPU.
fn ceilings(bpf: bool) -> Vec<Contestant> {
    let shapes = ["remote", "spread", "local"].into_iter().filter(|shape| bpf || *shape != "local");
    shapes.map(|shape| Contestant::new(&format!("ceiling-{shape}"), Kind::Ceiling(shape.to_string()))).collect()
}

/// All sides there are under these conditions.
fn sides_of(conditions: &Conditions, offered: &Offered) -> Vec<Contestant> {
    let bpf = offered.bpf && !conditions.rootless;
    let engines = engines(offered, &["fused", "pipeline"], |steer| bpf || steer == "learn");
    let mut sides = vec![trust()];
    sides.extend(engines);
    sides.push(kernel());
    sides.extend(ceilings(bpf));
    let (congestion, rootless) = (conditions.congestion.clone(), conditions.rootless);
    let usual = Conditions { congestion, rootless, ..Conditions::usual() };
    if *conditions == usual && (offered.bpf != conditions.rootless) {
        sides.extend(Peer::ALL.into_iter().map(|peer| Contestant::new(peer.name(), Kind::Peer(peer))));
    }
    sides
}

fn few(offered: &Offered, bpf: bool) -> Vec<Contestant> {
    let mut sides = vec![trust(), kernel()];
    sides.extend(ceilings(bpf && offered.bpf));
    sides
}

fn quick(offered: &Offered) -> Setting {
    let conditions = Conditions { rootless: !offered.bpf, ..Conditions::usual() };
    Setting { conditions, sides: few(offered, true), rows: QUICK.to_vec(), rounds: 5 }
}

/// The whole: everybody under the usual conditions, and the engine with its defaults, the kernel and the ceilings under
/// all others. Conditions that differ from the usual ones in more than one point have fewer rounds.
fn full(offered: &Offered) -> Vec<Setting> {
    let usual = Conditions { rootless: !offered.bpf, ..Conditions::usual() };
    let rows = Row::STANDARD.to_vec();
    let mut settings =
        vec![Setting { sides: sides_of(&usual, offered), conditions: usual.clone(), rows: rows.clone(), rounds: 5 }];
    let mut add = |conditions: Conditions, sides: Vec<Contestant>, rounds| {
        settings.push(Setting { conditions, sides, rows: rows.clone(), rounds });
    };
    let default = Conditions { congestion: None, ..usual.clone() };
    add(default, few(offered, true), 5);
    for (mtu, offload, roaming) in [
        (1500, true, true),
        (1500, false, false),
        (1500, false, true),
        (9000, true, false),
        (9000, true, true),
        (9000, false, false),
        (9000, false, true),
    ] {
        let conditions = Conditions { mtu, offload, roaming, ..usual.clone() };
        let apart = [mtu != 1500, !offload, roaming].iter().filter(|&&differs| differs).count();
        let rounds = if apart == 1 { 5 } else { 3 };
        add(conditions, few(offered, true), if roaming && apart == 1 { 7 } else { rounds });
    }
    if offered.bpf {
        add(Conditions { rootless: true, ..usual.clone() }, few(offered, false), 5);
    }
    let first = offered.steering.first().map(String::as_str);
    let pipeline = engines(offered, &["pipeline"], |steer| Some(steer) == first);
    let sides = std::iter::once(trust()).chain(pipeline).chain([kernel()]).collect();
    settings.push(Setting { conditions: usual, sides, rows: Row::PROGRAMS.to_vec(), rounds: 3 });
    settings
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
