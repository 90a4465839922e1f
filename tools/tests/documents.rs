//! The documents say nothing of what is not there: links lead somewhere, and cited places are in the code.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use trust_tools::links::{anchors, declares, is_relative, links, places};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// All Markdown files of the repository, from its root, with their texts.
fn documents() -> BTreeMap<PathBuf, String> {
    fn read(folder: &Path, documents: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                read(&path, documents);
            } else if name.ends_with(".md") {
                let short = path.strip_prefix(root()).unwrap().to_path_buf();
                documents.insert(short, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut documents = BTreeMap::new();
    read(&root(), &mut documents);
    assert!(documents.len() >= 10, "{} documents", documents.len());
    documents
}

/// A path without `.` and `..`; `None`: it leads out of the repository.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => plain.pop().then_some(())?,
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

/// `documents` is asked for the headings of a file.
fn leads_somewhere(from: &Path, target: &str, documents: &BTreeMap<PathBuf, String>) -> bool {
    let (path, heading) = target.split_once('#').map_or((target, None), |(path, heading)| (path, Some(heading)));
    let to = if path.is_empty() { Some(from.to_path_buf()) } else { plain(&from.parent().unwrap().join(path)) };
    let Some(to) = to.filter(|to| root().join(to).exists()) else { return false };
    heading.is_none_or(|heading| documents.get(&to).is_some_and(|text| anchors(text).contains(heading)))
}

#[test]
fn every_relative_link_leads_somewhere() {
    let documents = documents();
    let (mut links_found, mut dead) = (0, Vec::new());
    for (path, text) in &documents {
        for (line, target) in links(text).into_iter().filter(|(_, target)| is_relative(target)) {
            links_found += 1;
            if !leads_somewhere(path, &target, &documents) {
                dead.push(format!("{}:{line}: {target}", path.display()));
            }
        }
    }
    assert!(links_found >= 20, "{links_found} links");
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
}

/// Not those of the changelog: it speaks of the past.
#[test]
fn every_cited_place_is_there() {
    let (mut found, mut missing) = (0, Vec::new());
    for (path, text) in documents().iter().filter(|(path, _)| *path != Path::new("CHANGELOG.md")) {
        for (line, place) in places(text) {
            found += 1;
            let (file, name) = place.split_once(':').map_or((place.as_str(), None), |(file, name)| (file, Some(name)));
            let near = root().join(path.parent().unwrap());
            let tops = [root().join("src"), root(), near];
            let source = tops.iter().find_map(|top| fs::read_to_string(top.join(file)).ok());
            let there = source.is_some_and(|source| name.is_none_or(|name| declares(&source, name)));
            if !there {
                missing.push(format!("{}:{line}: {place}", path.display()));
            }
        }
    }
    assert!(found >= 100, "{found} places");
    assert!(missing.is_empty(), "places that are not in the code:\n{}", missing.join("\n"));
}
