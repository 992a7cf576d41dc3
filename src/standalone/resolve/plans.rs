//! What the picker of each pool is told: a [`PoolPlan`] for every InferencePool.

use std::collections::{BTreeMap, BTreeSet};

use super::pools::selects;
use super::{BUILT_IN_PICKER, Leading, PoolId, Resolver};
use crate::discovery::index::rewrites::{self, Criticality, ModelRewrite, Rewrites};
use crate::discovery::kube::kinds::{OLDER_GROUP, POOL_GROUP};
use crate::standalone::finding::Level;
use crate::standalone::manifest::model::{InferenceModel, PoolRef};
use crate::standalone::manifest::pool::{InferencePool, PICKER_PORT};
use crate::standalone::manifest::values;
use crate::standalone::manifest::workload::Workload;
use crate::standalone::manifest::{Meta, route::CostRule};
use crate::standalone::topology::{Address, Cost, PoolPlan, Replicas, Target};

/// The port of a model server of which nothing says it.
const SERVER_PORT: u16 = 8000;

impl<'o> Resolver<'o> {
    /// Plans all pools.
    pub(super) fn plans(&mut self) {
        let objects = self.objects;
        let mut authorities = BTreeSet::new();
        for pool in objects.pools.values() {
            let plan = self.plan(pool, &mut authorities);
            self.topology.pools.push(plan);
        }
    }

    fn plan(&mut self, pool: &'o InferencePool, authorities: &mut BTreeSet<String>) -> PoolPlan {
        let Meta { namespace, name, .. } = &pool.meta;
        let members = self.older_members(pool);
        let started = self.started(pool);
        let mut plan = PoolPlan {
            group: pool.group,
            namespace: namespace.clone(),
            name: name.clone(),
            selector: pool.selector.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect(),
            ports: pool.ports.clone(),
            is_h2c: pool.is_h2c,
            authority: self.authority(pool, authorities),
            config: started.and_then(|workload| self.text_of(workload)),
            body_mode: pool.body_mode(),
            allow_mode_override: pool.allows_mode_override(),
            fail_open: pool.picker.as_ref().is_some_and(|picker| picker.fail_open),
            replicas: if members.is_some() { Vec::new() } else { self.replicas(pool) },
            members,
            objectives: BTreeMap::new(),
            model_priorities: BTreeMap::new(),
            rewrites: Rewrites::default(),
            costs: self.costs(pool),
        };
        let objects = self.objects;
        for objective in
            objects.objectives.values().filter(|it| self.is_for(&it.meta, it.pool.as_ref(), pool))
        {
            plan.objectives.insert(objective.meta.name.clone(), objective.priority);
        }
        let rewrites = objects.rewrites.values().filter(|it| self.is_for(&it.meta, it.pool.as_ref(), pool));
        let rewrites: Vec<_> = rewrites
            .map(|it| ModelRewrite {
                name: it.meta.name.clone(),
                created: created(&it.meta),
                rules: it.rules.clone(),
                ..ModelRewrite::default()
            })
            .collect();
        let models = objects.models.values().filter(|it| self.is_for(&it.meta, it.pool.as_ref(), pool));
        let models: Vec<_> = models.filter_map(indexed).collect();
        plan.model_priorities = rewrites::model_priorities(&models);
        plan.rewrites = Rewrites::new(&rewrites, &models);
        plan
    }

    /// Whether an object is bound to a pool: by its group, or to the only one of that name.
    fn is_for(&self, meta: &Meta, to: Option<&PoolRef>, pool: &InferencePool) -> bool {
        let Some(to) = to else { return false };
        let other = if pool.group == POOL_GROUP { OLDER_GROUP } else { POOL_GROUP };
        let twin = (pool.meta.namespace.clone(), pool.meta.name.clone(), other);
        meta.namespace == pool.meta.namespace
            && to.name.value == pool.meta.name
            && (to.group == pool.group || !self.objects.pools.contains_key(&twin))
    }

    /// The authority of calls to the picker, of which each pool has its own.
    fn authority(&mut self, pool: &InferencePool, taken: &mut BTreeSet<String>) -> String {
        let Meta { namespace, name, .. } = &pool.meta;
        let picker = pool.picker.as_ref().filter(|picker| picker.name != BUILT_IN_PICKER);
        let mut wanted = Vec::new();
        wanted.extend(picker.map(|picker| format!("{}.{namespace}.svc:{}", picker.name, picker.port)));
        wanted.push(format!("{name}.{namespace}.svc:{PICKER_PORT}"));
        wanted.push(format!("{name}.{namespace}.{}:{PICKER_PORT}", pool.group));
        let free = wanted.iter().find(|authority| !taken.contains(*authority)).unwrap_or(&wanted[0]);
        if let Some(picker) = picker.filter(|_| *free != wanted[0]) {
            let message = format!("{}: another pool has the same picker; this one gets its own", picker.path);
            self.findings.tell(Level::Warning, pool.meta.at(picker.at), &pool.meta.id(), message);
        }
        taken.insert(free.clone());
        free.clone()
    }

    /// What starts a pool's picker: what its Service selects, or else what says that it serves this pool.
    fn started(&self, pool: &InferencePool) -> Option<&'o Workload> {
        let meta = &pool.meta;
        let named = pool.picker.as_ref().map(|picker| (meta.namespace.clone(), picker.name.clone()));
        let service = named.and_then(|key| self.objects.services.get(&key));
        if let Some((workload, _)) = service.and_then(|service| self.behind(service)) {
            return Some(workload);
        }
        self.objects.workloads.values().find(|it| {
            it.picker.as_ref().is_some_and(|start| {
                let namespace = start.namespace.as_ref().map_or("default", |it| it.value.as_str());
                namespace == meta.namespace && start.pool.as_ref().is_some_and(|it| it.value == meta.name)
            })
        })
    }

    fn replicas(&self, pool: &InferencePool) -> Vec<Replicas> {
        let workloads = self
            .objects
            .workloads
            .values()
            .filter(|it| it.meta.namespace == pool.meta.namespace && selects(&pool.selector, &it.labels));
        let port = pool.ports.first().copied().unwrap_or(SERVER_PORT);
        workloads.filter_map(|workload| replicas(workload, port)).collect()
    }

    /// The costs of all routes that lead to a pool; those of their gateways under keys that no route has.
    fn costs(&mut self, pool: &InferencePool) -> Vec<Cost> {
        let id: PoolId = (pool.meta.namespace.clone(), pool.meta.name.clone(), pool.group);
        let Some(Leading { routes, configs }) = self.leading.remove(&id) else { return Vec::new() };
        let mut costs: BTreeMap<&str, (&CostRule, &Meta)> = BTreeMap::new();
        for (meta, rule) in routes.iter().flat_map(|it| it.costs.iter().map(|rule| (&it.meta, rule))) {
            let (first, of) = *costs.entry(&rule.cost.key).or_insert((rule, meta));
            if first.cost != rule.cost {
                let message = format!(
                    "{}: {} says otherwise what `{}` is, and counts for {}; use another key",
                    rule.path,
                    of.id(),
                    rule.cost.key,
                    pool.meta.id()
                );
                self.findings.tell(Level::Warning, meta.at(rule.at), &meta.id(), message);
            }
        }
        for (meta, rule) in configs.iter().flat_map(|it| it.costs.iter().map(|rule| (&it.meta, rule))) {
            costs.entry(&rule.cost.key).or_insert((rule, meta));
        }
        costs.into_values().map(|(rule, _)| rule.cost.clone()).collect()
    }

    /// Members of a pool in the older form: the endpoints of `AIServiceBackend`s with its labels.
    fn older_members(&mut self, pool: &InferencePool) -> Option<Vec<Address>> {
        let objects = self.objects;
        let is_named = pool.picker.as_ref().is_none_or(|picker| picker.name == BUILT_IN_PICKER);
        let backends = objects.ai_backends.values().filter(|it| {
            it.meta.namespace == pool.meta.namespace && selects(&pool.selector, &it.meta.labels)
        });
        let backends: Vec<_> = backends.collect();
        if backends.is_empty() || pool.group != OLDER_GROUP || !(is_named || self.is_older_form) {
            return None;
        }
        let id = pool.meta.id();
        let message = "the form of a development version before 0.2: its members are AIServiceBackends; the built-in \
                       picker chooses among them, and requests may take 60s instead of 30s";
        self.findings.tell(Level::Notice, pool.meta.place, &id, message);
        let mut members = BTreeSet::new();
        for backend in backends {
            let of = backend.meta.id();
            let endpoints = match self.behind_ai(backend) {
                Ok(Target::Service { namespace, name, port }) => {
                    vec![Address::Host(format!("{name}.{namespace}.svc.cluster.local"), port)]
                }
                Ok(Target::Backend { endpoints, .. }) => endpoints,
                Ok(_) => Vec::new(),
                Err(broken) => {
                    let message = format!("it is no member of {id}: {}", broken.message);
                    self.findings.tell(Level::Warning, backend.meta.place, &of, message);
                    continue;
                }
            };
            for endpoint in endpoints {
                if let (Address::Host(_, own), [port]) = (&endpoint, pool.ports.as_slice())
                    && own != port
                {
                    let message =
                        format!("its port {own} is not {port}, the target port of {id}; {own} is used");
                    self.findings.tell(Level::Warning, backend.meta.place, &of, message);
                }
                members.insert(endpoint);
            }
        }
        if !objects.models.values().any(|it| self.is_for(&it.meta, it.pool.as_ref(), pool)) {
            let message = "no InferenceModel is bound to it, so all models are allowed";
            self.findings.tell(Level::Warning, pool.meta.place, &id, message);
        }
        Some(members.into_iter().collect())
    }

    /// The models of a pool in the older form, which takes no others; none if it takes all.
    pub(super) fn models_of_older_pool(&self, namespace: &str, name: &str) -> Vec<String> {
        let key = (namespace.to_owned(), name.to_owned(), OLDER_GROUP);
        let Some(pool) = self.objects.pools.get(&key) else { return Vec::new() };
        let models = self.objects.models.values().filter(|it| self.is_for(&it.meta, it.pool.as_ref(), pool));
        let mut names = BTreeSet::new();
        for model in models {
            names.extend(model.model.iter().map(|model| model.value.clone()));
            names.extend(model.targets.iter().map(|target| target.model.clone()));
        }
        names.into_iter().collect()
    }
}

/// What a workload starts; `port` is that of servers whose command line says none.
pub(super) fn replicas(workload: &Workload, port: u16) -> Option<Replicas> {
    (workload.replicas > 0).then(|| Replicas {
        workload: workload.meta.id(),
        count: workload.replicas,
        labels: workload.labels.iter().map(|(key, value)| (key.clone(), value.value.clone())).collect(),
        models: workload.server.models.clone(),
        port: workload.server.port.unwrap_or(port),
    })
}

fn created(meta: &Meta) -> i64 {
    meta.created.as_deref().and_then(values::seconds).unwrap_or(0)
}

fn indexed(model: &InferenceModel) -> Option<rewrites::InferenceModel> {
    Some(rewrites::InferenceModel {
        name: model.meta.name.clone(),
        created: created(&model.meta),
        model_name: model.model.as_ref()?.value.clone(),
        criticality: Some(model.criticality.unwrap_or(Criticality::Standard)),
        targets: model.targets.clone(),
        ..rewrites::InferenceModel::default()
    })
}
