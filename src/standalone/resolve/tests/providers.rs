//! Backends outside: TLS, keys of providers, what is changed for them; and pools of them in the older form.

use super::{GATEWAY, checked};
use crate::standalone::Checked;
use crate::standalone::finding::Level;
use crate::standalone::topology::{Answer, Target};

const ROUTE: &str = "---
apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: AIGatewayRoute
metadata: {name: r}
spec:
  parentRefs: [{name: g}]
  rules:
  - backendRefs: [{name: b, modelNameOverride: m2, priority: 1, headerMutation: {set: [{name: X, value: '1'}], remove: [y]}}]
---
apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: AIServiceBackend
metadata: {name: b}
spec:
  schema: {name: OpenAI}
  backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: b}
  headerMutation: {set: [{name: x, value: '2'}, {name: z, value: '3'}], remove: [y]}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: b}
spec: {endpoints: [{fqdn: {hostname: api.example.com, port: 443}}], TLS}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ca}
data: {ca.crt: PEM}
";

const KEY: &str = "---
apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: BackendSecurityPolicy
metadata: {name: k}
spec: {type: APIKey, targetRefs: [{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: b}], apiKey: {secretRef: {name: s}}}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {apiKey: sk-secret}
";

fn with(tls: &str, more: &str) -> Checked {
    checked(GATEWAY.replace("HOST", "") + &ROUTE.replace("TLS", tls) + more)
}

fn answer(checked: &Checked) -> &Answer {
    let entries = &checked.topology.gateways[0].listeners[0].hosts[0].entries;
    &entries.iter().find(|entry| entry.rule == "spec.rules[0]").unwrap().answer
}

/// Rows A25 and A27: of one header the route's edit counts, and removed is what either removes.
#[test]
fn a25_a27_edits_of_route_and_backend_are_joined() {
    let checked = with("", "");
    let Answer::Forward(shares) = answer(&checked) else { panic!("{:?}", checked.findings) };
    let edits = &shares[0].edits.request;
    let set: Vec<_> = edits.set.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!((set.join(" "), edits.remove.join(" ")), ("X=1 z=3".to_owned(), "y".to_owned()));
    assert_eq!((shares[0].model.as_deref(), shares[0].priority), (Some("m2"), 1));
}

#[test]
fn backends_prove_themselves_as_they_say() {
    for (tls, want) in [
        ("", None),
        ("tls: {wellKnownCACertificates: System}", Some((Some("api.example.com"), None, false))),
        ("tls: {sni: other.com}", Some((Some("other.com"), None, false))),
        ("tls: {insecureSkipVerify: true}", Some((Some("api.example.com"), None, true))),
        (
            "tls: {caCertificateRefs: [{kind: ConfigMap, group: '', name: ca}]}",
            Some((Some("api.example.com"), Some("PEM\n"), false)),
        ),
    ] {
        let checked = with(tls, "");
        let Answer::Forward(shares) = answer(&checked) else { panic!("{:?}", checked.findings) };
        let Target::Backend { tls: found, .. } = &shares[0].target else { panic!("{shares:?}") };
        let found = found.as_ref().map(|it| (it.name.as_deref(), it.authorities.as_deref(), it.insecure));
        assert_eq!(found, want, "{tls}");
    }
    let missing = with("tls: {caCertificateRefs: [{kind: ConfigMap, group: '', name: no}]}", "");
    assert!(matches!(answer(&missing), Answer::Status(500, why) if why.contains("ConfigMap default/no")));
}

#[test]
fn a_policy_gives_tls_to_a_backend() {
    let policy = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: t}\nspec: {targetRefs: \
                  [{group: gateway.envoyproxy.io, kind: Backend, name: b}], validation: {hostname: own.com, \
                  wellKnownCACertificates: System}}\n";
    let checked = with("", policy);
    let Answer::Forward(shares) = answer(&checked) else { panic!("{:?}", checked.findings) };
    let Target::Backend { tls: Some(tls), .. } = &shares[0].target else { panic!("{shares:?}") };
    assert_eq!(tls.name.as_deref(), Some("own.com"));
}

#[test]
fn keys_leave_over_tls_alone_and_are_never_shown() {
    let system = "tls: {wellKnownCACertificates: System}";
    let mut good = with(system, KEY);
    let Answer::Forward(shares) = answer(&good) else { panic!("{:?}", good.findings) };
    let key = ("Authorization".to_owned(), "Bearer sk-secret".to_owned());
    assert!(shares[0].edits.request.set.contains(&key));
    let shown = format!("{:?}", good.topology) + &crate::standalone::report::explanation(&good.topology);
    assert!(!shown.contains("sk-secret") && shown.contains("=Authorization"), "{shown}");
    assert!(good.findings.sort().iter().all(|it| !it.message.contains("without the credentials")));
    for (checked, want) in [
        (with("", KEY), "never sent without TLS"),
        (with(system, &KEY.replace("name: s}}}", "name: no}}}")), "Secret default/no"),
        (with(system, &KEY.replace("apiKey: sk-secret", "other: x")), "`apiKey` is missing"),
        (with(system, &KEY.replace("sk-secret", "'a b'")), "no key"),
    ] {
        assert!(matches!(answer(&checked), Answer::Status(500, why) if why.contains(want)), "{want}");
        assert!(checked.findings.count(Level::Degraded) > 0, "{want}");
    }
}

const OLDER: &str = "---
apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: AIGatewayRoute
metadata: {name: r}
spec:
  schema: {name: OpenAI}
  targetRefs: [{name: g, kind: Gateway, group: gateway.networking.k8s.io}]
  rules:
  - matches: [{headers: [{name: x-t, value: 'yes'}]}]
    backendRefs: [{name: p, kind: InferencePool}]
  - matches: [{headers: [{name: x-t, value: 'no'}]}]
    backendRefs: [{name: b}]
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: p}
spec: {selector: {app: SELECTED}, targetPortNumber: 8080, extensionRef: {name: envoy-ai-gateway}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: m}
spec: {modelName: 'mistral:latest', poolRef: {name: p}}
---
apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: AIServiceBackend
metadata: {name: b, labels: {app: x}}
spec: {schema: {name: OpenAI}, backendRef: {name: s, kind: Service, port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{port: 8080}]}
---
apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: AIServiceBackend
metadata: {name: c, labels: {app: x}}
spec: {schema: {name: OpenAI}, backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: c}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: c}
spec: {endpoints: [{ip: {address: 10.0.0.1, port: 9000}}]}
---
apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: AIServiceBackend
metadata: {name: d, labels: {app: x}}
spec: {schema: {name: Cohere}, backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: c}}
";

/// Rows L1 to L7 as far as they are resolved.
#[test]
fn l1_to_l7_the_older_form_has_members_and_models() {
    let mut all = checked(GATEWAY.replace("HOST", "") + &OLDER.replace("SELECTED", "x"));
    assert_eq!(all.findings.count(Level::Error), 0, "{:?}", all.findings);
    let plan = &all.topology.pools[0];
    let members: Vec<_> = plan.members.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(members, ["10.0.0.1:9000", "s.default.svc.cluster.local:8080"]);
    assert_eq!(plan.authority, "p.default.svc:9002");
    let entries = &all.topology.gateways[0].listeners[0].hosts[0].entries;
    let told: Vec<_> =
        entries.iter().map(|entry| format!("{} -> {}", entry.requests, entry.answer)).collect();
    let want = [
        "/* x-ai-eg-model=mistral:latest x-t=yes -> InferencePool default/p",
        "GET = /v1/models -> 200 (the list of 0 models)",
        "/* x-t=no -> Service default/s:8080",
        "/* -> 404 (no rule for the model)",
    ];
    assert_eq!(told, want);
    let said: Vec<_> = all.findings.sort().iter().map(|it| it.message.clone()).collect();
    for part in ["its port 9000 is not 8080", "it is no member of", "before 0.2"] {
        assert!(said.iter().any(|it| it.contains(part)), "{part}: {said:#?}");
    }
    let mut none = checked(GATEWAY.replace("HOST", "") + &OLDER.replace("SELECTED", "y"));
    assert_eq!(none.topology.pools[0].members, None);
    assert!(
        none.findings
            .sort()
            .iter()
            .any(|it| it.message.contains("nothing in the manifests has these labels"))
    );
}

#[test]
fn certificates_are_taken_and_their_end_is_told() {
    let made = rcgen::generate_simple_self_signed(vec!["a.com".to_owned()]).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let indent = |text: &str| text.replace('\n', "\n    ");
    let text = GATEWAY.replace("HTTP, port: 80HOST", "HTTPS, port: 443, tls: {certificateRefs: [{name: s}]}")
        + &format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
            indent(&chain),
            indent(&key)
        );
    let mut checked = checked(text);
    let found = &checked.topology.certificates[&("default".to_owned(), "s".to_owned())];
    assert_eq!((found.chain.trim(), found.key.trim()), (chain.trim(), key.trim()));
    let before = checked.findings.count(Level::Warning);
    checked.tell_expired(0);
    assert_eq!(checked.findings.count(Level::Warning), before);
    checked.tell_expired(i64::MAX);
    assert_eq!(checked.findings.count(Level::Warning), before + 1);
}
