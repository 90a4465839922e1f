//! README and docs/programs.md show code of the examples, and list them: both are compared with what is there.

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
fn code_in_the_documents_is_that_of_the_examples() {
    assert!(blocks_of_examples("README.md") >= 2);
    assert!(blocks_of_examples("docs/programs.md") >= 4);
}

/// How many code blocks that document has. All of them are of examples.
fn blocks_of_examples(document: &str) -> usize {
    let text = read(document);
    let (mut blocks, mut named) = (0, None);
    let mut lines = text.lines();
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
                "{document}: examples/{name}.rs does not have (or not in this order): {wanted}"
            );
        }
    }
    blocks
}

/// README is what a user needs first; everything else has a document of its own.
#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines < 200, "README.md has {lines} lines");
}

/// Every example is in the table, and runs in `run.sh test`.
#[test]
fn examples_are_listed_and_run() {
    let (programs, run) = (read("docs/programs.md"), read("tools/run/src/examples.rs"));
    let table =
        programs.split_once("## Examples").unwrap().1.split_once("\n\n|").unwrap().1.split_once("\n\n").unwrap().0;
    let mut count = 0;
    for entry in fs::read_dir(format!("{}/examples", env!("CARGO_MANIFEST_DIR"))).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.strip_suffix(".rs").unwrap();
        assert!(table.contains(&format!("`{name}`")), "{name} is not in the table of examples");
        assert!(run.contains(&format!("\"{name}\"")), "{name} does not run in ./run.sh test");
        count += 1;
    }
    assert!(count >= 8, "{count} examples");
}
