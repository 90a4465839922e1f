//! Compares `CONFORMANCE.md` with code and tests: one line for each contradiction, exit status 1 when there is any.
//!
//! Contradictions are: an id cited in `src/`, `tests/` or `benches/` that has no row; a row whose file, function or test
//! does not exist; a row that says `yes` and whose id nobody cites; a row that is there twice or has no proper form.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use trust_tools::conformance::{citations, function, rows};

fn main() -> ExitCode {
    let root = env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    match check(&root) {
        Ok((rows, wrong)) if wrong.is_empty() => {
            println!("conformance: {rows} rows, no contradiction");
            ExitCode::SUCCESS
        }
        Ok((_, wrong)) => {
            wrong.iter().for_each(|line| println!("{line}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("conformance-check: {error}; start it at the root of the repository or name that as argument");
            ExitCode::from(2)
        }
    }
}

/// The number of rows, and what is wrong.
fn check(root: &Path) -> io::Result<(usize, Vec<String>)> {
    const FILE: &str = "CONFORMANCE.md";
    let table = fs::read_to_string(root.join(FILE)).map_err(|error| io::Error::other(format!("{FILE}: {error}")))?;
    let (rows, form) = rows(&table);
    let mut wrong: Vec<String> = form.into_iter().map(|what| format!("{FILE}: {what}")).collect();
    let mut sources = BTreeMap::new();
    for top in ["src", "tests", "benches", "tools/src", "examples"] {
        read_sources(&root.join(top), &mut sources)?;
    }
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let (mut cited, mut functions) = (BTreeSet::new(), BTreeSet::new());
    for (path, text) in &sources {
        let short = path.strip_prefix(root).unwrap_or(path);
        functions.extend(text.lines().filter_map(function));
        if short.starts_with("tools") || short.starts_with("examples") {
            continue;
        }
        let (known, dangling) = citations(text, &ids);
        cited.extend(known);
        wrong.extend(dangling.iter().map(|(line, id)| format!("{}:{line}: {id} has no row", short.display())));
    }
    // Some tests are named by a string where they are registered.
    let named = |test: &str| sources.values().any(|text| text.contains(&format!("\"{test}\"")));
    for row in &rows {
        let mut tell = |what: String| wrong.push(format!("{FILE}:{}: {} {what}", row.line, row.id));
        for test in &row.tests {
            let exists = if test.contains('/') {
                root.join(test).is_file()
            } else {
                functions.contains(test.as_str()) || named(test)
            };
            if !exists {
                tell(format!("names a test that does not exist: {test}"));
            }
        }
        for place in row.places.iter().filter(|_| row.is_built()) {
            let (file, name) = place.split_once(':').map_or((place.as_str(), None), |(file, name)| (file, Some(name)));
            let outside = ["tests/", "benches/", "tools/", "examples/"].iter().any(|top| file.starts_with(top));
            let path = if outside { root.join(file) } else { root.join("src").join(file) };
            match sources.get(&path) {
                None => tell(format!("names a file that does not exist: {file}")),
                Some(text) => {
                    if let Some(name) = name.filter(|name| !text.lines().any(|line| function(line) == Some(name))) {
                        tell(format!("names a function that does not exist: {file}:{name}"));
                    }
                }
            }
        }
        if row.status == "yes" && !cited.contains(row.id.as_str()) {
            tell("is claimed, yet neither code nor test cites it".to_owned());
        }
    }
    Ok((rows.len(), wrong))
}

/// All `.rs` files below `directory`.
fn read_sources(directory: &Path, sources: &mut BTreeMap<PathBuf, String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            read_sources(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            sources.insert(path, text);
        }
    }
    Ok(())
}
