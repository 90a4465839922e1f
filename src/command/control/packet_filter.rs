//! Which packets are captured, in the language of tcpdump (pcap-filter(7)), as far as it is about addresses and ports.
//!
//! ```text
//!   expression = term { ("or" | "||") term }
//!   term       = factor { ("and" | "&&") factor }
//!   factor     = ("not" | "!") factor | "(" expression ")" | primitive
//!   primitive  = [protocol] [("src" | "dst")] ("host" A | "net" A/LEN | "port" N | "portrange" N-N) | protocol
//!              | ("less" | "greater") N | [more of what the last primitive was about: its value alone]
//!   protocol   = "ip" | "ip6" | "tcp" | "udp" | "icmp" | "icmp6"
//! ```

use std::net::IpAddr;

use trust::shard::tap::Facts;

use super::filter::contains;

/// The longest chain of brackets and `not`s.
const DEPTH: usize = 64;

/// A filter, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PacketFilter(Option<Expression>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Or(Vec<Expression>),
    And(Vec<Expression>),
    Not(Box<Expression>),
    Is(Primitive),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Primitive {
    protocol: Option<Protocol>,
    end: End,
    value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Ip,
    Ip6,
    /// Of the IP header.
    Number(u8),
}

/// Which end of a packet is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    Either,
    Src,
    Dst,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Any,
    Net((IpAddr, u8)),
    Ports(u16, u16),
    /// At most so many octets.
    Less(u32),
    /// At least so many.
    Greater(u32),
}

/// What kind of value a primitive has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Host,
    Net,
    Port,
    PortRange,
}

impl PacketFilter {
    /// Reads one; an empty text lets everything through.
    ///
    /// # Errors
    ///
    /// What is wrong, and where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let spaced = ["(", ")", "!", "&&", "||"]
            .iter()
            .fold(text.to_owned(), |text, sign| text.replace(sign, &format!(" {sign} ")));
        let words: Vec<&str> = spaced.split_whitespace().collect();
        if words.is_empty() {
            return Ok(Self(None));
        }
        let mut parser = Parser { words: &words, at: 0, depth: 0, last: None };
        let expression = parser.expression()?;
        match parser.peek() {
            None => Ok(Self(Some(expression))),
            Some(word) => Err(format!("the filter ends before {word:?}; is an \"and\" missing?")),
        }
    }

    /// Whether it lets the packet through.
    pub(crate) fn matches(&self, facts: &Facts) -> bool {
        self.0.as_ref().is_none_or(|expression| expression.matches(facts))
    }

    /// Whether it lets everything through.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Expression {
    fn matches(&self, facts: &Facts) -> bool {
        match self {
            Self::Or(parts) => parts.iter().any(|part| part.matches(facts)),
            Self::And(parts) => parts.iter().all(|part| part.matches(facts)),
            Self::Not(part) => !part.matches(facts),
            Self::Is(primitive) => primitive.matches(facts),
        }
    }
}

impl Primitive {
    fn matches(&self, facts: &Facts) -> bool {
        let Self { protocol, end, value } = self;
        let family = match protocol {
            None => true,
            Some(Protocol::Ip) => facts.src.is_ipv4(),
            Some(Protocol::Ip6) => facts.src.is_ipv6(),
            Some(Protocol::Number(number)) => facts.protocol == *number,
        };
        let either = |src: bool, dst: bool| match end {
            End::Either => src || dst,
            End::Src => src,
            End::Dst => dst,
        };
        family
            && match value {
                Value::Any => true,
                Value::Net(net) => either(contains(*net, facts.src), contains(*net, facts.dst)),
                Value::Ports(first, last) => facts
                    .ports
                    .is_some_and(|(src, dst)| either((*first..=*last).contains(&src), (*first..=*last).contains(&dst))),
                Value::Less(octets) => facts.len <= *octets,
                Value::Greater(octets) => facts.len >= *octets,
            }
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
    depth: usize,
    /// What a value alone is about.
    last: Option<(Option<Protocol>, End, Kind)>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn take(&mut self, choices: &[&str]) -> bool {
        let found = self.peek().is_some_and(|word| choices.contains(&word));
        self.at += usize::from(found);
        found
    }

    fn expression(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.term()?];
        while self.take(&["or", "||"]) {
            parts.push(self.term()?);
        }
        Ok(if parts.len() > 1 { Expression::Or(parts) } else { parts.remove(0) })
    }

    fn term(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.factor()?];
        while self.take(&["and", "&&"]) {
            parts.push(self.factor()?);
        }
        Ok(if parts.len() > 1 { Expression::And(parts) } else { parts.remove(0) })
    }

    fn factor(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("brackets and nots of the filter are nested more than {DEPTH} deep"));
        }
        let factor = if self.take(&["not", "!"]) {
            Expression::Not(Box::new(self.factor()?))
        } else if self.take(&["("]) {
            let inner = self.expression()?;
            if !self.take(&[")"]) {
                return Err("a bracket of the filter is not closed".to_owned());
            }
            inner
        } else {
            Expression::Is(self.primitive()?)
        };
        self.depth -= 1;
        Ok(factor)
    }

    fn primitive(&mut self) -> Result<Primitive, String> {
        let protocol = self.peek().and_then(protocol);
        self.at += usize::from(protocol.is_some());
        let end = if self.take(&["src"]) {
            End::Src
        } else if self.take(&["dst"]) {
            End::Dst
        } else {
            End::Either
        };
        let named = protocol.is_some() || end != End::Either;
        let Some(word) = self.peek() else {
            if protocol.is_some() && end == End::Either {
                return Ok(Primitive { protocol, end, value: Value::Any });
            }
            return Err("the filter ends where a host, net or port is expected".to_owned());
        };
        let kind = match word {
            "host" => Some(Kind::Host),
            "net" => Some(Kind::Net),
            "port" => Some(Kind::Port),
            "portrange" => Some(Kind::PortRange),
            "less" | "greater" if !named => {
                self.at += 1;
                let octets = self.value("a number of octets", |text| text.parse().ok())?;
                let value = if word == "less" { Value::Less(octets) } else { Value::Greater(octets) };
                return Ok(Primitive { protocol, end, value });
            }
            _ => None,
        };
        let (protocol, end, kind) = match (kind, self.last) {
            (Some(kind), _) => {
                self.at += 1;
                (protocol, end, kind)
            }
            // "src 10.0.0.1" is "src host 10.0.0.1".
            (None, _) if end != End::Either => (protocol, end, Kind::Host),
            (None, _) if protocol.is_some() => return Ok(Primitive { protocol, end, value: Value::Any }),
            // "port 80 or 443".
            (None, Some(last)) => last,
            (None, None) => {
                return Err(format!("the filter does not know {word:?}: like tcp port 80 and host 10.7.0.1"));
            }
        };
        self.last = Some((protocol, end, kind));
        let value = match kind {
            Kind::Host => self.value("an address", |text| text.parse::<IpAddr>().ok().map(single))?,
            Kind::Net => self.value("a network, like 10.7.0.0/24", |text| net(text).map(Value::Net))?,
            Kind::Port => self.value("a port", |text| text.parse().ok().map(|port| Value::Ports(port, port)))?,
            Kind::PortRange => self.value("ports, like 8000-8080", |text| {
                let (first, last) = text.split_once('-')?;
                Some(Value::Ports(first.parse().ok()?, last.parse().ok()?))
            })?,
        };
        Ok(Primitive { protocol, end, value })
    }

    fn value<T>(&mut self, wanted: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, String> {
        let word = self.peek().ok_or_else(|| format!("the filter ends where {wanted} is expected"))?;
        self.at += 1;
        read(word).ok_or_else(|| format!("{word:?} in the filter is not {wanted}"))
    }
}

fn protocol(word: &str) -> Option<Protocol> {
    match word {
        "ip" => Some(Protocol::Ip),
        "ip6" => Some(Protocol::Ip6),
        "tcp" => Some(Protocol::Number(6)),
        "udp" => Some(Protocol::Number(17)),
        "icmp" => Some(Protocol::Number(1)),
        "icmp6" => Some(Protocol::Number(58)),
        _ => None,
    }
}

fn single(addr: IpAddr) -> Value {
    Value::Net((addr, if addr.is_ipv4() { 32 } else { 128 }))
}

fn net(text: &str) -> Option<(IpAddr, u8)> {
    let (addr, prefix) = text.split_once('/')?;
    let (addr, prefix) = (addr.parse::<IpAddr>().ok()?, prefix.parse().ok()?);
    (prefix <= if addr.is_ipv4() { 32 } else { 128 }).then_some((addr, prefix))
}

#[cfg(test)]
#[path = "packet_filter_tests.rs"]
mod tests;
