//! The looks at connections that a [trace](super::trace) is made of. Must not contain: anything that is paid for when nobody
//! looks.

use super::conn::Phase;
use super::service::ConnId;
use super::state::ShardState;
use super::trace::{Decision, TraceEvent};
use crate::tcp::CloseReason;

impl ShardState {
    /// Something happened to a connection, or it has sent.
    #[cold]
    pub(super) fn look_at(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let Phase::Open(connection) = &conn.phase else { return };
        let info = connection.info(&self.config.tcp, self.now);
        let event =
            TraceEvent { at: self.turn_began, id, quad: conn.quad, missed: 0, decision: Decision::Mss(info.mss) };
        if let Some(trace) = &mut self.trace {
            trace.compare(event, &info);
        }
    }

    /// A connection has ended.
    #[cold]
    pub(super) fn look_at_end(&mut self, id: ConnId, reason: CloseReason) {
        self.look_at(id);
        let Some(conn) = self.conns.get(id) else { return };
        let decision = Decision::Ended(reason);
        let event = TraceEvent { at: self.turn_began, id, quad: conn.quad, missed: 0, decision };
        if let Some(trace) = &mut self.trace {
            trace.end(event);
        }
    }
}
