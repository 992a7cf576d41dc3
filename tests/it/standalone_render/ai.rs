//! The rows of `AIGatewayRoute`s, behind a real `epp` for each pool: requests are told apart by their model.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::backends::{Backends, Told, ask};
use super::{address, differs, rendered, route, service, settings};
use crate::model_routing::free_port;
use crate::support::envoy::Envoy;
use crate::support::epp::{Epp, EppSetup};

const GATEWAY: &str = "
kind: Gateway
apiVersion: gateway.networking.k8s.io/v1
metadata: {name: gateway}
spec:
  gatewayClassName: any
  listeners: [{name: all, port: 80, protocol: HTTP}]
---
kind: BackendTrafficPolicy
apiVersion: gateway.envoyproxy.io/v1alpha1
metadata: {name: tries}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: bbb}]
  retry: {numRetries: 2, numAttemptsPerPriority: 1, retryOn: {httpStatusCodes: [503]}}
";

/// Model, further headers, backends, and further members of the rule.
const RULES: &[(&str, &str, &str, &str)] = &[
    ("meta-llama/Llama-3.1-8B-Instruct", "", "llama!", ""),
    ("mistral:latest", "", "mistral!", ""),
    ("mistral:latest", ", {name: tier, value: gold}", "gold", ""),
    ("some-cool-self-hosted-model", "", "plain", ""),
    ("slow", "", "plain", ", timeouts: {request: 1s}"),
    ("~gpt-.*", "", "gpt", ""),
    ("gpt-4", "", "gpt4", ""),
    ("split", "", "gpt4 {weight: 1}; gpt {weight: 3}", ""),
    ("edited", "", "plain {headerMutation: {set: [{name: x, value: '1'}], remove: [y]}}", ""),
];

fn ai_route(name: &str, rules: &[(&str, &str, &str, &str)]) -> String {
    let mut text = format!(
        "---\nkind: AIGatewayRoute\napiVersion: aigateway.envoyproxy.io/v1alpha1\nmetadata: {{name: {name}}}\nspec:\n  \
         parentRefs: [{{name: gateway, kind: Gateway, group: gateway.networking.k8s.io}}]\n  rules:\n"
    );
    for (model, headers, backends, more) in rules {
        let (kind, model) = model.strip_prefix('~').map_or(("Exact", *model), |it| ("RegularExpression", it));
        let refs = backends.split("; ").map(|backend| {
            let (name, rest) = backend.split_once(" {").unwrap_or((backend, "}"));
            match name.strip_suffix('!') {
                Some(pool) => {
                    format!("{{group: inference.networking.k8s.io, kind: InferencePool, name: {pool}}}")
                }
                None => format!("{{name: {name}, {rest}"),
            }
        });
        let refs: Vec<_> = refs.collect();
        writeln!(
            text,
            "    - {{matches: [{{headers: [{{name: x-ai-eg-model, type: {kind}, value: '{model}'}}{headers}]}}], \
             backendRefs: [{}]{more}}}",
            refs.join(", ")
        )
        .unwrap();
    }
    text
}

fn manifests() -> String {
    let mut text = GATEWAY.to_owned() + &ai_route("aaa", RULES);
    text += &ai_route("bbb", &[("ordered", "", "gpt {priority: 1}; plain {priority: 0}", "")]);
    text += &route("zzz", "", "all", &[], &["P:/ -> web", "P:/health -> web"]);
    text += &service("default", "web");
    for backend in BACKENDS {
        write!(
            text,
            "---\nkind: AIServiceBackend\napiVersion: aigateway.envoyproxy.io/v1alpha1\nmetadata: {{name: {backend}}}\n\
             spec: {{schema: {{name: OpenAI}}, backendRef: {{group: gateway.envoyproxy.io, kind: Backend, name: {backend}}}}}\n\
             ---\nkind: Backend\napiVersion: gateway.envoyproxy.io/v1alpha1\nmetadata: {{name: {backend}}}\n\
             spec: {{endpoints: [{{fqdn: {{hostname: {backend}.test, port: 80}}}}]}}\n"
        )
        .unwrap();
    }
    for pool in POOLS {
        write!(
            text,
            "---\nkind: InferencePool\napiVersion: inference.networking.k8s.io/v1\nmetadata: {{name: {pool}}}\n\
             spec:\n  selector: {{matchLabels: {{app: {pool}}}}}\n  targetPorts: [{{number: 8000}}]\n  \
             endpointPickerRef: {{name: {pool}-epp, port: {{number: 9002}}}}\n"
        )
        .unwrap();
    }
    text
}

const BACKENDS: [&str; 4] = ["plain", "gold", "gpt", "gpt4"];
const POOLS: [&str; 2] = ["llama", "mistral"];

/// Rows, requests, and what becomes of them. A body is written as its model.
const ROWS: &[(&str, &str, &str)] = &[
    ("A1", "POST /v1/chat/completions | mistral:latest", "mistral"),
    ("A2", "POST /v1/chat/completions | meta-llama/Llama-3.1-8B-Instruct", "llama"),
    (
        "A3",
        "POST /v1/chat/completions | some-cool-self-hosted-model",
        "plain >host=plain.test !x-gateway-destination-endpoint=",
    ),
    ("A4", "POST /v1/chat/completions | unknown", "404"),
    ("A5", "POST /v1/chat/completions | Mistral:Latest", "404"),
    ("A6", "POST /v1/chat/completions | {\"messages\":[]}", "404"),
    ("A10", "POST /v1/chat/completions?x=1 | mistral:latest", "mistral >path=/v1/chat/completions?x=1"),
    ("A12", "POST /v1/chat/completions x-ai-eg-model:unknown | mistral:latest", "mistral"),
    ("A13", "POST /v1/chat/completions x-ai-eg-model:mistral:latest | unknown", "404"),
    (
        "A15",
        "POST /v1/chat/completions x-gateway-destination-endpoint:10.0.0.1:1 | mistral:latest",
        "mistral",
    ),
    (
        "A16",
        "POST /v1/chat/completions x-gateway-destination-endpoint:10.0.0.1:1 | some-cool-self-hosted-model",
        "plain !x-gateway-destination-endpoint=10.0.0.1:1",
    ),
    ("A19", "POST /v1/chat/completions x-hangs:1 | slow", "504"),
    ("A20", "POST /v1/chat/completions tier:gold | mistral:latest", "gold"),
    ("A20", "POST /v1/chat/completions tier:tin | mistral:latest", "mistral"),
    ("A22", "POST /v1/chat/completions | gpt-4", "gpt4"),
    ("A22", "POST /v1/chat/completions | gpt-5", "gpt"),
    ("A25", "POST /v1/chat/completions x:0 y:0 | edited", "plain >x=1 !y=0"),
    ("A35", "/health", "web"),
    ("A35", "POST /health | mistral:latest", "web"),
];

/// Which text stands in an answer with 404 or 200.
const TEXTS: &[(&str, &str, &str)] = &[
    ("A4", "POST /v1/chat/completions | unknown", "\r\n\r\nNo matching route found."),
    ("A8", "POST /v1/foo | mistral:latest", "\r\n\r\nunsupported path: /v1/foo"),
    ("A9", "POST /v1/chat/completions/ | mistral:latest", "unsupported path: /v1/chat/completions/"),
    (
        "A11",
        "/v1/models",
        "{\"object\":\"list\",\"data\":[{\"id\":\"meta-llama/Llama-3.1-8B-Instruct\",\"object\":\"model\",\"created\":1700000000,\
         \"owned_by\":\"Envoy AI Gateway\"},{\"id\":\"mistral:latest\",",
    ),
    ("A14", "/", "unsupported path: /"),
    ("A34", "/other", "unsupported path: /other"),
];

/// Sends a request whose body is its model, unless it is written out.
async fn ask_for(at: SocketAddr, host: &str, request: &str) -> Told {
    let whole = match request.split_once(" | ") {
        Some((head, model)) if !model.starts_with('{') => {
            let messages = json!([{"role": "user", "content": "Hi"}]);
            format!("{head} | {}", json!({"model": model, "messages": messages}))
        }
        _ => request.to_owned(),
    };
    ask(at, host, &whole).await
}

struct Stage {
    backends: Backends,
    pickers: [Option<Epp>; 2],
    envoy: Envoy,
    at: SocketAddr,
}

impl Stage {
    async fn start() -> Self {
        let names = BACKENDS.iter().chain(&POOLS).chain(&["web"]).map(|&name| name.to_owned());
        let backends = Backends::start(names).await;
        let mut settings = settings();
        for backend in BACKENDS {
            settings
                .service_hosts
                .insert((format!("{backend}.test"), 80), vec![address(backends.at[backend])]);
        }
        let web = "web.default.svc.cluster.local".to_owned();
        settings.service_hosts.insert((web, 80), vec![address(backends.at["web"])]);
        for pool in POOLS {
            let id = ("default".to_owned(), pool.to_owned());
            settings.members.insert(id, vec![address(backends.at[pool])]);
        }
        let port = free_port();
        settings.model_extractor = ([127, 0, 0, 1], port).into();
        let setup = EppSetup::new(&[backends.at["llama"]]);
        let args = vec![format!("--model-extractor-port={port}")];
        let llama = Epp::with(EppSetup { args, ..setup }).await;
        let mistral = Epp::start(&[backends.at["mistral"]]).await;
        let mut config: Value = serde_yaml::from_str(&rendered(&manifests(), &settings).bootstrap()).unwrap();
        let resources = &mut config["static_resources"];
        resources["listeners"][0]["address"]["socket_address"]["port_value"] = json!(0);
        // One picker for all pools would be told apart by the authority.
        for cluster in resources["clusters"].as_array_mut().unwrap() {
            let name = cluster["name"].as_str().unwrap().to_owned();
            for (pool, epp) in [("llama", &llama), ("mistral", &mistral)] {
                if name == format!("envoy.clusters.endpointpicker_{pool}_default_ext_proc") {
                    let endpoint =
                        &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
                    endpoint["address"]["socket_address"]["port_value"] = json!(epp.ext_proc.port());
                }
            }
        }
        let envoy = Envoy::with_config(&config.to_string()).await;
        let at = envoy.http().strip_prefix("http://").unwrap().parse().unwrap();
        Self { backends, pickers: [Some(llama), Some(mistral)], envoy, at }
    }

    /// How many bodies were held for their models, and how often each picker was asked.
    async fn asked(&self) -> [u64; 3] {
        let of = async |cluster: &str| self.envoy.stat(&format!("cluster.{cluster}.upstream_rq_total")).await;
        [
            of("ai-gateway-extproc-uds").await,
            of("envoy.clusters.endpointpicker_llama_default_ext_proc").await,
            of("envoy.clusters.endpointpicker_mistral_default_ext_proc").await,
        ]
    }
}

#[tokio::test]
async fn models_go_where_the_rows_say() {
    let mut stage = Stage::start().await;
    let mut wrong = Vec::new();
    for (row, request, want) in ROWS {
        let before = stage.asked().await;
        let told = ask_for(stage.at, "h", request).await;
        if let Some(why) = differs(&told, want) {
            wrong.push(format!("{row}: {request}: {why}\n{}", told.text));
        }
        let by = want.split(' ').next().unwrap();
        let after = stage.asked().await;
        let asked = [after[0] - before[0], after[1] - before[1], after[2] - before[2]];
        let want = [u64::from(by != "web"), u64::from(by == "llama"), u64::from(by == "mistral")];
        if asked != want {
            wrong.push(format!("{row}: {request}: {asked:?} were asked, not {want:?}"));
        }
    }
    for (row, request, want) in TEXTS {
        let told = ask_for(stage.at, "h", request).await;
        let status = if *row == "A11" { 200 } else { 404 };
        if told.status != status || !told.text.contains(want) {
            wrong.push(format!("{row}: {request}: {}", told.text));
        }
    }
    let mut heavy = 0;
    for _ in 0..80 {
        let told = ask_for(stage.at, "h", "POST /v1/chat/completions | split").await;
        heavy += u32::from(told.by() == "gpt");
    }
    if !(38..=78).contains(&heavy) {
        wrong.push(format!("A23: {heavy} of 80 instead of 60"));
    }
    let ordered = "POST /v1/chat/completions x-fails:1 x-case:A24 | ordered";
    let calm = ask_for(stage.at, "h", "POST /v1/chat/completions | ordered").await.by();
    assert_eq!(calm, "plain", "A24: the first priority");
    let told = ask_for(stage.at, "h", ordered).await;
    // Both fail once; the first priority comes again.
    if told.status != 200 {
        wrong.push(format!("A24: {}", told.text));
    }
    let log = stage.envoy.access_log();
    let at = stage.backends.at["mistral"];
    for key in ["endpoint.picked", "endpoint.served", "upstream_host"] {
        assert!(log.contains(&format!("\"{key}\":\"{at}\"")), "{key}: {log}");
    }
    assert!(wrong.is_empty(), "{}\n{log}", wrong.join("\n"));
    // A17
    stage.pickers[1] = None;
    let lost = ask_for(stage.at, "h", "POST /v1/chat/completions | mistral:latest").await;
    assert_eq!(lost.status / 100, 5, "{}", lost.text);
    let plain = "POST /v1/chat/completions | some-cool-self-hosted-model";
    assert_eq!(ask_for(stage.at, "h", plain).await.by(), "plain");
}
