//! Standard output and standard error that cannot be written, or that nobody reads: the command's work goes on.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;

/// What is wrong with an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// The disk behind it is full.
    Full,
    /// Whoever read it has gone.
    Gone,
    /// The pipe is full and nobody reads it.
    Unread,
    /// There is none (`>&-`).
    Absent,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Output,
    Error,
}

/// The reading end of a pipe, which is to stay open.
type Kept = Option<io::PipeReader>;

impl Wrong {
    fn place(self) -> (Stdio, Kept) {
        match self {
            Self::Full => (std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into(), None),
            Self::Gone => (io::pipe().unwrap().1.into(), None),
            Self::Unread => {
                let (reader, writer) = io::pipe().unwrap();
                fill(&writer);
                (writer.into(), Some(reader))
            }
            Self::Absent => (Stdio::null(), None),
        }
    }
}

/// Writes to a pipe until it takes no more.
fn fill(mut writer: &io::PipeWriter) {
    let nonblocking = |flags: libc::c_int| {
        // SAFETY: numbers go in, and the descriptor is open.
        assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) }, 0);
    };
    nonblocking(libc::O_NONBLOCK);
    while writer.write(&[b'.'; 4_096]).is_ok() {}
    nonblocking(0);
}

/// A `trust` with one output wrong and the other collected.
struct Trust {
    child: Child,
    text: thread::JoinHandle<String>,
    _kept: Kept,
}

impl Trust {
    fn start(arguments: &[&str], which: Which, wrong: Wrong) -> Self {
        let (mut reader, sound) = io::pipe().unwrap();
        let (place, kept) = wrong.place();
        let mut command = Command::new(env!("CARGO_BIN_EXE_trust"));
        command.args(arguments).stdin(Stdio::null());
        let sound = Stdio::from(OwnedFd::from(sound));
        match which {
            Which::Output => command.stdout(place).stderr(sound),
            Which::Error => command.stdout(sound).stderr(place),
        };
        let number = if which == Which::Output { 1 } else { 2 };
        // SAFETY: prctl and close are bare system calls, fit for the moment between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if wrong == Wrong::Absent {
                    libc::close(number);
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        // It holds copies of the pipe's ends.
        drop(command);
        let text = thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, text, _kept: kept }
    }

    /// Waits for its end; gives the output that was sound.
    fn wait(mut self, limit: Duration) -> (ExitStatus, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break Some(status);
            }
            if start.elapsed() > limit {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                break None;
            }
            thread::sleep(Duration::from_millis(5));
        };
        let text = self.text.join().unwrap();
        assert!(!text.contains("panicked"), "{text}");
        (status.unwrap_or_else(|| panic!("it has not ended after {limit:?}:\n{text}")), text)
    }
}

/// The number of the summary's last line that belongs to this output.
fn lost(text: &str, which: Which) -> f64 {
    let words = if which == Which::Error { " lines of standard error" } else { " pieces of standard output" };
    number_before(text, words).unwrap_or(0.0)
}

fn serves_on(which: Which, wrong: Wrong) {
    let arguments = ["serve", "--stats", "1", "--log", "connections", "--log", "segments"];
    let trust = Trust::start(&arguments, which, wrong);
    let start = Instant::now();
    let clients = 400;
    for client in 0..clients {
        // Its first words may be lost: it is there when it answers.
        let mut stream = loop {
            match TcpStream::connect_timeout(&(ENGINE, 7).into(), Duration::from_secs(5)) {
                Ok(stream) => break stream,
                Err(error) => {
                    assert!(client == 0 && start.elapsed() < Duration::from_secs(10), "{which:?} {wrong:?}: {error}");
                    thread::sleep(Duration::from_millis(20));
                }
            }
        };
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"good day").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        assert!(read.is_ok() && answer == b"good day", "{which:?} {wrong:?}, client {client}: {read:?}");
    }
    // For a line of --stats, which comes once a second.
    thread::sleep(Duration::from_millis(1_200));
    // SAFETY: the child has not been waited for, so the number is still its own.
    unsafe { libc::kill(trust.child.id() as libc::pid_t, libc::SIGTERM) };
    let (status, text) = trust.wait(Duration::from_secs(10));
    assert!(status.success(), "{which:?} {wrong:?}: {status}\n{text}");
    match (which, wrong) {
        (Which::Error, Wrong::Absent) => assert_eq!(lost(&text, which), 0.0, "nobody wanted to read it"),
        // Some thousand lines: two for each connection, and one for each segment.
        (Which::Error, Wrong::Full | Wrong::Gone) => assert!(lost(&text, which) >= 3_000.0, "{wrong:?}: {text}"),
        (Which::Error, Wrong::Unread) => assert!(lost(&text, which) >= 1.0, "{text}"),
        (Which::Output, Wrong::Full | Wrong::Gone) => {
            let said = text.matches("standard output cannot be written").count();
            assert_eq!(said, 1, "{wrong:?}: {}", &text[text.len().saturating_sub(2_000)..]);
        }
        (Which::Output, Wrong::Unread | Wrong::Absent) => {}
    }
}

/// The engine serves on, whatever becomes of its log and its figures, and ends when it is told to.
pub(crate) fn serve() -> Outcome {
    for which in [Which::Output, Which::Error] {
        for wrong in [Wrong::Full, Wrong::Gone, Wrong::Unread, Wrong::Absent] {
            serves_on(which, wrong);
        }
    }
    Ok(())
}

/// Answers one connection to the kernel's side, as a web server that does not look at what it is asked.
fn page() -> thread::JoinHandle<()> {
    let listener = listen(8_000);
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1_024]);
        let body = vec![b'x'; 100_000];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        // It may have ended before it has read everything.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    })
}

/// Without its standard error a client does its work; without its standard output it has none, and says so.
fn client(arguments: &[&str], which: Which, wrong: Wrong) {
    let all = [arguments, &["--log", "connections", "--log", "segments"]].concat();
    let (status, text) = Trust::start(&all, which, wrong).wait(Duration::from_secs(20));
    let told = format!("{arguments:?} {which:?} {wrong:?}: {status}\n{}", &text[text.len().saturating_sub(2_000)..]);
    match (which, wrong) {
        (Which::Error, _) | (_, Wrong::Absent) => assert!(status.success(), "{told}"),
        (Which::Output, Wrong::Full) => {
            assert_eq!(status.code(), Some(1), "{told}");
            assert!(text.contains("trust: No space left on device"), "{told}");
        }
        (Which::Output, _) => assert_eq!(status.signal(), Some(libc::SIGPIPE), "{told}"),
    }
}

/// The commands that go out: no panic, and no end before its time.
pub(crate) fn clients() -> Outcome {
    need(&["iperf3"])?;
    // Whoever does not read standard output stops `connect` and `fetch` on purpose: the window closes.
    let cases = [
        (Which::Output, Wrong::Full),
        (Which::Output, Wrong::Gone),
        (Which::Output, Wrong::Absent),
        (Which::Error, Wrong::Full),
        (Which::Error, Wrong::Gone),
        (Which::Error, Wrong::Unread),
    ];
    for (which, wrong) in cases {
        for command in [&["connect", "10.7.1.1", "8000"][..], &["fetch", "http://10.7.1.1:8000/"]] {
            let server = page();
            client(command, which, wrong);
            server.join().unwrap();
        }
        let mut server =
            bounded(20, "iperf3", &["-s", "-1"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually(Duration::from_secs(5), "iperf3 listens", || TcpListener::bind(("0.0.0.0", 5_201)).is_err());
        client(&["iperf3", "-c", "10.7.1.1", "-t", "2"], which, wrong);
        let _ = server.kill();
        server.wait().unwrap();
    }
    Ok(())
}
