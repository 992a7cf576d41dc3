//! The simulated model servers of `--simulate`: as many as the workloads of the manifests have replicas.

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::sim::server::{SimConfig, SimServer};
use crate::standalone::members::{Simulated, Workload};

/// The servers that run, by workload and replica. Dropping one ends it.
#[derive(Default)]
pub(super) struct Sims {
    running: BTreeMap<(String, u16), (Workload, SimServer)>,
    /// Those whose place another one took.
    replaced: Vec<SimServer>,
}

impl Sims {
    /// Starts those that are missing; those that nobody wants any more go on until [`end_others`](Self::end_others).
    pub(super) async fn start(&mut self, wanted: &BTreeMap<String, Workload>) -> anyhow::Result<()> {
        for (name, workload) in wanted {
            for replica in 0..workload.count {
                let key = (name.clone(), replica);
                let runs = self.running.get(&key).is_some_and(|(known, _)| known.models == workload.models);
                if !runs {
                    let short = name.rsplit('/').next().unwrap_or(name);
                    let models = workload.models.clone();
                    let config =
                        SimConfig { name: format!("{short}-{replica}"), models, ..SimConfig::default() };
                    let server = SimServer::start(config);
                    let server = server.await.with_context(|| format!("simulating {name}"))?;
                    tracing::info!(server = server.name(), address = %server.addr(), "simulating");
                    let before = self.running.insert(key.clone(), (workload.clone(), server));
                    self.replaced.extend(before.map(|(_, server)| server));
                }
                if let Some((known, _)) = self.running.get_mut(&key) {
                    known.clone_from(workload);
                }
            }
        }
        Ok(())
    }

    /// Those that are wanted, with where they are.
    pub(super) fn servers(&self, wanted: &BTreeMap<String, Workload>) -> Vec<Simulated> {
        let wanted = self.running.iter().filter(|(key, _)| is_wanted(key, wanted));
        let server =
            |((workload, replica), (known, server)): (&(String, u16), &(Workload, SimServer))| Simulated {
                workload: workload.clone(),
                replica: *replica,
                labels: known.labels.clone(),
                address: server.addr(),
            };
        wanted.map(server).collect()
    }

    /// Whether there are such that nobody wants any more.
    pub(super) fn has_others(&self, wanted: &BTreeMap<String, Workload>) -> bool {
        !self.replaced.is_empty() || !self.running.keys().all(|key| is_wanted(key, wanted))
    }

    /// Ends those that nobody wants any more.
    pub(super) fn end_others(&mut self, wanted: &BTreeMap<String, Workload>) {
        self.replaced.clear();
        self.running.retain(|key, _| is_wanted(key, wanted));
    }
}

fn is_wanted((name, replica): &(String, u16), wanted: &BTreeMap<String, Workload>) -> bool {
    wanted.get(name).is_some_and(|workload| *replica < workload.count)
}
