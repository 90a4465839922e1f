//! `/metrics`: what the engine counts, for Prometheus, on a port of our own stack; and the same text for the control
//! socket. The format is OpenMetrics where it is asked for, else the older one, which every reader knows.
//!
//! Must not contain: names of metrics; the library has them.

use std::convert::Infallible;
use std::future::ready;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HOST, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use trust::engine::{Family, Handle, MetricKind, SampleValue};
use trust::net::Stack;
use trust::net::tokio::{TcpListener, TcpStream};

use super::super::Error;

/// Connections at a time; others wait to be accepted.
const CONNECTIONS: usize = 8;

/// So long a connection may be without another request; a scraper comes again. Within that time a request has to come
/// whole and its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where metrics are served: on a port of our own stack, at each of our addresses.
#[derive(Debug)]
pub(in crate::command) struct Scraped {
    listeners: Vec<(trust::net::TcpListener, SocketAddr)>,
}

impl Scraped {
    /// Listens.
    pub(in crate::command) fn bind(stack: &Stack, addresses: &[IpAddr], port: u16) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Run(format!("--metrics {port}: {error}"));
        let bind = |address: &IpAddr| {
            let address = SocketAddr::new(*address, port);
            Ok((stack.bind(address).map_err(failed)?, address))
        };
        Ok(Self { listeners: addresses.iter().map(bind).collect::<Result<_, Error>>()? })
    }
}

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    /// As whoever asks for it says that it wants it.
    fn of(headers: &HeaderMap) -> Self {
        let wants = |value: &str| value.contains("application/openmetrics-text");
        let wanted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(wants);
        if wanted { Self::OpenMetrics } else { Self::Prometheus }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All metrics of an engine.
pub(super) fn write(handle: &Handle, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics(handle.clone())));
    let mut written = String::new();
    let done = match format {
        Format::OpenMetrics => text::encode(&mut written, &registry),
        Format::Prometheus => prometheus_text::encode(&mut written, &registry),
    };
    // A string takes everything.
    debug_assert!(done.is_ok());
    written
}

#[derive(Debug)]
struct Metrics(Handle);

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut result = Ok(());
        self.0.visit_metrics(&mut |metric| {
            if result.is_ok() {
                result = encode(&mut encoder, &metric);
            }
        });
        result
    }
}

fn encode(encoder: &mut DescriptorEncoder<'_>, metric: &Family<'_>) -> Result<(), std::fmt::Error> {
    let kind = match metric.kind {
        MetricKind::Counter => MetricType::Counter,
        MetricKind::Gauge => MetricType::Gauge,
        MetricKind::Histogram => MetricType::Histogram,
        MetricKind::Untyped => MetricType::Unknown,
    };
    let mut encoder = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
    for sample in metric.samples {
        if sample.labels.is_empty() {
            encode_value(&mut encoder, metric.kind, &sample.value)?;
        } else {
            encode_value(&mut encoder.encode_family(&sample.labels)?, metric.kind, &sample.value)?;
        }
    }
    Ok(())
}

fn encode_value(encoder: &mut MetricEncoder<'_>, kind: MetricKind, value: &SampleValue) -> Result<(), std::fmt::Error> {
    type NoLabels = [(&'static str, &'static str); 0];
    match (value, kind) {
        (SampleValue::Number(value), MetricKind::Counter) => encoder.encode_counter::<NoLabels, _, u64>(value, None),
        (SampleValue::Number(value), _) => encoder.encode_gauge(value),
        (SampleValue::Decimal(value), _) => encoder.encode_gauge(value),
        (SampleValue::Histogram { buckets, sum }, _) => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_histogram::<NoLabels>(*sum, count, buckets, None)
        }
    }
}

/// Answers who asks by HTTP, as long as it is polled, until the engine takes no connections any more. When the engine
/// drains, connections end: at once, or behind the answer that is under way.
pub(super) async fn serve(scraped: Scraped, handle: Handle, drain: watch::Receiver<bool>) -> std::io::Error {
    serve_patiently(scraped, handle, drain, PATIENCE).await
}

async fn serve_patiently(
    scraped: Scraped,
    handle: Handle,
    drain: watch::Receiver<bool>,
    patience: Duration,
) -> std::io::Error {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut listeners = JoinSet::new();
    for (listener, address) in scraped.listeners {
        let (places, handle, drain) = (Arc::clone(&places), handle.clone(), drain.clone());
        listeners.spawn(async move { serve_one((listener.into(), address), &places, &handle, &drain, patience).await });
    }
    match listeners.join_next().await {
        Some(Ok(error)) => error,
        Some(Err(error)) => std::io::Error::other(error),
        None => std::io::ErrorKind::AddrNotAvailable.into(),
    }
}

async fn serve_one(
    (listener, address): (TcpListener, SocketAddr),
    places: &Arc<Semaphore>,
    handle: &Handle,
    drain: &watch::Receiver<bool>,
    patience: Duration,
) -> std::io::Error {
    loop {
        // It is never closed.
        let place = Arc::clone(places).acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The engine takes no connections any more.
            Err(error) => return error,
        };
        let (handle, drain) = (handle.clone(), drain.clone());
        tokio::spawn(async move {
            let _place = place;
            converse(stream, |request| answer(request, address, &handle), drain, patience).await;
        });
    }
}

/// One connection, until it ends, nothing is asked for too long, or the engine drains.
async fn converse(
    stream: TcpStream,
    answer: impl Fn(&Request<Incoming>) -> Response<Full<Bytes>>,
    mut drain: watch::Receiver<bool>,
    patience: Duration,
) {
    let asked = Notify::new();
    let service = service_fn(|request: Request<Incoming>| {
        asked.notify_one();
        ready(Ok::<_, Infallible>(answer(&request)))
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(stream, service));
    let mut idle = pin!(sleep(patience));
    let mut drains = false;
    loop {
        tokio::select! {
            // What goes wrong is the scraper's to notice.
            _ = connection.as_mut() => return,
            () = asked.notified() => idle.as_mut().reset(Instant::now() + patience),
            () = idle.as_mut() => return,
            // Who could say so has gone: that is the end, too.
            _ = drain.wait_for(|drains| *drains), if !drains => {
                drains = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn answer<B>(request: &Request<B>, address: SocketAddr, handle: &Handle) -> Response<Full<Bytes>> {
    if !is_ours(request.headers(), address) {
        // A page of somebody else's, in a browser that can reach us, asks by a name that leads here (DNS rebinding).
        let text = format!("ask for http://{address}/metrics, by the address\n");
        return plain(StatusCode::MISDIRECTED_REQUEST, text);
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let format = Format::of(request.headers());
            let mut response = plain(StatusCode::OK, write(handle, format));
            let content_type = hyper::header::HeaderValue::from_static(format.content_type());
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            response
        }
        (_, "/metrics") => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD\n".to_owned());
            response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            response
        }
        _ => plain(StatusCode::NOT_FOUND, "there is /metrics\n".to_owned()),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let content_type = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Whether the Host header, of which there must be one, has our address, and our port if it has one.
fn is_ours(headers: &HeaderMap, address: SocketAddr) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) else { return false };
    let with_port = address.to_string();
    host == with_port || with_port.rsplit_once(':').is_some_and(|(bare, _)| host == bare)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};

    use trust::device::memory::{MemoryOptions, pair};
    use trust::engine::{Engine, Pin};

    use super::*;

    fn engine() -> Engine {
        let (device, _) = pair(&MemoryOptions::default()).unwrap();
        Engine::builder().device(device, 1).address([10, 0, 0, 2].into()).pin(Pin::None).start().unwrap()
    }

    #[test]
    fn both_formats_have_every_metric() {
        let engine = engine();
        let (open, old) = (write(&engine.handle(), Format::OpenMetrics), write(&engine.handle(), Format::Prometheus));
        assert!(open.ends_with("\n# EOF\n") && !old.contains("# EOF"), "{old}");
        for text in [&open, &old] {
            for line in [
                "trust_accepted_total{shard=\"0\"} 0",
                "trust_connections{shard=\"0\"} 0",
                "trust_drops_total{shard=\"0\",reason=\"NoConnection\"} 0",
                "node_netstat_Tcp_PassiveOpens 0",
                "trust_turn_seconds_count{shard=\"0\"} ",
            ] {
                assert!(text.lines().any(|found| found.starts_with(line)), "{line} in {text}");
            }
            // The formats differ in the order of these labels.
            let infinite = |line: &&str| line.contains("le=\"+Inf\"") && line.contains("shard=\"0\"");
            assert_eq!(text.lines().filter(infinite).count(), 2, "turns and round trips: {text}");
        }
        assert!(
            open.contains("# TYPE trust_accepted counter\n") && old.contains("# TYPE trust_accepted_total counter\n")
        );
        assert!(old.contains("# TYPE node_netstat_Tcp_PassiveOpens untyped\n"), "{old}");
    }

    /// Every name in the dashboard is one that is served; a word of the query language has no such prefix.
    #[test]
    fn the_dashboard_asks_for_what_there_is() {
        let engine = engine();
        let text = write(&engine.handle(), Format::Prometheus);
        let served: std::collections::HashSet<_> =
            text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/grafana.json");
        let dashboard: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut names = 0;
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let words =
                    target["expr"].as_str().unwrap().split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
                for word in words.filter(|word| word.starts_with("trust_") || word.starts_with("node_")) {
                    names += 1;
                    assert!(served.contains(word), "{word} of {}", panel["title"]);
                }
            }
        }
        assert!(names > 20, "{names}");
    }

    #[test]
    fn who_asks_by_another_name_is_not_answered() {
        let engine = engine();
        let handle = engine.handle();
        let ask_at = |address: &str, method: Method, path: &str, hosts: &[&str]| {
            let mut request = Request::builder().method(method).uri(path);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            answer(&request.body(()).unwrap(), address.parse().unwrap(), &handle).status().as_u16()
        };
        let ask = |method, path, hosts| ask_at("10.0.0.2:9100", method, path, hosts);
        for (host, status) in
            [("[fd00::2]:9100", 200), ("[fd00::2]", 200), ("fd00::2", 421), ("[fd00::3]:9100", 421), ("10.0.0.2", 421)]
        {
            assert_eq!(ask_at("[fd00::2]:9100", Method::GET, "/metrics", &[host]), status, "{host}");
        }
        for (method, path, hosts, status) in [
            (Method::GET, "/metrics", &["10.0.0.2:9100"][..], 200),
            (Method::GET, "/metrics", &["10.0.0.2"], 200),
            (Method::HEAD, "/metrics?all", &["10.0.0.2:9100"], 200),
            (Method::GET, "/metrics", &[], 421),
            (Method::GET, "/metrics", &["evil.example"], 421),
            (Method::GET, "/metrics", &["evil.example:9100"], 421),
            (Method::GET, "/metrics", &["10.0.0.2:80"], 421),
            (Method::GET, "/metrics", &["10.0.0.2:9100", "10.0.0.2:9100"], 421),
            (Method::GET, "/", &["10.0.0.2:9100"], 404),
            (Method::POST, "/metrics", &["10.0.0.2:9100"], 405),
        ] {
            assert_eq!(ask(method.clone(), path, hosts), status, "{method} {path} {hosts:?}");
        }
    }

    #[test]
    fn a_scraper_gets_the_format_that_it_asks_for() {
        for (accept, format) in [
            ("*/*", Format::Prometheus),
            ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", Format::OpenMetrics),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(Format::of(&headers), format);
        }
        assert_eq!(Format::of(&HeaderMap::new()), Format::Prometheus);
    }

    /// A scraper on an engine of its own, and who serves it with so much patience; `true` begins a drain.
    fn scraped(patience: Duration) -> (Engine, Engine, watch::Sender<bool>) {
        let (near, far) = pair(&MemoryOptions::default()).unwrap();
        let start = |device, address: [u8; 4]| {
            Engine::builder().device(device, 1).address(address.into()).pin(Pin::None).start().unwrap()
        };
        let (engine, scraper) = (start(near, [10, 0, 0, 2]), start(far, [10, 0, 0, 1]));
        let scraped = Scraped::bind(&engine.stack(), &[[10, 0, 0, 2].into()], 9_100).unwrap();
        let (drain, drains) = watch::channel(false);
        let handle = engine.handle();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve_patiently(scraped, handle, drains, patience));
            // Until those that are there have ended.
            runtime.block_on(async {
                while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
                    sleep(Duration::from_millis(5)).await
                }
            });
        });
        (engine, scraper, drain)
    }

    fn connect(scraper: &Engine) -> trust::net::TcpStream {
        let stream = scraper.connect("10.0.0.2:9100").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Asks, and reads the whole answer.
    fn scrape(mut stream: &trust::net::TcpStream) {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 10.0.0.2:9100\r\n\r\n").unwrap();
        let mut got = Vec::new();
        let end = loop {
            let text = String::from_utf8_lossy(&got);
            let head = text.find("\r\n\r\n").map(|at| at + 4);
            let len = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if let (Some(head), Some(len)) = (head, len)
                && got.len() >= head + len
            {
                break head + len;
            }
            let mut piece = [0; 4_096];
            let len = stream.read(&mut piece).unwrap();
            assert!(len > 0, "it ends within an answer");
            got.extend_from_slice(&piece[..len]);
        };
        assert!(got.starts_with(b"HTTP/1.1 200 ") && got.len() == end);
    }

    #[test]
    fn idle_scrapers_are_closed_at_once_when_the_engine_drains() {
        let (_engine, scraper, drain) = scraped(PATIENCE);
        // One has asked, one has not, and more wait than have a place.
        let streams: Vec<_> = (0..CONNECTIONS).map(|_| connect(&scraper)).collect();
        streams[1..].iter().for_each(scrape);
        drain.send_replace(true);
        let start = std::time::Instant::now();
        for mut stream in &streams {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    /// A limit for a whole connection would end it; one for what is idle ends it afterwards.
    #[test]
    fn a_scraper_may_go_on_for_as_long_as_it_asks() {
        const PATIENCE: Duration = Duration::from_secs(2);
        let (_engine, scraper, _drain) = scraped(PATIENCE);
        let (mut busy, mut slow) = (connect(&scraper), connect(&scraper));
        let start = std::time::Instant::now();
        while start.elapsed() < 2 * PATIENCE {
            scrape(&busy);
            std::thread::sleep(Duration::from_millis(50));
            // A request that comes an octet at a time is none.
            let _ = slow.write_all(b"G");
        }
        scrape(&busy);
        assert!(slow.read(&mut [0]).is_ok_and(|len| len == 0) || slow.write_all(b"G").is_err());
        let start = std::time::Instant::now();
        assert_eq!(busy.read(&mut [0]).unwrap(), 0);
        assert!(start.elapsed() < 5 * PATIENCE);
    }
}
