//! axum on the sockets of a TCP engine: ten lines make a listener of ours one of axum's. The client is another engine's
//! socket; the two are joined in memory, so no root and no device is needed.
//!
//! ```text
//! cargo run --features tokio --example axum_hello
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Router;
use axum::extract::{ConnectInfo, Path};
use axum::routing::get;
use axum::serve::IncomingStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin};
use trust::net::tokio::{TcpListener, TcpStream};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 80);
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

/// Neither the trait nor the listener is of this crate, so a type of ours stands between them.
struct Listener(TcpListener);

impl axum::serve::Listener for Listener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        match self.0.accept().await {
            Ok(accepted) => accepted,
            // The engine has stopped: nobody comes any more.
            Err(_) => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Who is at the other end, for handlers that want to know.
#[derive(Clone)]
struct Peer(SocketAddr);

impl axum::extract::connect_info::Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self(*stream.remote_addr())
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let (here, there) = pair(&MemoryOptions::default())?;
    let server = Engine::builder().device(here, 1).address(SERVER.ip()).pin(Pin::None).start()?;
    let client = Engine::builder().device(there, 1).address(CLIENT).pin(Pin::None).start()?;
    let listener = Listener(TcpListener::bind(&server.stack(), SERVER)?);
    let hello = |Path(name): Path<String>, ConnectInfo(Peer(from)): ConnectInfo<Peer>| async move {
        format!("hello, {name} at {}\n", from.ip())
    };
    let site = Router::new().route("/hello/{name}", get(hello));
    tokio::spawn(axum::serve(listener, site.into_make_service_with_connect_info::<Peer>()).into_future());

    let mut stream = TcpStream::connect(&client.stack(), SERVER).await?;
    stream.write_all(b"GET /hello/world HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{answer}");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello, world at 10.0.0.2\n"));
    Ok(())
}
