//! What ICMP says of the path: SC-71, SC-72.

use super::harness::{Host, each_isn, plain};
use trust::tcp::{CloseReason, Heeded, State};
use trust::wire::icmp::{Report, Unreachable};

fn too_big(mtu: u32) -> Report {
    Report::TooBig(mtu)
}

/// The state E with segments of 1,000 octets, all of which are cut by a smaller path.
#[test]
fn sc_71_too_big_true_and_forged() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(10_000);
        host.expect_data(1, 10_001, 1_000);
        let cwnd = host.info().cwnd;
        for (seq, mtu, heeded) in [
            (10_001, 840, Heeded::NotInFlight),
            (0, 840, Heeded::NotInFlight),
            (1, 60, Heeded::Absurd),
            (1, 1_500, Heeded::Absurd),
        ] {
            assert_eq!(host.icmp(seq, too_big(mtu)), Some(heeded), "{seq} {mtu}");
            host.expect_nothing();
        }
        // Nothing so large was ever acknowledged: at once, the same octets in smaller segments.
        assert_eq!(host.icmp(1, too_big(840)), Some(Heeded::Smaller));
        host.expect_data(1, 8_001, 800);
        host.expect_nothing();
        let info = host.info();
        assert_eq!((info.cwnd, info.mss, info.path_mtu), (cwnd / 1_000 * 800, 800, Some(840)), "as many segments");
        // The rest of the burst that was too large.
        for seq in [1_001, 2_001, 9_001] {
            assert_eq!(host.icmp(seq, too_big(840)), Some(Heeded::Absurd), "RFC1191-6.4b");
            host.expect_nothing();
        }
        host.inject("A 1:1 ack 8001");
        let sent = host.take_all();
        assert!(sent.iter().all(|sent| sent.script.len <= 800), "{sent:?}");
        assert_eq!((sent[0].script.seq, host.sent_upto()), (8_001, 10_001));
        host.inject("A 1:1 ack 10001");
        let info = host.info();
        assert_eq!((info.timeouts, info.ssthresh), (0, u32::MAX));
    });
}

/// ICMP-8: as large ones have arrived, there must be a timeout.
#[test]
fn sc_71_icmp_8_after_larger_ones_were_acknowledged_only_with_a_timeout() {
    for forged in [false, true] {
        each_isn(|isn| {
            let mut host = Host::established(isn, plain());
            host.send_and_ack(5_000);
            host.write(3_000);
            host.expect_data(5_001, 8_001, 1_000);
            assert_eq!(host.icmp(5_001, too_big(552)), Some(Heeded::Pending));
            host.expect_nothing();
            if forged {
                host.inject("A 1:1 ack 8001");
                host.write(2_000);
                host.expect_data(8_001, 10_001, 1_000);
                host.expect_after(200, 3_100, "A 8001:9001");
            } else {
                host.expect_after(200, 3_100, "A 5001:5513");
            }
            host.take_all();
        });
    }
}

#[test]
fn sc_72_icmp_3_icmp_5_an_open_ends_at_once() {
    use Unreachable::{Host as NoHost, Network, Port, Prohibited, Protocol};
    for (why, reason) in [
        (Port, CloseReason::Refused),
        (Protocol, CloseReason::Unreachable(Protocol)),
        (Prohibited, CloseReason::Unreachable(Prohibited)),
        (NoHost, CloseReason::Unreachable(NoHost)),
        (Network, CloseReason::Unreachable(Network)),
    ] {
        each_isn(|isn| {
            let mut host = Host::connect(isn, plain());
            host.take();
            for seq in [-1, 1, 70_000] {
                assert_eq!(host.icmp(seq, Report::Unreachable(why)), None, "ICMP-2");
                host.assert_state(State::SynSent);
            }
            host.icmp(0, too_big(576));
            host.assert_state(State::SynSent);
            assert_eq!(host.icmp(0, Report::Unreachable(why)), Some(Heeded::Noted));
            host.assert_closed(reason);
            host.expect_nothing();
        });
    }
}

/// RFC 5927, MUST-56: in a synchronized state it is noted.
#[test]
fn sc_72_icmp_4_what_works_goes_on() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(1_000);
        host.expect("A 1:1001");
        for why in [Unreachable::Port, Unreachable::Protocol, Unreachable::Host] {
            assert_eq!(host.icmp(1, Report::Unreachable(why)), Some(Heeded::Noted));
            assert_eq!(host.info().soft_error, Some(why));
            assert_eq!(host.icmp(1_001, Report::Unreachable(why)), Some(Heeded::NotInFlight));
        }
        host.expect_nothing();
        host.inject("A 1:1 ack 1001");
        host.assert_state(State::Established);
    });
}
