use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use proptest::prelude::*;

fn key() -> CookieKey {
    CookieKey::new([5; 16])
}

fn v4() -> Subject {
    let at = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    Subject { local: (at(2), 80), remote: (at(1), 40_000), irs: SeqNum(77), listener: 9 }
}

fn v6() -> Subject {
    let at = |last| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
    Subject { local: (at(2), 80), remote: (at(1), 40_000), irs: SeqNum(77), listener: 9 }
}

#[test]
fn rfc4987_3_6a_each_part_of_what_a_cookie_stands_for_counts() {
    let key = key();
    let cookie = key.make(&v4(), 12, 1_460, &TcpOptions::default());
    assert!(key.check(&v4(), 12, cookie).is_some());
    let other = |change: fn(&mut Subject)| {
        let mut subject = v4();
        change(&mut subject);
        subject
    };
    let others = [
        other(|s| s.local.1 += 1),
        other(|s| s.remote.1 += 1),
        other(|s| s.local.0 = s.remote.0),
        other(|s| s.remote.0 = s.local.0),
        other(|s| std::mem::swap(&mut s.local, &mut s.remote)),
        other(|s| s.irs += 1),
        other(|s| s.listener += 1),
    ];
    for subject in others {
        assert_eq!(key.check(&subject, 12, cookie), None, "{subject:?}");
    }
    assert_eq!(CookieKey::new([6; 16]).check(&v4(), 12, cookie), None);
    for bit in 0..32 {
        assert_eq!(key.check(&v4(), 12, SeqNum(cookie.0 ^ 1 << bit)), None, "bit {bit}");
    }
}

#[test]
fn rfc4987_3_6b_a_cookie_is_good_for_two_epochs() {
    let cookie = key().make(&v4(), 12, 1_460, &TcpOptions::default());
    let epochs: Vec<u64> = (0..40).filter(|&epoch| key().check(&v4(), epoch, cookie).is_some()).collect();
    assert_eq!(epochs, [12, 13]);
    let checked = key().check(&v4(), 13, cookie).map(|cookie| cookie.epoch);
    assert_eq!(checked, Some(12), "the epoch in which it was made");
    assert_eq!(epoch_at(Instant::from_millis(29_999), 0), 0);
    assert_eq!(epoch_at(Instant::from_secs(30), 0), 1);
    assert_eq!(epoch_at(Instant::from_secs(30), 5), 6);
}

proptest! {
    #[test]
    fn options_come_back(mss: u16, window_scale: Option<u8>, sack_permitted: bool, ipv6: bool, epoch in 0_u64..1 << 40) {
        let subject = if ipv6 { v6() } else { v4() };
        let options = TcpOptions { window_scale, sack_permitted, ..TcpOptions::default() };
        let cookie = key().make(&subject, epoch, mss, &options);
        let got = key().check(&subject, epoch + 1, cookie).expect("good").options;
        prop_assert_eq!(got.window_scale, window_scale.map(|shift| shift.min(14)));
        prop_assert_eq!(got.sack_permitted, sack_permitted);
        let table = mss_table(&subject);
        let largest = table.iter().copied().filter(|entry| *entry <= mss).max();
        prop_assert_eq!(got.mss, Some(largest.unwrap_or(88)), "never more than the peer takes, but for the floor");
    }
}

#[test]
fn mss_values_are_ascending_and_have_the_defaults() {
    assert!(MSS_V4.is_sorted() && MSS_V6.is_sorted());
    assert!(MSS_V4.contains(&536) && MSS_V6.contains(&1_220), "MUST-15");
    assert!(MSS_V4.contains(&1_460) && MSS_V6.contains(&1_440));
}

/// MUST-9: to whoever does not have the key.
#[test]
fn cookies_of_equal_options_look_random() {
    let options = TcpOptions { window_scale: Some(7), sack_permitted: true, ..TcpOptions::default() };
    let mut upper = HashSet::new();
    for port in 0..2_000 {
        let subject = Subject { remote: (v4().remote.0, port), ..v4() };
        upper.insert(key().make(&subject, 3, 1_460, &options).0 >> 24);
    }
    assert!(upper.len() > 250, "{}", upper.len());
}

/// Two in 2^24: of 2^20 guesses more than a few would be a fault.
#[test]
fn guesses_do_not_succeed() {
    let mut good = 0;
    let mut guess = 1_u32;
    for _ in 0..1 << 20 {
        guess = guess.wrapping_mul(0x9e37_79b1).wrapping_add(12_345);
        good += usize::from(key().check(&v4(), 50, SeqNum(guess)).is_some());
    }
    assert!(good <= 4, "{good}");
}

#[test]
fn modes_are_called_by_their_names() {
    for (text, mode) in [("off", SynCookies::Off), ("overflow", SynCookies::Overflow), ("always", SynCookies::Always)] {
        assert_eq!(text.parse(), Ok(mode));
    }
    for text in ["", "on", "Always", "always "] {
        let error = text.parse::<SynCookies>().expect_err("no such word").to_string();
        assert_eq!(error, format!("no use of SYN cookies is called {text:?}: off, overflow or always"));
    }
}

#[test]
fn the_key_is_not_shown() {
    assert_eq!(format!("{:?}", key()), "CookieKey { .. }");
}
