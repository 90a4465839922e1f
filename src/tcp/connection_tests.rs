//! Scripted peers against one connection. Numbers are relative to the initial ones (SYN = 0, first octet = 1), and each
//! script runs at three places of the number line, so that everything wraps once.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::wire::options::{SackBlocks, TcpOptions, Timestamps};
use crate::wire::tcp::Flags;

const BASES: [(u32, u32); 3] = [(0xffff_fff0, 0x7fff_fff0), (0x7fff_f000, 0xffff_f000), (17, 0xffff_ffff)];

/// A connection, its clock, and what it has sent.
struct Lab {
    config: Config,
    conn: Connection,
    iss: SeqNum,
    irs: SeqNum,
    start: Instant,
    now: Instant,
    max_len: u32,
    sack: Vec<(u32, u32)>,
    stamps: Option<Timestamps>,
    last: Outcome,
}

/// ESTABLISHED without options, MSS 1000 and windows of 65535, ACKs delayed from the first segment on.
fn labs(setup: impl Fn(&mut Config, &mut Opened), script: impl Fn(&mut Lab)) {
    for (iss, irs) in BASES {
        let mut config = Config { quick_acks: 0, ..Config::default() };
        config.recv_buffer = BufferLimits { initial: 65_535, max: 65_535 };
        let mut opened = Opened {
            iss: SeqNum(iss),
            irs: SeqNum(irs),
            send_window: 65_535,
            window_seq: SeqNum(irs) + 1,
            unscaled_rest: false,
            receive_window: 65_535,
            receive_mss: 1_000,
            send_mss: 1_000,
            window_shifts: None,
            timestamps: None,
            ts_offset: 0,
            sack: false,
            rtt: None,
            syn_timeouts: 0,
            ack_due: false,
        };
        setup(&mut config, &mut opened);
        let start = Instant::from_secs(100);
        let conn = Connection::new(&config, &opened, start);
        let max_len = u32::from(opened.send_mss);
        let (iss, irs) = (opened.iss, opened.irs);
        let (sack, stamps, last) = (Vec::new(), None, Outcome::default());
        script(&mut Lab { config, conn, iss, irs, start, now: start, max_len, sack, stamps, last });
    }
}

fn plain(script: impl Fn(&mut Lab)) {
    labs(|_, _| {}, script);
}

fn with_sack(script: impl Fn(&mut Lab)) {
    labs(|_, opened| opened.sack = true, script);
}

impl Lab {
    fn ms(&self) -> u64 {
        (self.now - self.start).as_millis()
    }

    /// `flags seq:end ack n [win n] [sack ..]`, relative.
    fn show(&self, out: &Transmit) -> String {
        let mut text = String::new();
        for (flag, name) in
            [(Flags::SYN, 'S'), (Flags::FIN, 'F'), (Flags::RST, 'R'), (Flags::PSH, 'P'), (Flags::ACK, 'A')]
        {
            if out.flags.contains(flag) {
                text.push(name);
            }
        }
        let seq = out.seq.0.wrapping_sub(self.iss.0);
        text += &format!(" {seq}:{}", seq + out.len);
        if out.flags.contains(Flags::ACK) {
            text += &format!(" ack {}", out.ack.0.wrapping_sub(self.irs.0));
        }
        for (left, right) in out.options.sack.iter() {
            text += &format!(" <{}:{}>", left.wrapping_sub(self.irs.0), right.wrapping_sub(self.irs.0));
        }
        text
    }

    fn drain(&mut self, said: &mut Vec<String>) {
        while let Some(out) = self.conn.poll_transmit(&self.config, self.now, self.max_len) {
            self.conn.on_device_write(out.end_seq());
            said.push(self.show(&out));
        }
    }

    fn keep(&mut self, keep: Keep, flags: &str, seq: u32, len: u32, ack: u32, win: u16) -> Vec<String> {
        let mut bits = Flags::NONE;
        for letter in flags.chars() {
            bits |= match letter {
                'S' => Flags::SYN,
                'F' => Flags::FIN,
                'R' => Flags::RST,
                'P' => Flags::PSH,
                'A' => Flags::ACK,
                _ => Flags::URG,
            };
        }
        let mut blocks = SackBlocks::default();
        for (left, right) in self.sack.drain(..) {
            blocks.push((self.iss + left).0, (self.iss + right).0);
        }
        let seg = Segment {
            seq: self.irs + seq,
            ack: self.iss + ack,
            flags: bits,
            window: win,
            urgent: 5,
            options: TcpOptions { sack: blocks, timestamps: self.stamps, ..TcpOptions::default() },
            len,
        };
        let context = Context { now: self.now, keep };
        self.last = self.conn.on_segment(&self.config, &seg, &context);
        let mut said = Vec::new();
        if let Some(reply) = self.last.reply {
            said.push(self.show(&reply));
        }
        if self.last.ack_now {
            let ack = self.conn.take_ack(self.now);
            said.push(self.show(&ack));
        }
        self.drain(&mut said);
        said
    }

    /// Injects a segment with window 65535 and gives what comes out.
    fn i(&mut self, flags: &str, seq: u32, len: u32, ack: u32) -> Vec<String> {
        self.keep(Keep::All, flags, seq, len, ack, 65_535)
    }

    /// The same with a window.
    fn w(&mut self, flags: &str, seq: u32, len: u32, ack: u32, win: u16) -> Vec<String> {
        self.keep(Keep::All, flags, seq, len, ack, win)
    }

    fn write(&mut self, octets: u32) -> Vec<String> {
        self.conn.on_send(octets);
        let mut said = Vec::new();
        self.drain(&mut said);
        said
    }

    fn read(&mut self, octets: u32) -> Vec<String> {
        self.conn.on_recv(&self.config, octets, self.now);
        let mut said = Vec::new();
        self.drain(&mut said);
        said
    }

    fn shutdown(&mut self) -> Vec<String> {
        self.conn.shutdown();
        let mut said = Vec::new();
        self.drain(&mut said);
        said
    }

    fn close(&mut self) -> Vec<String> {
        let reset = self.conn.close();
        let mut said: Vec<String> = reset.iter().map(|out| self.show(out)).collect();
        self.drain(&mut said);
        said
    }

    /// Lets time pass; what leaves is prefixed by the time in ms since the start.
    fn pass(&mut self, ms: u64) -> Vec<String> {
        let until = self.now + Duration::from_millis(ms);
        let mut said = Vec::new();
        while let Some(at) = self.conn.next_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.last = self.conn.on_timeout(&self.config, self.now);
            let mut now = Vec::new();
            self.drain(&mut now);
            said.extend(now.into_iter().map(|line| format!("{} {line}", self.ms())));
        }
        self.now = until;
        said
    }
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn sc_20_to_23_old_overlapping_and_far_segments() {
    plain(|lab| {
        assert_eq!(lab.i("PA", 1, 1000, 1), none());
        assert_eq!(lab.i("PA", 1, 500, 1), ["A 1:1 ack 1001"]); // SC-20
        assert_eq!(lab.i("PA", 501, 1000, 1), ["A 1:1 ack 1501"]); // SC-21
        assert_eq!(lab.last.payload, Payload::Deliver { from: 500, to: 1000, released: 0 });
        assert_eq!(lab.i("PA", 70_000, 1000, 1), ["A 1:1 ack 1501"]); // SC-22
        assert_eq!(lab.last.payload, Payload::Ignore);
    });
    labs(
        |config, opened| {
            config.recv_buffer = BufferLimits { initial: 1_000, max: 1_000 };
            opened.receive_window = 1_000;
        },
        |lab| {
            assert_eq!(lab.i("PA", 501, 1000, 1), ["A 1:1 ack 1"]); // SC-23
            assert_eq!(lab.last.payload, Payload::Hold { from: 0, to: 500, offset: 500 });
            assert_eq!(lab.i("PA", 1, 500, 1), ["A 1:1 ack 1001"]);
            assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 500, released: 500 });
            assert_eq!(lab.conn.info(&lab.config).receive_window, 0);
        },
    );
}

#[test]
fn sc_24_25_sack_and_dsack() {
    with_sack(|lab| {
        assert_eq!(lab.i("A", 1001, 1000, 1), ["A 1:1 ack 1 <1001:2001>"]);
        assert_eq!(lab.i("A", 3001, 1000, 1), ["A 1:1 ack 1 <3001:4001> <1001:2001>"]);
        assert_eq!(lab.i("A", 1, 1000, 1), ["A 1:1 ack 2001 <3001:4001>"]);
        assert_eq!(lab.i("A", 1, 1000, 1), ["A 1:1 ack 2001 <1:1001> <3001:4001>"]);
        assert_eq!(lab.i("A", 3001, 1000, 1), ["A 1:1 ack 2001 <3001:4001> <3001:4001>"]);
        assert_eq!(lab.i("A", 5001, 1000, 1), ["A 1:1 ack 2001 <5001:6001> <3001:4001>"]);
        // Data carries the blocks, and is the shorter for them (KP-18, RFC2018-4b).
        let said = lab.write(2000);
        assert_eq!(said[0], "A 1:981 ack 2001 <5001:6001> <3001:4001>");
    });
}

#[test]
fn kp_05_what_came_early_is_not_asked_for_again() {
    plain(|lab| {
        for seq in [1001, 2001, 3001, 4001] {
            assert_eq!(lab.i("A", seq, 1000, 1), ["A 1:1 ack 1"]);
        }
        assert_eq!(lab.i("A", 1, 1000, 1), ["A 1:1 ack 5001"]);
        assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 1000, released: 4000 });
    });
}

#[test]
fn sc_26_fin_out_of_order() {
    plain(|lab| {
        assert_eq!(lab.i("FA", 1001, 0, 1), ["A 1:1 ack 1"]);
        assert!(!lab.conn.at_eof());
        assert_eq!(lab.i("PA", 1, 1000, 1), ["A 1:1 ack 1002"]);
        assert!(lab.last.events.contains(Events::EOF));
        assert_eq!(lab.conn.state(), State::CloseWait);
    });
    plain(|lab| {
        // The FIN comes with held data.
        assert_eq!(lab.i("FA", 1001, 500, 1), ["A 1:1 ack 1"]);
        assert_eq!(lab.i("PA", 1, 1000, 1), ["A 1:1 ack 1502"]);
        assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 1000, released: 500 });
        assert!(lab.conn.at_eof());
    });
}

#[test]
fn sc_27_to_30_acks_and_windows() {
    plain(|lab| {
        assert_eq!(lab.i("PA", 1, 10, 5000), ["A 1:1 ack 1"]); // SC-27
        assert_eq!(lab.last.payload, Payload::Ignore);
        assert_eq!(lab.i("P", 1, 10, 1), none()); // SC-29
    });
    plain(|lab| {
        // SC-28
        for i in 0..200 {
            lab.write(1000);
            lab.i("A", 1, 0, 1001 + i * 1000);
        }
        assert_eq!(lab.i("PA", 1, 10, 100_001), ["A 200001:200001 ack 1"]);
        assert_eq!(lab.last.payload, Payload::Ignore);
        assert_eq!(lab.i("PA", 1, 10, 140_001), none());
        assert!(matches!(lab.last.payload, Payload::Deliver { .. }));
    });
    plain(|lab| {
        // SC-30
        lab.write(2000);
        lab.i("PA", 1, 500, 1);
        lab.w("A", 501, 0, 2001, 4000);
        assert_eq!(lab.conn.info(&lab.config).send_window, 4000);
        lab.w("A", 501, 0, 1001, 9000);
        assert_eq!(lab.conn.info(&lab.config).send_window, 4000);
        lab.w("A", 501, 0, 2001, 9000);
        assert_eq!(lab.conn.info(&lab.config).send_window, 9000);
    });
}

#[test]
fn sc_34_to_39_resets_and_challenges() {
    plain(|lab| {
        assert_eq!(lab.i("R", 1, 20, 0), none());
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::Reset));
        assert_eq!(lab.last.payload, Payload::Ignore);
    });
    plain(|lab| {
        assert_eq!(lab.i("R", 500, 0, 0), ["A 1:1 ack 1"]); // SC-35
        assert_eq!(lab.i("R", 600, 0, 0), none());
        assert_eq!(lab.i("R", 70_001, 0, 0), none());
        for seq in [1, 0, 90_000] {
            lab.pass(600);
            assert_eq!(lab.i("S", seq, 0, 0), ["A 1:1 ack 1"]); // SC-36
        }
        assert_eq!(lab.conn.state(), State::Established);
        assert_eq!(lab.i("R", 1, 0, 0), none());
        assert_eq!(lab.conn.state(), State::Closed);
    });
    plain(|lab| {
        lab.write(500);
        let reset = lab.conn.abort().unwrap(); // SC-38
        assert_eq!(lab.show(&reset), "RA 501:501 ack 1");
        assert_eq!(lab.i("A", 1, 0, 1), ["R 1:1"]);
    });
    plain(|lab| {
        lab.i("FA", 1, 0, 1);
        lab.i("R", 1, 0, 1); // SC-39, SM-RST-4
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::Reset));
    });
}

#[test]
fn sc_40_to_44_closing() {
    plain(|lab| {
        assert_eq!(lab.close(), ["FA 1:1 ack 1"]); // SC-40
        assert_eq!(lab.i("A", 1, 0, 2), none());
        assert_eq!(lab.conn.state(), State::FinWait2);
        assert_eq!(lab.i("FA", 1, 0, 2), ["A 2:2 ack 2"]);
        assert!(lab.last.events.contains(Events::TIME_WAIT));
    });
    plain(|lab| {
        assert_eq!(lab.shutdown(), ["FA 1:1 ack 1"]); // SC-41
        lab.i("A", 1, 0, 2);
        assert_eq!(lab.i("PA", 1, 1000, 2), none());
        assert_eq!(lab.i("PA", 1001, 1000, 2), ["A 2:2 ack 2001"]);
        assert_eq!(lab.i("FA", 2001, 0, 2), ["A 2:2 ack 2002"]);
        assert_eq!(lab.conn.state(), State::TimeWait);
    });
    plain(|lab| {
        assert_eq!(lab.i("FA", 1, 0, 1), ["A 1:1 ack 2"]); // SC-42
        assert_eq!(lab.write(2500), ["A 1:1001 ack 2", "A 1001:2001 ack 2", "PA 2001:2501 ack 2"]);
        assert_eq!(lab.close(), ["FA 2501:2501 ack 2"]);
        assert_eq!(lab.conn.state(), State::LastAck);
        assert_eq!(lab.i("A", 2, 0, 2502), none());
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::Normal));
        assert_eq!(lab.i("A", 2, 0, 2502), ["R 2502:2502"]);
    });
    plain(|lab| {
        assert_eq!(lab.close(), ["FA 1:1 ack 1"]); // SC-43
        assert_eq!(lab.i("FA", 1, 0, 1), ["A 2:2 ack 2"]);
        assert_eq!(lab.conn.state(), State::Closing);
        assert_eq!(lab.i("A", 2, 0, 2), none());
        assert_eq!(lab.conn.state(), State::TimeWait);
    });
    plain(|lab| {
        lab.close(); // SC-44
        assert_eq!(lab.i("FA", 1, 0, 2), ["A 2:2 ack 2"]);
        assert_eq!(lab.conn.state(), State::TimeWait);
    });
}

#[test]
fn sc_47_48_unread_data_and_prompt_fin() {
    plain(|lab| {
        lab.i("PA", 1, 500, 1);
        assert_eq!(lab.close(), ["RA 1:1 ack 501"]); // KP-17
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::Aborted));
    });
    plain(|lab| {
        lab.i("PA", 1, 500, 1);
        lab.read(500);
        lab.close();
        lab.i("A", 501, 0, 2);
        assert_eq!(lab.i("PA", 501, 100, 2), ["RA 2:2 ack 501"]); // KP-16
        assert_eq!(lab.conn.state(), State::Closed);
    });
    plain(|lab| {
        lab.conn.on_send(1500); // KP-15
        assert_eq!(lab.shutdown(), ["A 1:1001 ack 1", "FPA 1001:1501 ack 1"]);
        // The FIN is lost again and again.
        lab.i("A", 1, 0, 1501);
        let said = lab.pass(7_000);
        let times: Vec<_> = said.iter().map(|line| line.split_once(' ').unwrap()).collect();
        let fin = "FA 1501:1501 ack 1";
        assert_eq!(times, [("200", fin), ("600", fin), ("1400", fin), ("3000", fin), ("6200", fin)]);
    });
    plain(|lab| {
        lab.close(); // SM-FW2-5
        lab.i("A", 1, 0, 2);
        assert_eq!(lab.pass(59_000), none());
        assert_eq!(lab.conn.state(), State::FinWait2);
        lab.pass(2_000);
        assert_eq!(lab.conn.state(), State::Closed);
    });
}

#[test]
fn sc_49_persist() {
    plain(|lab| {
        lab.w("A", 1, 0, 1, 0);
        assert_eq!(lab.write(5000), none());
        let mut gaps = Vec::new();
        let mut last = 0;
        while lab.ms() < 7_200_000 {
            let said = lab.pass(100);
            for line in &said {
                assert!(line.ends_with("A 0:0 ack 1"), "{line}");
                gaps.push(lab.ms() - last);
                last = lab.ms();
                assert_eq!(lab.w("A", 1, 0, 1, 0), none());
            }
        }
        assert_eq!(gaps[..8], [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 120_000]);
        assert_eq!(lab.conn.state(), State::Established, "MUST-37");
        assert_eq!(lab.w("A", 1, 0, 1, 5000).len(), 5);
    });
    plain(|lab| {
        lab.w("A", 1, 0, 1, 0);
        lab.write(5000);
        lab.pass(899_000);
        assert_eq!(lab.conn.state(), State::Established);
        lab.pass(2_000);
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::TimedOut));
    });
    plain(|lab| {
        // A FIN behind a closed window is not stuck for ever.
        lab.w("A", 1, 0, 1, 0);
        assert_eq!(lab.close(), none());
        assert_eq!(lab.pass(1_000), ["1000 FA 1:1 ack 1"]);
        assert_eq!(lab.pass(2_000), ["2000 FA 1:1 ack 1"]);
        lab.w("FA", 1, 0, 2, 0);
        assert_eq!(lab.conn.state(), State::TimeWait);
    });
}

#[test]
fn sc_50_a_shrunken_window() {
    plain(|lab| {
        assert_eq!(lab.w("A", 1, 0, 1, 10_000), none());
        assert_eq!(lab.write(20_000).len(), 10);
        assert_eq!(lab.w("A", 1, 0, 1001, 2000), none());
        assert_eq!(lab.pass(300), ["200 A 1001:2001 ack 1"]);
        assert_eq!(lab.w("A", 1, 0, 2001, 1000), ["A 2001:3001 ack 1"]);
        assert_eq!(lab.w("A", 1, 0, 3001, 0), none());
        for _ in 0..3600 {
            for _ in lab.pass(1000) {
                lab.w("A", 1, 0, 3001, 0);
            }
        }
        assert_eq!(lab.conn.state(), State::Established, "SHLD-17");
        assert_eq!(lab.w("A", 1, 0, 3001, 20_000)[0], "A 3001:4001 ack 1");
    });
}

#[test]
fn sc_51_52_receiver_sws() {
    let small = |config: &mut Config, opened: &mut Opened| {
        config.recv_buffer = BufferLimits { initial: 10_000, max: 10_000 };
        opened.receive_window = 10_000;
    };
    labs(small, |lab| {
        for i in 0..10 {
            lab.i("A", 1 + i * 1000, 1000, 1);
        }
        assert_eq!(lab.conn.info(&lab.config).receive_window, 0);
        assert_eq!(lab.read(1), none());
        assert_eq!(lab.read(500), none());
        assert_eq!(lab.read(499), ["A 1:1 ack 10001"]);
        assert_eq!(lab.conn.info(&lab.config).receive_window, 1000);
        assert_eq!(lab.read(9000), ["A 1:1 ack 10001"]);
        assert_eq!(lab.conn.info(&lab.config).receive_window, 10_000);
    });
    labs(small, |lab| {
        // KP-12
        for i in 0..10 {
            lab.i("A", 1 + i * 1000, 1000, 1);
        }
        lab.read(1);
        assert_eq!(lab.i("A", 10_001, 1, 1), ["A 1:1 ack 10001"]);
        assert_eq!(lab.write(30_000).len(), 10);
        let said = lab.i("A", 10_001, 1, 5001);
        assert_eq!(said[0], "A 10001:10001 ack 10001");
        assert_eq!(said[1], "A 10001:11001 ack 10001");
        assert_eq!(lab.conn.info(&lab.config).bytes_acked, 5000);
        // SC-37: a reset is heard, too.
        lab.i("R", 10_001, 0, 0);
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::Reset));
    });
}

#[test]
fn sc_53_sender_sws() {
    labs(
        |_, opened| opened.send_window = 4000,
        |lab| {
            lab.w("A", 1, 0, 1, 100);
            assert_eq!(lab.write(5000), none());
            assert_eq!(lab.pass(300), ["200 A 1:101 ack 1"]);
            assert_eq!(lab.w("A", 1, 0, 101, 100), none());
            assert_eq!(lab.w("A", 1, 0, 101, 2000), ["A 101:1101 ack 1", "A 1101:2101 ack 1"]);
        },
    );
}

#[test]
fn sc_54_nagle() {
    plain(|lab| {
        assert_eq!(lab.write(10), ["PA 1:11 ack 1"]);
        assert_eq!(lab.write(10), none());
        assert_eq!(lab.write(10), none());
        assert_eq!(lab.i("A", 1, 0, 11), ["PA 11:31 ack 1"]);
        lab.i("A", 1, 0, 31);
        assert_eq!(lab.write(1000), ["PA 31:1031 ack 1"]);
        assert_eq!(lab.write(10), ["PA 1031:1041 ack 1"]); // NAGLE-3
        assert_eq!(lab.write(10), none());
        lab.conn.set_nodelay(true);
        assert_eq!(lab.write(0), ["PA 1041:1051 ack 1"]); // NAGLE-2
        assert_eq!(lab.write(10), ["PA 1051:1061 ack 1"]);
    });
}

#[test]
fn sc_55_delayed_ack() {
    plain(|lab| {
        assert_eq!(lab.i("PA", 1, 1000, 1), none());
        assert_eq!(lab.pass(100), ["40 A 1:1 ack 1001"]);
        assert_eq!(lab.i("PA", 1001, 1000, 1), none());
        assert_eq!(lab.i("PA", 2001, 1000, 1), ["A 1:1 ack 3001"]);
        assert_eq!(lab.i("PA", 3001, 10, 1), none());
        assert_eq!(lab.i("PA", 3011, 10, 1), ["A 1:1 ack 3021"]); // RFC5681-4.2b
        assert_eq!(lab.i("PA", 3021, 10, 1), none());
        assert_eq!(lab.write(5), ["PA 1:6 ack 3031"]);
        assert_eq!(lab.pass(100), none());
    });
    labs(
        |config, _| config.quick_acks = 16,
        |lab| {
            // OPS-6
            for i in 0..16 {
                assert_eq!(lab.i("PA", 1 + i * 10, 10, 1).len(), 1);
            }
            assert_eq!(lab.i("PA", 161, 10, 1), none());
        },
    );
}

#[test]
fn sc_57_karn() {
    plain(|lab| {
        lab.write(1000);
        assert_eq!(lab.pass(1000), ["1000 PA 1:1001 ack 1"]);
        lab.i("A", 1, 0, 1001);
        let info = lab.conn.info(&lab.config);
        assert_eq!((info.srtt, info.rto), (None, Duration::from_secs(2)));
        lab.write(1000);
        lab.pass(100);
        lab.i("A", 1, 0, 2001);
        assert_eq!(lab.conn.info(&lab.config).srtt, Some(Duration::from_millis(100)));
    });
    labs(
        |_, opened| opened.timestamps = Some(7),
        |lab| {
            lab.stamps = Some(Timestamps { val: 7, ecr: 0 });
            lab.write(900);
            lab.pass(1000);
            let echo = lab.now.as_millis() as u32;
            lab.pass(50);
            lab.stamps = Some(Timestamps { val: 8, ecr: echo });
            lab.i("A", 1, 0, 901);
            assert_eq!(lab.conn.info(&lab.config).srtt, Some(Duration::from_millis(50)));
        },
    );
}

#[test]
fn sc_58_slow_start_counts_octets() {
    plain(|lab| {
        assert_eq!(lab.write(100_000).len(), 10); // KP-01
        assert_eq!(lab.i("A", 1, 0, 2001).len(), 4);
        let cwnd = lab.conn.info(&lab.config).cwnd;
        for i in 1..=10 {
            lab.i("A", 1, 0, 2001 + i * 100);
        }
        assert_eq!(lab.conn.info(&lab.config).cwnd, cwnd + 1000); // OPS-31
    });
}

fn numbered(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|i| format!("A {}:{} ack 1", i * 1000 + 1, i * 1000 + 1001)).collect()
}

#[test]
fn sc_59_fast_retransmit() {
    plain(|lab| {
        assert_eq!(lab.write(100_000), numbered(0, 10));
        assert_eq!(lab.i("A", 1, 0, 1), numbered(10, 11)); // RFC3042-2a
        assert_eq!(lab.i("PA", 1, 10, 1), none()); // not a duplicate: data
        assert_eq!(lab.w("A", 11, 0, 1, 60_000), none()); // not a duplicate: window
        let said = lab.w("A", 11, 0, 1, 60_000);
        assert_eq!(said, ["A 11001:12001 ack 11"]);
        assert_eq!(lab.w("A", 11, 0, 1, 60_000), ["A 1:1001 ack 11"]);
        let info = lab.conn.info(&lab.config);
        assert_eq!((info.ssthresh, info.cwnd), (5000, 8000));
        for _ in 0..4 {
            assert_eq!(lab.w("A", 11, 0, 1, 60_000), none());
        }
        assert_eq!(lab.w("A", 11, 0, 1, 60_000), ["A 12001:13001 ack 11"]);
        assert_eq!(lab.w("A", 11, 0, 12_001, 60_000).len(), 4); // KP-08
        assert_eq!(lab.conn.info(&lab.config).cwnd, 5000);
    });
}

#[test]
fn rfc6675_4a_one_report_of_many_segments_is_enough() {
    with_sack(|lab| {
        lab.write(10_000);
        lab.sack = vec![(1001, 3001)];
        assert_eq!(lab.i("A", 1, 0, 1), none());
        lab.sack = vec![(1001, 3002)];
        assert_eq!(lab.i("A", 1, 0, 1), ["A 1:1001 ack 1"]);
        lab.sack = vec![(5001, 4001), (1, 1), (9001, 20_001), (1, 0)]; // SC-32
        lab.i("A", 1, 0, 1);
        assert_eq!(lab.conn.info(&lab.config).retransmits, 1);
    });
    with_sack(|lab| {
        // With SACK, an ACK without blocks tells of no hole.
        lab.write(10_000);
        for _ in 0..5 {
            assert_eq!(lab.i("A", 1, 0, 1), none());
        }
    });
}

#[test]
fn sc_60_newreno() {
    plain(|lab| {
        assert_eq!(lab.write(10_000).len(), 10);
        for _ in 0..2 {
            assert_eq!(lab.i("A", 1, 0, 1), none());
        }
        assert_eq!(lab.i("A", 1, 0, 1), ["A 1:1001 ack 1"]);
        assert_eq!(lab.i("A", 1, 0, 4001), ["A 4001:5001 ack 1"]);
        assert_eq!(lab.i("A", 1, 0, 10_001), none());
        assert_eq!(lab.conn.info(&lab.config).cwnd, 5000);
        assert_eq!(lab.conn.info(&lab.config).retransmits, 2);
        // After a timeout, duplicates of what was sent twice must not halve again.
        lab.write(4000);
        lab.pass(2000);
        let ssthresh = lab.conn.info(&lab.config).ssthresh;
        for _ in 0..5 {
            lab.i("A", 1, 0, 10_001);
        }
        assert_eq!(lab.conn.info(&lab.config).ssthresh, ssthresh);
    });
}

#[test]
fn sc_65_timeout() {
    plain(|lab| {
        lab.write(20_000);
        assert_eq!(lab.pass(999), none());
        assert_eq!(lab.pass(1), ["1000 A 1:1001 ack 1"]); // KP-02
        let info = lab.conn.info(&lab.config);
        assert_eq!((info.cwnd, info.ssthresh), (1000, 5000));
        assert_eq!(lab.pass(2000), ["3000 A 1:1001 ack 1"]); // KP-10
        assert_eq!(lab.conn.info(&lab.config).ssthresh, 5000);
        assert_eq!(lab.i("A", 1, 0, 1001), numbered(1, 3));
        assert_eq!(lab.i("A", 1, 0, 3001), numbered(3, 7));
        assert_eq!(lab.i("A", 1, 0, 7001), numbered(7, 12));
        // What the peer had kept is not sent again.
        assert_eq!(lab.i("A", 1, 0, 10_001), numbered(12, 16));
    });
}

#[test]
fn sc_67_idle_restart() {
    plain(|lab| {
        for i in 0..8_u32 {
            lab.write(30_000);
            let info = lab.conn.info(&lab.config);
            let end = info.bytes_acked as u32 + info.flight;
            lab.i("A", 1, 0, 1 + end);
            assert!(i < 10);
        }
        while lab.conn.queued() > 0 {
            let info = lab.conn.info(&lab.config);
            lab.i("A", 1, 0, 1 + info.bytes_acked as u32 + info.flight);
        }
        assert!(lab.conn.info(&lab.config).cwnd > 20_000);
        lab.pass(10_000);
        assert_eq!(lab.write(100_000).len(), 10);
    });
}

#[test]
fn sc_69_timestamps_and_paws() {
    let stamped = |_: &mut Config, opened: &mut Opened| opened.timestamps = Some(0);
    let echoed = |lab: &mut Lab, val: u32, seq: u32, len: u32| {
        lab.stamps = Some(Timestamps { val, ecr: 0 });
        lab.i("A", seq, len, 1);
        lab.conn.hot.rcv.ts_recent
    };
    labs(stamped, |lab| {
        assert_eq!(echoed(lab, 1, 1, 100), 1);
        assert_eq!(echoed(lab, 2, 101, 100), 1, "the first of those acknowledged together");
        assert_eq!(echoed(lab, 3, 301, 100), 1, "above a hole");
        assert_eq!(echoed(lab, 4, 201, 100), 4, "fills the hole");
        lab.stamps = Some(Timestamps { val: 3, ecr: 0 });
        assert_eq!(lab.i("A", 401, 100, 1), ["A 1:1 ack 401"]);
        assert_eq!(lab.last.payload, Payload::Ignore);
        lab.stamps = None;
        assert_eq!(lab.i("A", 401, 100, 1), none());
        lab.now += Duration::from_secs(25 * 24 * 3_600);
        lab.stamps = Some(Timestamps { val: 3, ecr: 0 });
        lab.i("A", 401, 100, 1);
        assert!(matches!(lab.last.payload, Payload::Deliver { .. }), "RFC7323-5.5");
        // SC-34: RST is not subject to PAWS.
        lab.stamps = Some(Timestamps { val: 1, ecr: 0 });
        lab.i("R", 501, 0, 1);
        assert_eq!(lab.conn.state(), State::Closed);
    });
}

#[test]
fn sc_76_urgent() {
    plain(|lab| {
        lab.i("PAU", 1, 10, 1);
        assert!(lab.last.events.contains(Events::URGENT));
        assert_eq!(lab.conn.urgent(), 5);
        lab.read(5);
        assert_eq!(lab.conn.urgent(), 0);
        assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 10, released: 0 });
    });
}

#[test]
fn sc_77_user_timeout() {
    plain(|lab| {
        lab.conn.set_user_timeout(Some(Duration::from_secs(5)));
        lab.write(100);
        lab.pass(4_900);
        assert_eq!(lab.conn.state(), State::Established);
        lab.pass(200);
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::UserTimeout));
    });
    plain(|lab| {
        lab.write(100);
        lab.pass(2_000);
        lab.conn.set_user_timeout(Some(Duration::from_secs(5)));
        lab.pass(3_100);
        assert_eq!(lab.conn.close_reason(), Some(CloseReason::UserTimeout));
    });
}

#[test]
fn ops_46_memory_pressure() {
    plain(|lab| {
        assert_eq!(lab.keep(Keep::Nothing, "A", 1, 1000, 1, 65_535), none());
        assert_eq!(lab.last.payload, Payload::Ignore);
        assert_eq!(lab.keep(Keep::InOrder, "A", 1001, 1000, 1, 65_535), ["A 1:1 ack 1"]);
        assert_eq!(lab.last.payload, Payload::Ignore);
        lab.keep(Keep::InOrder, "A", 1, 1000, 1, 65_535);
        assert_eq!(lab.last.payload, Payload::Deliver { from: 0, to: 1000, released: 0 });
        // ACKs count whatever the memory.
        lab.write(1000);
        lab.keep(Keep::Nothing, "A", 1001, 1000, 1001, 65_535);
        assert_eq!(lab.last.acked, 1000);
    });
}

#[test]
fn data_in_our_own_ring_is_not_sent_again() {
    plain(|lab| {
        lab.conn.on_send(3000);
        let mut sent = Vec::new();
        while let Some(out) = lab.conn.poll_transmit(&lab.config, lab.now, 1000) {
            sent.push(out);
        }
        assert_eq!(lab.pass(10_000), none());
        assert_eq!(lab.conn.info(&lab.config).rto, Duration::from_secs(1), "no backoff");
        lab.conn.on_device_write(sent[0].end_seq());
        let said = lab.pass(1_000);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].ends_with("A 1:1001 ack 1"));
    });
}

#[test]
fn super_segments() {
    plain(|lab| {
        lab.max_len = 65_535;
        assert_eq!(lab.write(30_500), ["A 1:10001 ack 1"]);
        // TSO defer: half a window at least, or all there is.
        assert_eq!(lab.i("A", 1, 0, 2001), none());
        assert_eq!(lab.i("A", 1, 0, 6001), ["A 10001:22001 ack 1"]);
        assert_eq!(lab.i("A", 1, 0, 22_001), ["PA 22001:30501 ack 1"]);
    });
}

#[test]
fn the_peers_window_scale() {
    // SC-16
    labs(
        |_, opened| {
            opened.window_shifts = Some((7, 2));
            opened.unscaled_rest = true;
            opened.send_window = 8000;
        },
        |lab| {
            lab.w("A", 1, 0, 1, 8000);
            assert_eq!(lab.conn.info(&lab.config).send_window, 8000);
            lab.w("A", 1, 0, 1, 100);
            assert_eq!(lab.conn.info(&lab.config).send_window, 12_800);
        },
    );
}
