//! Forwarding: a listener on one of the two stacks, and for each connection one on the other stack.
//!
//! ```text
//! forward:2222=10.7.0.1:22    clients of our stack, port 2222  ──►  the kernel connects to 10.7.0.1, port 22
//! reverse:8080=192.0.2.7:80   clients of the kernel, 127.0.0.1 port 8080  ──►  our stack connects to 192.0.2.7, port 80
//! ```
//!
//! What one end does the other end sees: octets, the end of one direction while the other goes on, a reset. Nothing is read
//! that could not be written on: who stalls, stalls the other side by its window. All of it is one thread, on the sockets
//! that every program can use.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net as kernel;
use tokio::runtime;
use tokio::sync::{Semaphore, oneshot};
use trust::net::{Stack, tokio as ours};

use super::Error;

/// Connections of one forwarding at once; more wait in the listener's queue.
const CONNECTIONS: usize = 4_096;

/// Octets on their way through us, for each direction of each connection.
const BLOCK_LEN: usize = 32 << 10;

/// After an `accept` that failed for want of descriptors or memory.
const BREATH: Duration = Duration::from_millis(100);

/// What is to be forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forward {
    from: From,
    host: String,
    port: u16,
}

/// Where clients come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Ours(u16),
    Kernel(SocketAddr),
}

impl Forward {
    /// The port that is taken on our stack.
    pub(super) fn port(&self) -> Option<u16> {
        match self.from {
            From::Ours(port) => Some(port),
            From::Kernel(_) => None,
        }
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            From::Ours(port) => write!(f, "forward:{port}")?,
            From::Kernel(address) => write!(f, "reverse:{address}")?,
        }
        if self.host.contains(':') {
            write!(f, "=[{}]:{}", self.host, self.port)
        } else {
            write!(f, "={}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not of the form forward:PORT=HOST:PORT or reverse:[ADDRESS:]PORT=HOST:PORT, like forward:2222=10.7.0.1:22"
            )
        };
        let port = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or_else(wrong);
        let (from, to) = text.split_once('=').ok_or_else(wrong)?;
        let from = match from.split_once(':').ok_or_else(wrong)? {
            ("forward", from) => From::Ours(port(from)?),
            ("reverse", from) => From::Kernel(match from.parse() {
                Ok(address) => address,
                // As ssh has it: what listens is for this machine, unless told otherwise.
                Err(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port(from)?),
            }),
            _ => return Err(wrong()),
        };
        let (host, to) = to.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self { from, host: host.to_owned(), port: port(to)? })
    }
}

/// The thread that forwards. Dropped, it resets what is open.
#[derive(Debug)]
pub(super) struct Forwarding {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarding {
    /// Listens for all of `wanted`, and begins.
    pub(super) fn start(stack: &Stack, wanted: &[Forward]) -> Result<Option<Self>, Error> {
        if wanted.is_empty() {
            return Ok(None);
        }
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        for forward in wanted {
            let failed = |error: io::Error| Error::Run(format!("--service {forward}: {error}"));
            let to = Arc::new(forward.clone());
            match forward.from {
                From::Ours(port) => {
                    let listener = stack.bind((Ipv4Addr::UNSPECIFIED, port)).map_err(failed)?;
                    runtime.spawn(from_ours(listener.into(), to));
                }
                From::Kernel(address) => {
                    let listener = runtime.block_on(kernel::TcpListener::bind(address)).map_err(failed)?;
                    runtime.spawn(from_kernel(listener, stack.clone(), to));
                }
            }
        }
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("forward".to_owned()).spawn(move || {
            let _ = runtime.block_on(stopped);
            // With the runtime its tasks go, and with each what it has open.
        })?;
        Ok(Some(Self { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn from_ours(listener: ours::TcpListener, to: Arc<Forward>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        // Fails only when the engine has stopped.
        let Ok((client, _)) = listener.accept().await else { return };
        let to = Arc::clone(&to);
        tokio::spawn(async move {
            let connect = async {
                let server = kernel::TcpStream::connect((to.host.as_str(), to.port)).await?;
                server.set_nodelay(true)?;
                Ok(server)
            };
            report(&to, serve(client, connect).await);
            drop(place);
        });
    }
}

async fn from_kernel(listener: kernel::TcpListener, stack: Stack, to: Arc<Forward>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (client, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("{to}: {error}");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let (to, stack) = (Arc::clone(&to), stack.clone());
        tokio::spawn(async move {
            let connect = async {
                let mut last = io::Error::new(ErrorKind::NotFound, "the name has no IPv4 address");
                for address in kernel::lookup_host((to.host.as_str(), to.port)).await?.filter(SocketAddr::is_ipv4) {
                    match ours::TcpStream::connect(&stack, address).await {
                        Ok(server) => {
                            server.get_ref().set_nodelay(true)?;
                            return Ok(server);
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            };
            report(&to, serve(client, connect).await);
            drop(place);
        });
    }
}

/// A connection that could not be opened is worth a line; how one ends is the business of its ends.
fn report(to: &Forward, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!("{to}: {error}");
    }
}

/// Connects to the server, and joins it to the client until both directions have ended. `Err`: there is no connection.
async fn serve<C: End, S: End>(client: C, connect: impl Future<Output = io::Result<S>>) -> io::Result<()> {
    let mut client = Reset(Some(client));
    let server = tokio::select! {
        server = connect => server?,
        // It did not wait.
        () = client.get().broken() => return Ok(()),
    };
    let mut server = Reset(Some(server));
    let ended = {
        let (client, server) = (client.get(), server.get());
        let both = async { tokio::try_join!(carry(client, server), carry(server, client)) };
        tokio::select! {
            ended = both => ended.is_ok(),
            () = client.broken() => false,
            () = server.broken() => false,
        }
    };
    if ended {
        client.close();
        server.close();
    }
    Ok(())
}

/// Octets from one end to the other, until the first has no more.
async fn carry(from: &impl End, to: &impl End) -> io::Result<()> {
    let mut block = Vec::new();
    loop {
        from.readable().await?;
        // Not before there is something: idle connections hold nothing.
        block.resize(BLOCK_LEN, 0);
        let mut rest = match from.try_read(&mut block) {
            Ok(0) => return to.shut_write(),
            Ok(len) => &block[..len],
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        while !rest.is_empty() {
            to.writable().await?;
            match to.try_write(rest) {
                Ok(len) => rest = &rest[len..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A connection that is reset when it is dropped before it was told to close: also when its task is.
struct Reset<E: End>(Option<E>);

impl<E: End> Reset<E> {
    fn get(&self) -> &E {
        self.0.as_ref().expect("there until it is closed")
    }

    fn close(&mut self) {
        self.0 = None;
    }
}

impl<E: End> Drop for Reset<E> {
    fn drop(&mut self) {
        if let Some(end) = &self.0 {
            end.reset_on_drop();
        }
    }
}

/// What the streams of both stacks can do. Futures of one stream may wait at once, in one task.
trait End {
    async fn readable(&self) -> io::Result<()>;
    async fn writable(&self) -> io::Result<()>;
    fn try_read(&self, block: &mut [u8]) -> io::Result<usize>;
    fn try_write(&self, block: &[u8]) -> io::Result<usize>;
    /// A FIN behind what was written.
    fn shut_write(&self) -> io::Result<()>;
    fn reset_on_drop(&self);
    /// Comes back when the connection is reset or timed out, also while nobody reads or writes.
    async fn broken(&self);
}

/// The peer was faster: how the connection ended is told elsewhere.
fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == ErrorKind::NotConnected { Ok(()) } else { Err(error) })
}

impl End for kernel::TcpStream {
    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }

    async fn writable(&self) -> io::Result<()> {
        Self::writable(self).await
    }

    fn try_read(&self, block: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, block)
    }

    fn try_write(&self, block: &[u8]) -> io::Result<usize> {
        Self::try_write(self, block)
    }

    fn shut_write(&self) -> io::Result<()> {
        unless_gone(rustix::net::shutdown(self, rustix::net::Shutdown::Write).map_err(io::Error::from))
    }

    fn reset_on_drop(&self) {
        let _ = self.set_zero_linger();
    }

    async fn broken(&self) {
        let error = self.ready(tokio::io::Interest::ERROR).await.and_then(|_| self.take_error());
        if !matches!(error, Ok(Some(_))) {
            // Whoever was about to read or write has heard of it.
            std::future::pending::<()>().await;
        }
    }
}

impl End for ours::TcpStream {
    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }

    async fn writable(&self) -> io::Result<()> {
        Self::writable(self).await
    }

    fn try_read(&self, block: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, block)
    }

    fn try_write(&self, block: &[u8]) -> io::Result<usize> {
        Self::try_write(self, block)
    }

    fn shut_write(&self) -> io::Result<()> {
        unless_gone(self.get_ref().shutdown(Shutdown::Write))
    }

    fn reset_on_drop(&self) {
        let _ = self.get_ref().set_linger(Some(Duration::ZERO));
    }

    async fn broken(&self) {
        self.closed().await;
        if !matches!(self.get_ref().take_error(), Ok(Some(_))) {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn forwards_read_back_as_written() {
        for text in [
            "forward:2222=10.7.0.1:22",
            "forward:80=localhost:8080",
            "forward:80=[::1]:8080",
            "reverse:127.0.0.1:8080=192.0.2.7:80",
            "reverse:[::1]:8080=host:80",
            "reverse:0.0.0.0:1=a.b.c:2",
        ] {
            assert_eq!(text.parse::<Forward>().unwrap().to_string(), text);
        }
        let short: Forward = "reverse:8080=192.0.2.7:80".parse().unwrap();
        assert_eq!(short.to_string(), "reverse:127.0.0.1:8080=192.0.2.7:80");
        assert_eq!(short.port(), None);
        assert_eq!("forward:2222=h:22".parse::<Forward>().unwrap().port(), Some(2222));
    }

    #[test]
    fn what_is_no_forward_is_refused_with_the_form() {
        for text in [
            "forward:2222",
            "forward:0=h:22",
            "forward:70000=h:22",
            "forward:1=h",
            "forward:1=:22",
            "forward:1=h:0",
            "forward:1=::1:22",
            "forward:1=[::1:22",
            "forward:10.7.0.2:1=h:22",
            "reverse:host:1=h:22",
            "backward:1=h:22",
            "=",
        ] {
            let error = text.parse::<Forward>().unwrap_err();
            assert!(error.contains("forward:PORT=HOST:PORT") && !error.contains('\n'), "{text}: {error}");
        }
    }
}
