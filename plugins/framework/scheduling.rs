//! One decision: filters, scorers, a picker per profile, a handler over the profiles.
//!
//! Everything here is synchronous and a pure function of its arguments; `cycle.now` is the only time and `rng` the
//! only chance. Commits learn from a decision inside the critical section that made it.

use std::sync::Arc;

use rand::rngs::SmallRng;
use smallvec::SmallVec;

use crate::endpoint::Endpoint;
use crate::request::InferenceRequest;
use crate::snapshot::{Candidates, EndpointView};
use crate::time::Timestamp;

/// One decision being made.
#[derive(Clone, Copy, Debug)]
pub struct Cycle<'a> {
    /// The request to place.
    pub request: &'a InferenceRequest,
    /// The pool when the decision began, in the order of its snapshot. A position in here is an *index*; it is not the
    /// endpoint's slot.
    pub pool: &'a [EndpointView],
    /// Names of the profiles, by their positions.
    pub profiles: &'a [String],
    /// Profiles that ran so far.
    pub runs: &'a ProfileRuns,
    /// Index of the endpoint that the one to be picked will work with, if another profile picked it already.
    pub peer: Option<u32>,
    /// When the decision began.
    pub now: Timestamp,
}

impl<'a> Cycle<'a> {
    /// The endpoint at an index, if there is one.
    #[inline]
    pub fn endpoint(&self, index: u32) -> Option<&'a Arc<Endpoint>> {
        self.pool.get(index as usize).map(|view| &view.endpoint)
    }
}

/// Removes candidates.
pub trait Filter: Send + Sync {
    /// Keeps those that may serve the request. Nobody left means that the profile fails.
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, rng: &mut SmallRng);
}

/// Rates candidates.
pub trait Scorer: Send + Sync {
    /// Writes one score per candidate into `scores`, in candidate order, \[0, 1\], 1 is best. The caller clamps; NaN
    /// counts 0.
    fn score(&self, cycle: &Cycle<'_>, candidates: &Candidates<'_>, scores: &mut [f64]);
}

/// Chooses among rated candidates.
pub trait Picker: Send + Sync {
    /// Pushes the positions of the chosen candidates onto `picks`, best first. `scores` holds the weighted sum per
    /// candidate. There is at least one candidate.
    fn pick(
        &self,
        cycle: &Cycle<'_>,
        candidates: &Candidates<'_>,
        scores: &[f64],
        rng: &mut SmallRng,
        picks: &mut Picks,
    );
}

/// Positions of chosen candidates, best first.
pub type Picks = SmallVec<[u32; 4]>;

/// What became of one profile.
#[derive(Clone, Debug)]
pub struct ProfileRun {
    /// Position of the profile in the configuration.
    pub profile: usize,
    /// Indices into the snapshot, best first; `None` when the profile failed.
    pub picks: Option<Picks>,
}

impl ProfileRun {
    /// Index of the endpoint that was picked first, if anybody was.
    pub fn first(&self) -> Option<u32> {
        self.picks.as_ref()?.first().copied()
    }
}

/// The profiles that ran, in the order they ran.
pub type ProfileRuns = SmallVec<[ProfileRun; 2]>;

/// Says which profiles run, and makes a decision of their results.
pub trait ProfileHandler: Send + Sync {
    /// Positions of the profiles to run now, given what ran before; empty when all is known.
    fn next(&self, cycle: &Cycle<'_>) -> SmallVec<[usize; 2]>;

    /// Index of the endpoint that the one to be picked by the profile at position `next` will work with, as
    /// [`Cycle::peer`].
    fn peer(&self, _cycle: &Cycle<'_>, _next: usize) -> Option<u32> {
        None
    }

    /// Whether the request is refused unless the profile at position `profile` picks somebody; before nobody does,
    /// endpoints are picked of which less is known.
    fn needs(&self, _profiles: &[String], _profile: usize) -> bool {
        false
    }

    /// Whether it may split the work of a request among several endpoints; then its decisions are counted by how.
    fn splits(&self) -> bool {
        false
    }

    /// Makes the decision of `cycle.runs`.
    fn decide(&self, cycle: &Cycle<'_>) -> Result<Decision, Unschedulable>;
}

/// Says whether a further profile is to run.
pub trait Decider: Send + Sync {
    /// Whether it is; `endpoint` is the index of the one that was picked to generate, if one was.
    fn decide(&self, cycle: &Cycle<'_>, endpoint: Option<u32>) -> bool;
}

/// Where the request goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Position of the profile whose picks these are.
    pub primary: usize,
    /// Endpoints as indices into the snapshot; the first is preferred, the rest are ordered fallbacks. Never empty.
    pub targets: Picks,
    /// Endpoints that do another part of the work.
    pub companions: SmallVec<[Companion; 2]>,
    /// Parts that others were to do, had there been anybody.
    pub unfilled: SmallVec<[Role; 2]>,
    /// Port that the gateway is told in place of each target's own.
    pub port: Option<u16>,
    /// Headers to set on the request; names in lower case.
    pub headers: SmallVec<[(&'static str, String); 2]>,
}

impl Decision {
    /// A decision for the picks of one profile, with nothing else to it.
    pub fn of(primary: usize, targets: Picks) -> Self {
        Self { primary, targets, ..Self::default() }
    }

    /// Who does this part of the work for the targets, if somebody does.
    pub fn companion(&self, role: Role) -> Option<&Companion> {
        self.companions.iter().find(|companion| companion.role == role)
    }
}

/// Endpoints that do a part of the work for the one that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companion {
    /// Which part.
    pub role: Role,
    /// Position of the profile whose picks these are.
    pub profile: usize,
    /// Endpoints as indices into the snapshot, best first. Never empty.
    pub targets: Picks,
}

/// A part of the work that another endpoint may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Computes the prompt.
    Prefill,
    /// Encodes media.
    Encode,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 2] = [Self::Prefill, Self::Encode];

    /// What pages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Encode => "encode",
        }
    }
}

/// Why no decision could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unschedulable {
    /// The profile's filters removed everybody.
    #[error(
        "no pods available for the given request: the filters of profile {profile:?} removed all candidates"
    )]
    Drained {
        /// Name of the profile.
        profile: String,
    },
    /// No profile was run.
    #[error("failed to run any scheduler profile")]
    NoProfileRun,
    /// Nobody is there to generate.
    #[error("failed to find available decode workers")]
    NoDecoder,
    /// The request asks for a profile that is not there.
    #[error("the header {header:?} names no profile, expected one of: {profiles}")]
    UnknownProfile {
        /// Name of the header.
        header: String,
        /// The names that it may have, between commas.
        profiles: String,
    },
    /// The handler needs another number of results.
    #[error("the single profile handler needs exactly one profile, but {ran} ran")]
    NotSingle {
        /// Number of profiles that ran.
        ran: usize,
    },
}

/// Learns from a decision, inside the critical section that made it: the next decision sees it. Quick, never waits.
pub trait Commit: Send + Sync {
    /// Learns that `cycle.request` goes to `decision.targets`.
    fn commit(&self, cycle: &Cycle<'_>, decision: &Decision);
}
