//! Services that requests are sent to without a picker, and what would be started to serve them.

use std::collections::BTreeSet;

use super::Resolver;
use super::plans::replicas;
use super::pools::selects;
use crate::standalone::manifest::workload::{Service, TargetPort, Workload};
use crate::standalone::topology::{Address, Answer, ServicePlan, Target};

/// What stands behind name and namespace where a Service is resolved.
const ENDINGS: [&str; 3] = ["", ".svc", ".svc.cluster.local"];

impl Resolver<'_> {
    /// Plans the Services that entries lead to, and those among the members of pools.
    pub(super) fn services(&mut self) {
        let mut used = BTreeSet::new();
        let listeners = self.topology.gateways.iter().flat_map(|gateway| &gateway.listeners);
        for entry in listeners.flat_map(|listener| &listener.hosts).flat_map(|host| &host.entries) {
            let Answer::Forward(shares) = &entry.answer else { continue };
            for share in shares {
                match &share.target {
                    Target::Service { namespace, name, port } => {
                        used.insert((namespace.clone(), name.clone(), *port));
                    }
                    Target::Backend { endpoints, .. } => {
                        used.extend(endpoints.iter().filter_map(|it| self.service_named(it)));
                    }
                    _ => {}
                }
            }
        }
        let members = self.topology.pools.iter().filter_map(|pool| pool.members.as_ref()).flatten();
        used.extend(members.filter_map(|member| self.service_named(member)));
        for (namespace, name, port) in used {
            let plan = self.service_plan(&namespace, &name, port);
            self.topology.services.extend(plan);
        }
    }

    /// The Service that an address names, as the DNS of a cluster does.
    fn service_named(&self, address: &Address) -> Option<(String, String, u16)> {
        let Address::Host(host, port) = address else { return None };
        let host = host.trim_end_matches('.');
        let ending = ENDINGS.iter().rev().find_map(|ending| host.strip_suffix(ending))?;
        let (name, namespace) = ending.split_once('.')?;
        let key = (namespace.to_owned(), name.to_owned());
        let service = self.objects.services.get(&key)?;
        service.has_port(*port).then_some((key.0, key.1, *port))
    }

    fn service_plan(&self, namespace: &str, name: &str, port: u16) -> Option<ServicePlan> {
        let service = self.objects.services.get(&(namespace.to_owned(), name.to_owned()))?;
        let workloads = self.objects.workloads.values();
        let workloads =
            workloads.filter(|it| it.meta.namespace == namespace && selects(&service.selector, &it.labels));
        let workloads: Vec<_> = workloads.collect();
        let target_port = target_port(service, port, &workloads);
        let replicas: Vec<_> = workloads.iter().filter_map(|it| replicas(it, target_port)).collect();
        let hosts = ENDINGS.iter().map(|ending| format!("{name}.{namespace}{ending}")).collect();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        (!replicas.is_empty()).then_some(ServicePlan { namespace, name, hosts, port, target_port, replicas })
    }
}

fn target_port(service: &Service, port: u16, workloads: &[&Workload]) -> u16 {
    match service.ports.iter().find(|(known, _)| *known == port) {
        Some((_, TargetPort::Number(target))) => *target,
        Some((_, TargetPort::Name(name))) => {
            let mut named = workloads.iter().flat_map(|workload| &workload.named_ports);
            named.find(|(known, _)| known == name).map_or(port, |(_, number)| *number)
        }
        None => port,
    }
}
