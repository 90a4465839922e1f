//! Reads the tables of `docs/conformance/`, counts what they say, and compares them with the ids that code and tests
//! cite.
//!
//! Pure functions over texts; the binary `conformance-check` finds the files.

use std::collections::{BTreeMap, BTreeSet};

/// Families whose ids are `FAMILY-number`.
const FAMILIES: [&str; 13] =
    ["MUST", "SHLD", "MAY", "REC", "KP", "SC", "OPS", "IP", "ICMP", "KA", "ZW", "SWS", "NAGLE"];

/// One row of a table: a requirement and what became of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Line in the file, from 1.
    pub line: usize,
    /// The id, such as `MUST-34` or `RFC6298-5.1`.
    pub id: String,
    /// Files, or `file:function`.
    pub places: Vec<String>,
    /// Names of tests, or paths of test files.
    pub tests: Vec<String>,
    /// `yes`, or a word and a reason: `partly: ...`.
    pub status: String,
}

impl Row {
    /// Whether the requirement is met at least in part: places must exist then.
    #[must_use]
    pub fn is_built(&self) -> bool {
        self.status == "yes" || self.status.starts_with("partly:") || self.status.starts_with("deviates:")
    }
}

/// The rows of all tables whose first cell is an id and which have five cells; and what is wrong with their form.
#[must_use]
pub fn rows(text: &str) -> (Vec<Row>, Vec<String>) {
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    let mut seen = BTreeMap::new();
    for (index, content) in text.lines().enumerate() {
        let line = index + 1;
        let Some(inside) = content.trim().strip_prefix('|').and_then(|rest| rest.strip_suffix('|')) else { continue };
        let cells: Vec<&str> = inside.split('|').map(str::trim).collect();
        if !is_id(cells[0]) {
            continue;
        }
        let [id, _, places, tests, status] = *cells.as_slice() else {
            wrong.push(format!("line {line}: {} has {} cells instead of 5", cells[0], cells.len()));
            continue;
        };
        let reason = ["partly: ", "no: ", "n/a: ", "deviates: "].iter().any(|word| status.starts_with(word));
        if status != "yes" && !reason {
            wrong.push(format!("line {line}: {id} has no such status: {status}"));
        }
        if let Some(first) = seen.insert(id.to_owned(), line) {
            wrong.push(format!("line {line}: {id} was on line {first} already"));
        }
        rows.push(Row { line, id: id.into(), places: list(places), tests: list(tests), status: status.into() });
    }
    (rows, wrong)
}

/// How many rows say what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Of each of [`STATES`].
    counts: [usize; STATES.len()],
}

/// What a row's status begins with, in the order of the totals.
const STATES: [&str; 5] = ["yes", "partly", "deviates", "no", "n/a"];

impl Totals {
    /// Counts rows; one without a proper status counts nowhere.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Self {
        let mut totals = Self::default();
        for row in rows {
            let word = row.status.split_once(':').map_or(row.status.as_str(), |(word, _)| word);
            if let Some(state) = STATES.iter().position(|state| *state == word) {
                totals.counts[state] += 1;
            }
        }
        totals
    }

    fn line(&self, what: &str) -> String {
        let all: usize = self.counts.iter().sum();
        let counts: Vec<_> = self.counts.iter().map(usize::to_string).collect();
        format!("| {what} | {all} | {} |\n", counts.join(" | "))
    }
}

/// The totals as a table: documents by their file names and titles, in the order given.
#[must_use]
pub fn totals_table(documents: &[(&str, &str, Totals)]) -> String {
    let mut table = format!("| Document | rows | {} |\n| --- |{}\n", STATES.join(" | "), " ---: |".repeat(6));
    let mut sum = Totals::default();
    for (file, title, totals) in documents {
        table += &totals.line(&format!("[{title}]({file})"));
        sum.counts.iter_mut().zip(totals.counts).for_each(|(sum, count)| *sum += count);
    }
    table + &sum.line("all")
}

/// A text with `table` between the marks that say where the totals are; `None`: it has no such marks.
#[must_use]
pub fn with_totals(text: &str, table: &str) -> Option<String> {
    const MARKS: (&str, &str) = ("<!-- totals -->\n", "<!-- /totals -->");
    let (before, rest) = text.split_once(MARKS.0)?;
    let (_, after) = rest.split_once(MARKS.1)?;
    Some(format!("{before}{}{table}{}{after}", MARKS.0, MARKS.1))
}

/// The first heading of a text.
#[must_use]
pub fn title(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("# "))
}

/// A cell's words between commas; `-` stands for none.
fn list(cell: &str) -> Vec<String> {
    cell.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "-").map(str::to_owned).collect()
}

/// Splits an id into what its neighbours share and its own part: `RFC6298-` and `5.1`.
fn split(word: &str) -> Option<(&str, &str)> {
    let (stem, own) = word.split_at(word.rfind('-')? + 1);
    let family = &stem[..stem.len() - 1];
    let digits = own.starts_with(|c: char| c.is_ascii_digit());
    let number = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    let known = if FAMILIES.contains(&family) {
        digits
    } else if let Some(state) = family.strip_prefix("SM-") {
        digits && !state.is_empty() && state.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    } else {
        family.strip_prefix("RFC").is_some_and(|rest| number(rest, 4)) && !own.is_empty()
    };
    (known && own.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')).then_some((stem, own))
}

/// Whether `word` has the form of an id, or of a report of another project: `smoltcp#199`.
#[must_use]
pub fn is_id(word: &str) -> bool {
    (split(word).is_some() && !word.contains("..") && !word.ends_with('.')) || is_report(word)
}

fn is_report(word: &str) -> bool {
    word.split_once('#').is_some_and(|(project, number)| {
        let name = |b: u8| b.is_ascii_lowercase() || b == b'-';
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        digits && !project.is_empty() && project.bytes().all(name)
    })
}

/// Ids as they are written in the name of a test: `rfc6298_5_1`.
fn snake(id: &str) -> String {
    id.to_ascii_lowercase().replace(['-', '.', '#'], "_")
}

/// What a source text cites of the rows `ids` (in their order), and the ids it cites that are no row, with their lines.
///
/// Understood are ids in the text (`MUST-34`), runs (`IP-1..4`, `SM-SEQ-1 to 7`, `RFC7323-5.3a, 3.2b`) and ids in the
/// names of functions (`fn sc_50_must_34_...`).
#[must_use]
pub fn citations<'a>(text: &str, ids: &[&'a str]) -> (BTreeSet<&'a str>, Vec<(usize, String)>) {
    let places: BTreeMap<&str, usize> = ids.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    let in_names: Vec<(String, &str)> = ids.iter().map(|id| (format!("_{}_", snake(id)), *id)).collect();
    let (mut cited, mut dangling) = (BTreeSet::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let mut unknown = |id: String| dangling.push((index + 1, id));
        if let Some(name) = function(line) {
            let name = format!("_{name}_");
            cited.extend(in_names.iter().filter(|(id, _)| name.contains(id.as_str())).map(|(_, id)| *id));
            numbered(&name)
                .filter(|id| !in_names.iter().any(|(known, _)| known.trim_matches('_') == id))
                .for_each(&mut unknown);
        }
        // The stem and place of the id before this word, and whether a `to` came since.
        let mut before: Option<(&str, usize, bool)> = None;
        for word in words(line) {
            let word = word.trim_end_matches('.');
            if is_report(word) {
                match places.get(word) {
                    Some(place) => cited.extend(ids.get(*place)),
                    None => unknown(word.to_owned()),
                }
                before = None;
            } else if let Some((stem, own)) = split(word) {
                let (from, to) = own.split_once("..").map_or((own, None), |(from, to)| (from, Some(to)));
                let id = format!("{stem}{from}");
                let Some(place) = places.get(id.as_str()) else {
                    unknown(id);
                    before = None;
                    continue;
                };
                let mut last = *place;
                if let Some(to) = to {
                    let end = format!("{stem}{to}");
                    match places.get(end.as_str()) {
                        Some(end) => last = *end,
                        None => unknown(end),
                    }
                } else if let Some((same, first, true)) = before
                    && same == stem
                {
                    cited.extend(ids.get(first..*place).unwrap_or_default());
                }
                cited.extend(ids.get(*place..=last).unwrap_or_default());
                before = Some((stem, last, false));
            } else if let Some((stem, place, to)) = before {
                match (word, places.get(format!("{stem}{word}").as_str())) {
                    ("to", _) => before = Some((stem, place, true)),
                    ("and" | "," | "", _) => {}
                    (_, Some(end)) => {
                        cited.extend(if to { ids.get(place..=*end).unwrap_or_default() } else { &ids[*end..=*end] });
                        before = Some((stem, *end, false));
                    }
                    _ => before = None,
                }
            }
        }
    }
    (cited, dangling)
}

/// The words of a line, what may be part of an id, and a comma or any other sign as a word of its own.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| c.is_ascii_alphanumeric() || "-.#".contains(c);
    let mut rest = line;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let len = if part(first) { rest.find(|c| !part(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (word, more) = rest.split_at(len);
        rest = more;
        Some(word)
    })
}

/// The name of the function that is declared on this line.
#[must_use]
pub fn function(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let name = &after[..after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?];
    (!name.is_empty() && !before.contains("//") && !before.contains('"')).then_some(name)
}

/// What in a function's name has the form of an id of a numbered family.
fn numbered(name: &str) -> impl Iterator<Item = String> {
    let parts: Vec<&str> = name.split('_').collect();
    let is_number = |part: Option<&&str>| part.is_some_and(|part| part.starts_with(|c: char| c.is_ascii_digit()));
    let mut found = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let family = FAMILIES.iter().any(|family| family.eq_ignore_ascii_case(part)) && *part != "may" && *part != "ip";
        if family && is_number(parts.get(index + 1)) {
            found.push(parts[index..index + 2].join("_"));
        } else if *part == "sm" && is_number(parts.get(index + 2)) {
            found.push(parts[index..index + 3].join("_"));
        }
    }
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
| Id | Asks for | Where | Shown by | Status |
| --- | --- | --- | --- | --- |
| MUST-1 | one | tcp/a.rs:f, tcp/b.rs | t_1, t_2 | yes |
| IP-1 | two | - | - | no: not yet |
| IP-2 | three | x.rs | - | partly: half |
| RFC6298-5.1 | four | x.rs | - | n/a: no |
| MUST-7: a decision | what | why |
";

    #[test]
    fn rows_have_five_cells_and_an_id() {
        let (rows, wrong) = rows(TABLE);
        assert_eq!(wrong, [""; 0]);
        assert_eq!(
            rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(),
            ["MUST-1", "IP-1", "IP-2", "RFC6298-5.1"]
        );
        assert_eq!((rows[0].line, rows[0].is_built(), rows[1].is_built()), (3, true, false));
        assert_eq!(rows[0].places, ["tcp/a.rs:f", "tcp/b.rs"]);
        assert_eq!(rows[0].tests, ["t_1", "t_2"]);
        assert!(rows[1].places.is_empty() && rows[1].tests.is_empty() && rows[2].is_built());
    }

    #[test]
    fn totals_count_what_the_rows_say() {
        let (rows, _) = rows(TABLE);
        let table = totals_table(&[("a.md", "RFC 1: one", Totals::of(&rows)), ("b.md", "Two", Totals::of(&rows[..1]))]);
        assert_eq!(
            table,
            "| Document | rows | yes | partly | deviates | no | n/a |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n\
             | [RFC 1: one](a.md) | 4 | 1 | 1 | 0 | 1 | 1 |\n\
             | [Two](b.md) | 1 | 1 | 0 | 0 | 0 | 0 |\n\
             | all | 5 | 2 | 1 | 0 | 1 | 1 |\n"
        );
        let text = "# Title\n<!-- totals -->\nold\n<!-- /totals -->\nrest\n";
        let new = with_totals(text, "new\n");
        assert_eq!(new.as_deref(), Some("# Title\n<!-- totals -->\nnew\n<!-- /totals -->\nrest\n"));
        assert_eq!(with_totals("no marks", "new\n"), None);
        assert_eq!(title(text), Some("Title"));
    }

    #[test]
    fn malformed_rows_are_told() {
        for (row, what) in [
            ("| MUST-1 | a | b | yes |", "has 4 cells instead of 5"),
            ("| MUST-1 | a | b | c | maybe |", "has no such status: maybe"),
            ("| MUST-1 | a | b | c | no |", "has no such status: no"),
        ] {
            let (_, wrong) = rows(row);
            assert!(wrong.len() == 1 && wrong[0].contains(what), "{wrong:?}");
        }
        let (_, wrong) = rows("| IP-1 | a | b | c | yes |\n| IP-1 | a | b | c | yes |");
        assert_eq!(wrong, ["line 2: IP-1 was on line 1 already"]);
    }

    #[test]
    fn what_an_id_looks_like() {
        for id in ["MUST-1", "SM-TW-5f", "SM-FW1-2", "RFC2018-V", "RFC5681-2.DA", "RFC7323-Aa", "REC-1", "mbed-os#6882"]
        {
            assert!(is_id(id), "{id}");
        }
        for other in [
            "MUST",
            "SM-T",
            "UTF-8",
            "RFC-1",
            "RFC793-1",
            "IP-over",
            "MUST-7: a",
            "SIP-1",
            "IP-1..4",
            "-",
            "#",
            "#1",
            "a#b",
        ] {
            assert!(!is_id(other), "{other}");
        }
    }

    const IDS: [&str; 11] = [
        "smoltcp#199",
        "MUST-1",
        "MUST-2",
        "MUST-3",
        "SM-SEQ-1",
        "SM-SEQ-2",
        "SM-SEQ-3",
        "RFC7323-3.2b",
        "RFC7323-5.3a",
        "SC-50",
        "IP-1",
    ];

    fn cited(text: &str) -> Vec<&'static str> {
        let (cited, dangling) = citations(text, &IDS);
        assert_eq!(dangling, [], "{text}");
        cited.into_iter().collect()
    }

    #[test]
    fn citations_in_text() {
        assert_eq!(cited("// see MUST-2 (SM-SEQ-3).\n"), ["MUST-2", "SM-SEQ-3"]);
        assert_eq!(cited("/// MUST-1..3."), ["MUST-1", "MUST-2", "MUST-3"]);
        assert_eq!(cited("/// SM-SEQ-1 to 3"), ["SM-SEQ-1", "SM-SEQ-2", "SM-SEQ-3"]);
        assert_eq!(cited("/// SM-SEQ-1 to SM-SEQ-3:"), ["SM-SEQ-1", "SM-SEQ-2", "SM-SEQ-3"]);
        assert_eq!(cited("/// RFC7323-5.3a, 3.2b; RST"), ["RFC7323-3.2b", "RFC7323-5.3a"]);
        assert_eq!(cited("/// MUST-1 and 3, not the 2 others"), ["MUST-1", "MUST-3"]);
        assert_eq!(cited("/// As in smoltcp#199."), ["smoltcp#199"]);
        assert_eq!(cited("// the 3 of UTF-8 and section SM-T"), [""; 0]);
    }

    #[test]
    fn citations_in_names() {
        assert_eq!(cited("    fn sc_50_must_3_and_rfc7323_5_3a() {"), ["MUST-3", "RFC7323-5.3a", "SC-50"]);
        assert_eq!(cited("fn smoltcp_199_drains() {"), ["smoltcp#199"]);
        assert_eq!(cited("fn ip_17_is_not_ip_1() {"), ["IP-1"]);
    }

    #[test]
    fn ids_without_a_row_dangle() {
        let dangling = |text| citations(text, &IDS).1;
        assert_eq!(dangling("\n// MUST-99"), [(2, "MUST-99".to_owned())]);
        assert_eq!(dangling("// MUST-1..99"), [(1, "MUST-99".to_owned())]);
        assert_eq!(dangling("// RFC7323-5"), [(1, "RFC7323-5".to_owned())]);
        assert_eq!(dangling("/// smoltcp#198"), [(1, "smoltcp#198".to_owned())]);
        assert_eq!(dangling("fn sc_99_x() {"), [(1, "sc_99".to_owned())]);
        assert_eq!(dangling("fn sm_seq_9_x() {"), [(1, "sm_seq_9".to_owned())]);
        assert_eq!(dangling("fn it_may_12_times() {"), []);
    }
}
