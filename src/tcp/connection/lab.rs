//! A bench for one connection and a scripted peer. Numbers are relative to the initial ones (SYN = 0, first octet = 1),
//! and each script runs at three places of the number line, so that everything wraps once.
#![allow(clippy::unwrap_used)]

use crate::tcp::*;
use crate::wire::options::{SackBlocks, TcpOptions, Timestamps};
use crate::wire::tcp::Flags;

const BASES: [(u32, u32); 3] = [(0xffff_fff0, 0x7fff_fff0), (0x7fff_f000, 0xffff_f000), (17, 0xffff_ffff)];

/// A connection, its clock, and what it has sent.
pub(super) struct Lab {
    pub(super) config: Config,
    pub(super) conn: Connection,
    pub(super) iss: SeqNum,
    pub(super) irs: SeqNum,
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) max_len: u32,
    pub(super) sack: Vec<(u32, u32)>,
    pub(super) stamps: Option<Timestamps>,
    pub(super) last: Outcome,
}

/// ESTABLISHED without options, MSS 1000 and windows of 65535, ACKs delayed from the first segment on.
pub(super) fn labs(setup: impl Fn(&mut Config, &mut Opened), script: impl Fn(&mut Lab)) {
    for (iss, irs) in BASES {
        let mut config = Config { quick_acks: 0, congestion: CongestionControl::Reno, ..Config::default() };
        config.recv_buffer = BufferLimits { initial: 65_535, max: 65_535 };
        let mut opened = Opened {
            iss: SeqNum(iss),
            irs: SeqNum(irs),
            send_window: 65_535,
            window_seq: SeqNum(irs) + 1,
            unscaled_rest: false,
            receive_window: 65_535,
            modest: false,
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

pub(super) fn plain(script: impl Fn(&mut Lab)) {
    labs(|_, _| {}, script);
}

pub(super) fn with_sack(script: impl Fn(&mut Lab)) {
    labs(|_, opened| opened.sack = true, script);
}

impl Lab {
    pub(super) fn ms(&self) -> u64 {
        (self.now - self.start).as_millis()
    }

    /// `flags seq:end ack n [win n] [sack ..]`, relative.
    pub(super) fn show(&self, out: &Transmit) -> String {
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

    pub(super) fn drain(&mut self, said: &mut Vec<String>) {
        while let Some(out) = self.conn.poll_transmit(&self.config, self.now, self.max_len) {
            self.conn.on_device_write(out.end_seq());
            said.push(self.show(&out));
        }
    }

    pub(super) fn keep(&mut self, keep: Keep, flags: &str, seq: u32, len: u32, ack: u32, win: u16) -> Vec<String> {
        self.hear(keep, flags, seq, len, ack, win);
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

    /// Injects a segment and lets nothing out, as when more of the same turn follow.
    pub(super) fn hear(&mut self, keep: Keep, flags: &str, seq: u32, len: u32, ack: u32, win: u16) {
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
            window: units::UnscaledWindow(win),
            urgent: 5,
            options: TcpOptions { sack: blocks, timestamps: self.stamps, ..TcpOptions::default() },
            len,
        };
        let context = Context { now: self.now, keep };
        self.last = self.conn.on_segment(&self.config, &seg, &context);
    }

    /// Injects a segment with window 65535 and gives what comes out.
    pub(super) fn i(&mut self, flags: &str, seq: u32, len: u32, ack: u32) -> Vec<String> {
        self.keep(Keep::All, flags, seq, len, ack, 65_535)
    }

    /// The same with a window.
    pub(super) fn w(&mut self, flags: &str, seq: u32, len: u32, ack: u32, win: u16) -> Vec<String> {
        self.keep(Keep::All, flags, seq, len, ack, win)
    }

    pub(super) fn write(&mut self, octets: u32) -> Vec<String> {
        self.conn.on_send(octets);
        let mut said = Vec::new();
        self.drain(&mut said);
        said
    }

    pub(super) fn read(&mut self, octets: u32) -> Vec<String> {
        self.conn.on_recv(&self.config, octets, self.now);
        let mut said = Vec::new();
        self.drain(&mut said);
        said
    }

    pub(super) fn shutdown(&mut self) -> Vec<String> {
        self.conn.shutdown();
        let mut said = Vec::new();
        self.drain(&mut said);
        said
    }

    pub(super) fn close(&mut self) -> Vec<String> {
        let reset = self.conn.close();
        let mut said: Vec<String> = reset.iter().map(|out| self.show(out)).collect();
        self.drain(&mut said);
        said
    }

    /// Lets time pass; what leaves is prefixed by the time in ms since the start.
    pub(super) fn pass(&mut self, ms: u64) -> Vec<String> {
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

pub(super) fn none() -> Vec<String> {
    Vec::new()
}
