//! Who is chosen by selectors, and what is simulated.

use std::collections::BTreeMap;

use super::*;
use crate::standalone::input::Source;

const MANIFESTS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec: {gatewayClassName: c, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: AIGatewayRoute
metadata: {name: r}
spec:
  parentRefs: [{name: g, kind: Gateway, group: gateway.networking.k8s.io}]
  rules:
  - matches: [{headers: [{name: x-ai-eg-model, value: routed}]}]
    backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: p}]
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: p}
spec: {selector: {matchLabels: {app: a}}, targetPorts: [{number: 8000}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: high}
spec: {priority: 5, poolRef: {name: p}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: m}
spec: {modelName: alias, targetModels: [{name: adapter, weight: 1}], poolRef: {name: p}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a, tier: gpu}}
    spec: {containers: [{name: c, image: i}]}
";

fn topology() -> Topology {
    let source = Source { name: "m.yaml".to_owned(), text: MANIFESTS.to_owned() };
    crate::standalone::check(&[source], "default", epp_plugins::BUILT_IN).topology
}

fn endpoint(namespace: &str, name: &str, port: u16, app: &str) -> EndpointMeta {
    EndpointMeta {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        address: [10, 0, 0, 1].into(),
        port,
        labels: [("app".to_owned(), app.to_owned())].into(),
    }
}

#[test]
fn workloads_without_models_have_those_that_are_routed_to_them() {
    let workloads = workloads(&topology());
    let (name, workload) = workloads.iter().next().unwrap();
    assert_eq!((name.as_str(), workload.count), ("Deployment default/a", 2));
    assert_eq!(workload.models, ["routed", "adapter"]);
    assert_eq!(workload.labels["tier"], "gpu");
}

#[test]
fn selectors_choose_among_what_is_listed_and_simulated() {
    let topology = topology();
    let listed = PoolFile {
        endpoints: vec![
            endpoint("default", "mine", 1, "a"),
            endpoint("default", "other", 2, "b"),
            endpoint("elsewhere", "far", 3, "a"),
        ],
        objectives: [("high".to_owned(), 1), ("low".to_owned(), -1)].into(),
        ..PoolFile::default()
    };
    let simulated = |replica: u16, app: &str| Simulated {
        workload: "Deployment default/a".to_owned(),
        replica,
        labels: [("app".to_owned(), app.to_owned())].into(),
        address: SocketAddr::from(([127, 0, 0, 1], 9000 + replica)),
    };
    let placed = place(&topology, &listed, &[simulated(0, "a"), simulated(1, "b")], &BTreeMap::new());
    let pool = &placed.pools[&("default".to_owned(), "p".to_owned())];
    let names: Vec<_> = pool.endpoints.iter().map(|it| (it.name.as_str(), it.port)).collect();
    assert_eq!(names, [("mine", 1), ("a-0", 9000)]);
    assert_eq!(pool.objectives, [("high".to_owned(), 5), ("low".to_owned(), -1)].into(), "manifests first");
    let at = &addresses(&placed.pools)[&("default".to_owned(), "p".to_owned())];
    assert_eq!(at[1], Address::Host("127.0.0.1".to_owned(), 9000));
}

#[test]
fn hosts_of_the_oldest_form_are_looked_up() {
    let mut topology = topology();
    let host = |name: &str| Address::Host(name.to_owned(), 80);
    topology.pools[0].members = Some(vec![host("10.0.0.9"), host("a.test"), host("unknown.test")]);
    assert_eq!(hosts(&topology), ["a.test".to_owned(), "unknown.test".to_owned()].into());
    let resolved = [("a.test".to_owned(), vec![[10, 0, 0, 7].into(), [10, 0, 0, 8].into()])].into();
    let placed = place(&topology, &PoolFile::default(), &[], &resolved);
    let pool = &placed.pools[&("default".to_owned(), "p".to_owned())];
    let names: Vec<_> = pool.endpoints.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["10.0.0.7:80", "10.0.0.8:80", "10.0.0.9:80"]);
}
