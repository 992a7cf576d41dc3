//! Who is let in when the pool is saturated: requests that may be shed wait for better times elsewhere.
//!
//! The rule of v1.0.1, pure: one endpoint with room means that the pool is not saturated. Loads are those of the last
//! scrape; what the gateway's subset hint allows plays no part.

use std::time::Duration;

use epp_framework::endpoint::{Freshness, Load};

use crate::args::duration;
use crate::compat::Compat;

/// When an endpoint has room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Most waiting requests (`SD_QUEUE_DEPTH_THRESHOLD`).
    pub waiting: u32,
    /// Most of the KV cache in use, as a fraction in (0, 1) (`SD_KV_CACHE_UTIL_THRESHOLD`).
    pub kv_used: f64,
    /// Age up to which a scrape counts (`SD_METRICS_STALENESS_THRESHOLD`).
    pub age: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { waiting: 5, kv_used: 0.8, age: Duration::from_millis(200) }
    }
}

impl Thresholds {
    /// Reads the variables through `lookup`. One that is out of range, or is no value, leaves the default; each is
    /// told in a line.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> (Self, Vec<String>) {
        let mut read = Self::default();
        let mut lines = Vec::new();
        let mut variable = |name: &str, expected: &str, set: &mut dyn FnMut(&str) -> bool| {
            if let Some(text) = lookup(name).filter(|text| !text.is_empty())
                && !set(text.trim())
            {
                lines.push(format!("{name}: expected {expected}, found {text:?}; the default stands"));
            }
        };
        variable("SD_QUEUE_DEPTH_THRESHOLD", "a whole number above 0", &mut |text| {
            let waiting = text.parse().ok().filter(|&waiting| waiting > 0);
            waiting.map(|waiting| read.waiting = waiting).is_some()
        });
        variable("SD_KV_CACHE_UTIL_THRESHOLD", "a fraction between 0 and 1, both excluded", &mut |text| {
            let kv_used = text.parse().ok().filter(|&kv_used| kv_used > 0.0 && kv_used < 1.0);
            kv_used.map(|kv_used| read.kv_used = kv_used).is_some()
        });
        variable("SD_METRICS_STALENESS_THRESHOLD", "a duration above 0 such as 200ms", &mut |text| {
            duration::parse_positive(text).map(|age| read.age = age).is_ok()
        });
        (read, lines)
    }

    /// Whether no endpoint has room. `loads` were sampled with [`Thresholds::age`] as staleness. No endpoints at all
    /// are saturated; one whose server offers no metrics never is.
    pub fn saturated(&self, mut loads: impl Iterator<Item = Load>) -> bool {
        !loads.any(|load| match load.freshness {
            Freshness::NoMetrics => true,
            Freshness::Fresh => load.waiting <= self.waiting && load.kv_used <= self.kv_used,
            Freshness::Stale | Freshness::NeverScraped => false,
        })
    }
}

/// Whether a request of this priority may be shed: below 0, or for v0.5.1 everything that is not critical.
pub fn may_be_shed(priority: i32, compat: Compat) -> bool {
    if compat == Compat::V0_5_1 { priority <= 0 } else { priority < 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Freshness = Freshness::Fresh;
    const OLD: Freshness = Freshness::Stale;

    /// Row, endpoints, whether they are saturated.
    type Case<'a> = (&'a str, &'a [(u32, f64, Freshness)], bool);

    /// Rows 104 to 114 of the functional specification (v1.0.1), and row 40 of that of v0.5.1.
    #[test]
    fn rows_104_to_114_one_endpoint_with_room_is_enough() {
        let thresholds = Thresholds { waiting: 5, kv_used: 0.9, age: Duration::from_millis(100) };
        let cases: &[Case<'_>] = &[
            ("104", &[], true),
            ("105", &[(2, 0.5, FRESH)], false),
            ("106", &[(2, 0.5, OLD)], true),
            ("107", &[(10, 0.1, FRESH)], true),
            ("108", &[(1, 0.95, FRESH)], true),
            ("109", &[(0, 0.0, Freshness::NeverScraped)], true),
            ("110", &[(1, 0.1, FRESH), (1, 0.1, OLD)], false),
            ("111", &[(1, 0.1, FRESH), (15, 0.2, FRESH)], false),
            ("112", &[(1, 0.1, OLD), (20, 0.1, FRESH), (1, 0.99, FRESH)], true),
            ("113 queue", &[(5, 0.1, FRESH)], false),
            ("113 kv", &[(1, 0.9, FRESH)], false),
            ("a server without metrics", &[(0, 0.0, Freshness::NoMetrics)], false),
        ];
        for &(row, endpoints, want) in cases {
            let loads = endpoints.iter().map(|&(waiting, kv_used, freshness)| Load {
                waiting,
                kv_used,
                freshness,
                ..Load::default()
            });
            assert_eq!(thresholds.saturated(loads), want, "row {row}");
        }
    }

    /// Row U12 of the plugin specification: at the default thresholds, both included.
    #[test]
    fn u12_an_endpoint_at_both_thresholds_has_room() {
        let at = |waiting, kv_used| Load { waiting, kv_used, freshness: FRESH, ..Load::default() };
        let saturated = |load| Thresholds::default().saturated([load].into_iter());
        assert!(!saturated(at(5, 0.8)), "U12");
        assert!(saturated(at(6, 0.8)) && saturated(at(5, 0.81)), "above either");
    }

    /// Row 41 of the specification of v0.5.1.
    #[test]
    fn row_41_values_out_of_range_leave_the_default() {
        let default = Thresholds::default();
        let read = |waiting: &'static str, kv: &'static str, age: &'static str| {
            Thresholds::from_env(move |name| {
                let value = match name {
                    "SD_QUEUE_DEPTH_THRESHOLD" => waiting,
                    "SD_KV_CACHE_UTIL_THRESHOLD" => kv,
                    "SD_METRICS_STALENESS_THRESHOLD" => age,
                    other => panic!("{other} is not ours"),
                };
                Some(value.to_owned())
            })
        };
        let (thresholds, lines) = read("10", "0.5", "1m");
        let want = Thresholds { waiting: 10, kv_used: 0.5, age: Duration::from_secs(60) };
        assert_eq!((thresholds, lines.len()), (want, 0));
        for (waiting, kv, age, n_lines) in [
            ("-1", "-5", "0", 3),
            ("0", "1.5", "-1s", 3),
            ("many", "NaN", "soon", 3),
            ("5", "1", "200ms", 1),
            ("", "", "", 0),
        ] {
            let (thresholds, lines) = read(waiting, kv, age);
            assert_eq!((thresholds, lines.len()), (default, n_lines), "{lines:?}");
        }
    }

    #[test]
    fn priorities_are_shed_by_the_rule_of_their_generation() {
        for (priority, now, legacy) in [(-1, true, true), (0, false, true), (1, false, false)] {
            assert_eq!(may_be_shed(priority, Compat::V1_0_1), now);
            assert_eq!(may_be_shed(priority, Compat::V0_5_1), legacy);
        }
    }
}
