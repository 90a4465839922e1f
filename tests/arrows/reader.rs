//! Reads Rust source as far as it must be read to know which file needs which: `use` declarations and paths in the
//! text.
//!
//! A file is a module, named by its path below `src/` (`shard/wheel`, and `shard` for `shard/mod.rs`). What is compiled
//! for tests only is left out, and so is what a file merely passes on (`pub use`): whoever imports a name through such
//! a declaration needs the file that the name comes from.

use std::collections::{BTreeMap, BTreeSet};

/// A module's path: the names between `crate` and an item.
type Path = Vec<String>;

/// Each file's module and the modules that it needs.
pub(crate) type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The smallest pieces of source text that matter here.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    /// `::`
    Join,
    Mark(char),
}

/// Cuts source text into tokens. Comments, strings and characters in quotes are gone.
fn tokens(text: &str) -> Vec<Token> {
    let text: Vec<char> = text.chars().collect();
    let at = |place: usize| text.get(place).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut place) = (Vec::new(), 0);
    while place < text.len() {
        match (at(place), at(place + 1)) {
            ('/', '/') => place = (place..text.len()).find(|p| at(*p) == '\n').unwrap_or(text.len()),
            ('/', '*') => {
                let mut depth = 0;
                loop {
                    match (at(place), at(place + 1)) {
                        ('/', '*') => (depth, place) = (depth + 1, place + 2),
                        ('*', '/') => (depth, place) = (depth - 1, place + 2),
                        _ => place += 1,
                    }
                    if depth == 0 || place >= text.len() {
                        break;
                    }
                }
            }
            ('"', _) => place = end_of_string(&text, place),
            ('r', '"' | '#') if raw_string(&text, place + 1).is_some() => {
                place = raw_string(&text, place + 1).unwrap_or(text.len());
            }
            ('b', 'r') if raw_string(&text, place + 2).is_some() => {
                place = raw_string(&text, place + 2).unwrap_or(text.len());
            }
            ('\'', '\\') => {
                // The character behind the backslash may be a quote itself.
                place = (place + 3..text.len()).find(|p| at(*p) == '\'').map_or(text.len(), |end| end + 1);
            }
            ('\'', _) if at(place + 2) == '\'' => place += 3,
            (':', ':') => {
                tokens.push(Token::Join);
                place += 2;
            }
            (c, _) if is_word(c) => {
                let end = (place..text.len()).find(|p| !is_word(at(*p))).unwrap_or(text.len());
                tokens.push(Token::Word(text[place..end].iter().collect()));
                place = end;
            }
            (c, _) => {
                if !c.is_whitespace() {
                    tokens.push(Token::Mark(c));
                }
                place += 1;
            }
        }
    }
    tokens
}

/// Behind the string that begins at `place`.
fn end_of_string(text: &[char], mut place: usize) -> usize {
    place += 1;
    while place < text.len() && text[place] != '"' {
        place += if text[place] == '\\' { 2 } else { 1 };
    }
    place + 1
}

/// Behind the raw string whose `#`s or quote begin at `place`, if there is one.
fn raw_string(text: &[char], place: usize) -> Option<usize> {
    let hashes = text[place..].iter().take_while(|c| **c == '#').count();
    let begin = place + hashes;
    if text.get(begin) != Some(&'"') {
        return None;
    }
    let closes = |p: &usize| text[*p] == '"' && text[p + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    Some((begin + 1..text.len()).find(closes).map_or(text.len(), |end| end + 1 + hashes))
}

/// What a file says of itself.
#[derive(Debug, Default)]
struct Said {
    /// Paths that it uses, each with the inline modules around it.
    used: Vec<(Path, Path)>,
    /// Names that it passes on, and where they come from.
    passed_on: Vec<(String, Path)>,
    /// Modules with files of their own.
    modules: BTreeSet<String>,
    /// Of these, the ones for tests.
    of_tests: BTreeSet<String>,
}

struct Reader<'a> {
    tokens: &'a [Token],
    place: usize,
    said: Said,
}

impl Reader<'_> {
    fn word(&self, place: usize) -> Option<&str> {
        match self.tokens.get(place) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn is(&self, place: usize, mark: char) -> bool {
        self.tokens.get(place) == Some(&Token::Mark(mark))
    }

    fn joins(&self, place: usize) -> bool {
        self.tokens.get(place) == Some(&Token::Join)
    }

    /// Behind the bracket that closes the one at `place`.
    fn behind_brackets(&self, place: usize) -> usize {
        let mut depth = 0;
        for (at, token) in self.tokens.iter().enumerate().skip(place) {
            match token {
                Token::Mark('(' | '[' | '{') => depth += 1,
                Token::Mark(')' | ']' | '}') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at + 1;
            }
        }
        self.tokens.len()
    }

    /// Behind the visibility at `place`, if there is one.
    fn behind_visibility(&self, place: usize) -> usize {
        match self.word(place) {
            Some("pub") if self.is(place + 1, '(') => self.behind_brackets(place + 1),
            Some("pub") => place + 1,
            _ => place,
        }
    }

    /// Behind the item at `place`: its `;`, or its `{}`. A field or an arm of a match ends with a comma, too.
    fn behind_item(&self, place: usize) -> usize {
        const ITEMS: [&str; 13] = [
            "async", "const", "enum", "extern", "fn", "impl", "let", "mod", "static", "struct", "trait", "type", "use",
        ];
        let mut place = self.behind_visibility(place);
        let is_item = self.word(place).is_some_and(|word| ITEMS.contains(&word) || word == "unsafe");
        while place < self.tokens.len() {
            match &self.tokens[place] {
                Token::Mark(';') => return place + 1,
                Token::Mark(',') if !is_item => return place + 1,
                Token::Mark('{') => return self.behind_brackets(place),
                Token::Mark('}') => return place,
                Token::Mark('(' | '[') => place = self.behind_brackets(place),
                _ => place += 1,
            }
        }
        place
    }

    /// Whether the attribute at `place` (its `#`) is a `cfg` that asks for tests.
    fn is_for_tests(&self, place: usize) -> bool {
        let end = self.behind_brackets(place + 1);
        let in_test = |at: usize| {
            let negated = at >= 2 && self.is(at - 1, '(') && self.word(at - 2) == Some("not");
            self.word(at) == Some("test") && !negated
        };
        self.word(place + 2) == Some("cfg") && (place..end).any(in_test)
    }

    /// Reads to the end of the block that `place` is in, or of the file.
    fn block(&mut self, inside: &Path) {
        let mut for_tests = false;
        while self.place < self.tokens.len() {
            let place = self.place;
            if self.is(place, '#') && self.is(place + 1, '[') {
                for_tests |= self.is_for_tests(place);
                self.place = self.behind_brackets(place + 1);
                continue;
            }
            if for_tests {
                if let Some(name) = self.module_of_a_file(place) {
                    self.said.of_tests.insert(name);
                }
                self.place = self.behind_item(place);
                for_tests = false;
                continue;
            }
            if self.is(place, '{') {
                self.place += 1;
                self.block(inside);
            } else if self.is(place, '}') {
                self.place += 1;
                return;
            } else if let Some(name) = self.module_of_a_file(place) {
                self.said.modules.insert(name);
                self.place = self.behind_item(place);
            } else if self.word(place) == Some("mod") && self.is(place + 2, '{') {
                let name = self.word(place + 1).unwrap_or_default().to_owned();
                self.place += 3;
                self.block(&[inside.as_slice(), &[name]].concat());
            } else if self.word(place) == Some("use") && self.begins_an_item(place) {
                self.declaration(inside);
            } else {
                self.path(inside);
            }
        }
    }

    /// `mod name;`, perhaps with a visibility in front.
    fn module_of_a_file(&self, place: usize) -> Option<String> {
        let place = self.behind_visibility(place);
        let is_one = self.word(place) == Some("mod") && self.is(place + 2, ';');
        is_one.then(|| self.word(place + 1).map(str::to_owned)).flatten()
    }

    /// Not the `use<>` of a bound.
    fn begins_an_item(&self, place: usize) -> bool {
        !self.is(place + 1, '<')
    }

    /// A `use` declaration.
    fn declaration(&mut self, inside: &Path) {
        let mut before = self.place;
        if before > 0 && self.is(before - 1, ')') {
            before = (0..before).rev().find(|at| self.is(*at, '(')).unwrap_or(before);
        }
        let passes_on = before > 0 && self.word(before - 1) == Some("pub");
        self.place += 1;
        let mut leaves = Vec::new();
        self.tree(&Vec::new(), &mut leaves);
        for (name, path) in leaves {
            if passes_on {
                self.said.passed_on.push((name, path));
            } else {
                self.said.used.push((path, inside.clone()));
            }
        }
    }

    /// A path of a `use` declaration with its branches.
    fn tree(&mut self, before: &Path, leaves: &mut Vec<(String, Path)>) {
        let mut path = before.clone();
        loop {
            if let Some(word) = self.word(self.place).map(str::to_owned) {
                self.place += 1;
                if word != "self" || path.is_empty() {
                    path.push(word);
                }
            } else if self.is(self.place, '{') {
                self.place += 1;
                while self.place < self.tokens.len() && !self.is(self.place, '}') {
                    self.tree(&path, leaves);
                    if self.is(self.place, ',') {
                        self.place += 1;
                    }
                }
                self.place += 1;
                return;
            } else if self.is(self.place, '*') {
                self.place += 1;
            }
            if !self.joins(self.place) {
                break;
            }
            self.place += 1;
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if self.word(self.place) == Some("as") {
            name = self.word(self.place + 1).unwrap_or_default().to_owned();
            self.place += 2;
        }
        leaves.push((name, path));
        // What is neither a branch nor an end is not Rust: on, rather than for ever.
        if !self.is(self.place, ',') && !self.is(self.place, '}') {
            self.place += 1;
        }
    }

    /// A path in the text, or one token of something else.
    fn path(&mut self, inside: &Path) {
        let mut path = Vec::new();
        while let Some(word) = self.word(self.place) {
            path.push(word.to_owned());
            self.place += 1;
            if !self.joins(self.place) || self.word(self.place + 1).is_none() {
                break;
            }
            self.place += 1;
        }
        if path.is_empty() {
            self.place += 1;
        } else if path.len() > 1 {
            self.said.used.push((path, inside.clone()));
        }
    }
}

/// The module of a file.
pub(crate) fn module(file: &str) -> String {
    let name = file.trim_end_matches(".rs");
    name.strip_suffix("/mod").unwrap_or(name).to_owned()
}

fn split(module: &str) -> Path {
    module.split('/').map(str::to_owned).collect()
}

struct Sources {
    said: BTreeMap<String, Said>,
}

impl Sources {
    /// The module that a path leads to, and what follows it. `None`: it leads out of the crate, or to no file but the
    /// root's.
    fn lead(&self, from: &str, inside: &Path, path: &Path) -> Option<(String, Path)> {
        let mut here = [split(from), inside.clone()].concat();
        let mut rest = path.as_slice();
        match rest.first()?.as_str() {
            // The command is a crate of its own, which calls the library by name.
            "crate" | "trust" => {
                here.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    here.pop();
                    rest = &rest[1..];
                }
            }
            child if inside.is_empty() && self.said.get(from)?.modules.contains(child) => {}
            _ => return None,
        }
        let whole = [here, rest.to_vec()].concat();
        let length = (1..=whole.len()).rev().find(|length| self.said.contains_key(&whole[..*length].join("/")))?;
        Some((whole[..length].join("/"), whole[length..].to_vec()))
    }

    /// As [`lead`](Self::lead), through what other files pass on.
    fn origin(&self, from: &str, inside: &Path, path: &Path) -> Option<String> {
        let (mut target, mut rest) = self.lead(from, inside, path)?;
        // A name that is passed on by a file that has it passed on, and so forth: as long as it goes on.
        for _ in 0..self.said.len() {
            let Some(name) = rest.first() else { break };
            let passed_on = self.said[&target].passed_on.iter().find(|(passed_on, _)| passed_on == name);
            let Some((_, path)) = passed_on else { break };
            let Some((next, mut more)) = self.lead(&target, &Vec::new(), path) else { break };
            more.extend_from_slice(&rest[1..]);
            (target, rest) = (next, more);
        }
        Some(target)
    }
}

/// Which files need which, of files given by their paths below `src/` and their text.
pub(crate) fn read(files: &BTreeMap<String, String>) -> Arrows {
    let mut sources = Sources { said: BTreeMap::new() };
    for (file, text) in files {
        // The roots of the library and of the command only say which rooms there are.
        if file == "lib.rs" || file == "main.rs" {
            continue;
        }
        let tokens = tokens(text);
        let mut reader = Reader { tokens: &tokens, place: 0, said: Said::default() };
        while reader.place < tokens.len() {
            reader.block(&Vec::new());
        }
        sources.said.insert(module(file), reader.said);
    }
    let of_tests: Vec<String> = sources
        .said
        .iter()
        .flat_map(|(module, said)| said.of_tests.iter().map(move |name| format!("{module}/{name}")))
        .collect();
    sources.said.retain(|module, _| {
        // `#[path]` puts the tests of `x.rs` into `x_tests.rs`, beside it.
        let beside = ["_tests", "_loom"].iter().any(|end| module.ends_with(end));
        !beside && !of_tests.iter().any(|test| module == test || module.starts_with(&format!("{test}/")))
    });
    let mut arrows = Arrows::new();
    for (module, said) in &sources.said {
        let targets = said.used.iter().filter_map(|(path, inside)| sources.origin(module, inside, path));
        arrows.insert(module.clone(), targets.filter(|target| target != module).collect());
    }
    arrows
}

/// The room of a module.
pub(crate) fn room(module: &str) -> &str {
    module.split('/').next().unwrap_or(module)
}

/// Groups of files of one room that need each other, in a circle or several.
pub(crate) fn circles(arrows: &Arrows) -> BTreeSet<BTreeSet<String>> {
    let reached = |from: &String| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(next) = open.pop() {
            for target in arrows.get(next).into_iter().flatten().filter(|target| room(target) == room(from)) {
                if reached.insert(target) {
                    open.push(target);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&String, BTreeSet<&String>> = arrows.keys().map(|from| (from, reached(from))).collect();
    let circle = |from: &&String| {
        let back = |target: &&&String| reached.get(*target).is_some_and(|on| on.contains(*from));
        reached[*from].iter().filter(back).map(|target| (*target).clone()).collect::<BTreeSet<_>>()
    };
    reached.keys().map(circle).filter(|circle| !circle.is_empty()).collect()
}
