//! What a run of many worlds has reached, in figures.

use std::fmt;

use trust::tcp::Info;

/// Width of a class of octets moved.
const CLASS: u64 = 64 << 10;

/// See the module. Its size does not depend on how many worlds there were.
#[derive(Debug, Default)]
pub struct Coverage {
    worlds: u64,
    octets: u64,
    /// How many worlds moved so many times [`CLASS`] octets.
    classes: Vec<u64>,
    pub steps: u64,
    pub wrapped: u64,
    pub closed_window: u64,
    pub aborted: u64,
    /// Name, in how many worlds, how often in all.
    counts: Vec<(&'static str, u64, u64)>,
}

impl Coverage {
    pub fn add_world(&mut self, octets: u64) {
        self.worlds += 1;
        self.octets += octets;
        self.add_class((octets / CLASS) as usize, 1);
    }

    fn add_class(&mut self, class: usize, worlds: u64) {
        if self.classes.len() <= class {
            self.classes.resize(class + 1, 0);
        }
        self.classes[class] += worlds;
    }

    /// Counts of one world, over all its connections.
    pub fn add_infos<'a>(&mut self, infos: impl Iterator<Item = &'a Info>) {
        const NAMES: [&str; 14] = [
            "retransmissions",
            "retransmission timeouts",
            "fast recoveries",
            "partial acknowledgments (SACK)",
            "partial acknowledgments (NewReno)",
            "retransmissions lost (RACK)",
            "reordering timeouts (RACK)",
            "tail loss probes",
            "recoveries held to a rate (PRR)",
            "duplicates reported (DSACK)",
            "undone by F-RTO",
            "undone by Eifel",
            "undone by DSACK",
            "dropped as old (PAWS)",
        ];
        let mut sums = [0; NAMES.len()];
        for info in infos {
            let counts = &info.recovery;
            let of = [
                counts.fast_recoveries,
                if info.sack { counts.partial_acks } else { 0 },
                if info.sack { 0 } else { counts.partial_acks },
                counts.lost_retransmissions,
                counts.reordering_timeouts,
                counts.tail_probes,
                counts.rate_limited,
                counts.dsacks,
                counts.undone_by_frto,
                counts.undone_by_eifel,
                counts.undone_by_dsack,
            ];
            let all = [info.retransmits, info.timeouts].into_iter().chain(of.map(u64::from)).chain([info.paws_drops]);
            sums.iter_mut().zip(all).for_each(|(sum, count)| *sum += count);
        }
        for (name, count) in NAMES.into_iter().zip(sums) {
            self.add(name, count);
        }
    }

    /// Counts one world in which something happened `times` times.
    pub fn add(&mut self, name: &'static str, times: u64) {
        self.count(name, u64::from(times > 0), times);
    }

    fn count(&mut self, name: &'static str, worlds: u64, times: u64) {
        match self.counts.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, in_worlds, in_all)) => (*in_worlds, *in_all) = (*in_worlds + worlds, *in_all + times),
            None => self.counts.push((name, worlds, times)),
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.octets += other.octets;
        for (class, worlds) in other.classes.into_iter().enumerate() {
            self.add_class(class, worlds);
        }
        self.steps += other.steps;
        self.wrapped += other.wrapped;
        self.closed_window += other.closed_window;
        self.aborted += other.aborted;
        for (name, worlds, times) in other.counts {
            self.count(name, worlds, times);
        }
    }

    pub fn worlds(&self) -> u64 {
        self.worlds
    }

    /// Octets moved in the median world, rounded down to a class.
    pub fn median(&self) -> u64 {
        let mut below = 0;
        let class = self.classes.iter().position(|worlds| {
            below += worlds;
            2 * below > self.worlds
        });
        class.unwrap_or(0) as u64 * CLASS
    }

    /// In how many worlds something happened.
    pub fn in_worlds(&self, name: &str) -> u64 {
        self.counts.iter().find(|(known, ..)| *known == name).map_or(0, |(_, worlds, _)| *worlds)
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let worlds = self.worlds();
        let share = |count: u64| format!("{:.1} %", 100.0 * count as f64 / worlds.max(1) as f64);
        writeln!(f, "{:<36} {worlds}", "worlds")?;
        writeln!(f, "{:<36} {}", "events", self.steps)?;
        writeln!(f, "{:<36} {}", "octets moved", self.octets)?;
        writeln!(f, "{:<36} {}", "octets moved, median", self.median())?;
        for (name, count) in [
            ("passed sequence number 2^32", self.wrapped),
            ("closed a window", self.closed_window),
            ("aborted", self.aborted),
        ] {
            writeln!(f, "{name:<36} {count} worlds, {}", share(count))?;
        }
        for (name, in_worlds, in_all) in &self.counts {
            writeln!(f, "{name:<36} {in_worlds} worlds, {}; {in_all} in all", share(*in_worlds))?;
        }
        Ok(())
    }
}
