//! ipstack: under tokio with two threads, a task a connection, the largest windows that it has.

use crate::{Service, pattern};
use ipstack::{IpStack, IpStackConfig, IpStackStream, IpStackTcpStream, TcpConfig, TcpOptions};
use std::fs::File;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use trust_tools::tun::Device;

const BUFFER: usize = 64 << 10;

/// A TUN queue as tokio reads and writes it.
struct Queue(AsyncFd<File>);

impl AsyncRead for Queue {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let outcome = guard.try_io(|file| {
                let mut file = file.get_ref();
                file.read(buffer.initialize_unfilled())
            });
            if let Ok(outcome) = outcome {
                return Poll::Ready(outcome.map(|length| buffer.advance(length)));
            }
        }
    }
}

impl AsyncWrite for Queue {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            let outcome = guard.try_io(|file| {
                let mut file = file.get_ref();
                file.write(octets)
            });
            if let Ok(outcome) = outcome {
                return Poll::Ready(outcome);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn converse(mut stream: IpStackTcpStream, service: Service) -> io::Result<()> {
    let mut buffer = match service {
        Service::Chargen => pattern(),
        Service::Echo | Service::Discard => vec![0; BUFFER],
    };
    loop {
        if service == Service::Chargen {
            stream.write_all(&buffer).await?;
            continue;
        }
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return stream.shutdown().await;
        }
        if service == Service::Echo {
            stream.write_all(&buffer[..length]).await?;
        }
    }
}

/// Serves until it is ended.
pub fn serve(device: &Device, mtu: u16, ready: impl FnOnce()) -> io::Result<()> {
    let file = device.open()?.remove(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async move {
        let mut tcp = TcpConfig::default();
        tcp.options = Some(vec![TcpOptions::MaximumSegmentSize(mtu - 40)]);
        tcp.max_unacked_bytes = 256 << 10;
        let mut config = IpStackConfig::default();
        config.mtu(mtu).map_err(io::Error::other)?.with_tcp_config(tcp);
        // SAFETY: a File owns its descriptor and has the same one for as long as it lives.
        let queue = unsafe { AsyncFd::register(file) }.map_err(io::Error::other)?;
        let mut stack = IpStack::new(config, Queue(queue));
        ready();
        loop {
            let IpStackStream::Tcp(stream) = stack.accept().await.map_err(io::Error::other)? else { continue };
            let Some(service) = Service::on(stream.peer_addr().port()) else { continue };
            tokio::spawn(async move {
                // Whoever closes first is no error.
                let _ = converse(stream, service).await;
            });
        }
    })
}
