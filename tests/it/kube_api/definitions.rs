//! Kinds that come with a definition: when they are there, and what their schemas do.

use serde_json::{Value, json};

use super::{POOL, POOLS, on_each, refusal};
use crate::support::eventually;

#[tokio::test]
async fn a_kind_is_there_once_it_is_defined() {
    on_each(async |api| {
        let path = "/apis/inference.networking.k8s.io/v1/namespaces/default/inferencepools";
        let list = async || {
            let request = http::Request::get(path).body(Vec::new()).unwrap();
            api.client().request::<Value>(request).await
        };
        assert_eq!(refusal(list().await).code, 404);
        let groups = api.client().list_api_groups().await.unwrap();
        assert!(!groups.groups.iter().any(|group| group.name.contains("inference")));
        api.define(POOLS).await;
        let found = list().await.unwrap();
        assert_eq!((&found["kind"], &found["items"]), (&json!("InferencePoolList"), &json!([])));
        let version = "inference.networking.k8s.io/v1";
        eventually("discovery tells of it", async || {
            let resources = api.client().list_api_group_resources(version).await.ok()?;
            resources.resources.into_iter().find(|resource| resource.name == "inferencepools")
        })
        .await;
        api.apply(POOL).await;
        let pool = api.get(version, "InferencePool", "mistral").await.unwrap();
        assert_eq!(pool["spec"]["endpointPickerRef"]["failureMode"], "FailClose");
        assert_eq!(pool["metadata"]["generation"], 1);
        api.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", POOLS).await;
        eventually("it is gone", async || list().await.is_err().then_some(())).await;
    })
    .await;
}

/// Group and kind, a spec, the field that is missing from it, its value, and a field without which it is refused.
const SPECS: &[(&str, &str, &str, &str, &str, &str)] = &[
    (
        "inference.networking.k8s.io/v1",
        "InferencePool",
        r#"{"selector":{"matchLabels":{"a":"b"}},"targetPorts":[{"number":1}],"endpointPickerRef":{"name":"e"}}"#,
        "/endpointPickerRef/kind",
        "Service",
        "targetPorts",
    ),
    (
        "inference.networking.x-k8s.io/v1alpha2",
        "InferencePool",
        r#"{"selector":{"app":"v"},"targetPortNumber":1,"extensionRef":{"name":"e"}}"#,
        "/extensionRef/failureMode",
        "FailClose",
        "extensionRef",
    ),
    (
        "inference.networking.x-k8s.io/v1alpha2",
        "InferenceObjective",
        r#"{"priority":-1,"poolRef":{"name":"p"}}"#,
        "/poolRef/group",
        "inference.networking.k8s.io",
        "poolRef",
    ),
    (
        "llm-d.ai/v1alpha2",
        "InferenceObjective",
        r#"{"poolRef":{"name":"p"}}"#,
        "/poolRef/kind",
        "InferencePool",
        "poolRef",
    ),
    (
        "inference.networking.x-k8s.io/v1alpha2",
        "InferenceModelRewrite",
        r#"{"poolRef":{"name":"p"},"rules":[{"targets":[{"modelRewrite":"m","weight":1}]}]}"#,
        "/poolRef/group",
        "inference.networking.k8s.io",
        "rules",
    ),
    (
        "llm-d.ai/v1alpha2",
        "InferenceModelRewrite",
        r#"{"poolRef":{"name":"p"},"rules":[{"matches":[{"model":{"value":"m"}}],"targets":[{"modelRewrite":"m"}]}]}"#,
        "/rules/0/matches/0/model/type",
        "Exact",
        "poolRef",
    ),
    (
        "inference.networking.x-k8s.io/v1alpha2",
        "InferenceModel",
        r#"{"modelName":"m","criticality":"Critical","poolRef":{"name":"p"}}"#,
        "/poolRef/group",
        "inference.networking.x-k8s.io",
        "modelName",
    ),
];

#[tokio::test]
async fn definitions_fill_in_and_refuse() {
    on_each(async |api| {
        for &(version, kind, spec, path, want, needed) in SPECS {
            let (group, plural) = (version.split('/').next().unwrap(), format!("{}s", kind.to_lowercase()));
            api.define(&format!("{plural}.{group}")).await;
            let object = |name: &str, spec: &Value| {
                json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name }, "spec": spec })
            };
            let mut spec: Value = serde_json::from_str(spec).unwrap();
            spec["unheardOf"] = json!(1);
            api.apply(&object("a", &spec).to_string()).await;
            let stored = api.get(version, kind, "a").await.unwrap();
            assert_eq!(stored["spec"].pointer(path), Some(&json!(want)), "{version} {kind}: {stored}");
            assert_eq!(stored["spec"].get("unheardOf"), None);
            spec.as_object_mut().unwrap().remove(needed).unwrap();
            let path = format!("/apis/{version}/namespaces/default/{plural}");
            let body = object("b", &spec).to_string().into_bytes();
            let request = http::Request::post(path).header("content-type", "application/json");
            let refused = refusal(api.client().request::<Value>(request.body(body).unwrap()).await);
            let message = format!("{kind}.{group} \"b\" is invalid: spec.{needed}: Required value");
            assert_eq!((refused.code, refused.message), (422, message), "{version} {kind}");
        }
    })
    .await;
}
