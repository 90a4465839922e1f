//! Tests of the buckets of a shard by themselves; `tests/shard/buckets.rs` has those of a shard that has some.

use super::*;

const ME: ShardId = ShardId(1);

fn at(millis: u64) -> Instant {
    Instant::from_secs(100) + Duration::from_millis(millis)
}

#[test]
fn a_bucket_is_given_back_with_its_last_record_and_not_before_the_turn_ends() {
    let (mut buckets, owners) = (Buckets::new(), OwnerTable::by_birth(2));
    assert_eq!(owners.claim(77, ME), ME);
    buckets.enter(77);
    buckets.enter(77);
    buckets.leave(77);
    buckets.give_back_emptied(&owners, ME);
    assert_eq!((owners.claimed(77), buckets.occupied()), (Some(ME), 1));
    // One record becomes another in between.
    buckets.leave(77);
    buckets.enter(77);
    buckets.give_back_emptied(&owners, ME);
    assert_eq!((owners.claimed(77), buckets.occupied()), (Some(ME), 1));
    buckets.leave(77);
    assert_eq!((owners.claimed(77), buckets.occupied()), (Some(ME), 0));
    buckets.give_back_emptied(&owners, ME);
    assert_eq!(owners.claimed(77), None);
    // What is another's by now is left alone.
    owners.claim(77, ShardId(0));
    buckets.look_at(77);
    buckets.give_back_emptied(&owners, ME);
    assert_eq!(owners.claimed(77), Some(ShardId(0)));
}

/// Claims of SYNs that never came are found in pieces, once packets have come, and then it is quiet.
#[test]
fn claims_that_nothing_came_of_are_swept_a_piece_at_a_time() {
    let (mut buckets, owners) = (Buckets::new(), OwnerTable::by_birth(2));
    for bucket in (0..65_536).step_by(16) {
        owners.claim(bucket, if bucket % 64 == 0 { ShardId(0) } else { ME });
    }
    buckets.enter(16);
    assert_eq!(buckets.sweep(&owners, ME, 0, at(0)), (0, 0), "no packet, no sweep");
    assert_eq!(buckets.due, None);
    assert_eq!(buckets.sweep(&owners, ME, 1, at(0)), (0, 0), "it begins later");
    let (mut now, mut pieces, mut given_back) = (at(0), 0, 0);
    while let Some(due) = buckets.due {
        assert_eq!(due - now, SWEEP_INTERVAL);
        now = due;
        let (looked_at, swept) = buckets.sweep(&owners, ME, 1, now);
        assert_eq!(looked_at, budget::BUCKETS);
        assert!(swept <= budget::BUCKETS as u64 / 16);
        (pieces, given_back) = (pieces + 1, given_back + swept);
    }
    assert_eq!((pieces, given_back), (PIECES, 3 * 1_024 - 1));
    assert_eq!(owners.claimed_buckets(), 1_024 + 1, "another's, and the one that has a record");
    assert_eq!(buckets.sweep(&owners, ME, 2, now), (0, 0));
    assert!(buckets.due.is_some(), "another packet");
}

#[test]
fn a_sweep_goes_on_while_packets_come() {
    let (mut buckets, owners) = (Buckets::new(), OwnerTable::by_birth(2));
    let mut looked_at = 0;
    for millis in 0..4_000 {
        looked_at += buckets.sweep(&owners, ME, millis + 1, at(millis)).0;
    }
    assert_eq!(looked_at, 79 * budget::BUCKETS, "one piece each 50 ms, however many packets");
}

/// The sweep until there is nothing to look for any more: when that was, and the most buckets that one turn gave back.
fn sweep_until_quiet(buckets: &mut Buckets, owners: &OwnerTable) -> (Instant, usize) {
    let (mut now, mut most) = (at(0), 0);
    buckets.sweep(owners, ME, 1, now);
    while let Some(due) = buckets.due {
        now = due;
        buckets.sweep(owners, ME, 1, now);
        most = most.max(buckets.emptied.len());
        buckets.give_back_emptied(owners, ME);
    }
    (now, most)
}

/// However many cookies are used, a bucket is kept once, until the last of them is good no more.
#[test]
fn a_bucket_is_kept_once_for_any_number_of_used_cookies() {
    let (mut buckets, owners) = (Buckets::new(), OwnerTable::by_birth(2));
    owners.claim(5, ME);
    for millis in 0..100_000 {
        buckets.keep(5, at(60_000 + millis));
    }
    assert_eq!((buckets.records[5], buckets.occupied()), (1, 1));
    let (now, most) = sweep_until_quiet(&mut buckets, &owners);
    assert!((at(159_999)..at(162_000)).contains(&now), "{now:?}");
    assert_eq!((most, owners.claimed(5), buckets.occupied()), (1, None, 0));
}

/// All of them at once are given back in pieces, and none before its time.
#[test]
fn kept_buckets_are_given_back_a_piece_at_a_time() {
    let (mut buckets, owners) = (Buckets::new(), OwnerTable::by_birth(2));
    for odd in 0..2 {
        for bucket in (odd..=u16::MAX).step_by(2) {
            owners.claim(bucket.into(), ME);
            buckets.keep(bucket, at(60_000 + u64::from(odd) * 30_000));
        }
    }
    let mut packets = 0;
    for millis in (0..59_900).step_by(50) {
        packets += 1;
        buckets.sweep(&owners, ME, packets, at(millis));
        buckets.give_back_emptied(&owners, ME);
    }
    assert_eq!(owners.claimed_buckets(), BUCKETS);
    // While packets come, they go when their own time is up.
    let mut most = 0;
    for millis in (59_900..65_000).step_by(50) {
        packets += 1;
        buckets.sweep(&owners, ME, packets, at(millis));
        most = most.max(buckets.emptied.len());
        buckets.give_back_emptied(&owners, ME);
    }
    assert_eq!((owners.claimed_buckets(), most), (BUCKETS / 2, budget::BUCKETS / 2));
    // When all is quiet, at the end of the last.
    let (now, later) = sweep_until_quiet(&mut buckets, &owners);
    assert!((at(90_000)..at(93_000)).contains(&now), "{now:?}");
    assert_eq!((owners.claimed_buckets(), buckets.occupied()), (0, 0));
    assert_eq!(later, budget::BUCKETS / 2);
}
