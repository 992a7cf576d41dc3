//! When a program that died is started again, and when not any more: [`Restarts`]. Pure: the time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use epp_framework::time::Timestamp;

/// How a program is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// The wait after the first death; it doubles with each one after that.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// So many deaths `within` that time are the last ones.
    pub deaths: usize,
    /// The time in which deaths count. Whoever lived longer than that has the first wait before it again.
    pub within: Duration,
}

impl Default for RestartPolicy {
    /// 1 s, 2 s, 4 s … 30 s; five deaths within a minute are the last ones.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(30),
            deaths: 5,
            within: Duration::from_secs(60),
        }
    }
}

/// The deaths of one program.
#[derive(Clone, Debug)]
pub struct Restarts {
    policy: RestartPolicy,
    /// Those that count, oldest first; fewer than `policy.deaths`.
    deaths: VecDeque<Timestamp>,
    /// The wait before the next start.
    wait: Duration,
}

impl Restarts {
    /// Nobody has died yet.
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, deaths: VecDeque::new(), wait: policy.first }
    }

    /// It has died, `lived` after it was started: how long to wait before the next start, `None` for ever.
    pub fn died(&mut self, now: Timestamp, lived: Duration) -> Option<Duration> {
        let Self { policy, deaths, wait } = self;
        deaths.retain(|death| now.since(*death) < policy.within);
        deaths.push_back(now);
        if deaths.len() >= policy.deaths {
            return None;
        }
        if lived >= policy.within {
            *wait = policy.first;
        }
        let chosen = (*wait).min(policy.longest);
        *wait = chosen * 2;
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What follows each life of these lengths, in seconds; starts wait as they are told.
    fn waits(lives: &[u64]) -> Vec<Option<u64>> {
        let mut restarts = Restarts::new(RestartPolicy::default());
        let mut now = Timestamp::default();
        let mut died = |lived| {
            now = now.after(s(lived));
            let wait = restarts.died(now, s(lived));
            now = now.after(wait.unwrap_or_default());
            wait.map(|wait| wait.as_secs())
        };
        lives.iter().map(|lived| died(*lived)).collect()
    }

    #[test]
    fn waits_double_up_to_a_bound_and_begin_anew_after_a_long_life() {
        for (lives, want) in [
            (&[0, 0, 0, 0, 0][..], &[Some(1), Some(2), Some(4), Some(8), None][..]),
            // Fourteen seconds of life each: the fifth death is a minute and more after the first.
            (
                &[14, 14, 14, 14, 14, 14, 14, 14],
                &[Some(1), Some(2), Some(4), Some(8), Some(16), Some(30), Some(30), Some(30)],
            ),
            (&[0, 0, 60, 0], &[Some(1), Some(2), Some(1), Some(2)]),
            (&[0, 59, 0, 0, 0, 0], &[Some(1), Some(2), Some(4), Some(8), Some(16), None]),
            (&[1000, 2000, 61], &[Some(1), Some(1), Some(1)]),
        ] {
            assert_eq!(waits(lives), want, "{lives:?}");
        }
    }
}
