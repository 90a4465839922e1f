//! What was measured, as one HTML file: bars with their ranges, tables, and how rows went over the runs that were kept.
//! Nothing in it is fetched from anywhere.

use super::compare::DISTURBING;
use super::history::{Point, points};
use super::plan::{Contestant, Kind, Setting};
use super::row::Row;
use super::state::{Cell, State};
use super::stats::{Spread, figure};
use super::table::{HEAD, columns, told};
use std::fmt::Write;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#222;--soft:#777;--page:#fff;--line:#ddd}
@media(prefers-color-scheme:dark){:root{--ink:#ddd;--soft:#999;--page:#16181c;--line:#3a3d44}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--page)}
body{max-width:64rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;font-size:13px}
td,th{padding:.15rem .6rem;border-bottom:1px solid var(--line);text-align:left}
svg{max-width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--ink)}svg .soft{fill:var(--soft)}
.engine{fill:#2a78d6}.kernel{fill:#8a8a8a}.ceiling{fill:#c9a227}.peer{fill:#7a5ab5}
.range{stroke:var(--ink);stroke-width:1}.rule{stroke:var(--line)}
.of-kernel{stroke:#2a78d6;fill:none;stroke-width:2}.of-ceiling{stroke:#c9a227;fill:none;stroke-width:2}
.charts{display:flex;flex-wrap:wrap;gap:1rem}.soft{color:var(--soft)}
";

/// The page. `history` are the runs that were kept, the earliest first, this one among them or not.
#[must_use]
pub fn html(state: &State, history: &[State]) -> String {
    let mut page = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str(
        "<meta name=\"viewport\" content=\"width=device-width\"><title>trust: the comparison</title>\n<style>",
    );
    page.push_str(STYLE);
    page.push_str("</style></head>\n<body><h1>trust beside others</h1>\n");
    page.push_str(&head(state));
    for (index, setting) in state.plan.settings.iter().enumerate() {
        let measured = state.cells.iter().any(|cell| cell.setting == index);
        if measured {
            let _ = write!(
                page,
                "<h2>{}</h2>\n<p class=\"soft\">{} rounds.</p>\n",
                escaped(&told(state, index)),
                setting.rounds
            );
            page.push_str(&bars(state, index, setting));
            page.push_str(&table(state, index, setting));
        }
    }
    page.push_str(&over_time(state, history));
    page.push_str("</body></html>\n");
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn head(state: &State) -> String {
    let other = state.most_other_work() * 100.0;
    let warning =
        if other > DISTURBING * 100.0 { " <strong>These figures are not worth keeping.</strong>" } else { "" };
    let unfinished = if state.is_whole() { "" } else { " This run is not done yet." };
    format!(
        "<p>{}, trust at {}, {}. {} s a row after {} s of warm-up, idle CPUs {}. Other work had {other:.0} % of the \
         CPUs at most.{warning}{unfinished}</p>\n<p>Bars are medians, lines on them the least and the greatest, longer \
         is better, and each row has a scale of its own. How to read them is in docs/measurements.md.</p>\n",
        escaped(&state.machine),
        escaped(&state.commit),
        escaped(&state.began),
        state.plan.seconds,
        state.plan.warmup,
        if state.plan.spin { "kept awake" } else { "halt" }
    )
}

fn class(side: &Contestant) -> &'static str {
    match side.kind {
        Kind::Engine(_) => "engine",
        Kind::Kernel => "kernel",
        Kind::Ceiling(_) => "ceiling",
        Kind::Peer(_) => "peer",
    }
}

const BAR: f64 = 14.0;
const LEFT: f64 = 150.0;
const LENGTH: f64 = 420.0;
const WIDTH: f64 = 820.0;

/// A group of bars for each row.
fn bars(state: &State, index: usize, setting: &Setting) -> String {
    let mut drawn = String::new();
    let mut y = 4.0;
    for &row in &setting.rows {
        let values: Vec<(&Contestant, &Cell, Spread)> = setting
            .sides
            .iter()
            .filter_map(|side| {
                let cell = state.cell(index, row, &side.name)?;
                Some((side, cell, cell.spread()?))
            })
            .collect();
        let Some(most) = values.iter().map(|(_, _, spread)| spread.greatest).max_by(f64::total_cmp) else { continue };
        let _ = writeln!(drawn, "<text x=\"0\" y=\"{:.0}\" font-weight=\"bold\">{}</text>", y + 12.0, row.name());
        let _ = writeln!(drawn, "<text class=\"soft\" x=\"110\" y=\"{:.0}\">{}</text>", y + 12.0, row.unit());
        y += BAR + 4.0;
        let scale = LENGTH / most.max(f64::MIN_POSITIVE);
        for (side, cell, spread) in values {
            drawn.push_str(&bar(side, &columns(state, cell), spread, scale, y));
            y += BAR + 2.0;
        }
        y += 8.0;
    }
    format!("<svg viewBox=\"0 0 {WIDTH} {y:.0}\" width=\"{WIDTH}\" role=\"img\">\n{drawn}</svg>\n")
}

fn bar(side: &Contestant, columns: &[String], spread: Spread, scale: f64, y: f64) -> String {
    let (middle, text) = (y + BAR / 2.0, y + BAR - 3.0);
    let [median, least, greatest] = [spread.median, spread.least, spread.greatest].map(|value| value * scale);
    let column = |at: usize| columns.get(at).map_or("-", String::as_str);
    format!(
        "<text class=\"soft\" x=\"{:.0}\" y=\"{text:.0}\" text-anchor=\"end\">{}</text>\
         <rect class=\"{}\" x=\"{LEFT}\" y=\"{y:.0}\" width=\"{median:.1}\" height=\"{BAR}\"/>\
         <line class=\"range\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.0}\" y2=\"{middle:.0}\"/>\
         <text x=\"{:.0}\" y=\"{text:.0}\">{} <tspan class=\"soft\">x kernel {}, x ceiling {}</tspan></text>\n",
        LEFT - 6.0,
        escaped(&side.name),
        class(side),
        LEFT + least,
        LEFT + greatest,
        LEFT + LENGTH + 8.0,
        figure(spread.median),
        column(4),
        column(5),
    )
}

fn table(state: &State, index: usize, setting: &Setting) -> String {
    let mut text = String::from("<details><summary>All figures</summary><table><tr>");
    let heads: Vec<String> = HEAD.iter().map(|head| format!("<th>{head}</th>")).collect();
    let _ = writeln!(text, "{}</tr>", heads.concat());
    for &row in &setting.rows {
        for cell in setting.sides.iter().filter_map(|side| state.cell(index, row, &side.name)) {
            let cells: Vec<String> = columns(state, cell).iter().map(|c| format!("<td>{}</td>", escaped(c))).collect();
            let _ = writeln!(text, "<tr>{}</tr>", cells.concat());
        }
    }
    text + "</table></details>\n"
}

/// A small chart for each row that more than one run has.
fn over_time(state: &State, history: &[State]) -> String {
    let other = |run: &&State| run.began != state.began && run.machine == state.machine;
    let mut runs: Vec<State> = history.iter().filter(other).cloned().collect();
    runs.push(state.clone());
    runs.sort_by(|a, b| a.began.cmp(&b.began));
    let mut text = String::new();
    let mut told_of = Vec::new();
    for (index, setting) in state.plan.settings.iter().enumerate() {
        if told_of.contains(&&setting.conditions) {
            continue;
        }
        told_of.push(&setting.conditions);
        let charts: Vec<String> = Row::STANDARD
            .into_iter()
            .map(|row| (row, points(&runs, &setting.conditions, row, "trust")))
            .filter(|(_, points)| points.len() > 1)
            .map(|(row, points)| chart(&row.name(), &points))
            .collect();
        if !charts.is_empty() {
            let _ = write!(
                text,
                "<h3>{}</h3>\n<div class=\"charts\">\n{}</div>\n",
                escaped(&told(state, index)),
                charts.concat()
            );
        }
    }
    if text.is_empty() {
        return String::new();
    }
    format!(
        "<h2>Over the runs that were kept</h2>\n<p><code>trust</code>, median against the kernel's (blue) and against \
         the best stand-in's (yellow). Only runs of this kind of machine.</p>\n{text}"
    )
}

/// Two lines over the runs.
fn chart(name: &str, points: &[Point]) -> String {
    const W: f64 = 300.0;
    const H: f64 = 130.0;
    let values = points.iter().flat_map(|point| [point.of_kernel, point.of_ceiling]).flatten();
    let most = values.fold(1.0, f64::max) * 1.1;
    let x = |at: usize| 34.0 + (W - 44.0) * at as f64 / (points.len() - 1).max(1) as f64;
    let y = |value: f64| H - 22.0 - (H - 40.0) * value / most;
    let line = |class: &str, value: fn(&Point) -> Option<f64>| {
        let at = |(at, point): (usize, &Point)| Some(format!("{:.1},{:.1}", x(at), y(value(point)?)));
        let places: Vec<String> = points.iter().enumerate().filter_map(at).collect();
        format!("<polyline class=\"{class}\" points=\"{}\"/>", places.join(" "))
    };
    let (first, last) = (&points[0], &points[points.len() - 1]);
    let ratio = |value: Option<f64>| value.map_or_else(|| "-".to_string(), |value| format!("{value:.2}"));
    format!(
        "<svg viewBox=\"0 0 {W} {H}\" width=\"{W}\" role=\"img\"><text x=\"0\" y=\"12\" font-weight=\"bold\">{}</text>\
         <text class=\"soft\" x=\"{W}\" y=\"12\" text-anchor=\"end\">x kernel {}, x ceiling {}</text>\
         <line class=\"rule\" x1=\"34\" x2=\"{W}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
         <text class=\"soft\" x=\"0\" y=\"{:.1}\">1.00</text>\
         {}{}<text class=\"soft\" x=\"34\" y=\"{:.0}\">{} {}</text>\
         <text class=\"soft\" x=\"{W}\" y=\"{:.0}\" text-anchor=\"end\">{} {}</text></svg>\n",
        escaped(name),
        ratio(last.of_kernel),
        ratio(last.of_ceiling),
        y(1.0),
        y(1.0),
        y(1.0) + 4.0,
        line("of-kernel", |point| point.of_kernel),
        line("of-ceiling", |point| point.of_ceiling),
        H - 4.0,
        escaped(&first.day),
        escaped(short(&first.commit)),
        H - 4.0,
        escaped(&last.day),
        escaped(short(&last.commit)),
    )
}

fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::example;
    use super::*;

    #[test]
    fn the_page_fetches_nothing_and_escapes_what_it_tells() {
        let page = html(&example(), &[]);
        for word in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<fast>"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("(a &lt;fast&gt; one)"));
    }

    #[test]
    fn bars_are_as_long_as_their_medians() {
        let page = html(&example(), &[]);
        // 10.5 is the greatest of the row, and all of the length; the engine's median is 8.
        let expected = format!("class=\"engine\" x=\"150\" y=\"22\" width=\"{:.1}\"", LENGTH * 8.0 / 10.5);
        assert!(page.contains(&expected), "{page}");
        assert!(page.contains("x kernel 2.00, x ceiling 0.80"));
        let tags = |open: &str| page.matches(open).count();
        assert_eq!(tags("<svg"), tags("</svg>"));
        assert_eq!((tags("<rect"), tags("<tr>"), tags("</tr>")), (8, 9, 9));
    }

    #[test]
    fn rows_are_followed_over_more_than_one_run() {
        let state = example();
        assert!(!html(&state, &[]).contains("Over the runs"));
        let mut earlier = example();
        earlier.began = "2026-10-01T00:00:00Z".to_string();
        let mut elsewhere = earlier.clone();
        elsewhere.machine = "another".to_string();
        assert!(!html(&state, &[elsewhere]).contains("Over the runs"));
        let page = html(&state, &[earlier, state.clone()]);
        assert_eq!(page.matches("<polyline").count(), 4);
        assert!(page.contains("2026-10-01 0123abc"));
    }

    #[test]
    fn a_run_without_values_is_a_page_all_the_same() {
        let mut state = example();
        state.cells.iter_mut().for_each(|cell| cell.samples.clear());
        state.done = 0;
        assert!(html(&state, &[]).contains("not done yet"));
    }
}
