//! Which stages there are and which thread, on which CPU, runs them: the only difference between the two shapes.
//!
//! ```text
//! fused, 2 workers            pipeline, 2 workers
//!   t0: rx0 worker0 tx0         rx0:     rx0 rx1
//!   t1: rx1 worker1 tx1         worker0: worker0
//!                               worker1: worker1
//!                               tx0:     tx0 tx1
//! ```
//!
//! Must not contain: threads, devices.

use std::str::FromStr;

/// Which shape to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlanKind {
    /// `Pipeline` from four CPUs, `Fused` below.
    #[default]
    Auto,
    /// Readers, workers and writers each on threads of their own.
    Pipeline,
    /// Each thread runs rx, worker and tx of one queue to completion.
    Fused,
}

/// Where threads run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pin {
    /// Workers first, at most one on a CPU; then the other threads round the CPUs.
    #[default]
    Auto,
    /// Wherever the kernel likes.
    None,
    /// On these CPUs, in order of threads, round and round.
    Cpus(Vec<usize>),
}

/// A plan that cannot be.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No worker at all.
    #[error("no workers: at least one is needed")]
    NoWorkers,
    /// More workers than CPUs, pinned.
    #[error("{workers} workers on {cpus} CPUs: at most one runs on a CPU; take {cpus}, or pin none of them")]
    TooManyWorkers {
        /// Asked for.
        workers: usize,
        /// Usable.
        cpus: usize,
    },
    /// A CPU that this process may not use.
    #[error("CPU {cpu}: this process may not use such a one; there are {}", listed(usable))]
    NoSuchCpu {
        /// Asked for.
        cpu: usize,
        /// Usable.
        usable: Vec<usize>,
    },
    /// A CPU listed twice.
    #[error("CPU {cpu} is named twice, and at most one worker runs on a CPU; name each once")]
    SameCpu {
        /// Listed more than once.
        cpu: usize,
    },
    /// Fewer CPUs listed than workers.
    #[error("{workers} workers and fewer CPUs ({cpus}): name one for each, or take fewer workers")]
    TooFewCpus {
        /// Listed.
        cpus: usize,
        /// Asked for.
        workers: usize,
    },
}

debug_as_display!(PlanError);

fn listed(cpus: &[usize]) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The number that a list holds twice, if any.
fn repeated(cpus: &[usize]) -> Option<usize> {
    (1..cpus.len()).find(|at| cpus[..*at].contains(&cpus[*at])).map(|at| cpus[at])
}

/// A stage, by kind and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageId {
    /// Reader of that queue.
    Rx(usize),
    /// Worker with that shard.
    Worker(usize),
    /// Writer of that queue.
    Tx(usize),
}

/// One thread of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadPlan {
    /// The thread's name.
    pub name: String,
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// What it runs, in this order.
    pub stages: Vec<StageId>,
}

/// Which stages an engine has, and on which thread and CPU each of them runs.
///
/// ```
/// use trust::engine::{Pin, Plan, PlanError, PlanKind};
///
/// let plan = Plan::new(PlanKind::Fused, Some(2), &Pin::Auto, &[0, 1], 2)?;
/// for thread in &plan.threads {
///     println!("{} on CPU {:?}: {:?}", thread.name, thread.cpu, thread.stages);
/// }
/// let refused = Plan::new(PlanKind::Fused, Some(3), &Pin::Auto, &[0, 1], 3);
/// assert_eq!(refused, Err(PlanError::TooManyWorkers { workers: 3, cpus: 2 }));
/// # Ok::<(), PlanError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The shape, never [`PlanKind::Auto`].
    pub kind: PlanKind,
    /// Number of workers and shards.
    pub workers: usize,
    /// Number of device queues.
    pub queues: usize,
    /// The threads.
    pub threads: Vec<ThreadPlan>,
    /// Whether no two threads need share a CPU, so that they may spin before they park.
    pub exclusive: bool,
}

impl Plan {
    /// Lays out `workers` (default: one a CPU in `Fused`; in `Pipeline` as many as leave a CPU each to the reader and the
    /// writer, at least one) on a device with at most `max_queues` queues. The CPUs are those of `pin`, where it lists
    /// some, else the `usable` ones.
    ///
    /// # Errors
    ///
    /// [`PlanError`] says what cannot be.
    pub fn new(
        kind: PlanKind,
        workers: Option<usize>,
        pin: &Pin,
        usable: &[usize],
        max_queues: usize,
    ) -> Result<Self, PlanError> {
        let cpus = match pin {
            Pin::Cpus(list) => list.len(),
            Pin::Auto | Pin::None => usable.len(),
        };
        let cpus = cpus.max(1);
        let kind = match kind {
            PlanKind::Auto if cpus >= 4 => PlanKind::Pipeline,
            PlanKind::Auto => PlanKind::Fused,
            kind => kind,
        };
        let workers = workers.unwrap_or(match kind {
            PlanKind::Fused | PlanKind::Auto => cpus,
            PlanKind::Pipeline => cpus.saturating_sub(2).max(1),
        });
        if workers == 0 {
            return Err(PlanError::NoWorkers);
        }
        match pin {
            Pin::Auto if workers > cpus => return Err(PlanError::TooManyWorkers { workers, cpus }),
            Pin::Cpus(list) => {
                if let Some(cpu) = list.iter().find(|cpu| !usable.contains(cpu)) {
                    return Err(PlanError::NoSuchCpu { cpu: *cpu, usable: usable.to_vec() });
                }
                if let Some(cpu) = repeated(list) {
                    return Err(PlanError::SameCpu { cpu });
                }
                if list.len() < workers {
                    return Err(PlanError::TooFewCpus { cpus: list.len(), workers });
                }
            }
            Pin::Auto | Pin::None => {}
        }
        let queues = workers.min(max_queues).max(1);
        let mut threads: Vec<ThreadPlan> = Vec::new();
        let thread = |name: String, stages| ThreadPlan { name, cpu: None, stages };
        // Workers come first: they get the CPUs of their own.
        if kind == PlanKind::Fused {
            for worker in 0..workers {
                let mut stages = vec![StageId::Worker(worker)];
                if worker < queues {
                    stages.insert(0, StageId::Rx(worker));
                    stages.push(StageId::Tx(worker));
                }
                threads.push(thread(format!("fused-{worker}"), stages));
            }
        } else {
            threads
                .extend((0..workers).map(|worker| thread(format!("worker-{worker}"), vec![StageId::Worker(worker)])));
            // One reader and one writer serve two workers.
            let ends = queues.div_ceil(2);
            for end in 0..ends {
                let mine = |queue: &usize| queue % ends == end;
                threads.push(thread(format!("rx-{end}"), (0..queues).filter(mine).map(StageId::Rx).collect()));
                threads.push(thread(format!("tx-{end}"), (0..queues).filter(mine).map(StageId::Tx).collect()));
            }
        }
        let cpus_in_order: &[usize] = match pin {
            Pin::Auto => usable,
            Pin::None => &[],
            Pin::Cpus(list) => list,
        };
        if !cpus_in_order.is_empty() {
            for (index, thread) in threads.iter_mut().enumerate() {
                thread.cpu = Some(cpus_in_order[index % cpus_in_order.len()]);
            }
        }
        let exclusive = threads.len() <= cpus;
        Ok(Self { kind, workers, queues, threads, exclusive })
    }

    /// The queue that worker writes to: the one its packets come from, where there are as many queues as workers.
    #[must_use]
    pub fn queue_of(&self, worker: usize) -> usize {
        worker % self.queues
    }

    /// The CPU whose packets can come to a worker by a queue of its own.
    pub(super) fn birthplace(&self, worker: usize) -> Option<usize> {
        let thread = self.thread_of(StageId::Worker(worker)).filter(|_| worker < self.queues)?;
        self.threads[thread].cpu
    }

    /// The thread that runs a stage.
    pub(super) fn thread_of(&self, stage: StageId) -> Option<usize> {
        self.threads.iter().position(|thread| thread.stages.contains(&stage))
    }
}

/// The CPUs this process may use.
#[must_use]
pub fn usable_cpus() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// Why a text is not a [`PlanKind`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("no plan is called {0:?}; there are auto, pipeline and fused")]
pub struct ParsePlanError(String);

debug_as_display!(ParsePlanError);

/// Why a text is not a [`Pin`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePinError {
    /// Neither a word nor a list of numbers.
    #[error("not auto, none or a list of CPUs like 0,1")]
    Form,
    /// A CPU listed twice.
    #[error("CPU {0} is named twice, and at most one worker runs on a CPU; name it once")]
    SameCpu(usize),
}

debug_as_display!(ParsePinError);

impl FromStr for PlanKind {
    type Err = ParsePlanError;

    fn from_str(text: &str) -> Result<Self, ParsePlanError> {
        match text {
            "auto" => Ok(Self::Auto),
            "pipeline" => Ok(Self::Pipeline),
            "fused" => Ok(Self::Fused),
            other => Err(ParsePlanError(other.to_owned())),
        }
    }
}

impl FromStr for Pin {
    type Err = ParsePinError;

    fn from_str(text: &str) -> Result<Self, ParsePinError> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            list => {
                let cpus: Vec<usize> = list
                    .split(',')
                    .map(|cpu| cpu.trim().parse())
                    .collect::<Result<_, _>>()
                    .map_err(|_| ParsePinError::Form)?;
                match repeated(&cpus) {
                    Some(cpu) => Err(ParsePinError::SameCpu(cpu)),
                    None => Ok(Self::Cpus(cpus)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_stage_is_on_exactly_one_thread_in_every_plan() {
        for kind in [PlanKind::Fused, PlanKind::Pipeline] {
            for workers in 1..=8 {
                for max_queues in [1, 2, 8] {
                    let plan = Plan::new(kind, Some(workers), &Pin::None, &[0, 1], max_queues).unwrap();
                    let mut stages = Vec::new();
                    stages.extend((0..workers).map(StageId::Worker));
                    stages.extend((0..plan.queues).map(StageId::Rx));
                    stages.extend((0..plan.queues).map(StageId::Tx));
                    for stage in stages {
                        let count = plan.threads.iter().flat_map(|t| &t.stages).filter(|s| **s == stage).count();
                        assert_eq!(count, 1, "{stage:?} of {plan:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn threads_are_exclusive_where_each_can_have_a_cpu() {
        let plan = |kind, workers, pin: &Pin, usable: &[usize]| {
            Plan::new(kind, Some(workers), pin, usable, workers).unwrap().exclusive
        };
        use PlanKind::{Fused, Pipeline};
        for pin in [Pin::Auto, Pin::None] {
            assert!(plan(Fused, 2, &pin, &[0, 1]) && plan(Pipeline, 1, &pin, &[0, 1, 2]), "{pin:?}");
            assert!(!plan(Pipeline, 1, &pin, &[0, 1]), "{pin:?}: a reader, a worker and a writer");
        }
        assert!(!plan(Fused, 3, &Pin::None, &[0, 1]));
        assert!(!plan(Pipeline, 1, &Pin::Cpus(vec![0, 1]), &[0, 1, 2]), "CPUs that are not listed do not count");
    }

    #[test]
    fn at_most_one_worker_runs_on_a_cpu() {
        let plan = Plan::new(PlanKind::Pipeline, Some(2), &Pin::Auto, &[0, 1], 2).unwrap();
        let cpus: Vec<_> = plan.threads.iter().map(|thread| thread.cpu.unwrap()).collect();
        assert_eq!(cpus, [0, 1, 0, 1]);
        let refused = Plan::new(PlanKind::Fused, Some(3), &Pin::Auto, &[0, 1], 3);
        assert_eq!(refused, Err(PlanError::TooManyWorkers { workers: 3, cpus: 2 }));
    }

    #[test]
    fn a_list_of_cpus_is_refused_where_a_worker_would_lack_one() {
        let plan = |workers, list: &[usize]| Plan::new(PlanKind::Fused, workers, &Pin::Cpus(list.to_vec()), &[0, 2], 4);
        let table: &[(Option<usize>, &[usize], &str)] = &[
            (None, &[99], "CPU 99: this process may not use such a one; there are 0, 2"),
            (Some(2), &[0], "2 workers and fewer CPUs (1): name one for each, or take fewer workers"),
            (None, &[2, 2], "CPU 2 is named twice, and at most one worker runs on a CPU; name each once"),
        ];
        for (workers, list, said) in table {
            assert_eq!(plan(*workers, list).unwrap_err().to_string(), *said);
        }
        // Nobody said how many workers: as many as there are CPUs for them.
        assert_eq!(plan(None, &[2]).unwrap().workers, 1);
        assert_eq!(plan(Some(1), &[2, 0]).unwrap().threads[0].cpu, Some(2));
    }

    #[test]
    fn pins_and_plans_are_read_from_text() {
        assert_eq!("0,1".parse(), Ok(Pin::Cpus(vec![0, 1])));
        assert_eq!("none".parse(), Ok(Pin::None));
        for wrong in ["0,x", "", "0,", "-1", "0,1,0"] {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong}");
        }
        assert!("ring".parse::<PlanKind>().is_err());
    }
}
