//! What is known of each client port: numbers, and nothing of what was sent.

use super::packet::{ACK, FIN, Frame, Incoming, Outgoing, PSH, RST, SYN};
use super::{Options, PAGE, packet};
use crate::server::{Kind, Service, pattern};
use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Our first sequence number. The client's kernel takes any.
const ISS: u32 = 1000;
/// ACKs that repeat the last one before its segment is taken for lost.
const REPEATED: u8 = 3;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Vacant,
    /// SYN-ACK sent.
    Opening,
    Open,
    /// Both FINs sent.
    Ended,
}

/// A connection, by its client's port and the service.
#[derive(Debug)]
struct Flow {
    state: State,
    /// In some thread's list of those that have room in their window.
    listed: bool,
    scale: u8,
    repeated: u8,
    client: [u8; 4],
    server: [u8; 4],
    client_port: u16,
    rcv_nxt: u32,
    snd_una: u32,
    snd_nxt: u32,
    window: u32,
    /// TSval that came last, where there are timestamps.
    stamp: Option<u32>,
    /// `snd_una` when a thread last found nothing to do.
    stood_at: u32,
}

impl Flow {
    const VACANT: Self = Self {
        state: State::Vacant,
        listed: false,
        scale: 0,
        repeated: 0,
        client: [0; 4],
        server: [0; 4],
        client_port: 0,
        rcv_nxt: 0,
        snd_una: ISS,
        snd_nxt: ISS,
        window: 0,
        stamp: None,
        stood_at: ISS,
    };

    fn outgoing<'a>(&self, port: u16, window: u32, flags: u8, payload: &'a [u8]) -> Outgoing<'a> {
        Outgoing {
            source: self.server,
            destination: self.client,
            source_port: port,
            port: self.client_port,
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            flags,
            window,
            echo: self.stamp,
            payload,
        }
    }

    fn in_flight(&self) -> u32 {
        self.snd_nxt.wrapping_sub(self.snd_una)
    }

    fn takes_ack(&mut self, segment: &Incoming<'_>) {
        self.window = u32::from(segment.window) << self.scale;
        let news = segment.ack.wrapping_sub(self.snd_una);
        if news != 0 && news < 1 << 31 {
            self.snd_una = segment.ack;
            self.repeated = 0;
            // Beyond what was sent again: the first of it had arrived.
            if self.in_flight() >= 1 << 31 {
                self.snd_nxt = segment.ack;
            }
        } else if news == 0 && segment.payload.is_empty() && self.in_flight() > 0 && segment.flags & FIN == 0 {
            self.repeated = self.repeated.saturating_add(1);
            if self.repeated == REPEATED {
                self.snd_nxt = self.snd_una;
            }
        }
    }
}

/// All connections. A client may turn up on any thread, so each has a lock, which nobody waits for as a rule.
#[derive(Debug)]
pub(super) struct Flows {
    services: Vec<Service>,
    flows: Vec<Mutex<Flow>>,
    pub(super) frame: Frame,
    /// What every segment of chargen carries, from the begin of a page on: copies from odd places are slower.
    payload: Vec<u8>,
    aligned: usize,
    /// Connections that are open: they share a window, so that what is on its way stays in the caches.
    open: AtomicU32,
    window: u32,
    least_window: u32,
    largest: usize,
    timestamps: bool,
}

/// Where a connection is among all.
pub(super) type Place = usize;

const PORTS: usize = 1 << 16;

impl Flows {
    pub(super) fn new(options: &Options, frame: Frame) -> Self {
        let pattern = pattern();
        let mut payload = vec![0; PAGE + pattern.len()];
        let aligned = payload.as_ptr().align_offset(PAGE).min(PAGE);
        payload[aligned..aligned + pattern.len()].copy_from_slice(&pattern);
        Self {
            flows: (0..PORTS * options.services.len()).map(|_| Mutex::new(Flow::VACANT)).collect(),
            services: options.services.clone(),
            frame,
            payload,
            aligned,
            open: AtomicU32::new(0),
            window: options.window.min(Options::LARGEST_WINDOW),
            least_window: options.least_window.min(options.window),
            largest: options.largest,
            timestamps: options.timestamps,
        }
    }

    /// What one connection may have on its way, either way.
    fn share(&self) -> u32 {
        (self.window / self.open.load(Relaxed).max(1)).max(self.least_window)
    }

    /// Counts a connection that is open from now on, or is no more.
    fn enter(&self, flow: &mut Flow, state: State) {
        let is_open = |state| matches!(state, State::Opening | State::Open);
        match (is_open(flow.state), is_open(state)) {
            (false, true) => _ = self.open.fetch_add(1, Relaxed),
            (true, false) => _ = self.open.fetch_sub(1, Relaxed),
            _ => {}
        }
        flow.state = state;
    }

    fn lock(&self, place: Place) -> MutexGuard<'_, Flow> {
        self.flows[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was read from a queue and answers on it. Returns a connection that is to be served by [`Self::pump`].
    pub(super) fn take(&self, queue: &File, octets: &[u8]) -> Option<Place> {
        let segment = Incoming::read(octets.get(self.frame.front()..)?)?;
        let which = self.services.iter().position(|service| service.port == segment.port)?;
        let place = which * PORTS + usize::from(segment.source_port);
        let service = self.services[which];
        let mut flow = self.lock(place);
        if segment.flags & RST != 0 {
            self.enter(&mut flow, State::Vacant);
            return None;
        }
        if segment.flags & SYN != 0 {
            self.open(&mut flow, queue, &segment);
            return None;
        }
        if flow.state == State::Vacant || segment.flags & ACK == 0 {
            return None;
        }
        flow.takes_ack(&segment);
        if flow.stamp.is_some() && segment.seq == flow.rcv_nxt {
            flow.stamp = segment.stamp;
        }
        if flow.state == State::Opening {
            flow.state = State::Open;
        }
        if !segment.payload.is_empty() || segment.flags & FIN != 0 {
            self.receive(&mut flow, queue, service, &segment);
        }
        let sends = service.kind == Kind::Chargen && flow.state == State::Open && !flow.listed;
        if sends && self.room(&flow) > 0 {
            flow.listed = true;
            return Some(place);
        }
        None
    }

    /// A SYN begins anew, whatever was there: the client's kernel knows when a port may be used again.
    fn open(&self, flow: &mut Flow, queue: &File, segment: &Incoming<'_>) {
        self.enter(flow, State::Opening);
        let listed = flow.listed;
        *flow = Flow {
            state: State::Opening,
            listed,
            scale: segment.scale,
            client: segment.source,
            server: segment.destination,
            client_port: segment.source_port,
            rcv_nxt: segment.seq.wrapping_add(1),
            window: u32::from(segment.window),
            stamp: segment.stamp.filter(|_| self.timestamps),
            ..Flow::VACANT
        };
        let _ = self.frame.send(queue, &flow.outgoing(segment.port, self.share(), SYN | ACK, &[]));
        flow.snd_nxt = ISS.wrapping_add(1);
        flow.snd_una = flow.snd_nxt;
    }

    /// Octets and the FIN of a segment.
    fn receive(&self, flow: &mut Flow, queue: &File, service: Service, segment: &Incoming<'_>) {
        let answer = |flow: &Flow, flags, payload| {
            let _ = self.frame.send(queue, &flow.outgoing(service.port, self.share(), flags, payload));
        };
        let finished = segment.flags & FIN != 0;
        if segment.seq != flow.rcv_nxt {
            // Lost before it, or here before. After our FIN, that was lost.
            if flow.state == State::Ended {
                flow.snd_nxt = flow.snd_nxt.wrapping_sub(1);
                answer(flow, FIN | ACK, &[]);
                flow.snd_nxt = flow.snd_nxt.wrapping_add(1);
            } else {
                answer(flow, ACK, &[]);
            }
            return;
        }
        if flow.state == State::Ended {
            return;
        }
        flow.rcv_nxt = flow.rcv_nxt.wrapping_add(segment.payload.len() as u32);
        if service.kind == Kind::Echo && !segment.payload.is_empty() {
            answer(flow, ACK | PSH, segment.payload);
            flow.snd_nxt = flow.snd_nxt.wrapping_add(segment.payload.len() as u32);
        } else if !finished {
            answer(flow, ACK, &[]);
        }
        if finished {
            flow.rcv_nxt = flow.rcv_nxt.wrapping_add(1);
            answer(flow, FIN | ACK, &[]);
            flow.snd_nxt = flow.snd_nxt.wrapping_add(1);
            self.enter(flow, State::Ended);
        }
    }

    /// Octets of the next segment that the client's window takes now; 0: none.
    fn room(&self, flow: &Flow) -> usize {
        let most = self.frame.payload(flow.stamp.is_some());
        let whole = if self.frame.offload { (self.largest / most).max(1) * most } else { most };
        let window = flow.window.min(self.share());
        let free = window.saturating_sub(flow.in_flight()) as usize;
        // Less than a whole one only where nothing is on its way that would make more room.
        if free >= whole || flow.in_flight() == 0 { free.min(whole) } else { 0 }
    }

    /// Writes to a connection of chargen as much as one segment takes. False: it has no room, and is listed no more.
    pub(super) fn pump(&self, queue: &File, place: Place) -> bool {
        let service = self.services[place / PORTS];
        let mut flow = self.lock(place);
        // Without offload a call moves little: some in a row, for one look at the queue.
        for _ in 0..if self.frame.offload { 1 } else { 16 } {
            let length = if flow.state == State::Open { self.room(&flow) } else { 0 };
            if length == 0 {
                flow.listed = false;
                return false;
            }
            let payload = &self.payload[self.aligned..self.aligned + length];
            let sent = self.frame.send(queue, &flow.outgoing(service.port, self.share(), ACK | PSH, payload));
            if sent.is_err() {
                break;
            }
            flow.snd_nxt = flow.snd_nxt.wrapping_add(length as u32);
        }
        true
    }

    /// After a while without any packet: a connection that stands still with octets on their way sends them again.
    /// Returns whether it is to be served; `forget` once it has ended.
    pub(super) fn prod(&self, place: Place) -> Prod {
        let mut flow = self.lock(place);
        if flow.state != State::Open {
            return Prod::Forget;
        }
        let stands = flow.snd_una == flow.stood_at && flow.in_flight() > 0;
        flow.stood_at = flow.snd_una;
        if stands {
            flow.snd_nxt = flow.snd_una;
            if !std::mem::replace(&mut flow.listed, true) {
                return Prod::Serve;
            }
        }
        Prod::Leave
    }
}

/// What is to be done about a connection that may stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prod {
    Serve,
    Leave,
    Forget,
}

const _: () = assert!(packet::SCALE <= 14);
