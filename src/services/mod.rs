//! Applications that run inside the shards: echo, discard, daytime, chargen, HTTP and an iperf3 server.
//!
//! Each is an implementation of [`Service`], one file (or folder) each. Here is the register: names, usual ports, and
//! how to build one instance for a shard. Services see [`Io`](crate::shard::Io) and nothing else of the engine; clocks
//! of the machine they get handed in by [`Environment`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::shard::Service;

pub mod chargen;
pub mod daytime;
pub mod discard;
pub mod echo;
mod environment;
pub mod http;
pub mod iperf3;
#[cfg(test)]
mod testing;

pub use self::environment::{CpuClock, CpuTime, Environment, KEEPALIVE, WallClock};

/// The services there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServiceName {
    /// RFC 862.
    Echo,
    /// RFC 863.
    Discard,
    /// RFC 867.
    Daytime,
    /// RFC 864.
    Chargen,
    /// A small HTTP/1.1 server: RFC 9110, RFC 9112.
    Http,
    /// A server for the stock `iperf3` client.
    Iperf3,
}

impl ServiceName {
    /// All of them, by port.
    pub const ALL: [Self; 6] = [Self::Echo, Self::Discard, Self::Daytime, Self::Chargen, Self::Http, Self::Iperf3];

    /// The name as users write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Discard => "discard",
            Self::Daytime => "daytime",
            Self::Chargen => "chargen",
            Self::Http => "http",
            Self::Iperf3 => "iperf3",
        }
    }

    /// The port the service usually has.
    #[must_use]
    pub const fn usual_port(self) -> u16 {
        match self {
            Self::Echo => 7,
            Self::Discard => 9,
            Self::Daytime => 13,
            Self::Chargen => 19,
            Self::Http => 80,
            Self::Iperf3 => 5201,
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ServiceName {
    type Err = ParseServiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| ParseServiceError::UnknownName(text.to_owned()))
    }
}

/// A service and the port it listens on; written `NAME:PORT`.
///
/// ```
/// use std::io::{Read, Write};
///
/// use trust::device::memory::{MemoryOptions, pair};
/// use trust::engine::{Engine, Pin, ServiceFactory};
/// use trust::services::{Environment, ServiceSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spec: ServiceSpec = "http:8080".parse()?;
/// # let (here, there) = pair(&MemoryOptions::default())?;
/// let http = ServiceFactory::new(spec.port, move || build(spec.name, &Environment::default()));
/// let builder = Engine::builder().device(here, 1).address([10, 0, 0, 2].into()).pin(Pin::None);
/// let _server = builder.service(http).start()?;
/// # let client = Engine::builder().device(there, 1).address([10, 0, 0, 1].into()).pin(Pin::None).start()?;
/// let mut stream = client.connect("10.0.0.2:8080")?;
/// stream.write_all(b"GET /bytes/26 HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n")?;
/// let mut answer = String::new();
/// stream.read_to_string(&mut answer)?;
/// assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceSpec {
    /// Which service.
    pub name: ServiceName,
    /// The port, never 0.
    pub port: u16,
}

/// Why a text is not a [`ServiceSpec`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseServiceError {
    /// Not of the form `NAME:PORT`.
    #[error("`{0}` is not of the form NAME:PORT, for example echo:7 or iperf3:5201")]
    Form(String),
    /// No service is called so.
    #[error("there is no service `{0}`; there are {known}", known = known_services())]
    UnknownName(String),
    /// The port is not a number from 1 to 65535.
    #[error("`{0}` is not a port from 1 to 65535")]
    Port(String),
}

debug_as_display!(ParseServiceError);

fn known_services() -> String {
    ServiceName::ALL.map(ServiceName::as_str).join(", ")
}

impl fmt::Display for ServiceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

impl FromStr for ServiceSpec {
    type Err = ParseServiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, port) = text.split_once(':').ok_or_else(|| ParseServiceError::Form(text.to_owned()))?;
        let name = name.parse()?;
        match port.parse() {
            Ok(port) if port != 0 => Ok(Self { name, port }),
            _ => Err(ParseServiceError::Port(port.to_owned())),
        }
    }
}

/// All services at their usual ports.
#[must_use]
pub fn default_services() -> Vec<ServiceSpec> {
    ServiceName::ALL.into_iter().map(|name| ServiceSpec { name, port: name.usual_port() }).collect()
}

/// One instance of a service, for one shard.
#[must_use]
pub fn build(name: ServiceName, environment: &Environment) -> Box<dyn Service> {
    match name {
        ServiceName::Echo => Box::new(echo::Echo),
        ServiceName::Discard => Box::new(discard::Discard),
        ServiceName::Daytime => Box::new(daytime::Daytime::new(Arc::clone(&environment.wall_clock))),
        ServiceName::Chargen => Box::new(chargen::Chargen),
        ServiceName::Http => Box::new(http::Http::new(Arc::clone(&environment.wall_clock))),
        ServiceName::Iperf3 => Box::new(iperf3::Iperf3::new(Arc::clone(&environment.cpu_clock))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn specs_read_back_as_written() {
        for spec in default_services() {
            assert_eq!(spec.to_string().parse(), Ok(spec));
            let _ = build(spec.name, &Environment::default());
        }
        assert_eq!("iperf3:6000".parse(), Ok(ServiceSpec { name: ServiceName::Iperf3, port: 6000 }));
    }

    #[test]
    fn errors_help() {
        let error = |text: &str| text.parse::<ServiceSpec>().unwrap_err().to_string();
        assert!(error("ecco:7").contains("echo, discard, daytime, chargen, http, iperf3"));
        assert!(error("echo").contains("NAME:PORT"));
        for port in ["", "0", "65536", "-1", "x"] {
            assert!(error(&format!("echo:{port}")).contains("not a port"), "{port}");
        }
    }
}
