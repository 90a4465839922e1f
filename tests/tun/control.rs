//! `trust ss`, `kill` and `stats` of an engine that serves: what they say is what the test has done, and what the kernel
//! says of its end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Engine, Outcome, bounded, describe, eventually, must, need, noise, run};

const TRUST: &str = env!("CARGO_BIN_EXE_trust");

/// A path that nobody else has.
fn path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("trust-tun-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// An engine, and how it is asked.
struct Looked {
    engine: Option<Engine>,
    path: PathBuf,
}

impl Looked {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let path = path(name);
        let control = path.to_str().unwrap().to_owned();
        let engine = Engine::start(&[&["--control", &control], arguments].concat());
        assert!(engine.banner.contains(&format!("control: {control}\n")), "{}", engine.banner);
        Self { engine: Some(engine), path }
    }

    /// What a command says that has to succeed.
    fn ask(&self, command: &str, words: &[&str]) -> String {
        must(20, TRUST, &[&[command, "--control", self.path.to_str().unwrap()], words].concat())
    }

    fn sockets(&self, filter: &str) -> Vec<Value> {
        let words: Vec<_> = ["--json"].into_iter().chain(filter.split_whitespace()).collect();
        self.ask("ss", &words).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn end(mut self) -> String {
        let text = self.engine.take().unwrap().finish().text;
        eventually(Duration::from_secs(10), "the socket is removed", || !self.path.exists());
        text
    }
}

impl Drop for Looked {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("10.7.0.2", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends `data` to the echo service, and has it back.
fn echo(stream: &mut TcpStream, data: &[u8]) {
    stream.write_all(data).unwrap();
    let mut back = vec![0; data.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == data);
}

/// The number behind `word:` in the kernel's words for a connection, and what is behind a comma.
fn number(words: &str, word: &str) -> Option<(u64, Option<u64>)> {
    let value = words.split_whitespace().find_map(|found| found.strip_prefix(word)?.strip_prefix(':'))?;
    let (first, second) = value.split_once([',', '/']).map_or((value, None), |(one, other)| (one, Some(other)));
    Some((first.parse().ok()?, second.and_then(|second| second.parse().ok())))
}

pub(crate) fn connections() -> Outcome {
    need(&["ss"])?;
    let engine = Looked::start("connections", &["--service", "echo-sockets:1007", "--workers", "2"]);
    let mut streams: Vec<_> = [7, 7, 7, 1007, 80].map(connect).into();
    for (stream, len) in streams[..4].iter_mut().zip([1, 1_000, 50_000, 700]) {
        echo(stream, &noise(len, 7));
    }
    let sockets = engine.sockets("");
    assert_eq!(sockets.len(), streams.len(), "{sockets:?}");
    for (stream, (service, octets)) in
        streams.iter().zip([("echo", 1), ("echo", 1_000), ("echo", 50_000), ("echo-sockets", 700), ("http", 0)])
    {
        let (ours, theirs) = (stream.peer_addr().unwrap(), stream.local_addr().unwrap());
        let socket = sockets.iter().find(|socket| socket["peer"] == theirs.to_string()).unwrap();
        assert_eq!((&socket["local"], &socket["state"]), (&ours.to_string().into(), &"ESTAB".into()));
        assert_eq!((&socket["service"], &socket["pmtu"]), (&service.into(), &1_500.into()));
        let info = &socket["info"];
        assert_eq!((&info["bytes_received"], &info["bytes_sent"]), (&octets.into(), &octets.into()), "{socket}");
        assert_eq!((&info["sack"], &info["timestamps"]), (&true.into(), &true.into()));
        // What the kernel says of its end.
        let filter = format!("sport = :{}", theirs.port());
        let kernel = must(10, "ss", &["-tinH", "state", "established", &filter]);
        assert_eq!(number(&kernel, "mss").unwrap().0, info["mss"].as_u64().unwrap(), "{kernel}");
        let (theirs_shift, ours_shift) = number(&kernel, "wscale").unwrap();
        assert_eq!(info["window_shifts"], serde_json::json!([ours_shift.unwrap(), theirs_shift]), "{kernel}");
        assert_eq!(number(&kernel, "bytes_received").map_or(0, |(octets, _)| octets), octets);
        assert_eq!(info["retransmits"], 0);
    }
    // Filters reach the engine, and columns have their words.
    let echoes = engine.ask("ss", &["state", "established", "( sport = :7 or dport = :http )", "dst", "10.7.0.1"]);
    let rows: Vec<_> = echoes.lines().filter(|line| line.starts_with("ESTAB")).collect();
    assert_eq!(rows.len(), 3, "{echoes}");
    assert!(echoes.starts_with("State      Recv-Q Send-Q Local Address:Port "), "{echoes}");
    for words in [" cubic wscale:", " rto:", " rtt:", " mss:1448 pmtu:1500 ", " cwnd:", " minrtt:"] {
        assert_eq!(echoes.matches(words).count(), 3, "{words} in {echoes}");
    }
    // As fingers type it.
    assert_eq!(engine.ask("ss", &["-tinH", "dport", "=", ":1"]), "");
    let listeners = engine.ask("ss", &["-l", "-H", "-b"]);
    // That of echo-sockets is one in each family.
    let many = 7 + usize::from(trust::device::kernel_has_ipv6());
    assert_eq!(listeners.lines().count(), many, "each once, on two shards: {listeners}");
    assert!(listeners.lines().any(|line| line.starts_with("LISTEN") && line.contains("echo-sockets")), "{listeners}");
    // Gauges and counters agree with what there is.
    let shard = |socket: &Value| socket["shard"].as_u64().unwrap() as usize;
    eventually(Duration::from_secs(5), "the gauges are published", || {
        let stats: Value = serde_json::from_str(&engine.ask("stats", &["--json"])).unwrap();
        assert_eq!(stats["total"]["accepted"], 5);
        let there = |index| sockets.iter().filter(|socket| shard(socket) == index).count() as u64;
        (0..2).all(|index| stats["shards"][index]["connections"] == there(index))
    });
    let summary = engine.ask("ss", &["-s"]);
    let all = summary.lines().last().unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(all, ["all", "5", "5", "0", "0", "0", "0"], "{summary}");
    assert!(engine.ask("stats", &[]).lines().any(|line| line.starts_with("accepted ")));
    drop(streams);
    eventually(Duration::from_secs(10), "they are gone", || engine.sockets("").is_empty());
    let text = engine.end();
    assert!(text.contains(": 5 connections accepted"), "{text}");
    Ok(())
}

/// TIME-WAIT, half-closed, refused in vain: each has its state.
pub(crate) fn states() -> Outcome {
    let engine = Looked::start("states", &[]);
    // Daytime closes first.
    let mut daytime = connect(13);
    daytime.read_to_end(&mut Vec::new()).unwrap();
    let from = daytime.local_addr().unwrap();
    drop(daytime);
    eventually(Duration::from_secs(5), "TIME-WAIT", || {
        let waiting = engine.sockets("state time-wait");
        waiting.len() == 1 && waiting[0]["peer"] == from.to_string()
    });
    assert!(engine.sockets("").is_empty());
    // Chargen sends on to who has closed and reads nothing.
    let chargen = connect(19);
    chargen.shutdown(Shutdown::Write).unwrap();
    eventually(Duration::from_secs(5), "its state is another than ESTAB", || {
        let found = engine.sockets("exclude established exclude listening sport = :chargen");
        found.len() == 1 && found[0]["send_q"].as_u64().unwrap() > 0
    });
    engine.end();
    Ok(())
}

pub(crate) fn kill() -> Outcome {
    let engine = Looked::start("kill", &["--service", "echo-sockets:1007", "--workers", "2"]);
    let mut streams: Vec<_> = (0..20).map(|index| connect(if index % 2 == 0 { 7 } else { 1007 })).collect();
    streams.iter_mut().for_each(|stream| echo(stream, b"hello"));
    let port = |stream: &TcpStream| stream.local_addr().unwrap().port();
    let reset =
        |stream: &mut TcpStream| stream.read(&mut [0]).unwrap_err().kind() == std::io::ErrorKind::ConnectionReset;
    // By a filter.
    let filter = format!("dport = :{}", port(&streams[4]));
    let killed = engine.ask("kill", &filter.split(' ').collect::<Vec<_>>());
    assert!(killed.lines().count() == 2 && killed.contains(&format!("10.7.0.1:{}", port(&streams[4]))), "{killed}");
    assert!(reset(&mut streams[4]));
    // By its name, which names nothing afterwards.
    let theirs = streams[9].local_addr().unwrap().to_string();
    let id = engine.sockets("").into_iter().find(|socket| socket["peer"] == theirs).unwrap()["id"].clone();
    let id = id.as_str().unwrap();
    engine.ask("kill", &["--id", id]);
    assert!(reset(&mut streams[9]));
    let control = engine.path.to_str().unwrap();
    let again = run(10, TRUST, &["kill", "--control", control, "--id", id]);
    assert_eq!(again.status.code(), Some(1), "{}", describe(&again));
    // Nothing is reset for want of words.
    let nothing = run(10, TRUST, &["kill", "--control", control]);
    assert_eq!(nothing.status.code(), Some(2), "{}", describe(&nothing));
    for (index, stream) in streams.iter_mut().enumerate().filter(|(index, _)| ![4, 9].contains(index)) {
        echo(stream, &noise(10_000, index as u64));
    }
    assert_eq!(engine.sockets("").len(), 18);
    engine.ask("kill", &["--all"]);
    assert!(streams.iter_mut().enumerate().all(|(index, stream)| [4, 9].contains(&index) || reset(stream)));
    // It listens as before.
    echo(&mut connect(7), b"hello");
    engine.end();
    Ok(())
}

pub(crate) fn socket() -> Outcome {
    let engine = Looked::start("socket", &[]);
    let path = engine.path.clone();
    let control = path.to_str().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // Another engine does not take it.
    let other = run(20, TRUST, &["serve", "--tun", "trust9", "--address", "10.9.0.2/24", "--control", control]);
    let text = describe(&other);
    assert!(other.status.code() == Some(1) && text.contains("an engine is there; choose another path"), "{text}");
    assert_eq!(engine.ask("ss", &["-H"]), "");
    // Killed hard, it is removed all the same.
    engine.engine.as_ref().unwrap().signal(libc::SIGKILL);
    eventually(Duration::from_secs(10), "the socket is removed", || !path.exists());
    drop(engine);
    let gone = run(10, TRUST, &["ss", "--control", control]);
    let text = describe(&gone);
    assert!(gone.status.code() == Some(1) && text.contains("no engine is there"), "{text}");
    // What is left of one whose keeper was killed, too, is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let next = Looked { engine: Some(Engine::start(&["--control", control])), path: path.clone() };
    assert_eq!(next.ask("ss", &["-H"]), "");
    next.end();
    let off = Engine::start(&["--control", "off"]);
    assert!(!off.banner.contains("control: "), "{}", off.banner);
    off.finish();
    Ok(())
}

/// Noise, and who reads nothing: connections live on, and so does who asks in order.
pub(crate) fn garbage() -> Outcome {
    let engine = Looked::start("garbage", &[]);
    let mut stream = connect(7);
    let mut stalled: Vec<_> = (0..8).map(|_| UnixStream::connect(&engine.path).unwrap()).collect();
    for asking in &mut stalled {
        for _ in 0..10 {
            asking.write_all(b"{\"v\":1,\"ask\":\"stats\"}\n").unwrap();
        }
    }
    for seed in 0..100 {
        let mut client = UnixStream::connect(&engine.path).unwrap();
        // It may have hung up before all of it was sent.
        let _ = client.write_all(&noise(10_000, seed));
        echo(&mut stream, &noise(1_000, seed));
    }
    let start = Instant::now();
    assert_eq!(engine.sockets("sport = :7").len(), 1);
    assert!(start.elapsed() < Duration::from_secs(10));
    drop(stalled);
    echo(&mut stream, &noise(100_000, 1));
    engine.end();
    Ok(())
}

/// Without a path: the one engine that runs, in the folder of its user.
pub(crate) fn usual_place() -> Outcome {
    let folder = path("runtime");
    std::fs::create_dir(&folder).unwrap();
    // The engines of other tests are in the folders that a user has without one: asked is where those are hidden.
    let hidden = |words: &[&str]| {
        let hide = "for folder in /run /tmp/trust-[0-9]*; do \
                    [ ! -d $folder ] || mount -t tmpfs none $folder || exit 9; done; exec \"$@\"";
        bounded(20, "unshare", &[&["-m", "sh", "-c", hide, "sh"], words].concat())
    };
    let ask = |words: &[&str]| hidden(&[&[TRUST], words].concat()).env("XDG_RUNTIME_DIR", &folder).output().unwrap();
    let none = ask(&["ss"]);
    assert!(describe(&none).contains("no engine of yours runs"), "{}", describe(&none));
    // In a user namespace of its own, the one around it is asked what our number is there.
    let inside = ["unshare", "--user", "--map-user=4242", TRUST, "ss"];
    let none = hidden(&inside).env_remove("XDG_RUNTIME_DIR").output().unwrap();
    // SAFETY: it has no argument and changes nothing.
    let user = unsafe { libc::geteuid() };
    assert!(describe(&none).contains(&format!("no socket in /tmp/trust-{user})")), "{}", describe(&none));
    let mut serve = bounded(20, TRUST, &["serve", "--stats", "1", "--drain", "0"]);
    serve.env("XDG_RUNTIME_DIR", &folder);
    let engine = Engine::spawn(serve);
    let usual = folder.join("trust");
    assert!(engine.banner.contains(&format!("control: {}/trust0-", usual.display())), "{}", engine.banner);
    let address: SocketAddr = connect(7).local_addr().unwrap();
    let listening = ask(&["ss", "-l", "-H", "-b", "sport = :echo"]);
    assert!(String::from_utf8_lossy(&listening.stdout).starts_with("LISTEN"), "{address} {}", describe(&listening));
    engine.finish();
    eventually(Duration::from_secs(10), "the socket is removed", || {
        std::fs::read_dir(&usual).unwrap().next().is_none()
    });
    std::fs::remove_dir_all(&folder).unwrap();
    Ok(())
}

/// What a scraper gets over the device, and who asks by a name does not; `promtool`, where it is installed, takes it.
pub(crate) fn metrics() -> Outcome {
    need(&["curl"])?;
    let engine = Looked::start("metrics", &["--metrics", "9100"]);
    let mut streams: Vec<_> = (0..3).map(|_| connect(7)).collect();
    streams.iter_mut().for_each(|stream| echo(stream, b"hello"));
    let url = "http://10.7.0.2:9100/metrics";
    let scrape = || must(10, "curl", &["-sSf", url]);
    let value = |text: &str, name: &str| -> f64 {
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    // The scraper itself is one of them.
    eventually(Duration::from_secs(5), "three connections and the scraper are published", || {
        let text = scrape();
        value(&text, "trust_connections") >= 4.0 && value(&text, "trust_accepted_total") >= 4.0
    });
    let stats: Value = serde_json::from_str(&engine.ask("stats", &["--json"])).unwrap();
    let text = engine.ask("stats", &["--prometheus"]);
    assert!(value(&text, "trust_payload_in_total") >= 15.0, "{text}");
    assert!(value(&text, "trust_accepted_total") >= stats["total"]["accepted"].as_f64().unwrap());
    assert_eq!(value(&text, "node_netstat_Tcp_PassiveOpens"), value(&text, "trust_accepted_total"));
    assert_eq!(value(&text, "node_netstat_Tcp_CurrEstab"), value(&text, "trust_established"));
    assert!(value(&text, "trust_established") >= 3.0 && value(&text, "node_netstat_Tcp_InSegs") >= 9.0, "{text}");
    assert_eq!(
        value(&text, "node_netstat_Tcp_InErrs") + value(&text, "node_netstat_TcpExt_TCPSynRetrans"),
        0.0,
        "{text}"
    );
    let buffers = ["trust_packet_buffers", "trust_packet_buffers_free"].map(|name| value(&text, name));
    assert!(buffers[0] > 0.0 && buffers[1] > 0.0 && buffers[1] <= buffers[0], "{buffers:?}");
    eventually(Duration::from_secs(5), "round trips are counted", || {
        value(&scrape(), "trust_round_trip_seconds_count") >= 3.0
    });
    assert!(value(&text, "trust_turn_seconds_count") > 0.0 && value(&text, "trust_turn_seconds_sum") > 0.0);
    let open = must(10, "curl", &["-sSf", "-H", "Accept: application/openmetrics-text", url]);
    assert!(open.ends_with("# EOF\n"), "{open}");
    assert!(engine.ask("stats", &["--openmetrics"]).ends_with("# EOF\n"));
    let named = run(10, "curl", &["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: evil.example", url]);
    assert_eq!(String::from_utf8_lossy(&named.stdout), "421", "{}", describe(&named));
    if need(&["promtool"]).is_ok() {
        let checked = crate::support::pipe(&mut bounded(20, "promtool", &["check", "metrics"]), text.as_bytes());
        // It has a view on names, and the kernel's have capitals; everything else it takes as it is.
        let said = describe(&checked);
        let complaints = said.lines().filter(|line| line.starts_with("trust_") || line.contains("error"));
        assert_eq!(complaints.collect::<Vec<_>>(), Vec::<&str>::new(), "{said}");
    }
    drop(streams);
    engine.end();
    Ok(())
}

/// Who scrapes and keeps its connection does not hold up the end.
pub(crate) fn idle_scraper() -> Outcome {
    let path = path("scraper");
    let serve = ["serve", "--stats", "1", "--drain", "60", "--metrics", "9100", "--control", path.to_str().unwrap()];
    let engine = Looked { engine: Some(Engine::spawn(bounded(100, TRUST, &serve))), path: path.clone() };
    let mut scraper = connect(9100);
    scraper.write_all(b"GET /metrics HTTP/1.1\r\nHost: 10.7.0.2:9100\r\n\r\n").unwrap();
    assert!(scraper.read(&mut [0]).unwrap() > 0);
    // It reads the rest as it comes, and then the end of the connection, not a reset.
    let reads = std::thread::spawn(move || scraper.read_to_end(&mut Vec::new()).map(drop));
    eventually(Duration::from_secs(10), "the answer is taken", || {
        engine.sockets("sport = :9100").first().is_some_and(|socket| socket["send_q"] == 0)
    });
    let start = Instant::now();
    engine.end();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    reads.join().unwrap().unwrap();
    Ok(())
}

/// One connection on a device that loses what we send: it, the counters, the metrics and the summary tell the same story.
pub(crate) fn losses() -> Outcome {
    const OCTETS: usize = 4_000_000;
    let engine = Looked::start("losses", &["--impair", "tx.loss=0.02,seed=11", "--offload", "off"]);
    let mut stream = connect(80);
    write!(stream, "GET /bytes/{OCTETS} HTTP/1.1\r\nHost: 10.7.0.2\r\n\r\n").unwrap();
    let (mut got, mut piece) = (0, vec![0; 64 << 10]);
    while got < OCTETS {
        got += stream.read(&mut piece).unwrap();
    }
    // Its last octets are acknowledged, and what the shard has counted is published.
    let stats = || -> Value { serde_json::from_str(&engine.ask("stats", &["--json"])).unwrap() };
    let mut settled = None;
    eventually(Duration::from_secs(20), "it is at rest", || {
        let socket = engine.sockets("sport = :80").pop().unwrap();
        let rest = socket["info"]["flight"] == 0 && socket["info"]["bytes_acked"].as_u64().unwrap() > OCTETS as u64;
        std::thread::sleep(Duration::from_millis(50));
        settled = Some((socket, stats()));
        rest
    });
    let (socket, stats) = settled.unwrap();
    let (info, total) = (&socket["info"], &stats["total"]);
    let number = |value: &Value| value.as_u64().unwrap();
    assert!(number(&info["retransmits"]) > 20, "{info}");
    // Without offload a frame is a segment.
    assert_eq!(info["retransmits"], total["retransmits"], "{info} {total}");
    assert_eq!(info["recovery"]["fast_recoveries"], total["fast_recoveries"]);
    assert_eq!(info["recovery"]["dsacks"], total["dsacks_in"]);
    assert_eq!(info["timeouts"], total["retransmission_timeouts"]);
    assert_eq!(info["retransmits"], total["segments_resent"]);
    assert!(number(&total["fast_retransmits"]) > 0 && total["opens"] == 0, "{total}");
    let sent = number(&info["bytes_sent"]) + number(&info["bytes_resent"]);
    assert_eq!(sent, number(&total["payload_out"]));
    let metrics = engine.ask("stats", &["--openmetrics"]);
    let line = format!("trust_fast_recoveries_total{{shard=\"{}\"}} {}", socket["shard"], total["fast_recoveries"]);
    assert!(metrics.contains(&line), "{line} in {metrics}");
    let words = engine.ask("ss", &["sport = :80"]);
    assert!(words.contains(&format!(" retrans:0/{} ", info["retransmits"])), "{words}");
    assert!(words.contains(" busy:") && words.contains(" delivery_rate "), "{words}");
    let retransmitted = number(&info["retransmits"]);
    drop(stream);
    let text = engine.end();
    assert!(text.contains(&format!("; {retransmitted} retransmitted, ")), "{text}");
    Ok(())
}
