//! Pools: their members and pickers, and what is bound to them.

use std::collections::BTreeMap;

use epp_framework::plugin::PluginType;

use super::{MAX_LISTED, Resolver};
use crate::config::problem::{Severity, shown, shown_list};
use crate::config::{Located, build};
use crate::standalone::finding::Level;
use crate::standalone::manifest::model::PoolRef;
use crate::standalone::manifest::pool::InferencePool;
use crate::standalone::manifest::workload::{Config, Service, Start, Workload};
use crate::standalone::topology::BodyMode;

type Labels = BTreeMap<String, Located<String>>;

/// Whether `labels` have all that is selected.
pub(super) fn selects(selector: &Labels, labels: &Labels) -> bool {
    let has = |(key, value): (&String, &Located<String>)| {
        labels.get(key).is_some_and(|own| own.value == value.value)
    };
    !selector.is_empty() && selector.iter().all(has)
}

impl Resolver<'_> {
    /// Looks at all pools, their pickers, objectives and models.
    pub(super) fn pools(&mut self, types: &'static [PluginType]) {
        let objects = self.objects;
        for pool in objects.pools.values() {
            self.members(pool);
            self.picker(pool);
            self.modes(pool);
        }
        for workload in objects.workloads.values() {
            self.configuration(workload, types);
        }
        let bound = objects.objectives.values().map(|it| (&it.meta, &it.pool));
        let bound = bound.chain(objects.rewrites.values().map(|it| (&it.meta, &it.pool)));
        let bound = bound.chain(objects.models.values().map(|it| (&it.meta, &it.pool)));
        for (meta, to) in bound {
            let Some(PoolRef { name: to, .. }) = to else { continue };
            let mut pools = objects.pools.values().map(|pool| &pool.meta);
            if !pools.any(|pool| pool.namespace == meta.namespace && pool.name == to.value) {
                let name = format!("{}/{}", meta.namespace, to.value);
                let message = format!("spec.poolRef.name: InferencePool {name} not found; it has no effect");
                self.findings.tell(Level::Warning, meta.at(to.at), &meta.id(), message);
            }
        }
        self.models();
    }

    /// Two models of a pool must have different names.
    fn models(&mut self) {
        let mut first: BTreeMap<(&str, &str, &str), String> = BTreeMap::new();
        for object in self.objects.models.values() {
            let (Some(model), Some(pool)) = (&object.model, &object.pool) else { continue };
            let id = object.meta.id();
            let key = (object.meta.namespace.as_str(), pool.name.value.as_str(), model.value.as_str());
            if let Some(first) = first.get(&key) {
                let name = shown(&model.value);
                let message = format!("spec.modelName: {name} is that of {first}, too, which counts");
                self.findings.tell(Level::Warning, object.meta.at(model.at), &id, message);
                continue;
            }
            first.insert(key, id);
        }
    }

    fn members(&mut self, pool: &InferencePool) {
        let objects = self.objects;
        let is_here = |namespace: &str| namespace == pool.meta.namespace;
        let pods = objects.workloads.values().map(|it| (&it.meta.namespace, &it.labels));
        let services = objects.services.values().map(|it| (&it.meta.namespace, &it.selector));
        let backends = objects.ai_backends.values().map(|it| (&it.meta.namespace, &it.meta.labels));
        let mut members = pods.chain(services).chain(backends);
        if !pool.selector.is_empty()
            && !members.any(|(namespace, labels)| is_here(namespace) && selects(&pool.selector, labels))
        {
            let message =
                "spec.selector: nothing in the manifests has these labels, so its members are not known";
            self.findings.tell(Level::Warning, pool.meta.place, &pool.meta.id(), message);
        }
    }

    fn picker(&mut self, pool: &InferencePool) {
        let objects = self.objects;
        let (id, meta) = (pool.meta.id(), &pool.meta);
        let Some(picker) = &pool.picker else {
            let message = "spec: no picker is named; a built-in one is meant";
            self.findings.tell(Level::Notice, meta.place, &id, message);
            self.condition(&id, "", "ResolvedRefs", "ResolvedRefs");
            return;
        };
        let service = objects.services.get(&(meta.namespace.clone(), picker.name.clone()));
        let place = meta.at(picker.at);
        let Some(service) = service else {
            let name = format!("{}/{}", meta.namespace, picker.name);
            let message = format!("{}: Service {name} not found; a built-in picker is meant", picker.path);
            self.findings.tell(Level::Notice, place, &id, message);
            self.condition(&id, "", "ResolvedRefs", "InvalidExtensionRef");
            return;
        };
        self.condition(&id, "", "ResolvedRefs", "ResolvedRefs");
        if !service.has_port(picker.port) {
            let (port, ports) = (picker.port, service.shown_ports());
            let message =
                format!("{}: {} has no port {port} (it has {ports})", picker.path, service.meta.id());
            self.findings.tell(Level::Warning, place, &id, message);
        }
        let Some((workload, start)) = self.behind(service) else { return };
        let serves = start.pool.as_ref();
        let namespace = start.namespace.as_ref().map_or("default", |namespace| &namespace.value);
        if let Some(serves) = serves.filter(|it| it.value != meta.name || namespace != meta.namespace) {
            let wrong = format!("{namespace}/{}", serves.value);
            let message = format!(
                "--pool-name: it serves the pool {wrong}, and is the picker of {}; correct one",
                meta.full_name()
            );
            let at = workload.meta.at(serves.at);
            self.findings.tell(Level::Warning, at, &workload.meta.id(), message);
        }
    }

    /// Tells what of a pool's annotations does not do what one might think.
    fn modes(&mut self, pool: &InferencePool) {
        let is_buffered = pool.body_mode() == BodyMode::Buffered;
        let fails_open = pool.picker.as_ref().is_some_and(|picker| picker.fail_open);
        for (is_so, message) in [
            (is_buffered, "processing-body-mode `buffered`: a streamed answer is held until its end"),
            (
                pool.allows_mode_override() && !is_buffered,
                "allow-mode-override `true`: it has no effect without processing-body-mode `buffered`",
            ),
            (
                fails_open && !is_buffered,
                "failureMode `FailOpen`: without processing-body-mode `buffered` it only helps requests without a body",
            ),
        ] {
            if is_so {
                self.findings.tell(Level::Warning, pool.meta.place, &pool.meta.id(), message);
            }
        }
    }

    /// The text of a configuration, if it is there.
    pub(super) fn text_of(&self, workload: &Workload) -> Option<String> {
        match workload.picker.as_ref()?.config.as_ref()? {
            Config::Text(text) => Some(text.value.clone()),
            Config::Nowhere(_) => None,
            Config::Key(_, name, key) => {
                let map = self.objects.config_maps.get(&(workload.meta.namespace.clone(), name.clone()))?;
                map.data.get(key).map(|text| text.value.clone())
            }
        }
    }

    /// Looks at the configuration that a picker is started with.
    fn configuration(&mut self, workload: &Workload, types: &'static [PluginType]) {
        let Some(config) = workload.picker.as_ref().and_then(|picker| picker.config.as_ref()) else { return };
        let id = workload.meta.id();
        match config {
            Config::Text(text) => {
                self.review(&text.value, workload.meta.at(text.at), (&id, "--config-text"), types);
            }
            Config::Nowhere(file) => {
                let path = shown(&file.value);
                let message =
                    format!("--config-file: {path} is in no volume that is a ConfigMap; mount one there");
                self.findings.tell(Level::Error, workload.meta.at(file.at), &id, message);
            }
            Config::Key(file, name, key) => {
                let namespace = &workload.meta.namespace;
                let Some(map) = self.objects.config_maps.get(&(namespace.clone(), name.clone())) else {
                    let message = format!("--config-file: ConfigMap {namespace}/{name} not found; add it");
                    self.findings.tell(Level::Error, workload.meta.at(file.at), &id, message);
                    return;
                };
                let Some(text) = map.data.get(key) else {
                    let keys = shown_list(map.data.keys().map(String::as_str).take(MAX_LISTED));
                    let message = format!(
                        "--config-file: the key {} is not in ConfigMap {namespace}/{name} (keys: {keys})",
                        shown(key)
                    );
                    self.findings.tell(Level::Error, workload.meta.at(file.at), &id, message);
                    return;
                };
                let what = format!("data[{}]", shown(key));
                self.review(&text.value, map.meta.at(text.at), (&map.meta.id(), &what), types);
            }
        }
    }

    fn review(
        &mut self,
        text: &str,
        place: crate::standalone::finding::Place,
        (id, what): (&str, &str),
        types: &'static [PluginType],
    ) {
        for problem in build::load(text, types).1 {
            let level = match problem.severity {
                Severity::Error => Level::Error,
                Severity::Warning => Level::Warning,
                Severity::Note => Level::Notice,
            };
            let message = format!("{what}: {} (line {} of this text)", problem.message, problem.line);
            self.findings.tell(level, place, id, message);
        }
    }
}

impl<'o> Resolver<'o> {
    /// The picker behind a Service.
    pub(super) fn behind(&self, service: &Service) -> Option<(&'o Workload, &'o Start)> {
        let mut workloads =
            self.objects.workloads.values().filter(|it| it.meta.namespace == service.meta.namespace);
        let started = workloads.find(|it| selects(&service.selector, &it.labels))?;
        Some((started, started.picker.as_ref()?))
    }
}
