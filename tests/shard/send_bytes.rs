//! Octets of an application, sent from where they lie: what is sent, and how long they are kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::rig::{Call, Rig, probe};

const PORT: u16 = 7;

/// Octets of an application that tells when they are let go.
struct Owned(Vec<u8>, Arc<AtomicBool>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Relaxed);
    }
}

/// A rig whose service sends `octets` as [`Bytes`] to who connects; `true` once they are let go.
fn sender_of_bytes(octets: &[u8]) -> (Rig, Arc<AtomicBool>) {
    let gone = Arc::new(AtomicBool::new(false));
    let mut rest = Some(Bytes::from_owner(Owned(octets.to_vec(), Arc::clone(&gone))));
    let (service, _) = probe(move |io, call| {
        if let Call::Readable(conn) = call {
            io.consume(*conn, io.unread(*conn));
            if io.at_eof(*conn) {
                io.close(*conn);
            }
        }
        if let Call::Accepted(conn) | Call::Writable(conn) = call
            && let Some(bytes) = rest.take()
        {
            rest = io.send_bytes(*conn, bytes).err();
            if rest.is_none() {
                // Few octets behind many: copied.
                assert_eq!(io.send_bytes(*conn, Bytes::from_static(b"bye")), Ok(()));
            }
        }
    });
    let mut rig = Rig::new();
    rig.shard.add_service(Some(PORT), service);
    (rig, gone)
}

#[test]
fn octets_of_an_application_are_sent_uncopied_and_kept_until_acknowledged() {
    let octets: Vec<u8> = (0..700_000_u32).map(|at| (at % 251) as u8).collect();
    let (mut rig, gone) = sender_of_bytes(&octets);
    let mut peer = rig.connect(40_000, PORT);
    let mut copied = 0;
    for _ in 0..2_000 {
        if peer.got.len() >= octets.len() {
            break;
        }
        assert!(!gone.load(Ordering::Relaxed), "after {} octets", peer.got.len());
        peer.take(&mut rig);
        copied = copied.max(rig.counters().send_chunks);
        rig.turn(&[peer.ack()]);
    }
    peer.take(&mut rig);
    rig.turn(&[peer.ack()]);
    rig.settle();
    assert!(peer.got[..octets.len()] == octets[..] && peer.got[octets.len()..] == *b"bye");
    assert!(gone.load(Ordering::Relaxed));
    assert!(copied <= 1, "{copied} chunks for the few octets at the end");
    let fin = peer.fin();
    rig.turn(&[fin]);
    peer.take(&mut rig);
    rig.turn(&[peer.ack()]);
    rig.assert_empty();
}

#[test]
fn octets_of_an_application_are_kept_until_the_last_completion() {
    let (mut rig, gone) = sender_of_bytes(&[9; 10_000]);
    rig.hold_completions = true;
    let peer = rig.connect(40_000, PORT);
    assert!(!rig.completions.is_empty());
    rig.turn(&[peer.rst()]);
    assert_eq!(rig.counters().connections, 0);
    assert!(rig.shard.awaits_completions() && !gone.load(Ordering::Relaxed), "the tx stage may still read them");
    rig.hold_completions = false;
    rig.turn(&[]);
    assert!(gone.load(Ordering::Relaxed));
    rig.assert_empty();
}
