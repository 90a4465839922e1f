//! The connection states of RFC 9293 3.3.2.
//!
//! Only the names and what can be read off them; transitions are made in `handshake.rs` and `connection.rs`.

/// State of a connection.
///
/// CLOSED and LISTEN have no record here: a listener is an entry of the shard's table, and what arrives for a closed
/// port is answered by [`reset_for`](crate::tcp::base::segment::reset_for). `Closed` is the last state of a record that
/// is about to be dropped.
///
/// ```text
///                              +---------+
///                              |  CLOSED |<---------------------------------------------+
///                              +---------+                                              |
///             passive OPEN      |       |  active OPEN                                  |
///             -------------     |       |  -----------                                  |
///             (table entry)     v       |  snd SYN                                      |
///                      +--------+       |                                               |
///                      | LISTEN |       |                                               |
///                      +--------+       v                                               |
///      rcv SYN             |        +----------+  rcv RST + good ACK, timeout, CLOSE    |
///      -----------         |        | SYN-SENT |----------------------------------------+
///      snd SYN,ACK         v        +----------+                                        |
///                  +--------------+  rcv SYN |  |  rcv SYN,ACK                          |
///      passive:    | SYN-RECEIVED |<---------+  |  -----------                          |
///      RST: back   +--------------+ snd SYN,ACK |  snd ACK                              |
///      to LISTEN     |  rcv ACK of SYN          |                                       |
///                    v                          v                                       |
///               +-----------------------------------+    rcv RST, abort, timeout        |
///               |            ESTABLISHED            |-----------------------------------+
///               +-----------------------------------+    (likewise from all below)      |
///        CLOSE    |                               |  rcv FIN                            |
///        -------  |                               |  -------                            |
///        snd FIN  v                               v  snd ACK                            |
///       +------------+                       +------------+                             |
///       | FIN-WAIT-1 |---------------+       | CLOSE-WAIT |                             |
///       +------------+ rcv FIN       |       +------------+                             |
///         |      |     -------       |             | CLOSE                              |
///         |      |     snd ACK       |             | -------                            |
///         |      |                   v             v snd FIN                            |
///  rcv ACK|      |rcv FIN      +---------+     +----------+  rcv ACK of FIN             |
///  of FIN |      |+ACK of FIN  | CLOSING |     | LAST-ACK |-----------------------------+
///         |      |-------      +---------+     +----------+                             |
///         v      |snd ACK            | rcv ACK of FIN                                   |
///  +------------+|                   v                                                  |
///  | FIN-WAIT-2 |+----------->+-----------+   2 MSL                                     |
///  +------------+------------>| TIME-WAIT |---------------------------------------------+
///         |    rcv FIN        +-----------+                                             |
///         |    snd ACK                                                                  |
///         +-----------------------------------------------------------------------------+
///              nobody reads any more and no FIN came for `fin_wait2` (SM-FW2-5)
/// ```
///
/// CLOSE moves the state at once, also while data is still queued before the FIN (SM-EST-4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(u8)]
pub enum State {
    /// Our SYN is out, nothing was heard.
    SynSent,
    /// A SYN was heard and answered by SYN,ACK.
    SynReceived,
    /// Data flows both ways.
    Established,
    /// We closed; our FIN is queued or unacknowledged.
    FinWait1,
    /// We closed and the peer has acknowledged it; it may go on sending.
    FinWait2,
    /// The peer closed; we may go on sending.
    CloseWait,
    /// Both closed at the same time; our FIN is unacknowledged.
    Closing,
    /// The peer closed first, then we did; our FIN is queued or unacknowledged.
    LastAck,
    /// Both directions are closed; the record waits for stragglers.
    TimeWait,
    /// Gone.
    #[default]
    Closed,
}

impl State {
    /// Whether the user may still queue data (SM-EST-4, SM-CW-1).
    #[must_use]
    pub const fn can_send(self) -> bool {
        matches!(self, Self::Established | Self::CloseWait)
    }

    /// Whether the peer may still send data, that is, its FIN has not been processed.
    #[must_use]
    pub const fn can_receive(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }
}
