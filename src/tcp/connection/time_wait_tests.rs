//! TIME-WAIT by RFC 1337 and RFC 6191.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::tcp::{Connection, Opened};
use crate::wire::options::TcpOptions;

const ISS: SeqNum = SeqNum(u32::MAX - 3);
const IRS: SeqNum = SeqNum(i32::MAX as u32 - 3);

/// A record whose peer has sent one octet and its FIN (RCV.NXT is IRS + 3 then); timestamps as given.
fn record(stamps: Option<u32>) -> (Config, TimeWait) {
    let config = Config::default();
    let opened = Opened {
        iss: ISS,
        irs: IRS + 2,
        send_window: 1000,
        window_seq: IRS,
        unscaled_rest: false,
        receive_window: 65_535,
        modest: false,
        receive_mss: 1460,
        send_mss: 1460,
        window_shifts: None,
        timestamps: stamps,
        ts_offset: 0,
        sack: false,
        rtt: None,
        syn_timeouts: 0,
        ack_due: false,
    };
    let record = Connection::new(&config, &opened, Instant::ZERO).time_wait(&config, Instant::ZERO);
    (config, record)
}

fn seg(flags: Flags, seq: u32, stamp: Option<u32>) -> Segment {
    let timestamps = stamp.map(|val| Timestamps { val, ecr: 0 });
    let options = TcpOptions { timestamps, ..TcpOptions::default() };
    Segment { seq: IRS + seq, ack: ISS + 1, flags, window: UnscaledWindow(9), urgent: 0, options, len: 0 }
}

fn reuses(stamps: Option<u32>, syn: Option<u32>, seq: u32) -> bool {
    let (config, mut record) = record(stamps);
    match record.on_segment(&config, &seg(Flags::SYN, seq, syn), Instant::ZERO) {
        TimeWaitOutcome::Reuse { iss_floor } => {
            assert!(iss_floor.gt(ISS + 1), "SM-TW-5f");
            true
        }
        TimeWaitOutcome::Ignore | TimeWaitOutcome::Reply(_) => false,
        TimeWaitOutcome::Ended => panic!("no RST came"),
    }
}

#[test]
fn sm_tw_7_the_record_is_compact() {
    assert!(size_of::<TimeWait>() <= 40, "{}", size_of::<TimeWait>());
}

#[test]
fn sc_45_46_rfc_6191_reuse() {
    const FIN: u32 = 2;
    assert!(reuses(Some(5000), Some(5001), FIN - 1));
    assert!(!reuses(Some(5000), Some(5000), FIN - 1));
    assert!(reuses(Some(5000), Some(5000), FIN + 1));
    assert!(!reuses(Some(5000), Some(4000), FIN + 1));
    assert!(reuses(Some(5000), None, FIN + 1));
    assert!(!reuses(Some(5000), None, FIN));
    assert!(reuses(None, Some(1), FIN - 1));
    assert!(reuses(None, None, FIN + 1));
    assert!(!reuses(None, None, FIN));
}

#[test]
fn sm_tw_1_a_fin_again_restarts_the_wait() {
    let (config, mut record) = record(None);
    let later = Instant::from_secs(10);
    let fin = seg(Flags::FIN | Flags::ACK, 2, None);
    assert!(matches!(record.on_segment(&config, &fin, later), TimeWaitOutcome::Reply(_)));
    assert_eq!(record.deadline(), later + Duration::from_secs(60));
    // No limit holds this answer back.
    assert!(matches!(record.on_segment(&config, &fin, later), TimeWaitOutcome::Reply(_)));
}

#[test]
fn sm_tw_2_to_4_everything_else_is_answered_seldom_or_not() {
    let (config, mut record) = record(None);
    let mut at = |flags, seq| record.on_segment(&config, &seg(flags, seq, None), Instant::from_secs(1));
    assert!(matches!(at(Flags::RST, 3), TimeWaitOutcome::Ignore), "RFC 1337");
    assert!(matches!(at(Flags::ACK, 3), TimeWaitOutcome::Ignore), "RFC 1337 H2");
    assert!(matches!(at(Flags::ACK, 90_000), TimeWaitOutcome::Reply(_)));
    assert!(matches!(at(Flags::ACK, 90_000), TimeWaitOutcome::Ignore), "SM-GEN-7");
    assert!(matches!(at(Flags::NONE, 3), TimeWaitOutcome::Ignore));
}
