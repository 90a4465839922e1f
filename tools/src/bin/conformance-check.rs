//! Compares the tables of `docs/conformance/` with code and tests: one line for each contradiction, exit status 1 when
//! there is any.
//!
//! Contradictions are: an id cited in `src/`, `tests/` or `benches/` that has no row; a row whose file, function or
//! test does not exist; a row that says `yes` and whose id nobody cites; a row that is there twice or has no proper form;
//! totals in `docs/conformance/README.md` that are not those of the rows. `--totals` writes these first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use trust_tools::conformance::{Row, Totals, citations, function, rows, title, totals_table, with_totals};

/// Where the tables are, from the root of the repository.
const FOLDER: &str = "docs/conformance";
/// Which of the files there has the totals, and no rows.
const INDEX: &str = "README.md";

fn main() -> ExitCode {
    let (options, roots): (Vec<_>, Vec<_>) = env::args().skip(1).partition(|argument| argument.starts_with("--"));
    if options.iter().any(|option| option != "--totals") || roots.len() > 1 {
        eprintln!("usage: conformance-check [--totals] [ROOT]");
        return ExitCode::from(2);
    }
    let root = roots.first().map_or_else(|| PathBuf::from("."), PathBuf::from);
    match check(&root, !options.is_empty()) {
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

/// One file of the folder.
struct Document {
    /// Its name in the folder.
    file: String,
    title: String,
    rows: Vec<Row>,
}

/// The number of rows, and what is wrong.
fn check(root: &Path, write_totals: bool) -> io::Result<(usize, Vec<String>)> {
    let mut wrong = Vec::new();
    let documents = read_documents(&root.join(FOLDER), &mut wrong)?;
    check_totals(&root.join(FOLDER).join(INDEX), &documents, write_totals, &mut wrong)?;

    let mut sources = BTreeMap::new();
    for top in ["src", "tests", "benches", "tools/src", "examples"] {
        read_sources(&root.join(top), &mut sources)?;
    }
    let ids: Vec<&str> = documents.iter().flat_map(|document| &document.rows).map(|row| row.id.as_str()).collect();
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
    for Document { file, rows, .. } in &documents {
        for row in rows {
            let mut tell = |what: String| wrong.push(format!("{FOLDER}/{file}:{}: {} {what}", row.line, row.id));
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
                if let Some(what) = missing(place, root, &sources) {
                    tell(format!("names a {what} that does not exist: {place}"));
                }
            }
            if row.status == "yes" && !cited.contains(row.id.as_str()) {
                tell("is claimed, yet neither code nor test cites it".to_owned());
            }
        }
    }
    Ok((ids.len(), wrong))
}

/// What of `file` or `file:function` is not there.
fn missing(place: &str, root: &Path, sources: &BTreeMap<PathBuf, String>) -> Option<&'static str> {
    let (file, name) = place.split_once(':').map_or((place, None), |(file, name)| (file, Some(name)));
    let outside = ["tests/", "benches/", "tools/", "examples/"].iter().any(|top| file.starts_with(top));
    let path = if outside { root.join(file) } else { root.join("src").join(file) };
    let Some(text) = sources.get(&path) else { return Some("file") };
    let there = name.is_none_or(|name| text.lines().any(|line| function(line) == Some(name)));
    (!there).then_some("function")
}

/// The documents of a folder, those of the RFCs first, by their numbers.
fn read_documents(folder: &Path, wrong: &mut Vec<String>) -> io::Result<Vec<Document>> {
    let entries = fs::read_dir(folder).map_err(|error| io::Error::other(format!("{FOLDER}: {error}")))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry?.file_name().to_string_lossy().into_owned();
        if file.ends_with(".md") && file != INDEX {
            files.push(file);
        }
    }
    files.sort_by_key(|file| {
        let digits: String = file.trim_start_matches("rfc").chars().take_while(char::is_ascii_digit).collect();
        (digits.parse::<u32>().unwrap_or(u32::MAX), file.clone())
    });
    let (mut documents, mut seen) = (Vec::<Document>::new(), BTreeMap::new());
    for file in files {
        let text = fs::read_to_string(folder.join(&file))?;
        let (rows, form) = rows(&text);
        wrong.extend(form.into_iter().map(|what| format!("{FOLDER}/{file}: {what}")));
        if rows.is_empty() {
            wrong.push(format!("{FOLDER}/{file}: has no row"));
        }
        for row in &rows {
            if let Some(first) = seen.insert(row.id.clone(), file.clone()).filter(|first| *first != file) {
                wrong.push(format!("{FOLDER}/{file}:{}: {} is in {first} already", row.line, row.id));
            }
        }
        let title = title(&text).unwrap_or(&file).to_owned();
        documents.push(Document { file, title, rows });
    }
    Ok(documents)
}

/// Compares the totals of the index with the rows, or writes them.
fn check_totals(index: &Path, documents: &[Document], write: bool, wrong: &mut Vec<String>) -> io::Result<()> {
    let text = fs::read_to_string(index).map_err(|error| io::Error::other(format!("{}: {error}", index.display())))?;
    let totals: Vec<_> = documents
        .iter()
        .map(|document| (document.file.as_str(), document.title.as_str(), Totals::of(&document.rows)))
        .collect();
    match with_totals(&text, &totals_table(&totals)) {
        None => wrong.push(format!("{FOLDER}/{INDEX}: has no place for totals")),
        Some(new) if new == text => {}
        Some(new) if write => fs::write(index, new)?,
        Some(_) => wrong.push(format!(
            "{FOLDER}/{INDEX}: its totals are not those of the rows; conformance-check --totals writes them"
        )),
    }
    Ok(())
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
