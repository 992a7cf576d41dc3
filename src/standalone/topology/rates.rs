//! Limits of rates: [`RateRule`].

use crate::standalone::manifest::route::ValueMatch;

/// One rule of a BackendTrafficPolicy's `rateLimit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateRule {
    /// The policy, as `namespace/name`.
    pub policy: String,
    /// Which of its rules.
    pub index: usize,
    /// Whether all entries that it is for share one budget; else each has its own.
    pub is_shared: bool,
    /// Whether Envoy counts alone (`type: Local`); else a rate limit service.
    pub is_local: bool,
    /// Whom it is for: the headers that a request must have; none is everybody.
    pub clients: Vec<RateHeader>,
    /// The budget.
    pub requests: u32,
    /// For how long it is.
    pub unit: RateUnit,
    /// What a request costs as it comes; 0 looks whether anything is left.
    pub request_cost: RateCost,
    /// What it costs once it is answered.
    pub response_cost: Option<RateCost>,
    /// Whether it only counts, and refuses nothing.
    pub is_shadow: bool,
}

/// A header by which clients are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateHeader {
    /// It has this value, or with `true` has not.
    Is(ValueMatch, bool),
    /// Each value has a budget of its own.
    Distinct(String),
}

/// What something costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateCost {
    /// This much.
    Number(u32),
    /// What the metadata of this namespace has under this key; nothing if there is none.
    Metadata(String, String),
}

/// The time that a budget is for; periods begin at whole multiples of it since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateUnit {
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
    /// 86,400 s.
    Day,
    /// 7 days.
    Week,
    /// 30 days.
    Month,
    /// 365 days.
    Year,
}

impl RateUnit {
    /// How long it is.
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 30 * 86_400,
            Self::Year => 365 * 86_400,
        }
    }
}
