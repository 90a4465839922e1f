//! The application's side of a [`Host`]: calls and questions.

use trust::tcp::{
    CloseReason, Connection, Duration, HandshakeOutcome, Heeded, Info, KeepAlive, SeqNum, State, Transmit,
};
use trust::wire::icmp::Report;

use super::{Host, Phase};

impl Host {
    pub(crate) fn connection(&mut self) -> &mut Connection {
        match &mut self.phase {
            Phase::Connection(connection) => connection,
            _ => panic!("no connection\n{}", self.transcript),
        }
    }

    /// Queues up to `octets` and tells how many found room.
    pub(crate) fn write(&mut self, octets: u32) -> u32 {
        self.note(">", &format!("write {octets}"));
        let config = self.config;
        let connection = self.connection();
        let taken = octets.min(connection.send_room(&config));
        connection.on_send(taken);
        self.written += u64::from(taken);
        self.pump();
        taken
    }

    /// Octets that can be read.
    pub(crate) fn readable(&mut self) -> u64 {
        let readable = self.received - self.read;
        if let Phase::Connection(connection) = &self.phase {
            assert_eq!(u64::from(connection.unread()), readable, "unread\n{}", self.transcript);
        }
        readable
    }

    /// Reads exactly `octets`.
    pub(crate) fn read(&mut self, octets: u32) {
        assert!(u64::from(octets) <= self.readable(), "not so much to read\n{}", self.transcript);
        self.note(">", &format!("read {octets}"));
        self.read += u64::from(octets);
        let (config, now) = (self.config, self.now);
        if let Phase::Connection(connection) = &mut self.phase {
            connection.on_recv(&config, octets, now);
        }
        self.pump();
    }

    /// Whether everything was read and the peer's FIN came.
    pub(crate) fn at_eof(&self) -> bool {
        self.eof && self.read == self.received
    }

    pub(crate) fn shutdown(&mut self) {
        self.note(">", "shutdown");
        self.connection().shutdown();
        self.pump();
    }

    pub(crate) fn close(&mut self) {
        self.note(">", "close");
        let transmit = self.connection().close();
        self.after_close(transmit);
    }

    pub(crate) fn abort(&mut self) {
        self.note(">", "abort");
        if let Phase::Handshake(handshake, _) = &mut self.phase {
            let transmit = handshake.abort();
            self.emit_option(transmit);
            self.phase = Phase::Closed;
            return;
        }
        let transmit = self.connection().abort();
        self.after_close(transmit);
    }

    /// An ICMP error quotes the segment with that relative number.
    pub(crate) fn icmp(&mut self, seq: i64, report: Report) -> Option<Heeded> {
        self.note("I", &format!("ICMP about {seq}: {report:?}"));
        let (config, now, about) = (self.config, self.now, SeqNum(self.isn.local.wrapping_add(seq as u32)));
        let heeded = match (&mut self.phase, report) {
            (Phase::Connection(connection), _) => Some(connection.on_icmp(&config, about, report, now)),
            (Phase::Handshake(handshake, role), Report::Unreachable(why)) => {
                let role = *role;
                let reason = handshake.on_unreachable(about, why);
                if let Some(reason) = reason {
                    self.on_handshake(HandshakeOutcome::Closed(reason), role, 0);
                }
                reason.map(|_| Heeded::Noted)
            }
            _ => None,
        };
        self.pump();
        heeded
    }

    pub(crate) fn set_user_timeout(&mut self, limit: Option<Duration>) {
        self.note(">", &format!("user timeout {limit:?}"));
        self.connection().set_user_timeout(limit);
    }

    pub(crate) fn set_keepalive(&mut self, keepalive: Option<KeepAlive>) {
        self.note(">", &format!("keep-alive {keepalive:?}"));
        self.connection().set_keepalive(keepalive);
        self.pump();
    }

    /// Whether the core said that everything sent, FIN included, is acknowledged.
    pub(crate) fn fin_acked(&self) -> bool {
        self.fin_acked
    }

    fn after_close(&mut self, transmit: Option<Transmit>) {
        self.emit_option(transmit);
        if self.connection().state() == State::Closed {
            self.finish();
        }
        self.pump();
    }

    pub(crate) fn set_nodelay(&mut self, on: bool) {
        self.note(">", &format!("nodelay {on}"));
        self.connection().set_nodelay(on);
        self.pump();
    }

    pub(crate) fn set_cork(&mut self, on: bool) {
        self.note(">", &format!("cork {on}"));
        self.connection().set_cork(on);
        self.pump();
    }

    /// Relative number behind the highest octet sent so far.
    pub(crate) fn sent_upto(&self) -> i64 {
        self.sent_upto
    }

    pub(crate) fn info(&mut self) -> Info {
        let config = self.config;
        let now = self.now();
        self.connection().info(&config, now)
    }

    /// `None` stands for LISTEN.
    pub(crate) fn state(&self) -> Option<State> {
        match &self.phase {
            Phase::Listen => None,
            Phase::Handshake(handshake, _) => Some(handshake.state()),
            Phase::Connection(connection) => Some(connection.state()),
            Phase::TimeWait(_) => Some(State::TimeWait),
            Phase::Closed => Some(State::Closed),
        }
    }

    #[track_caller]
    pub(crate) fn assert_state(&self, state: State) {
        assert_eq!(self.state(), Some(state), "\n{}", self.transcript);
    }

    #[track_caller]
    pub(crate) fn assert_listening(&self) {
        assert_eq!(self.state(), None, "\n{}", self.transcript);
    }

    #[track_caller]
    pub(crate) fn assert_closed(&self, reason: CloseReason) {
        assert_eq!((self.state(), self.reason), (Some(State::Closed), Some(reason)), "\n{}", self.transcript);
    }

    /// Octets that have not been acknowledged yet.
    pub(crate) fn unacked(&self) -> u64 {
        self.written - self.freed
    }

    /// The smallest ISS that TIME-WAIT allowed to the next incarnation, relative to the old ISS.
    pub(crate) fn reuse_floor(&self) -> Option<i64> {
        self.reuse_floor
    }

    /// Queues `octets` bit by bit and has the peer acknowledge all of it at once, until everything is through.
    pub(crate) fn send_and_ack(&mut self, octets: u32) {
        let mut left = octets;
        let mut rounds = 0;
        while left > 0 || self.unacked() > 0 {
            rounds += 1;
            assert!(rounds < 10_000, "no progress\n{}", self.transcript);
            let wanted = left.min(10_000);
            if wanted > 0 {
                left -= self.write(wanted);
            }
            self.take_all();
            let ack = self.sent_upto;
            self.inject(&format!("A {}:{} ack {ack}", 1 + self.received, 1 + self.received));
        }
        self.take_all();
    }

    pub(crate) fn writable_events(&self) -> u32 {
        self.writable_events
    }

    /// Octets held out of order.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// The host goes on sending what a later device write covers.
    pub(crate) fn device_writes_all(&mut self) {
        self.device_writes = true;
        if let (Some(end), Phase::Connection(connection)) = (self.last_written, &mut self.phase) {
            connection.on_device_write(end);
        }
        self.pump();
    }
}
