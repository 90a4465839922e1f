//! Which services `trust serve` has, and on which ports.

use std::str::FromStr;

use trust::services::{self, ParseServiceError, ServiceSpec};

use super::Error;
use super::forward_rule::Forward;

/// One `--service`.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    Service(ServiceSpec),
    Forward(Forward),
    EchoSockets(u16),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('=') || text.starts_with("forward:") || text.starts_with("reverse:") {
            return text.parse().map(Self::Forward);
        }
        if let Some(port) = text.strip_prefix("echo-sockets:") {
            let port = port.parse().ok().filter(|port| *port != 0);
            return port.map(Self::EchoSockets).ok_or_else(|| format!("`{text}` has no port from 1 to 65535"));
        }
        text.parse().map(Self::Service).map_err(|error| match error {
            // What the library does not have, this command has beside it.
            ParseServiceError::UnknownName(_) => format!("{error}, forward, reverse, echo-sockets"),
            error => error.to_string(),
        })
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(spec) => spec.fmt(f),
            Self::Forward(forward) => forward.fmt(f),
            Self::EchoSockets(port) => write!(f, "echo-sockets:{port}"),
        }
    }
}

impl Wanted {
    /// The port that is taken on our stack.
    fn port(&self) -> Option<u16> {
        match self {
            Self::Service(spec) => Some(spec.port),
            Self::Forward(forward) => forward.port(),
            Self::EchoSockets(port) => Some(*port),
        }
    }
}

/// All services, each where it is done.
#[derive(Debug, Default)]
pub(super) struct Services {
    /// In the shards.
    pub(super) specs: Vec<ServiceSpec>,
    pub(super) forwards: Vec<Forward>,
    pub(super) echo_ports: Vec<u16>,
}

impl Services {
    /// All of them as the banner says them.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words: Vec<_> = self.specs.iter().map(ToString::to_string).collect();
        words.extend(self.forwards.iter().map(ToString::to_string));
        words.extend(self.echo_ports.iter().map(|port| format!("echo-sockets:{port}")));
        if words.is_empty() {
            words.push("(no services)".to_owned());
        }
        words
    }

    /// Names of those on sockets, with their ports of our stack.
    pub(super) fn applications(&self) -> Vec<(u16, String)> {
        let forwards = self.forwards.iter().filter_map(|forward| Some((forward.port()?, "forward".to_owned())));
        let echoes = self.echo_ports.iter().map(|port| (*port, "echo-sockets".to_owned()));
        forwards.chain(echoes).collect()
    }

    /// What is `wanted`, and if so the default services on those of their ports that nobody else wants, as `--metrics`
    /// may.
    pub(super) fn new(wanted: Vec<Wanted>, defaults: bool, metrics: Option<u16>) -> Result<Self, Error> {
        let mut services = Self::default();
        let given = |port| metrics == Some(port) || wanted.iter().any(|wanted| wanted.port() == Some(port));
        if defaults {
            services.specs.extend(services::default_services().into_iter().filter(|spec| !given(spec.port)));
        }
        for (place, service) in wanted.iter().enumerate() {
            let Some(port) = service.port() else { continue };
            if metrics == Some(port) {
                let why = format!("port {port} has a service already, {service}; choose another port");
                return Err(Error::Usage(format!("--metrics {port}: {why}")));
            }
            if let Some(other) = wanted[..place].iter().find(|other| other.port() == Some(port)) {
                let why = format!("port {port} has a service already, {other}; choose another port");
                return Err(Error::Usage(format!("--service {service}: {why}")));
            }
        }
        for service in wanted {
            match service {
                Wanted::Service(spec) => services.specs.push(spec),
                Wanted::Forward(forward) => services.forwards.push(forward),
                Wanted::EchoSockets(port) => services.echo_ports.push(port),
            }
        }
        Ok(services)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn services(wanted: &[&str], defaults: bool) -> Result<String, String> {
        services_beside(None, wanted, defaults)
    }

    fn services_beside(metrics: Option<u16>, wanted: &[&str], defaults: bool) -> Result<String, String> {
        let wanted = wanted.iter().map(|text| text.parse().unwrap()).collect();
        let Services { specs, forwards, echo_ports } =
            Services::new(wanted, defaults, metrics).map_err(|error| error.to_string())?;
        let words = specs.iter().map(ToString::to_string).chain(forwards.iter().map(ToString::to_string));
        Ok(words.chain(echo_ports.iter().map(ToString::to_string)).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_usual_port_is_given_to_another_service_when_that_is_said() {
        let ours = "echo:7 discard:9 daytime:13 chargen:19 http:80 iperf3:5201";
        assert_eq!(services(&[], true).unwrap(), ours);
        let without = |spec: &str| ours.split(' ').filter(|other| *other != spec).collect::<Vec<_>>().join(" ");
        for (wanted, instead_of, said) in [
            ("echo:80", "http:80", "echo:80"),
            ("http:80", "http:80", "http:80"),
            ("forward:80=h:8080", "http:80", "forward:80=h:8080"),
            ("echo-sockets:7", "echo:7", "7"),
            ("reverse:80=h:80", "", "reverse:127.0.0.1:80=h:80"),
            ("http:8080", "", "http:8080"),
        ] {
            assert_eq!(services(&[wanted], true).unwrap(), format!("{} {said}", without(instead_of)), "{wanted}");
        }
    }

    #[test]
    fn without_the_default_services_there_is_what_is_asked_for() {
        assert_eq!(services(&["echo:80", "reverse:1=h:2"], false).unwrap(), "echo:80 reverse:127.0.0.1:1=h:2");
        assert_eq!(services(&[], false).unwrap(), "");
    }

    #[test]
    fn metrics_take_the_place_of_a_default_service_and_of_no_other() {
        let words = services_beside(Some(80), &[], true).unwrap();
        assert!(words.contains("echo:7") && !words.contains("http"), "{words}");
        let why = services_beside(Some(9100), &["echo:9100"], true).unwrap_err();
        assert!(why.starts_with("--metrics 9100: port 9100 has a service already, echo:9100; choose another"), "{why}");
    }

    #[test]
    fn two_services_on_one_port_are_refused() {
        for defaults in [true, false] {
            for (wanted, said) in [
                (["echo:80", "http:80"], "--service http:80: port 80 has a service already, echo:80; choose another"),
                (["echo:4242", "echo:4242"], "--service echo:4242: port 4242"),
                (["forward:4242=h:1", "echo-sockets:4242"], "has a service already, forward:4242=h:1"),
            ] {
                let error = services(&wanted, defaults).unwrap_err();
                assert!(error.contains(said), "{wanted:?}: {error}");
            }
        }
        // The kernel's ports are not ours.
        assert!(services(&["echo:4242", "reverse:4242=h:1"], false).is_ok());
    }
}
