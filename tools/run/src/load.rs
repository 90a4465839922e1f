//! `load`: many stock clients at once, against the engine that runs or one that ends with them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::enter::{become_of, command, entry};
use crate::place::Place;
use crate::signals::Asked;
use crate::state::{MOMENT, State};
use crate::stop::end_engine;
use crate::talk::{Failure, Outcome, cannot};
use crate::words::list;

const USAGE: &str = "./run.sh load N [BYTES] [--kill K]";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Load {
    clients: u64,
    /// Of each.
    octets: u64,
    /// So many clients are killed midway.
    killed: u64,
    /// For the load driver.
    further: Vec<String>,
}

impl Load {
    fn parse(words: &[OsString]) -> Result<Self, Failure> {
        let misuse = |text: String| Failure::misuse(format!("load: {text}"));
        let mut words = words.iter().map(|word| word.to_string_lossy().into_owned()).peekable();
        let clients = words.next().and_then(|word| number(&word, 6)).filter(|clients| *clients > 0);
        let clients = clients.ok_or_else(|| misuse(format!("N must be a number of clients from 1; {USAGE}")))?;
        let mut load = Self { clients, octets: 100_000, killed: 0, further: Vec::new() };
        if let Some(word) = words.next_if(|word| !word.is_empty() && !word.starts_with('-')) {
            let octets = number(&word, 15).filter(|octets| *octets > 0);
            load.octets =
                octets.ok_or_else(|| misuse(format!("BYTES must be a number from 1, not {word}; {USAGE}")))?;
        }
        while let Some(word) = words.next() {
            let killed = match word.as_str() {
                "--kill" => words.next().unwrap_or_default(),
                "--seed" | "--timeout" => {
                    load.further.extend([word, words.next().unwrap_or_default()]);
                    continue;
                }
                other => match other.strip_prefix("--kill=") {
                    Some(killed) => killed.to_owned(),
                    None => return Err(misuse(format!("what is {other}? {USAGE}"))),
                },
            };
            load.killed = number(&killed, 6).ok_or_else(|| misuse(format!("--kill K must be a number; {USAGE}")))?;
        }
        let Self { clients, octets, killed, .. } = load;
        if killed >= clients {
            let rest = "so that somebody is left to be exact";
            return Err(misuse(format!("K (--kill {killed}) must be less than N ({clients}), {rest}")));
        }
        if killed > 0 && octets < 4 {
            return Err(misuse("--kill needs 4 BYTES or more, for there to be a midway".to_owned()));
        }
        Ok(load)
    }

    /// The load driver's words, for an engine at that address.
    fn words(&self, place: &Place, address: &str) -> Vec<OsString> {
        let mut words = list([place.built("release").join("nc-load")]);
        words.extend(list([address, "7", &self.clients.to_string(), &self.octets.to_string()]));
        words.extend(list(&self.further));
        if self.killed > 0 {
            words.extend(list(["--kill", &self.killed.to_string()]));
        }
        words
    }
}

/// A decimal number of at most so many digits, without zeros before it.
fn number(word: &str, digits: usize) -> Option<u64> {
    let plain = word.bytes().all(|octet| octet.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if plain && word.len() <= digits { word.parse().ok() } else { None }
}

/// Whether the words make sense: before the long part.
pub(crate) fn check(words: &[OsString]) -> Outcome {
    Load::parse(words).map(|_| 0)
}

pub(crate) fn load(place: &Place, words: &[OsString]) -> Outcome {
    let load = Load::parse(words)?;
    let state = &place.state;
    if state.is_running() {
        return become_of(&driver(place, &load)?);
    }
    state.create()?;
    let asked = Asked::listen()?;
    let mut engine = start_engine(place)?;
    let outcome = await_engine(state, &mut engine, &asked).and_then(|()| match asked.status() {
        None => asked.run(&mut command(&driver(place, &load)?)),
        Some(_) => Ok(143),
    });
    // One that has not got ready in time, or has ended, has said why.
    if matches!(engine.try_wait(), Ok(None)) && state.ready().is_some() {
        end_engine(state)?;
    }
    if asked.status().is_some() { Ok(143) } else { outcome }
}

/// The words that start the load driver beside the engine.
fn driver(place: &Place, load: &Load) -> Result<Vec<OsString>, Failure> {
    let entry = entry(&place.state)?;
    let address = place.state.ready().ok_or_else(|| Failure::new("the engine of this clone has just ended"))?;
    Ok([entry, load.words(place, &address)].concat())
}

/// An engine that ends with us. ^C does not reach it: we end it when the clients have ended.
fn start_engine(place: &Place) -> Result<Child, Failure> {
    let (path, failed) = (place.state.path("beside.log"), "the engine cannot be started");
    let log = File::create(path).map_err(cannot(failed))?;
    let second = log.try_clone().map_err(cannot(failed))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(place.top.join("run.sh")).arg("serve");
    command.stdin(Stdio::null()).stdout(log).stderr(second).process_group(0);
    command.spawn().map_err(cannot(failed))
}

/// Waits until it serves, or a signal comes.
fn await_engine(state: &State, engine: &mut Child, asked: &Asked) -> Result<(), Failure> {
    for _ in 0..400 {
        if state.ready().is_some() || asked.status().is_some() {
            return Ok(());
        }
        if !matches!(engine.try_wait(), Ok(None)) {
            break;
        }
        thread::sleep(MOMENT);
    }
    let _ = io::stderr().write_all(&fs::read(state.path("beside.log")).unwrap_or_default());
    Err(Failure::new("the engine did not start"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<(u64, u64, u64), String> {
        let load = Load::parse(&list(words)).map_err(|failure| failure.text)?;
        Ok((load.clients, load.octets, load.killed))
    }

    #[test]
    fn numbers_are_read() {
        assert_eq!(parse(&["100"]), Ok((100, 100_000, 0)));
        assert_eq!(parse(&["100", "5", "--kill", "99"]), Ok((100, 5, 99)));
        assert_eq!(parse(&["100", "--kill=3"]), Ok((100, 100_000, 3)));
        let seeded = Load::parse(&list(["5", "--seed", "9"])).map(|load| load.further);
        assert!(seeded.is_ok_and(|further| further == ["--seed", "9"]));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (words, text) in [
            (&[][..], "N must be"),
            (&["0"], "N must be"),
            (&["1000000"], "N must be"),
            (&["5", "0"], "BYTES must be a number from 1, not 0"),
            (&["5", "05"], "not 05"),
            (&["5", "--kill", "5"], "K (--kill 5) must be less than N (5)"),
            (&["5", "--kill"], "--kill K must be a number"),
            (&["5", "--kill=x"], "--kill K must be a number"),
            (&["5", "3", "--kill", "1"], "4 BYTES or more"),
            (&["5", "--kil", "2"], "what is --kil?"),
        ] {
            let refusal = parse(words).err().unwrap_or_default();
            assert!(refusal.starts_with("load: ") && refusal.contains(text), "{words:?}: {refusal}");
        }
    }
}
