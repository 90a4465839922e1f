//! Each public item that one starts from has an example, which the doc tests run.

use std::fs;
use std::path::Path;

/// As their declarations begin; of one name there may be several.
const STARTS: [&str; 19] = [
    "pub fn pair(",
    "pub struct Builder ",
    "pub struct Connection ",
    "pub struct Engine ",
    "pub struct EngineConfig ",
    "pub struct EventQueue ",
    "pub struct Host ",
    "pub struct Impaired<",
    "pub struct Plan ",
    "pub struct Route ",
    "pub struct ServiceFactory ",
    "pub struct ServiceSpec ",
    "pub struct Stack ",
    "pub struct TcpListener ",
    "pub struct TcpSocket ",
    "pub struct TcpStream ",
    "pub struct TunDevice ",
    "pub struct World ",
    "pub trait Service:",
];

/// All declarations below a folder that begin so, each with its documentation.
fn declared(folder: &Path, start: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            declared(&path, start, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| line.starts_with(start)) {
            let above = lines[..at].iter().rev();
            let docs = above.take_while(|line| line.starts_with("///") || line.starts_with("#["));
            found.push((path.display().to_string(), docs.copied().collect::<Vec<_>>().join("\n")));
        }
    }
}

#[test]
fn what_one_starts_from_has_an_example() {
    for start in STARTS {
        let mut found = Vec::new();
        declared(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), start, &mut found);
        // The simulator's plan of an application is a part of a world.
        found.retain(|(path, _)| !(start == "pub struct Plan " && path.ends_with("sim/app.rs")));
        assert!(!found.is_empty(), "there is no `{start}`");
        for (path, docs) in found {
            assert!(docs.contains("/// ```"), "{path}: `{start}` has no example");
        }
    }
}
