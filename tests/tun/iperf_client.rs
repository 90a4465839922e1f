//! `trust iperf3 -c` against the stock server, in all directions.

use std::fs;
use std::process::{Child, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::fetch::{Killed, listens};
use crate::support::*;

/// The stock server, on 5201 of this namespace.
fn server() -> Killed {
    let mut command = bounded(240, "iperf3", &["-s"]);
    let server = Killed(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    listens(5201);
    server
}

fn client(arguments: &[&str]) -> Output {
    run(60, env!("CARGO_BIN_EXE_trust"), &[&["iperf3", "-c", "10.7.1.1"], arguments].concat())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn report(arguments: &[&str]) -> Value {
    let output = client(&[&["-J"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", describe(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn octets(report: &Value, sum: &str) -> f64 {
    report["end"][sum]["bytes"].as_f64().unwrap_or_else(|| panic!("no {sum}: {}", report["end"]))
}

/// One test; each stream moved octets by the account of both ends, and none more than was sent.
fn mode(arguments: &[&str], streams: usize) -> Value {
    let report = report(arguments);
    let of = report["end"]["streams"].as_array().unwrap();
    assert_eq!(of.len(), streams, "{arguments:?}");
    for (index, stream) in of.iter().enumerate() {
        let [sent, received] = ["sender", "receiver"].map(|end| stream[end]["bytes"].as_u64().unwrap());
        assert!(received > 0 && sent >= received, "{arguments:?}, stream {index}: {stream}");
    }
    report
}

pub(crate) fn all_directions() -> Outcome {
    need(&["iperf3", "ss"])?;
    let _server = server();
    for (arguments, streams) in [
        (&["-t", "1"][..], 1),
        (&["-t", "1", "-R"], 1),
        (&["-t", "1", "--bidir"], 2),
        (&["-t", "1", "-P", "8"], 8),
        (&["-t", "1", "-P", "8", "-R"], 8),
        (&["-t", "1", "-P", "4", "--bidir"], 8),
        (&["-t", "1", "-l", "4K", "-R"], 1),
        (&["-t", "1", "-l", "1M"], 1),
    ] {
        let report = mode(arguments, streams);
        let seconds = report["end"]["streams"][0]["sender"]["seconds"].as_f64().unwrap();
        assert!((1.0..5.0).contains(&seconds), "{arguments:?}: {seconds}");
    }
    Ok(())
}

/// Octets end the test where time does not; a limit is kept, by us and by the server.
pub(crate) fn amounts_and_rates() -> Outcome {
    need(&["iperf3", "ss"])?;
    let _server = server();
    let report = mode(&["-n", "50M", "-P", "3"], 3);
    assert_eq!(octets(&report, "sum_sent"), f64::from(50 << 20), "to the octet");
    let report = mode(&["-n", "50M", "-R"], 1);
    assert!(octets(&report, "sum_received") >= f64::from(50 << 20));
    for direction in [&[][..], &["-R"]] {
        let report = mode(&[&["-t", "2", "-b", "100M"], direction].concat(), 1);
        // Above is what the limit forbids; far below would be a machine with other things to do.
        let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap();
        assert!((50e6..110e6).contains(&rate), "{direction:?}: {rate} bit/s");
    }
    Ok(())
}

/// As text, for people.
pub(crate) fn text() -> Outcome {
    need(&["iperf3", "ss"])?;
    let _server = server();
    let output = client(&["-t", "2", "--bidir"]);
    assert!(output.status.success(), "{}", describe(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in [
        "Connecting to host 10.7.1.1, port 5201",
        "[  1] local 10.7.1.2 port ",
        " connected to 10.7.1.1 port 5201",
        "[ ID][Role] Interval           Transfer     Bitrate         Retr  Cwnd",
        "[  1][TX-C]   0.00-1.",
        "[  3][RX-C]   1.",
        "sender",
        "receiver",
    ] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
    Ok(())
}

/// A server that is busy, that ends in the middle, that is none; and a client that is interrupted.
pub(crate) fn failures() -> Outcome {
    need(&["iperf3", "ss"])?;
    let server = server();
    let spawn = |time: &str| -> Child {
        let mut command = bounded(60, env!("CARGO_BIN_EXE_trust"), &["iperf3", "-c", "10.7.1.1", "-t", time]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running = || {
        eventually(Duration::from_secs(20), "a test runs", || {
            must(5, "ss", &["-Htn", "state", "established", "sport = :5201"]).lines().count() == 2
        });
    };
    let first = spawn("30");
    running();
    let second = client(&["-t", "1", "--tun", "trust2", "--address", "10.7.2.2/24", "--route", "default"]);
    assert_eq!(second.status.code(), Some(1), "{}", describe(&second));
    assert!(said(&second).contains("busy running a test"), "{}", said(&second));
    // Not by timeout, which passes it on to the process and then to its group; the second one would end it at once.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", first.id())).unwrap();
    let pid = children.trim().parse().unwrap();
    // SAFETY: timeout has not waited for it yet.
    unsafe { libc::kill(pid, libc::SIGINT) };
    let first = first.wait_with_output().unwrap();
    assert!(said(&first).contains("interrupted"), "{}", describe(&first));
    // The server has heard and is free.
    eventually(Duration::from_secs(5), "the server is idle", || {
        must(5, "ss", &["-Htn", "state", "established", "sport = :5201"]).is_empty()
    });
    mode(&["-t", "1"], 1);

    let third = spawn("30");
    running();
    thread::sleep(Duration::from_millis(300));
    // SAFETY: a child that has not been waited for.
    unsafe { libc::kill(server.0.id() as i32, libc::SIGINT) };
    let third = third.wait_with_output().unwrap();
    assert_eq!(third.status.code(), Some(1), "{}", describe(&third));
    assert!(said(&third).contains("the server has terminated"), "{}", said(&third));
    drop(server);

    let refused = client(&["-t", "1"]);
    assert!(refused.status.code() == Some(1) && said(&refused).contains("refused"), "{}", describe(&refused));
    let listener = std::net::TcpListener::bind("0.0.0.0:5201").map_err(|e| e.to_string())?;
    let stranger = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 400\r\n").unwrap();
        // Whom we do not understand we leave with the rest unread: that is a reset.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let output = client(&["-t", "1"]);
    assert!(said(&output).contains("is it an iperf3 server?"), "{}", describe(&output));
    stranger.join().unwrap();
    Ok(())
}
