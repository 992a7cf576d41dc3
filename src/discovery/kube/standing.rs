//! How the followers stand: for the log, and as metrics. [`Standings`] is the table.

use std::sync::Arc;

use epp_framework::time::Timestamp;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry};

use crate::clock::Clock;

/// How a follower stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is nothing to follow.
    Idle,
    /// Its watch stands.
    Live,
    /// What it follows is not there, or may not be read.
    Off(Off),
    /// The API does not answer, or not as it should.
    Failing(String),
}

/// Why a kind is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Off {
    /// Whether it may not be read; else it is not there.
    pub(super) forbidden: bool,
    /// What the API says.
    pub(super) message: String,
}

/// The followers, and how they stand.
#[derive(Clone)]
pub(super) struct Standings {
    clock: Clock,
    table: Arc<Mutex<Table>>,
}

struct Table {
    followers: Vec<Entry>,
    /// Whether it was told which optional kinds are not followed.
    told: bool,
}

struct Entry {
    resource: String,
    /// Whether there is no pool without it.
    required: bool,
    standing: Option<Standing>,
    /// When its watch last stood; until then, when it began.
    last_live: Timestamp,
}

impl Standings {
    /// Makes the table of followers, given by what they follow and whether that is required; registers its metrics.
    pub(super) fn register(
        followers: Vec<(String, bool)>,
        clock: Clock,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let now = clock.now();
        let entry = |(resource, required)| Entry { resource, required, standing: None, last_live: now };
        let table = Table { followers: followers.into_iter().map(entry).collect(), told: false };
        let standings = Self { clock, table: Arc::new(Mutex::new(table)) };
        let gauges = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["resource"]);
        let up = gauges("epp_kube_watch_up", "Whether the watch of these objects stands: 1 or 0.")?;
        let age = gauges(
            "epp_kube_watch_age_seconds",
            "For how long nothing was heard of these objects; 0 while their watch stands.",
        )?;
        registry.register(Box::new(Ages { standings: standings.clone(), up, age }))?;
        Ok(standings)
    }

    /// Takes how the follower `at` stands now, and logs what is new about it.
    pub(super) fn set(&self, at: usize, standing: Standing) {
        let now = self.clock.now();
        let mut table = self.table.lock();
        let entry = &mut table.followers[at];
        let before = entry.standing.replace(standing);
        let age = now.since(entry.last_live);
        entry.log_change(before.as_ref(), age.as_secs_f64());
        if matches!(entry.standing, Some(Standing::Live | Standing::Idle)) || before == Some(Standing::Live) {
            entry.last_live = now;
        }
        table.tell_off();
    }

    /// Whether every follower was answered once, in whatever way.
    pub(super) fn heard_of_all(&self) -> bool {
        self.table.lock().followers.iter().all(|entry| entry.standing.is_some())
    }

    /// Logs how old the state of the pool is, if it is old.
    pub(super) fn tell_age(&self) {
        let now = self.clock.now();
        for entry in &self.table.lock().followers {
            if entry.required && matches!(entry.standing, Some(Standing::Off(_) | Standing::Failing(_))) {
                let (resource, age_s) = (&entry.resource, now.since(entry.last_live).as_secs_f64());
                tracing::warn!(
                    resource,
                    age_s,
                    "nothing is heard of the pool; what is known of it serves on"
                );
            }
        }
    }
}

impl Entry {
    fn log_change(&self, before: Option<&Standing>, age_s: f64) {
        let resource = &self.resource;
        match (self.standing.as_ref(), before) {
            (Some(Standing::Live), Some(Standing::Off(_))) if !self.required => {
                tracing::info!(resource, "optional objects are followed now");
            }
            (Some(Standing::Live), Some(Standing::Off(_) | Standing::Failing(_))) if self.required => {
                tracing::info!(resource, age_s, "the Kubernetes API answers again");
            }
            (Some(Standing::Failing(_)), Some(Standing::Failing(_)))
            | (Some(Standing::Off(_)), Some(Standing::Off(_))) => {}
            (Some(Standing::Failing(error)), _) if self.required => {
                tracing::warn!(resource, error, "the Kubernetes API fails; what is known serves on");
            }
            (Some(Standing::Failing(error)), _) => {
                tracing::debug!(resource, error, "optional objects cannot be followed now");
            }
            (Some(Standing::Off(off)), _) if self.required => {
                let error = &off.message;
                tracing::error!(resource, error, "what the pool is made of may not be read, or is not there");
            }
            (Some(Standing::Off(off)), Some(Standing::Live | Standing::Failing(_))) => {
                let error = &off.message;
                tracing::warn!(resource, error, "optional objects are not followed now");
            }
            _ => {}
        }
    }
}

impl Table {
    /// Once each optional kind was asked for: which are not followed, in one line.
    fn tell_off(&mut self) {
        let optional = || self.followers.iter().filter(|entry| !entry.required);
        if self.told || !optional().all(|entry| entry.standing.is_some()) {
            return;
        }
        let off = optional().filter_map(|entry| match &entry.standing {
            Some(Standing::Off(off)) => {
                let why = if off.forbidden { "forbidden" } else { "not installed" };
                Some(format!("{} ({why})", entry.resource))
            }
            _ => None,
        });
        let off: Vec<_> = off.collect();
        self.told = true;
        if !off.is_empty() {
            let resources = off.join(", ");
            tracing::warn!(resources, "optional objects are not followed: what they ask for is off");
        }
    }
}

struct Ages {
    standings: Standings,
    up: GaugeVec,
    age: GaugeVec,
}

impl Collector for Ages {
    fn desc(&self) -> Vec<&Desc> {
        [self.up.desc(), self.age.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = self.standings.clock.now();
        for entry in &self.standings.table.lock().followers {
            let live = entry.standing == Some(Standing::Live);
            let age = if live || entry.standing == Some(Standing::Idle) {
                0.0
            } else {
                now.since(entry.last_live).as_secs_f64()
            };
            self.up.with_label_values(&[&entry.resource]).set(f64::from(u8::from(live)));
            self.age.with_label_values(&[&entry.resource]).set(age);
        }
        [self.up.collect(), self.age.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whether it is up, and its age, of each follower.
    fn page(registry: &Registry) -> Vec<(f64, f64)> {
        let values = |name: &str| {
            let family = registry.gather().into_iter().find(|family| family.name() == name);
            let series = family.map(|family| family.get_metric().to_vec()).unwrap_or_default();
            series.iter().map(|one| one.get_gauge().get_value()).collect::<Vec<_>>()
        };
        values("epp_kube_watch_up").into_iter().zip(values("epp_kube_watch_age_seconds")).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_age_counts_from_when_a_watch_ended() {
        let registry = Registry::new();
        let followers = vec![("a".to_owned(), true), ("b".to_owned(), false)];
        let standings = Standings::register(followers, Clock::start(), &registry).unwrap();
        let failing = || Standing::Failing("x".into());
        let off = || Standing::Off(Off { forbidden: true, message: "x".into() });
        let step = Duration::from_secs(10);
        tokio::time::advance(step).await;
        assert_eq!(page(&registry), [(0.0, 10.0), (0.0, 10.0)], "never heard of");
        assert!(!standings.heard_of_all());
        standings.set(0, Standing::Live);
        standings.set(1, off());
        assert!(standings.heard_of_all());
        tokio::time::advance(step).await;
        assert_eq!(page(&registry), [(1.0, 0.0), (0.0, 20.0)]);
        for standing in [failing(), failing(), off(), failing()] {
            standings.set(0, standing);
            standings.tell_age();
        }
        tokio::time::advance(step).await;
        assert_eq!(page(&registry)[0], (0.0, 10.0), "from the first of them");
        standings.set(0, Standing::Live);
        standings.set(1, Standing::Live);
        assert_eq!(page(&registry), [(1.0, 0.0), (1.0, 0.0)]);
        standings.set(0, Standing::Idle);
        tokio::time::advance(step).await;
        assert_eq!(page(&registry)[0], (0.0, 0.0), "nothing to hear");
    }
}
