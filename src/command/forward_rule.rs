//! [`Forward`]: what is to be forwarded from where to where, as it is written.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use super::addresses::Families;
use super::destination::Destination;

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

    /// Where clients come from on the kernel's side.
    pub(super) fn kernel_address(&self) -> Option<SocketAddr> {
        match self.from {
            From::Ours(_) => None,
            From::Kernel(address) => Some(address),
        }
    }

    /// The port to which it leads.
    pub(super) fn to_port(&self) -> u16 {
        self.port
    }

    /// Where it leads, when our stack has addresses of these families.
    pub(super) fn destination(&self, ours: Families) -> Arc<Destination> {
        let families = match self.from {
            From::Ours(_) => Families::BOTH,
            From::Kernel(_) => ours,
        };
        Destination::new(&self.host, self.port, families)
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
