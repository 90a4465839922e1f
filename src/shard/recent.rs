//! [`Recent`]: whose the last segment was. Segments come in runs.

use super::service::ConnId;
use crate::wire::plain::FlowOctets;

/// The connection of the last segment that had one.
#[derive(Debug)]
pub(crate) struct Recent {
    /// In the flow table for as long as it is here.
    pub(crate) id: ConnId,
    /// How its packets begin.
    pub(super) flow: FlowOctets,
    /// Segments with payload of which its service was not told yet.
    pub(super) untold: u32,
}

impl Recent {
    /// There was none.
    pub(crate) const NONE: Self =
        Self { id: ConnId { slot: u32::MAX, generation: 0 }, flow: FlowOctets::NONE, untold: 0 };

    /// The last segment was one of this connection, in whatever form.
    pub(crate) fn set(&mut self, id: ConnId) {
        debug_assert_eq!(self.untold, 0, "a run is over before another connection's segment is looked at");
        *self = Self { id, ..Self::NONE };
    }

    /// That connection is gone.
    pub(crate) fn forget(&mut self, id: ConnId) {
        if self.id == id {
            *self = Self::NONE;
        }
    }
}
