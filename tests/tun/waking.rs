//! Waiting: threads that park between events, on CPUs that have other work, must not sleep through one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;

pub(crate) fn fused() -> Outcome {
    busy_neighbours(&["--plan", "fused"])
}

pub(crate) fn pipeline() -> Outcome {
    busy_neighbours(&["--plan", "pipeline", "--workers", "2"])
}

/// Clients that pause for about as long as a thread takes to park, beside more spinning threads than CPUs. An event that
/// is slept through shows as an answer that never comes: TCP would send again only what is lost on the way.
fn busy_neighbours(arguments: &[&str]) -> Outcome {
    const CLIENTS: u64 = 6;
    /// Far beyond what a scheduler needs, far below what a user would wait.
    const PATIENCE: Duration = Duration::from_secs(10);
    let engine = Engine::start(arguments);
    let until = Instant::now() + Duration::from_secs(size(3, 60) as u64);
    let done = AtomicBool::new(false);
    let rounds: u64 = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || {
                    let mut stream = TcpStream::connect((ENGINE, 7)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let data = noise(20_000, client + 1);
                    let mut back = vec![0; data.len()];
                    let (mut round, mut turn) = (0, client);
                    while Instant::now() < until {
                        turn = turn.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                        let len = if turn >> 60 == 0 { data.len() } else { 1 + (turn >> 56) as usize };
                        stream.write_all(&data[..len]).unwrap();
                        if let Err(error) = stream.read_exact(&mut back[..len]) {
                            panic!("client {client}, round {round}, {len} octets: no answer in {PATIENCE:?}: {error}");
                        }
                        assert_same(&back[..len], &data[..len]);
                        round += 1;
                        thread::sleep(Duration::from_micros((turn >> 32) & 1023));
                    }
                    round
                })
            })
            .collect();
        let rounds = clients.into_iter().map(|client| client.join()).collect::<Result<Vec<_>, _>>();
        done.store(true, Ordering::Relaxed);
        rounds.unwrap().iter().sum()
    });
    assert!(rounds >= CLIENTS, "{rounds} rounds");
    let summary = engine.finish();
    assert_eq!(summary.number(" connections accepted"), CLIENTS as f64);
    Ok(())
}
