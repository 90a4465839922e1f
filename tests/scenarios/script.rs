//! The notation of the scenarios: one segment on one line, sequence numbers relative to the ISNs.
//!
//! `flags start:end [ack n] [win n] [<options>]`, for example `PA 1:1001 ack 1 win 5000 <ts 7 3>`. `end - start` is the
//! payload; SYN and FIN are flags only. Options: `mss n`, `ws n`, `sackOK`, `ts val ecr`, `sack a:b c:d`. In an
//! expectation a field that is not named is not compared, `*` stands for any timestamp, `...` for any further options,
//! `<>` for none at all; PSH is compared only when it is written.

use std::fmt;

use trust::wire::tcp::Flags;

/// Options in script notation. `None` in a timestamp is `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScriptOptions {
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    pub(crate) timestamps: Option<(Option<u32>, Option<u32>)>,
    pub(crate) sack: Vec<(i64, i64)>,
    /// `...` was written.
    pub(crate) open: bool,
}

/// One segment in script notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) flags: Flags,
    pub(crate) seq: i64,
    pub(crate) len: u32,
    pub(crate) ack: Option<i64>,
    pub(crate) win: Option<u16>,
    pub(crate) options: Option<ScriptOptions>,
}

/// Bits and letters, in the order they are printed.
const LETTERS: [(char, Flags); 8] = [
    ('S', Flags::SYN),
    ('F', Flags::FIN),
    ('R', Flags::RST),
    ('P', Flags::PSH),
    ('A', Flags::ACK),
    ('U', Flags::URG),
    ('E', Flags::ECE),
    ('W', Flags::CWR),
];

impl Script {
    /// Reads one line; panics on a mistake in the scenario.
    pub(crate) fn parse(text: &str) -> Self {
        let (head, options) = match text.split_once('<') {
            Some((head, rest)) => (head, Some(parse_options(rest.trim_end().trim_end_matches('>'), text))),
            None => (text, None),
        };
        let mut words = head.split_whitespace();
        let mut flags = Flags::NONE;
        for letter in words.next().unwrap_or_else(|| panic!("empty line")).chars() {
            let (_, bit) = LETTERS
                .iter()
                .find(|(known, _)| *known == letter)
                .unwrap_or_else(|| panic!("flag {letter} in `{text}`"));
            flags |= *bit;
        }
        let (seq, end) = parse_range(words.next().unwrap_or_else(|| panic!("no range in `{text}`")), text);
        let len = u32::try_from(end - seq).unwrap_or_else(|_| panic!("negative length in `{text}`"));
        let mut script = Self { flags, seq, len, ack: None, win: None, options };
        while let Some(word) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("no value in `{text}`"));
            match word {
                "ack" => script.ack = Some(number(value, text)),
                "win" => script.win = Some(number(value, text)),
                _ => panic!("unknown word {word} in `{text}`"),
            }
        }
        script
    }

    /// What of this expectation `actual` does not meet.
    pub(crate) fn mismatch(&self, actual: &Self) -> Option<&'static str> {
        let ignored = if self.flags.contains(Flags::PSH) { Flags::NONE } else { Flags::PSH };
        if self.flags != actual.flags.without(ignored) {
            return Some("flags");
        }
        if self.seq != actual.seq || self.len != actual.len {
            return Some("sequence range");
        }
        if self.ack.is_some() && self.ack != actual.ack {
            return Some("ack");
        }
        if self.win.is_some() && self.win != actual.win {
            return Some("win");
        }
        let expected = self.options.as_ref()?;
        let found = actual.options.clone().unwrap_or_default();
        expected.mismatch(&found).then_some("options")
    }
}

impl ScriptOptions {
    fn mismatch(&self, found: &Self) -> bool {
        let stamps = match (self.timestamps, found.timestamps) {
            (Some((val, ecr)), Some((found_val, found_ecr))) => {
                val.is_none_or(|val| found_val == Some(val)) && ecr.is_none_or(|ecr| found_ecr == Some(ecr))
            }
            (None, found) => self.open || found.is_none(),
            (Some(_), None) => false,
        };
        let same = |named: bool, equal: bool| equal || (self.open && !named);
        !(stamps
            && same(self.mss.is_some(), self.mss == found.mss)
            && same(self.window_scale.is_some(), self.window_scale == found.window_scale)
            && same(self.sack_permitted, self.sack_permitted == found.sack_permitted)
            && same(!self.sack.is_empty(), self.sack == found.sack))
    }
}

fn number<T: std::str::FromStr>(word: &str, text: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("bad number {word} in `{text}`"))
}

/// `5:9`, `5:9(4)` or plain `5`.
fn parse_range(word: &str, text: &str) -> (i64, i64) {
    let word = word.split('(').next().unwrap_or(word);
    match word.split_once(':') {
        Some((start, end)) => (number(start, text), number(end, text)),
        None => (number(word, text), number(word, text)),
    }
}

fn parse_options(inside: &str, text: &str) -> ScriptOptions {
    let mut options = ScriptOptions::default();
    let stamp = |word: &str| (word != "*").then(|| number(word, text));
    for option in inside.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        let words: Vec<&str> = option.split_whitespace().collect();
        match *words.as_slice() {
            ["..."] => options.open = true,
            ["sackOK"] => options.sack_permitted = true,
            ["mss", value] => options.mss = Some(number(value, text)),
            ["ws", value] => options.window_scale = Some(number(value, text)),
            ["ts", val, ecr] => options.timestamps = Some((stamp(val), stamp(ecr))),
            ["sack", ref blocks @ ..] => options.sack = blocks.iter().map(|block| parse_range(block, text)).collect(),
            _ => panic!("unknown option {option} in `{text}`"),
        }
    }
    options
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (letter, bit) in LETTERS {
            if self.flags.contains(bit) {
                write!(f, "{letter}")?;
            }
        }
        write!(f, " {}:{}", self.seq, self.seq + i64::from(self.len))?;
        if let Some(ack) = self.ack {
            write!(f, " ack {ack}")?;
        }
        if let Some(win) = self.win {
            write!(f, " win {win}")?;
        }
        match &self.options {
            Some(options) => write!(f, " {options}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ScriptOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if let Some(mss) = self.mss {
            words.push(format!("mss {mss}"));
        }
        if self.sack_permitted {
            words.push("sackOK".into());
        }
        if let Some((val, ecr)) = self.timestamps {
            let word = |stamp: Option<u32>| stamp.map_or("*".to_owned(), |stamp| stamp.to_string());
            words.push(format!("ts {} {}", word(val), word(ecr)));
        }
        if let Some(shift) = self.window_scale {
            words.push(format!("ws {shift}"));
        }
        if !self.sack.is_empty() {
            let blocks: Vec<String> = self.sack.iter().map(|(left, right)| format!("{left}:{right}")).collect();
            words.push(format!("sack {}", blocks.join(" ")));
        }
        if self.open {
            words.push("...".into());
        }
        write!(f, "<{}>", words.join(", "))
    }
}

#[test]
fn the_notation_reads_back() {
    for text in [
        "S 0:0 win 1000 <mss 1000, sackOK, ts 7 0, ws 7>",
        "FPA 1:11 ack 1",
        "A 1:1 ack 1 <sack 1001:2001 3001:4001>",
        "R -1:-1",
        "SA 0:0 ack 1 <ts * 9, ...>",
    ] {
        assert_eq!(Script::parse(text).to_string(), text);
    }
}

#[test]
fn expectations_compare_what_they_name() {
    let actual = Script::parse("PA 1:11 ack 5 win 9 <ts 3 4, sack 1:2>");
    for (text, mismatch) in [
        ("A 1:11", None),
        ("PA 1:11 ack 5 win 9", None),
        ("A 1:11 <ts * 4, sack 1:2>", None),
        ("A 1:11 <sack 1:2, ...>", None),
        ("FA 1:11", Some("flags")),
        ("A 1:12", Some("sequence range")),
        ("A 1:11 ack 6", Some("ack")),
        ("A 1:11 win 8", Some("win")),
        ("A 1:11 <>", Some("options")),
        ("A 1:11 <ts 4 *, ...>", Some("options")),
        ("A 1:11 <mss 1, ...>", Some("options")),
        ("A 1:11 <sack 1:3, ...>", Some("options")),
    ] {
        assert_eq!(Script::parse(text).mismatch(&actual), mismatch, "{text}");
    }
    assert_eq!(Script::parse("PA 1:11").mismatch(&Script::parse("A 1:11")), Some("flags"));
}
