//! README shows code of the examples, and lists them: both are compared with what is there.

#![allow(clippy::unwrap_used)]

use std::fs;

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A line without its indentation and a comment behind it.
fn bare(line: &str) -> &str {
    line.split("  //").next().unwrap().trim()
}

/// Every line of a code block stands in the example that was named last before the block, in the same order.
#[test]
fn code_in_the_readme_is_that_of_the_examples() {
    let readme = read("README.md");
    let (mut blocks, mut named) = (0, None);
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        if let Some((_, rest)) = line.split_once("`examples/") {
            named = rest.split_once(".rs").map(|(name, _)| name.to_owned());
        }
        if line != "```rust" {
            continue;
        }
        blocks += 1;
        let name = named.as_ref().expect("an example is named before its code");
        let example = read(&format!("examples/{name}.rs"));
        let mut rest = example.lines().map(bare);
        for wanted in lines.by_ref().take_while(|line| *line != "```").map(bare) {
            assert!(
                rest.any(|line| line == wanted),
                "examples/{name}.rs does not have (or not in this order): {wanted}"
            );
        }
    }
    assert!(blocks >= 4, "{blocks} blocks of code in README");
}

/// Every example is in the README's table, and runs in `run.sh test`.
#[test]
fn examples_are_listed_and_run() {
    let (readme, script) = (read("README.md"), read("run.sh"));
    let table =
        readme.split_once("### Examples").unwrap().1.split_once("\n\n|").unwrap().1.split_once("\n\n").unwrap().0;
    let run = script.split_once("all_examples() {").unwrap().1.split_once("\n}").unwrap().0;
    let words: Vec<_> = run.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let mut count = 0;
    for entry in fs::read_dir(format!("{}/examples", env!("CARGO_MANIFEST_DIR"))).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.strip_suffix(".rs").unwrap();
        assert!(table.contains(&format!("`{name}`")), "{name} is not in README's table of examples");
        assert!(words.contains(&name), "{name} does not run in ./run.sh test");
        count += 1;
    }
    assert!(count >= 8, "{count} examples");
}
