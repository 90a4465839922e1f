//! Applications on our sockets, stock programs on the kernel's: hyper under wrk and curl, and `echo-sockets` under nc.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::runtime::{self, Runtime};
use trust::engine::Engine;
use trust::net::tokio::TcpListener;

use crate::http::wrk_is_content;
use crate::streams::echo_beside_a_stalled_reader;
use crate::support::{self, ENGINE, Outcome, assert_same, bounded, describe, must, need, noise, pipe, run, size, soak};

const PORT: u16 = 8_080;
const BLOCK_LEN: usize = 64 << 10;

/// What comes again and again in a body. Its length has no factor that those of segments and buffers have.
const PERIOD: u64 = 251;

/// So many octets of the pattern, in blocks.
struct Pattern {
    at: u64,
    len: u64,
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let left = self.len - self.at;
        if left == 0 {
            return Poll::Ready(None);
        }
        let block: Vec<u8> = (self.at..self.at + left.min(BLOCK_LEN as u64)).map(|at| (at % PERIOD) as u8).collect();
        self.at += block.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(block.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.len
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len - self.at)
    }
}

/// `/N` is N octets.
async fn answer(request: Request<Incoming>) -> Result<Response<Pattern>, Infallible> {
    let len = request.uri().path().trim_start_matches('/').parse();
    let mut response = Response::new(Pattern { at: 0, len: len.clone().unwrap_or(0) });
    if len.is_err() {
        *response.status_mut() = hyper::StatusCode::NOT_FOUND;
    }
    Ok(response)
}

/// An engine in this process, with its device in this test's namespace, and hyper on it.
struct Server {
    runtime: Option<Runtime>,
    engine: Engine,
}

impl Server {
    fn start() -> Self {
        let engine = Engine::builder().start().unwrap();
        // Its threads come from this one: they are in the namespace, too.
        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = TcpListener::bind(&engine.stack(), SocketAddr::from((ENGINE, PORT))).unwrap();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Clients go in the middle of an answer when their time is over: what they saw, they say.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
            }
        });
        Self { runtime: Some(runtime), engine }
    }

    fn finish(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
        assert!(!self.engine.has_failed());
        self.engine.stop().unwrap();
    }
}

/// Many connections, small answers.
pub(crate) fn hyper_wrk() -> Outcome {
    need(&["wrk"])?;
    let server = Server::start();
    wrk_is_content(if soak() { "10s" } else { "3s" }, &format!("http://{ENGINE}:{PORT}/1000"));
    server.finish();
    Ok(())
}

/// One connection, a large answer: every octet where it is small enough to be held, the number where it is not.
pub(crate) fn hyper_curl() -> Outcome {
    need(&["curl"])?;
    let server = Server::start();
    let url = |len: usize| format!("http://{ENGINE}:{PORT}/{len}");
    let len = size(100_000_000, 1_000_000_000);
    let count = must(300, "sh", &["-c", &format!("curl -sSf {} | wc -c", url(len))]);
    assert_eq!(count.trim(), len.to_string());
    let output = run(60, "curl", &["-sSf", &url(20_000_000)]);
    assert!(output.status.success(), "{}", describe(&output));
    assert_eq!(output.stdout.len(), 20_000_000);
    let wrong = output.stdout.iter().enumerate().find(|(at, octet)| (*at as u64 % PERIOD) as u8 != **octet);
    assert_eq!(wrong, None, "an octet and its place");
    server.finish();
    Ok(())
}

/// What the command echoes through sockets on another thread: several clients at once, half-closed, one of them slow.
pub(crate) fn echo_sockets() -> Outcome {
    need(&["nc"])?;
    let engine = support::Engine::start(&["--service", "echo-sockets:1007"]);
    assert!(engine.banner.contains(" echo-sockets:1007"), "{}", engine.banner);
    let len = size(5_000_000, 100_000_000);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let data = noise(len, seed);
                let output = pipe(&mut bounded(120, "nc", &["-N", "10.7.0.2", "1007"]), &data);
                assert!(output.status.success(), "nc: {}", output.status);
                assert_same(&output.stdout, &data);
            });
        }
        // It does not read before it has written what fits nowhere: the others get on all the same.
        scope.spawn(|| {
            use std::io::{Read, Write};
            let data = noise(20_000_000, 9);
            let mut stream = std::net::TcpStream::connect((ENGINE, 1007)).unwrap();
            let mut writer = stream.try_clone().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    writer.write_all(&data).unwrap();
                    writer.shutdown(std::net::Shutdown::Write).unwrap();
                });
                std::thread::sleep(Duration::from_millis(500));
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                assert_same(&got, &data);
            });
        });
    });
    engine.finish();
    for word in ["echo-sockets:0", "echo-sockets:70000", "echo-sockets:"] {
        let output = run(10, env!("CARGO_BIN_EXE_trust"), &["serve", "--service", word]);
        let said = describe(&output);
        assert!(output.status.code() == Some(2) && said.contains("no port from 1 to 65535"), "{word}: {said}");
    }
    let output =
        run(10, env!("CARGO_BIN_EXE_trust"), &["serve", "--service", "echo:1007", "--service", "echo-sockets:1007"]);
    assert!(describe(&output).contains("has a service already"), "{}", describe(&output));
    Ok(())
}

/// Two engines in one process, each with a device of its own; the kernel forwards between them. What goes through a queue
/// of a device that is full is lost, so this is a path with loss, too.
pub(crate) fn two_engines() -> Outcome {
    support::sysctl("ip_forward", "1")?;
    let start = |third| {
        let (kernel, ours) = (Ipv4Addr::new(10, 8, third, 1), Ipv4Addr::new(10, 8, third, 2));
        let tun = Engine::builder().tun(format!("trust{third}")).kernel_address(kernel.into(), 24);
        tun.address(ours.into()).start().unwrap()
    };
    let (serving, connecting) = (start(1), start(2));
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (streams, span) = (size(500, 10_000), Duration::from_secs(if soak() { 15 } else { 1 }));
    let stacks = (&serving.stack(), &connecting.stack());
    let address = SocketAddr::from((Ipv4Addr::new(10, 8, 1, 2), 7));
    let report = runtime.block_on(echo_beside_a_stalled_reader(stacks, address, streams, span, || ()));
    let (serving, connecting) = (serving.counters(), connecting.counters());
    let again = serving.retransmits + connecting.retransmits;
    println!("{streams} streams over two TUN devices, {span:?} each: {report}; {again} segments sent again");
    assert_eq!(connecting.timed_out, 0);
    Ok(())
}

/// Engines of the builder that name their addresses, and nothing of the kernel's side, are reached at each of them.
pub(crate) fn builder_addresses() -> Outcome {
    let [a, b, c, d]: [Ipv4Addr; 4] =
        [[10, 7, 0, 2], [10, 7, 0, 3], [10, 9, 0, 2], [10, 11, 200, 7]].map(Ipv4Addr::from);
    let named =
        |ours: &[Ipv4Addr]| ours.iter().fold(Engine::builder(), |builder, ours| builder.address((*ours).into()));
    let wider = named(&[a]).network(d.into(), 16).map_err(|error| error.to_string())?;
    // Each has a device of its own: one is there for as long as a child that another test is about to start has its descriptor.
    let builders = [(named(&[a, b]), vec![a, b]), (named(&[c]), vec![c]), (wider, vec![a, d])];
    for ((builder, ours), device) in builders.into_iter().zip(["trust0", "trust1", "trust2"]) {
        let engine = builder.tun(device).start().unwrap();
        let listener = engine.bind((Ipv4Addr::UNSPECIFIED, 7)).unwrap();
        for &ours in &ours {
            let limit = Duration::from_secs(5);
            let client = std::net::TcpStream::connect_timeout(&SocketAddr::from((ours, 7)), limit)
                .unwrap_or_else(|error| panic!("{ours}: {error}"));
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        }
    }
    let error = named(&[Ipv4Addr::LOCALHOST]).start().unwrap_err().to_string();
    assert!(error.starts_with("127.0.0.1: loopback"), "{error}");
    Ok(())
}
