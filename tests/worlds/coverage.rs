//! What a run of many worlds has reached, in figures.

use std::fmt;

use trust::tcp::Info;

/// See the module.
#[derive(Debug, Default)]
pub struct Coverage {
    octets: Vec<u64>,
    pub steps: u64,
    pub wrapped: u64,
    pub closed_window: u64,
    pub aborted: u64,
    /// Name, in how many worlds, how often in all.
    counts: Vec<(&'static str, u64, u64)>,
}

impl Coverage {
    pub fn add_world(&mut self, octets: u64) {
        self.octets.push(octets);
    }

    /// Counts of one world, over all its connections.
    pub fn add_infos<'a>(&mut self, infos: impl Iterator<Item = &'a Info>) {
        const NAMES: [&str; 12] = [
            "retransmissions",
            "retransmission timeouts",
            "fast recoveries",
            "partial acknowledgments",
            "retransmissions lost (RACK)",
            "reordering timeouts (RACK)",
            "tail loss probes",
            "recoveries held to a rate (PRR)",
            "duplicates reported (DSACK)",
            "undone by F-RTO",
            "undone by Eifel",
            "undone by DSACK",
        ];
        let mut sums = [0; NAMES.len()];
        for info in infos {
            let counts = &info.recovery;
            let of = [
                counts.fast_recoveries,
                counts.partial_acks,
                counts.lost_retransmissions,
                counts.reordering_timeouts,
                counts.tail_probes,
                counts.rate_limited,
                counts.dsacks,
                counts.undone_by_frto,
                counts.undone_by_eifel,
                counts.undone_by_dsack,
            ];
            let all = [info.retransmits, info.timeouts].into_iter().chain(of.map(u64::from));
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
        self.octets.extend(other.octets);
        self.steps += other.steps;
        self.wrapped += other.wrapped;
        self.closed_window += other.closed_window;
        self.aborted += other.aborted;
        for (name, worlds, times) in other.counts {
            self.count(name, worlds, times);
        }
    }

    pub fn worlds(&self) -> u64 {
        self.octets.len() as u64
    }

    /// Octets moved in the median world.
    pub fn median(&self) -> u64 {
        let mut octets = self.octets.clone();
        octets.sort_unstable();
        octets.get(octets.len() / 2).copied().unwrap_or(0)
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let worlds = self.worlds();
        let share = |count: u64| format!("{:.1} %", 100.0 * count as f64 / worlds.max(1) as f64);
        writeln!(f, "{:<32} {worlds}", "worlds")?;
        writeln!(f, "{:<32} {}", "events", self.steps)?;
        writeln!(f, "{:<32} {}", "octets moved", self.octets.iter().sum::<u64>())?;
        writeln!(f, "{:<32} {}", "octets moved, median", self.median())?;
        for (name, count) in [
            ("passed sequence number 2^32", self.wrapped),
            ("closed a window", self.closed_window),
            ("aborted", self.aborted),
        ] {
            writeln!(f, "{name:<32} {count} worlds, {}", share(count))?;
        }
        for (name, in_worlds, in_all) in &self.counts {
            writeln!(f, "{name:<32} {in_worlds} worlds, {}; {in_all} in all", share(*in_worlds))?;
        }
        Ok(())
    }
}
