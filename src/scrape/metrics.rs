//! The scraper's own metrics.
//!
//! Entry point: [`ScrapeMetrics::register`]. Counters carry no endpoint label: pods come and go.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::fetch::Failure;

/// Counters of the scraper; clones count together.
#[derive(Clone, Debug)]
pub struct ScrapeMetrics {
    results: Outcomes,
    polls: IntCounterVec,
    pub(super) skipped_lines: IntCounter,
    pub(super) task_restarts: IntCounter,
}

/// A counter for each way in which a poll may end.
#[derive(Clone, Debug)]
pub(super) struct Outcomes {
    ok: IntCounter,
    no_metrics: IntCounter,
    timeout: IntCounter,
    refused: IntCounter,
    too_large: IntCounter,
    status: IntCounter,
    untrusted: IntCounter,
    broken: IntCounter,
}

impl ScrapeMetrics {
    /// Registers `epp_scrape_total{result}`, `epp_data_source_polls_total{source,result}`,
    /// `epp_scrape_skipped_lines_total` and `epp_scrape_task_restarts_total`.
    ///
    /// Fails when one of them is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let results = Opts::new("epp_scrape_total", "Scrapes of model servers, by result.");
        let results = IntCounterVec::new(results, &["result"])?;
        let polls = Opts::new(
            "epp_data_source_polls_total",
            "Polls of sources of data beside the servers' load, by type of the source and result.",
        );
        let polls = IntCounterVec::new(polls, &["source", "result"])?;
        let skipped_lines = IntCounter::new(
            "epp_scrape_skipped_lines_total",
            "Broken lines of wanted families that were skipped on metrics pages.",
        )?;
        let task_restarts = IntCounter::new(
            "epp_scrape_task_restarts_total",
            "Scrape tasks that panicked and were started anew.",
        )?;
        registry.register(Box::new(results.clone()))?;
        registry.register(Box::new(polls.clone()))?;
        registry.register(Box::new(skipped_lines.clone()))?;
        registry.register(Box::new(task_restarts.clone()))?;
        let results = Outcomes::of_each(|result| results.with_label_values(&[result]));
        Ok(Self { results, polls, skipped_lines, task_restarts })
    }

    /// The counter of scrapes that ended like `outcome`.
    pub(super) fn of(&self, outcome: Result<(), Failure>) -> &IntCounter {
        self.results.of(outcome)
    }

    /// The counters of another source, by its type.
    pub(super) fn polls(&self, source: &str) -> Outcomes {
        Outcomes::of_each(|result| self.polls.with_label_values(&[source, result]))
    }
}

impl Outcomes {
    fn of_each(counter: impl Fn(&str) -> IntCounter) -> Self {
        Self {
            ok: counter("ok"),
            no_metrics: counter("no_metrics"),
            timeout: counter("timeout"),
            refused: counter("refused"),
            too_large: counter("too_large"),
            status: counter("status"),
            untrusted: counter("untrusted"),
            broken: counter("broken"),
        }
    }

    /// The counter of polls that ended like `outcome`.
    pub(super) fn of(&self, outcome: Result<(), Failure>) -> &IntCounter {
        match outcome {
            Ok(()) => &self.ok,
            Err(Failure::NoFamily | Failure::NoPage(_)) => &self.no_metrics,
            Err(Failure::Timeout) => &self.timeout,
            Err(Failure::Refused) => &self.refused,
            Err(Failure::TooLarge) => &self.too_large,
            Err(Failure::Status(_)) => &self.status,
            Err(Failure::Untrusted) => &self.untrusted,
            Err(Failure::Broken) => &self.broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_is_exposed_from_the_start() {
        let registry = Registry::new();
        let metrics = ScrapeMetrics::register(&registry).unwrap();
        metrics.of(Err(Failure::Refused)).inc();
        let mut found = Vec::new();
        for family in registry.gather() {
            for metric in family.get_metric() {
                let result = metric.get_label().first().map_or("", |label| label.value());
                found.push(format!("{} {result} {}", family.name(), metric.get_counter().get_value()));
            }
        }
        let want = [
            "epp_scrape_skipped_lines_total  0",
            "epp_scrape_task_restarts_total  0",
            "epp_scrape_total broken 0",
            "epp_scrape_total no_metrics 0",
            "epp_scrape_total ok 0",
            "epp_scrape_total refused 1",
            "epp_scrape_total status 0",
            "epp_scrape_total timeout 0",
            "epp_scrape_total too_large 0",
            "epp_scrape_total untrusted 0",
        ];
        assert_eq!(found, want);
        assert!(ScrapeMetrics::register(&registry).is_err());
    }
}
