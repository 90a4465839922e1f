//! axum on the sockets of a TCP engine: with the feature `axum` a listener of ours is one of axum's. The client is another
//! engine's socket; the two are joined in memory, so no root and no device is needed.
//!
//! ```text
//! cargo run --features axum --example axum_hello
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Router;
use axum::extract::{ConnectInfo, Path};
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin};
use trust::net::tokio::{TcpListener, TcpStream};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 80);
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

#[tokio::main]
async fn main() -> io::Result<()> {
    let (here, there) = pair(&MemoryOptions::default())?;
    let server = Engine::builder().device(here, 1).address(SERVER.ip()).pin(Pin::None).start()?;
    let client = Engine::builder().device(there, 1).address(CLIENT).pin(Pin::None).start()?;
    // Behind `tap_io` axum knows who is at the other end, for handlers that want to know.
    let listener = TcpListener::bind(&server.stack(), SERVER)?.tap_io(|stream| _ = stream.set_nodelay(true));
    let hello = |Path(name): Path<String>, ConnectInfo(from): ConnectInfo<SocketAddr>| async move {
        format!("hello, {name} at {}\n", from.ip())
    };
    let site = Router::new().route("/hello/{name}", get(hello));
    tokio::spawn(axum::serve(listener, site.into_make_service_with_connect_info::<SocketAddr>()).into_future());

    let mut stream = TcpStream::connect(&client.stack(), SERVER).await?;
    stream.write_all(b"GET /hello/world HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{answer}");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello, world at 10.0.0.2\n"));
    Ok(())
}
