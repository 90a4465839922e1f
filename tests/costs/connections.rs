//! What a connection costs: the slope of the memory over the number of established connections that do nothing.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use trust::services::echo::Echo;
use trust::shard::diag::Cursor;

use crate::counting;
use crate::resident;
use crate::rig::{Peer, Rig};

/// Bounds of the acceptance: 1,000 to 100,000 connections, under 1 KB each.
const FEW: u32 = 1_000;
const MANY: u32 = 100_000;
const LIMIT: u64 = 1_024;

pub(crate) fn established() {
    let mut rig = Rig::new();
    rig.shard.add_service(Some(7), Box::new(Echo));
    let mut marks = Vec::new();
    for index in 0..MANY {
        if index == FEW {
            marks.push((counting::live(), resident()));
        }
        let [_, a, b, c] = index.to_be_bytes();
        let mut peer =
            Peer { addr: Ipv4Addr::new(10, a + 8, b, c.max(1)).into(), ..Peer::new(1_000 + index as u16 % 2, 7) };
        if c == 0 {
            peer.port = 3_000;
        }
        peer.open(&mut rig);
        // A word and its echo: an idle connection that has been in use.
        let word = peer.data(b"x");
        rig.turn(&[word]);
        let echo = rig.sent.pop_back().unwrap();
        peer.ack = peer.ack.wrapping_add(echo.seq_len());
        rig.turn(&[peer.ack()]);
        rig.sent.clear();
    }
    marks.push((counting::live(), resident()));
    let counters = rig.counters();
    assert_eq!((counters.connections, counters.send_chunks, counters.held_octets), (u64::from(MANY), 0, 0));
    let slope = |from: u64, to: u64| to.saturating_sub(from) / u64::from(MANY - FEW);
    let [(live_few, rss_few), (live_many, rss_many)] = marks[..] else { unreachable!() };
    let (live, rss) = (slope(live_few, live_many), slope(rss_few, rss_many));
    println!("a connection costs {live} octets of heap, {rss} resident");
    assert!(live < LIMIT, "{live} octets of heap a connection");
    assert!(rss < LIMIT, "{rss} resident octets a connection");
    looked_at(&mut rig);
}

/// What a walk over all of them adds to a turn: a slice, which is what one turn answers.
fn looked_at(rig: &mut Rig) {
    let (mut cursor, mut entries, mut seen) = (Some(Cursor::default()), Vec::new(), 0);
    let mut times = Vec::new();
    while let Some(from) = cursor {
        let start = Instant::now();
        cursor = rig.shard.diag(from, &mut entries);
        times.push(start.elapsed());
        seen += entries.len();
        entries.clear();
    }
    times.sort_unstable();
    let (median, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let slices = times.len();
    println!("all of {seen} entries are shown in {slices} slices of {median:?}, 99 % of them within {late:?}");
    // All of them, and the port of the service.
    assert_eq!(seen, MANY as usize + 1);
    assert!(cfg!(debug_assertions) || late < Duration::from_millis(1), "a slice takes {late:?}");
}
