//! A run of equal engine steps and its times in closed form. The step grows by a constant, because every sequence's
//! context grows by one token per step, so the end of a step is a sum of an arithmetic series.

/// What one running request does in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    /// Index in the list of running requests.
    pub(super) seat: usize,
    /// Tokens computed per step.
    pub(super) n_tokens: u32,
    /// Whether the step ends with a new token: false for all but the last chunk of a prefill.
    pub(super) samples: bool,
    /// Whether the one token is the one sampled last.
    pub(super) is_decode: bool,
}

/// Steps that hold the same works, one after the other.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) departed_ns: u64,
    /// Duration of the first step.
    pub(super) first_ns: u64,
    /// By how much each step is longer than the one before.
    pub(super) growth_ns: u64,
    /// At least 1.
    pub(super) n_steps: u64,
    /// Steps that have their blocks: those that ended and the one under way.
    pub(super) n_started: u64,
    /// Steps whose tokens are out.
    pub(super) n_ended: u64,
    pub(super) works: Vec<Work>,
}

impl Flight {
    /// When the `step`-th step ends, counted from 1; 0 gives the departure.
    pub(super) fn end_ns(&self, step: u64) -> u64 {
        let n = u128::from(step);
        let growing = u128::from(self.growth_ns) * (n * n.saturating_sub(1) / 2);
        let end = u128::from(self.departed_ns) + n * u128::from(self.first_ns) + growing;
        u64::try_from(end).unwrap_or(u64::MAX)
    }

    pub(super) fn lands_ns(&self) -> u64 {
        self.end_ns(self.n_steps)
    }

    pub(super) fn step_ends_ns(&self) -> u64 {
        self.end_ns(self.n_started)
    }

    /// How many steps have ended by `now_ns`; never fewer than were known to have.
    pub(super) fn steps_ended_by(&self, now_ns: u64) -> u64 {
        let (mut ended, mut open) = (self.n_ended, self.n_steps + 1);
        while ended + 1 < open {
            let middle = ended + (open - ended) / 2;
            if self.end_ns(middle) <= now_ns {
                ended = middle;
            } else {
                open = middle;
            }
        }
        ended
    }

    /// Lets the flight land after the step under way.
    pub(super) fn cut(&mut self) {
        self.n_steps = self.n_started;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_steps_sum_up() {
        let flight = Flight {
            departed_ns: 100,
            first_ns: 10,
            growth_ns: 2,
            n_steps: 4,
            n_started: 1,
            n_ended: 0,
            works: Vec::new(),
        };
        let ends: Vec<u64> = (0..=4).map(|step| flight.end_ns(step)).collect();
        assert_eq!(ends, [100, 110, 122, 136, 152]);
        for (now, want) in [(0, 0), (109, 0), (110, 1), (135, 2), (136, 3), (10_000, 4)] {
            assert_eq!(flight.steps_ended_by(now), want, "at {now}");
        }
    }
}
