//! How the work of requests is split among servers: [`SplitMetrics`]. Has no series where no profile handler splits.

use epp_framework::scheduling::{Decision, Role};
use prometheus::{IntCounterVec, Registry};

use super::counters;

/// The families.
#[derive(Clone)]
pub(super) struct SplitMetrics {
    decisions: IntCounterVec,
    fallbacks: IntCounterVec,
}

impl SplitMetrics {
    /// Registers the families.
    pub(super) fn register(registry: &Registry) -> Self {
        Self {
            decisions: counters(
                registry,
                "epp_disagg_decisions_total",
                "Decisions of profile handlers that split requests, by who does a part of the work.",
                &["model_name", "decision_type"],
            ),
            fallbacks: counters(
                registry,
                "epp_disagg_fallbacks_total",
                "Decisions in which nobody was there for a part of the work that was to be done elsewhere.",
                &["model_name", "stage"],
            ),
        }
    }

    /// Counts a decision for `model`, which is one of a bounded number of names.
    pub(super) fn count(&self, model: &str, decision: &Decision) {
        self.decisions.with_label_values(&[model, kind(decision)]).inc();
        // A series that begins with its first event hides that event from `increase`.
        for role in Role::ALL {
            let missing = decision.unfilled.contains(&role);
            self.fallbacks.with_label_values(&[model, role.name()]).inc_by(u64::from(missing));
        }
    }
}

/// The decision in llm-d's words.
fn kind(decision: &Decision) -> &'static str {
    let has = |role| decision.companion(role).is_some();
    match (has(Role::Encode), has(Role::Prefill)) {
        (false, false) => "decode-only",
        (false, true) => "prefill-decode",
        (true, false) => "encode-decode",
        (true, true) => "encode-prefill-decode",
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::scheduling::Companion;
    use smallvec::{SmallVec, smallvec};

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn decisions_are_counted_by_who_takes_part_and_who_is_missing() {
        let metrics = Metrics::new();
        assert!(!metrics.render().contains("epp_disagg"), "no series where nothing is split");
        let (prefill, encode) = (Role::Prefill, Role::Encode);
        for (there, missing) in [
            (&[][..], &[][..]),
            (&[prefill], &[]),
            (&[encode], &[prefill]),
            (&[encode, prefill], &[]),
            (&[], &[prefill, encode]),
        ] {
            let companion = |&role: &Role| Companion { role, profile: 1, targets: smallvec![1] };
            let mut decision = Decision::of(0, smallvec![0]);
            decision.companions = there.iter().map(companion).collect();
            decision.unfilled = SmallVec::from_slice(missing);
            metrics.model("m", "t").count_split(&decision);
        }
        let page = metrics.render();
        for line in [
            r#"epp_disagg_decisions_total{decision_type="decode-only",model_name="m"} 2"#,
            r#"epp_disagg_decisions_total{decision_type="prefill-decode",model_name="m"} 1"#,
            r#"epp_disagg_decisions_total{decision_type="encode-decode",model_name="m"} 1"#,
            r#"epp_disagg_decisions_total{decision_type="encode-prefill-decode",model_name="m"} 1"#,
            r#"epp_disagg_fallbacks_total{model_name="m",stage="prefill"} 2"#,
            r#"epp_disagg_fallbacks_total{model_name="m",stage="encode"} 1"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
    }
}
