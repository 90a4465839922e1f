//! Streams shared by threads.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::stack::{By, Listener, Stack, Stream};
use crate::support::*;

crate::behaviours! {
    reader_and_writer_on_clones,
    shutdown_read_wakes_a_reader,
    shutdown_both_wakes_a_reader,
    shutdown_write_wakes_a_writer,
    peers_close_wakes_a_reader,
    peers_shutdown_wakes_a_peek,
    drop_of_a_clone_disturbs_no_reader,
    readers_share_a_stream,
    writers_share_a_stream,
    small_records_stay_whole,
    timeout_of_the_reader_disturbs_no_writer,
    many_connections_echo_at_once,
    connects_from_many_threads,
    listener_clone_dropped_while_accepting,
    streams_move_between_threads,
    idle_readers_wake_one_by_one,
    writes_before_anybody_reads_wake_nobody_twice,
}

fn reader_and_writer_on_clones<S: Stack>(stack: &S) {
    let (client, mut server) = pair(stack);
    let mut writer = client.try_clone().unwrap();
    let echo = thread::spawn(move || {
        let mut reader = server.try_clone().unwrap();
        let copied = std::io::copy(&mut reader, &mut server).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        copied
    });
    let data = noise(size(2_000_000, 100_000_000), 20);
    let sent = data.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert_same(&read_all(&client), &data);
    writing.join().unwrap();
    assert_eq!(echo.join().unwrap(), data.len() as u64);
}

fn shutdown_wakes_a_reader<S: Stack>(stack: &S, how: Shutdown) {
    let (client, _server) = pair(stack);
    thread::scope(|scope| {
        let reading = scope.spawn(|| client.read_ref(&mut [0; 10]));
        thread::sleep(ms(50));
        assert!(!reading.is_finished());
        client.shutdown(how).unwrap();
        assert_eq!(reading.join().unwrap().unwrap(), 0);
    });
}

fn shutdown_read_wakes_a_reader<S: Stack>(stack: &S) {
    shutdown_wakes_a_reader(stack, Shutdown::Read);
}

fn shutdown_both_wakes_a_reader<S: Stack>(stack: &S) {
    shutdown_wakes_a_reader(stack, Shutdown::Both);
}

fn shutdown_write_wakes_a_writer<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    fill(&client);
    thread::scope(|scope| {
        let writing = scope.spawn(|| client.write_ref(&[0; 100_000]));
        thread::sleep(ms(50));
        assert!(!writing.is_finished());
        client.shutdown(Shutdown::Write).unwrap();
        assert_errno(writing.join().unwrap(), libc::EPIPE);
    });
}

fn peers_close_wakes_a_reader<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    thread::scope(|scope| {
        let reading = scope.spawn(|| client.read_ref(&mut [0; 10]));
        thread::sleep(ms(50));
        assert!(!reading.is_finished());
        drop(server);
        assert_eq!(reading.join().unwrap().unwrap(), 0);
    });
}

fn peers_shutdown_wakes_a_peek<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    thread::scope(|scope| {
        let peeking = scope.spawn(|| client.peek(&mut [0; 10]));
        thread::sleep(ms(50));
        assert!(!peeking.is_finished());
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peeking.join().unwrap().unwrap(), 0);
    });
}

fn drop_of_a_clone_disturbs_no_reader<S: Stack>(stack: &S) {
    let (client, mut server) = pair(stack);
    let clone = client.try_clone().unwrap();
    let reading = thread::spawn(move || read_some(&clone, 4));
    thread::sleep(ms(50));
    drop(client);
    thread::sleep(ms(50));
    assert!(!reading.is_finished());
    server.write_all(b"data").unwrap();
    assert_eq!(reading.join().unwrap(), b"data");
}

/// Each octet goes to one of them.
fn readers_share_a_stream<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    let data = noise(500_000, 21);
    let counts = |octets: &[u8]| {
        let mut counts = [0usize; 256];
        octets.iter().for_each(|octet| counts[usize::from(*octet)] += 1);
        counts
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| read_all(&server))).collect();
        client.write_all(&data).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let got: Vec<_> = readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
        assert_eq!(got.len(), data.len());
        assert_eq!(counts(&got), counts(&data));
    });
}

fn writers_share_a_stream<S: Stack>(stack: &S) {
    const EACH: usize = 200_000;
    let (client, server) = pair(stack);
    thread::scope(|scope| {
        let reading = scope.spawn(|| read_all(&server));
        let client = &client;
        let writers: Vec<_> =
            (0..4u8).map(|n| scope.spawn(move || By(client).write_all(&[n; EACH]).unwrap())).collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        client.shutdown(Shutdown::Write).unwrap();
        let got = reading.join().unwrap();
        for n in 0..4 {
            assert_eq!(got.iter().filter(|octet| **octet == n).count(), EACH);
        }
    });
}

/// What fits is written by one call in one piece, whoever else writes.
fn small_records_stay_whole<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    thread::scope(|scope| {
        let client = &client;
        let writers: Vec<_> = (1..=8u8)
            .map(|n| scope.spawn(move || (0..100).for_each(|_| assert_eq!(client.write_ref(&[n; 16]).unwrap(), 16))))
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        client.shutdown(Shutdown::Write).unwrap();
    });
    let got = read_all(&server);
    let mut counts = HashMap::new();
    for record in got.chunks(16) {
        assert!(record.iter().all(|octet| *octet == record[0]), "{record:?}");
        *counts.entry(record[0]).or_insert(0) += 1;
    }
    assert_eq!(counts, (1..=8).map(|n| (n, 100)).collect());
}

fn timeout_of_the_reader_disturbs_no_writer<S: Stack>(stack: &S) {
    let (client, server) = pair(stack);
    small_buffers(&client, &server);
    client.set_read_timeout(Some(ms(5))).unwrap();
    let data = noise(200_000, 22);
    thread::scope(|scope| {
        scope.spawn(|| {
            By(&client).write_all(&data).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let reading = scope.spawn(|| (0..10).for_each(|_| assert_errno(client.read_ref(&mut [0; 10]), libc::EAGAIN)));
        thread::sleep(ms(50));
        assert_same(&read_all(&server), &data);
        reading.join().unwrap();
    });
}

fn many_connections_echo_at_once<S: Stack>(stack: &S) {
    let count = size(60, 1_000);
    let (listener, address) = listener(stack);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..count {
                let (mut server, _) = listener.accept().unwrap();
                scope.spawn(move || {
                    let mut reader = server.try_clone().unwrap();
                    std::io::copy(&mut reader, &mut server).unwrap();
                });
            }
        });
        for n in 0..count {
            scope.spawn(move || {
                let client = stack.connect(address).unwrap();
                let data = noise(20_000, n as u64);
                for piece in data.chunks(5_000) {
                    By(&client).write_all(piece).unwrap();
                    assert_same(&read_some(&client, piece.len()), piece);
                }
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(read_all(&client), b"");
            });
        }
    });
}

fn connects_from_many_threads<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let accepted = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let client = stack.connect(address).unwrap();
                    assert_eq!(read_all(&client), b"hello");
                }
            });
        }
        for _ in 0..200 {
            let (mut server, _) = listener.accept().unwrap();
            server.write_all(b"hello").unwrap();
            accepted.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(accepted.into_inner(), 200);
}

fn listener_clone_dropped_while_accepting<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let clone = listener.try_clone().unwrap();
    let accepting = thread::spawn(move || clone.accept().unwrap().1);
    thread::sleep(ms(50));
    drop(listener);
    thread::sleep(ms(50));
    assert!(!accepting.is_finished());
    let client = stack.connect(address).unwrap();
    assert_eq!(accepting.join().unwrap(), client.local_addr().unwrap());
}

fn streams_move_between_threads<S: Stack>(stack: &S) {
    let (mut client, mut server) = pair(stack);
    for round in 0..50u32 {
        client = thread::spawn(move || {
            client.write_all(&round.to_be_bytes()).unwrap();
            client
        })
        .join()
        .unwrap();
        server = thread::spawn(move || {
            let mut got = [0; 4];
            server.read_exact(&mut got).unwrap();
            assert_eq!(u32::from_be_bytes(got), round);
            server
        })
        .join()
        .unwrap();
    }
}

fn idle_readers_wake_one_by_one<S: Stack>(stack: &S) {
    let (listener, address) = listener(stack);
    let pairs: Vec<_> = (0..30).map(|_| connect_to(stack, &listener, address)).collect();
    thread::scope(|scope| {
        let readers: Vec<_> = pairs.iter().map(|(_, server)| scope.spawn(|| read_some(server, 4))).collect();
        thread::sleep(ms(50));
        for (n, ((client, _), reader)) in pairs.iter().zip(readers).enumerate() {
            assert!(!reader.is_finished());
            let record = (n as u32).to_be_bytes();
            By(client).write_all(&record).unwrap();
            assert_eq!(reader.join().unwrap(), record);
        }
    });
}

/// Wake-ups are not saved up: what was read by one call is not announced to the next.
fn writes_before_anybody_reads_wake_nobody_twice<S: Stack>(stack: &S) {
    let (mut client, server) = pair(stack);
    for _ in 0..10 {
        client.write_all(b"x").unwrap();
    }
    read_some(&server, 10);
    server.set_read_timeout(Some(ms(50))).unwrap();
    let start = Instant::now();
    assert_errno(server.read_ref(&mut [0; 10]), libc::EAGAIN);
    assert_took(start.elapsed(), ms(50));
}
