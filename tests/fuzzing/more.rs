//! Further acts of the script of [`hosts`](super): rarer calls of sockets, and what becomes of a host.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use mio::{Interest, Token};
use trust::device::{Transmitted, TxQueue};
use trust::net::{EventQueue, TcpSocket};
use trust::tcp::{Duration, KeepAlive};
use trust::wire::vnet::TxOffload;

use super::*;

/// Ports that sockets of both hosts bind before they connect: to each other's, too.
const BOUND: [u16; 3] = [4_000, 4_001, 4_002];
/// Listeners of both hosts at once.
const MOST_LISTENERS: usize = 4;
/// How long applications leave hosts alone: long enough for memory that is not used to go back.
const LONG: Duration = Duration::from_secs(90);

/// A device that has room for a few packets, and may refuse the first.
struct Narrow<'a> {
    room: usize,
    refuses: bool,
    under_way: &'a mut VecDeque<Vec<u8>>,
}

impl TxQueue for Narrow<'_> {
    fn transmit(&mut self, header: &[u8], payload: &[&[u8]], _: &TxOffload) -> io::Result<Transmitted> {
        if std::mem::take(&mut self.refuses) {
            return Ok(Transmitted::Dropped);
        }
        if self.room == 0 {
            return Ok(Transmitted::Full);
        }
        self.room -= 1;
        let mut packet = header.to_vec();
        payload.iter().for_each(|part| packet.extend_from_slice(part));
        self.under_way.push_back(packet);
        Ok(Transmitted::Sent)
    }
}

impl World {
    pub(super) fn act_more(&mut self, what: u8, input: &mut Input<'_>) {
        match what {
            0..=2 => self.write_uncopied(input),
            3 | 4 => self.read_in_place(input),
            5 => self.peek(input),
            6 => self.write_more(input),
            7 => self.ask(input),
            8..=10 => self.connect_bound(input),
            11..=13 => self.poll_narrow(input),
            14 => self.leave_all(input),
            15 => self.odd_calls(input),
            16 | 17 => self.watch(input),
            18 => self.events(),
            // Seldom: a host stops but once.
            19 => {
                if input.octet().is_multiple_of(8) {
                    self.hosts[SERVER].stopping();
                }
            }
            20 | 21 => {
                for _ in 0..3 {
                    self.now += LONG;
                    self.rounds(2);
                }
            }
            22 | 23 => self.say(input),
            24 | 25 => self.listen_at(input),
            _ => self.rounds(8),
        }
    }

    /// A text of the script's own to a service, many times over, or with its length before it as iperf3 has it.
    fn say(&mut self, input: &mut Input<'_>) {
        let (how, text) = (input.octet(), input.slice());
        let Some(socket) = self.socket(input) else { return };
        let mut words = if how & 64 != 0 { (text.len() as u32).to_be_bytes().to_vec() } else { Vec::new() };
        words.extend(text.repeat(if how & 64 != 0 { 1 } else { 1 + usize::from(how % 64) }));
        if let Other::Service(ServiceName::Http | ServiceName::Iperf3) = socket.other {
            let _ = socket.stream.write(&words);
        }
    }

    /// Octets that stay where they are.
    fn write_uncopied(&mut self, input: &mut Input<'_>) {
        let len = input.pick(&[2_048, 3_000, 5_000, 8_192, 20_000, 1]);
        let Some(socket) = self.socket(input) else { return };
        let Ok(port) = socket.client_port() else { return };
        let mut bytes = Bytes::from_static(octets_at(port, socket.host == CLIENT, socket.written, len));
        if let Ok(taken) = socket.stream.write_bytes(&mut bytes) {
            assert_eq!(taken, len - bytes.len(), "octets are neither queued nor left");
            socket.written += taken as u64;
        }
    }

    fn read_in_place(&mut self, input: &mut Input<'_>) {
        let most = input.pick(&[LONGEST, 1, 100, 1_000]);
        let tampered = self.tampered;
        let Some(place) = self.place(input) else { return };
        let Self { block, sockets, .. } = self;
        let socket = &mut sockets[place];
        let mut seen = 0;
        let result = socket.stream.read_with(|octets| {
            seen = octets.len().min(most);
            block[..seen].copy_from_slice(&octets[..seen]);
            seen
        });
        if let Ok(got) = result {
            assert_eq!(got, seen, "what was taken in place");
            self.summary.octets += socket.check(&block[..got], tampered);
            socket.read += got as u64;
        }
    }

    /// The same octets come again.
    fn peek(&mut self, input: &mut Input<'_>) {
        let tampered = self.tampered;
        let Some(place) = self.place(input) else { return };
        let Self { block, sockets, .. } = self;
        if let Ok(got) = sockets[place].stream.peek(&mut block[..1_000]) {
            sockets[place].check(&block[..got], tampered);
        }
    }

    fn write_more(&mut self, input: &mut Input<'_>) {
        let len = input.pick(&[1, 100, 1_000, 3_000]);
        let Some(socket) = self.socket(input) else { return };
        let Ok(port) = socket.client_port() else { return };
        let octets = octets_at(port, socket.host == CLIENT, socket.written, len);
        if let Ok(taken) = socket.stream.write_more(octets) {
            socket.written += taken as u64;
        }
    }

    /// What a host tells of a socket.
    fn ask(&mut self, input: &mut Input<'_>) {
        let Some(place) = self.place(input) else { return };
        let Self { hosts, sockets, .. } = self;
        let (socket, host) = (&sockets[place], &mut hosts[sockets[place].host]);
        let _ = (host.info(&socket.stream), host.unread(&socket.stream));
        if let (Ok(new), Ok(all)) = (host.not_sent(&socket.stream), host.unacknowledged(&socket.stream)) {
            assert!(new <= all, "{new} octets were never sent, {all} are not acknowledged");
        }
    }

    /// From a port of our choice on either host, to one of the other host's of that kind: two of them meet half-way.
    fn connect_bound(&mut self, input: &mut Input<'_>) {
        let (how, from, choice) = (input.octet(), input.pick(&BOUND), input.octet());
        if self.sockets.len() >= MOST_SOCKETS {
            return;
        }
        let (side, v6) = (usize::from(how & 1), usize::from(how >> 1 & 1));
        // Only to sockets: a service does not expect its octets from the other side.
        let place = usize::from(choice >> 1);
        let to = if choice & 1 == 0 { PORTS[place % 2] } else { BOUND[place % 3] };
        let local = SocketAddr::new(ADDRESSES[side][v6], if how & 4 == 0 { from } else { 0 });
        let Ok(mut socket) = TcpSocket::new(&self.hosts[side].stack()).bind(local) else { return };
        let options = socket.options_mut();
        if how & 8 != 0 {
            (options.mss, options.syn_retries) = (Some(600), Some(2));
        }
        if how & 16 != 0 {
            (options.ttl, options.tos) = (Some(1 | choice), Some(choice));
        }
        if let Ok(stream) = socket.connect_nonblocking(SocketAddr::new(ADDRESSES[1 - side][v6], to)) {
            self.sockets.push(Socket { stream, host: side, other: Other::Socket, written: 0, read: 0 });
        }
        self.poll(side);
    }

    /// At one address of either host, or at all of one family.
    fn listen_at(&mut self, input: &mut Input<'_>) {
        let (how, port) = (input.octet(), input.pick(&PORTS));
        let (side, v6) = (usize::from(how & 1), usize::from(how >> 1 & 1));
        let everywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let address = if how & 4 == 0 { ADDRESSES[side][v6] } else { everywhere[v6] };
        if self.listeners.len() < MOST_LISTENERS
            && let Ok(mut socket) = TcpSocket::new(&self.hosts[side].stack()).bind(SocketAddr::new(address, port))
        {
            if how & 8 != 0 {
                let options = socket.options_mut();
                (options.mss, options.ttl, options.tos) = (Some(600), Some(how), Some(how));
            }
            if let Ok(listener) = socket.listen(usize::from(how >> 4)) {
                self.listeners.push(listener);
            }
        }
        self.poll(side);
    }

    /// The device has not room for all.
    fn poll_narrow(&mut self, input: &mut Input<'_>) {
        let what = input.octet();
        let side = usize::from(what & 1);
        let under_way = &mut self.under_way[side];
        let room = usize::from(what >> 2 & 7).min(MOST_UNDER_WAY.saturating_sub(under_way.len()));
        let mut device = Narrow { room, refuses: what & 2 != 0, under_way };
        self.hosts[side].poll_into(self.now, &mut device).expect("the device is still there");
    }

    /// All applications of a host go, whatever is unread.
    fn leave_all(&mut self, input: &mut Input<'_>) {
        let host = usize::from(input.octet() & 1);
        self.sockets.retain(|socket| socket.host != host);
        self.poll(host);
    }

    fn odd_calls(&mut self, input: &mut Input<'_>) {
        let (what, value) = (input.octet(), input.word());
        let Some(socket) = self.socket(input) else { return };
        // Only to sockets, and nobody else has that port.
        let sockets = socket.host == CLIENT && matches!(socket.other, Other::Socket);
        let port = if sockets { PORTS[usize::from(value) % PORTS.len()] } else { 1 };
        let stream = &mut socket.stream;
        match what % 8 {
            0 => drop(stream.try_clone()),
            1 => drop(stream.take_error()),
            2 => drop(stream.connect_again(SocketAddr::new(ADDRESSES[SERVER][0], port))),
            3 => drop(stream.set_maxseg(value.into())),
            4 => drop(stream.maxseg()),
            5 => stream.set_oobinline(value & 1 != 0),
            6 => {
                let interval = Duration::from_millis(u64::from(value));
                stream.set_keepalive_times(KeepAlive { idle: interval, interval, count: (value % 5) as u8 });
            }
            _ => drop((stream.info(), stream.linger(), stream.ttl(), stream.nodelay())),
        }
    }

    /// Readiness instead of trying.
    fn watch(&mut self, input: &mut Input<'_>) {
        let interests = input.pick(&[Interest::READABLE, Interest::WRITABLE]);
        let Some(place) = self.place(input) else { return };
        let queue = self.queue.get_or_insert_with(|| EventQueue::new().expect("a descriptor"));
        queue.register(&self.sockets[place].stream, Token(place), interests);
        for listener in &self.listeners {
            queue.register(listener, Token(MOST_SOCKETS), Interest::READABLE);
        }
    }

    fn events(&mut self) {
        let Some(queue) = &self.queue else { return };
        let ready: Vec<_> = queue.events().map(|event| (event.token(), event.is_readable())).collect();
        for (Token(place), readable) in ready {
            let Self { block, sockets, .. } = self;
            if readable && let Some(socket) = sockets.get_mut(place) {
                self.summary.octets += socket.read(&mut block[..1_000], self.tampered);
            }
        }
    }
}
