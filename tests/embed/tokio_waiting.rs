//! Tasks that wait for the same thing, beside others that have given up: polled by hand, on two embedded hosts and a virtual
//! clock.

use std::io::{Read, Write};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use trust::net::tokio::{TcpListener, TcpStream};
use trust::net::{SocketLimits, TcpSocket};
use trust::tcp::Duration;

use crate::link::{Link, at, client, octets, plain, server};

const MOMENT: Duration = Duration::from_millis(20);

/// A task, as far as sockets know it.
#[derive(Default)]
struct Task {
    woken: AtomicUsize,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::Relaxed);
    }
}

impl Task {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Goes on with what it does.
    fn poll<T>(self: &Arc<Self>, future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        self.with(|context| future.poll(context))
    }

    fn with<T>(self: &Arc<Self>, run: impl FnOnce(&mut Context<'_>) -> T) -> T {
        run(&mut Context::from_waker(&Waker::from(Arc::clone(self))))
    }

    /// Whether it was woken since it was last asked.
    fn woken(&self) -> bool {
        self.woken.swap(0, Ordering::Relaxed) > 0
    }

    /// How many wakers of it there are.
    fn wakers(self: &Arc<Self>) -> usize {
        Arc::strong_count(self) - 1
    }
}

fn listener(link: &mut Link) -> TcpListener {
    TcpListener::from(link.server.stack().bind(at(80)).unwrap())
}

/// Another connection to the listener.
fn knock(link: &mut Link) -> trust::net::TcpStream {
    let stream = TcpSocket::new(&link.client.stack()).connect_nonblocking(at(80)).unwrap();
    link.run(MOMENT);
    stream
}

fn connected(link: &mut Link) -> (TcpStream, TcpStream) {
    let (_listener, stream, accepted) = link.connect(80);
    (stream.into(), accepted.into())
}

#[test]
fn an_accept_that_waits_is_woken_though_another_was_given_up() {
    let mut link = Link::usual();
    let listener = listener(&mut link);
    let (waiting, given_up) = (Task::new(), Task::new());
    let mut accept = pin!(listener.accept());
    assert!(waiting.poll(accept.as_mut()).is_pending());
    let mut other = Box::pin(listener.accept());
    assert!(given_up.poll(other.as_mut()).is_pending());
    drop(other);
    assert_eq!(given_up.wakers(), 0);
    let stream = knock(&mut link);
    assert!(waiting.woken() && !given_up.woken());
    let Poll::Ready(Ok((_, from))) = waiting.poll(accept) else { panic!("nothing accepted") };
    assert_eq!(from, stream.local_addr().unwrap());
}

#[test]
fn all_who_accept_are_woken_and_each_connection_goes_to_one() {
    let mut link = Link::usual();
    let listener = listener(&mut link);
    let tasks: Vec<_> = (0..5).map(|_| Task::new()).collect();
    let mut accepts: Vec<_> = tasks.iter().map(|task| (task, Box::pin(listener.accept()))).collect();
    assert!(accepts.iter_mut().all(|(task, accept)| task.poll(accept.as_mut()).is_pending()));
    let mut streams = Vec::new();
    while !accepts.is_empty() {
        streams.push(knock(&mut link));
        assert!(accepts.iter().all(|(task, _)| task.woken()));
        let before = accepts.len();
        accepts.retain_mut(|(task, accept)| task.poll(accept.as_mut()).is_pending());
        assert_eq!(accepts.len(), before - 1);
    }
}

/// The same with `poll_accept`: each task that asked is woken, and tasks that ask no more keep nothing for long.
#[test]
fn all_who_poll_a_listener_by_hand_are_woken() {
    let mut link = Link::usual();
    let listener = listener(&mut link);
    let tasks: Vec<_> = (0..10).map(|_| Task::new()).collect();
    let ask = |task: &Arc<Task>| task.with(|context| listener.poll_accept(context));
    assert!(tasks.iter().chain(&tasks).all(|task| ask(task).is_pending()));
    assert!(tasks.iter().all(|task| task.wakers() == 1), "one for each that waits");
    let _stream = knock(&mut link);
    assert!(tasks.iter().all(|task| task.woken()));
    assert_eq!(tasks.iter().filter(|task| ask(task).is_ready()).count(), 1);
    for _ in 0..1_000 {
        assert!(ask(&Task::new()).is_pending());
    }
    assert!(tasks.iter().all(|task| task.wakers() == 0), "gone for those that came later");
}

#[test]
fn all_who_wait_to_read_are_woken() {
    let mut link = Link::usual();
    let (mut stream, accepted) = connected(&mut link);
    let clone = TcpStream::from(accepted.get_ref().try_clone().unwrap());
    let tasks: Vec<_> = (0..6).map(|_| Task::new()).collect();
    let [readable, at_clone, closed, given_up, peeking, reading] = &tasks[..] else { unreachable!() };
    let mut readables = [Box::pin(accepted.readable()), Box::pin(clone.readable()), Box::pin(accepted.readable())];
    let mut waiting = readables.iter_mut().zip([readable, at_clone, given_up]);
    assert!(waiting.all(|(future, task)| task.poll(future.as_mut()).is_pending()));
    let mut closing = pin!(accepted.closed());
    assert!(closed.poll(closing.as_mut()).is_pending());
    let mut buffer = [0; 9];
    let mut peek = pin!(clone.peek(&mut buffer));
    assert!(peeking.poll(peek.as_mut()).is_pending());
    let third = accepted.get_ref().try_clone().unwrap();
    let mut third = TcpStream::from(third);
    let mut octets = [0; 9];
    let mut octets = ReadBuf::new(&mut octets);
    assert!(reading.with(|context| Pin::new(&mut third).poll_read(context, &mut octets)).is_pending());
    let [first, second, third_one] = readables;
    drop(third_one);
    let written = Task::new().with(|context| Pin::new(&mut stream).poll_write(context, b"hello"));
    assert_eq!(written.map(Result::unwrap), Poll::Ready(5));
    link.run(MOMENT);
    assert!([readable, at_clone, closed, peeking, reading].iter().all(|task| task.woken()));
    assert!(!given_up.woken());
    assert!(readable.poll(pin!(first)).is_ready() && at_clone.poll(pin!(second)).is_ready());
    assert_eq!(peeking.poll(peek).map(Result::unwrap), Poll::Ready(5));
    assert!(closed.poll(closing.as_mut()).is_pending());
    assert!(reading.with(|context| Pin::new(&mut third).poll_read(context, &mut octets)).is_ready());
    assert_eq!(octets.filled(), b"hello");
    // The end of it all, with one who waits to read again before.
    assert!(reading.with(|context| Pin::new(&mut third).poll_read(context, &mut octets)).is_pending());
    stream.get_ref().set_linger(Some(time::Duration::ZERO)).unwrap();
    drop(stream);
    link.run(MOMENT);
    assert!(closed.woken() && reading.woken());
    assert!(closed.poll(closing).is_ready());
}

#[test]
fn all_who_wait_to_write_are_woken() {
    let mut link = Link::usual();
    let (stream, accepted) = connected(&mut link);
    let clone = TcpStream::from(stream.get_ref().try_clone().unwrap());
    while stream.try_write(&[7; 50_000]).is_ok() {
        link.run(Duration::from_secs(1));
    }
    let tasks: Vec<_> = (0..3).map(|_| Task::new()).collect();
    let futures = [Box::pin(stream.writable()), Box::pin(clone.writable()), Box::pin(stream.writable())];
    let mut waiting: Vec<_> = tasks.iter().zip(futures).collect();
    assert!(waiting.iter_mut().all(|(task, future)| task.poll(future.as_mut()).is_pending()));
    // The last that asked gives up.
    waiting.pop();
    for _ in 0..100 {
        let _ = accepted.try_read(&mut [0; 50_000]);
        link.run(MOMENT);
    }
    assert!(tasks[0].woken() && tasks[1].woken() && !tasks[2].woken());
    assert!(waiting.iter_mut().all(|(task, future)| task.poll(future.as_mut()).is_ready()));
}

/// One who waits for either direction is woken by either, and leaves both places.
#[test]
fn who_waits_for_both_directions_is_woken_by_either() {
    let mut link = Link::usual();
    let (stream, accepted) = connected(&mut link);
    while stream.try_write(&[7; 50_000]).is_ok() {
        link.run(Duration::from_secs(1));
    }
    let both = Interest::READABLE | Interest::WRITABLE;
    let (task, given_up) = (Task::new(), Task::new());
    let mut ready = Box::pin(stream.ready(both));
    assert!(task.poll(ready.as_mut()).is_pending());
    assert!(given_up.poll(Box::pin(stream.ready(both)).as_mut()).is_pending());
    assert_eq!((task.wakers(), given_up.wakers()), (2, 0));
    assert_eq!(accepted.try_write(b"hello").unwrap(), 5);
    link.run(MOMENT);
    assert!(task.woken() && !given_up.woken());
    assert_eq!(task.poll(ready.as_mut()).map(Result::unwrap), Poll::Ready(Ready::READABLE));
    drop(ready);
    assert_eq!((task.wakers(), stream.try_read(&mut [0; 9]).unwrap()), (0, 5));

    let mut ready = Box::pin(stream.ready(both));
    assert!(task.poll(ready.as_mut()).is_pending());
    for _ in 0..100 {
        let _ = accepted.try_read(&mut [0; 50_000]);
        link.run(MOMENT);
    }
    assert!(task.woken());
    assert_eq!(task.poll(ready.as_mut()).map(Result::unwrap), Poll::Ready(Ready::WRITABLE));
}

/// `AsyncRead` and `AsyncWrite` know the task that asked last, by each of several streams; a stream that goes takes what
/// it has left of one along.
#[test]
fn a_stream_has_a_place_of_its_own_for_who_reads_it() {
    let mut link = Link::usual();
    let (_stream, accepted) = connected(&mut link);
    let mut clone = TcpStream::from(accepted.get_ref().try_clone().unwrap());
    let (first, then) = (Task::new(), Task::new());
    let mut ask = |task: &Arc<Task>| {
        let mut octets = [0; 9];
        let mut octets = ReadBuf::new(&mut octets);
        assert!(task.with(|context| Pin::new(&mut clone).poll_read(context, &mut octets)).is_pending());
    };
    ask(&first);
    ask(&then);
    assert_eq!((first.wakers(), then.wakers()), (0, 1));
    drop(clone);
    assert_eq!(then.wakers(), 0);
    // However many begin to wait, and are given up, nothing is left of them.
    for _ in 0..10 {
        assert!(first.poll(Box::pin(accepted.readable()).as_mut()).is_pending());
        assert!(first.poll(Box::pin(accepted.closed()).as_mut()).is_pending());
    }
    assert_eq!(first.wakers(), 0);
}

/// Behind a full socket queue as well, which the host has to be asked for.
#[test]
fn a_peek_waits_for_what_lies_behind_a_full_queue() {
    let limits = SocketLimits { receive_queue: 4_096, ..SocketLimits::default() };
    let mut link = Link::new(client(), server().sockets(limits), plain());
    let (stream, accepted) = connected(&mut link);
    let data = octets(50_000, 3);
    stream.get_ref().write_all(&data).unwrap();
    link.run(Duration::from_millis(200));
    let task = Task::new();
    let mut buffer = vec![0; 30_000];
    let mut peek = Box::pin(accepted.peek(&mut buffer));
    assert!(task.poll(peek.as_mut()).is_pending());
    link.poll();
    assert!(task.woken());
    assert_eq!(task.poll(peek.as_mut()).map(Result::unwrap), Poll::Ready(30_000));
    drop(peek);
    assert!(buffer == data[..30_000]);
    let mut got = vec![0; 30_000];
    { accepted.get_ref() }.read_exact(&mut got).unwrap();
    assert!(got == data[..30_000], "a peek takes nothing");
}

/// A connect is woken beside others who wait to write.
#[test]
fn a_connect_that_is_given_up_gives_the_connection_up() {
    let mut link = Link::usual();
    let _listener = listener(&mut link);
    let stack = link.client.stack();
    let (given_up, waiting) = (Task::new(), Task::new());
    let mut dropped = Box::pin(TcpStream::connect(&stack, at(80)));
    assert!(given_up.poll(dropped.as_mut()).is_pending());
    let mut connect = pin!(TcpStream::connect(&stack, at(80)));
    assert!(waiting.poll(connect.as_mut()).is_pending());
    drop(dropped);
    assert_eq!(given_up.wakers(), 0);
    link.run(MOMENT);
    assert!(waiting.woken());
    assert!(waiting.poll(connect).is_ready());
    assert_eq!(link.client.counters().connections, 1);
}
