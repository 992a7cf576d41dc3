//! Which plugin of a pipeline is at work, told to whoever takes its time: [`Stopwatch`].
//!
//! Pure: what the time is, and what becomes of what a plugin took, is up to the caller. Without a stopwatch a step costs
//! one comparison.

use std::time::Duration;

use epp_framework::time::Timestamp;

/// A plugin at work, by its place in the pipeline. Profiles and plugins are counted in configuration order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A producer, before the decision.
    Produce(usize),
    /// The profile handler says which profiles run.
    PickProfiles,
    /// A filter of a profile.
    Filter {
        /// Position of the profile.
        profile: usize,
        /// Position in the profile.
        at: usize,
    },
    /// A scorer of a profile.
    Score {
        /// Position of the profile.
        profile: usize,
        /// Position in the profile.
        at: usize,
    },
    /// The picker of a profile.
    Pick {
        /// Position of the profile.
        profile: usize,
    },
    /// The profile handler makes a decision of the results.
    ProcessResults,
    /// Somebody learns from the decision.
    Commit(usize),
}

impl Step {
    /// The label `extension_point`, by the names of Gateway API Inference Extension v1.0.1; producers came later.
    pub fn extension_point(self) -> &'static str {
        match self {
            Self::Produce(_) => "DataProducer",
            Self::PickProfiles => "ProfilePicker",
            Self::Filter { .. } => "Filter",
            Self::Score { .. } => "Scorer",
            Self::Pick { .. } => "Picker",
            Self::ProcessResults => "ProcessProfilesResults",
            Self::Commit(_) => "PreRequest",
        }
    }
}

/// Takes the time of steps.
#[derive(Clone, Copy)]
pub struct Stopwatch<'a> {
    /// What the time is.
    pub now: &'a dyn Fn() -> Timestamp,
    /// Is told what each step took.
    pub took: &'a dyn Fn(Step, Duration),
}

/// Runs `step`, under a stopwatch if there is one.
pub fn timed<T>(watch: Option<Stopwatch<'_>>, step: Step, run: impl FnOnce() -> T) -> T {
    let Some(Stopwatch { now, took }) = watch else { return run() };
    let began = now();
    let result = run();
    took(step, now().since(began));
    result
}
