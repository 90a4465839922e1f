//! Tests of the options: SC-13, MUST-4..7, MUST-64..69.
#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn sack(blocks: &[(u32, u32)]) -> SackBlocks {
    let mut sack = SackBlocks::default();
    for &(l, r) in blocks {
        assert!(sack.push(l, r));
    }
    sack
}

#[test]
fn sc_13_areas_and_what_they_mean() {
    let none = TcpOptions::default();
    let mss = |v| TcpOptions { mss: Some(v), ..none };
    let ts = TcpOptions { timestamps: Some(Timestamps { val: 0x0102_0304, ecr: 0x0506_0708 }), ..none };
    let illegal = Err(Malformed::TcpOption);
    let cases: &[(&str, &[u8], Result<TcpOptions, Malformed>)] = &[
        ("empty", &[], Ok(none)),
        ("MUST-4 EOL", &[0], Ok(none)),
        ("MUST-4 NOPs to the end", &[1; 40], Ok(none)),
        ("MUST-4 MSS", &[2, 4, 5, 0xb4], Ok(mss(1460))),
        ("MUST-64 MSS at an odd octet", &[1, 2, 4, 5, 0xb4, 1, 1, 1], Ok(mss(1460))),
        ("the last of two counts", &[2, 4, 5, 0xb4, 2, 4, 2, 0x18], Ok(mss(536))),
        ("MUST-69 garbage after EOL is padding", &[2, 4, 5, 0xb4, 0, 99, 0, 77], Ok(mss(1460))),
        ("MUST-6 unknown kind skipped", &[200, 6, 1, 2, 3, 4, 2, 4, 5, 0xb4], Ok(mss(1460))),
        ("MUST-6 unknown kind of length 2", &[200, 2, 2, 4, 5, 0xb4], Ok(mss(1460))),
        ("MUST-7 length 0", &[2, 0, 5, 0xb4], illegal),
        ("MUST-7 length 1", &[2, 1, 5, 0xb4], illegal),
        ("MUST-7 unknown kind of length 0", &[200, 0, 1, 1], illegal),
        ("MUST-7 unknown kind of length 1", &[200, 1, 1, 1], illegal),
        ("MUST-7 past the header", &[2, 5, 5, 0xb4], illegal),
        ("MUST-7 kind without a length", &[1, 1, 1, 2], illegal),
        ("MUST-7 MSS of length 3", &[2, 3, 5, 1], illegal),
        ("MUST-7 window scale of length 4", &[3, 4, 7, 7], illegal),
        ("MUST-7 SACK permitted of length 3", &[4, 3, 0, 1], illegal),
        ("MUST-7 timestamps of length 8", &[8, 8, 0, 0, 0, 0, 0, 0], illegal),
        ("MUST-7 SACK without a block", &[5, 2, 1, 1], illegal),
        ("MUST-7 SACK of half a block", &[5, 6, 0, 0, 0, 0, 1, 1], illegal),
        (
            "window scale above 14 is kept as received",
            &[3, 3, 200, 1],
            Ok(TcpOptions { window_scale: Some(200), ..none }),
        ),
        ("timestamps, the usual layout", &[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8], Ok(ts)),
        ("timestamps first", &[8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1], Ok(ts)),
        (
            "SACK",
            &[1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4],
            Ok(TcpOptions { sack: sack(&[(1, 2), (3, 4)]), ..none }),
        ),
    ];
    for (name, area, expected) in cases {
        assert_eq!(TcpOptions::parse(area), *expected, "{name}");
    }
}

/// RFC7323-Aa, MUST-68.
#[test]
fn layouts() {
    let none = TcpOptions::default();
    let timestamps = Some(Timestamps { val: 1, ecr: 2 });
    let cases: &[(&str, TcpOptions, &[u8])] = &[
        ("none", none, &[]),
        ("timestamps", TcpOptions { timestamps, ..none }, &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
        (
            "a full SYN",
            TcpOptions { mss: Some(1460), window_scale: Some(7), sack_permitted: true, timestamps, ..none },
            &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7],
        ),
        (
            "a SYN without timestamps",
            TcpOptions { mss: Some(1460), window_scale: Some(7), sack_permitted: true, ..none },
            &[2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7],
        ),
        ("SACK", TcpOptions { sack: sack(&[(1, 2)]), ..none }, &[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
    ];
    for (name, options, expected) in cases {
        let mut out = [0xee; MAX_LEN];
        let len = options.write(&mut out);
        assert_eq!((&out[..len], len), (*expected, options.wire_len()), "{name}");
        assert!(out[len..].iter().all(|&b| b == 0xee), "{name}: nothing written behind");
    }
}

#[test]
fn rfc2018_3_blocks_that_fit() {
    let mut four = sack(&[(1, 2), (3, 4), (5, 6), (7, 8)]);
    assert!(!four.push(9, 10), "there are four places");
    let mut out = [0; MAX_LEN];
    let alone = TcpOptions { sack: four, ..Default::default() };
    assert_eq!(alone.write(&mut out), 36);
    let with_ts = TcpOptions { timestamps: Some(Timestamps::default()), ..alone };
    assert_eq!(with_ts.write(&mut out), 40);
    assert_eq!(TcpOptions::parse(&out).unwrap().sack, sack(&[(1, 2), (3, 4), (5, 6)]), "three beside timestamps");
}

pub(in crate::wire) fn any_options() -> impl Strategy<Value = TcpOptions> {
    (any::<Option<u16>>(), any::<Option<u8>>(), any::<bool>(), any::<Option<(u32, u32)>>()).prop_flat_map(
        |(mss, window_scale, sack_permitted, ts)| {
            let timestamps = ts.map(|(val, ecr)| Timestamps { val, ecr });
            let options = TcpOptions { mss, window_scale, sack_permitted, timestamps, sack: SackBlocks::default() };
            let room = (MAX_LEN - options.wire_len()).saturating_sub(4) / 8;
            proptest::collection::vec(any::<(u32, u32)>(), 0..=room)
                .prop_map(move |blocks| TcpOptions { sack: sack(&blocks), ..options })
        },
    )
}

proptest! {
    #[test]
    fn written_and_parsed_are_the_same(options in any_options()) {
        let mut out = [0; MAX_LEN];
        let len = options.write(&mut out);
        prop_assert_eq!(len, options.wire_len());
        prop_assert_eq!(len % 4, 0);
        prop_assert_eq!(TcpOptions::parse(&out[..len]), Ok(options));
    }

    #[test]
    fn must_7_any_octets_end_without_a_panic(area in proptest::collection::vec(any::<u8>(), 0..=40)) {
        let _ = TcpOptions::parse(&area);
    }

    /// Small numbers are kinds and lengths, so that deeper branches are reached than by random octets.
    #[test]
    fn must_7_likely_octets_end_without_a_panic(area in proptest::collection::vec(0u8..12, 0..=40)) {
        if let Ok(options) = TcpOptions::parse(&area) {
            let mut out = [0; MAX_LEN];
            let len = options.write(&mut out);
            prop_assert!(len <= MAX_LEN);
        }
    }
}
