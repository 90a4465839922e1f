//! Relative links of Markdown texts, and the places in the code that they cite.
//!
//! Pure functions over texts; `tests/documents.rs` finds the files.

use std::collections::BTreeSet;

/// A word of a text, and its line, from 1.
pub type Found = (usize, String);

/// Targets of links and of link definitions, outside of code.
#[must_use]
pub fn links(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for (line, content) in prose(text) {
        let content = without_code(content);
        if let Some(target) = definition(&content) {
            found.push((line, target.to_owned()));
        }
        let mut rest = content.as_str();
        while let Some((_, behind)) = rest.split_once("](") {
            let Some((target, more)) = behind.split_once(')') else { break };
            // A title may stand behind the target.
            found.extend(target.split_whitespace().next().map(|target| (line, target.to_owned())));
            rest = more;
        }
    }
    found
}

/// The target of `[name]: target`.
fn definition(line: &str) -> Option<&str> {
    let (name, target) = line.trim_start().strip_prefix('[')?.split_once("]: ")?;
    (!name.contains(']')).then(|| target.trim())
}

/// Whether a target leads to another file, or to a heading, of the repository.
#[must_use]
pub fn is_relative(target: &str) -> bool {
    !target.contains("://") && !target.starts_with("mailto:") && !target.contains("::")
}

/// The names by which links reach the headings of a text, as code hosts make them.
#[must_use]
pub fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
        let again = (1..).map(|n| format!("{anchor}-{n}")).find(|again| !anchors.contains(again));
        anchors.insert(if anchors.contains(&anchor) { again.unwrap_or_default() } else { anchor });
    }
    anchors
}

/// Source files in code font, `room/file.rs`, perhaps with something that they declare: `room/file.rs:name`.
#[must_use]
pub fn places(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for (line, content) in prose(text) {
        let spans = content.split('`').skip(1).step_by(2);
        let places = spans.filter(|span| {
            let file = span.split_once(':').map_or(*span, |(file, _)| file);
            let part = |c: char| c.is_ascii_alphanumeric() || "/_-.:".contains(c);
            file.contains('/') && file.ends_with(".rs") && span.chars().all(part)
        });
        found.extend(places.map(|place| (line, place.to_owned())));
    }
    found
}

/// Whether a source text declares something of that name: a function, a type, a constant or a module.
#[must_use]
pub fn declares(source: &str, name: &str) -> bool {
    source.lines().any(|line| {
        let line = line.split_once("//").map_or(line, |(code, _)| code);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words: Vec<&str> = line.split(|c| !word(c)).filter(|word| !word.is_empty()).collect();
        let keyword = |word: &str| ["fn", "struct", "enum", "trait", "type", "const", "static", "mod"].contains(&word);
        words.windows(2).any(|pair| keyword(pair[0]) && pair[1] == name)
    })
}

/// Lines outside of fenced and indented code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fence && !fenced && !line.starts_with("    ")).then_some((index + 1, line))
    })
}

/// A line with nothing in its code spans.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# A title, with `code`: and more

See [one](docs/one.md), [two](two.md#part \"a title\") and `[no](link.md)`.
[three]: https://example.org/three
[four]: ../four.md

```text
[not](this.md) # nor this
```

    [nor](that.md)

## Twice
## Twice
";

    fn words(found: Vec<Found>) -> Vec<String> {
        found.into_iter().map(|(_, word)| word).collect()
    }

    #[test]
    fn links_are_found_outside_of_code() {
        assert_eq!(words(links(TEXT)), ["docs/one.md", "two.md#part", "https://example.org/three", "../four.md"]);
        assert_eq!(links(TEXT)[3].0, 5);
        assert!(is_relative("two.md#part") && is_relative("#part"));
        assert!(!is_relative("https://example.org/three") && !is_relative("crate::engine"));
    }

    #[test]
    fn headings_have_the_names_that_code_hosts_give_them() {
        let anchors: Vec<_> = anchors(TEXT).into_iter().collect();
        assert_eq!(anchors, ["a-title-with-code-and-more", "twice", "twice-1"]);
    }

    #[test]
    fn places_are_files_in_code_font() {
        let text = "`tcp/acks.rs:sample`, `src/lib.rs`, not `acks.rs`, `a/b.rs: why`, a/b.rs\n```\n`a/b.rs`\n```\n";
        assert_eq!(words(places(text)), ["tcp/acks.rs:sample", "src/lib.rs"]);
    }

    #[test]
    fn what_a_source_declares() {
        let source = "pub(crate) fn poll(&mut self) {}\npub struct Shard;\n// fn told()\nlet x = call(poll_all);\n";
        assert!(declares(source, "poll") && declares(source, "Shard"));
        assert!(!declares(source, "told") && !declares(source, "poll_all") && !declares(source, "call"));
    }
}
