//! The course of one test, as the shard of its control connection sees it.
//!
//! ```text
//!  Params --> Streams --> Assigning --> Running --> Stopping --> Results --> Display --> Over
//!    9           10            |          1 2           |          13         results, 14
//!  blob       N or 2N      all streams    4         all streams    blob       16 or EOF
//!             Joins        Assigned               have reported
//! ```
//!
//! No input and output of its own: octets of the control connection, notes from the streams and the time come in by
//! calls; octets to write ([`Session::output`]), notes to send, a deadline and a tick come out. The client owns the end
//! of the test; deadlines only clear up after clients that have gone astray. Long before them a test without progress
//! gives way to one that finds no place: see [`Session::overdue_at`].

use std::collections::VecDeque;

use super::note::{Candidate, Note};
use super::protocol::{self, Blob, BlobReader, Cookie, CpuUse, Params, ServerError, StreamResult, state};
use super::report::Report;
use super::stream::{Address, Plan, Sample};
use crate::flow::{Quad, ShardId};
use crate::services::{CpuClock, CpuTime};
use crate::shard::ConnId;
use crate::tcp::CongestionControl;
use crate::tcp::time::{Duration, Instant};

/// For the parameters to arrive.
const PARAMS_TIMEOUT: Duration = Duration::from_secs(5);
/// For all data connections to be there.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(10);
/// How much longer than announced a test may take.
const GRACE: Duration = Duration::from_secs(40);
/// For all streams to report (they are ours; this only saves us from waiting for ever).
const REPORTS_TIMEOUT: Duration = Duration::from_secs(5);
/// For the client's results to arrive.
const RESULTS_TIMEOUT: Duration = Duration::from_secs(5);
/// For the client's last octet or end of stream.
const DISPLAY_TIMEOUT: Duration = Duration::from_secs(5);
/// A test without a set time is given up when nothing has moved for so long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Between two lines of the report.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at whether octets move, where no report wants them more often.
const PROGRESS_CHECK: Duration = Duration::from_secs(10);

/// How long a test keeps its place against others while its client owes an octet or a blob that the stock client sends as
/// soon as it is asked: a round trip, with a segment lost twice (RFC 6298: after 1 s, then 2 s).
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(3);
/// The same while the client opens data connections, each of which may lose its SYN.
pub(super) const STREAMS_PATIENCE: Duration = Duration::from_secs(5);
/// The same while the test runs and not one octet moves: a lasting loss of the path, or a very slow pace.
pub(super) const MOVING_PATIENCE: Duration = Duration::from_secs(30);

/// What a session works with during a call.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) cpu: &'a CpuClock,
    /// Notes to send, in order.
    pub(super) notes: &'a mut VecDeque<(ShardId, Note)>,
    /// Tests led on this shard, which share the memory for reports.
    pub(super) tests: usize,
}

#[derive(Debug)]
enum Phase {
    Params(BlobReader),
    Streams,
    Assigning,
    Running,
    Stopping,
    Results(BlobReader),
    Display,
    Over,
}

/// A data connection of the test.
#[derive(Debug)]
struct Member {
    candidate: Candidate,
    assigned: bool,
    sample: Sample,
    sampled: bool,
    result: Option<StreamResult>,
}

/// A test.
#[derive(Debug)]
pub(super) struct Session {
    cookie: Cookie,
    me: Address,
    quad: Quad,
    congestion: CongestionControl,
    phase: Phase,
    params: Option<Params>,
    members: Vec<Member>,
    deadline: Instant,
    /// When the client last brought the test on: to its present phase, or by octets that moved.
    progress: Instant,
    output: Vec<u8>,
    started: Instant,
    stopped: Instant,
    cpu_before: CpuTime,
    cpu_use: CpuUse,
    /// When to sample the streams next, if at all.
    tick: Option<Instant>,
    /// When the last two samples were asked for: the ends of the interval to report.
    sampled: (Instant, Instant),
    report: Option<Report>,
}

impl Session {
    /// A test whose control connection `me` has just shown its cookie: asks for the parameters.
    pub(super) fn new(cookie: Cookie, me: Address, quad: Quad, congestion: CongestionControl, now: Instant) -> Self {
        Self {
            cookie,
            me,
            quad,
            congestion,
            phase: Phase::Params(BlobReader::new(protocol::PARAMS_MAX)),
            params: None,
            members: Vec::new(),
            deadline: now.saturating_add(PARAMS_TIMEOUT),
            progress: now,
            output: vec![state::PARAM_EXCHANGE],
            started: now,
            stopped: now,
            cpu_before: CpuTime::default(),
            cpu_use: CpuUse::default(),
            tick: None,
            sampled: (now, now),
            report: None,
        }
    }

    /// The cookie all connections of the test show.
    pub(super) fn cookie(&self) -> Cookie {
        self.cookie
    }

    /// Octets for the control connection; the caller takes away what it has sent.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether nothing is left to do but to write the output and close.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// When [`Session::on_time`] wants to be called.
    pub(super) fn next_time(&self) -> Instant {
        self.tick.map_or(self.deadline, |tick| tick.min(self.deadline))
    }

    /// From when on the test has to give way to one that finds no place.
    pub(super) fn overdue_at(&self) -> Instant {
        let patience = match self.phase {
            Phase::Params(_) | Phase::Results(_) | Phase::Display => ANSWER_PATIENCE,
            Phase::Streams => STREAMS_PATIENCE,
            Phase::Running => MOVING_PATIENCE,
            // Nobody waits for the client.
            Phase::Assigning | Phase::Stopping | Phase::Over => return self.deadline,
        };
        self.progress.saturating_add(patience)
    }

    /// Takes octets of the control connection; tells how many. 0 when nothing is expected now: the rest has to wait.
    pub(super) fn on_input(&mut self, input: &[u8], context: &mut Context<'_>) -> usize {
        match &mut self.phase {
            Phase::Params(reader) => {
                let (used, blob) = reader.feed(input);
                match blob {
                    Blob::Partial => {}
                    Blob::TooLong => self.fail(ServerError::Params, context),
                    Blob::Complete(text) => match Params::parse(&text) {
                        Ok(params) => self.await_streams(params, context),
                        Err(error) => self.fail(error, context),
                    },
                }
                used
            }
            Phase::Results(reader) => {
                let (used, blob) = reader.feed(input);
                match blob {
                    Blob::Partial => {}
                    // The client now waits for results, where an error number would be read as a length.
                    Blob::TooLong => self.end(context),
                    Blob::Complete(text) if protocol::results_acceptable(&text) => self.answer_results(context),
                    Blob::Complete(_) => self.end(context),
                }
                used
            }
            Phase::Stopping => 0,
            Phase::Over => input.len(),
            Phase::Streams | Phase::Assigning | Phase::Running | Phase::Display => {
                let Some(&octet) = input.first() else { return 0 };
                match (octet, &self.phase) {
                    (state::TEST_END, Phase::Running) => self.stop(context),
                    (state::CLIENT_TERMINATE | state::IPERF_DONE, _) | (_, Phase::Display) => self.end(context),
                    _ => self.fail(ServerError::UnknownMessage, context),
                }
                1
            }
        }
    }

    /// The control connection has ended or broken: the test goes with it.
    pub(super) fn on_hang_up(&mut self, context: &mut Context<'_>) {
        self.end(context);
    }

    /// The server is about to stop: the client is told while it waits for a word, and then reports what it has. The
    /// streams are left alone, so that no reset of theirs overtakes the word.
    pub(super) fn on_stopping(&mut self, context: &mut Context<'_>) {
        match self.phase {
            Phase::Params(_) | Phase::Streams | Phase::Assigning | Phase::Running | Phase::Stopping => {
                self.output.push(state::SERVER_TERMINATE);
                self.tick = None;
                self.enter(Phase::Over, Duration::from_nanos(u64::MAX), context.now);
            }
            // Here it would be taken for a part of the results, or comes too late.
            Phase::Results(_) | Phase::Display | Phase::Over => {}
        }
    }

    /// A connection with the test's cookie. One too many, or one that comes too late, is turned away.
    pub(super) fn on_join(&mut self, candidate: Candidate, context: &mut Context<'_>) {
        let need = match (&self.phase, &self.params) {
            (Phase::Streams, Some(params)) => params.streams(),
            _ => 0,
        };
        if self.members.len() >= need {
            context.notes.push_back((candidate.at.shard, Note::Deny { conn: candidate.at.conn }));
            return;
        }
        let sample = Sample::default();
        self.members.push(Member { candidate, assigned: false, sample, sampled: false, result: None });
        if self.members.len() == need {
            self.assign(context);
        }
    }

    /// A stream is ready.
    pub(super) fn on_assigned(&mut self, index: u16, context: &mut Context<'_>) {
        if let Some(member) = self.members.get_mut(usize::from(index)) {
            member.assigned = true;
        }
        if matches!(self.phase, Phase::Assigning) && self.members.iter().all(|member| member.assigned) {
            self.start(context);
        }
    }

    /// A stream's counters, asked for at the last tick.
    pub(super) fn on_sample(&mut self, index: u16, sample: Sample, context: &Context<'_>) {
        if let Some(member) = self.members.get_mut(usize::from(index)) {
            if member.sample.octets != sample.octets {
                self.progress = context.now;
            }
            member.sample = sample;
            member.sampled = true;
        }
        if matches!(self.phase, Phase::Running) && self.members.iter().all(Member::has_figures) {
            self.report_interval(context.tests);
            for member in &mut self.members {
                member.sampled = false;
            }
        }
    }

    /// A stream has ended: stopped, or lost on the way.
    pub(super) fn on_report(&mut self, index: u16, result: StreamResult, context: &mut Context<'_>) {
        if let Some(member) = self.members.get_mut(usize::from(index)) {
            member.result = Some(result);
        }
        match self.phase {
            Phase::Assigning => self.fail(ServerError::Streams, context),
            Phase::Stopping => self.exchange_if_reported(context),
            // While running, what it has counted stands; the client will see for itself.
            _ => {}
        }
    }

    /// The time has come that [`Session::next_time`] told, or some other.
    pub(super) fn on_time(&mut self, context: &mut Context<'_>) {
        if self.tick.is_some_and(|tick| tick <= context.now) {
            self.on_tick(context);
        }
        if self.deadline > context.now {
            return;
        }
        match self.phase {
            Phase::Params(_) => self.fail(ServerError::Params, context),
            Phase::Streams | Phase::Assigning => self.fail(ServerError::Streams, context),
            // What is missing counts as nothing.
            Phase::Stopping => self.exchange_results(context),
            Phase::Running | Phase::Results(_) | Phase::Display => self.end(context),
            Phase::Over => {}
        }
    }

    fn await_streams(&mut self, params: Params, context: &Context<'_>) {
        self.params = Some(params);
        self.enter(Phase::Streams, STREAMS_TIMEOUT, context.now);
        self.output.push(state::CREATE_STREAMS);
    }

    /// All connections are there. The client opened them one by one, so that tickets tell their order, which the order
    /// of arrival here does not.
    fn assign(&mut self, context: &mut Context<'_>) {
        let Some(params) = &self.params else { return };
        self.members.sort_by_key(|member| member.candidate.ticket);
        for (index, member) in self.members.iter().enumerate() {
            let Address { shard, conn } = member.candidate.at;
            let plan = Plan::new(params, index);
            context.notes.push_back((shard, Note::Assign { conn, session: self.me, index: index as u16, plan }));
        }
        self.enter(Phase::Assigning, STREAMS_TIMEOUT, context.now);
    }

    fn start(&mut self, context: &mut Context<'_>) {
        let Some(params) = &self.params else { return };
        let now = context.now;
        let announced = u64::from(params.omit) + u64::from(params.time);
        let mut limit = Duration::from_secs(announced).saturating_add(GRACE);
        if params.server_output {
            let quads = self.members.iter().map(|member| member.candidate.quad);
            self.report = Some(Report::begin(params, &self.quad, quads));
        }
        if params.time == 0 {
            // Octets or blocks end the test, however long they take: it goes on as long as something moves.
            limit = IDLE_TIMEOUT;
        }
        self.tick = Some(now.saturating_add(params.sample_interval()));
        self.started = now;
        self.sampled = (now, now);
        self.cpu_before = (context.cpu)();
        self.output.extend([state::TEST_START, state::TEST_RUNNING]);
        self.enter(Phase::Running, limit, now);
        self.tell_streams(context, |conn| Note::Start { conn, since: now });
    }

    fn on_tick(&mut self, context: &mut Context<'_>) {
        let (Some(due), Some(params)) = (self.tick.take(), &self.params) else { return };
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        if params.time == 0 {
            self.deadline = self.progress.saturating_add(IDLE_TIMEOUT);
        }
        self.tick = Some(due.saturating_add(params.sample_interval()).max(context.now));
        self.sampled = (self.sampled.1, context.now);
        self.tell_streams(context, |conn| Note::Sample { conn });
    }

    /// How long after the omitted part `at` is.
    fn counted(&self, at: Instant) -> Duration {
        let omit = self.params.as_ref().map_or(0, |params| params.omit);
        at.saturating_since(self.started.saturating_add(Duration::from_secs(u64::from(omit))))
    }

    fn report_interval(&mut self, tests: usize) {
        let (from, to) = self.sampled;
        let (from, to, omitted) = match self.counted(to) {
            to if to.as_millis() > 0 => (self.counted(from), to, false),
            _ => (from.saturating_since(self.started), to.saturating_since(self.started), true),
        };
        let samples: Vec<Sample> = self.members.iter().map(|member| member.sample).collect();
        if let Some(report) = &mut self.report {
            report.interval(from.as_secs_f64(), to.as_secs_f64(), &samples, omitted, tests);
        }
    }

    fn stop(&mut self, context: &mut Context<'_>) {
        self.stopped = context.now;
        self.tick = None;
        let cpu = (context.cpu)();
        let seconds = self.stopped.saturating_since(self.started).as_secs_f64();
        let percent = |before: Duration, after: Duration| match after.saturating_sub(before).as_secs_f64() {
            used if seconds > 0.0 => used / seconds * 100.0,
            _ => 0.0,
        };
        self.cpu_use = CpuUse {
            user: percent(self.cpu_before.user, cpu.user),
            system: percent(self.cpu_before.system, cpu.system),
        };
        self.enter(Phase::Stopping, REPORTS_TIMEOUT, context.now);
        self.tell_streams(context, |conn| Note::Stop { conn });
        self.exchange_if_reported(context);
    }

    fn exchange_if_reported(&mut self, context: &Context<'_>) {
        if self.members.iter().all(|member| member.result.is_some()) {
            self.exchange_results(context);
        }
    }

    fn exchange_results(&mut self, context: &Context<'_>) {
        self.output.push(state::EXCHANGE_RESULTS);
        let max = protocol::results_max(self.members.len());
        self.enter(Phase::Results(BlobReader::new(max)), RESULTS_TIMEOUT, context.now);
    }

    fn answer_results(&mut self, context: &mut Context<'_>) {
        let Some(params) = &self.params else { return };
        let results: Vec<_> = self.members.iter().map(|member| member.result.unwrap_or_default()).collect();
        let seconds = self.counted(self.stopped).as_secs_f64();
        let text = self.report.take().map(|report| report.finish(seconds, &results));
        let value =
            protocol::results(params.sends_at_all(), self.congestion, self.cpu_use, &results, seconds, text.as_deref());
        self.output.extend(protocol::encode_blob(&value));
        self.output.push(state::DISPLAY_RESULTS);
        self.enter(Phase::Display, DISPLAY_TIMEOUT, context.now);
    }

    fn enter(&mut self, phase: Phase, limit: Duration, now: Instant) {
        self.phase = phase;
        self.progress = now;
        self.deadline = now.saturating_add(limit);
    }

    /// Sends a note to each stream that still lives.
    fn tell_streams(&self, context: &mut Context<'_>, note: impl Fn(ConnId) -> Note) {
        let alive = self.members.iter().filter(|member| member.result.is_none());
        context.notes.extend(alive.map(|member| (member.candidate.at.shard, note(member.candidate.at.conn))));
    }

    fn fail(&mut self, error: ServerError, context: &mut Context<'_>) {
        self.output.extend(error.encode());
        self.end(context);
    }

    fn end(&mut self, context: &mut Context<'_>) {
        if !self.is_over() {
            self.tick = None;
            self.enter(Phase::Over, Duration::from_nanos(u64::MAX), context.now);
            self.tell_streams(context, |conn| Note::Drop { conn });
        }
    }
}

impl Params {
    /// Between two looks at the streams' counters.
    fn sample_interval(&self) -> Duration {
        if self.server_output { INTERVAL } else { PROGRESS_CHECK }
    }
}

impl Member {
    /// Whether its figures for the present interval are there, or none will come.
    fn has_figures(&self) -> bool {
        self.sampled || self.result.is_some()
    }
}
