//! smoltcp 0.12.

use trust::tcp::State::{CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, SynReceived, TimeWait};
use trust::wire::tcp::Flags;

use super::super::script::Step;
use super::{Class, Difference, RECEIVE, contradicted_fin, keep_alive};

const ACK: Flags = Flags::ACK;
const FIN: Flags = Flags::ACK.union(Flags::FIN);
const SYN: Flags = Flags::SYN;
const SYN_ACK: Flags = Flags::SYN.union(Flags::ACK);
const RST: Flags = Flags::RST;
const RST_ACK: Flags = Flags::RST.union(Flags::ACK);

fn stale(difference: &Difference) -> bool {
    difference.script.timestamps && difference.sent.is_some_and(|sent| sent.segment.stale)
}

pub(super) const CLASSES: &[Class] = &[
    Class {
        name: "an ACK that is too old",
        facts: &["acks+"],
        parted: false,
        when: |d| {
            !d.state(&[SynReceived])
                && d.sends(&[ACK, FIN, SYN_ACK], |sent| sent.ack < d.story.una && !d.good_ack(sent))
        },
        at: "SEG.ACK older than the first octet or MAX.SND.WND",
        ours: "a limited ACK",
        theirs: "silence",
        why: "SM-ACK-2, MAY-12 (RFC5961-5.2): the same, but an answer lets a peer that has lost its state find out",
    },
    Class {
        name: "data with a late ACK",
        facts: &["acks+", "acked+ acks+ read+", "acked+ acks+ end+", "acked+ acks+ read+ end+", "acked+ acks+"],
        parted: true,
        when: |d| {
            !d.state(&[SynReceived])
                && d.sends(&[ACK, FIN], |sent| sent.ack < d.story.una && d.good_ack(sent) && sent.len() > 0)
        },
        at: "data or a FIN with SEG.ACK below SND.UNA, in the range of RFC5961-5.2",
        ours: "takes them",
        theirs: "drops them in silence: an ACK is to be for something unacknowledged",
        why: "SM-ACK-4: the ACK is old, the text is not. Segments overtake each other",
    },
    Class {
        name: "a second answer within a second",
        facts: &["acks+"],
        parted: false,
        when: |d| {
            d.theirs_before.acks
                && d.sends(&[ACK, FIN, SYN_ACK], |sent| {
                    sent.seq + sent.len() <= d.next() || sent.seq >= d.next() + RECEIVE || sent.ack > d.before.sent
                })
        },
        at: "a segment that is not acceptable, 0.6 s after another ACK",
        ours: "ACK",
        theirs: "silence: its limit is one a second, also for data that came again",
        why: "SM-GEN-7, RFC5961-7a: the limit is 0.5 s, and duplicates of data are answered at once, as an ACK may have been lost",
    },
    Class {
        name: "SYN in a synchronized state",
        facts: &["acks+"],
        parted: false,
        when: |d| d.sends(&[SYN, SYN_ACK], |_| true),
        at: "a SYN, or a SYN-ACK in the window",
        ours: "challenge ACK",
        theirs: "silence",
        why: "SM-SYN-1 (RFC5961-4.2): a peer that has restarted answers the challenge, and can connect again",
    },
    Class {
        name: "RST outside the window",
        facts: &["acks-"],
        parted: false,
        when: |d| d.sends(&[RST, RST_ACK], |sent| sent.seq < d.next() || sent.seq >= d.next() + RECEIVE),
        at: "a RST outside the window",
        ours: "nothing",
        theirs: "an ACK",
        why: "SM-RST-1, SM-SEQ-7",
    },
    Class {
        name: "RST in the window beside RCV.NXT",
        facts: &["acks+ error-", "acks+"],
        parted: true,
        when: |d| d.sends(&[RST, RST_ACK], |sent| sent.seq > d.next() && sent.seq < d.next() + RECEIVE),
        at: "a RST in the window, but not at RCV.NXT",
        ours: "challenge ACK",
        theirs: "the connection is reset",
        why: "SM-RST-3 (RFC5961-3.2): who does not see the connection is not to end it",
    },
    Class {
        name: "FIN out of order",
        facts: &["acks+"],
        parted: true,
        when: |d| d.sends(&[FIN], |sent| sent.segment.len == 0 && sent.seq > d.next() && sent.seq < d.next() + RECEIVE),
        at: "a FIN alone behind a gap",
        ours: "ACK, and the FIN is kept",
        theirs: "ignores it",
        why: "SM-EST-2, SC-26: it counts when the gap is filled, and the ACK tells of the gap",
    },
    Class {
        name: "a FIN that was kept",
        facts: &["acked+ end+"],
        parted: true,
        when: |d| {
            d.state(&[Established, FinWait1, FinWait2])
                && d.story.held_fins.iter().any(|fin| *fin + 1 == d.ours.acked)
                && d.sends(&[ACK, FIN], |_| true)
        },
        at: "a FIN came with data behind a gap, and the gap is filled",
        ours: "all of it, and the end of the stream",
        theirs: "the data only: the FIN is to come again",
        why: "SM-EST-2",
    },
    Class {
        name: "contradicted FIN",
        facts: &["acked- read- end+"],
        parted: true,
        when: |d| d.state(&[Established, FinWait1, FinWait2]) && d.sends(&[ACK, FIN], |_| true) && contradicted_fin(d),
        at: "a FIN out of order, and octets behind it",
        ours: "the FIN stays where it is, and what is behind it is cut off",
        theirs: "has ignored the FIN",
        why: "SM-EST-2, SM-CW-2: there is nothing behind the FIN",
    },
    Class {
        name: "FIN below data that is held",
        facts: &["acked- end-", "acked- acks- end-", "acked- acks-"],
        parted: true,
        when: |d| {
            d.sends(&[FIN], |sent| {
                sent.seq <= d.next() && sent.end() >= d.next() && d.story.held.iter().any(|(_, end)| *end > sent.end())
            })
        },
        at: "a FIN in order whose number is below that of data held out of order",
        ours: "takes the data as proof that the FIN is wrong",
        theirs: "takes the FIN",
        why: "SM-EST-2: octets of the stream are not given up for a flag that contradicts them",
    },
    Class {
        name: "data behind the peer's FIN",
        facts: &[
            "acked-",
            "acks+",
            "acks-",
            "reset+ acks-",
            "acked- acks-",
            "acked- acks+",
            "reset+",
            "sent+ fin+ acks+",
        ],
        parted: true,
        when: |d| {
            (d.state(&[CloseWait, Closing, LastAck, TimeWait])
                && d.sends(&[ACK, FIN], |sent| sent.seq + sent.len() > d.next()))
                // Its ACK of our FIN was the last one for us.
                || (d.state(&[Closed]) && !d.story.held_fins.is_empty())
        },
        at: "data or another FIN behind the peer's FIN",
        ours: "a limited ACK of the FIN",
        theirs: "takes and acknowledges data in CLOSE-WAIT; ignores a segment with another FIN and its ACK",
        why: "SM-CW-2: there is nothing behind the FIN",
    },
    Class {
        name: "data that nobody reads",
        facts: &["acked- reset+ acks-", "reset+ acks-", "reset+", "acked- sent- fin- reset+", "acked- reset+"],
        parted: true,
        when: |d| {
            d.state(&[Established, FinWait1, FinWait2])
                && d.story.closed
                && d.sends(&[ACK, FIN], |sent| sent.end() > d.next())
        },
        at: "new data after the application has closed both directions",
        ours: "RST",
        theirs: "acknowledges them: it knows no other close than that of one direction",
        why: "SHLD-3, KP-16: the peer is told that what it sends is lost",
    },
    Class {
        name: "old timestamp",
        facts: &[
            "acks+",
            "acked- read-",
            "acked- accepted- read-",
            "acks+ accepted-",
            "acked-",
            "sent- acks+",
            "acked- sent- acks+ read-",
        ],
        parted: true,
        when: stale,
        at: "TSval older than TS.Recent",
        ours: "ACK, and the segment is dropped",
        theirs: "takes it: it sends timestamps, but does not look at them",
        why: "RFC7323-5.3a: PAWS",
    },
    Class {
        name: "after an old timestamp",
        facts: &["reset-", "acked+ acks+ read+"],
        parted: true,
        when: |d| d.story.stale,
        at: "after such a segment",
        ours: "its ACK has not counted",
        theirs: "it has, and may have ended the connection",
        why: "as above",
    },
    Class {
        name: "a fifth gap",
        facts: &["acks+"],
        parted: true,
        when: |d| d.story.held.len() >= 4 && d.sends(&[ACK, FIN], |sent| sent.segment.len > 0 && sent.seq > d.next()),
        at: "data out of order with gaps before it, more than four in all",
        ours: "kept, as far as memory and the window allow",
        theirs: "dropped in silence: it remembers four gaps",
        why: "RFC5681-4.2c: what is out of order is acknowledged at once",
    },
    Class {
        name: "SYN in TIME-WAIT",
        facts: &["again+"],
        parted: true,
        when: |d| d.state(&[TimeWait]) && d.sends(&[SYN], |_| true),
        at: "TIME-WAIT: a newer SYN",
        ours: "begins another connection",
        theirs: "silence",
        why: "SM-TW-5a, SM-TW-5e (RFC 6191, MAY-2)",
    },
    Class {
        name: "window of a segment that was overtaken",
        facts: &["sent+"],
        parted: true,
        when: |d| d.story.overtaken,
        at: "the last segment with the same SEG.ACK has another window, but a lower SEG.SEQ than one before",
        ours: "the window of the highest SEG.SEQ",
        theirs: "the window of whatever came last",
        why: "SM-ACK-6: SND.WL1 and SND.WL2",
    },
    Class {
        name: "part of a segment",
        facts: &["sent-"],
        parted: true,
        when: |d| {
            matches!(d.step, Step::Write(len)
                if d.story.una + d.story.window < 1 + d.story.written + i64::from(*len))
        },
        at: "a write, of which more than the window lets through, and the rest is less than a segment",
        ours: "waits for the window, 1 s at most",
        theirs: "sends the part",
        why: "SHLD-7, MUST-38 (RFC 9293 3.8.6.2.1): avoidance of the silly window syndrome",
    },
    Class {
        name: "a port without a listener",
        facts: &["reset-", "reset- again+"],
        parted: true,
        when: |d| d.state(&[Closed]) && d.sent.is_some_and(|sent| !sent.has(ACK)),
        at: "the connection has ended: a SYN, or a segment without SYN and ACK",
        ours: "the listener is still there: another connection, or nothing (SM-LIS-5)",
        theirs: "a socket listens for one connection only: RST",
        why: "RFC 9293 3.10.7.2 and 3.10.7.1: LISTEN and CLOSED",
    },
    Class {
        name: "RST in TIME-WAIT",
        facts: &["reset- acks+", "reset-"],
        parted: true,
        when: |d| d.story.late_resets.iter().any(|at| (0..RECEIVE).contains(at)),
        at: "TIME-WAIT, after a RST in the window",
        ours: "still in TIME-WAIT",
        theirs: "the wait is over: a RST to whatever comes",
        why: "SM-TW-4 (RFC 1337 F1): a late RST must not end the wait",
    },
    Class {
        name: "ACK in TIME-WAIT",
        facts: &["acks+"],
        parted: false,
        when: |d| {
            d.state(&[TimeWait])
                && d.sends(&[ACK], |sent| sent.len() == 0 && sent.seq == d.next() && sent.ack != d.before.sent)
        },
        at: "TIME-WAIT: a bare ACK of RCV.NXT with another SEG.ACK than SND.NXT",
        ours: "a limited ACK",
        theirs: "silence",
        why: "SM-TW-2: whoever sends it does not have what was said last. Only the exact one could be answered without end",
    },
    Class {
        name: "ACK of a keep-alive",
        facts: &["sent+", "sent+ fin+"],
        parted: true,
        when: |d| keep_alive(d),
        at: "a segment without data at RCV.NXT-1 that acknowledges something",
        ours: "its ACK counts",
        theirs: "answers it, and does not look at its ACK",
        why: "SM-SEQ-5: keep-alives are the last that a peer says for hours",
    },
    Class {
        name: "after a slow handshake",
        facts: &["sent-"],
        parted: true,
        when: |d| d.story.opening > 0 && matches!(d.step, Step::Write(_)),
        at: "the SYN-ACK was sent twice before it was acknowledged",
        ours: "an initial window of one segment",
        theirs: "has no congestion window unless asked",
        why: "RFC5681-3.1c, RFC6928-2b",
    },
    Class {
        name: "an ACK alone or with data",
        facts: &["acks+", "acks-"],
        parted: false,
        when: |d| {
            d.state(&[Established, CloseWait, FinWait1])
                && d.sends(&[ACK, FIN], |sent| sent.len() > 0 && d.good_ack(sent) && sent.ack < d.before.sent)
        },
        at: "data arrive, and at the same time data are sent again",
        ours: "either",
        theirs: "either",
        why: "RFC5681-4.2c: an ACK may go with data",
    },
    Class {
        name: "after a timeout",
        facts: &["sent-", "sent- fin-"],
        parted: true,
        when: |d| d.story.waited >= 1,
        at: "data has been on its way for 1.2 s or more without an ACK",
        ours: "sends as far as the congestion window of its recovery goes",
        theirs: "has no congestion window unless asked",
        why: "RFC 5681, 5682, 6298, 8985: compared in tests/goodput. What is compared here must not depend on it",
    },
];
