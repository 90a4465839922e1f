//! A web server: hyper, as it is, on the sockets of a TCP engine. The client is another engine's socket; the two are joined
//! in memory, so no root and no device is needed.
//!
//! ```text
//! cargo run --features hyper --example hyper_server
//! ```

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
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
    tokio::spawn(serve(TcpListener::bind(&server.stack(), SERVER)?));

    let mut stream = TcpStream::connect(&client.stack(), SERVER).await?;
    stream.write_all(b"GET /hello HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{answer}");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("you asked for /hello\n"));
    Ok(())
}

/// Serves each connection in a task of its own.
async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, from) = listener.accept().await?;
        tokio::spawn(async move {
            // hyper has traits of its own for reading and writing; with the feature `hyper` our streams have them.
            let served = http1::Builder::new().serve_connection(stream, service_fn(answer)).await;
            if let Err(error) = served {
                eprintln!("{from}: {error}");
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from(format!("you asked for {}\n", request.uri().path()))))
}
