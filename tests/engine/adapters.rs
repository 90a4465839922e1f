//! hyper and axum on our sockets, without an adapter between.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin};
use trust::net::tokio::{TcpListener, TcpStream};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 1, 2)), 80);
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 1, 3));

fn engines() -> (Engine, Engine) {
    let (a, b) = pair(&MemoryOptions::default()).unwrap();
    let start = |device, address| Engine::builder().device(device, 1).address(address).pin(Pin::None).start().unwrap();
    (start(a, SERVER.ip()), start(b, CLIENT))
}

/// Both sides are hyper's, and bodies are larger than any queue between them.
#[cfg(feature = "hyper")]
#[tokio::test]
async fn hyper_takes_streams_as_they_are() {
    use std::convert::Infallible;

    use http_body_util::{BodyExt, Full};
    use hyper::body::{Bytes, Incoming};
    use hyper::service::service_fn;
    use hyper::{Request, Response};

    async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok(Response::new(Full::from(body)))
    }

    let (server, client) = engines();
    let listener = TcpListener::bind(&server.stack(), SERVER).unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        hyper::server::conn::http1::Builder::new().serve_connection(stream, service_fn(echo)).await
    });
    let stream = TcpStream::connect(&client.stack(), SERVER).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let body: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(7) >> 3) as u8).collect();
    for _ in 0..2 {
        sender.ready().await.unwrap();
        let request = Request::post("/").header("Host", "example").body(Full::new(Bytes::from(body.clone()))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let got = response.into_body().collect().await.unwrap().to_bytes();
        assert!(got == body, "{} octets of {}", got.len(), body.len());
    }
    drop(sender);
    connection.await.unwrap().unwrap();
    serving.await.unwrap().unwrap();
}

/// A router on our listener, which tells its handlers who asks.
#[cfg(feature = "axum")]
#[tokio::test]
async fn axum_takes_a_listener_as_it_is() {
    use axum::Router;
    use axum::extract::ConnectInfo;
    use axum::routing::get;
    use axum::serve::{Listener, ListenerExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (server, client) = engines();
    let listener = TcpListener::bind(&server.stack(), SERVER).unwrap().tap_io(|stream| _ = stream.set_nodelay(true));
    assert_eq!(listener.local_addr().unwrap(), SERVER);
    let who = |ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.to_string() };
    let site = Router::new().route("/who", get(who)).into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(axum::serve(listener, site).into_future());
    for _ in 0..2 {
        let mut stream = TcpStream::connect(&client.stack(), SERVER).await.unwrap();
        stream.write_all(b"GET /who HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let near = stream.local_addr().unwrap().to_string();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(&near), "{answer}");
    }
    // When there is no engine any more, axum waits for nobody: it goes on until it is told.
    drop(server);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), serving).await.is_err());
}
