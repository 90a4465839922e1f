//! Random histories, repeatable by their seeds: `TRUST_SEED=n` lives through that one alone.

use std::io::{ErrorKind, IoSlice, Write};
use std::net::Shutdown;
use std::thread;

use crate::stack::{By, Stack, Stream};
use crate::support::*;

crate::behaviours! {
    interleavings_on_one_thread,
    sizes_of_reads_and_writes,
    pauses_of_reader_and_writer,
    streams_cut_at_any_place,
    resets_at_any_place,
    crowds_of_short_streams,
    options_in_the_middle_of_data,
}

/// `count` seeds, or the one that was asked for. A failure names its seed.
fn seeds(count: usize, live: impl Fn(Dice, u64)) {
    let one = std::env::var("TRUST_SEED").ok().map(|seed| seed.parse::<u64>().expect("TRUST_SEED is a number"));
    for seed in one.map_or(0..count as u64, |seed| seed..seed + 1) {
        let named = SaySeed(seed);
        live(Dice::new(seed), seed);
        std::mem::forget(named);
    }
}

/// Speaks up when a panic drops it.
struct SaySeed(u64);

impl Drop for SaySeed {
    fn drop(&mut self) {
        eprintln!("it was TRUST_SEED={}", self.0);
    }
}

/// One direction of a connection: what the model says that the reader must get.
#[derive(Default)]
struct Direction {
    written: Vec<u8>,
    read: usize,
    ended: bool,
}

/// Both ends in one thread, not blocking: every octet is compared, the end comes exactly behind the last.
fn interleavings_on_one_thread<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    seeds(size(20, 500), |mut dice, seed| {
        let (a, b) = connect_to(stack, &listener, address);
        if dice.below(2) == 0 {
            small_buffers(&a, &b);
        }
        let ends = [a, b];
        ends.iter().for_each(|end| end.set_nonblocking(true).unwrap());
        let mut directions = [Direction::default(), Direction::default()];
        for step in 0..400 {
            let from = dice.below(2);
            let (writer, reader) = (&ends[from], &ends[1 - from]);
            let way = &mut directions[from];
            match dice.below(20) {
                0 if step > 200 && !way.ended => {
                    writer.shutdown(Shutdown::Write).unwrap();
                    way.ended = true;
                }
                1..=8 => write_some(writer, way, &mut dice, seed + step),
                9 => {
                    let mut into = vec![0; 1 + dice.below(5_000)];
                    if let Some(n) = would_block(reader.peek(&mut into)) {
                        check(way, &into[..n], seed);
                        way.read -= n;
                    }
                }
                _ => {
                    let mut into = vec![0; 1 + dice.below(20_000)];
                    if let Some(n) = would_block(reader.read_ref(&mut into)) {
                        check(way, &into[..n], seed);
                    }
                }
            }
        }
        for (from, way) in directions.iter_mut().enumerate() {
            let (writer, reader) = (&ends[from], &ends[1 - from]);
            if !way.ended {
                writer.shutdown(Shutdown::Write).unwrap();
                way.ended = true;
            }
            reader.set_nonblocking(false).unwrap();
            check(way, &read_all(reader), seed);
            assert_eq!(way.read, way.written.len(), "seed {seed}");
        }
    });
}

fn would_block<T>(result: std::io::Result<T>) -> Option<T> {
    match result {
        Err(e) if e.kind() == ErrorKind::WouldBlock => None,
        result => Some(result.unwrap()),
    }
}

fn write_some<T: Stream>(writer: &T, way: &mut Direction, dice: &mut Dice, seed: u64) {
    let data = noise(1 + dice.below(10_000), seed);
    if way.ended {
        assert_errno(writer.write_ref(&data), libc::EPIPE);
    } else if let Some(n) = would_block(writer.write_ref(&data)) {
        assert!(n > 0);
        way.written.extend_from_slice(&data[..n]);
    }
}

/// `got` came next; nothing at all is the end.
fn check(way: &mut Direction, got: &[u8], seed: u64) {
    let rest = &way.written[way.read..];
    assert!(rest.starts_with(got), "seed {seed}: {} octets after {} are others", got.len(), way.read);
    assert!(!got.is_empty() || way.ended && rest.is_empty(), "seed {seed}: an end after {} octets", way.read);
    way.read += got.len();
}

/// A thread that writes and one that reads, each in random sizes.
fn sizes_of_reads_and_writes<S: Stack>(stack: &S) {
    seeds(size(8, 200), |mut dice, seed| {
        let (client, server) = pair(stack);
        let data = noise(10_000 + dice.below(500_000), seed);
        thread::scope(|scope| {
            scope.spawn(|| write_in_pieces(&client, &data, &mut Dice::new(seed + 1000), 0));
            let mut got = Vec::new();
            loop {
                let mut into = vec![0; 1 << dice.below(17)];
                let n = server.read_ref(&mut into).unwrap();
                if n == 0 {
                    break;
                }
                got.extend_from_slice(&into[..n]);
            }
            assert_same(&got, &data);
        });
    });
}

/// All of `data` and the end, by plain and vectored writes of random sizes, with a pause now and then.
fn write_in_pieces<T: Stream>(stream: &T, data: &[u8], dice: &mut Dice, pauses: usize) {
    let mut rest = data;
    while !rest.is_empty() {
        let piece = &rest[..rest.len().min(1 + dice.scaled(16))];
        let written = if dice.below(4) == 0 {
            let (a, b) = piece.split_at(dice.below(piece.len()));
            stream.write_vectored_ref(&[IoSlice::new(a), IoSlice::new(b)]).unwrap()
        } else {
            stream.write_ref(piece).unwrap()
        };
        assert!(written > 0);
        rest = &rest[written..];
        if pauses > 0 && dice.below(pauses) == 0 {
            thread::sleep(ms(1 + dice.below(5) as u64));
        }
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

fn pauses_of_reader_and_writer<S: Stack>(stack: &S) {
    seeds(size(6, 100), |mut dice, seed| {
        let (client, server) = pair(stack);
        small_buffers(&client, &server);
        let data = noise(100_000 + dice.below(100_000), seed);
        thread::scope(|scope| {
            scope.spawn(|| write_in_pieces(&client, &data, &mut Dice::new(seed + 2000), 20));
            let mut got = Vec::new();
            loop {
                let mut into = vec![0; 1 + dice.below(20_000)];
                let n = server.read_ref(&mut into).unwrap();
                if n == 0 {
                    break;
                }
                got.extend_from_slice(&into[..n]);
                if dice.below(10) == 0 {
                    thread::sleep(ms(1 + dice.below(5) as u64));
                }
            }
            assert_same(&got, &data);
        });
    });
}

/// A writer that drops its stream: exactly what it wrote arrives, then the end.
fn streams_cut_at_any_place<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    seeds(size(50, 1_000), |mut dice, seed| {
        let (mut client, server) = connect_to(stack, &listener, address);
        let data = noise(dice.scaled(17), seed);
        thread::scope(|scope| {
            let reading = scope.spawn(|| read_all(&server));
            client.write_all(&data).unwrap();
            drop(client);
            assert_same(&reading.join().unwrap(), &data);
        });
    });
}

/// A writer that resets: a prefix arrives, then the error, never anything else.
fn resets_at_any_place<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    seeds(size(50, 1_000), |mut dice, seed| {
        let (mut client, server) = connect_to(stack, &listener, address);
        let data = noise(1 + dice.scaled(17), seed);
        let pause = dice.below(3) as u64;
        thread::scope(|scope| {
            scope.spawn(|| {
                client.write_all(&data).unwrap();
                thread::sleep(ms(pause));
                abort(client);
            });
            let mut got = Vec::new();
            let error = std::io::Read::read_to_end(&mut By(&server), &mut got).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(data.starts_with(&got), "seed {seed}: {} octets", got.len());
        });
    });
}

fn crowds_of_short_streams<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    seeds(size(5, 50), |mut dice, _| {
        let mut open = Vec::new();
        for round in 0..200u32 {
            if open.is_empty() || dice.below(3) > 0 {
                let (mut client, server) = connect_to(stack, &listener, address);
                client.write_all(&round.to_be_bytes()).unwrap();
                open.push((round, client, server));
            } else {
                let (round, client, mut server) = open.swap_remove(dice.below(open.len()));
                assert_eq!(read_some(&server, 4), round.to_be_bytes());
                server.write_all(&round.to_le_bytes()).unwrap();
                drop(server);
                assert_eq!(read_all(&client), round.to_le_bytes());
            }
        }
    });
}

/// Whatever is switched while octets flow, they stay what they are.
fn options_in_the_middle_of_data<S: Stack>(stack: &S) {
    seeds(size(5, 100), |mut dice, seed| {
        let (client, server) = pair(stack);
        let data = noise(400_000, seed);
        // The one there is at first: others than reno may be forbidden.
        let first = client.congestion().unwrap();
        thread::scope(|scope| {
            let writing = scope.spawn(|| write_in_pieces(&client, &data, &mut Dice::new(seed + 3000), 100));
            let reading = scope.spawn(|| read_all(&server));
            while !writing.is_finished() {
                let on = dice.below(2) == 0;
                let octets = 8_192 << dice.below(5);
                match dice.below(8) {
                    0 => client.set_nodelay(on),
                    1 => client.set_cork(on),
                    2 => client.set_ttl(1 + dice.below(255) as u32),
                    3 => client.set_send_buffer(octets),
                    4 => server.set_receive_buffer(octets),
                    5 => client.set_congestion(if on { "reno" } else { &first }),
                    6 => server.set_quickack(on),
                    _ => client.set_notsent_lowat(octets),
                }
                .unwrap();
                assert!(client.info().unwrap().snd_cwnd > 0);
                thread::sleep(ms(1));
            }
            assert_same(&reading.join().unwrap(), &data);
        });
    });
}
