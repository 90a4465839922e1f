//! Bugs that other stacks had, each under the number of its report.

use trust::tcp::{BufferLimits, CloseReason, Config, State};
use trust::wire::tcp::Flags;

use super::harness::{Host, each_isn, plain, with_buffer};

/// The reader drains a full buffer; without an update the peer waits for ever.
#[test]
fn smoltcp_199_draining_a_full_buffer_sends_a_window_update() {
    each_isn(|isn| {
        let mut host = Host::established(isn, with_buffer(3_000));
        for at in [1, 1_001, 2_001] {
            host.inject(&format!("A {at}:{} ack 1", at + 1_000));
            host.take_all();
        }
        host.advance(200);
        let closed = host.take_all();
        assert!(closed.last().is_none_or(|sent| sent.script.win == Some(0)));
        host.read(3_000);
        host.expect("A 1:1 ack 3001 win 3000");
    });
}

/// A delayed ACK is pending when the window opens: the update must not wait for it.
#[test]
fn smoltcp_935_a_pending_ack_does_not_hold_back_a_window_update() {
    each_isn(|isn| {
        let mut host = Host::established(isn, with_buffer(3_000));
        host.inject("A 1:1001 ack 1");
        host.inject("A 1001:2001 ack 1");
        host.take_all();
        host.inject("A 2001:3001 ack 1");
        host.take_all();
        host.read(3_000);
        host.expect("A 1:1 ack 3001 win 3000");
    });
}

/// ACKs that acknowledge nothing must not keep the retransmission timer from firing.
#[test]
fn smoltcp_62_acks_of_nothing_do_not_restart_the_timer() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.write(1_000);
        let start = host.expect("A 1:1001").at;
        let mut again = None;
        for step in 0..60 {
            host.advance(50);
            again = again.or(host.take_all().iter().find(|sent| sent.script.len > 0).map(|sent| sent.at));
            if again.is_some() {
                break;
            }
            // Data from the peer and window updates, none of which acknowledges anything.
            host.inject(&format!("A {}:{} ack 1 win {}", 1 + step * 10, 11 + step * 10, 60_000 + step));
            host.take_all();
        }
        let waited = again.map(|at| (at - start).as_millis());
        assert!(waited.is_some_and(|waited| waited <= 1_050), "{waited:?}");
    });
}

/// smoltcp#500 likewise. Sizes around powers of two must not make us offer more than the buffer, or a useless shift.
#[test]
fn smoltcp_253_500_window_scale_at_the_edges() {
    for octets in [65_535, 65_536, 65_537, 131_070, 131_071, 131_072, 1 << 20, (1 << 20) + 1] {
        each_isn(|isn| {
            let config = Config { recv_buffer: BufferLimits { initial: octets, max: octets }, ..plain() };
            let mut host = Host::listen(isn, config);
            host.inject("S 0:0 <mss 1000, ws 0>");
            let options = host.take().script.options.unwrap();
            let shift = options.window_scale.unwrap_or(0);
            assert!(octets >> shift <= 65_535, "{octets} does not fit shift {shift}");
            assert!(shift == 0 || octets >> (shift - 1) > 65_535, "{octets} needs no shift of {shift}");
            host.inject("A 1:1 ack 1");
            host.write(10);
            let window = u32::from(host.take().script.win.unwrap()) << shift;
            assert!(window <= octets && window > octets - 1_000, "{octets}: offered {window}");
        });
    }
}

/// A peer whose whole window is three octets must still be served.
#[test]
fn gvisor_1398_a_tiny_window_makes_progress() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 win 3 <mss 1000>", "A 1:1 ack 1 win 3");
        host.write(30);
        let mut ack = 1;
        for _ in 0..200 {
            host.advance(100);
            for sent in host.take_all() {
                assert!(sent.script.len <= 3);
                ack = ack.max(sent.script.seq + i64::from(sent.script.len));
            }
            host.inject(&format!("A 1:1 ack {ack} win 3"));
        }
        host.take_all();
        assert_eq!(ack, 31);
        assert_eq!(host.unacked(), 0);
    });
}

/// The application closes while the peer's window is shut and then never hears of the peer again.
#[test]
fn gvisor_13393_a_fin_behind_a_zero_window_ends() {
    for queued in [0, 5_000] {
        each_isn(|isn| {
            let mut host = Host::established(isn, plain());
            host.inject("A 1:1 ack 1 win 0");
            if queued > 0 {
                host.write(queued);
            }
            host.shutdown();
            assert_ne!(host.state(), Some(State::Established));
            let start = host.now();
            while host.state() != Some(State::Closed) {
                host.advance(1_000);
                host.take_all();
                assert!((host.now() - start).as_secs() < 3_000, "never ends");
            }
            host.assert_closed(CloseReason::TimedOut);
        });
    }
}

#[test]
fn sm_fw1_5_the_fin_passes_a_zero_window_and_is_acknowledged() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("A 1:1 ack 1 win 0");
        host.shutdown();
        let mut seen = false;
        for _ in 0..100 {
            host.advance(100);
            seen |= host.take_all().iter().any(|sent| sent.script.flags.contains(Flags::FIN));
        }
        assert!(seen, "a FIN needs no window: it is the probe");
        host.inject("A 1:1 ack 2 win 0");
        host.assert_state(State::FinWait2);
    });
}

#[test]
fn sm_fw1_5_data_and_fin_flow_when_the_window_opens() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        host.inject("A 1:1 ack 1 win 0");
        host.write(1_500);
        host.shutdown();
        host.expect_nothing();
        host.inject("A 1:1 ack 1 win 5000");
        let last = host.take_all().last().unwrap().script.clone();
        assert!(last.flags.contains(Flags::FIN));
        assert_eq!(last.seq + i64::from(last.len), 1_501);
    });
}

/// A carrier strips every option off the SYN-ACK.
#[test]
fn smoltcp_1160_options_stripped_on_the_way() {
    each_isn(|isn| {
        let mut host = Host::connect(isn, Config::default());
        host.take();
        host.inject("SA 0:0 ack 1 win 20000");
        host.expect("A 1:1 ack 1 <>");
        host.write(1_000);
        host.expect("A 1:537 <>");
        host.expect("PA 537:1001 <>");
        host.inject("PA 1:101 ack 1001 win 20000");
        host.take_all();
        host.inject("PA 301:401 ack 1001 win 20000");
        for sent in host.take_all() {
            assert!(sent.script.options.unwrap().sack.is_empty());
        }
    });
}

/// One loss must not cost the segments behind it.
#[test]
fn mbed_os_6882_one_loss_costs_one_segment() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        for at in (1_001..20_001).step_by(1_000) {
            host.inject(&format!("A {at}:{} ack 1", at + 1_000));
            host.take_all();
        }
        host.inject("A 1:1001 ack 1");
        host.expect("A 1:1 ack 20001");
        assert_eq!(host.readable(), 20_000);
    });
}

/// The end of the stream is told once, however often the FIN comes (checked by the host on every segment).
#[test]
fn podman_23686_end_of_stream_is_told_once() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        for _ in 0..5 {
            host.inject("FA 1:1 ack 1");
            host.take_all();
            host.advance(1_000);
        }
        assert!(host.at_eof());
        host.assert_state(State::CloseWait);
    });
}

/// The window of the peer in the SYN is the one to begin with, whatever another connection had.
#[test]
fn smoltcp_518_each_connection_has_its_own_window() {
    each_isn(|isn| {
        for window in [2_000_u32, 500, 4_000] {
            let mut host = Host::established_with(
                isn,
                plain(),
                &format!("S 0:0 win {window} <mss 1000>"),
                &format!("A 1:1 ack 1 win {window}"),
            );
            host.write(10_000);
            let sent: u32 = host.take_all().iter().map(|sent| sent.script.len).sum();
            assert_eq!(sent, window);
        }
    });
}

/// A peer answers with data, then the ACK of our data comes alone: both directions go on without a stall.
#[test]
fn crossing_data_does_not_stall_either_side() {
    each_isn(|isn| {
        let mut host = Host::established(isn, plain());
        for round in 0..50_i64 {
            host.write(1_000);
            host.take_all();
            let (seq, ack) = (1 + round * 700, 1 + (round + 1) * 1_000);
            host.inject(&format!("PA {seq}:{} ack {ack}", seq + 700));
            host.read(700);
            host.take_all();
            assert_eq!(host.unacked(), 0);
        }
    });
}

/// smoltcp#1026 likewise. The segment that opened the window was lost: a probe finds out.
#[test]
fn smoltcp_1025_1026_a_lost_window_update_is_found_out() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 win 2000 <mss 1000>", "A 1:1 ack 1 win 2000");
        host.write(5_000);
        host.expect_data(1, 2_001, 1_000);
        host.inject("A 1:1 ack 2001 win 0");
        host.expect_nothing();
        host.expect_after(200, 1_100, "A 2000:2000 ack 1");
        host.inject("A 1:1 ack 2001 win 4000");
        host.expect_data(2_001, 5_001, 1_000);
        host.expect_nothing();
    });
}

/// Pure ACKs of a peer that leaves timestamps out of them are dropped by default; the data they acknowledged is sent
/// again, and one segment with timestamps heals it. Nothing hangs, nothing is reset.
#[test]
fn gvisor_11536_acks_without_timestamps_do_not_end_the_connection() {
    each_isn(|isn| {
        let mut host = Host::established_with(isn, plain(), "S 0:0 <mss 1000, ts 100 0>", "A 1:1 ack 1 <ts 100 *>");
        host.write(500);
        host.expect("PA 1:501");
        host.inject("A 1:1 ack 501");
        host.expect_nothing();
        assert_eq!(host.unacked(), 500);
        host.expect_after(200, 1_100, "PA 1:501");
        host.inject("A 1:1 ack 501 <ts 101 *>");
        assert_eq!(host.unacked(), 0);
        host.assert_state(State::Established);
    });
}
