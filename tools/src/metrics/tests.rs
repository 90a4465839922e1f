//! Each metric counted on small sources, and each bound broken by a fault that is planted.

use super::*;

/// A repository of these files.
fn repository(files: &[(&str, &str)]) -> Repository {
    files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
}

/// One metric of these files: what it is, and where.
fn metric(name: &str, files: &[(&str, &str)]) -> (usize, Vec<String>) {
    let metrics = measure(&repository(files)).expect("Rust");
    let metric = metrics.iter().find(|metric| metric.name() == name).expect("a metric of that name");
    (metric.now(), metric.places_above(0).map(Place::to_string).collect())
}

#[test]
fn circles_are_those_of_the_arrows() {
    let (front, a) = (("src/room/mod.rs", "mod a; mod b;"), ("src/room/a.rs", "use super::b::B;"));
    assert_eq!(metric("circles", &[front, a, ("src/room/b.rs", "pub struct B;")]), (0, vec![]));
    let around = [front, a, ("src/room/b.rs", "fn f() { super::a::g() }")];
    assert_eq!(metric("circles", &around), (1, vec!["src/room: room/a room/b".to_owned()]));
}

#[test]
fn a_thing_is_visible_by_whatever_keyword() {
    let text = "\
pub struct A { pub a: u8, pub(super) b: u8, c: u8 }
pub(crate) struct Pair(pub(in crate::tcp) u8, u8);
pub(super) enum E { One { field: u8 } }
pub const N: u8 = 1;
pub(super) static S: u8 = 1;
pub type T = u8;
pub(self) fn private() {}
trait Private { fn f(); }
impl A { pub const N: u8 = 1; pub(super) fn f() {} fn g() {} }
impl Private for A { fn f() {} }
mod inner { pub(super) fn seen_by_the_file() {} pub(in super::super) fn seen_by_others() {} }
pub mod module;
pub use self::inner::x;
";
    let all = [
        "1: struct A",
        "1: field A.a",
        "1: field A.b",
        "2: struct Pair",
        "2: field Pair._",
        "3: enum E",
        "4: const N",
        "5: static S",
        "6: type T",
        "9: const N",
        "9: fn f",
        "11: fn seen_by_others",
    ];
    let at = |lines: &[&str]| lines.iter().map(|line| format!("src/tcp/x.rs:{line}")).collect::<Vec<_>>();
    assert_eq!(metric("tcp-visible", &[("src/tcp/x.rs", text)]), (all.len(), at(&all)));
    let public = ["1: struct A", "1: field A.a", "4: const N", "6: type T", "9: const N"];
    let restricted: Vec<_> = all.into_iter().filter(|line| !public.contains(line)).collect();
    assert_eq!(metric("tcp-restricted", &[("src/tcp/x.rs", text)]), (restricted.len(), at(&restricted)));
    assert_eq!(metric("tcp-visible", &[("src/shard/x.rs", text)]).0, 0, "another room");
}

#[test]
fn what_is_for_tests_only_is_no_part_of_it() {
    let text = "\
#[cfg(test)]
pub(super) fn f() {}
pub struct S { #[cfg(test)] pub(super) a: u8, #[cfg(not(test))] pub b: u8 }
impl S { #[cfg(all(test, not(loom)))] pub fn g(a: u8, b: u8) {} }
#[cfg(test)]
mod tests { pub fn h() {} }
#[cfg(test)]
#[path = \"x_tests.rs\"]
mod more;
fn once() {}
fn caller() { #[cfg(test)] let a = once(); once(); }
";
    let files = [("src/tcp/x.rs", text), ("src/tcp/x_tests.rs", "pub fn f(a: u8, b: u8, c: u8) {}")];
    assert_eq!(metric("tcp-visible", &files).1, ["src/tcp/x.rs:3: struct S", "src/tcp/x.rs:3: field S.b"]);
    assert_eq!(metric("function-arguments", &files), (0, vec![]));
    assert_eq!(metric("tcp-called-once", &files), (50, vec!["src/tcp/x.rs:10: once".to_owned()]));
}

#[test]
fn an_owner_keeps_its_fields_and_is_there() {
    let rest = "struct Sender { a: u8 } struct Congestion; struct LossRecovery; struct Rtt(u8);";
    let files = [("src/tcp/a.rs", rest), ("src/tcp/b.rs", "pub struct Receiver { a: u8 } impl Receiver {}")];
    assert_eq!(metric("tcp-missing-owners", &files), (0, vec![]));
    assert_eq!(metric("tcp-open-fields", &files), (0, vec![]));
    let files = [("src/tcp/a.rs", rest), ("src/tcp/b.rs", "struct Receiver { pub(super) a: u8, b: u8 }")];
    assert_eq!(metric("tcp-open-fields", &files).1, ["src/tcp/b.rs:1: Receiver.a has a keyword"]);
    let files = [("src/tcp/b/mod.rs", "struct Receiver { a: u8 }\nmod c;"), ("src/tcp/b/c.rs", "")];
    assert_eq!(metric("tcp-open-fields", &files).1, ["src/tcp/b/mod.rs:1: Receiver.a seen by the file's own modules"]);
    let files = [("src/tcp/b.rs", "struct Receiver { a: u8 }\n#[cfg(test)] mod c;"), ("src/tcp/a.rs", rest)];
    assert_eq!(metric("tcp-open-fields", &files), (0, vec![]));
    let gone = [("src/tcp/a.rs", "struct Acceptor { pub a: u8 }"), ("src/shard/b.rs", rest)];
    assert_eq!(metric("tcp-missing-owners", &gone).0, OWNERS.len());
}

#[test]
fn a_connection_is_opened_in_its_folder() {
    let files = [
        ("src/tcp/connection/mod.rs", "struct Connection; impl Connection {}"),
        ("src/tcp/connection/input.rs", "impl super::Connection {}"),
        ("src/tcp/rack.rs", "impl Connections {} struct Connection;"),
        ("src/tcp/keepalive.rs", "\n\nimpl<'a> super::Connection<'a> {}\nimpl Drop for Connection {}"),
        ("src/services/testing.rs", "impl Connection {}"),
    ];
    assert_eq!(metric("impl-connection", &files), (1, vec!["src/tcp/keepalive.rs:3: impl Connection".to_owned()]));
}

/// The functions that are found to be called once, of a file of `tcp` with a neighbour and another room.
fn once(text: &str, neighbour: &str, elsewhere: &str) -> Vec<String> {
    let files = [("src/tcp/x.rs", text), ("src/tcp/y.rs", neighbour), ("src/shard/z.rs", elsewhere)];
    metric("tcp-called-once", &files).1
}

#[test]
fn a_call_is_found_however_it_is_written() {
    let said = ["src/tcp/x.rs:1: f"];
    let none: [&str; 0] = [];
    assert_eq!(once("fn f() {}", "", ""), none);
    for call in [
        "f();",
        "f::<u8>();",
        "self.f();",
        "a.b.f(1)?.c;",
        "Self::f(1);",
        "a.map(Self::f);",
        "a.map(super::x::f);",
        "assert!(a.f());",
        "matches!(a, Some(b) if Self::f(b));",
        "vec![a.map(Self::f), f];",
    ] {
        assert_eq!(once(&format!("fn f() {{}}\nconst C: u8 = {{ {call} }};"), "", ""), said, "{call}");
        assert_eq!(once(&format!("fn f() {{}}\nconst C: u8 = {{ {call} {call} }};"), "", ""), none, "twice {call}");
    }
    for other in ["let f = 1; g(f);", "a.f = f;", "S { f };", "f!(a);", "f::g();", "println!(\"{f}\", f);", "// f()"] {
        let text = format!("fn f() {{}}\nconst C: u8 = {{\n{other}\n}};");
        assert_eq!(once(&text, "", ""), none, "{other}");
    }
}

#[test]
fn a_call_counts_as_far_as_the_function_can_be_seen() {
    let none: [&str; 0] = [];
    assert_eq!(once("fn f() {}", "const C: u8 = f();", "const C: u8 = f();"), none);
    assert_eq!(once("pub(super) fn f() {}", "const C: u8 = f();", "const C: u8 = f();"), ["src/tcp/x.rs:1: f"]);
    assert_eq!(once("pub(crate) fn f() {}", "", "const C: u8 = f();"), ["src/tcp/x.rs:1: f"]);
    assert_eq!(once("pub fn f() {}", "const C: u8 = f();", "const C: u8 = f();"), none);
    // The modules below see what has no keyword.
    let below = [("src/tcp/x/mod.rs", "mod y; fn f() {}"), ("src/tcp/x/y.rs", "const C: u8 = super::f();")];
    assert_eq!(metric("tcp-called-once", &below).1, ["src/tcp/x/mod.rs:1: f"]);
    // Nobody knows who calls what a trait asks for.
    let of_traits = "trait T { fn f(); }\nimpl T for S { fn f() {} }\nconst C: u8 = S::f();";
    assert_eq!(once(of_traits, "", ""), none);
    let inside = "impl T for S { fn f() {\nfn g() {}\ng() } }";
    assert_eq!(once(inside, "", ""), ["src/tcp/x.rs:2: g"]);
}

#[test]
fn a_share_is_rounded_up() {
    let three = "fn a() { b() }\nfn b() {}\npub fn c() {}";
    assert_eq!(metric("tcp-called-once", &[("src/tcp/x.rs", three)]), (34, vec!["src/tcp/x.rs:2: b".to_owned()]));
    assert_eq!(metric("tcp-called-once", &[]).0, 0);
}

#[test]
fn the_largest_is_found_wherever_it_is() {
    let long = "impl S {\n    /// Of it.\n    fn f(\n        &self,\n        a: u8,\n    ) {\n    }\n}\nfn g(a: u8) {}";
    let files = [("src/net/x.rs", long), ("src/main.rs", "fn main() {\n}"), ("tests/x.rs", "fn f() {\n\n\n\n\n\n}")];
    let lines = ["src/net/x.rs:3: f, 5 lines", "src/main.rs:1: main, 2 lines", "src/net/x.rs:9: g, 1 lines"];
    assert_eq!(metric("function-lines", &files), (5, lines.map(str::to_owned).to_vec()));
    let arguments = ["src/net/x.rs:3: f, 2 arguments", "src/net/x.rs:9: g, 1 arguments"];
    assert_eq!(metric("function-arguments", &files), (2, arguments.map(str::to_owned).to_vec()));
    let declared = [("src/net/x.rs", "trait T {\n    fn f(\n        a: u8,\n    );\n}")];
    assert_eq!(metric("function-lines", &declared).0, 3);
    let files = [("src/a.rs", "\n"), ("tests/b.rs", "\n\n"), ("run.sh", "\n\n\n"), ("README.md", "x")];
    assert_eq!(metric("file-lines", &files).1, ["tests/b.rs: 2 lines", "src/a.rs: 1 lines"]);
    assert_eq!(metric("run-sh-lines", &files).0, 3);
    assert_eq!(metric("readme-lines", &files).0, 1);
}

#[test]
fn a_package_counts_once() {
    let tree = "trust v0.1.0 (/somewhere)\nlibc v0.2.1\nmio v1.2.0\nlibc v0.2.1 (*)\nlibc v0.3.0\n\n";
    assert_eq!(packages_of(tree).now(), 4);
}

#[test]
fn what_is_no_rust_is_named_by_its_line() {
    let error = measure(&repository(&[("src/tcp/x.rs", "\nfn 1() {}\n")])).expect_err("no Rust");
    assert!(error.starts_with("src/tcp/x.rs:2: "), "{error}");
}

// ---- bounds ----

/// Small, and without a fault.
const SOUND: [(&str, &str); 6] = [
    ("src/tcp/mod.rs", "mod connection;\nmod recovery;\n"),
    ("src/tcp/connection/mod.rs", "mod receiver;\npub struct Connection;\nimpl Connection {}\n"),
    ("src/tcp/connection/receiver.rs", "struct Receiver { nxt: u8 }\nfn f(a: u8) {}\nconst C: u8 = f() + f();\n"),
    ("src/tcp/recovery.rs", "struct Sender;\nstruct Congestion;\nstruct LossRecovery;\nstruct Rtt(u8);\n"),
    ("run.sh", "true\n"),
    ("README.md", "# x\n"),
];

/// Bounds that are what these files are now.
fn bounds(metrics: &[Metric]) -> Bounds {
    let rows: String = metrics.iter().map(|metric| format!("{} ? 0\n", metric.name())).collect();
    let mut bounds = Bounds::parse(&rows).expect("rows");
    bounds.bless(metrics);
    bounds
}

#[test]
fn each_bound_is_broken_by_a_fault_and_names_its_place() {
    let mut sound = measure(&repository(&SOUND)).expect("Rust");
    sound.push(packages_of("trust v0.1.0"));
    let bounds = bounds(&sound);
    assert_eq!(bounds.faults(&sound), Vec::<String>::new());
    let faults = [
        ("circles", "src/tcp/recovery.rs", "use super::connection::Connection;\nstruct Rtt(u8);", "src/tcp: "),
        ("tcp-visible", "src/tcp/recovery.rs", "\npub fn f() {}", "src/tcp/recovery.rs:2: fn f"),
        ("tcp-restricted", "src/tcp/recovery.rs", "\npub(crate) fn f() {}", "src/tcp/recovery.rs:2: fn f"),
        ("tcp-open-fields", "src/tcp/recovery.rs", "struct Rtt(pub(super) u8);", "src/tcp/recovery.rs:1: Rtt._"),
        ("tcp-missing-owners", "src/tcp/recovery.rs", "struct Sender;", "src/tcp: no struct Rtt"),
        ("impl-connection", "src/tcp/recovery.rs", "impl Connection {}", "src/tcp/recovery.rs:1: impl Connection"),
        ("tcp-called-once", "src/tcp/recovery.rs", "fn g() {}\nconst C: u8 = g();", "src/tcp/recovery.rs:1: g"),
        ("function-lines", "src/net/x.rs", "fn h() {\n}", "src/net/x.rs:1: h, 2 lines"),
        ("function-arguments", "src/net/x.rs", "fn h(a: u8, b: u8) {}", "src/net/x.rs:1: h, 2 arguments"),
        ("file-lines", "fuzz/x.rs", "\n\n\n\n\n\n\n", "fuzz/x.rs: 7 lines"),
        ("run-sh-lines", "run.sh", "true\ntrue\n", "run.sh: 2 lines"),
        ("readme-lines", "README.md", "\n\n", "README.md: 2 lines"),
    ];
    for (name, file, text, place) in faults {
        let mut files: Vec<_> = SOUND.into_iter().filter(|(other, _)| *other != file).collect();
        files.push((file, text));
        // A circle takes two.
        if name == "circles" {
            files.retain(|(other, _)| *other != "src/tcp/connection/mod.rs");
            files.push(("src/tcp/connection/mod.rs", "use super::recovery::Rtt;\npub struct Connection;\n"));
        }
        let found = bounds.faults(&measure(&repository(&files)).expect("Rust"));
        let fault = found.iter().find(|fault| fault.starts_with(&format!("{name} is "))).expect(name);
        assert!(fault.contains(&format!("\n    {place}")), "{fault}");
    }
    let found = bounds.faults(&[packages_of("trust v0.1.0\nlibc v0.2.0")]);
    assert_eq!(found[0], "packages is 2 and may be 1:\n    Cargo.lock: libc v0.2.0\n    Cargo.lock: trust v0.1.0");
}

#[test]
fn where_the_most_counts_only_what_is_too_large_is_named() {
    let place = |size: usize| Place { size, ..Place::new(format!("{size}.rs"), "x") };
    let metric = Metric::most("file-lines", vec![place(3), place(9), place(5)]);
    let above = |bound| metric.places_above(bound).map(|place| place.size).collect::<Vec<_>>();
    assert_eq!((above(9), above(8), above(3)), (vec![], vec![9], vec![9, 5]));
}

#[test]
fn bounds_only_fall_and_stop_at_the_goal() {
    let metrics = measure(&repository(&[("README.md", "1\n")])).expect("Rust");
    let blessed = |text: &str| {
        let mut bounds = Bounds::parse(text).expect("rows");
        bounds.bless(&metrics);
        bounds.to_string()
    };
    let row = |name: &str, bound: &str, goal: usize| format!("{name:<20} {bound:>6} {goal:>6}\n");
    assert_eq!(blessed("readme-lines 5 0\n"), row("readme-lines", "1", 0));
    assert_eq!(blessed("readme-lines 5 2\n"), row("readme-lines", "2", 2));
    assert_eq!(blessed("readme-lines ? 0\n"), row("readme-lines", "1", 0));
    assert_eq!(blessed("readme-lines 0 0\n"), row("readme-lines", "0", 0));
    assert_eq!(blessed("# Why.\n\nother 7 3\n"), format!("# Why.\n\n{}", row("other", "7", 3)));
}

#[test]
fn rows_and_metrics_are_the_same() {
    let metrics = [Metric::count("circles", vec![])];
    let faults = |text: &str| Bounds::parse(text).expect("rows").faults(&metrics);
    assert_eq!(faults("circles 0 0\n"), Vec::<String>::new());
    assert_eq!(faults("circles 0 0\npackages 4 4\n"), Vec::<String>::new());
    assert_eq!(faults("circle 0 0\n"), ["circles has no row", "nothing measures circle"]);
    assert_eq!(faults("circles ? 0\n"), ["circles is 0 and has no bound yet; code-metrics --bless sets it"]);
    for text in ["circles\n", "circles 1\n", "circles x 1\n", "circles 1 ?\n", "circles 1 1 1\n"] {
        let error = Bounds::parse(&format!("# Why.\n{text}")).expect_err(text);
        assert!(error.starts_with("line 2: "), "{error}");
    }
}

#[test]
fn the_table_shows_what_is_there() {
    let bounds = Bounds::parse("circles 2 0\npackages ? 40\n").expect("rows");
    let table = bounds.table(&[Metric::count("circles", vec![Place::new("src/tcp", "a b")])]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected = [["metric", "now", "bound", "goal"], ["circles", "1", "2", "0"], ["packages", "-", "?", "40"]];
    assert_eq!(lines, expected);
}
