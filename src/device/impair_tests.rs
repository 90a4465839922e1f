#![allow(clippy::unwrap_used)]
use super::super::memory::{self, MemoryOptions, MemoryPort};
use super::super::segment::tests::{V4, V6, cut, packet};
use super::super::{BUFFER_LEN, MAX_PAYLOAD_SLICES};
use super::*;
use crate::wire::tcp::{Flags, TcpHeader};
use crate::wire::{Malformed, ip, tcp};

const PARTIAL: TxOffload =
    TxOffload { checksum: TxChecksum::Partial { start: 20, offset: 16 }, gso_size: 0, header_len: 52, ipv6: false };

fn impaired(text: &str, slots: usize) -> (QueuePair, MemoryPort, ImpairStats) {
    let (device, port) = memory::port(&MemoryOptions { slots, ..MemoryOptions::default() }).unwrap();
    let mut device = Impaired::new(device, text.parse().unwrap());
    let stats = device.stats();
    (device.take_queues().remove(0), port, stats)
}

/// A packet with `number` as sequence number and a checksum left to the device.
fn numbered(number: u32) -> Vec<u8> {
    packet(V4, number, Flags::ACK, b"payload")
}

fn read(packet: &[u8], trusted: bool) -> Result<(TcpHeader, Vec<u8>), Malformed> {
    let packet = ip::parse(packet, true)?;
    let (header, payload) = tcp::parse(packet.payload, packet.src, packet.dst, trusted)?;
    Ok((header, payload.to_vec()))
}

/// Sequence numbers (or what is wrong) of all packets that come out of the receiving half.
fn receive_all(rx: &mut dyn RxQueue) -> Vec<Result<u32, Malformed>> {
    let mut buf = vec![0; BUFFER_LEN];
    std::iter::from_fn(|| {
        let got = rx.receive(&mut buf).unwrap()?;
        let trusted = got.offload.checksum == ChecksumStatus::Trusted;
        Some(read(&buf[got.start..got.start + got.len], trusted).map(|(header, _)| header.seq))
    })
    .collect()
}

fn history(text: &str, packets: u32) -> (Vec<Result<u32, Malformed>>, ImpairCounts) {
    let ((mut rx, _), mut port, stats) = impaired(text, packets as usize);
    for number in 0..packets {
        assert!(port.inject_with(0, &numbered(number), &PARTIAL));
    }
    (receive_all(&mut *rx), stats.rx())
}

#[test]
fn from_str_reads_what_it_documents() {
    let parse = |text: &str| text.parse::<Impairment>();
    let rates = Rates { loss: 0.01, reorder: 0.05, duplicate: 0.01, corrupt: 0.001 };
    let all = parse("loss=0.01,reorder=0.05,dup=0.01,corrupt=0.001,seed=7").unwrap();
    assert_eq!(all, Impairment { rx: rates, tx: rates, seed: 7 });
    let one_way = parse(" loss = 0.5 , tx.loss=0, rx.duplicate=1 ").unwrap();
    let rx = Rates { loss: 0.5, duplicate: 1.0, ..Rates::default() };
    assert_eq!(one_way, Impairment { rx, tx: Rates::default(), seed: 0 });
    assert_eq!(parse("").unwrap(), Impairment::default());
}

#[test]
fn from_str_says_what_is_wrong() {
    for (text, expected) in [
        ("loss", "'loss' is not of the form key=value"),
        ("lost=0.1", "unknown key 'lost'"),
        ("rx.seed=1", "unknown key 'rx.seed'"),
        ("up.loss=0.1", "unknown key 'up.loss'"),
        ("loss=1.5", "loss=1.5: must be a probability from 0 to 1"),
        ("loss=-0.1", "loss=-0.1: must be"),
        ("loss=NaN", "loss=NaN: must be"),
        ("tx.dup=1%", "tx.dup=1%: must be"),
        ("seed=-1", "seed=-1: must be a whole number"),
    ] {
        let error = text.parse::<Impairment>().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn nothing_asked_for_is_nothing_done() {
    let (got, counts) = history("seed=1", 1000);
    assert_eq!(got, (0..1000).map(Ok).collect::<Vec<_>>());
    assert_eq!(counts, ImpairCounts { seen: 1000, ..ImpairCounts::default() });
}

#[test]
fn one_seed_is_one_history() {
    let text = |seed| format!("loss=0.1,reorder=0.1,dup=0.1,corrupt=0.1,seed={seed}");
    assert_eq!(history(&text(1), 1000), history(&text(1), 1000));
    assert_ne!(history(&text(1), 1000), history(&text(2), 1000));
}

#[test]
fn rates_are_kept_and_counters_tell_the_truth() {
    const PACKETS: u32 = 20_000;
    let (got, counts) = history("loss=0.1,reorder=0.05,dup=0.02,corrupt=0.01,seed=3", PACKETS);
    let near = |count: u64, rate: f64| {
        let expected = f64::from(PACKETS) * rate;
        // Five standard deviations; the seed is fixed, so this never fails by chance.
        assert!((count as f64 - expected).abs() < 5.0 * expected.sqrt(), "{count} instead of {expected}");
    };
    near(counts.lost, 0.1);
    // Draws come in this order, and only for what still exists; one waits at a time.
    near(counts.corrupted, 0.9 * 0.01);
    near(counts.duplicated, 0.9 * 0.02);
    near(counts.reordered, 0.9 * 0.98 * 0.05 * 0.95);
    assert_eq!(counts.seen, u64::from(PACKETS));
    assert_eq!(got.len() as u64, counts.seen - counts.lost + counts.duplicated);
    let good: Vec<u32> = got.iter().filter_map(|number| number.ok()).collect();
    let bad = (got.len() - good.len()) as u64;
    assert!(bad >= counts.corrupted && bad <= counts.corrupted + counts.duplicated, "{bad} bad of {counts:?}");
    let back = good.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
    assert!(back <= counts.reordered && back * 100 >= counts.reordered * 85, "{back} steps back of {counts:?}");
}

#[test]
fn a_reordered_packet_changes_places_with_the_next_or_leaves_when_the_queue_is_empty() {
    let (got, _) = history("reorder=1", 5);
    assert_eq!(got, [1, 0, 3, 2, 4].map(Ok));

    let ((mut rx, _), mut port, _) = impaired("reorder=1", 8);
    let mut buf = vec![0; BUFFER_LEN];
    assert!(port.inject_with(0, &numbered(0), &PARTIAL));
    assert!(rx.receive(&mut buf).unwrap().is_some(), "a reader that parks after None has everything");
    assert!(rx.receive(&mut buf).unwrap().is_none());
}

#[test]
fn a_reordered_sent_packet_leaves_behind_the_next_or_with_the_flush() {
    let ((_, mut tx), mut port, stats) = impaired("tx.reorder=1", 8);
    let mut send = |number| {
        assert_eq!(tx.transmit(&numbered(number), &[], &PARTIAL).unwrap(), Transmitted::Sent);
    };
    (0..3).for_each(&mut send);
    let mut out = |tx: Option<&mut dyn TxQueue>| {
        tx.into_iter().for_each(|tx| tx.flush().unwrap());
        std::iter::from_fn(|| port.capture()).map(|p| read(&p, true).unwrap().0.seq).collect::<Vec<_>>()
    };
    assert_eq!(out(None), [1, 0]);
    assert_eq!(out(Some(&mut *tx)), [2]);
    assert!(out(Some(&mut *tx)).is_empty());
    assert_eq!(stats.tx().reordered, 2);
    assert_eq!(stats.rx(), ImpairCounts::default());
}

#[test]
fn a_corrupted_segment_is_always_found_out() {
    // What the device vouched for, and what it did not.
    let (got, counts) = history("corrupt=1,seed=5", 2000);
    assert_eq!((got.len(), counts.corrupted), (2000, 2000));
    assert!(got.iter().all(Result::is_err), "a receiver believed a broken segment");

    let ((_, mut tx), mut port, _) = impaired("tx.corrupt=1,seed=5", 8);
    for number in 0..500 {
        let mut filled = numbered(number);
        segment::fill_checksum(&mut filled);
        for (bytes, offload) in
            [(&numbered(number), PARTIAL), (&filled, TxOffload { header_len: 0, ..Default::default() })]
        {
            assert_eq!(tx.transmit(&bytes[..52], &[&bytes[52..]], &offload).unwrap(), Transmitted::Sent);
            let mut buf = vec![0; BUFFER_LEN];
            let (_, len, offload) = port.capture_into(&mut buf).unwrap();
            assert_eq!(offload.checksum, TxChecksum::Done);
            assert!(read(&buf[..len], false).is_err());
            let flipped: u32 = buf[..len].iter().zip(&filled).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!(flipped, 1, "exactly one bit of the completed packet");
        }
    }
}

/// Sends super-segments one way and gives back what comes out as (first octet, whole packet), in wire segments.
fn super_segments(
    text: &str,
    ends: (std::net::IpAddr, std::net::IpAddr),
    packets: u32,
    sending: bool,
) -> (Vec<(u32, Vec<u8>)>, ImpairCounts) {
    const GSO: u16 = 1000;
    let ((mut rx, mut tx), mut port, stats) = impaired(text, 64);
    let ip_len = if ends == V4 { 20 } else { 40 };
    let offload = TxOffload {
        checksum: TxChecksum::Partial { start: ip_len, offset: 16 },
        gso_size: GSO,
        header_len: ip_len + 32,
        ipv6: ends == V6,
    };
    let (mut out, mut buf) = (Vec::new(), vec![0; BUFFER_LEN]);
    for i in 0..packets {
        let payload: Vec<u8> = (0..44_500u32).map(|at| (at / 1000) as u8 ^ i as u8).collect();
        let whole = packet(ends, i * 44_500, Flags::ACK | Flags::PSH, &payload);
        let (header, body) = whole.split_at(usize::from(offload.header_len));
        if sending {
            let slices: Vec<&[u8]> = body.chunks(body.len().div_ceil(MAX_PAYLOAD_SLICES)).collect();
            assert_eq!(tx.transmit(header, &slices, &offload).unwrap(), Transmitted::Sent);
        } else {
            assert!(port.inject_with(0, &whole, &offload));
        }
        loop {
            let (len, gso_size, trusted) = if sending {
                let Some((_, len, offload)) = port.capture_into(&mut buf) else { break };
                (len, offload.gso_size, offload.checksum != TxChecksum::Done)
            } else {
                let Some(got) = rx.receive(&mut buf).unwrap() else { break };
                buf.copy_within(got.start..got.start + got.len, 0);
                (got.len, got.offload.gso_size, got.offload.checksum == ChecksumStatus::Trusted)
            };
            assert!(trusted);
            let (header, payload) = read(&buf[..len], true).unwrap();
            assert_eq!(gso_size, if payload.len() > usize::from(GSO) { GSO } else { 0 });
            for at in 0..segment::count(payload.len(), gso_size) {
                out.push((header.seq + at as u32 * 1000, cut(&buf[..len], gso_size, at..at + 1)));
            }
        }
    }
    (out, if sending { stats.tx() } else { stats.rx() })
}

#[test]
fn chance_is_per_wire_segment_with_super_segments_too() {
    for (ends, sending) in [(V4, false), (V4, true), (V6, false), (V6, true)] {
        let (clean, counts) = super_segments("seed=1", ends, 50, sending);
        assert_eq!((clean.len(), counts.seen), (50 * 45, 50 * 45));
        let (got, counts) = super_segments("loss=0.02,dup=0.01,reorder=0.02,seed=9", ends, 50, sending);
        assert_eq!(counts.seen, 50 * 45);
        assert!((20..80).contains(&counts.lost), "{counts:?}");
        assert!(counts.duplicated > 5 && counts.reordered > 15, "{counts:?}");
        let held = got.len() as u64 + counts.lost == counts.seen + counts.duplicated - 1;
        assert!(held || got.len() as u64 + counts.lost == counts.seen + counts.duplicated);
        // Every wire segment is, to the octet, the one that a perfect network would have carried.
        for (seq, bytes) in &got {
            let original = &clean.iter().find(|(number, _)| number == seq).unwrap().1;
            assert_eq!(bytes, original, "segment at {seq}");
        }
    }
}

#[test]
fn an_untouched_super_segment_passes_whole() {
    let (clean, _) = super_segments("seed=1", V4, 3, false);
    let (mostly, counts) = super_segments("loss=0.0001,seed=1", V4, 3, false);
    assert_eq!(counts.lost, 0);
    assert_eq!(clean, mostly);
}

#[test]
fn a_full_device_neither_loses_nor_repeats_what_was_let_in() {
    let ((_, mut tx), mut port, stats) = impaired("tx.dup=0.5,seed=4", 2);
    let mut got = Vec::new();
    let mut number = 0;
    while number < 1000 {
        match tx.transmit(&numbered(number), &[], &PARTIAL).unwrap() {
            Transmitted::Full => got.extend(port.capture().map(|p| read(&p, true).unwrap().0.seq)),
            sent => {
                assert_eq!(sent, Transmitted::Sent);
                number += 1;
            }
        }
    }
    loop {
        tx.flush().unwrap();
        let Some(packet) = port.capture() else { break };
        got.push(read(&packet, true).unwrap().0.seq);
    }
    assert!(got.is_sorted());
    assert_eq!(got.len() as u64, 1000 + stats.tx().duplicated);
    got.dedup();
    assert_eq!(got, (0..1000).collect::<Vec<_>>());
}
