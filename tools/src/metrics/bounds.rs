//! The bounds that metrics are held to: a text of rows, each a metric, the most that it may be, and its goal.

use std::fmt;

use super::{Metric, PACKAGES};

/// The table of bounds. A line is a row `metric bound goal`, a comment that begins with `#`, or empty; a bound that is
/// not known yet is `?`.
#[derive(Clone, Debug)]
pub struct Bounds {
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
enum Line {
    Comment(String),
    Row(Row),
}

#[derive(Clone, Debug)]
struct Row {
    name: String,
    /// `None`: not known yet.
    bound: Option<usize>,
    goal: usize,
}

impl Bounds {
    /// Reads the text of a table.
    ///
    /// # Errors
    ///
    /// The first line that is no row, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                lines.push(Line::Comment(line.to_owned()));
                continue;
            }
            let wrong = || format!("line {}: a row is `metric bound goal`: {line}", index + 1);
            let [name, bound, goal] = *line.split_whitespace().collect::<Vec<_>>() else { return Err(wrong()) };
            let bound = if bound == "?" { None } else { Some(bound.parse::<usize>().map_err(|_| wrong())?) };
            let goal = goal.parse::<usize>().map_err(|_| wrong())?;
            lines.push(Line::Row(Row { name: name.to_owned(), bound, goal }));
        }
        Ok(Self { lines })
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.lines.iter().filter_map(|line| match line {
            Line::Row(row) => Some(row),
            Line::Comment(_) => None,
        })
    }

    /// What is wrong, a text each: a bound that is broken with the places that break it, a metric without a row, a row
    /// that nothing measures.
    #[must_use]
    pub fn faults(&self, metrics: &[Metric]) -> Vec<String> {
        let mut faults = Vec::new();
        for metric in metrics {
            let (name, now) = (metric.name(), metric.now());
            match self.rows().find(|row| row.name == name).map(|row| row.bound) {
                None => faults.push(format!("{name} has no row")),
                Some(None) => {
                    faults.push(format!("{name} is {now} and has no bound yet; code-metrics --bless sets it"))
                }
                Some(Some(bound)) if now > bound => {
                    let places: Vec<_> = metric.places_above(bound).map(|place| format!("\n    {place}")).collect();
                    faults.push(format!("{name} is {now} and may be {bound}:{}", places.concat()));
                }
                Some(Some(_)) => {}
            }
        }
        let is_measured = |row: &Row| metrics.iter().any(|metric| metric.name() == row.name);
        let unused = self.rows().filter(|row| !is_measured(row) && row.name != PACKAGES);
        faults.extend(unused.map(|row| format!("nothing measures {}", row.name)));
        faults
    }

    /// Lowers each bound to what its metric is now, or to the goal where that is reached. None is ever raised.
    pub fn bless(&mut self, metrics: &[Metric]) {
        for line in &mut self.lines {
            let Line::Row(row) = line else { continue };
            if let Some(metric) = metrics.iter().find(|metric| metric.name() == row.name) {
                let now = metric.now().max(row.goal);
                row.bound = Some(row.bound.map_or(now, |bound| bound.min(now)));
            }
        }
    }

    /// The rows with what is true now.
    #[must_use]
    pub fn table(&self, metrics: &[Metric]) -> String {
        let mut table = format!("{:<20} {:>6} {:>6} {:>6}\n", "metric", "now", "bound", "goal");
        for row in self.rows() {
            let now = metrics.iter().find(|metric| metric.name() == row.name).map(Metric::now);
            let number = |value: Option<usize>, none: &str| value.map_or(none.to_owned(), |value| value.to_string());
            let (now, bound) = (number(now, "-"), number(row.bound, "?"));
            table += &format!("{:<20} {now:>6} {bound:>6} {:>6}\n", row.name, row.goal);
        }
        table
    }
}

/// The text that [`Bounds::parse`] reads, comments as they were.
impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            match line {
                Line::Comment(text) => writeln!(f, "{text}")?,
                Line::Row(Row { name, bound, goal }) => {
                    let bound = bound.map_or("?".to_owned(), |bound| bound.to_string());
                    writeln!(f, "{name:<20} {bound:>6} {goal:>6}")?;
                }
            }
        }
        Ok(())
    }
}
