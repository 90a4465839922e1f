//! Linux: 6.18.

use trust::tcp::State::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynReceived, TimeWait};
use trust::wire::tcp::Flags;

use super::super::script::{MSS, Step};
use super::{Class, Difference, RECEIVE, contradicted_fin, keep_alive};

const ACK: Flags = Flags::ACK;
const FIN: Flags = Flags::ACK.union(Flags::FIN);
const SYN: Flags = Flags::SYN;
const SYN_ACK: Flags = Flags::SYN.union(Flags::ACK);

/// The kernel keeps a small record in the place of a connection that its application has closed.
fn small_record(difference: &Difference) -> bool {
    difference.state(&[FinWait2]) && difference.story.closed
}

/// Something is to be sent in this step, or an ACK lets it.
fn sending(difference: &Difference) -> bool {
    !difference.sends(&[SYN, SYN_ACK], |_| true)
}

pub(super) const CLASSES: &[Class] = &[
    Class {
        name: "data behind the peer's FIN",
        facts: &["acks+"],
        parted: false,
        when: |d| {
            d.state(&[CloseWait, Closing, LastAck])
                && d.sends(&[ACK, FIN], |sent| sent.seq >= d.next() && sent.len() > 0 && d.good_ack(sent))
        },
        at: "CLOSE-WAIT, CLOSING, LAST-ACK: data or a FIN that begin at RCV.NXT or behind it",
        ours: "a limited ACK",
        theirs: "silence",
        why: "SM-CW-2, SM-GEN-7: a peer that is mistaken about its own stream finds out",
    },
    Class {
        name: "data across the peer's FIN",
        facts: &["reset- acks+"],
        parted: true,
        when: |d| {
            d.state(&[CloseWait, Closing, LastAck])
                && d.sends(&[ACK, FIN], |sent| sent.seq < d.next() && sent.end() > d.next() && d.good_ack(sent))
        },
        at: "CLOSE-WAIT, CLOSING, LAST-ACK: data that begin before the number of the FIN and end behind it",
        ours: "a limited ACK",
        theirs: "RST: to it, this is data for a reader that has gone",
        why: "SM-CW-2: incoming text is ignored. The application may still be sending",
    },
    Class {
        name: "ACK of a duplicate that ends at RCV.NXT",
        facts: &["acks+", "sent- acks+", "sent- fin- acks+"],
        parted: true,
        when: |d| {
            let ends = d.state(&[FinWait1, Closing, LastAck]) && d.sent.is_some_and(|sent| sent.ack == d.before.sent);
            (ends || d.ours.sent < d.theirs.sent)
                && d.sends(&[ACK, FIN], |sent| {
                    sent.len() > 0 && sent.seq + sent.len() == d.next() && sent.ack > d.story.una
                })
        },
        at: "a duplicate up to RCV.NXT that acknowledges something, as our FIN in FIN-WAIT-1, CLOSING, LAST-ACK",
        ours: "an ACK, and nothing of the segment counts",
        theirs: "takes the ACK field, and answers nothing where that ends the connection or lets it wait",
        why: "SM-SEQ-7 (RFC 9293 3.10.7.4): not acceptable. It came again since our ACK was lost (SM-GEN-7)",
    },
    Class {
        name: "what a duplicate acknowledged",
        facts: &["sent-", "sent- fin-", "acks+", "acks-"],
        parted: true,
        when: |d| {
            let fin = d.before.fin && d.story.lax_una == d.before.sent;
            d.story.lax_una > d.story.una && sending(d) && (d.ours.sent < d.theirs.sent || fin)
        },
        at: "after such a duplicate, before an acceptable segment with the same ACK",
        ours: "what is on its way is still unacknowledged, bounds what is sent, and a FIN keeps us from FIN-WAIT-2",
        theirs: "sends on, and is in the next state",
        why: "as above",
    },
    Class {
        name: "ACK of a keep-alive",
        facts: &["sent+", "acks+"],
        parted: true,
        when: |d| {
            (d.story.strict_una < d.story.una || keep_alive(d))
                && (d.ours.sent > d.theirs.sent || d.state(&[FinWait2, TimeWait]))
        },
        at: "a segment without data at RCV.NXT-1 that acknowledges something, and then",
        ours: "its ACK counts",
        theirs: "answers it, and does not look at its ACK",
        why: "SM-SEQ-5: keep-alives are the last that a peer says for hours",
    },
    Class {
        name: "FIN below data that is held",
        facts: &["acked- end-", "acked- acks- end-", "acked+ read+ end-", "acked- acks-"],
        parted: true,
        when: |d| {
            d.state(&[Established, FinWait1, FinWait2])
                && d.sends(&[FIN], |sent| {
                    sent.seq <= d.next()
                        && sent.end() >= d.next()
                        && d.good_ack(sent)
                        && d.story.held.iter().any(|(_, end)| *end > sent.end())
                })
        },
        at: "a FIN in order whose number is below that of data held out of order",
        ours: "takes the data as proof that the FIN is wrong",
        theirs: "takes the FIN and forgets the data",
        why: "SM-EST-2: octets of the stream are not given up for a flag that contradicts them",
    },
    Class {
        name: "contradicted FIN",
        facts: &["acked- read- end+", "acked- end-", "acked- read-", "acked+ read+", "acked+ read+ end-"],
        parted: true,
        when: |d| d.state(&[Established, FinWait1, FinWait2]) && d.sends(&[ACK, FIN], |_| true) && contradicted_fin(d),
        at: "a FIN out of order, and octets or another FIN behind it",
        ours: "the first FIN stays where it is, and what is behind it is cut off",
        theirs: "what comes later may replace the FIN by data",
        why: "SM-EST-2, SM-CW-2: there is nothing behind the FIN, and the first copy of anything counts",
    },
    Class {
        name: "data with an ACK of what was never sent",
        facts: &["acked- read-"],
        parted: true,
        when: |d| {
            d.state(&[Established])
                && d.sends(&[ACK], |sent| {
                    sent.seq == d.next() && sent.segment.len > 0 && sent.ack < d.story.una && !d.good_ack(sent)
                })
        },
        at: "ESTABLISHED: data in order, SEG.ACK older than anything that was sent or MAX.SND.WND",
        ours: "ACK, and the segment is dropped",
        theirs: "takes the data in header prediction, which looks only for an ACK that is too new",
        why: "RFC5961-5.2, MAY-12",
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
        name: "no ACK flag in TIME-WAIT",
        facts: &["acks-"],
        parted: false,
        when: |d| d.state(&[TimeWait]) && d.sends(&[Flags::NONE], |_| true),
        at: "TIME-WAIT: a segment without ACK, SYN and RST",
        ours: "nothing",
        theirs: "an ACK",
        why: "SM-ACK-1, SM-GEN-3: it is dropped in any state",
    },
    Class {
        name: "exact RST in TIME-WAIT",
        facts: &["reset- acks+", "reset-"],
        parted: true,
        when: |d| d.story.late_resets.contains(&0),
        at: "TIME-WAIT, after a RST with the number RCV.NXT",
        ours: "still in TIME-WAIT",
        theirs: "the wait is over: a RST to whatever comes",
        why: "SM-TW-4 (RFC 1337 F1): a late RST must not end the wait",
    },
    Class {
        name: "ACK field in FIN-WAIT-2 after a close",
        facts: &["acks+", "reset- acks+"],
        parted: true,
        when: |d| small_record(d) && d.sends(&[ACK, FIN], |sent| !d.good_ack(sent)),
        at: "FIN-WAIT-2 after a close: SEG.ACK too old or too new",
        ours: "a limited ACK",
        theirs: "does not look at it: RST to data, silence to an ACK",
        why: "SM-ACK-2, SM-ACK-5, RFC5961-5.2: nobody who does not know the numbers ends a connection",
    },
    Class {
        name: "RST beside RCV.NXT in FIN-WAIT-2 after a close",
        facts: &["acks-", "acks+"],
        parted: true,
        when: |d| {
            small_record(d)
                && d.sends(&[Flags::RST, Flags::RST.union(ACK)], |sent| {
                    d.ours.acks == (d.next() + 1..d.next() + RECEIVE).contains(&sent.seq)
                })
        },
        at: "FIN-WAIT-2 after a close: a RST that is not at RCV.NXT",
        ours: "challenge ACK in the window, nothing outside",
        theirs: "ends the wait in the window, an ACK outside",
        why: "SM-RST-1, SM-RST-3 (RFC5961-3.2)",
    },
    Class {
        name: "SYN in FIN-WAIT-2 after a close",
        facts: &["reset- acks+"],
        parted: true,
        when: |d| small_record(d) && d.sends(&[SYN, SYN_ACK], |sent| sent.seq >= d.next()),
        at: "FIN-WAIT-2 after a close: a SYN at RCV.NXT or above",
        ours: "a limited ACK",
        theirs: "RST",
        why: "SM-SYN-1 (RFC5961-4.2)",
    },
    Class {
        name: "number of the RST to data that nobody reads",
        facts: &["reset~"],
        parted: true,
        when: |d| {
            d.story.closed
                && d.sends(&[ACK, FIN], |sent| d.theirs.reset == Some(sent.ack) && sent.len() > 0)
                && d.ours.reset == Some(d.before.sent)
        },
        at: "data after a close, SEG.ACK below SND.NXT",
        ours: "RST with SND.NXT",
        theirs: "RST with SEG.ACK",
        why: "RFC5961-3.2, as decided: what is on its way arrives first, and then the number is exact",
    },
    Class {
        name: "SYN in SYN-RECEIVED",
        facts: &["reset- acks+"],
        parted: true,
        when: |d| d.state(&[SynReceived]) && d.sends(&[SYN, SYN_ACK], |sent| sent.seq > 0),
        at: "SYN-RECEIVED: a SYN or SYN-ACK in the window",
        ours: "challenge ACK",
        theirs: "RST",
        why: "SM-SR-3: a blind SYN must not undo a handshake",
    },
    Class {
        name: "echo of a challenge's time",
        facts: &[
            "acks-",
            "accepted+",
            "acks- accepted+",
            "acked+ accepted+ read+",
            "acked+ accepted+ end+",
            "acked+ accepted+ read+ end+",
        ],
        parted: true,
        when: |d| !d.before.app.accepted && d.script.timestamps && d.story.challenged && d.sent.is_some(),
        at: "SYN-RECEIVED with timestamps, after a segment that was answered with an ACK: TSecr is the TSval of that ACK",
        ours: "completes the handshake",
        theirs: "takes only echoes of SYN-ACKs, and answers with an ACK",
        why: "RFC7323-4.3a: the peer echoes what it saw last. Whoever sends a forged segment could else stop the handshake",
    },
    Class {
        name: "smaller window without news",
        facts: &["sent-"],
        parted: true,
        when: |d| d.story.shrunk && sending(d),
        at: "the peer has made its window smaller in a segment with the same SEG.SEQ and SEG.ACK as before",
        ours: "sends no more than the new one",
        theirs: "sends into the old one",
        why: "SM-ACK-6: SND.WL1 and SND.WL2 may be equal",
    },
    Class {
        name: "window of less than a segment or two",
        facts: &["sent+"],
        parted: true,
        when: |d| {
            let window = d
                .sent
                .filter(|sent| sent.ack >= d.story.una)
                .map_or(d.story.window, |sent| d.story.window.min(i64::from(sent.segment.window)));
            let written = if let Step::Write(len) = d.step { i64::from(*len) } else { 0 };
            window < 2 * i64::from(MSS) && d.story.una + window < 1 + d.story.written + written
        },
        at: "the peer's window is smaller than what is to be sent and than two segments",
        ours: "the part that fits, 0.1 to 1 s later",
        theirs: "as its probe timer has it, and in pieces of half the largest window",
        why: "SHLD-7, SWS (RFC 9293 3.8.6.2.1): the override timer of SWS avoidance",
    },
    Class {
        name: "after a timeout",
        facts: &["sent+", "sent-", "sent+ fin+", "sent- fin-", "sent- acks+"],
        parted: true,
        when: |d| d.story.waited >= 1 && sending(d),
        at: "data has been on its way for 1.2 s or more without an ACK",
        ours: "sends as far as the congestion window of its recovery goes",
        theirs: "the same, with another recovery",
        why: "RFC 5681, 5682, 6298, 8985: compared in tests/goodput. What is compared here must not depend on it",
    },
    Class {
        name: "after a slow handshake",
        facts: &["sent-", "sent+"],
        parted: true,
        when: |d| d.story.opening > 0 && matches!(d.step, Step::Write(_)),
        at: "the SYN-ACK was sent twice before it was acknowledged",
        ours: "an initial window of one segment, and what probes of its tail add",
        theirs: "the same, with another round trip, as the second SYN-ACK and the ACK may have crossed",
        why: "RFC5681-3.1c, RFC6928-2b",
    },
    Class {
        name: "an ACK alone or with data",
        facts: &["acks+", "acks-"],
        parted: false,
        when: |d| {
            d.state(&[Established, CloseWait, FinWait1])
                && d.sends(&[ACK, FIN], |sent| sent.len() > 0 && d.good_ack(sent))
                && (d.ours.sent > d.before.sent || d.story.una < d.before.sent)
        },
        at: "data arrive, and at the same time data leave or are sent again",
        ours: "the ACK of a gap leaves by itself, since it is to count as a duplicate; others go with the data",
        theirs: "the ACK goes with new data, but not with what is sent again",
        why: "RFC5681-4.2c, RFC5681-3.2.0: either is allowed",
    },
];
