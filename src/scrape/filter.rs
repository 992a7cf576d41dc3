//! Which page of an endpoint to ask for: the whole one, or the one filtered by name, which costs the server a tenth.
//!
//! Entry point: [`FilterProbe`]. Servers heed the filter, ignore it, or answer it with an empty page, so it is used
//! only after a comparison with the whole page, and compared again now and then. Pure: pages are fetched elsewhere.

use std::time::Duration;

use epp_framework::time::Timestamp;

use super::fetch::Failure;
use super::mapping::FamilySet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// The next whole page begins a comparison.
    Unprobed,
    /// The whole page had these families: does the filtered one?
    Comparing(FamilySet),
    /// It does. Compare again from `until` on.
    Filtered { families: FamilySet, until: Timestamp },
    /// It does not. Compare again from `until` on, if ever.
    Whole { until: Option<Timestamp> },
}

/// What is known of one endpoint's filtered page.
#[derive(Debug)]
pub(super) struct FilterProbe {
    course: Course,
    recheck: Duration,
}

impl FilterProbe {
    /// Knows nothing; compares again every `recheck`.
    pub(super) fn new(recheck: Duration) -> Self {
        Self { course: Course::Unprobed, recheck }
    }

    /// Forgets everything: another server may be there now.
    pub(super) fn reset(&mut self) {
        self.course = Course::Unprobed;
    }

    /// Whether to ask for the filtered page first.
    pub(super) fn wants_filtered(&self, now: Timestamp) -> bool {
        match self.course {
            Course::Comparing(_) => true,
            Course::Filtered { until, .. } => now < until,
            Course::Unprobed | Course::Whole { .. } => false,
        }
    }

    /// Takes the filtered page's families; `false` asks for the whole page, whose outcome then counts instead.
    pub(super) fn accepts_filtered(&mut self, page: Result<FamilySet, Failure>, now: Timestamp) -> bool {
        let (known, comparing) = match self.course {
            Course::Comparing(known) => (known, true),
            Course::Filtered { families, .. } => (families, false),
            Course::Unprobed | Course::Whole { .. } => return false,
        };
        match page {
            Ok(families) if families.covers(known) => {
                let until = match self.course {
                    Course::Filtered { until, .. } => until,
                    _ => self.later(now),
                };
                self.course = Course::Filtered { families, until };
                true
            }
            Err(Failure::Refused) => true,
            // A server that is slow for once should not lose its filter for ever.
            Err(Failure::Timeout | Failure::Broken) if comparing => {
                self.course = Course::Whole { until: Some(self.later(now)) };
                false
            }
            _ if comparing => {
                self.course = Course::Whole { until: None };
                false
            }
            Err(Failure::Timeout) => true,
            Err(Failure::Status(_) | Failure::TooLarge | Failure::Untrusted | Failure::Broken) => {
                self.course = Course::Unprobed;
                true
            }
            // Partly or wholly empty: a filter that is no longer heeded looks like this, and so does a restart.
            Ok(_) | Err(Failure::NoFamily | Failure::NoPage(_)) => {
                self.course = Course::Unprobed;
                false
            }
        }
    }

    /// Takes the whole page's families.
    pub(super) fn on_whole(&mut self, families: FamilySet, now: Timestamp) {
        match self.course {
            Course::Whole { until } if until.is_none_or(|until| now < until) => {}
            _ => self.course = Course::Comparing(families),
        }
    }

    fn later(&self, now: Timestamp) -> Timestamp {
        Timestamp::after_origin(Duration::from_nanos(now.0).saturating_add(self.recheck))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::mapping::EngineMapping;

    const RECHECK: Duration = Duration::from_nanos(100);

    fn families(page: &str) -> FamilySet {
        EngineMapping::vllm().read(page.as_bytes()).families
    }

    fn few() -> FamilySet {
        families("vllm:num_requests_waiting 1\n")
    }

    fn many() -> FamilySet {
        families("vllm:num_requests_waiting 1\nvllm:num_requests_running 1\n")
    }

    /// A probe that uses the filtered page, as of time 0.
    fn filtered() -> FilterProbe {
        let mut probe = FilterProbe::new(RECHECK);
        probe.on_whole(many(), Timestamp(0));
        assert!(probe.accepts_filtered(Ok(many()), Timestamp(0)));
        probe
    }

    #[test]
    fn the_filter_is_used_after_one_comparison_and_compared_again() {
        let mut probe = FilterProbe::new(RECHECK);
        assert!(!probe.wants_filtered(Timestamp(0)), "the first page is the whole one");
        probe.on_whole(few(), Timestamp(0));
        assert!(probe.wants_filtered(Timestamp(1)));
        assert!(probe.accepts_filtered(Ok(many()), Timestamp(1)), "more families than before are welcome");
        assert!(probe.wants_filtered(Timestamp(100)));
        assert!(!probe.wants_filtered(Timestamp(101)), "time to compare");
        probe.on_whole(many(), Timestamp(101));
        assert!(probe.wants_filtered(Timestamp(102)));
        probe.reset();
        assert!(!probe.wants_filtered(Timestamp(103)));
    }

    #[test]
    fn accepted_pages_do_not_put_off_the_next_comparison() {
        let mut probe = filtered();
        for now in 1..100 {
            assert!(probe.accepts_filtered(Ok(many()), Timestamp(now)));
        }
        assert!(!probe.wants_filtered(Timestamp(100)));
    }

    #[test]
    fn a_comparison_decides_for_good_for_later_or_not_at_all() {
        // Outcome of the comparison; whether it counts as it is; whether the filter is tried again soon, and later.
        let cases = [
            ("covers", Ok(many()), true, true, false),
            ("partial", Ok(few()), false, false, false),
            ("empty", Err(Failure::NoFamily), false, false, false),
            ("404", Err(Failure::NoPage(404)), false, false, false),
            ("500", Err(Failure::Status(500)), false, false, false),
            ("too large", Err(Failure::TooLarge), false, false, false),
            ("timeout", Err(Failure::Timeout), false, false, true),
            ("broken", Err(Failure::Broken), false, false, true),
            ("refused", Err(Failure::Refused), true, true, true),
        ];
        for (name, page, accepted, soon, later) in cases {
            let mut probe = FilterProbe::new(RECHECK);
            probe.on_whole(many(), Timestamp(0));
            assert_eq!(probe.accepts_filtered(page, Timestamp(0)), accepted, "{name}");
            assert_eq!(probe.wants_filtered(Timestamp(1)), soon, "{name}");
            if !accepted {
                probe.on_whole(many(), Timestamp(1));
                assert!(!probe.wants_filtered(Timestamp(2)), "{name}");
                probe.on_whole(many(), Timestamp(100));
            }
            assert_eq!(probe.wants_filtered(Timestamp(100)), later, "{name}");
        }
    }

    #[test]
    fn an_established_filter_that_falls_silent_is_judged_by_the_whole_page() {
        // Outcome; whether it counts as it is; whether the filter is used next.
        let cases = [
            ("partial", Ok(few()), false, false),
            ("empty", Err(Failure::NoFamily), false, false),
            ("404", Err(Failure::NoPage(404)), false, false),
            ("500", Err(Failure::Status(500)), true, false),
            ("too large", Err(Failure::TooLarge), true, false),
            ("broken", Err(Failure::Broken), true, false),
            ("timeout", Err(Failure::Timeout), true, true),
            ("refused", Err(Failure::Refused), true, true),
        ];
        for (name, page, accepted, next) in cases {
            let mut probe = filtered();
            assert_eq!(probe.accepts_filtered(page, Timestamp(1)), accepted, "{name}");
            assert_eq!(probe.wants_filtered(Timestamp(2)), next, "{name}");
            probe.on_whole(few(), Timestamp(2));
            assert!(probe.wants_filtered(Timestamp(3)), "{name}: the whole page begins a new comparison");
        }
    }
}
