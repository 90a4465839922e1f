//! HTTP by curl, ab, wrk and Chromium.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::fetch::Directory;
use crate::support::*;

/// The period of the pattern that `/bytes/N` sends.
const PERIOD: usize = 7_030;

/// Every octet of `/bytes/N`, by a stock client.
pub(crate) fn bytes() -> Outcome {
    need(&["curl"])?;
    let len = size(10_000_000, 1_000_000_000);
    let engine = Engine::start(&[]);
    // The full size would not fit into memory twice: as much as there is of the pattern is compared, the rest counted.
    let url = format!("http://10.7.0.2/bytes/{len}");
    let count = must(120, "sh", &["-c", &format!("curl -sSf {url} | wc -c")]);
    assert_eq!(count.trim(), len.to_string());
    let output = run(30, "curl", &["-sSf", "http://10.7.0.2/bytes/1000000"]);
    assert!(output.status.success(), "{}", describe(&output));
    assert_eq!(output.stdout.len(), 1_000_000);
    assert!(output.stdout.starts_with(b" !\"#$%&'()*+,-./"));
    assert_same(&output.stdout[PERIOD..], &output.stdout[..1_000_000 - PERIOD]);
    assert_eq!(engine.finish().number(" closed"), 2.0);
    Ok(())
}

/// The status page, HEAD, refusals, and two requests on one connection.
pub(crate) fn pages() -> Outcome {
    need(&["curl"])?;
    let engine = Engine::start(&[]);
    let page = must(10, "curl", &["-sSf", "http://10.7.0.2/"]);
    assert!(page.starts_with("trust ") && page.contains("connections 1 open, 1 accepted"), "{page}");
    let head = must(10, "curl", &["-sSfI", "http://10.7.0.2/bytes/123456789"]);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: 123456789\r\n"), "{head}");
    let form = "%{http_code} %{num_connects}\n";
    let urls = ["http://10.7.0.2/none", "http://10.7.0.2/echo", "http://10.7.0.2/favicon.ico"];
    let mut arguments = vec!["-sS", "-w", form];
    urls.iter().for_each(|url| arguments.extend(["-o", "/dev/null", url]));
    assert_eq!(must(10, "curl", &arguments), "404 1\n405 0\n204 0\n", "code, and connections made");
    engine.finish();
    Ok(())
}

/// Octets of the largest sized body that is taken.
const LARGEST: usize = 16 << 20;

/// Sized, chunked, and with `Expect: 100-continue` as curl sends it with a large body.
pub(crate) fn echo() -> Outcome {
    need(&["curl"])?;
    let data = noise(size(5_000_000, 100_000_000), 80);
    let engine = Engine::start(&[]);
    let url = "http://10.7.0.2/echo";
    let post = ["-sSf", "-X", "POST", "-H", "Content-Type: application/octet-stream", url];
    for (how, extra) in [
        ("sized", &["--data-binary", "@-"][..]),
        ("chunked", &["-T", "-"]),
        ("expected", &["--data-binary", "@-", "-H", "Expect: 100-continue"]),
    ] {
        let arguments = [extra, &post].concat();
        let data = if how == "chunked" { &data } else { &data[..data.len().min(LARGEST)] };
        let output = pipe(&mut bounded(60, "curl", &arguments), data);
        assert!(output.status.success(), "{how}: {}", describe(&output));
        assert_same(&output.stdout, data);
    }
    engine.finish();
    Ok(())
}

/// A connection, and the head of a request for so many octets with these fields.
fn post(len: usize, fields: &str) -> TcpStream {
    let mut stream = TcpStream::connect((ENGINE, 80)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n{fields}\r\n").unwrap();
    stream
}

/// Clients that send all before they read any of it, as most libraries do.
pub(crate) fn echo_whole() -> Outcome {
    let engine = Engine::start(&[]);
    for len in [5_000_000, LARGEST] {
        let data = noise(len, 81);
        let start = Instant::now();
        let mut stream = post(len, "Connection: close\r\n");
        stream.write_all(&data).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let took = start.elapsed();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", answer[..60].escape_ascii());
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert_same(&answer[head..], &data);
        assert!(took < Duration::from_secs(10), "{len} octets took {took:?}");
    }
    engine.finish();
    Ok(())
}

/// One that sends all the same sees the answer (RFC 9112 9.6), and one that asks before is told at once.
pub(crate) fn too_large() -> Outcome {
    let engine = Engine::start(&[]);
    let is_refusal = |answer: &str| answer.starts_with("HTTP/1.1 413 Content Too Large\r\n");
    let len = LARGEST + 1;
    let mut stream = post(len, "");
    stream.write_all(&noise(len, 82)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(is_refusal(&answer) && answer.contains("Connection: close\r\n"), "{answer}");
    drop(stream);
    let start = Instant::now();
    let mut stream = post(len, "Expect: 100-continue\r\n");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(is_refusal(&answer), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drop(stream);
    engine.await_stats("both are closed", Duration::from_secs(10), |now| now.connections == 0);
    assert_eq!(engine.finish().number(" resets sent"), 0.0);
    Ok(())
}

/// A client that sends a few octets of a head and no more is told off, and the others never notice.
pub(crate) fn slow_head() -> Outcome {
    need(&["curl"])?;
    let engine = Engine::start(&[]);
    let mut slow = TcpStream::connect((ENGINE, 80)).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
    must(10, "curl", &["-sSf", "http://10.7.0.2/"]);
    let mut answer = String::new();
    slow.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    engine.finish();
    Ok(())
}

/// HTTP/1.0 with keep-alive.
pub(crate) fn ab() -> Outcome {
    need(&["ab"])?;
    let engine = Engine::start(&[]);
    let requests = size(20_000, 500_000).to_string();
    let text = must(120, "ab", &["-q", "-k", "-c", "64", "-n", &requests, "http://10.7.0.2/bytes/1000"]);
    for (what, expected) in
        [("Complete requests:", &requests[..]), ("Failed requests:", "0"), ("Keep-Alive requests:", &requests)]
    {
        let line = text.lines().find_map(|line| line.strip_prefix(what));
        assert_eq!(line.map(str::trim), Some(expected), "{what}\n{text}");
    }
    assert!(text.contains(&format!("HTML transferred:       {}000 bytes", requests)), "{text}");
    engine.finish();
    Ok(())
}

/// HTTP/1.1, many connections.
pub(crate) fn wrk() -> Outcome {
    need(&["wrk"])?;
    let engine = Engine::start(&[]);
    let span = if soak() { "30s" } else { "3s" };
    wrk_is_content(span, "http://10.7.0.2/bytes/1000");
    let summary = engine.finish();
    // Before these, wrk makes one to see whether anybody is there.
    assert_eq!(summary.number(" connections accepted"), 257.0, "{}", summary.text);
    Ok(())
}

/// 256 connections for a while: no error of any kind.
pub(crate) fn wrk_is_content(span: &str, url: &str) {
    let text = must(60, "wrk", &["-c", "256", "-t", "2", "-d", span, url]);
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in")?.0.parse::<u64>().ok());
    assert!(requests.is_some_and(|requests| requests > 1_000), "{text}");
}

/// A browser loads the status page, and shows what came with it.
pub(crate) fn chromium() -> Outcome {
    need(&["chromium"])?;
    let engine = Engine::start(&[]);
    let directory = Directory::new("chromium");
    let profile = format!("--user-data-dir={}", directory.path("profile"));
    let mut arguments = vec!["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
    arguments.extend(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    // A container's /dev/shm is often too small for it.
    arguments.extend(["--disable-dev-shm-usage", &profile, "--dump-dom", "http://10.7.0.2/"]);
    let page = must(90, "chromium", &arguments);
    for part in ["<title>trust</title>", "requests <b>", "Your connection"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    // Tags that we leave out: the browser has understood the page, not only passed it on.
    assert!(page.contains("</li></ul>") && page.trim_end().ends_with("</body></html>"), "{page}");
    engine.finish();
    Ok(())
}
