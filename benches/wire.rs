//! Costs of the wire room and of the steering hash, packet by packet. Needs no rights.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trust::flow::{Endpoint, Quad};
use trust::shard::FlowHasher;
use trust::steering::SteeringKeys;
use trust::wire::options::{TcpOptions, Timestamps};
use trust::wire::tcp::{Flags, TcpHeader};
use trust::wire::{PROTOCOL_TCP, checksum, ip, tcp};

const SRC: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const DST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

fn header() -> TcpHeader {
    let timestamps = Some(Timestamps { val: 0x0102_0304, ecr: 0x0506_0708 });
    TcpHeader {
        src_port: 40_000,
        dst_port: 80,
        seq: 1,
        ack: 2,
        flags: Flags::ACK | Flags::PSH,
        window: 512,
        options: TcpOptions { timestamps, ..TcpOptions::default() },
        ..TcpHeader::default()
    }
}

/// IP and TCP header with a checksum for the device to complete.
fn build(out: &mut [u8], header: &TcpHeader, payload: usize) -> usize {
    let tcp_len = tcp::header_len(header);
    let at = ip::write(out, SRC, DST, PROTOCOL_TCP, tcp_len + payload, ip::IpFields::default());
    tcp::write(header, &mut out[at..at + tcp_len]);
    tcp::set_partial_checksum(&mut out[at..at + tcp_len], SRC, DST, payload);
    at + tcp_len
}

fn packet(payload: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; 2_048];
    let len = build(&mut packet, &header(), payload);
    packet.truncate(len + payload);
    let (head, rest) = packet.split_at_mut(len);
    head[20 + tcp::CHECKSUM_OFFSET..][..2].fill(0);
    tcp::set_checksum(&mut head[20..], SRC, DST, &[rest]);
    packet
}

fn bench_headers(c: &mut Criterion) {
    let parse = |bytes: &[u8], trusted: bool| -> u32 {
        let ip = ip::parse(bytes, true).expect("well formed");
        let (tcp, payload) = tcp::parse(ip.payload, ip.src, ip.dst, trusted).expect("well formed");
        tcp.seq ^ payload.len() as u32
    };
    let bulk = packet(1_448);
    c.bench_function("parse/trusted", |b| b.iter(|| parse(black_box(&bulk), true)));
    c.bench_function("parse/verified", |b| b.iter(|| parse(black_box(&bulk), false)));
    let (mut out, header) = ([0; 120], header());
    c.bench_function("build/partial_checksum", |b| b.iter(|| build(&mut out, black_box(&header), 1_448)));
}

fn bench_checksum(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for len in [1_460, 65_536] {
        let data = vec![0xa5; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(len.to_string(), |b| b.iter(|| checksum::sum(black_box(&data))));
    }
    group.finish();
}

fn bench_hashes(c: &mut Criterion) {
    let (keys, hasher) = (SteeringKeys::from_random([7; 16]), FlowHasher::from_random([9; 16]));
    let bytes = packet(0);
    let quad = Quad { local: Endpoint::new(DST, 80), remote: Endpoint::new(SRC, 40_000) };
    c.bench_function("hash/packet", |b| b.iter(|| keys.hash_packet(black_box(&bytes))));
    c.bench_function("hash/owner", |b| b.iter(|| keys.hash_owner(black_box(&bytes))));
    c.bench_function("hash/quad", |b| b.iter(|| keys.hash_quad(black_box(&quad))));
    c.bench_function("hash/flow_table", |b| b.iter(|| hasher.hash(black_box(&quad))));
}

criterion_group!(benches, bench_headers, bench_checksum, bench_hashes);
criterion_main!(benches);
