//! The Kubernetes API that tests stand on, as `kube` sees it: the double behaves like the real one.
//!
//! Each of these runs against the double, and against a real `kube-apiserver` where there is one. `faults.rs` has what
//! only the double can do.

mod answers;
mod definitions;
mod faults;

use futures_util::StreamExt;
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, Status, WatchEvent};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::support::kube_api::{ADMIN, KubeApi, pod, token};

const POOLS: &str = "inferencepools.inference.networking.k8s.io";

/// A user without rights of its own.
const EPP: &str = "system:serviceaccount:default:mistral-epp";

/// A pool of that kind.
const POOL: &str = "
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: mistral}
spec:
  selector: {matchLabels: {app: vllm}}
  targetPorts: [{number: 8000}]
  endpointPickerRef: {name: mistral-epp, port: {number: 9002}}
";

/// Runs a test against the double, and against the real one if there is one.
async fn on_each(test: impl AsyncFn(&KubeApi)) {
    let api = KubeApi::start().await;
    test(&api).await;
    if api.is_real() {
        test(&KubeApi::start_double().await).await;
    }
}

fn pods(client: Client) -> Api<Pod> {
    Api::namespaced(client, "default")
}

fn names<K: kube::Resource>(objects: impl IntoIterator<Item = K>) -> Vec<String> {
    objects.into_iter().map(|object| object.meta().name.clone().unwrap_or_default()).collect()
}

/// What the API said instead of answering.
fn refusal<T: std::fmt::Debug>(answer: kube::Result<T>) -> Status {
    match answer.unwrap_err() {
        kube::Error::Api(status) => *status,
        error => panic!("{error}"),
    }
}

/// An event as a word and a name; a version for the others.
fn told(event: &WatchEvent<Pod>) -> (&'static str, String) {
    match event {
        WatchEvent::Added(pod) => ("ADDED", pod.name_any()),
        WatchEvent::Modified(pod) => ("MODIFIED", pod.name_any()),
        WatchEvent::Deleted(pod) => ("DELETED", pod.name_any()),
        WatchEvent::Bookmark(bookmark) => ("BOOKMARK", bookmark.metadata.resource_version.clone()),
        WatchEvent::Error(status) => ("ERROR", status.code.to_string()),
    }
}

/// The next `count` events of a watch; what comes of it does not depend on bookmarks.
async fn next(
    watch: &mut (impl StreamExt<Item = kube::Result<WatchEvent<Pod>>> + Unpin),
    count: usize,
) -> Vec<(&'static str, String)> {
    let mut events = Vec::new();
    while events.len() < count {
        let event = told(&watch.next().await.expect("the watch goes on").expect("it tells of events"));
        if event.0 != "BOOKMARK" {
            events.push(event);
        }
    }
    events
}

fn labelled(name: &str, labels: &Value) -> String {
    let mut pod = pod(name, "a", "10.0.0.1");
    pod["metadata"]["labels"] = labels.clone();
    pod.to_string()
}

#[tokio::test]
async fn a_watch_tells_what_enters_and_leaves_its_selection() {
    on_each(async |api| {
        let pods = pods(api.client());
        api.apply(&labelled("before", &json!({ "app": "vllm" }))).await;
        let seen = pods.list(&ListParams::default().labels("app=vllm")).await.unwrap();
        let version = seen.metadata.resource_version.unwrap();
        let watched = WatchParams::default().labels("app=vllm").timeout(60);
        let mut watch = pods.watch(&watched, &version).await.unwrap().boxed();
        // Each is stored, and then its status.
        api.apply(&labelled("other", &json!({ "app": "other" }))).await;
        api.apply(&labelled("a", &json!({ "app": "vllm" }))).await;
        api.apply(&labelled("a", &json!({ "app": "vllm", "more": "yes" }))).await;
        api.apply(&labelled("a", &json!({ "app": "other" }))).await;
        api.apply(&labelled("other", &json!({ "app": "vllm" }))).await;
        api.delete("v1", "Pod", "other").await;
        let want = [
            ("ADDED", "a"),
            ("MODIFIED", "a"),
            ("MODIFIED", "a"),
            ("DELETED", "a"),
            ("ADDED", "other"),
            // It is marked, and then gone.
            ("MODIFIED", "other"),
            ("DELETED", "other"),
        ];
        let events = next(&mut watch, want.len()).await;
        assert_eq!(events, want.map(|(word, name)| (word, name.to_owned())));
        // From the middle of what happened on, everything is told again.
        let mut again = pods.watch(&watched, &version).await.unwrap().boxed();
        assert_eq!(next(&mut again, want.len()).await, events);
        // Without a version, what is there comes first.
        let mut fresh = pods.watch(&watched, "0").await.unwrap().boxed();
        assert_eq!(next(&mut fresh, 1).await, [("ADDED", "before".to_owned())]);
    })
    .await;
}

#[tokio::test]
async fn a_status_is_written_beside_the_object_and_kept() {
    on_each(async |api| {
        api.apply(&pod("a", "vllm", "10.0.0.7").to_string()).await;
        let stored = api.get("v1", "Pod", "default/a").await.unwrap();
        assert_eq!(stored["status"]["podIP"], "10.0.0.7");
        assert_eq!(stored["status"]["conditions"][0]["status"], "True");
        let patch = json!({ "metadata": { "labels": { "app": null, "more": "yes" } }, "status": { "podIP": "10.9.9.9" } });
        let pods = pods(api.client());
        let patched = pods.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        assert_eq!(serde_json::to_value(patched.labels()).unwrap(), json!({ "more": "yes" }));
        assert_eq!(patched.status.unwrap().pod_ip.unwrap(), "10.0.0.7");
        let patched = pods.patch_status("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        assert_eq!(patched.status.unwrap().pod_ip.unwrap(), "10.9.9.9");
        // What changes nothing is no new version.
        let version = patched.metadata.resource_version;
        let again = pods.patch_status("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        assert_eq!(again.metadata.resource_version, version);
    })
    .await;
}

#[tokio::test]
async fn lists_select_by_labels_and_name() {
    on_each(async |api| {
        for (name, labels) in [
            ("a", json!({ "app": "vllm", "tier": "gold" })),
            ("b", json!({ "app": "vllm" })),
            ("c", json!({ "app": "sglang", "tier": "tin" })),
        ] {
            api.apply(&labelled(name, &labels)).await;
        }
        let pods = pods(api.client());
        for (labels, fields, want) in [
            ("", "", "abc"),
            ("app=vllm", "", "ab"),
            ("app==vllm,tier=gold", "", "a"),
            ("app!=vllm", "", "c"),
            ("tier!=tin", "", "ab"),
            ("app in (vllm, sglang)", "", "abc"),
            ("app in (sglang),tier", "", "c"),
            ("tier notin (gold)", "", "bc"),
            ("tier", "", "ac"),
            ("!tier", "", "b"),
            ("", "metadata.name=b", "b"),
            ("", "metadata.name!=b", "ac"),
            ("app=vllm", "metadata.name=c", ""),
            ("", "status.podIP=10.0.0.1", "abc"),
        ] {
            let found = pods.list(&ListParams::default().labels(labels).fields(fields)).await.unwrap();
            assert_eq!(names(found).concat(), want, "{labels} {fields}");
        }
        for (labels, fields) in [("app in vllm", ""), ("", "metadata.labels=b")] {
            let refused = pods.list(&ListParams::default().labels(labels).fields(fields)).await;
            assert_eq!(refusal(refused).code, 400, "{labels} {fields}");
        }
    })
    .await;
}

#[tokio::test]
async fn pages_tell_of_one_moment() {
    on_each(async |api| {
        for name in ["a", "b", "c", "d", "e"] {
            api.apply(&pod(name, "vllm", "10.0.0.1").to_string()).await;
        }
        let pods = pods(api.client());
        let mut asked = ListParams::default().limit(2);
        let first = pods.list(&asked).await.unwrap();
        assert_eq!(first.metadata.remaining_item_count, Some(3));
        api.delete("v1", "Pod", "d").await;
        let (mut seen, mut metadata) = (names(first.items), first.metadata);
        let version = metadata.resource_version;
        while let Some(token) = metadata.continue_.filter(|token| !token.is_empty()) {
            asked.continue_token = Some(token);
            let page = pods.list(&asked).await.unwrap();
            seen.extend(names(page.items));
            metadata = page.metadata;
            assert_eq!(metadata.resource_version, version);
        }
        assert_eq!(seen.concat(), "abcde");
        assert_eq!(names(pods.list(&ListParams::default()).await.unwrap()).concat(), "abce");
    })
    .await;
}

#[tokio::test]
async fn a_version_from_before_the_history_is_gone() {
    on_each(async |api| {
        // A server remembers what happened to a kind since it knows of it.
        api.define(POOLS).await;
        let version = GroupVersionKind::gvk("inference.networking.k8s.io", "v1", "InferencePool");
        let pools: Api<DynamicObject> =
            Api::default_namespaced_with(api.client(), &ApiResource::from_gvk(&version));
        let mut watch = pools.watch(&WatchParams::default().timeout(60), "1").await.unwrap().boxed();
        let Some(Ok(WatchEvent::Error(status))) = watch.next().await else { panic!("an error is told") };
        assert_eq!((status.code, &*status.reason), (410, "Expired"));
        assert!(status.message.starts_with("too old resource version: 1 ("), "{}", status.message);
    })
    .await;
}

#[tokio::test]
async fn who_wrote_last_without_looking_is_refused() {
    on_each(async |api| {
        let leases: Api<Lease> = Api::namespaced(api.client(), "default");
        let lease = |holder: &str| -> Lease {
            let spec = json!({ "holderIdentity": holder, "leaseDurationSeconds": 15 });
            serde_json::from_value(json!({ "metadata": { "name": "lock" }, "spec": spec })).unwrap()
        };
        let (params, absent) = (PostParams::default(), "leases.coordination.k8s.io \"lock\" not found");
        let missing = refusal(leases.get("lock").await);
        assert_eq!((missing.code, &*missing.reason, &*missing.message), (404, "NotFound", absent));
        let first = leases.create(&params, &lease("a")).await.unwrap();
        let exists = refusal(leases.create(&params, &lease("b")).await);
        assert_eq!((exists.code, &*exists.reason), (409, "AlreadyExists"));
        assert_eq!(exists.message, "leases.coordination.k8s.io \"lock\" already exists");
        let mut second = first.clone();
        second.spec.as_mut().unwrap().holder_identity = Some("b".to_owned());
        let second = leases.replace("lock", &params, &second).await.unwrap();
        let stale = refusal(leases.replace("lock", &params, &first).await);
        assert_eq!((stale.code, &*stale.reason), (409, "Conflict"));
        let modified = "Operation cannot be fulfilled on leases.coordination.k8s.io \"lock\": the object has been \
                        modified; please apply your changes to the latest version and try again";
        assert_eq!(stale.message, modified);
        let blind = refusal(leases.replace("lock", &params, &lease("c")).await);
        assert_eq!((blind.code, &*blind.reason), (422, "Invalid"));
        let preconditions = kube::api::Preconditions { uid: None, resource_version: first.metadata.resource_version };
        let delete = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        assert_eq!(refusal(leases.delete("lock", &delete).await).code, 409);
        let stored = leases.get("lock").await.unwrap();
        assert_eq!(stored.metadata.resource_version, second.metadata.resource_version);
        assert_eq!(stored.spec.unwrap().holder_identity.unwrap(), "b");
    })
    .await;
}

#[tokio::test]
async fn roles_say_who_may_do_what() {
    on_each(async |api| {
        api.define(POOLS).await;
        let pods = pods(api.client_of(EPP).await);
        let all = refusal(pods.list(&ListParams::default()).await);
        assert_eq!((all.code, &*all.reason), (403, "Forbidden"));
        let who = format!("User \"{EPP}\" cannot");
        let group = "in API group \"\" in the namespace \"default\"";
        assert_eq!(all.message, format!("pods is forbidden: {who} list resource \"pods\" {group}"));
        let one = refusal(pods.get_status("a").await);
        assert_eq!(
            one.message,
            format!("pods \"a\" is forbidden: {who} get resource \"pods/status\" {group}")
        );
        api.apply(PERMISSIONS).await;
        pods.list(&ListParams::default()).await.unwrap();
        assert_eq!(refusal(pods.get_status("a").await).code, 403);
        let pools = |namespace: &'static str, name: &str, client: Client| {
            let path =
                format!("/apis/inference.networking.k8s.io/v1/namespaces/{namespace}/inferencepools{name}");
            let request = http::Request::get(path).body(Vec::new()).unwrap();
            async move { client.request::<Value>(request).await }
        };
        let epp = api.client_of(EPP).await;
        for (namespace, name, want) in [
            ("default", "/mistral", 404),
            ("default", "?fieldSelector=metadata.name%3Dmistral", 200),
            ("default", "/other", 403),
            ("default", "", 403),
            ("other", "/mistral", 403),
        ] {
            let got = pools(namespace, name, epp.clone())
                .await
                .map_or_else(|error| refusal::<()>(Err(error)).code, |_| 200);
            assert_eq!(got, want, "{namespace} {name}");
        }
    })
    .await;
}

const PERMISSIONS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: epp, namespace: default}
rules:
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch]}
- {apiGroups: [inference.networking.k8s.io], resources: ["*"], resourceNames: [mistral], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: epp, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: epp}
subjects: [{kind: ServiceAccount, name: mistral-epp, namespace: default}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: epp}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator"}
subjects: [{kind: ServiceAccount, name: mistral-epp, namespace: default}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: metrics}
rules: [{nonResourceURLs: [/metrics, /debug/*], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: metrics}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: metrics}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: alice}
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:serviceaccounts:monitoring"}
"#;

#[tokio::test]
async fn reviews_tell_whose_a_token_is_and_what_they_may() {
    on_each(async |api| {
        let reviews: Api<TokenReview> = Api::all(api.client_of(EPP).await);
        let review = |token: &str| -> TokenReview {
            serde_json::from_value(json!({ "spec": { "token": token } })).unwrap()
        };
        let params = PostParams::default();
        assert_eq!(refusal(reviews.create(&params, &review("x")).await).code, 403);
        api.apply(PERMISSIONS).await;
        let unknown = reviews.create(&params, &review("unknown")).await.unwrap().status.unwrap();
        assert_eq!(unknown.authenticated, None);
        assert!(unknown.error.unwrap().contains("invalid bearer token"));
        for (user, may) in [
            ("alice", [true, true, false, false]),
            ("bob", [false; 4]),
            ("system:serviceaccount:monitoring:prometheus", [true, true, false, false]),
            (ADMIN, [true; 4]),
        ] {
            let known = reviews.create(&params, &review(&token(user))).await.unwrap().status.unwrap();
            assert_eq!(known.authenticated, Some(true), "{user}");
            let known = known.user.unwrap();
            assert_eq!(known.username.as_deref(), Some(user));
            let groups = known.groups.unwrap();
            assert!(groups.iter().any(|group| group == "system:authenticated"), "{user} {groups:?}");
            let asked =
                [("/metrics", "get"), ("/debug/pprof", "get"), ("/metrics", "post"), ("/other", "get")];
            for ((path, verb), want) in asked.into_iter().zip(may) {
                let spec = json!({
                    "user": user, "groups": groups, "nonResourceAttributes": { "path": path, "verb": verb },
                });
                let review: SubjectAccessReview = serde_json::from_value(json!({ "spec": spec })).unwrap();
                let reviews: Api<SubjectAccessReview> = Api::all(api.client_of(EPP).await);
                let answer = reviews.create(&params, &review).await.unwrap().status.unwrap();
                assert_eq!(answer.allowed, want, "{user} {verb} {path}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_has_yet_to_end_is_marked() {
    on_each(async |api| {
        let pods = pods(api.client());
        let on_a_node = |name: &str| {
            let mut pod = pod(name, "vllm", "10.0.0.1");
            pod["spec"]["nodeName"] = json!("node");
            pod
        };
        api.apply(&on_a_node("a").to_string()).await;
        let left = pods.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
        assert!(left.metadata.deletion_timestamp.is_some());
        assert!(pods.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
        api.delete("v1", "Pod", "a").await;
        assert_eq!(refusal(pods.get("a").await).code, 404);
        let mut held = pod("b", "vllm", "10.0.0.1");
        held["metadata"]["finalizers"] = json!(["test.example/held"]);
        api.apply(&held.to_string()).await;
        api.delete("v1", "Pod", "b").await;
        assert!(pods.get("b").await.unwrap().metadata.deletion_timestamp.is_some());
        let patch = json!({ "metadata": { "finalizers": null } });
        pods.patch("b", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        assert_eq!(refusal(pods.get("b").await).code, 404);
    })
    .await;
}

#[tokio::test]
async fn a_server_is_asked_by_those_it_knows() {
    on_each(async |api| {
        let mut file = kube::config::Kubeconfig::read_from(api.kubeconfig(EPP)).unwrap();
        file.auth_infos[0].auth_info.as_mut().unwrap().token = Some("unknown".to_owned().into());
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(file, &options).await.unwrap();
        let stranger = pods(Client::try_from(config).unwrap());
        let refused = refusal(stranger.get("a").await);
        assert_eq!(
            (refused.code, &*refused.reason, &*refused.message),
            (401, "Unauthorized", "Unauthorized")
        );
    })
    .await;
}
