//! Ten thousand tokio streams that echo at the same time through two engines in one process, without and with one that does
//! not read: no error, no stream left behind, nothing lost, and what one costs. `TRUST_SOAK=1`: for 30 seconds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use trust::device::memory::{MemoryOptions, pair};
use trust::engine::{Engine, Pin};

use crate::{counting, crowd, resident};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));

const STREAMS: usize = 10_000;
/// Heap octets of a stream while it echoes: both ends, their connections, tasks and buffers of both programs.
const LIMIT: u64 = 24_576;

pub(crate) fn echo() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(echo_beside_a_stalled_reader());
}

async fn echo_beside_a_stalled_reader() {
    let soak = std::env::var_os("TRUST_SOAK").is_some_and(|value| value == "1");
    let span = Duration::from_millis(if soak { 15_000 } else { 1_500 });
    let (a, b) = pair(&MemoryOptions { queues: 2, slots: 1_024, ..MemoryOptions::default() }).unwrap();
    let start = |device, address| Engine::builder().device(device, 2).address(address).pin(Pin::None).start().unwrap();
    let (server, client) = (start(a, SERVER), start(b, CLIENT));
    let (serving, connecting) = (server.stack(), client.stack());

    let (resident_before, heap_before) = (resident(), counting::live());
    let measure = || {
        let heap = counting::live().saturating_sub(heap_before) / STREAMS as u64;
        println!(
            "a stream has {heap} octets of heap; in all {} MiB lie in queues of sockets, and {} MiB more are resident than before",
            (serving.queued() + connecting.queued()) >> 20,
            resident().saturating_sub(resident_before) >> 20
        );
        assert!(heap < LIMIT, "{heap} octets of heap for each stream");
    };
    let (stacks, address) = ((&serving, &connecting), SocketAddr::new(SERVER, 7));
    let report = crowd::echo_beside_a_stalled_reader(stacks, address, STREAMS, span, measure).await;
    let (server, client) = (server.counters(), client.counters());
    let again = server.retransmits + client.retransmits;
    println!("{STREAMS} streams, {span:?} each: {report}; {again} segments sent again");
    assert_eq!((server.resets_out, client.resets_out, client.timed_out), (0, 0, 0));
    assert_eq!(client.connected, STREAMS as u64 + 1);
}
