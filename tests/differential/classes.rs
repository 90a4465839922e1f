//! In what stacks may differ, and why.

mod kernel;
mod smoltcp;

use trust::tcp::State;
use trust::wire::tcp::Flags;

use super::facts::Facts;
use super::script::{Script, Step};
use super::story::{self, RECEIVE, Sent, Story};

/// The first difference of a script.
pub(crate) struct Difference<'a> {
    pub(crate) script: &'a Script,
    pub(crate) step: &'a Step,
    pub(crate) before: &'a Facts,
    /// The same as `before`, but for an ACK.
    pub(crate) theirs_before: &'a Facts,
    pub(crate) ours: &'a Facts,
    pub(crate) theirs: &'a Facts,
    pub(crate) story: Story,
    /// The peer's segment, if the step is one.
    pub(crate) sent: Option<Sent>,
}

impl<'a> Difference<'a> {
    /// At `facts[at]`, which is after step `at - 1`; both slices are the same before.
    pub(crate) fn new(script: &'a Script, ours: &'a [Facts], theirs: &'a [Facts], at: usize) -> Self {
        let (step, before) = (&script.steps[at - 1], &ours[at - 1]);
        Self {
            script,
            step,
            before,
            theirs_before: &theirs[at - 1],
            ours: &ours[at],
            theirs: &theirs[at],
            story: Story::before(script, ours, at - 1),
            sent: story::sent(step, before),
        }
    }

    /// The peer has sent a segment with exactly one of these sets of flags, but for PSH, of which this holds.
    fn sends(&self, flags: &[Flags], holds: impl FnOnce(&Sent) -> bool) -> bool {
        self.sent.is_some_and(|sent| flags.contains(&sent.segment.flags.without(Flags::PSH)) && holds(&sent))
    }

    fn state(&self, states: &[State]) -> bool {
        states.contains(&self.story.state)
    }

    /// RCV.NXT.
    fn next(&self) -> i64 {
        self.before.next()
    }

    /// SEG.ACK is acceptable.
    fn good_ack(&self, sent: &Sent) -> bool {
        !self.story.bad_ack(sent, self.before)
    }
}

/// A FIN was held that other data contradict: octets or another FIN lie behind it.
fn contradicted_fin(difference: &Difference) -> bool {
    let (story, sent) = (&difference.story, difference.sent);
    let fins =
        || story.held_fins.iter().copied().chain(sent.filter(|sent| sent.has(Flags::FIN)).map(|sent| sent.end()));
    let ends = story.held.iter().map(|(_, end)| *end).chain(sent.map(|sent| sent.end()));
    let last = ends.chain(fins()).max();
    fins().any(|fin| last.is_some_and(|last| fin < last))
}

/// The segment is a keep-alive, and acknowledges something.
fn keep_alive(difference: &Difference) -> bool {
    difference.sends(&[Flags::ACK], |sent| {
        sent.len() == 0 && sent.seq + 1 == difference.next() && sent.ack > difference.story.una
    })
}

/// One kind of difference.
pub(crate) struct Class {
    pub(crate) name: &'static str,
    /// Which facts differ, and how: one of these, as [`Facts::differing`] writes them.
    pub(crate) facts: &'static [&'static str],
    /// The connections are in different states from here on, although perhaps only an ACK tells: the script is given up. Else it
    /// goes on where nothing but an ACK differs.
    pub(crate) parted: bool,
    /// Where it may be so.
    pub(crate) when: fn(&Difference) -> bool,
    /// The same in words.
    pub(crate) at: &'static str,
    pub(crate) ours: &'static str,
    pub(crate) theirs: &'static str,
    pub(crate) why: &'static str,
}

/// The other stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Other {
    Smoltcp,
    Kernel,
}

impl Other {
    pub(crate) fn classes(self) -> &'static [Class] {
        match self {
            Self::Smoltcp => smoltcp::CLASSES,
            Self::Kernel => kernel::CLASSES,
        }
    }
}

impl Class {
    /// The first that holds.
    pub(crate) fn of(other: Other, difference: &Difference) -> Option<&'static Self> {
        let facts = difference.ours.differing(difference.theirs);
        let holds = |class: &&Self| class.facts.contains(&&*facts) && (class.when)(difference);
        other.classes().iter().find(holds)
    }
}
