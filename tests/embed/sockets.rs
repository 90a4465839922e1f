//! Sockets on a host that shares their thread: nothing waits, everything is told.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time;

use mio::{Interest, Token};
use trust::net::{EventQueue, TcpSocket};
use trust::tcp::{Duration, Instant, KeepAlive};

use crate::link::{CLIENT, Link, at, client, octets, plain, server};

const MOMENT: Duration = Duration::from_millis(20);

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn a_call_that_would_wait_for_its_own_thread_says_so() {
    let mut link = Link::usual();
    let stack = link.client.stack();
    assert_eq!(kind(stack.connect(at(80))), ErrorKind::Unsupported);
    assert_eq!(kind(stack.connect_timeout(&at(80), time::Duration::from_secs(1))), ErrorKind::Unsupported);
    let (listener, stream, accepted) = link.connect(80);
    for stream in [&stream, &accepted] {
        assert_eq!(kind(stream.set_nonblocking(false)), ErrorKind::Unsupported);
        assert_eq!(kind((&mut &*stream).read(&mut [0; 9])), ErrorKind::WouldBlock);
        stream.set_nonblocking(true).unwrap();
        // What asks the connection is the host's to answer.
        assert_eq!(kind(stream.info()), ErrorKind::WouldBlock);
        assert_eq!(kind(stream.unread()), ErrorKind::WouldBlock);
        assert_eq!(kind(stream.unacknowledged()), ErrorKind::WouldBlock);
        assert_eq!(kind(stream.not_sent()), ErrorKind::WouldBlock);
        assert!(stream.linger().unwrap().is_none());
        stream.set_linger(Some(time::Duration::from_secs(1_000))).unwrap();
    }
    assert_eq!(kind(listener.accept()), ErrorKind::WouldBlock);
    assert_eq!(kind(listener.set_nonblocking(false)), ErrorKind::Unsupported);
    // No drop waits, with whatever it has to tell the host.
    drop((listener, stream, accepted));
}

#[test]
fn a_full_queue_is_would_block_and_room_comes_back() {
    let mut link = Link::usual();
    let (_listener, mut stream, mut accepted) = link.connect(80);
    let data = octets(40_000_000, 3);
    let mut done = 0;
    // The peer does not read: its window, our buffer and the queues fill.
    loop {
        match stream.write(&data[done..]) {
            Ok(written) => done += written,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                let before = done;
                link.run(Duration::from_secs(1));
                done += stream.write(&data[done..]).unwrap_or(0);
                if done == before {
                    break;
                }
            }
        }
    }
    assert!(done < data.len());
    let mut got = Vec::new();
    while got.len() < done {
        let mut buffer = [0; 50_000];
        match accepted.read(&mut buffer) {
            Ok(0) => panic!("the end after {} octets", got.len()),
            Ok(more) => got.extend_from_slice(&buffer[..more]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                link.run(MOMENT);
            }
        }
    }
    assert!(got == data[..done]);
    assert!(stream.write(&data[done..]).unwrap() > 0);
}

#[test]
fn the_host_answers_what_is_asked_of_a_stream() {
    let mut link = Link::usual();
    let (_listener, mut stream, mut accepted) = link.connect(80);
    stream.write_all(&[7; 1_000]).unwrap();
    // The write has not been polled: the question makes the host hear of it, without a packet.
    assert_eq!(link.client.unacknowledged(&stream).unwrap(), 1_000);
    assert_eq!(link.client.not_sent(&stream).unwrap(), 1_000);
    assert_eq!(link.client.info(&stream).unwrap().bytes_acked, 0);
    link.run(MOMENT);
    assert_eq!(link.client.unacknowledged(&stream).unwrap(), 0);
    assert_eq!(link.client.info(&stream).unwrap().bytes_acked, 1_000);
    assert_eq!(link.server.unread(&accepted).unwrap(), 1_000);
    accepted.read_exact(&mut [0; 400]).unwrap();
    assert_eq!(link.server.unread(&accepted).unwrap(), 600);
    assert_eq!(kind(link.server.info(&stream)), ErrorKind::InvalidInput, "the other host's");
    // Its peer resets: no connection, no answer, and no hang.
    accepted.set_linger(Some(time::Duration::ZERO)).unwrap();
    drop(accepted);
    link.run(MOMENT);
    assert_eq!(kind(stream.read(&mut [0; 9])), ErrorKind::ConnectionReset);
    assert_eq!(link.client.info(&stream).unwrap().bytes_acked, 1_000, "the last there was");
    assert_eq!(stream.info().unwrap().bytes_acked, 1_000, "for which nobody must be asked");
    assert_eq!(link.client.unacknowledged(&stream).unwrap(), 0);
}

#[test]
fn who_listens_does_so_before_the_packets_that_came_meanwhile() {
    let mut link = Link::usual();
    let stream = TcpSocket::new(&link.client.stack()).connect_nonblocking(at(80)).unwrap();
    assert_eq!(kind(stream.local_addr()), ErrorKind::NotConnected, "chosen by the next poll");
    link.poll();
    assert_eq!(stream.local_addr().unwrap().ip(), CLIENT);
    assert!(link.step(), "the SYN arrives");
    let listener = link.server.stack().bind(at(80)).unwrap();
    link.run(MOMENT);
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from, stream.local_addr().unwrap());
    assert!(stream.take_error().unwrap().is_none());
}

#[test]
fn binding_and_unbinding_need_no_poll() {
    let mut link = Link::usual();
    let stack = link.server.stack();
    for round in 0..3 {
        let listener = stack.bind(at(80)).unwrap();
        assert_eq!(kind(stack.bind(at(80))), ErrorKind::AddrInUse, "round {round}");
        assert_eq!(kind(stack.bind("0.0.0.0:80")), ErrorKind::AddrInUse, "round {round}");
        drop(listener);
    }
    assert_eq!(kind(stack.bind((CLIENT, 80))), ErrorKind::AddrNotAvailable);
    assert_eq!(kind(stack.bind("[::]:80")), ErrorKind::AddrNotAvailable, "no address of that family");
    let any = stack.bind("0.0.0.0:0").unwrap();
    assert_ne!(any.local_addr().unwrap().port(), 0);
    // Bound last of all: that is what counts.
    let _listener = stack.bind(at(80)).unwrap();
    let stream = TcpSocket::new(&link.client.stack()).connect_nonblocking(at(80)).unwrap();
    link.run(MOMENT);
    assert!(stream.peer_addr().is_ok());
}

#[test]
fn a_listener_that_goes_resets_what_nobody_took() {
    let mut link = Link::usual();
    let listener = link.server.stack().bind(at(80)).unwrap();
    let mut waiting = TcpSocket::new(&link.client.stack()).connect_nonblocking(at(80)).unwrap();
    link.run(MOMENT);
    assert!(waiting.peer_addr().is_ok(), "complete, and not accepted");
    drop(listener);
    link.run(MOMENT);
    assert_eq!(kind(waiting.read(&mut [0; 9])), ErrorKind::ConnectionReset);
    let refused = TcpSocket::new(&link.client.stack()).connect_nonblocking(at(80)).unwrap();
    link.run(MOMENT);
    assert_eq!(refused.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused);
    link.check_empty();
}

#[test]
fn a_host_that_goes_tells_its_sockets() {
    let mut link = Link::usual();
    let (listener, mut stream, _accepted) = link.connect(80);
    let Link { client, server, .. } = link;
    let stack = client.stack();
    drop((client, server));
    assert_eq!(kind(stream.read(&mut [0; 9])), ErrorKind::ConnectionAborted);
    assert_eq!(kind(listener.accept()), ErrorKind::ConnectionAborted);
    assert_eq!(kind(TcpSocket::new(&stack).connect_nonblocking(at(80))), ErrorKind::ConnectionAborted);
}

#[test]
fn options_reach_the_connection() {
    let mut link = Link::usual();
    let (_listener, stream, accepted) = link.connect(80);
    stream.set_nodelay(true).unwrap();
    stream.set_keepalive(Some(KeepAlive { idle: Duration::from_secs(10), ..KeepAlive::default() }));
    stream.set_send_buffer(20_000);
    accepted.set_receive_buffer(10_000);
    stream.set_ttl(3).unwrap();
    let before = link.client.counters().packets_out;
    link.run(Duration::from_secs(11));
    assert!(link.client.counters().packets_out > before, "a probe");
    assert_eq!(link.client.info(&stream).unwrap().send_limit, 20_000);
    assert_eq!(link.server.info(&accepted).unwrap().receive_buffer, 10_000);
    // Cork holds a small piece back, until it is taken off.
    stream.set_cork(true);
    (&stream).write_all(b"held").unwrap();
    link.run(MOMENT);
    assert_eq!(kind((&accepted).read(&mut [0; 9])), ErrorKind::WouldBlock);
    stream.set_cork(false);
    link.run(MOMENT);
    assert_eq!((&accepted).read(&mut [0; 9]).unwrap(), 4);
}

#[test]
fn half_closed_streams_still_carry_the_other_direction() {
    let mut link = Link::usual();
    let (_listener, mut stream, mut accepted) = link.connect(80);
    stream.write_all(b"question").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    link.run(MOMENT);
    let mut question = String::new();
    accepted.read_to_string(&mut question).unwrap();
    accepted.write_all(question.to_uppercase().as_bytes()).unwrap();
    drop(accepted);
    link.run(MOMENT);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "QUESTION");
}

#[test]
fn an_event_queue_tells_of_an_embedded_hosts_sockets() {
    let mut link = Link::usual();
    let events = EventQueue::new().unwrap();
    let listener = link.server.stack().bind(at(80)).unwrap();
    events.register(&listener, Token(1), Interest::READABLE);
    let mut stream = TcpSocket::new(&link.client.stack()).connect_nonblocking(at(80)).unwrap();
    events.register(&stream, Token(2), Interest::READABLE | Interest::WRITABLE);
    assert_eq!(events.events().count(), 0);
    link.run(MOMENT);
    let mut tokens: Vec<_> = events.events().map(|event| event.token().0).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [1, 2]);
    let (mut accepted, _) = listener.accept().unwrap();
    events.register(&accepted, Token(3), Interest::READABLE);
    stream.write_all(b"hello").unwrap();
    link.run(MOMENT);
    assert!(events.events().any(|event| event.token() == Token(3) && event.is_readable()));
    assert_eq!(accepted.read(&mut [0; 9]).unwrap(), 5);
}

#[test]
fn an_event_queue_that_goes_unread_takes_its_descriptor_along() {
    let mut link = Link::usual();
    let (_listener, stream, _accepted) = link.connect(80);
    let descriptors: Vec<_> = (0..40)
        .map(|_| {
            let events = EventQueue::new().unwrap();
            // There is room: an event, which nobody takes.
            events.register(&stream, Token(1), Interest::WRITABLE);
            events.as_raw_fd()
        })
        .collect();
    // Tests beside this one may have got a few of the numbers.
    let open = |number: &i32| std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok();
    let left = descriptors.iter().filter(|number| open(number)).count();
    assert!(left < 20, "{left} descriptors of queues that are gone");
}

/// Counts how often it is called.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_waker_is_called_once_between_two_polls() {
    let count = Arc::new(Count::default());
    let calls = || count.0.load(Ordering::Relaxed);
    let mut link = Link::new(client().waker(Arc::clone(&count).into()), server(), plain());
    let (_listener, mut stream, _accepted) = link.connect(80);
    assert_eq!(calls(), 1);
    // The SYN's timer is still to be found needless.
    link.run(Duration::from_secs(2));
    assert!(link.client.next_deadline().is_none(), "an idle connection needs nothing");
    stream.write_all(b"one").unwrap();
    stream.write_all(b"two").unwrap();
    stream.set_ttl(9).unwrap();
    assert_eq!(calls(), 2);
    assert!(link.client.next_deadline().is_some_and(|at| at <= link.now), "at once");
    link.run(MOMENT);
    assert_eq!(calls(), 2);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(calls(), 3);
}

/// Two connections from one host whose handshakes are completed in the other order: the later one is held back while the
/// older one is less than 2 ms old, on the host's clock, and no longer.
#[test]
fn accept_keeps_the_order_of_syns_for_two_milliseconds() {
    for (behind, first_out) in [(1_900u64, 0), (2_100, 1)] {
        let now = |micros: u64| Instant::ZERO + Duration::from_micros(1_000_000 + micros);
        let mut client = client().build(now(0)).unwrap();
        let mut server = server().build(now(0)).unwrap();
        let listener = server.stack().bind(at(80)).unwrap();
        let events = EventQueue::new().unwrap();
        events.register(&listener, Token(1), Interest::READABLE);
        let streams = [0, 1].map(|_| TcpSocket::new(&client.stack()).connect_nonblocking(at(80)).unwrap());
        client.poll(now(0), |packet| assert!(server.receive(packet)));
        server.poll(now(0), |packet| assert!(client.receive(packet)));
        let mut acks = Vec::new();
        client.poll(now(0), |packet| acks.push(packet.to_vec()));
        assert_eq!(acks.len(), 2);
        // The second's ACK first, the first's so much later.
        assert!(server.receive(&acks[1]));
        server.poll(now(10), |_| ());
        assert_eq!(events.events().count(), 1, "there is something");
        assert_eq!(kind(listener.accept()), ErrorKind::WouldBlock, "but held back");
        let mut accepted = Vec::new();
        while let Some(due) = server.next_deadline().filter(|due| *due < now(behind)) {
            server.poll(due, |_| ());
            if events.events().count() > 0 {
                accepted.extend(listener.accept());
            }
        }
        assert!(server.receive(&acks[0]));
        server.poll(now(behind), |_| ());
        accepted.extend(std::iter::from_fn(|| listener.accept().ok()));
        let order: Vec<_> = accepted.iter().map(|(_, from)| *from).collect();
        let locals = [first_out, 1 - first_out].map(|index| streams[index].local_addr().unwrap());
        assert_eq!(order, locals, "{behind} us behind");
    }
}

#[test]
fn a_host_that_is_gone_takes_no_listener() {
    let link = Link::usual();
    let stack = link.server.stack();
    drop(link);
    for _ in 0..2 {
        // Not `AddrInUse` the second time.
        assert_eq!(kind(stack.bind("0.0.0.0:80")), ErrorKind::ConnectionAborted);
    }
}
