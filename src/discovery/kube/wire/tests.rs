//! Objects as a `kube-apiserver` writes them, abridged, and what is no such object.

use serde_json::{Value, json};

use super::*;

fn read<T>(read: Read<T>, object: &Value) -> Item<T> {
    read(&object.to_string()).unwrap_or_else(|error| panic!("{error}: {object}"))
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}

/// A pod as a kubelet leaves it, abridged.
fn vllm() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "vllm-0", "namespace": "default", "uid": "0a", "resourceVersion": "1234",
            "creationTimestamp": "2025-11-01T09:59:00Z",
            "labels": {"app": "vllm"}, "annotations": {"llm-d.ai/active-ports": "8000"},
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "vllm", "image": "x"}]},
        "status": {
            "phase": "Running", "hostIP": "192.0.2.1", "podIP": "10.0.0.5", "podIPs": [{"ip": "10.0.0.5"}, {"ip": "fd00::5"}],
            "startTime": "2025-11-01T10:00:00Z",
            "conditions": [
                {"type": "Initialized", "status": "True"},
                {"type": "Ready", "status": "True", "lastProbeTime": null},
            ],
        },
    })
}

#[test]
fn a_pod_leaves_what_counts() {
    let item = read(pod, &vllm());
    assert_eq!((item.name.as_str(), item.version.as_str()), ("vllm-0", "1234"));
    let want = PodState {
        name: "vllm-0".into(),
        labels: pairs(&[("app", "vllm")]),
        annotations: pairs(&[("llm-d.ai/active-ports", "8000")]),
        node: "node-1".into(),
        host_address: "192.0.2.1".into(),
        addresses: ["10.0.0.5", "10.0.0.5", "fd00::5"].map(str::to_owned).into(),
        ready: true,
        started: 1_761_991_200,
    };
    assert_eq!(item.object, Some(want));
}

#[test]
fn a_pod_is_ready_by_its_condition_alone() {
    for (conditions, ready) in [
        (json!([]), false),
        (json!([{"type": "Ready", "status": "False"}]), false),
        (json!([{"type": "Ready", "status": "Unknown"}]), false),
        (json!([{"type": "ContainersReady", "status": "True"}]), false),
        (json!([{"type": "Ready", "status": "True"}]), true),
    ] {
        let mut object = vllm();
        object["status"]["conditions"] = conditions.clone();
        object["status"]["phase"] = json!("Pending");
        assert_eq!(read(pod, &object).object.map(|pod| pod.ready), Some(ready), "{conditions}");
    }
    let fresh = read(pod, &json!({"metadata": {"name": "a"}, "spec": {}})).object.unwrap();
    assert_eq!(fresh, PodState { name: "a".into(), ..PodState::default() }, "without a status");
}

#[test]
fn what_is_being_deleted_is_no_object() {
    let metadata = json!({"name": "a", "resourceVersion": "7", "deletionTimestamp": "2025-11-01T10:00:00Z"});
    let gone = Item::<()> { name: "a".into(), version: "7".into(), object: None };
    assert_eq!(read(name_and_version, &json!({"metadata": metadata})), gone);
    assert_eq!(read(pod, &json!({"metadata": metadata})).object, None);
    let spec = json!({"selector": {"matchLabels": {}}, "targetPorts": []});
    assert_eq!(read(pool, &json!({"metadata": metadata, "spec": spec})).object, None);
}

#[test]
fn pools_of_both_versions_say_the_same() {
    let metadata = json!({"name": "p"});
    let want = |target_ports, port| {
        let picker = Some(PickerService { name: "epp".into(), port });
        PoolSpec { match_labels: pairs(&[("app", "x")]), target_ports, picker }
    };
    let spec = json!({
        "selector": {"matchLabels": {"app": "x"}}, "targetPorts": [{"number": 8000}, {"number": 8001}],
        "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
    });
    let item = read(pool, &json!({"metadata": metadata, "spec": spec}));
    assert_eq!(item.object, Some(want(vec![8000, 8001], Some(9002))));
    let spec = json!({"selector": {"app": "x"}, "targetPortNumber": 8000, "extensionRef": {"name": "epp"}});
    let item = read(older_pool, &json!({"metadata": metadata, "spec": spec}));
    assert_eq!(item.object, Some(want(vec![8000], None)));
}

#[test]
fn a_reference_without_a_group_is_to_a_pool_of_v1() {
    for (group, want) in [(json!(null), POOL_GROUP), (json!("x"), "x")] {
        let spec = json!({"priority": -1, "poolRef": {"group": group, "kind": "InferencePool", "name": "p"}});
        let item = read(objective, &json!({"metadata": {"name": "o"}, "spec": spec}));
        let pool = PoolRef { name: "p".into(), group: want.into() };
        assert_eq!(item.object, Some(Objective { name: "o".into(), pool, priority: Some(-1) }));
    }
    let unset = json!({"metadata": {"name": "o"}, "spec": {"poolRef": {"name": "p"}}});
    assert_eq!(read(objective, &unset).object.unwrap().priority, None);
}

#[test]
fn a_match_that_cannot_be_understood_matches_nothing() {
    let spec = json!({
        "poolRef": {"name": "p"},
        "rules": [
            {
                "matches": [
                    {"model": {"type": "Exact", "value": "a"}}, {"model": {"value": "b"}},
                    {"model": {"type": "Regex", "value": ".*"}}, {},
                    {"headers": [{"name": "X-Tier", "value": "gold"}]},
                    {"model": {"value": "c"}, "headers": [{"type": "Prefix", "name": "x", "value": "y"}]},
                ],
                "targets": [{"weight": 3, "modelRewrite": "x"}, {"modelRewrite": "y"}],
            },
            {"targets": [{"modelRewrite": "z"}]},
        ],
    });
    let metadata = json!({"name": "r", "creationTimestamp": "1970-01-01T00:01:00Z"});
    let rewrite = read(rewrite, &json!({"metadata": metadata, "spec": spec})).object.unwrap();
    assert_eq!((rewrite.name.as_str(), rewrite.created), ("r", 60));
    let gold = RewriteMatch { model: None, headers: vec![("x-tier".into(), "gold".into())] };
    let matches = ["a".into(), "b".into(), "".into(), RewriteMatch::default(), gold, "".into()];
    assert_eq!(rewrite.rules[0].matches, matches);
    let target = |model: &str, weight| RewriteTarget { model: model.into(), weight };
    assert_eq!(rewrite.rules[0].targets, [target("x", Some(3)), target("y", None)]);
    assert_eq!(rewrite.rules[1], RewriteRule { matches: vec![], targets: vec![target("z", None)] });
}

#[test]
fn models_of_v0_5_1_are_read() {
    let spec = json!({
        "modelName": "food-review", "criticality": "Standard", "poolRef": {"name": "p"},
        "targetModels": [{"name": "food-review-1", "weight": 100}],
    });
    let found = read(model, &json!({"metadata": {"name": "m"}, "spec": spec})).object.unwrap();
    assert_eq!((found.model_name.as_str(), found.criticality), ("food-review", Some(Criticality::Standard)));
    assert_eq!(found.targets, [RewriteTarget { model: "food-review-1".into(), weight: Some(100) }]);
    let bare = json!({"metadata": {"name": "m"}, "spec": {"modelName": "x", "poolRef": {"name": "p"}}});
    let found = read(model, &bare).object.unwrap();
    assert_eq!((found.criticality, found.targets), (None, vec![]));
}

#[test]
fn what_is_no_such_object_is_an_error_that_says_where() {
    let spec = json!({"selector": {"matchLabels": {"app": "x"}}, "targetPorts": [{"number": 80000}]});
    let error = pool(&json!({"metadata": {"name": "p"}, "spec": spec}).to_string()).unwrap_err();
    assert!(error.to_string().contains("80000") && error.to_string().contains("u16"), "{error}");
    for text in ["", "null", "[]", "{}", r#"{"metadata":{}}"#, r#"{"metadata":{"name":"a"},"spec":null}"#] {
        assert!(pool(text).is_err() && objective(text).is_err() && model(text).is_err(), "{text}");
        assert!(rewrite(text).is_err() && older_pool(text).is_err(), "{text}");
    }
    assert!(pod("{}").is_err() && name_and_version(r#"{"metadata":{}}"#).is_err());
}
