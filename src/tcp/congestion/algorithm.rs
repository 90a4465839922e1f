//! What every algorithm of congestion control is asked.

use crate::tcp::base::time::Instant;
use crate::tcp::congestion::window::{AckSample, CongestionWindow};

/// An algorithm, with what it remembers beside the window.
pub(super) trait Algorithm {
    /// New octets were acknowledged, outside of fast recovery; after a timeout also inside of recovery.
    fn on_ack(&mut self, window: &mut CongestionWindow, ack: &AckSample);

    /// A loss was found without a timeout while `flight` octets were in flight, without what limited transmit added
    /// (RFC5681-3.2.2): the threshold comes down and is returned, the window is set to it.
    fn on_congestion_event(&mut self, window: &mut CongestionWindow, now: Instant, flight: u32) -> u32;

    /// The retransmission timer fired with `flight` octets outstanding; `first` when the segment at SND.UNA was not
    /// resent by the timer before (RFC5681-3.1i, 3.1j).
    fn on_rto(&mut self, window: &mut CongestionWindow, now: Instant, flight: u32, first: bool);

    /// The loss was none: what it remembers is again what `saved` does (RFC9438-4.9); the rounds of a first slow start
    /// begin anew.
    fn undo(&mut self, saved: &Self);

    /// Nothing was sent for an RTO, and the window is already what it begins again with (RFC5681-4.1).
    fn on_idle_restart(&mut self, window: &CongestionWindow);
}
