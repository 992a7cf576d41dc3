//! What a run of scrape outcomes makes of an endpoint, and how soon to ask again.
//!
//! Entry point: [`Standing::on`]. Pure: told outcomes, it tells changes and delays; storing and logging are done
//! elsewhere.

use std::time::Duration;

use super::fetch::Failure;

/// Longest wait while the server offers no metrics.
const NO_METRICS_DELAY: Duration = Duration::from_secs(5);
/// Longest wait while scrapes fail: a server that came back is seen within about this long.
const FAILING_DELAY: Duration = Duration::from_secs(1);

/// How an endpoint stands with its scraper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not decided yet.
    New,
    /// The last scrapes worked, but for fewer than the failures that count.
    Ok,
    /// The server answers without metrics.
    NoMetrics,
    /// Scrapes fail.
    Failing,
}

/// The state of one endpoint, and the run of like outcomes that led there.
#[derive(Debug)]
pub(super) struct Standing {
    state: State,
    /// State that the last outcome speaks for, and how many in a row did.
    run_of: State,
    run: u32,
    failures_until_stale: u32,
}

impl Standing {
    pub(super) fn new(failures_until_stale: u32) -> Self {
        Self { state: State::New, run_of: State::New, run: 0, failures_until_stale }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Takes the outcome of a scrape; tells whether the state changed.
    pub(super) fn on(&mut self, outcome: Result<(), Failure>) -> bool {
        let speaks_for = match outcome {
            Ok(()) => State::Ok,
            Err(Failure::NoFamily | Failure::NoPage(_)) => State::NoMetrics,
            Err(_) => State::Failing,
        };
        self.run = if speaks_for == self.run_of { self.run.saturating_add(1) } else { 1 };
        self.run_of = speaks_for;
        // One odd answer of a server that has metrics is an accident; a server without them has no accident.
        let at_once = match speaks_for {
            State::NoMetrics => self.state != State::Ok,
            State::Failing => outcome == Err(Failure::Refused),
            State::New | State::Ok => true,
        };
        let enough = at_once || self.run >= self.failures_until_stale;
        let before = self.state;
        if enough {
            self.state = speaks_for;
        }
        self.state != before
    }

    /// From the beginning of the last scrape to the next: the interval, doubled with each fruitless one.
    pub(super) fn delay(&self, interval: Duration) -> Duration {
        let longest = match self.run_of {
            State::New | State::Ok => interval,
            State::NoMetrics => NO_METRICS_DELAY,
            State::Failing => FAILING_DELAY,
        };
        let doublings = self.run.saturating_sub(1).min(16);
        interval.saturating_mul(1 << doublings).min(longest.max(interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(50);

    #[test]
    fn states_follow_outcomes() {
        let (ok, timeout, refused) = (Ok(()), Err(Failure::Timeout), Err(Failure::Refused));
        let (html, gone) = (Err(Failure::NoFamily), Err(Failure::NoPage(404)));
        let cases = [
            ("first page", vec![ok], State::Ok),
            ("one timeout of a busy server", vec![ok, timeout], State::Ok),
            ("two", vec![ok, timeout, Err(Failure::Broken)], State::Ok),
            (
                "three of any kind",
                vec![ok, timeout, Err(Failure::Status(500)), Err(Failure::TooLarge)],
                State::Failing,
            ),
            ("not in a row", vec![ok, timeout, timeout, ok, timeout, timeout], State::Ok),
            ("refused counts at once", vec![ok, refused], State::Failing),
            ("new and refused", vec![refused], State::Failing),
            ("new and slow", vec![timeout, timeout], State::New),
            ("back after failures", vec![ok, refused, refused, ok], State::Ok),
            ("no metrics at once", vec![html], State::NoMetrics),
            ("one odd page", vec![ok, html, gone], State::Ok),
            ("metrics gone", vec![ok, html, gone, html], State::NoMetrics),
            ("no metrics, then slow", vec![gone, timeout, timeout], State::NoMetrics),
            ("no metrics, then gone", vec![gone, refused], State::Failing),
            ("metrics appear", vec![gone, html, ok], State::Ok),
        ];
        for (name, outcomes, want) in cases {
            let mut standing = Standing::new(3);
            for outcome in outcomes {
                let before = standing.state();
                assert_eq!(standing.on(outcome), standing.state() != before, "{name}");
            }
            assert_eq!(standing.state(), want, "{name}");
        }
    }

    #[test]
    fn delays_double_up_to_their_limit() {
        let delays = |outcome| {
            let mut standing = Standing::new(3);
            let delay = |_| {
                standing.on(outcome);
                u64::try_from(standing.delay(INTERVAL).as_millis()).unwrap()
            };
            (0..9).map(delay).collect::<Vec<_>>()
        };
        assert_eq!(delays(Ok(())), [50; 9]);
        assert_eq!(delays(Err(Failure::NoFamily)), [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(delays(Err(Failure::Refused)), [50, 100, 200, 400, 800, 1000, 1000, 1000, 1000]);
    }

    #[test]
    fn an_interval_beyond_the_limits_stays() {
        let mut standing = Standing::new(3);
        let hour = Duration::from_secs(3600);
        for _ in 0..100 {
            standing.on(Err(Failure::Refused));
            assert_eq!(standing.delay(hour), hour);
        }
    }
}
