//! Which configuration runs, since when, and why the last one was refused: [`ConfigStanding`]; as metrics, too.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{Gauge, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use ring::digest::{SHA256, digest};

/// Most problems of a refused configuration that are kept.
const MAX_PROBLEMS: usize = 100;

/// How the configuration of a process stands.
pub struct ConfigStanding {
    standing: Mutex<Standing>,
    metrics: ReloadMetrics,
}

/// How the configuration stands at one moment.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Standing {
    /// The file, or what stands in its place.
    pub source: String,
    /// SHA-256 of the text that runs, in hexadecimal, as `sha256sum` prints it.
    pub hash: String,
    /// 1 for the text that the process began with, one more with each that took over.
    pub generation: u64,
    /// When it took over, in milliseconds since 1970.
    pub loaded_at_unix_ms: u64,
    /// What it comes to, as `epp config show` prints it.
    pub effective: String,
    /// The last text, if it was refused.
    pub refused: Option<Refused>,
}

/// A text that was refused.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Refused {
    /// Its SHA-256; `None` if it could not be read.
    pub hash: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// What is wrong with it, one line each.
    pub problems: Vec<String>,
}

impl ConfigStanding {
    /// The standing of a process that begins with `text` out of `source`.
    pub fn new(registry: &Registry, source: &str, text: &str, effective: String) -> anyhow::Result<Self> {
        let standing = Standing {
            source: source.to_owned(),
            hash: sha256(text),
            generation: 1,
            loaded_at_unix_ms: unix_ms(),
            effective,
            refused: None,
        };
        let metrics = ReloadMetrics::register(registry)?;
        metrics.show(&standing);
        Ok(Self { standing: Mutex::new(standing), metrics })
    }

    /// Whether `text` is what runs, which is a reload that changes nothing; what was refused is forgotten then.
    pub fn unchanged(&self, text: &str) -> bool {
        let mut standing = self.standing.lock();
        if standing.hash != sha256(text) {
            return false;
        }
        standing.refused = None;
        self.metrics.total.with_label_values(&["ok"]).inc();
        self.metrics.show(&standing);
        true
    }

    /// `text` has taken over, and comes to `effective`. Returns its generation.
    pub fn accepted(&self, text: &str, effective: String) -> u64 {
        let mut standing = self.standing.lock();
        let before = std::mem::replace(&mut standing.hash, sha256(text));
        standing.generation += 1;
        standing.effective = effective;
        standing.loaded_at_unix_ms = unix_ms();
        standing.refused = None;
        self.metrics.total.with_label_values(&["ok"]).inc();
        if before != standing.hash {
            // Fails if it is not there, which is as good.
            let _ = self.metrics.hash.remove_label_values(&[&before]);
        }
        self.metrics.show(&standing);
        standing.generation
    }

    /// What was there to be read was refused; `text` is it, if it could be read.
    pub fn refused(&self, text: Option<&str>, problems: impl IntoIterator<Item = String>) {
        let mut standing = self.standing.lock();
        let problems = problems.into_iter().take(MAX_PROBLEMS).collect();
        standing.refused = Some(Refused { hash: text.map(sha256), at_unix_ms: unix_ms(), problems });
        self.metrics.total.with_label_values(&["refused"]).inc();
        self.metrics.show(&standing);
    }

    /// How it stands now.
    pub fn now(&self) -> Standing {
        self.standing.lock().clone()
    }
}

struct ReloadMetrics {
    total: IntCounterVec,
    generation: IntGauge,
    hash: IntGaugeVec,
    last_success: Gauge,
    last_error: Gauge,
    refused: IntGauge,
}

impl ReloadMetrics {
    fn register(registry: &Registry) -> anyhow::Result<Self> {
        let total = Opts::new("epp_config_reload_total", "Reloads of the configuration.");
        let hash = Opts::new("epp_config_reload_hash", "1, with the SHA-256 of the configuration that runs.");
        let gauge = |name: &str, help: &str| register(registry, Gauge::new(name, help)?);
        let integer = |name: &str, help: &str| register(registry, IntGauge::new(name, help)?);
        let metrics = Self {
            total: register(registry, IntCounterVec::new(total, &["result"])?)?,
            generation: integer(
                "epp_config_reload_generation",
                "Configurations that have run, with the one that runs now.",
            )?,
            hash: register(registry, IntGaugeVec::new(hash, &["hash"])?)?,
            last_success: gauge(
                "epp_config_reload_last_success_timestamp_seconds",
                "When the configuration that runs took over.",
            )?,
            last_error: gauge(
                "epp_config_reload_last_error_timestamp_seconds",
                "When a configuration was last refused; 0 if none was.",
            )?,
            refused: integer(
                "epp_config_reload_refused",
                "1 if the last configuration was refused and the one before goes on, else 0.",
            )?,
        };
        // A series that begins with its first event hides that event from `increase`.
        for result in ["ok", "refused"] {
            metrics.total.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    fn show(&self, standing: &Standing) {
        let seconds = |unix_ms: u64| unix_ms as f64 / 1000.0;
        self.generation.set(i64::try_from(standing.generation).unwrap_or(i64::MAX));
        self.hash.with_label_values(&[&standing.hash]).set(1);
        self.last_success.set(seconds(standing.loaded_at_unix_ms));
        if let Some(refused) = &standing.refused {
            self.last_error.set(seconds(refused.at_unix_ms));
        }
        self.refused.set(i64::from(standing.refused.is_some()));
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> anyhow::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn sha256(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in digest(&SHA256, text.as_bytes()).as_ref() {
        // Writing into a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn metrics_say_what_runs_and_what_was_refused() {
        let registry = Registry::new();
        let standing = ConfigStanding::new(&registry, "a.yaml", "a", "A".to_owned()).unwrap();
        let has = |series: &str| {
            let page = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
            page.lines().any(|line| line == series)
        };
        // What `printf a | sha256sum` prints.
        let a = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        let hash = |hash: &str| format!("epp_config_reload_hash{{hash=\"{hash}\"}} 1");
        assert!(has(&hash(a)) && has("epp_config_reload_generation 1"));
        assert!(has("epp_config_reload_last_error_timestamp_seconds 0"));
        standing.refused(Some("b"), ["a.yaml:1:1: error: odd".to_owned()]);
        assert!(has("epp_config_reload_refused 1") && has(&hash(a)));
        let refused = standing.now().refused.unwrap();
        assert_eq!(refused.problems, ["a.yaml:1:1: error: odd"]);
        assert!(!has("epp_config_reload_last_error_timestamp_seconds 0"));
        assert!(!standing.unchanged("c"));
        assert_eq!(standing.accepted("c", "C".to_owned()), 2);
        let now = standing.now();
        assert!(now.refused.is_none() && has("epp_config_reload_refused 0"));
        assert!(has(&hash(&now.hash)) && !has(&hash(a)), "one hash runs");
        assert!(has("epp_config_reload_total{result=\"ok\"} 1"));
        standing.refused(None, ["a.yaml: gone".to_owned()]);
        assert!(standing.unchanged("c"), "it is there again");
        let again = standing.now();
        assert_eq!((again.refused.is_none(), again.generation, again.effective.as_str()), (true, 2, "C"));
        assert_eq!(again.loaded_at_unix_ms, now.loaded_at_unix_ms);
        assert!(has("epp_config_reload_total{result=\"ok\"} 2") && has("epp_config_reload_refused 0"));
        standing.accepted("d", "D".to_owned());
        assert!(!has(&hash(&now.hash)) && has("epp_config_reload_generation 3"));
    }
}
