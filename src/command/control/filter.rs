//! Which sockets are meant, in the language of `ss` (ss(8), "STATE-FILTER" and "EXPRESSION"):
//!
//! ```text
//! [state STATE | exclude STATE]... [EXPRESSION]
//!
//! EXPRESSION  as in: ( sport = :7 or dport = :http ) dst 10.7.0.0/24 and not src [fd00::1]:80
//! ```
//!
//! As there, `and`, `or` and two terms side by side (`and`) hold from left to right, none of them before the others; `not`
//! is about the one term behind it. Ports have numbers, or names of `/etc/services`; hosts have addresses only. What `ss`
//! has beyond that is about what we have not (devices, marks, control groups).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::protocol::{Socket, Stage};

/// Terms that a filter may have, and twice as many parentheses and negations: it is walked by calls of itself. As it is
/// sent there is a parenthesis for each term but one, and a negation for each `!=`.
const MOST: usize = 128;

/// Names of ports where there is no `/etc/services`.
const PORTS: [(&str, u16); 14] = [
    ("echo", 7),
    ("discard", 9),
    ("daytime", 13),
    ("chargen", 19),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("http", 80),
    ("kerberos", 88),
    ("imap2", 143),
    ("https", 443),
    ("http-alt", 8080),
];

/// Words for states, with the stages that they stand for.
const STATES: [(&str, u16); 19] = [
    ("established", of(Stage::Established)),
    ("syn-sent", of(Stage::SynSent)),
    ("syn-recv", of(Stage::SynReceived)),
    ("fin-wait-1", of(Stage::FinWait1)),
    ("fin-wait-2", of(Stage::FinWait2)),
    ("time-wait", of(Stage::TimeWait)),
    ("unconnected", of(Stage::Closed)),
    ("closed", of(Stage::Closed)),
    ("close-wait", of(Stage::CloseWait)),
    ("last-ack", of(Stage::LastAck)),
    ("listening", of(Stage::Listen)),
    ("listen", of(Stage::Listen)),
    ("closing", of(Stage::Closing)),
    ("all", ALL),
    ("connected", CONNECTED),
    ("synchronized", CONNECTED & !of(Stage::SynSent)),
    ("bucket", BUCKET),
    ("big", ALL & !BUCKET),
    ("estab", of(Stage::Established)),
];

const ALL: u16 = (1 << 11) - 1;
const CONNECTED: u16 = ALL & !of(Stage::Listen) & !of(Stage::Closed);
const BUCKET: u16 = of(Stage::SynReceived) | of(Stage::TimeWait);

const fn of(stage: Stage) -> u16 {
    1 << stage as u16
}

/// A set of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct States(u16);

impl States {
    /// Every one.
    pub(crate) const ALL: Self = Self(ALL);
    /// What `ss` shows unless it is told: neither listeners nor what is half-open or in TIME-WAIT.
    pub(crate) const USUAL: Self = Self(CONNECTED & !BUCKET);
    /// Listeners.
    pub(crate) const LISTENING: Self = Self(of(Stage::Listen));

    /// Whether the state is in it.
    pub(crate) const fn has(self, stage: Stage) -> bool {
        self.0 & of(stage) != 0
    }
}

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Ours.
    Source,
    /// The peer's.
    Destination,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    AtLeast,
    AtMost,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Host(End, Host),
    Port(End, Order, u16),
}

/// An address, a network or a port, or both; `None` for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Host {
    network: Option<(IpAddr, u8)>,
    port: Option<u16>,
}

/// Which sockets are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    states: States,
    expression: Option<Expression>,
}

impl Filter {
    /// Reads a filter; where it says nothing of states it is about `states`.
    pub(crate) fn parse(text: &str, states: States) -> Result<Self, String> {
        if let Some(option) = text.split_whitespace().find(|word| word.starts_with('-')) {
            return Err(format!("{option}: options go before the filter"));
        }
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        let mut words = Words { words: spaced.split_whitespace().peekable(), terms: 0, nested: 0 };
        let mut said = None;
        while let Some(word @ ("state" | "exclude")) = words.words.peek().copied() {
            words.words.next();
            let name = words.words.next().ok_or_else(|| format!("{word}: a state is missing behind it"))?;
            let found = STATES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            let (_, set) = found.ok_or_else(|| format!("{name:?} is no state; there are {}", known_states()))?;
            said = Some(if word == "state" { said.unwrap_or(0) | set } else { said.unwrap_or(ALL) & !set });
        }
        let expression = if words.words.peek().is_some() { Some(words.list(false)?) } else { None };
        Ok(Self { states: said.map_or(states, States), expression })
    }

    /// Whether it lets a socket through.
    pub(crate) fn matches(&self, socket: &Socket) -> bool {
        self.states.has(socket.state) && self.expression.as_ref().is_none_or(|expression| expression.matches(socket))
    }

    /// Whether it lets everything through that has one of its states.
    pub(crate) fn is_empty(&self) -> bool {
        self.expression.is_none()
    }
}

fn known_states() -> String {
    STATES.map(|(name, _)| name)[..STATES.len() - 1].join(", ")
}

/// In words that it can be read from again, without names of ports.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = STATES.iter().find(|(_, set)| *set == self.states.0);
        let single = STATES.iter().filter(|(_, set)| set.is_power_of_two() && self.states.0 & set != 0);
        let states: Vec<_> = match known {
            _ if self.states.0 == 0 => vec!["exclude all".to_owned()],
            Some((name, _)) => vec![format!("state {name}")],
            None => single.map(|(name, _)| format!("state {name}")).collect(),
        };
        f.write_str(&states.join(" "))?;
        self.expression.as_ref().map_or(Ok(()), |expression| write!(f, " {expression}"))
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(one, other) => write!(f, "( {one} and {other} )"),
            Self::Or(one, other) => write!(f, "( {one} or {other} )"),
            Self::Not(one) => write!(f, "not {one}"),
            Self::Host(end, host) => write!(f, "{} {host}", if *end == End::Source { "src" } else { "dst" }),
            Self::Port(end, order, port) => {
                let (end, order) = (if *end == End::Source { "sport" } else { "dport" }, *order);
                write!(f, "{end} {} :{port}", if order == Order::AtLeast { ">=" } else { "<=" })
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.network {
            Some((address @ IpAddr::V4(_), prefix)) => write!(f, "{address}/{prefix}")?,
            Some((address, prefix)) => write!(f, "[{address}]/{prefix}")?,
            None => f.write_str("*")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Expression {
    fn matches(&self, socket: &Socket) -> bool {
        let at = |end| if end == End::Source { socket.local } else { socket.peer };
        match self {
            Self::And(one, other) => one.matches(socket) && other.matches(socket),
            Self::Or(one, other) => one.matches(socket) || other.matches(socket),
            Self::Not(one) => !one.matches(socket),
            Self::Host(end, host) => {
                let at = at(*end);
                host.port.is_none_or(|port| port == at.port())
                    && host.network.is_none_or(|network| contains(network, at.ip()))
            }
            Self::Port(end, Order::AtLeast, port) => at(*end).port() >= *port,
            Self::Port(end, Order::AtMost, port) => at(*end).port() <= *port,
        }
    }
}

pub(super) fn contains((network, prefix): (IpAddr, u8), address: IpAddr) -> bool {
    let differ = |one: u128, other: u128, bits: u32| {
        let shift = bits.saturating_sub(prefix.into());
        (one ^ other).checked_shr(shift).unwrap_or(0) != 0
    };
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => !differ(network.to_bits().into(), address.to_bits().into(), 32),
        (IpAddr::V6(network), IpAddr::V6(address)) => !differ(network.to_bits(), address.to_bits(), 128),
        _ => false,
    }
}

/// What is left to be read.
struct Words<'a, I: Iterator<Item = &'a str>> {
    words: std::iter::Peekable<I>,
    terms: usize,
    nested: usize,
}

impl<'a, I: Iterator<Item = &'a str>> Words<'a, I> {
    /// Terms from left to right, up to the end, or to the parenthesis that closes.
    fn list(&mut self, inside: bool) -> Result<Expression, String> {
        let mut list = self.term()?;
        loop {
            let next = self.words.peek().copied();
            let or = match next {
                None if inside => return Err("a ) is missing at the end".to_owned()),
                None => return Ok(list),
                Some(")") if inside => {
                    self.words.next();
                    return Ok(list);
                }
                Some("or" | "|" | "||") => true,
                Some(_) => false,
            };
            if or || matches!(next, Some("and" | "&" | "&&")) {
                self.words.next();
            }
            let both = (Box::new(list), Box::new(self.term()?));
            list = if or { Expression::Or(both.0, both.1) } else { Expression::And(both.0, both.1) };
        }
    }

    fn term(&mut self) -> Result<Expression, String> {
        let Some(word) = self.words.next() else { return Err("a term is missing at the end".to_owned()) };
        let (count, most) = match word {
            "(" | "!" | "not" => (&mut self.nested, 2 * MOST),
            _ => (&mut self.terms, MOST),
        };
        *count += 1;
        if *count > most {
            return Err(format!("more than {MOST} terms"));
        }
        match word {
            "(" => self.list(true),
            "!" | "not" => Ok(Expression::Not(Box::new(self.term()?))),
            "src" => self.host(End::Source),
            "dst" => self.host(End::Destination),
            "sport" => self.port(End::Source),
            "dport" => self.port(End::Destination),
            "state" | "exclude" => Err(format!("{word}: states stand at the beginning")),
            "dev" | "fwmark" | "cgroup" | "autobound" => Err(format!("{word}: a connection here has none")),
            word => Err(format!("{word:?} begins no term; there are src, dst, sport, dport, not and (")),
        }
    }

    /// The word behind a term and its `=`, if it has one.
    fn value(&mut self, term: &str) -> Result<&'a str, String> {
        if matches!(self.words.peek().copied(), Some("=" | "==" | "eq")) {
            self.words.next();
        }
        self.words.next().ok_or_else(|| format!("{term}: a value is missing behind it"))
    }

    fn host(&mut self, end: End) -> Result<Expression, String> {
        let term = if end == End::Source { "src" } else { "dst" };
        let host = self.value(term)?.parse().map_err(|error| format!("{term}: {error}"))?;
        Ok(Expression::Host(end, host))
    }

    fn port(&mut self, end: End) -> Result<Expression, String> {
        let term = if end == End::Source { "sport" } else { "dport" };
        let relation = self.words.peek().copied().unwrap_or_default();
        let (order, not) = match relation {
            ">=" | "ge" | "geq" => (Some(Order::AtLeast), false),
            "<=" | "le" | "leq" => (Some(Order::AtMost), false),
            ">" | "gt" => (Some(Order::AtMost), true),
            "<" | "lt" => (Some(Order::AtLeast), true),
            "!=" | "ne" | "neq" => (None, true),
            _ => (None, false),
        };
        if order.is_some() || not {
            self.words.next();
        }
        let value = self.value(term)?;
        let port = port(value.strip_prefix(['*']).unwrap_or(value).trim_start_matches(':'))
            .map_err(|error| format!("{term}: {error}"))?;
        let found = match order {
            Some(order) => Expression::Port(end, order, port),
            None => Expression::Host(end, Host { network: None, port: Some(port) }),
        };
        Ok(if not { Expression::Not(Box::new(found)) } else { found })
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no address, network or port; like 10.7.0.1, 10.7.0.0/24, [fd00::1]:80, :80");
        // An address of IPv6 without a port needs no brackets.
        let bare_v6 = text.split('/').next().is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
        let (host, name) = match text.rsplit_once(':') {
            Some(_) if bare_v6 => (text, None),
            // Within brackets.
            Some((_, behind)) if behind.contains(']') => (text, None),
            Some((host, name)) => (host, Some(name)),
            None => (text, None),
        };
        let port = match name {
            None | Some("*") => None,
            Some(name) => Some(port(name)?),
        };
        if matches!(host, "" | "*") {
            return if host.is_empty() && port.is_none() { Err(wrong()) } else { Ok(Self { network: None, port }) };
        }
        let (address, prefix) = host.split_once('/').map_or((host, None), |(address, prefix)| (address, Some(prefix)));
        let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
        let address: IpAddr = bare.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |prefix| prefix.parse().map_err(|_| wrong()))?;
        if prefix > most {
            return Err(format!("{text:?}: a prefix of {prefix} bits is longer than the address"));
        }
        Ok(Self { network: Some((address, prefix)), port })
    }
}

/// A port by its number or its name.
fn port(text: &str) -> Result<u16, String> {
    if let Ok(port) = text.parse() {
        return Ok(port);
    }
    // Behind the fence there is no such file, and no name comes there.
    let file = std::fs::read_to_string("/etc/services").unwrap_or_default();
    let lines = file.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (name, number) = (words.next()?, words.next()?.strip_suffix("/tcp")?);
        ([name].into_iter().chain(words).any(|name| name == text)).then(|| number.parse().ok()).flatten()
    });
    let known = PORTS.iter().filter(|(name, _)| *name == text).map(|(_, port)| *port);
    lines.chain(known).next().ok_or_else(|| format!("{text:?} is no port, a number up to 65535 or a name of a service"))
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
