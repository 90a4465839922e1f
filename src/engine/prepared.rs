//! Between preparing and starting: an engine with its device, its steering program and its memory, and without a
//! thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam::sync::WaitGroup;

use super::error::EngineError;
use super::plan::{Plan, StageId, ThreadPlan};
use super::runner::{self, Alarm, Runner, Stage};
use super::running::Engine;
use crate::buffer::wake::{Interest, Parker, Unparker, parker};

/// An engine that has all it needs and runs nothing yet; made by [`Engine::prepare`].
///
/// What takes rights (to attach a steering program, as the device before) is done. A program that gives rights up
/// does so here: threads have what the one that starts them has.
#[must_use = "it runs when it is started"]
pub struct Prepared {
    pub(super) engine: Engine,
    pub(super) runners: Vec<Runner>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Prepared {
    /// Starts the threads, and returns when each runs and is pinned.
    ///
    /// # Errors
    ///
    /// [`EngineError::Thread`].
    pub fn start(self) -> Result<Engine, EngineError> {
        let Self { mut engine, runners } = self;
        let started = WaitGroup::new();
        for (thread, runner) in engine.plan.threads.clone().into_iter().zip(runners) {
            let others = engine.unparkers.clone();
            engine.threads.push(spawn(thread, runner, others, started.clone())?);
        }
        started.wait();
        Ok(engine)
    }
}

/// A thread to be: what it waits on and the stages it has so far.
pub(super) struct Waiting {
    pub(super) poll: mio::Poll,
    pub(super) alarm: Alarm,
    pub(super) parker: Parker<mio::Waker>,
    pub(super) stages: Vec<(StageId, Stage)>,
}

impl Waiting {
    pub(super) fn new() -> Result<Self, EngineError> {
        let poll = mio::Poll::new().map_err(EngineError::Thread)?;
        let waker = mio::Waker::new(poll.registry(), runner::WAKER).map_err(EngineError::Thread)?;
        let alarm = Alarm::new().map_err(EngineError::Thread)?;
        let (parker, _) = parker(waker);
        Ok(Self { poll, alarm, parker, stages: Vec::new() })
    }

    /// Adds a stage in its place of the plan's order.
    pub(super) fn put(&mut self, plan: &Plan, id: StageId, stage: Stage) {
        let order = |id: &StageId| {
            plan.threads.iter().find_map(|thread| thread.stages.iter().position(|planned| planned == id))
        };
        self.stages.push((id, stage));
        self.stages.sort_by_key(|(id, _)| order(id));
    }
}

fn spawn(
    plan: ThreadPlan,
    mut runner: Runner,
    others: Vec<Unparker<mio::Waker>>,
    started: WaitGroup,
) -> Result<JoinHandle<Result<(), EngineError>>, EngineError> {
    let name = plan.name.clone();
    std::thread::Builder::new()
        .name(plan.name)
        .spawn(move || {
            if let Some(cpu) = plan.cpu
                && !core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
            {
                tracing::warn!("{name}: the kernel refused to pin this thread to CPU {cpu}");
            }
            let stop = Arc::clone(&runner.stop);
            drop(started);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runner.run()));
            // Whatever ended this thread ends the engine: half an engine would hang its clients.
            stop.store(true, Ordering::SeqCst);
            for other in &others {
                other.notify(Interest::ALL);
            }
            match result {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(EngineError::Failed { thread: name, why: error.to_string() }),
                Err(panic) => {
                    let why = panic
                        .downcast_ref::<&str>()
                        .map(|text| (*text).to_owned())
                        .or_else(|| panic.downcast_ref::<String>().cloned())
                        .unwrap_or_else(|| "panic".to_owned());
                    Err(EngineError::Failed { thread: name, why: format!("panicked: {why}") })
                }
            }
        })
        .map_err(EngineError::Thread)
}
