//! `trust fetch`: a page by HTTP/1.1, with hyper as it is on our own sockets.
//!
//! No https: TLS would bring a cryptography library and certificates to trust, several times the size of all the rest,
//! for a command whose purpose is to show TCP. A program that needs it puts rustls on the same stream.

use std::error::Error as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::http::uri::Authority;
use hyper::rt::{Read, ReadBufCursor};
use hyper::{Request, Response, Uri};
use tokio::runtime;
use tokio::task::JoinHandle;
use trust::net::TcpStream;

use super::fencing::Inherited;
use super::outward::{self, Outward, explain};
use super::{Error, console};

/// Redirections that are followed before they look like a circle.
const REDIRECTS: usize = 10;

/// How long the server's FIN is waited for when all is here.
const LINGER: Duration = Duration::from_secs(2);

/// Options of `trust fetch`.
#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// What to fetch, like http://10.7.0.2/bytes/1000 (http only).
    url: String,

    /// Write the body to this file. Default, and `-`: to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Follow redirections, up to ten.
    #[arg(short = 'L', long)]
    location: bool,

    #[command(flatten)]
    outward: Outward,
}

impl Fetch {
    /// What to fetch, if it makes sense.
    fn target(&self) -> Result<Target, Error> {
        Target::parse(&self.url).map_err(|why| Error::Usage(format!("{}: {why}", self.url)))
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.target()?;
        self.outward.check()
    }

    pub(crate) fn run(mut self, inherited: Inherited) -> Result<(), Error> {
        let mut target = self.target()?;
        let fencing = self.outward.fence(inherited)?;
        let mut remotes = self.outward.resolve(target.host(), target.port())?;
        // What comes behind the fence is done before it, or elsewhere: where a redirection leads is not known yet.
        let resolver = if self.location { Some(self.outward.resolver(&fencing)?) } else { None };
        let output = Output::open(self.output.as_deref())?;
        let Some(mut engine) = self.outward.start(1, fencing)? else { return Ok(()) };
        let stack = engine.stack();
        let runtime = runtime::Builder::new_current_thread().build()?;
        let mut left = REDIRECTS;
        let result = loop {
            let (stream, remote) = outward::connect(&stack, &remotes)?;
            let (response, connection) = runtime.block_on(get(stream, remote, &target))?;
            console::error().say(format!("{:?} {}\n", response.version(), response.status()));
            let status = response.status();
            let location = response.headers().get(header::LOCATION);
            if let (Some(location), Some(resolver), true) = (location, &resolver, status.is_redirection()) {
                if left == 0 {
                    break Err(Error::Run(format!("{}: more than {REDIRECTS} redirections", self.url)));
                }
                left -= 1;
                let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
                let next = target.join(&location);
                target = next.map_err(|why| Error::Run(format!("redirected to {location}: {why}")))?;
                let resolved = resolver.resolve(target.host(), target.port());
                // The command line made sense; where the server sends us does not.
                remotes = resolved.map_err(|error| Error::Run(format!("redirected to {location}: {error}")))?;
                continue;
            }
            let received = runtime.block_on(output.save(response, remote));
            // The connection ends in good order, if it does so soon.
            let _ = runtime.block_on(connection);
            break received.and_then(|()| {
                if status.is_client_error() || status.is_server_error() {
                    return Err(Error::Run(format!("{}: the server says {status}", self.url)));
                }
                Ok(())
            });
        };
        engine.stop()?;
        result
    }
}

/// Where the body goes.
struct Output {
    /// The file's name; `None`: standard output.
    name: Option<PathBuf>,
    file: File,
    /// What is in it has to go.
    replaced: bool,
}

impl Output {
    /// A file is as it was until there is something to write; where there was none it is there, and empty.
    fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            return Ok(Self { name: None, file, replaced: false });
        };
        let name = Some(path.to_owned());
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let opened = file.and_then(|file| Ok(Self { name, replaced: file.metadata()?.is_file(), file }));
        opened.map_err(|error| {
            let folder = path.parent().filter(|folder| error.kind() == io::ErrorKind::NotFound && !folder.exists());
            Error::Run(match folder.filter(|folder| !folder.as_os_str().is_empty()) {
                Some(folder) => format!("{}: there is no folder {}", path.display(), folder.display()),
                None => format!("{}: {error}", path.display()),
            })
        })
    }

    fn failed(&self, error: io::Error) -> Error {
        match &self.name {
            Some(name) => Error::Run(format!("{}: {error}", name.display())),
            None => Error::output(error),
        }
    }

    /// Writes the body where it belongs, as it comes: what is not written yet closes the window.
    async fn save(&self, mut response: Response<Incoming>, remote: SocketAddr) -> Result<(), Error> {
        if self.replaced {
            self.file.set_len(0).map_err(|error| self.failed(error))?;
        }
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(|error| broken(remote, &error))?;
            if let Some(octets) = frame.data_ref() {
                (&self.file).write_all(octets).map_err(|error| self.failed(error))?;
            }
        }
        Ok(())
    }
}

/// Sends the request over a connection of its own, which leads to `remote`; the answer, and the task that carries the connection.
async fn get(
    stream: TcpStream,
    remote: SocketAddr,
    target: &Target,
) -> Result<(Response<Incoming>, JoinHandle<hyper::Result<()>>), Error> {
    stream.set_linger(Some(LINGER))?;
    stream.set_nodelay(true)?;
    let stream = Asking::new(trust::net::tokio::TcpStream::from(stream));
    let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| broken(remote, &error))?;
    let connection = tokio::spawn(connection);
    let request = Request::get(target.path())
        .header(header::HOST, target.host_header())
        .header(header::USER_AGENT, HeaderValue::from_static(concat!("trust/", env!("CARGO_PKG_VERSION"))))
        .header(header::ACCEPT, HeaderValue::from_static("*/*"))
        .header(header::CONNECTION, HeaderValue::from_static("close"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| Error::Run(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| broken(remote, &error))?;
    Ok((response, connection))
}

/// A stream that brings no answer before something is asked. A server may answer at once, and hyper takes what comes before
/// its request for nonsense.
struct Asking<S> {
    stream: S,
    asked: bool,
    reader: Option<Waker>,
}

impl<S> Asking<S> {
    fn new(stream: S) -> Self {
        Self { stream, asked: false, reader: None }
    }

    fn ask(&mut self) {
        self.asked = true;
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

impl<S: Read + Unpin> Read for Asking<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.asked {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: hyper::rt::Write + Unpin> hyper::rt::Write for Asking<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.ask();
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ask();
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What went wrong with a connection, by its own word if it has one.
fn broken(remote: SocketAddr, error: &hyper::Error) -> Error {
    let midway = || "the server ended the connection midway".to_owned();
    let mut text = match error {
        error if error.is_incomplete_message() => midway(),
        error if error.is_parse() => format!("what answers there does not speak HTTP ({error})"),
        error => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            text = if inner.kind() == io::ErrorKind::UnexpectedEof { midway() } else { explain(inner, true) };
        }
        cause = inner.source();
    }
    Error::Run(format!("{remote}: {text}"))
}

/// Whether the port is left out, empty (RFC 3986 3.2.3) or a number from 1 to 65535. `port_u16` is `None` for all others.
fn port_is_right(authority: &Authority) -> bool {
    let place = authority.as_str().rsplit('@').next().unwrap_or_default();
    match place.strip_prefix(authority.host()).unwrap_or(place) {
        "" | ":" => true,
        port => port.strip_prefix(':').is_some_and(|digits| {
            digits.bytes().all(|digit| digit.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|port| port != 0)
        }),
    }
}

/// An http URL.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    uri: Uri,
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        // What a person types has no scheme.
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = text.parse().map_err(|error| format!("no URL ({error}); like http://10.7.0.2/bytes/1000"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err("https needs TLS, which this command does not speak; take http".to_owned()),
            _ => return Err("only http is spoken here; like http://10.7.0.2/bytes/1000".to_owned()),
        }
        if uri.authority().is_none_or(|authority| authority.host().is_empty() || !port_is_right(authority)) {
            return Err("there is no host with a port from 1 to 65535 in it; like http://10.7.0.2/".to_owned());
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("user and password are not sent; leave them out".to_owned());
        }
        Ok(Self { uri })
    }

    fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(80)
    }

    /// With the port, unless it is the usual one (RFC 9110 7.2).
    fn host_header(&self) -> &str {
        match (self.uri.port_u16(), self.uri.authority()) {
            (None | Some(80), _) | (_, None) => self.uri.host().unwrap_or_default(),
            (Some(_), Some(authority)) => authority.as_str(),
        }
    }

    fn path(&self) -> String {
        let query = self.uri.query().map_or_else(String::new, |query| format!("?{query}"));
        format!("{}{query}", self.uri.path())
    }

    /// What a reference in this page leads to (RFC 3986 5.2, without the removal of dots, which servers do).
    fn join(&self, reference: &str) -> Result<Self, String> {
        let origin = || format!("http://{}", self.uri.authority().map_or("", |authority| authority.as_str()));
        let scheme = reference.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':'));
        Self::parse(&if scheme {
            reference.to_owned()
        } else if let Some(authority) = reference.strip_prefix("//") {
            format!("http://{authority}")
        } else if reference.starts_with('/') {
            format!("{}{reference}", origin())
        } else if reference.starts_with('?') {
            format!("{}{}{reference}", origin(), self.uri.path())
        } else {
            let path = self.uri.path();
            format!("{}{}{reference}", origin(), &path[..=path.rfind('/').unwrap_or(0)])
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, host, port, header, path) in [
            ("http://10.7.0.2/", "10.7.0.2", 80, "10.7.0.2", "/"),
            ("10.7.0.2", "10.7.0.2", 80, "10.7.0.2", "/"),
            ("http://host:8000/a/b?c=d#e", "host", 8000, "host:8000", "/a/b?c=d"),
            ("http://host:80?q", "host", 80, "host", "/?q"),
            ("http://[fd00::2]:81/", "fd00::2", 81, "[fd00::2]:81", "/"),
            ("http://[fd00::2]/", "fd00::2", 80, "[fd00::2]", "/"),
            ("http://host:65535/", "host", 65_535, "host:65535", "/"),
            ("http://host:/", "host", 80, "host", "/"),
        ] {
            let target = Target::parse(text).unwrap();
            let found = (target.host(), target.port(), target.host_header(), target.path());
            assert_eq!(found, (host, port, header, path.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_http_url_is_refused_with_the_reason() {
        for (text, said) in [
            ("https://host/", "needs TLS"),
            ("ftp://host/", "only http"),
            ("http://", "no URL"),
            ("http://me:secret@host/", "user and password"),
            ("http://host:0/", "no host with a port from 1 to 65535"),
            ("http://host:65536/", "no host with a port from 1 to 65535"),
            ("host:70000", "no host with a port from 1 to 65535"),
            ("http://host:8o/", "no host with a port from 1 to 65535"),
            ("http://host:+80/", "no host with a port from 1 to 65535"),
            ("http://[fd00::2]:65616/", "no host with a port from 1 to 65535"),
            ("http://a b/", "no URL"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.contains(said) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn redirections_are_followed_from_where_they_are() {
        let here = Target::parse("http://host:8000/a/b?c").unwrap();
        for (reference, whole) in [
            ("http://other/x", "http://other/x"),
            ("//other/x", "http://other/x"),
            ("/x?y", "http://host:8000/x?y"),
            ("x", "http://host:8000/a/x"),
            ("x?u=http://z", "http://host:8000/a/x?u=http://z"),
            ("?y", "http://host:8000/a/b?y"),
        ] {
            assert_eq!(here.join(reference), Target::parse(whole), "{reference}");
        }
        assert!(here.join("https://other/").unwrap_err().contains("TLS"));
        for reference in ["http://other:65616/", "//other:65616/"] {
            assert!(here.join(reference).unwrap_err().contains("from 1 to 65535"), "{reference}");
        }
        let root = Target::parse("http://host").unwrap();
        assert_eq!(root.join("x"), Target::parse("http://host/x"));
    }
}
