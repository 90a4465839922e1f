//! The model checker on the protocol of buckets: no two shards have records of one bucket at a time, whoever claims, gives
//! back or sweeps meanwhile, and in the end it is vacant. Run by `cargo xloom`.
#![allow(clippy::unwrap_used)]

use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::thread;

use super::*;

const X: u16 = 0;
const Y: u16 = 1;

/// One bucket, and the records that all shards have in it.
struct World {
    bucket: Bucket,
    records: [AtomicUsize; 2],
}

impl World {
    /// A flow's whole life on `shard`: a SYN comes to it, by a claim of its own or of somebody before, a record is made if the
    /// bucket is its own, and is gone again. Whether there was one.
    fn live(&self, shard: u16) -> bool {
        let mine = self.bucket.claim(shard) == shard;
        if mine {
            self.records[usize::from(shard)].fetch_add(1, Ordering::SeqCst);
            let other = self.records[1 - usize::from(shard)].load(Ordering::SeqCst);
            assert_eq!(other, 0, "two shards have records of one bucket");
            self.records[usize::from(shard)].fetch_sub(1, Ordering::SeqCst);
            assert!(self.bucket.release(shard), "only the owner gives it back");
        }
        mine
    }

    /// What a sweep does: the shard has no record, but perhaps the bucket.
    fn sweep(&self, shard: u16) -> bool {
        self.bucket.release(shard)
    }
}

fn explore(scenario: impl Fn(Arc<World>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(move || {
        let records = [AtomicUsize::new(0), AtomicUsize::new(0)];
        scenario(Arc::new(World { bucket: Bucket::vacant(), records }));
    });
}

#[test]
fn loom_one_owner_a_bucket() {
    explore(|world| {
        let theirs = Arc::clone(&world);
        let other = thread::spawn(move || (0..2).filter(|_| theirs.live(Y)).count());
        let mine = (0..2).filter(|_| world.live(X)).count();
        assert!(mine + other.join().unwrap() >= 2, "one of them always gets it");
        assert_eq!(world.bucket.owner(), None);
    });
}

/// A reader claims for a shard, whose sweep comes before the SYN does; the other shard wants the bucket, too.
#[test]
fn loom_a_claim_for_another_may_be_swept_before_its_syn_comes() {
    explore(|world| {
        let reader = Arc::clone(&world);
        // To whom the SYN goes.
        let reader = thread::spawn(move || reader.bucket.claim(X));
        let other = Arc::clone(&world);
        let other = thread::spawn(move || other.live(Y));
        world.sweep(X);
        let to = reader.join().unwrap();
        // Y has heard of a SYN that lost against its own flow, or has none any more.
        let served = if to == X { world.live(X) } else { false };
        let before = other.join().unwrap();
        assert!(served || before, "somebody is served");
        world.sweep(X);
        assert_eq!(world.bucket.owner(), None, "every bucket is vacant again");
    });
}

/// Who loses is told the winner: packets of one quad that race go to one shard.
#[test]
fn loom_the_loser_is_told_the_winner() {
    explore(|world| {
        let theirs = Arc::clone(&world);
        let other = thread::spawn(move || theirs.bucket.claim(Y));
        let mine = world.bucket.claim(X);
        assert_eq!(mine, other.join().unwrap());
        assert_eq!(world.bucket.owner(), Some(mine));
    });
}
