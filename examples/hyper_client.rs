//! A web client: hyper, as it is, on the sockets of a TCP engine. The server is the `http` service in another engine's
//! shards; the two are joined in memory, so no root and no device is needed.
//!
//! ```text
//! cargo run --features hyper,services --example hyper_client
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin, ServiceFactory};
use trust::net::tokio::TcpStream;
use trust::services::{Environment, ServiceName, build};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 80);
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

#[tokio::main]
async fn main() -> io::Result<()> {
    let (here, there) = pair(&MemoryOptions::default())?;
    // A service runs inside the shards: one instance for each.
    let http = ServiceFactory::new(SERVER.port(), || build(ServiceName::Http, &Environment::default()));
    let _server = Engine::builder().device(here, 1).address(SERVER.ip()).service(http).pin(Pin::None).start()?;
    let client = Engine::builder().device(there, 1).address(CLIENT).pin(Pin::None).start()?;

    let stream = TcpStream::connect(&client.stack(), SERVER).await?;
    let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    // Two requests, one after the other, on one connection.
    for (path, len) in [("/bytes/26", 26), ("/bytes/1000000", 1_000_000)] {
        // The task of the connection may not have noticed yet that the last response is over.
        sender.ready().await.map_err(io::Error::other)?;
        let request = Request::get(path).header("Host", "example").body(Empty::<Bytes>::new());
        // It is ready again some time after the last octet of an answer.
        sender.ready().await.map_err(io::Error::other)?;
        let response = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        println!("{path}: {} octets, the first {:?}", body.len(), String::from_utf8_lossy(&body[..26]));
        assert_eq!(body.len(), len);
    }
    Ok(())
}
