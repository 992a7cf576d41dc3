//! What the picker of each pool is told.

use super::{GATEWAY, checked, service};
use crate::standalone::Checked;
use crate::standalone::finding::Level;
use crate::standalone::topology::{BodyMode, PoolPlan};

const POOL: &str = "---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: p, annotations: {ANNOTATIONS}}
spec:
  selector: {matchLabels: {app: m}}
  targetPorts: [{number: 8000}]
  MORE
";

fn pool(annotations: &str, more: &str) -> String {
    POOL.replace("ANNOTATIONS", annotations).replace("MORE", more)
}

fn plan(checked: &Checked) -> &PoolPlan {
    &checked.topology.pools[0]
}

fn told(checked: &mut Checked, level: Level, part: &str) -> bool {
    checked.findings.sort().iter().any(|it| it.level == level && it.message.contains(part))
}

#[test]
fn annotations_and_fields_become_modes() {
    let picker = "endpointPickerRef: {name: e, port: {number: 9009}, failureMode: FailOpen}";
    for (annotations, more, want, warned) in [
        ("", "", (BodyMode::Duplex, false, false, false), ""),
        ("", "appProtocol: kubernetes.io/h2c", (BodyMode::Duplex, false, false, true), ""),
        (
            "aigateway.envoyproxy.io/processing-body-mode: buffered",
            "",
            (BodyMode::Buffered, false, false, false),
            "held until its end",
        ),
        (
            "aigateway.envoyproxy.io/allow-mode-override: 'true'",
            "",
            (BodyMode::Duplex, true, false, false),
            "no effect without",
        ),
        ("", picker, (BodyMode::Duplex, false, true, false), "FailOpen"),
    ] {
        let mut checked = checked(pool(annotations, more));
        let plan = plan(&checked);
        let found = (plan.body_mode, plan.allow_mode_override, plan.fail_open, plan.is_h2c);
        assert_eq!(found, want, "{annotations} {more}");
        assert!(told(&mut checked, Level::Warning, warned), "{warned}: {:?}", checked.findings);
    }
}

#[test]
fn pickers_have_authorities_of_their_own() {
    let picker = "endpointPickerRef: {name: e, port: {number: 9009}}";
    let twice = pool("", picker) + &pool("", picker).replace("name: p,", "name: q,");
    let older = "---\napiVersion: inference.networking.x-k8s.io/v1alpha2\nkind: InferencePool\nmetadata: {name: p}\nspec: \
                 {selector: {app: m}, targetPortNumber: 8000, extensionRef: {name: p}}\n";
    for (text, want) in [
        (pool("", ""), &["p.default.svc:9002"][..]),
        (pool("", picker), &["e.default.svc:9009"]),
        (twice, &["e.default.svc:9009", "q.default.svc:9002"]),
        (pool("", "") + older, &["p.default.svc:9002", "p.default.inference.networking.x-k8s.io:9002"]),
    ] {
        let checked = checked(text);
        let found: Vec<_> = checked.topology.pools.iter().map(|pool| pool.authority.as_str()).collect();
        assert_eq!(found, want);
    }
}

const EPP: &str = "---
apiVersion: v1
kind: Service
metadata: {name: e}
spec: {selector: {app: e}, ports: [{port: 9002}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: e}
spec:
  template:
    metadata: {labels: {app: e}}
    spec:
      containers: [{name: e, args: [--pool-name, p, --config-text, 'apiVersion: x']}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: m}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: m, tier: a}}
    spec:
      containers: [{name: sidecar}, {name: m, args: [--model, org/m, --port, '8200']}]
---
apiVersion: v1
kind: Pod
metadata: {name: m, labels: {app: m}}
spec: {containers: [{name: m}]}
";

#[test]
fn configuration_and_members_come_from_workloads() {
    for picker in ["endpointPickerRef: {name: e, port: {number: 9002}}", ""] {
        let checked = checked(pool("", picker) + EPP);
        let plan = plan(&checked);
        assert_eq!(plan.config.as_deref(), Some("apiVersion: x"), "{picker}");
        let replicas: Vec<_> = plan
            .replicas
            .iter()
            .map(|it| (it.workload.as_str(), it.count, it.port, it.models.join(" "), it.labels.len()))
            .collect();
        let pods = [
            ("Deployment default/m", 2, 8200, "org/m".to_owned(), 2),
            ("Pod default/m", 1, 8000, String::new(), 1),
        ];
        assert_eq!(replicas, pods, "{picker}");
    }
}

#[test]
fn objectives_models_and_rewrites_are_those_of_the_pool() {
    let bound = "---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: gold}
spec: {priority: 5, poolRef: {name: p}}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {name: gold}
spec: {priority: 7, poolRef: {name: p}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: other}
spec: {priority: 9, poolRef: {name: q}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: a}
spec: {modelName: review, criticality: Sheddable, poolRef: {name: p}, targetModels: [{name: review-1}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModelRewrite
metadata: {name: r}
spec:
  poolRef: {name: p}
  rules:
  - matches: [{model: {type: Exact, value: llama}, headers: [{name: X-Tier, value: gold}]}]
    targets: [{modelRewrite: llama-2, weight: 1}]
";
    let mut checked = checked(pool("", "") + bound);
    let plan = plan(&checked);
    let objectives: Vec<_> = plan.objectives.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(objectives, [("gold", 7)]);
    assert_eq!(plan.model_priorities.get("review"), Some(&-1));
    let target = |model: &str, tier: &'static str| {
        plan.rewrites.target(model, |name| (name == "x-tier").then_some(tier), 0.0).map(str::to_owned)
    };
    assert_eq!(target("llama", "gold").as_deref(), Some("llama-2"));
    assert_eq!(target("llama", "silver"), None);
    assert_eq!(target("review", "").as_deref(), Some("review-1"));
    assert!(told(&mut checked, Level::Warning, "InferencePool default/q not found"));
}

#[test]
fn costs_are_those_of_all_routes_and_of_the_gateway() {
    let route = |name: &str, costs: &str| {
        format!(
            "---\napiVersion: aigateway.envoyproxy.io/v1alpha1\nkind: AIGatewayRoute\nmetadata: {{name: {name}}}\nspec:\n  \
             parentRefs: [{{name: g}}]\n  llmRequestCosts: [{costs}]\n  rules: [{{matches: [{{headers: [{{name: \
             x-ai-eg-model, value: {name}}}]}}], backendRefs: [{{group: inference.networking.k8s.io, kind: \
             InferencePool, name: p}}]}}]\n"
        )
    };
    let gateway = GATEWAY
        .replace("HOST", "")
        .replace("{name: g}", "{name: g, annotations: {aigateway.envoyproxy.io/gateway-config: c}}");
    let config = "---\napiVersion: aigateway.envoyproxy.io/v1beta1\nkind: GatewayConfig\nmetadata: {name: c}\nspec: \
                  {globalLLMRequestCosts: [{metadataKey: in, type: TotalToken}, {metadataKey: g, type: TotalToken}]}\n";
    let text = gateway
        + &pool("", "")
        + config
        + &route("a", "{metadataKey: in, type: InputToken}, {metadataKey: c, type: CEL, cel: input_tokens}")
        + &route("b", "{metadataKey: in, type: OutputToken}, {metadataKey: out, type: OutputToken}");
    let mut checked = checked(text);
    let found: Vec<_> = plan(&checked).costs.iter().map(|it| (it.key.as_str(), it.kind)).collect();
    assert_eq!(
        found,
        [("c", "CEL"), ("g", "TotalToken"), ("in", "InputToken"), ("out", "OutputToken")],
        "{:?}",
        checked.findings
    );
    assert!(told(&mut checked, Level::Warning, "says otherwise what `in` is"));
}

#[test]
fn services_that_no_picker_chooses_for_have_replicas() {
    let route = super::route("r", "", "", "P:/->e");
    let named = "---\napiVersion: v1\nkind: Service\nmetadata: {name: m}\nspec: {selector: {app: m}, ports: [{port: 80, \
                 targetPort: http}]}\n";
    let text = GATEWAY.replace("HOST", "") + &route.replace("name: e", "name: m") + EPP + named;
    let text = text.replace(
        "args: [--model, org/m",
        "ports: [{name: http, containerPort: 8300}], args: [--model, org/m",
    );
    let checked = checked(text + &service("unused"));
    let [plan] = checked.topology.services.as_slice() else { panic!("{:?}", checked.topology.services) };
    assert_eq!((plan.name.as_str(), plan.port, plan.target_port), ("m", 80, 8300));
    assert!(plan.hosts.contains(&"m.default.svc.cluster.local".to_owned()));
    assert_eq!(plan.replicas.iter().map(|it| it.port).collect::<Vec<_>>(), [8200, 8300]);
}
