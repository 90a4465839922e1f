//! Our stack beside another one, script by script, up to the first difference.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use super::classes::{Class, Difference, Other};
use super::facts::Facts;
use super::kernel::Kernel;
use super::ours::Ours;
use super::run;
use super::script::Script;
use super::smol::Smol;

/// Seeds of an ordinary run.
const SEEDS: u64 = 4_000;
/// Others that have the classes which are rare.
const RARE: &[u64] = &[4_796, 12_770, 54_731, 90_918, 5_916, 4_569, 33_291];
const SOAK: u64 = 100_000;
/// Scripts on the kernel, so many at a time.
const KERNEL: u64 = 40_000;
const BATCH: usize = 4_000;
/// This many differences are told in full.
const TOLD: usize = 5;

/// What must occur so that no excuse outlives its reason.
#[derive(Clone, Copy, PartialEq, Eq)]
enum All {
    No,
    Classes,
    /// Each set of facts of each class.
    Facts,
}

/// What came out.
#[derive(Default)]
struct Tally {
    same: usize,
    /// Steps that were compared, and what all scripts have.
    compared: usize,
    steps: usize,
    /// Scripts with differences of a known kind, and how often each occurred.
    differ: usize,
    classes: BTreeMap<(&'static str, String), usize>,
    /// Differences without a class, as text.
    unknown: Vec<String>,
}

/// `TRUST_DIFFERENTIAL_SEED=7` or `=10000..20000` takes other seeds; nothing must occur in them. `TRUST_DIFFERENTIAL_ALL=1` tells more.
fn seeds(ordinary: Range<u64>, all: All) -> (Range<u64>, All) {
    let Ok(given) = std::env::var("TRUST_DIFFERENTIAL_SEED") else { return (ordinary, all) };
    let number = |text: &str| text.parse().expect("TRUST_DIFFERENTIAL_SEED is a number or two with .. between");
    let range = match given.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&given)..number(&given) + 1,
    };
    (range, All::No)
}

/// A script up to the difference, in a form that says everything about it.
fn tell(other: Other, script: &Script, ours: &[Facts], theirs: &[Facts], at: usize) -> String {
    let mut out = format!(
        "TRUST_DIFFERENTIAL_SEED={}: {other:?}, irs {:#x}{}{}\n",
        script.seed,
        script.irs,
        if script.sack { ", SACK" } else { "" },
        if script.timestamps { ", timestamps" } else { "" },
    );
    for i in 0..=at {
        let step = match i.checked_sub(1) {
            None => "SYN".to_owned(),
            Some(i) => run::line(&script.steps[i], &ours[i]),
        };
        let _ = writeln!(out, "  {step:<50} {}", ours[i].line());
    }
    let _ = writeln!(out, "  theirs: {:<42} {}", "", theirs[at].line());
    if at > 0 {
        let difference = Difference::new(script, ours, theirs, at);
        let _ = writeln!(out, "  {} in {:?}", ours[at].differing(&theirs[at]), difference.story);
    }
    out
}

impl Tally {
    /// Takes a script; whether it is known what it does.
    fn take(&mut self, other: Other, script: &Script, theirs: &[Facts]) -> bool {
        let ours = run::run(script, &mut Ours::new(script.seed));
        self.steps += script.steps.len();
        let mut differs = false;
        for at in 0..ours.len() {
            if ours[at] == theirs[at] {
                self.compared += usize::from(at > 0);
                continue;
            }
            let class = (at > 0).then(|| Class::of(other, &Difference::new(script, &ours, theirs, at))).flatten();
            let Some(class) = class else {
                self.unknown.push(tell(other, script, &ours, theirs, at));
                return false;
            };
            *self.classes.entry((class.name, ours[at].differing(&theirs[at]))).or_default() += 1;
            self.differ += usize::from(!differs);
            differs = true;
            if class.parted || (Facts { acks: false, ..ours[at] }) != (Facts { acks: false, ..theirs[at] }) {
                return true;
            }
            self.compared += 1;
        }
        self.same += usize::from(!differs);
        true
    }

    fn judge(mut self, other: Other, all: All) -> Result<(), String> {
        println!(
            "{other:?}: {} scripts agree, {} differ as known, {} otherwise; {} of {} steps compared",
            self.same,
            self.differ,
            self.unknown.len(),
            self.compared,
            self.steps
        );
        let tell_all = std::env::var_os("TRUST_DIFFERENTIAL_ALL").is_some();
        for ((name, facts), count) in self.classes.iter().filter(|_| tell_all) {
            println!("  {count:>6} {name}: {facts}");
        }
        let unknown = self.unknown.len();
        if !tell_all {
            self.unknown.truncate(TOLD);
        }
        let mut out = self.unknown.concat();
        if unknown > 0 {
            let _ = writeln!(out, "{unknown} differences are of no class of tests/differential/classes");
        }
        for class in other.classes().iter().filter(|_| all != All::No) {
            let seen: Vec<_> =
                self.classes.keys().filter(|(name, _)| *name == class.name).map(|(_, facts)| &**facts).collect();
            let missing = class.facts.iter().filter(|facts| !seen.contains(facts)).count();
            if seen.is_empty() || (missing > 0 && all == All::Facts) {
                let _ = writeln!(out, "`{}` is to be removed or to say less: seen was only {seen:?}", class.name);
            }
        }
        if out.is_empty() { Ok(()) } else { Err(out) }
    }
}

pub(crate) fn smoltcp(soak: bool) -> Result<(), String> {
    let (seeds, all) = if soak { seeds(0..SOAK, All::Facts) } else { seeds(0..SEEDS, All::Classes) };
    let rare = RARE.iter().copied().filter(|seed| all == All::Classes && !seeds.contains(seed));
    let mut tally = Tally::default();
    for seed in seeds.clone().chain(rare) {
        let script = Script::random(seed);
        let theirs = run::run(&script, &mut Smol::new(seed));
        tally.take(Other::Smoltcp, &script, &theirs);
    }
    tally.judge(Other::Smoltcp, all)
}

/// Its time is real, and others use the machine, too: what is of no class must happen again to count.
pub(crate) fn kernel() -> Result<(), String> {
    // What depends on real time is not the same each time.
    let (seeds, all) = seeds(0..KERNEL, All::Classes);
    let mut kernel = Kernel::new()?;
    let mut tally = Tally::default();
    let mut doubtful = Vec::new();
    let scripts: Vec<_> = seeds.map(Script::random).collect();
    for batch in scripts.chunks(kernel.at_once(BATCH)) {
        for (script, theirs) in batch.iter().zip(kernel.run(batch)) {
            if !tally.take(Other::Kernel, script, &theirs) {
                doubtful.push(script.clone());
            }
        }
    }
    tally.unknown.clear();
    for batch in doubtful.chunks(kernel.at_once(BATCH)) {
        for (script, theirs) in batch.iter().zip(kernel.run(batch)) {
            tally.take(Other::Kernel, script, &theirs);
        }
    }
    println!("{} scripts were run again", doubtful.len());
    tally.judge(Other::Kernel, all).unwrap_or_else(|why| panic!("{why}"));
    Ok(())
}
