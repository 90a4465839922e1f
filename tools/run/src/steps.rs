//! Steps of a test run: one after the other, some beside the others, with the time that each has taken and a summary.

use std::env;
use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crate::place::Place;
use crate::signals::on_signals;
use crate::talk::{Failure, cannot, pass, say, status};

/// The run. With it what is left beside ends, and its folder.
#[derive(Debug)]
pub(crate) struct Steps<'a> {
    place: &'a Place,
    /// Whether a TUN device may be opened, or has to be.
    pub(crate) device: bool,
    logs: PathBuf,
    /// In the environment of all that is started, so that it can be told from what others run.
    mark: String,
    beside: Vec<Beside>,
    notes: Vec<String>,
    failed: bool,
}

/// A step that runs beside the others.
#[derive(Debug)]
struct Beside {
    name: &'static str,
    line: String,
    /// Gives its exit status and time.
    end: JoinHandle<(u8, Duration)>,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(place: &'a Place) -> Result<Self, Failure> {
        place.state.create()?;
        let random = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        let mark = format!("{}.{random}", std::process::id());
        let logs = place.state.path(&format!("test.{mark}"));
        fs::create_dir(&logs).map_err(cannot(logs.display()))?;
        let folder = logs.clone();
        on_signals(move |signal| {
            let _ = fs::remove_dir_all(&folder);
            std::process::exit(128 + signal);
        })?;
        let required = env::var_os("TRUST_REQUIRE_TUN").is_some_and(|value| value == "1");
        let device = required || File::options().read(true).write(true).open("/dev/net/tun").is_ok();
        Ok(Self { place, device, logs, mark, beside: Vec::new(), notes: Vec::new(), failed: false })
    }

    /// What cargo has built, of that profile.
    pub(crate) fn built(&self, profile: &str) -> PathBuf {
        self.place.built(profile)
    }

    /// The file that has what a step has said, if somebody has asked for that.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(name)
    }

    /// The command of these words, from the top of the clone; `NAME=VALUE` may stand before it, as for env(1).
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("env");
        command.args(words).current_dir(&self.place.top).env("TRUST_TEST_RUN", &self.mark).stdin(Stdio::null());
        command
    }

    /// Runs a command; its exit status.
    pub(crate) fn run(&self, words: &[&str]) -> u8 {
        self.command(words).status().map_or(127, status)
    }

    /// Whether a command succeeds, whose output is nobody's.
    pub(crate) fn succeeds(&self, words: &[&str]) -> bool {
        self.command(words).output().is_ok_and(|output| output.status.success())
    }

    /// A step that is one command.
    pub(crate) fn step(&mut self, name: &str, words: &[&str]) {
        self.work(name, &words.join(" "), |steps| steps.run(words) == 0);
    }

    /// A step that is more: it returns whether all is well.
    pub(crate) fn work(&mut self, name: &str, line: &str, work: impl FnOnce(&Self) -> bool) {
        say(format!("== {name}: {line}"));
        let began = Instant::now();
        let passed = work(self);
        self.note(name, line, began.elapsed(), passed);
    }

    /// A step that cannot be done here, and what would help.
    pub(crate) fn left_out(&mut self, name: &str, why: &str) {
        self.notes.push(format!("left out  {name}: {why}"));
    }

    /// Starts a step that computes and looks at no clock. It runs at idle priority beside those that follow, which
    /// wait for much of their time and are served first. What it has said comes when it is awaited. To be called from
    /// the main thread: when that ends, however it ends, so do these.
    pub(crate) fn beside(&mut self, name: &'static str, words: &[&str]) {
        let line = words.join(" ");
        say(format!("== {name}, beside what follows: {line}"));
        let (began, log) = (Instant::now(), self.log(name));
        let wrapper = ["setpriv", "--pdeathsig", "TERM", "timeout", "3600", "chrt", "--idle", "0", "env"];
        let start = || -> io::Result<Child> {
            let log = File::create(log)?;
            let second = log.try_clone()?;
            self.command(&[&wrapper, words].concat()).stdout(log).stderr(second).spawn()
        };
        let child = start();
        let end = thread::spawn(move || {
            let ended = child.and_then(|mut child| child.wait());
            (ended.map_or(127, status), began.elapsed())
        });
        self.beside.push(Beside { name, line, end });
    }

    /// Waits for steps that run beside, and shows what they have said.
    pub(crate) fn wait_for(&mut self, names: &[&str]) {
        for name in names {
            let Some(at) = self.beside.iter().position(|beside| beside.name == *name) else { continue };
            let Beside { name, line, end } = self.beside.swap_remove(at);
            let (ended, time) = end.join().unwrap_or((127, Duration::ZERO));
            say(format!("== {name}:"));
            pass(&fs::read(self.log(name)).unwrap_or_default());
            self.note(name, &line, time, ended == 0);
        }
    }

    /// Runs commands, all of them, and writes down in a log what they say. Whether all succeed.
    pub(crate) fn run_and_write_down(&self, name: &str, commands: &[Vec<&str>]) -> bool {
        let run = || -> io::Result<bool> {
            let log = File::create(self.log(name))?;
            let (reader, writer) = io::pipe()?;
            let copying = thread::spawn(move || show_and_write(reader, log));
            let mut all_well = true;
            for words in commands {
                let (output, errors) = (writer.try_clone()?, writer.try_clone()?);
                all_well &= self.command(words).stdout(output).stderr(errors).status()?.success();
            }
            drop(writer);
            let written = copying.join().is_ok_and(|written| written.is_ok());
            Ok(all_well && written)
        };
        run().unwrap_or_else(|error| {
            say(error);
            false
        })
    }

    /// Runs a command that reads these logs. Whether it succeeds.
    pub(crate) fn feed(&self, words: &[&str], logs: &[&str]) -> bool {
        let feed = || -> io::Result<bool> {
            let mut child = self.command(words).stdin(Stdio::piped()).spawn()?;
            let written = child.stdin.take().is_some_and(|mut input| {
                let mut write = |log: &str| fs::read(self.log(log)).and_then(|octets| input.write_all(&octets));
                logs.iter().all(|log| write(log).is_ok())
            });
            Ok(child.wait()?.success() && written)
        };
        feed().unwrap_or_else(|error| {
            say(error);
            false
        })
    }

    /// Prints what has become of each step. Whether none has failed.
    pub(crate) fn summary(&self) -> bool {
        say("== summary");
        self.notes.iter().for_each(say);
        !self.failed
    }

    fn note(&mut self, name: &str, line: &str, time: Duration, passed: bool) {
        let seconds = time.as_secs();
        self.notes.push(if passed {
            format!("ok      {name} ({seconds} s)")
        } else {
            self.failed = true;
            format!("FAILED  {name} ({seconds} s): {line}")
        });
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.logs);
    }
}

fn show_and_write(mut reader: PipeReader, mut log: File) -> io::Result<()> {
    let mut piece = vec![0; 1 << 16];
    loop {
        let octets = match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(len) => piece.get(..len).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        pass(octets);
        log.write_all(octets)?;
    }
}
