//! One connection: a request is read, answered, and then the next one.
//!
//! What does not fit into the send side waits in `rest`, and nothing else happens before it has gone; so a client that
//! does not read is not read from either, and no memory of ours grows. For what is echoed, the send side is made to fit
//! first ([`bodies`](super::bodies)).

use super::bodies::{LARGEST, SMALL};
use super::chunked::Decoder;
use super::page::Page;
use super::request::{Framing, HEAD_MAX, Method, Request, Resource, parse};
use super::response::{HTML, Head, Length, OCTETS, Site, Status, TEXT, milliseconds};
use crate::services::chargen::{PATTERN, PERIOD};
use crate::shard::{ConnId, Io, budget};
use crate::tcp::time::{Duration, Instant};

/// For a head to be complete, from its first octet on: a trickle of octets does not hold the connection for ever.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For the next request to begin.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// For more of a body to come, or more of an answer to go.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// For the client to end its side after our last octet, or after its own last one ...
pub(super) const LINGER: Duration = Duration::from_secs(5);
/// ... but no longer than this in all. One that is refused in the middle of a long upload may look for the answer late.
pub(super) const LINGER_MAX: Duration = Duration::from_secs(30);
/// Octets of a body that nobody wants which are read all the same, so that the connection can be kept.
pub(super) const UNWANTED_MAX: u64 = 64 * 1024;
/// Octets that are copied at once where they cannot be forwarded.
const COPY: usize = 4 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What is said when the request is done with.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// The status page, as HTML or as text.
    Status {
        html: bool,
    },
    Bytes(u64),
    Nothing,
    /// The body is the reason; with methods that are allowed, or none.
    Refusal(Status, &'static str),
}

#[derive(Debug)]
enum Phase {
    /// For a request, or the rest of its head.
    Head,
    /// A body nobody wants comes before the answer; `left`: how much of it is still borne.
    Unwanted { framing: Framing, left: u64, answer: Answer, head_only: bool },
    /// `left` octets of the pattern from `at`.
    Bytes { at: usize, left: u64 },
    /// The body goes back; `begun`: our head has gone.
    Echo { framing: Framing, begun: bool },
    /// The last answer is queued. `until`: so is our FIN, and the connection is closed then at the latest.
    Ending { until: Option<Instant> },
}

/// What to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The next one.
    On,
    /// Nothing before more octets come, or more can go.
    Wait,
}

#[derive(Debug)]
pub(super) struct Client {
    phase: Phase,
    /// Octets for which the send side had no room.
    rest: Vec<u8>,
    /// The beginning of a head that came in pieces.
    head: Vec<u8>,
    /// Its place in the order in which such heads began.
    pub(super) turn: Option<u64>,
    /// The number of the body that was let in last, while it or its answer may be here.
    body: Option<u64>,
    /// A request has been answered, or is.
    served: bool,
    /// Octets of answers that had not been read at the last look.
    unsent: u32,
    /// The present request leaves the connection open.
    keep: bool,
    /// It is HTTP/1.1.
    modern: bool,
    deadline: Instant,
}

impl Client {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Head,
            rest: Vec::new(),
            head: Vec::new(),
            turn: None,
            body: None,
            served: false,
            unsent: 0,
            keep: true,
            modern: true,
            deadline: now.saturating_add(IDLE_TIMEOUT),
        }
    }

    /// Does what can be done now; a client that has asked for very much has to wait for some of it.
    pub(super) fn drive(&mut self, site: &mut Site, io: &mut dyn Io, conn: ConnId) {
        let mut steps = 0;
        while self.flush(io, conn) {
            steps += 1;
            if steps > budget::STEPS {
                return io.call_again(conn);
            }
            let step = match self.phase {
                Phase::Head => self.read_head(site, io, conn),
                Phase::Unwanted { .. } => self.read_unwanted(site, io, conn),
                Phase::Bytes { .. } => self.send_bytes(io, conn),
                Phase::Echo { framing: Framing::Sized(_), .. } => self.echo_sized(site, io, conn),
                Phase::Echo { framing: Framing::Chunked(_), .. } => self.echo_chunked(site, io, conn),
                Phase::Ending { .. } => self.end(io, conn),
            };
            if step == Step::Wait {
                break;
            }
        }
    }

    /// What becomes of a connection whose time is up.
    pub(super) fn check_deadline(&mut self, site: &mut Site, io: &mut dyn Io, conn: ConnId) {
        if io.now() < self.deadline {
            return;
        }
        match self.phase {
            Phase::Head if self.rest.is_empty() => {
                if self.head.is_empty() {
                    let unsent = io.unsent(conn);
                    if std::mem::replace(&mut self.unsent, unsent) != unsent && unsent > 0 {
                        // The answer is still being read.
                        return self.extend_deadline(io, IDLE_TIMEOUT);
                    }
                    self.phase = Phase::Ending { until: None };
                } else {
                    self.refuse(site, io, conn, Status::RequestTimeout);
                }
                self.drive(site, io, conn);
            }
            // Octets that are queued still go out, at the client's leisure.
            Phase::Ending { until: Some(_) } => io.close(conn),
            _ => io.abort(conn),
        }
    }

    /// Whether a head has begun that came in pieces.
    pub(super) fn is_in_head(&self) -> bool {
        !self.head.is_empty()
    }

    /// Gives the memory for the beginning of a head back.
    pub(super) fn forget_head(&mut self, site: &mut Site) {
        site.heads -= self.head.len();
        self.head = Vec::new();
    }

    /// The connection is gone: gives back what it had of what all share.
    pub(super) fn leave(&mut self, site: &mut Site) {
        self.forget_head(site);
        self.leave_body(site);
    }

    fn leave_body(&mut self, site: &mut Site) {
        if let Some(number) = self.body.take() {
            site.bodies.leave(number);
        }
    }

    fn extend_deadline(&mut self, io: &dyn Io, by: Duration) {
        self.deadline = io.now().saturating_add(by);
    }

    /// Sends `octets` behind what already waits.
    fn put(&mut self, io: &mut dyn Io, conn: ConnId, octets: &[u8]) {
        let sent = if self.rest.is_empty() { io.send(conn, octets) } else { 0 };
        self.rest.extend_from_slice(&octets[sent..]);
        self.extend_deadline(io, STALL_TIMEOUT);
    }

    /// Sends what has been put together in the scratch buffer.
    fn put_scratch(&mut self, site: &mut Site, io: &mut dyn Io, conn: ConnId) {
        self.put(io, conn, &site.scratch);
        site.scratch.clear();
    }

    /// Whether nothing waits any more.
    fn flush(&mut self, io: &mut dyn Io, conn: ConnId) -> bool {
        if !self.rest.is_empty() {
            let sent = io.send(conn, &self.rest);
            self.rest.drain(..sent);
            if sent > 0 {
                self.extend_deadline(io, STALL_TIMEOUT);
            }
            if self.rest.is_empty() {
                // Most connections never need it, and there may be very many.
                self.rest = Vec::new();
            }
        }
        self.rest.is_empty()
    }

    fn read_head(&mut self, site: &mut Site, io: &mut dyn Io, conn: ConnId) -> Step {
        let run = io.peek(conn);
        if run.is_empty() {
            // Who has an answer and asks for no more is not waited for at the end.
            let idle = site.draining && self.served && self.head.is_empty();
            if !idle && !io.at_eof(conn) {
                return Step::Wait;
            }
            self.phase = Phase::Ending { until: None };
            return Step::On;
        }
        let before = self.head.len();
        let (parsed, taken) = if before == 0 {
            (parse(run), run.len().min(HEAD_MAX))
        } else {
            let taken = run.len().min(HEAD_MAX - before);
            self.head.extend_from_slice(&run[..taken]);
            site.heads += taken;
            // Only the end of a line can complete a head: one that comes octet by octet is not read over and over.
            let worth = run[..taken].contains(&b'\n') || self.head.len() == HEAD_MAX;
            (if worth { parse(&self.head) } else { Ok(None) }, taken)
        };
        match parsed {
            Ok(Some(request)) => {
                io.consume(conn, (request.len - before) as u32);
                self.forget_head(site);
                self.begin(site, io, conn, request);
            }
            Ok(None) => {
                if before == 0 {
                    self.head.extend_from_slice(&run[..taken]);
                    site.heads += taken;
                    self.extend_deadline(io, HEAD_TIMEOUT);
                }
                io.consume(conn, taken as u32);
            }
            Err(status) => {
                self.modern = true;
                site.requests += 1;
                self.refuse(site, io, conn, status);
            }
        }
        Step::On
    }

    fn begin(&mut self, site: &mut Site, io: &mut dyn Io, conn: ConnId, request: Request) {
        site.requests += 1;
        let Request { modern, method, resource, body, keep, expects_continue, html, .. } = request;
        (self.keep, self.modern) = (keep && !site.draining, modern);
        (self.served, self.unsent) = (true, 0);
        self.leave_body(site);
        let reads = matches!(method, Method::Get | Method::Head);
        let answer = match resource {
            Resource::Missing => Answer::Refusal(Status::NotFound, ""),
            Resource::Echo if matches!(method, Method::Post | Method::Put) => {
                if let Framing::Sized(octets) = body
                    && let Err(status) = self.let_in(site, io, conn, octets)
                {
                    self.refuse(site, io, conn, status);
                    return;
                }
                if expects_continue && body != Framing::Sized(0) && io.unread(conn) == 0 {
                    self.put(io, conn, CONTINUE);
                }
                self.extend_deadline(io, STALL_TIMEOUT);
                self.phase = Phase::Echo { framing: body, begun: false };
                return;
            }
            Resource::Echo => Answer::Refusal(Status::MethodNotAllowed, "POST, PUT"),
            _ if !reads => Answer::Refusal(Status::MethodNotAllowed, "GET, HEAD"),
            Resource::Status => Answer::Status { html },
            Resource::Bytes(octets) => Answer::Bytes(octets),
            Resource::Favicon => Answer::Nothing,
        };
        let head_only = method == Method::Head;
        match body {
            Framing::Sized(0) => self.answer(site, io, conn, answer, head_only),
            Framing::Sized(octets) if octets > UNWANTED_MAX => {
                self.refuse(site, io, conn, Status::ContentTooLarge);
            }
            // Nobody knows whether a client that waits for leave sends its body without it.
            _ if expects_continue => {
                self.keep = false;
                self.answer(site, io, conn, answer, head_only);
            }
            framing => {
                self.extend_deadline(io, STALL_TIMEOUT);
                self.phase = Phase::Unwanted { framing, left: UNWANTED_MAX, answer, head_only };
            }
        }
    }

    /// Whether a body of so many octets can be taken whatever the client reads meanwhile.
    fn let_in(&mut self, site: &mut Site, io: &mut dyn Io, conn: ConnId, octets: u64) -> Result<(), Status> {
        if octets > LARGEST {
            return Err(Status::ContentTooLarge);
        }
        if octets > SMALL {
            self.body = Some(site.bodies.admit(io, conn, octets).ok_or(Status::Unavailable)?);
        }
        Ok(())
    }

    fn read_unwanted(&mut self, site: &mut Site, io: &mut dyn Io, conn: ConnId) -> Step {
        let Phase::Unwanted { framing, left, answer, head_only } = &mut self.phase else { return Step::Wait };
        let (answer, head_only) = (*answer, *head_only);
        let run = io.peek(conn);
        let (taken, end) = match framing {
            Framing::Sized(octets) => {
                let taken = (run.len() as u64).min(*octets);
                *octets -= taken;
                (taken, *octets == 0)
            }
            Framing::Chunked(decoder) => match decoder.next(run) {
                Ok(piece) => {
                    decoder.took(piece.data);
                    ((piece.coding + piece.data) as u64, piece.end)
                }
                Err(_) => return self.refuse(site, io, conn, Status::BadRequest),
            },
        };
        if taken > *left {
            return self.refuse(site, io, conn, Status::ContentTooLarge);
        }
        *left -= taken;
        io.consume(conn, taken as u32);
        if end {
            self.answer(site, io, conn, answer, head_only);
            return Step::On;
        }
        self.more(io, conn, taken > 0)
    }

    /// Whether more of a body is there; if not, and if none will come, the connection is of no use any more.
    fn more(&mut self, io: &mut dyn Io, conn: ConnId, moved: bool) -> Step {
        if moved {
            self.extend_deadline(io, STALL_TIMEOUT);
        }
        if io.unread(conn) > 0 {
            return if moved { Step::On } else { Step::Wait };
        }
        if io.at_eof(conn) {
            io.abort(conn);
        }
        Step::Wait
    }

    fn answer(&mut self, site: &mut Site, io: &mut dyn Io, conn: ConnId, answer: Answer, head_only: bool) {
        let base = Head {
            status: Status::Ok,
            content_type: TEXT,
            length: Length::None,
            allow: "",
            varies: false,
            keep: self.keep,
            modern: self.modern,
        };
        let (head, text) = match answer {
            Answer::Status { html } => {
                let text = page(site, io, conn, html);
                let content_type = if html { HTML } else { TEXT };
                (Head { length: Length::Sized(text.len() as u64), content_type, varies: true, ..base }, text)
            }
            Answer::Bytes(octets) => {
                (Head { length: Length::Sized(octets), content_type: OCTETS, ..base }, String::new())
            }
            Answer::Nothing => (Head { status: Status::NoContent, ..base }, String::new()),
            Answer::Refusal(status, allow) => {
                let text = format!("{}\n", status.line());
                (Head { status, allow, length: Length::Sized(text.len() as u64), ..base }, text)
            }
        };
        site.head(io.now(), head);
        if !head_only {
            site.scratch.extend_from_slice(text.as_bytes());
        }
        self.put_scratch(site, io, conn);
        match answer {
            Answer::Bytes(left) if !head_only => self.phase = Phase::Bytes { at: 0, left },
            _ => self.finish(io),
        }
    }

    /// Says why, and closes: where the next request begins is not known.
    fn refuse(&mut self, site: &mut Site, io: &mut dyn Io, conn: ConnId, status: Status) -> Step {
        self.keep = false;
        self.forget_head(site);
        self.answer(site, io, conn, Answer::Refusal(status, ""), false);
        Step::On
    }

    /// The answer is queued.
    fn finish(&mut self, io: &dyn Io) {
        if self.keep {
            self.phase = Phase::Head;
            self.extend_deadline(io, IDLE_TIMEOUT);
        } else {
            self.phase = Phase::Ending { until: None };
        }
    }

    fn send_bytes(&mut self, io: &mut dyn Io, conn: ConnId) -> Step {
        let Phase::Bytes { at, left } = &mut self.phase else { return Step::Wait };
        let mut moved = false;
        while *left > 0 {
            let rest = &PATTERN[*at..];
            let piece = &rest[..rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX))];
            let taken = io.send_static(conn, piece);
            *at = (*at + taken) % PERIOD;
            *left -= taken as u64;
            moved |= taken > 0;
            if taken < piece.len() {
                if moved {
                    self.extend_deadline(io, STALL_TIMEOUT);
                }
                return Step::Wait;
            }
        }
        self.finish(io);
        Step::On
    }

    /// Our head, once there is something to go behind it: a client that waits for leave to send has it then.
    fn begin_echo(&mut self, site: &mut Site, io: &dyn Io, length: Length) {
        let Phase::Echo { begun, .. } = &mut self.phase else { return };
        if !std::mem::replace(begun, true) {
            let (keep, modern) = (self.keep, self.modern);
            let head =
                Head { status: Status::Ok, content_type: OCTETS, length, allow: "", varies: false, keep, modern };
            site.head(io.now(), head);
        }
    }

    fn echo_sized(&mut self, site: &mut Site, io: &mut dyn Io, conn: ConnId) -> Step {
        let Phase::Echo { framing: Framing::Sized(left), begun } = &self.phase else { return Step::Wait };
        let (left, begun) = (*left, *begun);
        let here = u64::from(io.unread(conn));
        if !begun && (left == 0 || here > 0) {
            self.begin_echo(site, io, Length::Sized(left));
            self.put_scratch(site, io, conn);
            return Step::On;
        }
        if left == 0 {
            self.finish(io);
            return Step::On;
        }
        let moved = if here <= left {
            io.forward(conn, conn)
        } else {
            // The next request lies behind: only our part.
            let mut copy = [0; COPY];
            let run = io.peek(conn);
            let len = run.len().min(COPY).min(usize::try_from(left).unwrap_or(COPY));
            copy[..len].copy_from_slice(&run[..len]);
            let moved = io.send(conn, &copy[..len]);
            io.consume(conn, moved as u32);
            moved
        };
        if let Some(number) = self.body {
            site.bodies.took(number, moved as u64);
        }
        if let Phase::Echo { framing: Framing::Sized(left), .. } = &mut self.phase {
            *left -= moved as u64;
            if *left == 0 {
                return Step::On;
            }
        }
        self.more(io, conn, moved > 0)
    }

    fn echo_chunked(&mut self, site: &mut Site, io: &mut dyn Io, conn: ConnId) -> Step {
        let Phase::Echo { framing: Framing::Chunked(decoder), begun } = &mut self.phase else { return Step::Wait };
        let begun = *begun;
        let run = io.peek(conn);
        let Ok(piece) = Decoder::next(decoder, run) else {
            if begun {
                // The answer cannot be taken back; at least it does not look complete.
                io.abort(conn);
                return Step::Wait;
            }
            return self.refuse(site, io, conn, Status::BadRequest);
        };
        let len = piece.data.min(COPY);
        decoder.took(len);
        if len > 0 || piece.end {
            self.begin_echo(site, io, Length::Chunked);
        }
        if len > 0 {
            let _ = std::io::Write::write_fmt(&mut site.scratch, format_args!("{len:x}\r\n"));
            site.scratch.extend_from_slice(&io.peek(conn)[piece.coding..piece.coding + len]);
            site.scratch.extend_from_slice(b"\r\n");
        }
        io.consume(conn, (piece.coding + len) as u32);
        if piece.end {
            site.scratch.extend_from_slice(b"0\r\n\r\n");
        }
        self.put_scratch(site, io, conn);
        if piece.end {
            self.finish(io);
            return Step::On;
        }
        self.more(io, conn, piece.coding + len > 0)
    }

    /// Our side ends; what still comes is read away, since unread octets would turn the close into a reset, which may
    /// overtake the answer (RFC 9112 9.6).
    fn end(&mut self, io: &mut dyn Io, conn: ConnId) -> Step {
        let Phase::Ending { until } = &mut self.phase else { return Step::Wait };
        let now = io.now();
        let unread = io.unread(conn);
        if until.is_none() {
            io.shutdown(conn);
        } else if unread == 0 {
            return Step::Wait;
        }
        let until = *until.get_or_insert(now.saturating_add(LINGER_MAX));
        self.deadline = now.saturating_add(LINGER).min(until);
        io.consume(conn, unread);
        Step::Wait
    }
}

/// The status page for `conn`.
fn page(site: &Site, io: &dyn Io, conn: ConnId, html: bool) -> String {
    let (rtt, cwnd) = io.info(conn).map_or((None, 0), |info| (info.srtt, info.cwnd));
    let (since, up) = site.since();
    let page = Page {
        up,
        since: &since,
        shard: io.shard().0,
        shards: io.shards(),
        open: site.open,
        accepted: site.accepted,
        requests: site.requests,
        quad: io.quad(conn),
        rtt: milliseconds(rtt),
        cwnd,
    };
    if html { page.html() } else { page.text() }
}
