//! The arrows between rooms: which room of `src/` imports which, held to the table in `table.txt`.
//!
//! A wrong arrow is an error here before anybody has to see it in a review, and so is a row that nothing uses, so that
//! the table is neither longer nor shorter than what is true. Inside a room no files may need each other in a circle.

#![allow(missing_docs)]

mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use reader::{Arrows, circles, read, room};

/// The table: what each room may import, from the bottom up, and the circles that are still there.
#[derive(Debug)]
struct Table {
    rows: Vec<(String, BTreeSet<String>)>,
    circles: BTreeSet<BTreeSet<String>>,
}

impl Table {
    fn parse(text: &str) -> Self {
        let mut table = Self { rows: Vec::new(), circles: BTreeSet::new() };
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let (name, list) = line.split_once(':').expect("a row is `room: rooms`");
            let list = list.split_whitespace();
            match name.strip_prefix("circle ") {
                Some(room) => _ = table.circles.insert(list.map(|file| inside(room, file)).collect()),
                None => table.rows.push((name.to_owned(), list.map(str::to_owned).collect())),
            }
        }
        table
    }

    /// All that is wrong, a line each.
    fn faults(&self, arrows: &Arrows) -> Vec<String> {
        let mut faults = Vec::new();
        let rows: BTreeMap<&str, &BTreeSet<String>> =
            self.rows.iter().map(|(room, row)| (room.as_str(), row)).collect();
        let rooms: BTreeSet<&str> = arrows.keys().map(|file| room(file)).collect();
        faults.extend(rooms.iter().filter(|room| !rows.contains_key(**room)).map(|room| format!("{room} has no row")));
        faults
            .extend(rows.keys().filter(|room| !rooms.contains(**room)).map(|room| format!("there is no room {room}")));
        let mut above: BTreeSet<&str> = BTreeSet::new();
        for (room, row) in &self.rows {
            let not_above = row.iter().filter(|target| !above.contains(target.as_str()));
            faults.extend(not_above.map(|target| format!("the row of {room} names {target}, which is not above it")));
            above.insert(room);
        }
        let mut used: BTreeSet<(&str, &str)> = BTreeSet::new();
        for (file, targets) in arrows {
            for target in targets.iter().filter(|target| room(target) != room(file)) {
                if rows.get(room(file)).is_some_and(|row| row.contains(room(target))) {
                    used.insert((room(file), room(target)));
                } else {
                    faults.push(format!("{file} imports {target}, and {} may not import {}", room(file), room(target)));
                }
            }
        }
        for (room, row) in &self.rows {
            let unused = row.iter().filter(|target| !used.contains(&(room.as_str(), target.as_str())));
            faults.extend(unused.map(|target| format!("{room} may import {target} and does not")));
        }
        let found = circles(arrows);
        faults.extend(found.difference(&self.circles).map(|circle| format!("not in the table: {}", line(circle))));
        faults.extend(self.circles.difference(&found).map(|circle| format!("no circle any more: {}", line(circle))));
        faults
    }
}

/// The module of a file as a line of the table has it: its room's own is `.`.
fn inside(room: &str, file: &str) -> String {
    if file == "." { room.to_owned() } else { format!("{room}/{file}") }
}

/// A circle as a line of the table.
fn line(circle: &BTreeSet<String>) -> String {
    let room = circle.first().map_or("", |file| room(file));
    let names =
        circle.iter().map(|file| file.strip_prefix(room).and_then(|name| name.strip_prefix('/')).unwrap_or("."));
    format!("circle {room}: {}", names.collect::<Vec<_>>().join(" "))
}

/// The files below `folder` by their paths below `top`.
fn sources(top: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(top, &path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let name = path.strip_prefix(top).expect("below the top").to_string_lossy().into_owned();
            files.insert(name, fs::read_to_string(&path).expect("a text"));
        }
    }
}

#[test]
fn rooms_import_what_the_table_says_and_nothing_else() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    sources(&top, &top, &mut files);
    let faults = Table::parse(include_str!("table.txt")).faults(&read(&files));
    assert!(faults.is_empty(), "tests/arrows/table.txt:\n{}", faults.join("\n"));
}

// ---- the reader, on texts that it must not be mistaken about ----

fn read_texts(texts: &[(&str, &str)]) -> Arrows {
    read(&texts.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect())
}

/// What `low` and `high` are found guilty of when `low/file.rs` has this text, and `high` may import `low` and does.
fn guilty(text: &str) -> Vec<String> {
    let texts = [
        ("low/mod.rs", "mod file; mod other; pub struct Thing;"),
        ("low/file.rs", text),
        ("low/other.rs", "pub struct Other;"),
        ("high/mod.rs", "pub struct Roof; fn f() { crate::low::file::go(); }"),
    ];
    Table::parse("low:\nhigh: low\n").faults(&read_texts(&texts))
}

#[test]
fn a_forbidden_arrow_is_found_however_it_is_written() {
    let said = "low/file imports high, and low may not import high";
    for text in [
        "use crate::high::Roof;",
        "use crate::{high::Roof, low::Thing};",
        "use crate::{\n    low::{self, Thing},\n    high,\n};",
        "use super::super::high::Roof as Top;",
        "use crate::high::*;",
        "pub fn f() -> crate::high::Roof { Top }",
        "fn f() { super::super::high::g(); }",
        "mod inner { fn f() { super::super::super::high::g(); } }",
        "fn f() { use crate::high::Roof; }",
        "#[cfg(not(test))]\nuse crate::high::Roof;",
        "#[cfg(test)]\nfn f<A, B>() {}\nuse crate::high::Roof;",
        "const QUOTE: char = '\"'; use crate::high::Roof; const OTHER: char = '\"';",
        "const TEXT: &str = r#\"\"#; use crate::high::Roof;",
        "fn f<'a>(a: &'a str) -> &'a crate::high::Roof { Top }",
        "impl<'a> Trait for X<'a> { fn f(&'a self) { trust::high::g() } }",
    ] {
        assert_eq!(guilty(text), [said], "{text}");
    }
}

#[test]
fn what_is_no_arrow_is_not_taken_for_one() {
    for text in [
        "// use crate::high::Roof;",
        "/* /* nested */ crate::high::g(); */",
        "//! See [`high`](crate::high).",
        "const TEXT: &str = \"crate::high::g() \\\" crate::high::g()\";",
        "const TEXT: &str = r##\"crate::high \"# crate::high::g()\"##;",
        "#[cfg(test)]\nmod tests { use crate::high::Roof; }",
        "#[cfg(all(test, loom))]\nmod tests { use crate::high::Roof; }",
        "#[cfg(test)]\nuse crate::high::Roof;",
        "#[cfg(test)]\npub(crate) fn f<A, B>(a: A, b: B) { crate::high::g(); }",
        "struct S {\n    #[cfg(test)]\n    pub(crate) roof: crate::high::Roof,\n    a: u8 }",
        "use std::high::Roof; fn f() { high::g() }",
    ] {
        assert_eq!(guilty(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn files_of_tests_are_left_out() {
    let texts = [
        ("low/mod.rs", "mod file; #[cfg(test)] mod lab; #[cfg(test)] #[path = \"file_tests.rs\"] mod tests;"),
        ("low/file.rs", ""),
        ("low/lab.rs", "use crate::high::Roof; mod deeper;"),
        ("low/lab/deeper.rs", "use crate::high::Roof;"),
        ("low/file_tests.rs", "use crate::high::Roof;"),
        ("high/mod.rs", "use crate::low::file;"),
    ];
    assert_eq!(Table::parse("low:\nhigh: low\n").faults(&read_texts(&texts)), Vec::<String>::new());
}

#[test]
fn rows_that_are_not_true_are_found() {
    let texts = [("low.rs", ""), ("high/mod.rs", "use crate::low::Thing;")];
    let faults = |table: &str| Table::parse(table).faults(&read_texts(&texts));
    assert_eq!(faults("low:\nhigh: low\n"), Vec::<String>::new());
    assert_eq!(faults("low:\nmiddle:\nhigh: low\n"), ["there is no room middle"]);
    assert_eq!(faults("low:\n"), ["high has no row", "high imports low, and high may not import low"]);
    assert_eq!(faults("high: low\nlow:\n"), ["the row of high names low, which is not above it"]);
    let texts = [("low.rs", ""), ("high.rs", "")];
    let faults = Table::parse("low:\nhigh: low\n").faults(&read_texts(&texts));
    assert_eq!(faults, ["high may import low and does not"]);
}

#[test]
fn circles_are_found_through_whatever_passes_a_name_on() {
    let front = "mod a; mod b; mod c; pub use self::a::A; pub(crate) use self::b::{B as Bee, B}; pub struct Front;";
    let circle = |a: &str, b: &str, c: &str| -> Vec<String> {
        let texts = [("room/mod.rs", front), ("room/a.rs", a), ("room/b.rs", b), ("room/c.rs", c)];
        circles(&read_texts(&texts)).iter().map(line).collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(circle("use super::b::B;", "use super::c::C;", ""), none);
    // What the front passes on is no need of the front's, and its own things are nobody's but its.
    assert_eq!(circle("use super::Front;", "use super::{A, Front};", ""), none);
    assert_eq!(circle("use super::b::B;", "use super::a::A;", ""), ["circle room: a b"]);
    assert_eq!(circle("use super::Bee;", "use crate::room::A;", ""), ["circle room: a b"]);
    assert_eq!(circle("use super::Bee;", "fn f() { super::c::g() }", "use super::A;"), ["circle room: a b c"]);
    let texts = [("room/mod.rs", "mod a; use self::a::A; struct Front;"), ("room/a.rs", "use super::Front;")];
    assert_eq!(circles(&read_texts(&texts)).iter().map(line).collect::<Vec<_>>(), ["circle room: . a"]);
}

#[test]
fn a_circle_is_an_error_until_the_table_has_it_and_when_it_has_one_that_is_gone() {
    let around =
        [("room/mod.rs", "mod a; mod b;"), ("room/a.rs", "use super::b::B;"), ("room/b.rs", "use super::a::A;")];
    let faults = |table: &str| Table::parse(table).faults(&read_texts(&around));
    assert_eq!(faults("room:\n"), ["not in the table: circle room: a b"]);
    assert_eq!(faults("room:\ncircle room: a b\n"), Vec::<String>::new());
    assert_eq!(
        faults("room:\ncircle room: a b c\n"),
        ["not in the table: circle room: a b", "no circle any more: circle room: a b c"]
    );
}
