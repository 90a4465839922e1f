//! Runs the inputs in folders once and prints which functions of the engine they do not come by, and the lines of the
//! edges that they miss in others: `./fuzz/run.sh uncovered FOLDER ...`.

#[allow(dead_code)] // what only targets use
mod edges;
#[path = "../../tests/fuzzing/forge.rs"]
mod forge;
#[path = "../../tests/fuzzing/hosts.rs"]
mod hosts;
#[path = "../../tests/fuzzing/input.rs"]
mod input;

use std::ffi::c_void;

// Instead of libFuzzer's: the instruments say that they are there.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(_: *mut u8, _: *mut u8) {}
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_pcs_init(_: *const usize, _: *const usize) {}

struct Function {
    name: String,
    edges: usize,
    missed: Vec<String>,
}

fn main() {
    let mut hit = vec![false; edges::places().len()];
    for folder in std::env::args().skip(1) {
        for file in std::fs::read_dir(folder).expect("a folder") {
            let script = std::fs::read(file.expect("a file").path()).expect("a file");
            hosts::run(&script);
            for (counter, hit) in edges::counters().iter_mut().zip(&mut hit) {
                *hit |= std::mem::take(counter) > 0;
            }
        }
    }
    let mut functions: Vec<Function> = Vec::new();
    for (&[place, kind], hit) in edges::places().iter().zip(hit) {
        let (mut line, mut name) = (String::new(), String::new());
        backtrace::resolve((place + 1) as *mut c_void, |symbol| {
            let file = symbol.filename().map(|file| file.display().to_string()).unwrap_or_default();
            let file = file.rsplit_once("/src/").map_or("", |(_, file)| file);
            if line.is_empty() || line.starts_with("core") || line.starts_with('?') {
                line = format!("{file}:{}", symbol.lineno().unwrap_or(0));
            }
            name = format!("{file} {}", symbol.name().map(|name| name.to_string()).unwrap_or_default());
        });
        if kind & 1 == 1 {
            functions.push(Function { name, edges: 0, missed: Vec::new() });
        }
        if !edges::is_ours(place) {
            continue;
        }
        let Some(function) = functions.last_mut() else { continue };
        function.edges += 1;
        if !hit {
            function.missed.push(line);
        }
    }
    functions.retain(|function| !function.missed.is_empty());
    functions.sort_by(|one, other| one.name.cmp(&other.name));
    for Function { name, edges, missed } in functions {
        let lines = if missed.len() == edges { "all".to_owned() } else { missed.join(" ") };
        println!("{}/{edges} {name}: {lines}", edges - missed.len());
    }
}
