//! Rows of a comparison: what a client does.

use serde::{Deserialize, Serialize};

/// What a client does, over how many connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Row {
    /// Bulk from client to server.
    Up(usize),
    /// Bulk from server to client.
    Down(usize),
    /// Request/response on open connections.
    Rr(usize),
    /// Bulk there and back through echo.
    Echo(usize),
    /// As `Rr`, against an application that echoes through sockets: with the engine on a thread of its own, with the
    /// kernel it is the same as `Rr`.
    SocketsRr(usize),
    /// As `Echo`, against that application.
    SocketsEcho(usize),
    /// Connect, request, response, close; so many at a time.
    Cr(usize),
    /// Stock iperf3 to the server, so many flows.
    IperfUp(usize),
    /// Stock iperf3 with -R.
    IperfDown(usize),
}

type Make = fn(usize) -> Row;

const NAMES: [(&str, Make); 9] = [
    ("up", Row::Up),
    ("down", Row::Down),
    ("rr", Row::Rr),
    ("echo", Row::Echo),
    ("sockets-rr", Row::SocketsRr),
    ("sockets-echo", Row::SocketsEcho),
    ("cr", Row::Cr),
    ("iperf3-up", Row::IperfUp),
    ("iperf3-down", Row::IperfDown),
];

impl Row {
    /// The rows that every side has.
    pub const STANDARD: [Self; 11] = [
        Self::Up(1),
        Self::Up(8),
        Self::Up(64),
        Self::Down(1),
        Self::Down(8),
        Self::Down(64),
        Self::Rr(1),
        Self::Rr(32),
        Self::Rr(256),
        Self::Cr(1),
        Self::Cr(64),
    ];

    /// Rows of applications and stock programs, which only the engine and the kernel have.
    pub const PROGRAMS: [Self; 10] = [
        Self::Echo(1),
        Self::Echo(8),
        Self::SocketsRr(1),
        Self::SocketsRr(32),
        Self::SocketsEcho(1),
        Self::SocketsEcho(8),
        Self::IperfUp(1),
        Self::IperfUp(8),
        Self::IperfDown(1),
        Self::IperfDown(8),
    ];

    /// What tables and `--rows` call it.
    #[must_use]
    pub fn name(self) -> String {
        let count = self.count();
        let name = NAMES.iter().find(|(_, make)| make(count) == self).map_or("?", |(name, _)| name);
        format!("{name}{count}")
    }

    /// Connections.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::Up(n) | Self::Down(n) | Self::Rr(n) | Self::Echo(n) | Self::SocketsRr(n) => n,
            Self::SocketsEcho(n) | Self::Cr(n) | Self::IperfUp(n) | Self::IperfDown(n) => n,
        }
    }

    /// The mode of `ktcp`; `None`: another program is the client.
    #[must_use]
    pub fn mode(self) -> Option<&'static str> {
        match self {
            Self::Up(_) => Some("up"),
            Self::Down(_) => Some("down"),
            Self::Echo(_) | Self::SocketsEcho(_) => Some("echo"),
            Self::Rr(_) | Self::SocketsRr(_) => Some("rr"),
            Self::Cr(_) => Some("cr"),
            Self::IperfUp(_) | Self::IperfDown(_) => None,
        }
    }

    /// Whether it is measured in octets and not in requests.
    #[must_use]
    pub fn is_bulk(self) -> bool {
        !matches!(self, Self::Rr(_) | Self::SocketsRr(_) | Self::Cr(_))
    }

    /// Whether the service echoes through sockets.
    #[must_use]
    pub fn is_through_sockets(self) -> bool {
        matches!(self, Self::SocketsRr(_) | Self::SocketsEcho(_))
    }

    /// Unit of its values.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Rr(_) | Self::SocketsRr(_) => "1/s",
            Self::Cr(_) => "conn/s",
            _ => "Gbit/s",
        }
    }

    /// Unit of its CPU time.
    #[must_use]
    pub fn cpu_unit(self) -> &'static str {
        if self.is_bulk() { "s/GB" } else { "s/M" }
    }

    /// The row that measures the same against the service in the shard.
    #[must_use]
    pub fn in_shard(self) -> Option<Self> {
        match self {
            Self::SocketsRr(n) => Some(Self::Rr(n)),
            Self::SocketsEcho(n) => Some(Self::Echo(n)),
            _ => None,
        }
    }
}

impl From<Row> for String {
    fn from(row: Row) -> Self {
        row.name()
    }
}

impl TryFrom<String> for Row {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let digits = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (word, count) = name.split_at(digits);
        // iperf3 itself ends in a digit, but no row does.
        let make = NAMES.iter().find(|(known, _)| *known == word).map(|(_, make)| make);
        match (make, count.parse::<usize>()) {
            (Some(make), Ok(count)) if count > 0 => Ok(make(count)),
            _ => Err(format!("there is no row {name}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_rows() {
        for row in Row::STANDARD.into_iter().chain(Row::PROGRAMS) {
            assert_eq!(Row::try_from(row.name()), Ok(row));
        }
        for name in ["", "up", "up0", "sideways1", "iperf3"] {
            assert!(Row::try_from(name.to_string()).is_err(), "{name}");
        }
    }

    #[test]
    fn rows_of_sockets_have_one_in_the_shard() {
        for row in [Row::SocketsRr(32), Row::SocketsEcho(1)] {
            let name = row.name();
            assert_eq!(row.in_shard().map(Row::name), name.strip_prefix("sockets-").map(str::to_string));
            assert_eq!(row.in_shard().map(Row::unit), Some(row.unit()));
        }
        assert_eq!(Row::Rr(1).in_shard(), None);
    }
}
