//! Measures what can be counted of how the code is built, and holds it to bounds that only fall.
//!
//! [`measure`] counts over the texts of a [`Repository`]; [`Bounds`] has for each metric the most that it may be today
//! and where it is to go. The binary `code-metrics` prints the table; the bounds are `tools/code-metrics.txt`.
//!
//! | metric | counts |
//! | --- | --- |
//! | `circles` | groups of files of one room that need each other, as `tests/arrows` finds them |
//! | `tcp-visible` | items, methods, constants and fields of `tcp` with a keyword that shows them to other files |
//! | `tcp-restricted` | of these, the ones that say `pub(super)`, `pub(crate)` or `pub(in ...)` |
//! | `tcp-open-fields` | fields of the types that own `tcp`'s state, where another file can name them |
//! | `tcp-missing-owners` | those types that are nowhere, so that no rename hides their fields |
//! | `impl-connection` | files of `tcp` outside its folder `connection/` that have an `impl` block of `Connection` |
//! | `tcp-called-once` | per cent of `tcp`'s functions that one place calls, rounded up |
//! | `function-lines` | lines of the longest function of `src/`, from its `fn` to its last brace |
//! | `function-arguments` | arguments of the function of `src/` that has most, with `self` |
//! | `file-lines` | lines of the longest Rust file of the repository, tests as well |
//! | `run-sh-lines`, `readme-lines` | lines of `run.sh` and of `README.md` |
//! | `packages` | packages that the library without features consists of, itself as well: [`packages`] asks cargo |
//!
//! Where nothing else is said, what is compiled for tests only is left out. Modules and `use` declarations are not
//! things of their own. A call is told by its name: `name(...)`, `x.name(...)`, and `Type::name` wherever it stands, in
//! the arguments of a macro, too. It counts for every function of that name that can be named there, so the share errs
//! on the low side. Functions of traits are neither counted nor looked for, since their calls may be anybody's.

mod bounds;
// The test that holds the arrows reads `use` declarations and paths; nobody else does it a second time.
#[path = "../../../tests/arrows/reader.rs"]
mod reader;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

pub use bounds::Bounds;
use source::{Function, Reach, Source};

/// The types that own the state of `tcp`.
const OWNERS: [&str; 5] = ["Receiver", "Sender", "Congestion", "LossRecovery", "Rtt"];

/// The metric that cargo is asked for, and which may be left unmeasured.
const PACKAGES: &str = "packages";

/// The texts that are measured, by their paths from the root: all of Rust, `run.sh` and `README.md`.
#[derive(Clone, Debug, Default)]
pub struct Repository {
    files: BTreeMap<String, String>,
}

impl Repository {
    /// Reads what lies below a folder, but for `target` and what begins with a dot.
    ///
    /// # Errors
    ///
    /// A file or folder that cannot be read, with its path.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut repository = Self::default();
        repository.read_folder(root, root)?;
        Ok(repository)
    }

    fn read_folder(&mut self, root: &Path, folder: &Path) -> io::Result<()> {
        let named = |path: &Path, error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
        for entry in fs::read_dir(folder).map_err(|error| named(folder, error))? {
            let entry = entry.map_err(|error| named(folder, error))?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if entry.file_type().map_err(|error| named(&path, error))?.is_dir() {
                self.read_folder(root, &path)?;
                continue;
            }
            let short = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if is_rust(&short) || short == "run.sh" || short == "README.md" {
                let text = fs::read_to_string(&path).map_err(|error| named(&path, error))?;
                self.files.insert(short, text);
            }
        }
        Ok(())
    }

    /// The files of `src/` that are not for tests only.
    fn sources(&self) -> Result<(reader::Arrows, Vec<Source>), String> {
        let texts: BTreeMap<String, String> = self
            .files
            .iter()
            .filter_map(|(file, text)| Some((file.strip_prefix("src/")?.to_owned(), text.clone())))
            .collect();
        let arrows = reader::read(&texts);
        let mut sources = Vec::new();
        for (file, text) in &texts {
            let module = reader::module(file);
            // The roots import what they like, and have no arrows.
            if file == "lib.rs" || file == "main.rs" || arrows.contains_key(&module) {
                sources.push(Source::read(format!("src/{file}"), module, text)?);
            }
        }
        Ok((arrows, sources))
    }
}

impl FromIterator<(String, String)> for Repository {
    /// From paths and texts.
    fn from_iter<T: IntoIterator<Item = (String, String)>>(files: T) -> Self {
        Self { files: files.into_iter().collect() }
    }
}

/// Where something is that was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A file, perhaps with a line, from the root of the repository.
    pub at: String,
    /// What is there.
    pub what: String,
    /// How much it is, where the most counts; else 1.
    pub size: usize,
}

impl Place {
    fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into(), size: 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// How places make a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    /// How many there are.
    Count,
    /// The greatest of their sizes.
    Most,
    /// How many of a hundred they are, of this many.
    Share(usize),
}

/// Something that is counted, with the places that make it so large.
#[derive(Clone, Debug)]
pub struct Metric {
    name: &'static str,
    sum: Sum,
    places: Vec<Place>,
}

impl Metric {
    fn count(name: &'static str, places: Vec<Place>) -> Self {
        Self { name, sum: Sum::Count, places }
    }

    fn most(name: &'static str, mut places: Vec<Place>) -> Self {
        places.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.at.cmp(&b.at)));
        Self { name, sum: Sum::Most, places }
    }

    /// Its name in the table of bounds.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }

    /// What it is now.
    #[must_use]
    pub fn now(&self) -> usize {
        match self.sum {
            Sum::Count => self.places.len(),
            Sum::Most => self.places.iter().map(|place| place.size).max().unwrap_or(0),
            Sum::Share(of) => (100 * self.places.len()).div_ceil(of.max(1)),
        }
    }

    /// Where it is more than `bound`: all places, or where the most counts those that are too large.
    pub fn places_above(&self, bound: usize) -> impl Iterator<Item = &Place> {
        let is_above = self.now() > bound;
        self.places.iter().filter(move |place| is_above && (self.sum != Sum::Most || place.size > bound))
    }
}

/// All metrics but that of [`packages`].
///
/// # Errors
///
/// A file of `src/` that is no Rust.
pub fn measure(repository: &Repository) -> Result<Vec<Metric>, String> {
    let (arrows, sources) = repository.sources()?;
    let tcp: Vec<&Source> = sources.iter().filter(|source| source.is_within("tcp")).collect();
    Ok(vec![
        circles(&arrows),
        visible(&tcp, "tcp-visible", |_| true),
        visible(&tcp, "tcp-restricted", |reach| reach != Reach::Public),
        open_fields(&tcp),
        missing_owners(&tcp),
        impl_connection(&tcp),
        called_once(&sources, &tcp),
        functions(&sources, "function-lines", |function| function.lines, "lines"),
        functions(&sources, "function-arguments", |function| function.arguments, "arguments"),
        lines(repository, "file-lines", is_rust),
        lines(repository, "run-sh-lines", |file| file == "run.sh"),
        lines(repository, "readme-lines", |file| file == "README.md"),
    ])
}

fn is_rust(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|end| end == "rs")
}

fn circles(arrows: &reader::Arrows) -> Metric {
    let place = |circle: &BTreeSet<String>| {
        let room = circle.first().map_or("", |file| reader::room(file));
        Place::new(format!("src/{room}"), circle.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
    };
    Metric::count("circles", reader::circles(arrows).iter().map(place).collect())
}

fn visible(tcp: &[&Source], name: &'static str, counts: impl Fn(Reach) -> bool) -> Metric {
    let mut places = Vec::new();
    for source in tcp {
        let shown = source.visible.iter().filter(|thing| counts(thing.reach));
        places.extend(shown.map(|thing| Place::new(format!("{}:{}", source.file, thing.line), &thing.what)));
    }
    Metric::count(name, places)
}

/// A module sees the fields of those around it without a keyword: an owner's file has no children.
fn open_fields(tcp: &[&Source]) -> Metric {
    let mut places = Vec::new();
    for source in tcp {
        let fields = source.fields.iter().filter(|field| OWNERS.contains(&field.owner.as_str()));
        let open = fields.filter(|field| field.reach != Reach::File || source.has_children);
        places.extend(open.map(|field| {
            let at = format!("{}:{}", source.file, field.line);
            let why = if field.reach == Reach::File { "seen by the file's own modules" } else { "has a keyword" };
            Place::new(at, format!("{}.{} {why}", field.owner, field.name))
        }));
    }
    Metric::count("tcp-open-fields", places)
}

fn missing_owners(tcp: &[&Source]) -> Metric {
    let is_missing = |owner: &&str| !tcp.iter().any(|source| source.structs.iter().any(|name| name == owner));
    let place = |owner: &str| Place::new("src/tcp", format!("no struct {owner}"));
    Metric::count("tcp-missing-owners", OWNERS.into_iter().filter(is_missing).map(place).collect())
}

fn impl_connection(tcp: &[&Source]) -> Metric {
    let outside = tcp.iter().filter(|source| !source.file.starts_with("src/tcp/connection/"));
    let place = |source: &&Source| {
        let (name, line) = source.impls.iter().find(|(name, _)| name == "Connection")?;
        Some(Place::new(format!("{}:{line}", source.file), format!("impl {name}")))
    };
    Metric::count("impl-connection", outside.filter_map(place).collect())
}

fn called_once(sources: &[Source], tcp: &[&Source]) -> Metric {
    fn calls<'a>(sources: impl Iterator<Item = &'a Source>, function: &Function) -> usize {
        sources.filter_map(|source| source.calls.get(&function.name)).sum()
    }
    let (mut places, mut all) = (Vec::new(), 0);
    for source in tcp {
        for function in source.functions.iter().filter(|function| !function.of_trait) {
            all += 1;
            let calls = match function.reach {
                Reach::File => calls(tcp.iter().copied().filter(|file| file.is_within(&source.module)), function),
                Reach::Room => calls(tcp.iter().copied(), function),
                Reach::Crate | Reach::Public => calls(sources.iter(), function),
            };
            if calls == 1 {
                places.push(Place::new(format!("{}:{}", source.file, function.line), &function.name));
            }
        }
    }
    Metric { name: "tcp-called-once", sum: Sum::Share(all), places }
}

fn functions(sources: &[Source], name: &'static str, size: impl Fn(&Function) -> usize, unit: &str) -> Metric {
    let mut places = Vec::new();
    for source in sources {
        places.extend(source.functions.iter().map(|function| {
            let what = format!("{}, {} {unit}", function.name, size(function));
            Place { size: size(function), ..Place::new(format!("{}:{}", source.file, function.line), what) }
        }));
    }
    Metric::most(name, places)
}

fn lines(repository: &Repository, name: &'static str, counts: impl Fn(&str) -> bool) -> Metric {
    let files = repository.files.iter().filter(|(file, _)| counts(file));
    let place = |(file, text): (&String, &String)| {
        let size = text.lines().count();
        Place { size, ..Place::new(file, format!("{size} lines")) }
    };
    Metric::most(name, files.map(place).collect())
}

/// The packages that the library is compiled from when it has no feature, itself as well, as `cargo tree` has them.
///
/// # Errors
///
/// There is no cargo, or it does not like what is there.
pub fn packages(root: &Path) -> io::Result<Metric> {
    let words = "tree --package trust --edges normal --no-default-features --prefix none";
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(words.split(' ')).current_dir(root).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("cargo tree: {}", said.trim().lines().next().unwrap_or("failed"))));
    }
    Ok(packages_of(&String::from_utf8_lossy(&output.stdout)))
}

/// Of a tree's lines `name version ...`, in which a package may stand several times.
fn packages_of(tree: &str) -> Metric {
    let names: BTreeSet<String> =
        tree.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect();
    let names = names.into_iter().filter(|name| !name.is_empty());
    Metric::count(PACKAGES, names.map(|name| Place::new("Cargo.lock", name)).collect())
}

#[cfg(test)]
mod tests;
