//! A listener as axum wants it (feature `axum`).

use std::future::pending;
use std::io;
use std::net::SocketAddr;

use axum::serve::Listener;

use super::listener::TcpListener;
use super::stream::TcpStream;

/// With the feature `axum`: `axum::serve(listener, router)`. Handlers that want to know who is at the other end take a
/// `ConnectInfo<SocketAddr>`, which axum has for every listener behind `ListenerExt::tap_io`.
impl Listener for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    /// Waits for ever when the engine has stopped: nobody comes any more, and the trait knows no end.
    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        match TcpListener::accept(self).await {
            Ok(accepted) => accepted,
            Err(_) => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}
