//! What policies wish for at ticks, and what became of it.

use super::Action;

/// The kind of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Notice,
    Trim,
    TrimEvents,
    Pause,
    Resume,
    Emergency,
}

impl Deed {
    pub const ALL: [Self; 6] = [Self::Notice, Self::Trim, Self::TrimEvents, Self::Pause, Self::Resume, Self::Emergency];

    pub const fn of(action: &Action) -> Self {
        match action {
            Action::Notice(_) => Self::Notice,
            Action::Trim(_) => Self::Trim,
            Action::TrimEvents(_) => Self::TrimEvents,
            Action::Pause(_) => Self::Pause,
            Action::Resume(_) => Self::Resume,
            Action::Emergency(_) => Self::Emergency,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Trim => "trim",
            Self::TrimEvents => "trim-events",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Emergency => "emergency",
        }
    }
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Done,
    /// It was so already, or is being done.
    Unneeded,
    /// The module's own checks are against it: why.
    Ignored(String),
    /// The policy only observes.
    Observed,
}

/// Actions of a policy by kind, and those that were not carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deeds {
    done: [u64; Deed::ALL.len()],
    pub unneeded: u64,
    pub ignored: u64,
    pub observed: u64,
}

impl Deeds {
    pub fn add(&mut self, deed: Deed, effect: &Effect) {
        match effect {
            Effect::Done => self.done[deed as usize] += 1,
            Effect::Unneeded => self.unneeded += 1,
            Effect::Ignored(_) => self.ignored += 1,
            Effect::Observed => self.observed += 1,
        }
    }

    /// Actions of this kind that were carried out.
    pub const fn done(&self, deed: Deed) -> u64 {
        self.done[deed as usize]
    }
}
