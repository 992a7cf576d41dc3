//! The pools of the manifests, as this process serves them: [`FedPools`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::bail;
use tokio::sync::watch;

use crate::discovery::file::PoolFile;
use crate::runtime::pools::{PoolSetup, PoolsHandle};
use crate::standalone::members::Placed;
use crate::standalone::topology::{Cost, PoolPlan, Topology};

/// The pools, by namespace and name.
#[derive(Default)]
pub(super) struct FedPools {
    pools: BTreeMap<(String, String), Pool>,
}

/// A pool that is served.
struct Pool {
    members: watch::Sender<Arc<PoolFile>>,
    config: Option<String>,
    authority: String,
    /// Another pool takes its place if they change.
    costs: Vec<Cost>,
}

impl FedPools {
    /// Lets the pools be served as they are now; those that are gone are served on.
    pub(super) fn serve(
        &mut self,
        handle: &PoolsHandle,
        topology: &Topology,
        placed: &Placed,
    ) -> anyhow::Result<()> {
        // What passes from one pool to another is free before its new owner is there.
        handle.assign(&self.authorities(topology))?;
        let mut seen = BTreeSet::new();
        for plan in &topology.pools {
            let key = (plan.namespace.clone(), plan.name.clone());
            if !seen.insert(key.clone()) {
                // Its twin of the other API group is served.
                continue;
            }
            let members = Arc::new(placed.pools.get(&key).cloned().unwrap_or_default());
            if self.pools.get(&key).is_some_and(|pool| pool.costs != plan.costs) {
                handle.remove(&key.0, &key.1);
                self.pools.remove(&key);
            }
            let Some(pool) = self.pools.get_mut(&key) else {
                let (sender, receiver) = watch::channel(members);
                handle.insert(setup(plan, receiver))?;
                let (config, authority, costs) =
                    (plan.config.clone(), plan.authority.clone(), plan.costs.clone());
                self.pools.insert(key, Pool { members: sender, config, authority, costs });
                continue;
            };
            pool.authority.clone_from(&plan.authority);
            if pool.config != plan.config {
                if let Err(problems) = handle.reconfigure(&key.0, &key.1, plan.config.as_deref()) {
                    bail!("configuration of {}/{}: {}", key.0, key.1, problems.join("\n"));
                }
                pool.config.clone_from(&plan.config);
            }
            pool.members.send_if_modified(|known| {
                let is_new = *known != members;
                known.clone_from(&members);
                is_new
            });
        }
        Ok(())
    }

    /// What pools are to be called: as the manifests say, and as before for the filters that drain.
    fn authorities(&self, topology: &Topology) -> BTreeMap<String, Vec<String>> {
        let wanted: BTreeSet<_> = topology.pools.iter().map(|plan| &plan.authority).collect();
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for plan in &topology.pools {
            let mut own = vec![plan.authority.clone()];
            let before = self.pools.get(&(plan.namespace.clone(), plan.name.clone()));
            own.extend(before.map(|pool| &pool.authority).filter(|it| !wanted.contains(it)).cloned());
            all.entry(format!("{}/{}", plan.namespace, plan.name)).or_insert(own);
        }
        all
    }

    /// Whether one is gone.
    pub(super) fn has_others(&self, topology: &Topology) -> bool {
        let is_there = |(namespace, name): &(String, String)| {
            topology.pools.iter().any(|plan| (&plan.namespace, &plan.name) == (namespace, name))
        };
        !self.pools.keys().all(is_there)
    }

    /// Removes those that are gone.
    pub(super) fn remove_others(&mut self, handle: &PoolsHandle, topology: &Topology) {
        self.pools.retain(|(namespace, name), _| {
            let is_it = |plan: &PoolPlan| (&plan.namespace, &plan.name) == (namespace, name);
            let is_there = topology.pools.iter().any(is_it);
            if !is_there {
                handle.remove(namespace, name);
            }
            is_there
        });
    }

    /// The members of each, by `namespace/name`.
    pub(super) fn members(&self) -> BTreeMap<String, Arc<PoolFile>> {
        let named = |((namespace, name), pool): (&(String, String), &Pool)| {
            (format!("{namespace}/{name}"), pool.members.borrow().clone())
        };
        self.pools.iter().map(named).collect()
    }
}

fn setup(plan: &PoolPlan, members: watch::Receiver<Arc<PoolFile>>) -> PoolSetup {
    let cost = |cost: &Cost| {
        let mut one = serde_json::json!({"metadataKey": cost.key, "type": cost.kind});
        if let Some(cel) = &cost.cel {
            one["cel"] = cel.as_str().into();
        }
        one
    };
    let costs: Vec<_> = plan.costs.iter().map(cost).collect();
    PoolSetup {
        namespace: plan.namespace.clone(),
        name: plan.name.clone(),
        authorities: vec![plan.authority.clone()],
        config: plan.config.clone(),
        costs: (!costs.is_empty()).then(|| serde_json::json!({ "llmRequestCosts": costs }).to_string()),
        members,
    }
}
