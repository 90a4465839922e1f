//! `trust capture` of an engine that serves: what tshark reads in its files is what the test has sent, and what the engine
//! has counted.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Engine, Outcome, bounded, describe, echo_exact, eventually, must, need, noise};

const TRUST: &str = env!("CARGO_BIN_EXE_trust");

/// An engine, a capture of it and a folder for its files.
struct Captured {
    engine: Option<Engine>,
    control: String,
    folder: PathBuf,
    child: Option<Child>,
}

impl Captured {
    fn start(name: &str, engine: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("trust-tun-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let control = folder.join("control").to_str().unwrap().to_owned();
        let engine = Engine::start(&[&["--control", &control], engine].concat());
        Self { engine: Some(engine), control, folder, child: None }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, words: &[&str]) -> Vec<String> {
        let file = self.path("all.pcapng");
        let words = [&["capture", "--control", &self.control, "-w", &file], words].concat();
        words.into_iter().map(str::to_owned).collect()
    }

    /// Captures, once this returns.
    fn capture(&mut self, words: &[&str]) {
        self.capture_by(Command::new(TRUST).args(self.command(words)));
    }

    fn capture_by(&mut self, command: &mut Command) {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut line, mut octet) = (String::new(), [0]);
        let errors = child.stderr.as_mut().unwrap();
        while !line.contains('\n') && errors.read(&mut octet).unwrap_or(0) > 0 {
            line.push(octet[0].into());
        }
        self.child = Some(child);
        assert!(line.starts_with("capturing to"), "{line}");
    }

    fn signal(&self, signal: i32) {
        let child = self.child.as_ref().unwrap();
        // SAFETY: the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(child.id() as libc::pid_t, signal) };
    }

    /// Waits for its end: whether it succeeded, and what it said.
    fn ended(&mut self) -> (bool, String) {
        let mut child = self.child.take().unwrap();
        let mut text = String::new();
        child.stderr.as_mut().unwrap().read_to_string(&mut text).unwrap();
        (child.wait().unwrap().success(), text)
    }

    /// Ends it as ^C does; how many packets it has written, seen and missed.
    fn end(&mut self) -> [u64; 3] {
        self.signal(libc::SIGINT);
        let (success, text) = self.ended();
        assert!(success, "{text}");
        numbers(&text)
    }

    /// What tshark has to say of each packet that the filter finds, in the order of the file.
    fn read(&self, file: &str, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
        let file = self.path(file);
        let checks = ["-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"];
        let fields: Vec<_> = fields.iter().flat_map(|field| ["-e", field]).collect();
        let words = [&["-n", "-r", &file, "-Y", filter, "-T", "fields"], &checks[..], &fields].concat();
        let mut tshark = bounded(90, "tshark", &words);
        let output = tshark.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME").output().unwrap();
        assert!(output.status.success(), "tshark {filter:?}: {}", describe(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    fn count(&self, file: &str, filter: &str) -> usize {
        self.read(file, filter, &["frame.number"]).len()
    }

    /// A counter of the engine.
    fn counter(&self, name: &str) -> u64 {
        let text = must(20, TRUST, &["stats", "--json", "--control", &self.control]);
        let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
        stats["total"][name].as_u64().unwrap()
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(self.engine.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn numbers(text: &str) -> [u64; 3] {
    let line = text.lines().find(|line| line.contains(" packets written")).unwrap_or_else(|| panic!("{text}"));
    let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
    std::array::from_fn(|_| numbers.next().unwrap())
}

const BROKEN: &str =
    "ip.checksum.status==\"Bad\" || tcp.checksum.status==\"Bad\" || _ws.malformed || tcp.analysis.lost_segment";

/// All of a transfer: in the order of time over both shards, nothing broken, as much as the engine has counted; and cut
/// into what a wire would carry.
pub(crate) fn whole() -> Outcome {
    need(&["tshark"])?;
    let mut captured = Captured::start("whole", &["--workers", "2"]);
    for cut in [false, true] {
        let words: &[&str] = if cut { &["--cut"] } else { &[] };
        captured.capture(words);
        let before = ["packets_in", "packets_out"].map(|name| captured.counter(name));
        std::thread::scope(|scope| {
            for seed in 0..6 {
                scope.spawn(move || echo_exact(60, &noise(300_000, seed)));
            }
        });
        std::thread::sleep(Duration::from_millis(200));
        let after = ["packets_in", "packets_out"].map(|name| captured.counter(name));
        let [written, seen, missed] = captured.end();
        assert_eq!((missed, after[0] - before[0] + after[1] - before[1]), (0, seen));
        let times = captured.read("all.pcapng", "frame", &["frame.time_epoch", "frame.interface_name"]);
        assert_eq!(times.len() as u64, written);
        let shards: std::collections::HashSet<_> = times.iter().map(|fields| fields[1].clone()).collect();
        assert!(shards.iter().all(|name| name.starts_with("shard ")), "{shards:?}");
        let times: Vec<_> = times.iter().map(|fields| fields[0].clone()).collect();
        assert!(times.is_sorted(), "by time, which has as many digits in each");
        assert_eq!(captured.count("all.pcapng", BROKEN), 0);
        let longest =
            captured.read("all.pcapng", "tcp", &["frame.len"]).iter().map(|len| len[0].parse().unwrap()).max();
        assert_eq!(longest.unwrap_or(0_usize) <= 1_500, cut, "{longest:?}");
        assert_eq!(written == seen, !cut, "{written} {seen}");
        // All octets of both ways are there: the streams can be followed.
        let octets: u64 = captured
            .read("all.pcapng", "tcp.len > 0 && !tcp.analysis.retransmission", &["tcp.len"])
            .iter()
            .map(|len| len[0].parse::<u64>().unwrap())
            .sum();
        assert!(octets >= 2 * 6 * 300_000, "{octets}");
    }
    let (refused, _first) = (captured.command(&[]), captured.capture(&[]));
    let output = Command::new(TRUST).args(refused).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("another capture is going on"), "{}", describe(&output));
    captured.end();
    Ok(())
}

/// No packet is lost between two files, and each can be read alone.
pub(crate) fn rotated() -> Outcome {
    need(&["tshark"])?;
    let mut captured = Captured::start("rotated", &["--offload", "off"]);
    captured.capture(&["--rotate", "256k", "--snaplen", "128", "--filter", "tcp port 7"]);
    for seed in 0..4 {
        echo_exact(60, &noise(2_000_000, seed));
    }
    let [written, seen, missed] = captured.end();
    assert_eq!((written, missed), (seen, 0));
    let mut files = 0;
    let mut packets = 0;
    loop {
        let name = if files == 0 { "all.pcapng".to_owned() } else { format!("all.{files}.pcapng") };
        let Ok(len) = std::fs::metadata(captured.path(&name)).map(|metadata| metadata.len()) else { break };
        assert!(len < 260 << 10, "{len}");
        let lens = captured.read(&name, "tcp", &["frame.cap_len"]);
        assert!(lens.iter().all(|len| len[0].parse::<u32>().unwrap() <= 128));
        packets += lens.len() as u64;
        files += 1;
    }
    assert!(files > 3, "{files}");
    assert_eq!(packets, written);
    captured.capture(&["--rotate", "64k", "--keep", "2", "--filter", "tcp port 7"]);
    echo_exact(60, &noise(1_000_000, 1));
    captured.end();
    let own = std::fs::read_dir(&captured.folder).unwrap().filter(|entry| {
        entry.as_ref().unwrap().metadata().unwrap().modified().unwrap().elapsed().unwrap() < Duration::from_secs(600)
    });
    assert!(own.count() >= 2);
    assert!(!PathBuf::from(captured.path("all.pcapng")).exists(), "the oldest are gone");
    Ok(())
}

/// With losses on our way out: as many packets are marked as the engine has counted, and what is dropped says why.
pub(crate) fn explained() -> Outcome {
    need(&["tshark", "ping"])?;
    let mut captured =
        Captured::start("explained", &["--offload", "off", "--impair", "tx.loss=0.02,seed=5", "--workers", "1"]);
    let before = captured.counter("retransmits");
    captured.capture(&[]);
    echo_exact(100, &noise(3_000_000, 3));
    // UDP is nothing that we have; the answer quotes it.
    must(5, "sh", &["-c", "echo stray > /dev/udp/10.7.0.2/9 || bash -c 'echo stray > /dev/udp/10.7.0.2/9'"]);
    eventually(Duration::from_secs(5), "it is counted", || captured.counter("packets_in") > 0);
    std::thread::sleep(Duration::from_millis(300));
    captured.end();
    let again = captured.count("all.pcapng", "frame.comment contains \"sent again: \"") as u64;
    let counted = captured.counter("retransmits") - before;
    assert!(counted > 5, "{counted}");
    assert_eq!(again, counted);
    let lost = captured.count("all.pcapng", "frame.comment contains \"it was found lost\"");
    assert!(lost > 0 && lost as u64 <= again, "{lost} of {again}");
    let dropped = captured.read("all.pcapng", "udp && !icmp", &["frame.comment"]);
    assert_eq!(dropped, [["dropped: UnknownProtocol"]]);
    Ok(())
}

/// A reader that stalls takes nothing from the transfer; what it missed is counted and said in the file.
pub(crate) fn stalled() -> Outcome {
    need(&["tshark"])?;
    let mut captured = Captured::start("stalled", &["--offload", "off", "--workers", "1"]);
    captured.capture(&["--buffer", "64k", "--filter", "tcp port 7"]);
    captured.signal(libc::SIGSTOP);
    echo_exact(60, &noise(8_000_000, 3));
    captured.signal(libc::SIGCONT);
    std::thread::sleep(Duration::from_millis(500));
    echo_exact(60, b"afterwards");
    let [written, seen, missed] = captured.end();
    assert!(missed > 100, "{missed}");
    assert_eq!(written + missed, seen);
    let gaps = captured.read("all.pcapng", "frame.comment contains \"were missed\"", &["frame.comment"]);
    let told: u64 = gaps
        .iter()
        .flat_map(|comments| comments[0].split(','))
        .filter_map(|comment| comment.split_once(" packets before")?.0.parse::<u64>().ok())
        .sum();
    assert_eq!(told, missed, "each is told of once: {gaps:?}");
    Ok(())
}

/// As of a full disk: the limit of a file's size.
pub(crate) fn full() -> Outcome {
    need(&["tshark"])?;
    let mut captured = Captured::start("full", &["--offload", "off"]);
    let words = [vec!["-c".to_owned(), "ulimit -f 600; exec \"$@\"".to_owned(), TRUST.to_owned(), TRUST.to_owned()]];
    let words = [words.concat(), captured.command(&["--filter", "tcp port 7"])].concat();
    captured.capture_by(Command::new("bash").args(words));
    echo_exact(60, &noise(2_000_000, 3));
    let (success, text) = captured.ended();
    assert!(!success && text.contains("all.pcapng: ") && text.contains("large"), "{text}");
    let len = std::fs::metadata(captured.path("all.pcapng")).unwrap().len();
    assert!(len > 500 << 10 && len <= 600 << 10, "{len}");
    // Whole blocks: it can be read to its end.
    let there = captured.count("all.pcapng", "tcp") as u64;
    assert!(there > 100 && there <= numbers(&text)[0], "{there} {text}");
    echo_exact(60, &noise(1_000_000, 4));
    Ok(())
}

/// From the first packet to the last one, by the engine's own start and end.
pub(crate) fn from_the_start() -> Outcome {
    need(&["tshark"])?;
    let folder = std::env::temp_dir().join(format!("trust-tun-{}-start", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (control, file) = (folder.join("control"), folder.join("all.pcapng"));
    let words = ["--control", control.to_str().unwrap(), "--capture", file.to_str().unwrap()];
    let engine = Engine::start(&words);
    echo_exact(60, &noise(100_000, 1));
    echo_exact(60, b"the last words");
    let text = engine.finish().text;
    let mut captured = Captured { engine: None, control: String::new(), folder, child: None };
    // It ends behind the engine.
    let complete = || {
        let _ = &text;
        captured.count("all.pcapng", "tcp.flags.fin == 1") >= 4
    };
    eventually(Duration::from_secs(10), "the capture is complete", complete);
    assert_eq!(captured.count("all.pcapng", "tcp.flags.syn == 1 && ip.src == 10.7.0.2"), 2);
    assert_eq!(captured.count("all.pcapng", BROKEN), 0);
    // What cannot be written is said, and nothing is served.
    let words = ["serve", "--control", control.to_str().unwrap(), "--capture", "/nonexistent/all.pcapng"];
    let output = Command::new(TRUST).args(words).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("/nonexistent/all.pcapng: "), "{}", describe(&output));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("ready"), "{}", describe(&output));
    captured.child = None;
    Ok(())
}

/// Where nothing is captured nothing is touched: neither the file that is there, nor the place of one that is not.
pub(crate) fn refused() -> Outcome {
    let mut captured = Captured::start("refused", &[]);
    captured.capture(&[]);
    let (old, new) = (captured.path("old.pcapng"), captured.path("new.pcapng"));
    std::fs::write(&old, "precious").unwrap();
    let refusals: [(&[&str], i32, &str); 5] = [
        (&["-w", &old], 1, "another capture is going on"),
        (&["-w", &new], 1, "another capture is going on"),
        (&["-w", &old, "--buffer", "1k"], 2, "64k to 1G"),
        (&["-w", &old, "tcp", "port", "7"], 2, "trust capture --filter 'tcp port 80'"),
        (&["-w", "-", "--rotate", "64k"], 2, "--rotate needs files"),
    ];
    for (words, status, said) in refusals {
        let mut command = bounded(20, TRUST, &["capture", "--control", &captured.control]);
        let output = command.args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", describe(&output));
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{}", describe(&output));
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "precious", "{words:?}");
    }
    assert!(!PathBuf::from(&new).exists(), "an empty file is left");
    captured.end();
    // What is captured takes the place of what was there, all of it.
    std::fs::write(captured.path("all.pcapng"), vec![b'x'; 1 << 20]).unwrap();
    captured.capture(&[]);
    captured.end();
    assert!(std::fs::metadata(captured.path("all.pcapng")).unwrap().len() < 4_096);
    // A terminal has no use for it. Its own status is script's.
    if need(&["script"]).is_ok() {
        let line = format!("{TRUST} capture --control {} -w -", captured.control);
        let output = bounded(20, "script", &["-qec", &line, "/dev/null"]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("is a terminal"), "{}", describe(&output));
    }
    Ok(())
}

/// Who reads has gone, and there is nothing to write that would show it.
pub(crate) fn unread() -> Outcome {
    let captured = Captured::start("unread", &[]);
    for words in [&["capture", "-w", "-"][..], &["events"]] {
        let words = [words, &["--control", &captured.control]].concat();
        let mut child = bounded(60, TRUST, &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut line, mut octet) = (String::new(), [0]);
        while !line.contains('\n') && child.stderr.as_mut().unwrap().read(&mut octet).unwrap_or(0) > 0 {
            line.push(octet[0].into());
        }
        drop(child.stdout.take());
        let start = std::time::Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(141), "{words:?} {line}");
        assert!(start.elapsed() < Duration::from_secs(20), "{words:?} {:?}", start.elapsed());
    }
    Ok(())
}

/// Started with SIGHUP ignored, it is not ended by one.
pub(crate) fn hung_up() -> Outcome {
    let mut captured = Captured::start("hung_up", &[]);
    let words = captured.command(&[]);
    let words =
        [vec!["-c".to_owned(), "trap '' HUP; exec \"$@\"".to_owned(), "sh".to_owned(), TRUST.to_owned()], words];
    captured.capture_by(Command::new("sh").args(words.concat()));
    captured.signal(libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(captured.child.as_mut().unwrap().try_wait().unwrap(), None, "it has ended");
    captured.end();
    captured.capture(&[]);
    captured.signal(libc::SIGHUP);
    assert!(captured.ended().0, "it ends as by ^C where nobody ignores it");
    Ok(())
}

/// With losses on our way out: the events of each connection add up to what it counts itself.
pub(crate) fn events() -> Outcome {
    let captured = Captured::start("events", &["--impair", "tx.loss=0.03,seed=7", "--workers", "2"]);
    let words = ["events", "--control", &captured.control, "--seconds", "60"];
    let mut child = Command::new(TRUST)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut line, mut octet) = (String::new(), [0]);
    while !line.contains('\n') && child.stderr.as_mut().unwrap().read(&mut octet).unwrap_or(0) > 0 {
        line.push(octet[0].into());
    }
    assert!(line.starts_with("listening"), "{line}");
    let mut output = child.stdout.take().unwrap();
    let output = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        text
    });
    // They stay open until they have been asked.
    let streams: Vec<_> = (0..3)
        .map(|seed| {
            let mut stream = std::net::TcpStream::connect(("10.7.0.2", 7)).unwrap();
            let data = noise(600_000, seed);
            let mut reader = stream.try_clone().unwrap();
            let got = std::thread::spawn(move || {
                let mut got = vec![0; 600_000];
                reader.read_exact(&mut got).unwrap();
                got
            });
            std::io::Write::write_all(&mut stream, &data).unwrap();
            assert!(got.join().unwrap() == data);
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let told = must(20, TRUST, &["ss", "--json", "--control", &captured.control]);
    let sockets: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    drop(streams);
    std::thread::sleep(Duration::from_millis(500));
    let text = {
        // SAFETY: the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
        let _ = child.wait();
        output.join().unwrap()
    };
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(sockets.len(), 3, "{told}");
    let times: Vec<_> = events.iter().map(|event| event["time_ns"].as_u64().unwrap()).collect();
    assert!(times.is_sorted() && events.iter().all(|event| event.get("missed").is_none()));
    for socket in &sockets {
        let info = &socket["info"];
        let own: Vec<_> = events.iter().filter(|event| event["id"] == socket["id"]).collect();
        let sum = |name: &str, field: &str| -> u64 {
            own.iter().filter(|event| event["name"] == name).map(|event| event[field].as_u64().unwrap()).sum()
        };
        let undone = own.iter().filter(|event| event["name"] == "undone").count() as u64;
        let recovery = &info["recovery"];
        let count = |field: &str| recovery[field].as_u64().unwrap();
        assert_eq!(own[0]["name"], "seen");
        assert_eq!(sum("sent_again", "segments"), info["retransmits"].as_u64().unwrap(), "{own:#?}");
        assert_eq!(sum("sent_again", "octets"), info["bytes_resent"].as_u64().unwrap());
        assert_eq!(sum("timeout", "times"), info["timeouts"].as_u64().unwrap());
        assert_eq!(sum("tail_probe", "times"), count("tail_probes"));
        assert_eq!(sum("reordering_timeout", "times"), count("reordering_timeouts"));
        assert_eq!(undone, count("undone_by_frto") + count("undone_by_eifel") + count("undone_by_dsack"));
        let begun = own.iter().filter(|event| event["name"] == "recovery" && event["to"] == "Recovery").count() as u64;
        assert_eq!(begun, count("fast_recoveries"));
        assert!(sum("lost", "octets") > 0 && info["retransmits"].as_u64().unwrap() > 0, "{info}");
        assert_eq!(own.last().unwrap()["name"], "ended", "{:#?}", &own[own.len() - 5..]);
    }
    Ok(())
}

/// Connections that the end of the engine ends are told of, and that it has ended; one listens at a time.
pub(crate) fn last_events() -> Outcome {
    let mut captured = Captured::start("last_events", &[]);
    let words = ["events", "--control", &captured.control];
    let mut child = bounded(60, TRUST, &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut said, mut octet) = (String::new(), [0]);
    while !said.contains('\n') && child.stderr.as_mut().unwrap().read(&mut octet).unwrap_or(0) > 0 {
        said.push(octet[0].into());
    }
    let second = bounded(20, TRUST, &words).output().unwrap();
    assert_eq!(second.status.code(), Some(1), "{}", describe(&second));
    assert!(describe(&second).contains("somebody else is told of events already"), "{}", describe(&second));
    let mut stream = std::net::TcpStream::connect(("10.7.0.2", 7)).unwrap();
    std::io::Write::write_all(&mut stream, b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    captured.engine.take().unwrap().finish();
    let output = child.wait_with_output().unwrap();
    said += &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.ends_with("the engine has ended\n"), "{said} {}", describe(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["name"], "ended", "{text}");
    Ok(())
}
