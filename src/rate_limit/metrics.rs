//! What the rate limit service counts: [`RateLimitMetrics`].
//!
//! Labels come from manifests: the listener's domain (`*` for a limit of all), the policy and its rule.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::limiter::{Hits, Limit, Standing, Verdict};

/// The families.
#[derive(Debug)]
pub struct RateLimitMetrics {
    hits: IntCounterVec,
    calls: IntCounterVec,
    /// Counters that are kept.
    pub(super) counters: IntGauge,
    uncounted: IntCounter,
    /// What has series.
    rules: Mutex<BTreeSet<[String; 3]>>,
}

const RULE: [&str; 3] = ["domain", "policy", "rule"];
const CALL: [&str; 4] = ["domain", "policy", "rule", "outcome"];
const OUTCOMES: [&str; 4] = ["within", "near", "over", "shadowed"];

impl RateLimitMetrics {
    /// Registers them; fails when they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let hits = Opts::new("epp_rate_limit_hits_total", "What was taken from budgets of rate limits.");
        let calls = "Descriptors that Envoy asked about or charged, by how the budget stood then: within, near (more \
                     than four fifths used), over, or shadowed, which is over without being refused.";
        let calls = Opts::new("epp_rate_limit_descriptors_total", calls);
        let metrics = Self {
            hits: IntCounterVec::new(hits, &RULE)?,
            calls: IntCounterVec::new(calls, &CALL)?,
            counters: IntGauge::new("epp_rate_limit_counters", "Budgets that something was taken from.")?,
            uncounted: IntCounter::new(
                "epp_rate_limit_uncounted_total",
                "Descriptors that passed uncounted, because there are too many budgets already.",
            )?,
            rules: Mutex::default(),
        };
        registry.register(Box::new(metrics.hits.clone()))?;
        registry.register(Box::new(metrics.calls.clone()))?;
        registry.register(Box::new(metrics.counters.clone()))?;
        registry.register(Box::new(metrics.uncounted.clone()))?;
        Ok(metrics)
    }

    /// Counts one descriptor.
    pub(super) fn count(&self, limit: &Limit, hits: Hits, verdict: &Verdict) {
        let rule = rule(limit);
        let [domain, policy, index] = rule.each_ref().map(String::as_str);
        let outcome = match verdict.standing {
            Standing::Within => OUTCOMES[0],
            Standing::Near => OUTCOMES[1],
            Standing::Over if limit.is_shadow => OUTCOMES[3],
            Standing::Over => OUTCOMES[2],
        };
        self.calls.with_label_values(&[domain, policy, index, outcome]).inc();
        if let Hits::Take(hits) = hits {
            self.hits.with_label_values(&[domain, policy, index]).inc_by(hits);
        }
        if !verdict.is_counted {
            self.uncounted.inc();
        }
    }

    /// Drops the series of limits that are gone, and shows those that there are.
    pub(super) fn keep_only(&self, limits: &[Limit]) {
        let now: BTreeSet<_> = limits.iter().map(rule).collect();
        let mut rules = self.rules.lock();
        for gone in rules.difference(&now) {
            let [domain, policy, index] = gone.each_ref().map(String::as_str);
            // An error means that there is none.
            let _ = self.hits.remove_label_values(&[domain, policy, index]);
            for outcome in OUTCOMES {
                let _ = self.calls.remove_label_values(&[domain, policy, index, outcome]);
            }
        }
        for [domain, policy, index] in now.iter().map(|rule| rule.each_ref().map(String::as_str)) {
            self.hits.with_label_values(&[domain, policy, index]);
        }
        *rules = now;
    }
}

fn rule(limit: &Limit) -> [String; 3] {
    let domain = limit.domain.clone().unwrap_or_else(|| "*".to_owned());
    [domain, limit.policy.clone(), limit.rule.to_string()]
}
