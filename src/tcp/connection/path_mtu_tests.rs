//! A sender and a path that does not carry all that its link does, with ICMP and without.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::tcp::connection::lab::{Lab, labs};
use crate::tcp::{CloseReason, Events};
use crate::wire::icmp::Unreachable;
use crate::wire::options::{SackBlocks, TcpOptions};
use crate::wire::tcp::Flags;

/// One way, in ms.
const WAY: u64 = 10;

/// What lies behind the sender: a path, and a peer with SACK that acknowledges at once.
struct Path {
    /// Octets of options and payload that it carries.
    carries: u32,
    /// It reports what it does not.
    icmp: bool,
    /// What has arrived, in order of numbers; relative.
    got: Vec<(u32, u32)>,
    /// Segments that were too large.
    vanished: u32,
    /// The longest time without an ACK of something new.
    longest: u64,
}

impl Path {
    fn new(carries: u32, icmp: bool) -> Self {
        Self { carries, icmp, got: vec![(0, 1)], vanished: 0, longest: 0 }
    }

    fn take(&mut self, start: u32, end: u32) {
        self.got.push((start, end));
        self.got.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (start, end) in self.got.drain(..) {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        self.got = merged;
    }

    /// Sends `octets` more and lets time pass until all of them are acknowledged. Gives the ms that took.
    fn send(&mut self, lab: &mut Lab, octets: u32) -> u64 {
        let (began, mut progress) = (lab.now, lab.now);
        lab.conn.on_send(octets);
        let until = lab.conn.acked() + u64::from(octets);
        while lab.conn.acked() < until {
            assert!((lab.now - began).as_secs() < 600, "{:?}", lab.conn.info(&lab.config, lab.now));
            let before = self.got[0].1;
            let mut out = Vec::new();
            while let Some(segment) = lab.conn.poll_transmit(&lab.config, lab.now, lab.max_len) {
                lab.conn.on_device_write(segment.end_seq());
                out.push(segment);
            }
            let (mut arrived, mut reports) = (false, Vec::new());
            for segment in out {
                let options = segment.options.wire_len() as u32;
                let cut = if segment.gso_size == 0 { segment.len } else { u32::from(segment.gso_size) };
                let first = segment.seq.above(lab.iss);
                for at in (0..segment.len).step_by(cut.max(1) as usize) {
                    let len = cut.min(segment.len - at);
                    if len + options <= self.carries {
                        self.take(first + at, first + at + len);
                        arrived = true;
                    } else {
                        self.vanished += 1;
                        reports.push(segment.seq);
                    }
                }
            }
            if arrived || !reports.is_empty() && self.icmp {
                lab.now += Duration::from_millis(2 * WAY);
            }
            for seq in reports.into_iter().filter(|_| self.icmp) {
                lab.conn.on_icmp(&lab.config, seq, Report::TooBig(self.carries + 40), lab.now);
            }
            if arrived {
                self.acknowledge(lab);
            }
            if self.got[0].1 > before {
                self.longest = self.longest.max((lab.now - progress).as_millis());
                progress = lab.now;
            }
            if !lab.conn.wants_transmit()
                && let Some(at) = lab.conn.next_timeout()
                && (!arrived || at <= lab.now)
            {
                lab.now = lab.now.max(at);
                lab.last = lab.conn.on_timeout(&lab.config, lab.now);
                assert!(!lab.last.events.contains(Events::CLOSED));
            }
        }
        (lab.now - began).as_millis()
    }

    fn acknowledge(&self, lab: &mut Lab) {
        let mut sack = SackBlocks::default();
        for (left, right) in self.got.iter().skip(1).rev().take(3) {
            sack.push((lab.iss + *left).0, (lab.iss + *right).0);
        }
        let segment = crate::tcp::Segment {
            seq: lab.irs + 1,
            ack: lab.iss + self.got[0].1,
            flags: Flags::ACK,
            window: crate::tcp::units::UnscaledWindow(65_535),
            urgent: 0,
            options: TcpOptions { sack, ..TcpOptions::default() },
            len: 0,
        };
        let context = crate::tcp::Context { now: lab.now, keep: crate::tcp::Keep::All };
        lab.last = lab.conn.on_segment(&lab.config, &segment, &context);
    }
}

/// MSS 1460, SACK, a round trip of 20 ms; with super-segments and without.
fn on_a_link(script: impl Fn(&mut Lab)) {
    labs(
        |_, opened| {
            (opened.sack, opened.rtt) = (true, Some(Duration::from_millis(2 * WAY)));
            (opened.receive_mss, opened.send_mss) = (1_460, 1_460);
        },
        |lab| {
            for max_len in [1_460, 65_000] {
                let mut lab = Lab { config: lab.config, conn: lab.conn.clone(), sack: Vec::new(), max_len, ..*lab };
                script(&mut lab);
            }
        },
    );
}

fn mtu(lab: &Lab) -> Option<u16> {
    lab.conn.info(&lab.config, lab.now).path_mtu
}

/// RFC1191-3a, RFC1191-6.4a, RFC8201-5.4: what was too large leaves again at once, and that is no congestion.
#[test]
fn sc_71_rfc1191_6_4a_a_router_that_says_so_costs_a_round_trip_and_no_window() {
    on_a_link(|lab| {
        let mut path = Path::new(1_240, true);
        path.send(lab, 200_000);
        let info = lab.conn.info(&lab.config, lab.now);
        assert_eq!(info.path_mtu, Some(1_280));
        assert_eq!((info.ssthresh, info.timeouts, info.recovery.fast_recoveries), (u32::MAX, 0, 0));
        assert_eq!(info.mss, 1_240);
        assert_eq!(path.vanished, 10, "the first window, and nothing after it");
        assert!(path.longest <= 4 * WAY, "{}", path.longest);
    });
}

/// RFC1191-6.4b, ICMP-8: a path that becomes narrow in the middle. What arrived before was as large, so that the
/// message counts once the segment has timed out.
#[test]
fn icmp_8_in_the_middle_it_is_believed_after_a_timeout() {
    on_a_link(|lab| {
        let mut path = Path::new(1_460, true);
        path.send(lab, 200_000);
        assert_eq!(mtu(lab), None);
        path.carries = 1_240;
        path.send(lab, 200_000);
        assert_eq!(mtu(lab), Some(1_280));
        assert!((200..2_000).contains(&path.longest), "{}", path.longest);
        assert_eq!(lab.conn.info(&lab.config, lab.now).timeouts, 1);
    });
}

/// RFC1191-2: our own link's MTU is changed. Nothing is lost for it, and nothing becomes larger than was agreed upon.
#[test]
fn rfc1191_2_the_mtu_of_our_link_bounds_the_segments() {
    on_a_link(|lab| {
        let mut path = Path::new(1_460, false);
        path.send(lab, 200_000);
        let follows = |lab: &mut Lab, mtu: u16| lab.conn.on_link_mtu(&lab.config, mtu, lab.now);
        assert!(!follows(lab, 1_500) && !follows(lab, 9_000) && mtu(lab).is_none(), "as it was");
        for (now, sends) in [(1_400, 1_360), (1_300, 1_260), (1_350, 1_310), (9_000, 1_460), (1_280, 1_240)] {
            assert!(follows(lab, now));
            assert!(!follows(lab, now), "that is known");
            assert_eq!(lab.conn.info(&lab.config, lab.now).mss, sends);
            // A link that carries no more: nothing larger leaves.
            path.carries = sends;
            path.send(lab, 300_000);
        }
        let info = lab.conn.info(&lab.config, lab.now);
        assert_eq!((path.vanished, info.timeouts, info.recovery.fast_recoveries), (0, 0, 0));
        // Absurdly small: never below what segments are worth.
        assert!(follows(lab, 68));
        assert_eq!(lab.conn.info(&lab.config, lab.now).mss, u32::from(lab.config.min_mss));
    });
}

/// What a router has said stays true when our own link becomes wider; more is looked for from there, and soon.
#[test]
fn rfc4821_7_4_a_wider_link_begins_the_search_anew() {
    on_a_link(|lab| {
        let mut path = Path::new(1_240, true);
        path.send(lab, 200_000);
        assert!(lab.conn.on_link_mtu(&lab.config, 1_400, lab.now));
        assert_eq!(mtu(lab), Some(1_280), "the path is narrower still");
        assert!(lab.conn.on_link_mtu(&lab.config, 1_500, lab.now));
        assert_eq!(mtu(lab), Some(1_280));
        path.carries = 1_460;
        path.send(lab, 2_000_000);
        assert_eq!(mtu(lab), Some(1_500));
    });
}

/// RFC4821-7.7, RFC4821-7.1 to 7.6.2, OPS-39: nobody says a word.
#[test]
fn rfc4821_7_7_a_black_hole_is_found_and_then_how_deep_it_is() {
    for carries in [1_240, 1_360, 1_452, 1_030, 560] {
        on_a_link(|lab| {
            let mut path = Path::new(carries, false);
            path.send(lab, 20_000);
            assert!(path.longest < 10_000, "{}", path.longest);
            let lost = path.vanished;
            let before = lab.conn.info(&lab.config, lab.now);
            // For a search of some round trips each.
            path.longest = 0;
            path.send(lab, if carries < 1_000 { 64_000_000 } else { 16_000_000 });
            let info = lab.conn.info(&lab.config, lab.now);
            assert!(info.mss <= carries && info.mss + u32::from(NEAR) > carries, "{} of {carries}", info.mss);
            assert_eq!(
                (info.timeouts, info.recovery.fast_recoveries),
                (before.timeouts, before.recovery.fast_recoveries)
            );
            assert!(info.ssthresh >= before.ssthresh, "lost probes are no congestion");
            assert!((1..=10).contains(&(path.vanished - lost)), "{} probes", path.vanished - lost);
            assert!(path.longest < 100, "nothing waits for a probe: {}", path.longest);
        });
    }
}

/// The path was away, and not narrow: the first probe is as large as ever.
#[test]
fn rfc4821_7_6_1_after_an_outage_all_is_as_before() {
    on_a_link(|lab| {
        let mut path = Path::new(0, false);
        lab.write(20_000);
        lab.pass(4_000);
        assert_eq!(mtu(lab), Some(1_064));
        path.carries = 1_460;
        path.send(lab, 100_000);
        assert_eq!((mtu(lab), path.vanished), (Some(1_500), 0));
    });
}

/// A path of which 1,240 octets are known to arrive: what leaves is a probe, and more behind it. Gives where they begin,
/// and all of them.
fn probing(lab: &mut Lab) -> (u32, Vec<String>) {
    let mut path = Path::new(1_460, false);
    path.send(lab, 50_000);
    lab.conn.lower(1_240, lab.now);
    Rare::of(&mut lab.conn.rare).path.as_mut().unwrap().next = lab.now;
    lab.max_len = 1_460;
    let sent = lab.write(12_000);
    assert!(lab.conn.is_probing_path(), "{sent:?}");
    assert_eq!(sent.iter().map(|line| octets(line)).take(4).collect::<Vec<_>>(), [1_460, 1_240, 1_240, 1_240]);
    (path.got[0].1, sent)
}

/// How many octets a line of the log says.
fn octets(line: &str) -> u32 {
    let range = line.split(' ').find(|word| word.contains(':')).unwrap();
    let (from, to) = range.split_once(':').unwrap();
    to.parse::<u32>().unwrap() - from.parse::<u32>().unwrap()
}

/// RFC4821-7.6.2: its loss alone is none of the network; its octets leave at once, as small as all others.
#[test]
fn rfc4821_7_6_2_a_probe_that_is_lost_by_itself_costs_no_window() {
    on_a_link(|lab| {
        let (first, _) = probing(lab);
        let len = 1_460;
        let before = lab.conn.info(&lab.config, lab.now);
        lab.now += Duration::from_millis(20);
        lab.sack = vec![(first + len, first + len + 4 * 1_240)];
        let again = lab.i("A", 1, 0, first);
        assert_eq!(octets(&again[0]), 1_240, "{again:?}");
        assert_eq!(octets(&again[1]), len - 1_240, "{again:?}");
        let info = lab.conn.info(&lab.config, lab.now);
        assert_eq!((info.cwnd, info.ssthresh), (before.cwnd, before.ssthresh));
        assert_eq!(info.recovery.fast_recoveries, before.recovery.fast_recoveries);
        assert!(!lab.conn.is_probing_path());
    });
}

/// Nobody can say whether it was too large, and the network has lost something.
#[test]
fn rfc4821_7_6_4_with_other_losses_a_probe_says_nothing() {
    on_a_link(|lab| {
        let (first, _) = probing(lab);
        let (len, path) = (1_460, lab.conn.rare.clone().unwrap().path.unwrap());
        let before = lab.conn.info(&lab.config, lab.now);
        lab.now += Duration::from_millis(20);
        lab.sack = vec![(first + len + 1_240, first + len + 5 * 1_240)];
        lab.i("A", 1, 0, first);
        let info = lab.conn.info(&lab.config, lab.now);
        assert_eq!(info.recovery.fast_recoveries, before.recovery.fast_recoveries + 1);
        assert!(info.ssthresh < before.cwnd);
        let now = lab.conn.rare.clone().unwrap().path.unwrap();
        assert_eq!((now.probe.is_none(), now.low, now.high), (true, path.low, path.high));
    });
}

/// A tail loss probe may send it once more, in segments that do arrive.
#[test]
fn a_probe_that_left_once_more_proves_nothing() {
    on_a_link(|lab| {
        let (first, sent) = probing(lab);
        let end = first + sent.iter().map(|line| octets(line)).sum::<u32>();
        let probe = lab.conn.rare.clone().unwrap().path.unwrap().probe.unwrap();
        lab.conn.end_probe(Some((probe.end, probe.end + 1_000)));
        assert!(lab.conn.is_probing_path(), "what lies beside it does not matter");
        lab.conn.end_probe(Some((probe.end - 1, probe.end)));
        lab.i("A", 1, 0, end);
        assert_eq!((lab.conn.is_probing_path(), mtu(lab)), (false, Some(1_280)));
    });
}

#[test]
fn rfc4821_7_6_3_a_timeout_ends_a_probe() {
    on_a_link(|lab| {
        probing(lab);
        let path = lab.conn.rare.clone().unwrap().path.unwrap();
        let before = lab.conn.info(&lab.config, lab.now).timeouts;
        lab.pass(400);
        assert_eq!(lab.conn.info(&lab.config, lab.now).timeouts, before + 1);
        let now = lab.conn.rare.clone().unwrap().path.unwrap();
        assert_eq!((now.probe.is_none(), now.low, now.high), (true, path.low, path.high));
        assert!(now.next >= lab.now + Duration::from_millis(200));
    });
}

/// RFC1191-3b, RFC8201-4c, RFC4821-7.3: ten minutes later it is tried again.
#[test]
fn rfc1191_3b_larger_segments_are_tried_again_after_ten_minutes() {
    for wider in [true, false] {
        on_a_link(|lab| {
            let mut path = Path::new(1_240, true);
            path.send(lab, 100_000);
            if wider {
                path.carries = 1_460;
            }
            lab.now += Duration::from_secs(590);
            let before = path.vanished;
            path.send(lab, 100_000);
            assert_eq!((mtu(lab), path.vanished), (Some(1_280), before), "not yet");
            lab.now += Duration::from_secs(15);
            path.send(lab, 400_000);
            assert_eq!(mtu(lab), Some(if wider { 1_500 } else { 1_280 }));
            // With a router that tells what it carries one probe is enough.
            assert_eq!(path.vanished - before, u32::from(!wider));
            let info = lab.conn.info(&lab.config, lab.now);
            assert_eq!((info.ssthresh, info.recovery.fast_recoveries), (u32::MAX, 0));
        });
    }
}

/// ICMP-2, ICMP-7, RFC8201-4a, 4b: what nobody need believe changes nothing.
#[test]
fn icmp_7_what_is_absurd_changes_nothing() {
    on_a_link(|lab| {
        lab.write(10_000);
        let (una, nxt) = (lab.iss + 1, lab.iss + 10_001);
        for (seq, mtu, expected) in [
            (una - 1, 1_400, Heeded::NotInFlight),
            (nxt, 1_400, Heeded::NotInFlight),
            (nxt + (1 << 31), 1_400, Heeded::NotInFlight),
            (una, 60, Heeded::Absurd),
            (una, 68, Heeded::Absurd),
            (una, 127, Heeded::Absurd),
            (una, 0, Heeded::Absurd),
            (una, 1_500, Heeded::Absurd),
            (una, 9_000, Heeded::Absurd),
            (una, u32::MAX, Heeded::Absurd),
        ] {
            assert_eq!(lab.conn.on_icmp(&lab.config, seq, Report::TooBig(mtu), lab.now), expected, "{seq:?} {mtu}");
            let info = lab.conn.info(&lab.config, lab.now);
            assert_eq!((info.path_mtu, info.mss, info.lost, lab.conn.wants_transmit()), (None, 1_460, 0, false));
        }
        lab.conn.over_ipv6();
        for (mtu, expected) in [(1_279, Heeded::Absurd), (1_280, Heeded::Smaller)] {
            assert_eq!(lab.conn.on_icmp(&lab.config, una, Report::TooBig(mtu), lab.now), expected, "{mtu}");
        }
        assert_eq!((mtu(lab), lab.conn.smss()), (Some(1_280), 1_220));
    });
}

/// ICMP-8: it is pending, and is forgotten when the segment arrives.
#[test]
fn icmp_8_a_message_about_a_segment_that_arrives_is_forgotten() {
    on_a_link(|lab| {
        let mut path = Path::new(1_460, false);
        path.send(lab, 50_000);
        let first = path.got[0].1;
        lab.write(3_000);
        let about = lab.iss + first;
        assert_eq!(lab.conn.on_icmp(&lab.config, about, Report::TooBig(552), lab.now), Heeded::Pending);
        assert_eq!((mtu(lab), lab.conn.smss(), lab.conn.wants_transmit()), (Some(1_500), 1_460, false));
        lab.i("A", 1, 0, first + 3_000);
        lab.write(3_000);
        assert!(!lab.pass(1_000).is_empty(), "a timeout of something else");
        assert_eq!(lab.conn.smss(), 1_460);
    });
}

/// MUST-56, SHLD-25, ICMP-4: noted, told to who asks, and the reason if the connection ends for want of answers.
#[test]
fn icmp_4_a_soft_error_is_told_when_the_connection_times_out() {
    on_a_link(|lab| {
        lab.conn.set_user_timeout(Some(Duration::from_secs(20)));
        lab.write(1_000);
        lab.pass(1_000);
        let una = lab.iss + 1;
        let host = Report::Unreachable(Unreachable::Host);
        assert_eq!(lab.conn.on_icmp(&lab.config, una, host, lab.now), Heeded::Noted);
        assert_eq!(lab.conn.info(&lab.config, lab.now).soft_error, Some(Unreachable::Host));
        assert_eq!(lab.conn.state(), State::Established);
        lab.pass(30_000);
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::Unreachable(Unreachable::Host)));
    });
    on_a_link(|lab| {
        lab.conn.set_user_timeout(Some(Duration::from_secs(20)));
        lab.write(1_000);
        let port = Report::Unreachable(Unreachable::Port);
        assert_eq!(lab.conn.on_icmp(&lab.config, lab.iss + 1, port, lab.now), Heeded::Noted);
        lab.i("A", 1, 0, 1_001);
        lab.write(1_000);
        lab.pass(30_000);
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::UserTimeout), "something arrived since");
    });
}
