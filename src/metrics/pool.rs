//! Gauges of one pool: [`PoolCollector`] reads them from the snapshot when the page is asked for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use epp_framework::endpoint::{FixedMeta, Freshness};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, IntGaugeVec, Opts, Registry};

use crate::clock::Clock;
use crate::datastore::Store;

/// Gauges of one pool, read from its snapshot when they are asked for, so that they cannot drift.
pub struct PoolCollector {
    name: String,
    store: Arc<Store>,
    clock: Clock,
    staleness: Duration,
    /// Two pages at once would see each other's half-filled gauges.
    collecting: parking_lot::Mutex<()>,
    ready: IntGaugeVec,
    queue: GaugeVec,
    kv: GaugeVec,
    per_pod_queue: IntGaugeVec,
}

impl PoolCollector {
    /// Registers the gauges of the pool `name`.
    pub fn register(registry: &Registry, name: &str, store: Arc<Store>, clock: Clock, staleness: Duration) {
        let gauges = |name: &str, help: &str| {
            GaugeVec::new(Opts::new(name, help), &["name"]).expect("names and labels are constants")
        };
        let int_gauges = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels).expect("names and labels are constants")
        };
        let collector = Self {
            name: name.to_owned(),
            store,
            clock,
            staleness,
            collecting: parking_lot::Mutex::default(),
            ready: int_gauges("inference_pool_ready_pods", "Endpoints with a fresh scrape.", &["name"]),
            queue: gauges("inference_pool_average_queue_size", "Mean waiting requests over fresh endpoints."),
            kv: gauges(
                "inference_pool_average_kv_cache_utilization",
                "Mean KV use over fresh endpoints, 0-1.",
            ),
            per_pod_queue: int_gauges(
                "inference_pool_per_pod_queue_size",
                "Waiting requests, by endpoint.",
                &["name", "model_server_pod"],
            ),
        };
        registry.register(Box::new(collector)).expect("one collector per pool");
    }
}

impl Collector for PoolCollector {
    fn desc(&self) -> Vec<&Desc> {
        [self.ready.desc(), self.queue.desc(), self.kv.desc(), self.per_pod_queue.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _collecting = self.collecting.lock();
        let now = self.clock.now();
        let name = self.name.as_str();
        self.per_pod_queue.reset();
        let (mut fresh, mut queue, mut kv) = (0i64, 0u64, 0.0);
        let pool = self.store.snapshot();
        let mut names: HashMap<&str, u32> = HashMap::new();
        for endpoint in &pool.endpoints {
            *names.entry(endpoint.meta.name.as_str()).or_default() += 1;
        }
        for endpoint in &pool.endpoints {
            let load = endpoint.sample(now, self.staleness);
            if load.freshness == Freshness::Fresh {
                fresh += 1;
                queue += u64::from(load.waiting);
                kv += load.kv_used;
            }
            // A name that two namespaces share is told apart; the other names stay as v1.0.1 has them.
            let FixedMeta { name: pod, namespace, .. } = &endpoint.meta;
            let shared = names.get(pod.as_str()).is_some_and(|&n| n > 1);
            let pod =
                if shared { Cow::Owned(format!("{namespace}/{pod}")) } else { Cow::Borrowed(pod.as_str()) };
            self.per_pod_queue.with_label_values(&[name, &*pod]).set(load.waiting.into());
        }
        let mean = |sum: f64| if fresh == 0 { 0.0 } else { sum / fresh as f64 };
        let set = |gauges: &GaugeVec, value: f64| {
            let gauge: Gauge = gauges.with_label_values(&[name]);
            gauge.set(value);
        };
        self.ready.with_label_values(&[name]).set(fresh);
        set(&self.queue, mean(queue as f64));
        set(&self.kv, mean(kv));
        [self.ready.collect(), self.queue.collect(), self.kv.collect(), self.per_pod_queue.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn names_that_two_namespaces_share_are_told_apart() {
        let (store, mut writer) = crate::datastore::store();
        let upsert = |namespace: &str, name: &str| {
            crate::discovery::Change::Upsert(epp_framework::endpoint::EndpointMeta {
                name: name.into(),
                namespace: namespace.into(),
                address: "10.0.0.1".parse().unwrap(),
                port: 1,
                labels: std::collections::BTreeMap::new(),
            })
        };
        writer.apply(vec![upsert("x", "a"), upsert("y", "a"), upsert("y", "b")], |_| {});
        let metrics = Metrics::new();
        PoolCollector::register(metrics.registry(), "p", store, Clock::start(), Duration::from_secs(1));
        for pod in ["x/a", "y/a", "b"] {
            let line =
                format!("inference_pool_per_pod_queue_size{{model_server_pod=\"{pod}\",name=\"p\"}} 0\n");
            assert!(metrics.render().contains(&line), "{pod}");
        }
    }
}
