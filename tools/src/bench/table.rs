//! What was measured, as Markdown for a terminal.

use super::plan::Kind;
use super::row::Row;
use super::state::{Cell, State};
use super::stats::{figure, spread};

/// A table with its columns aligned; the first line is the head.
#[must_use]
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| lines.iter().filter_map(|l| l.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(text, &w)| format!("{text:<w$}")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        if index == 0 {
            let rules: Vec<String> = widths.iter().map(|w| "-".repeat(w + 2)).collect();
            text.push_str(&format!("|{}|\n", rules.join("|")));
        }
    }
    text
}

/// The heads of [`columns`].
pub const HEAD: [&str; 9] =
    ["row", "side", "unit", "median [least-greatest]", "x kernel", "x ceiling", "p50/p99 us", "CPU server", "CPU all"];

/// What is told of a side in a row; `None`: nothing was tried.
#[must_use]
pub fn columns(state: &State, cell: &Cell) -> Vec<String> {
    let (setting, row) = (cell.setting, cell.row);
    let nothing = || "-".to_string();
    let mut columns = vec![row.name(), cell.side.clone(), row.unit().to_string()];
    let Some(values) = cell.spread() else {
        columns.push("failed".to_string());
        columns.extend((columns.len()..HEAD.len()).map(|_| nothing()));
        return columns;
    };
    let failed = match cell.failures.len() {
        0 => String::new(),
        failures => format!(" ({failures} failed)"),
    };
    let [median, least, greatest] = [values.median, values.least, values.greatest].map(figure);
    columns.push(format!("{median} [{least}-{greatest}]{failed}"));
    for reference in [state.median(setting, row, "kernel"), state.best_ceiling(setting, row)] {
        columns.push(reference.map_or_else(nothing, |reference| format!("{:.2}", values.median / reference)));
    }
    let latency = |which: usize| spread(cell.samples.iter().filter_map(|s| Some(s.latency_us?[which])));
    let latency = latency(0).zip(latency(1));
    columns.push(latency.map_or_else(nothing, |(p50, p99)| format!("{:.0}/{:.0}", p50.median, p99.median)));
    let server = spread(cell.samples.iter().filter_map(|s| Some(s.cpu?.server)));
    let all = spread(cell.samples.iter().filter_map(|s| Some(s.cpu?.all)));
    for cpu in [server, all] {
        columns.push(cpu.map_or_else(nothing, |cpu| format!("{} {}", figure(cpu.median), row.cpu_unit())));
    }
    columns
}

/// All that was measured.
#[must_use]
pub fn tables(state: &State) -> String {
    let mut text = conditions(state);
    for (index, setting) in state.plan.settings.iter().enumerate() {
        let mut lines = vec![HEAD.map(str::to_string).to_vec()];
        for &row in &setting.rows {
            let cells = setting.sides.iter().filter_map(|side| state.cell(index, row, &side.name));
            lines.extend(cells.map(|cell| columns(state, cell)));
        }
        if lines.len() == 1 {
            continue;
        }
        text.push_str(&format!("\n### {}\n\n", told(state, index)));
        text.push_str(&aligned(&lines));
        text.push_str(&through_sockets(state, index));
    }
    text + &failures(state)
}

/// The conditions of a setting, with the congestion control that was in force.
#[must_use]
pub fn told(state: &State, setting: usize) -> String {
    let conditions = &state.plan.settings[setting].conditions;
    match state.congestion.get(setting).map(String::as_str) {
        Some(name) if !name.is_empty() && conditions.congestion.is_none() => format!("{} ({name})", conditions.told()),
        _ => conditions.told(),
    }
}

fn conditions(state: &State) -> String {
    let plan = &state.plan;
    let rounds: Vec<usize> = plan.settings.iter().map(|setting| setting.rounds).collect();
    let (least, most) = (rounds.iter().min().unwrap_or(&0), rounds.iter().max().unwrap_or(&0));
    let rounds = if least == most { most.to_string() } else { format!("{least} to {most}") };
    let other = state.most_other_work() * 100.0;
    let engines = plan.settings.iter().flat_map(|setting| &setting.sides);
    let mut words = engines.filter_map(|side| match &side.kind {
        Kind::Engine(words) if side.name == "trust" && !words.is_empty() => Some(words.join(" ")),
        _ => None,
    });
    let words = words.next().map_or_else(String::new, |words| format!(" trust: serve {words}."));
    format!(
        "{}, trust at {}, {}\n\
         {rounds} rounds interleaved, {} s each ({} s warm-up; iperf3 {} s), idle CPUs {}; other work had {other:.0} % of \
         the CPUs at most, before and after.{words}\n\
         x: of medians, against the kernel over veth and the best stand-in without TCP. CPU seconds for 10^9 octets or \
         10^6 requests: of the processes that serve; and of those, the client and the kernel's own threads.\n",
        state.machine,
        state.commit,
        state.began,
        plan.seconds,
        plan.warmup,
        plan.iperf_seconds,
        if plan.spin { "kept awake" } else { "halt" }
    )
}

/// What sockets on another thread cost: each of their rows against the one of the service in the shard.
fn through_sockets(state: &State, setting: usize) -> String {
    let mut lines = vec![["rows", "side", "ratio"].map(str::to_string).to_vec()];
    let Some(of) = state.plan.settings.get(setting) else { return String::new() };
    for (&row, shard) in of.rows.iter().filter_map(|row| Some((row, row.in_shard()?))) {
        for side in of.sides.iter().filter(|side| matches!(side.kind, Kind::Engine(_))) {
            let median = |row: Row| {
                let same = |at: &usize| state.plan.settings[*at].conditions == of.conditions;
                (0..state.plan.settings.len()).filter(same).find_map(|at| state.median(at, row, &side.name))
            };
            if let Some((sockets, shard_median)) = median(row).zip(median(shard)) {
                let rows = format!("{} / {}", row.name(), shard.name());
                lines.push(vec![rows, side.name.clone(), format!("{:.2}", sockets / shard_median)]);
            }
        }
    }
    if lines.len() == 1 {
        return String::new();
    }
    format!(
        "\nThrough sockets on a thread of their own, against the service in the shard (of medians):\n\n{}",
        aligned(&lines)
    )
}

fn failures(state: &State) -> String {
    let mut failures: Vec<String> = Vec::new();
    for cell in &state.cells {
        for why in &cell.failures {
            let place = format!("  {}: {} {}: {why}", told(state, cell.setting), cell.row.name(), cell.side);
            if !failures.contains(&place) {
                failures.push(place);
            }
        }
    }
    const SHOWN: usize = 30;
    let all: usize = state.cells.iter().map(|cell| cell.failures.len()).sum();
    if all == 0 {
        return String::new();
    }
    let more = failures.len().saturating_sub(SHOWN);
    failures.truncate(SHOWN);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    format!("\n{all} measurements failed:\n{}{more}\n", failures.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::example;
    use super::*;

    #[test]
    fn a_line_has_ratios_to_the_kernel_and_to_the_best_ceiling() {
        let text = tables(&example());
        let line = text.lines().find(|line| line.contains("| rr1 ") && line.contains("| trust ")).unwrap_or_default();
        let cells: Vec<&str> = line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells, ["rr1", "trust", "1/s", "8.00 [7.50-8.50]", "2.00", "0.80", "10/20", "0.25 s/M", "0.50 s/M"]);
        assert!(text.contains("trust at 0123abc") && text.contains("client pinned, congestion control reno"));
    }

    #[test]
    fn what_failed_is_told_once_with_its_reason() {
        let mut state = example();
        for _ in 0..3 {
            state.cell_mut(0, Row::Up(1), "kernel").failures.push("no veth".to_string());
        }
        state.cell_mut(0, Row::Up(1), "kernel").samples.clear();
        let text = tables(&state);
        assert!(text.contains("3 measurements failed:") && text.matches("no veth").count() == 1, "{text}");
        assert!(text.lines().any(|line| line.contains("| kernel ") && line.contains("| failed ")));
    }
}
