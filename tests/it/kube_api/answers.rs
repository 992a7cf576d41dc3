//! Single requests and what is said to them, to the word: a list of what a real server of version 1.34 says.

use http::Request;
use serde_json::Value;

use super::{EPP, PERMISSIONS, POOL, POOLS, on_each};
use crate::support::kube_api::{ADMIN, KubeApi};

/// User, method and path, body; then code, reason and message, or the kind of the answer, or what a review says.
type Row = (&'static str, &'static str, &'static str, &'static str);

#[tokio::test]
async fn writes_are_answered_in_the_words_of_the_real_one() {
    on_each(async |api| answered(api, WRITES).await).await;
}

#[tokio::test]
async fn reads_are_answered_in_the_words_of_the_real_one() {
    on_each(async |api| answered(api, READS).await).await;
}

#[tokio::test]
async fn reviews_are_answered_in_the_words_of_the_real_one() {
    on_each(async |api| answered(api, REVIEWS).await).await;
}

/// Sends each row and compares; `…` at the end of what is wanted stands for anything.
async fn answered(api: &KubeApi, rows: &[Row]) {
    api.define(POOLS).await;
    api.apply(PERMISSIONS).await;
    api.apply(POOL).await;
    let mut wrong = Vec::new();
    for &(user, asked, body, want) in rows {
        let (method, path) = asked.split_once(' ').unwrap();
        let path = path.replace("LEASES", LEASES).replace("PODS", PODS).replace("IPOOLS", POOLS_PATH);
        let sort = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(method).uri(path).header("content-type", sort);
        let got = match api.client_of(user).await.request::<Value>(request.body(body.into()).unwrap()).await {
            Ok(answer) if answer["kind"].as_str().is_some_and(|kind| kind.ends_with("Review")) => {
                answer["status"].to_string()
            }
            Ok(answer) => answer["kind"].as_str().unwrap_or_default().to_owned(),
            Err(kube::Error::Api(status)) => format!("{} {}: {}", status.code, status.reason, status.message),
            Err(error) => panic!("{error}"),
        };
        let right = want.strip_suffix('…').map_or(got == want, |start| got.starts_with(start));
        if !right {
            wrong.push(format!("{user} {asked} {body}\n    {got}\n    not {want}"));
        }
    }
    assert!(wrong.is_empty(), "real: {}\n{}", api.is_real(), wrong.join("\n"));
}

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const PODS: &str = "/api/v1/namespaces/default/pods";
const POOLS_PATH: &str = "/apis/inference.networking.k8s.io/v1/namespaces/default/inferencepools";

const LOCK: &str = r#"{"metadata":{"name":"lock"},"spec":{"holderIdentity":"a"}}"#;
const POD: &str = r#"{"metadata":{"name":"a"},"spec":{"containers":[{"name":"a","image":"b"}]}}"#;

const WRITES: &[Row] = &[
    (ADMIN, "PUT LEASES/lock", LOCK, "Lease"),
    (
        ADMIN,
        "PUT LEASES/lock",
        LOCK,
        r#"422 Invalid: leases.coordination.k8s.io "lock" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"#,
    ),
    (
        ADMIN,
        "PUT LEASES/lock",
        r#"{"metadata":{"name":"other"}}"#,
        "400 BadRequest: the name of the object (other) does not match the name on the URL (lock)",
    ),
    (ADMIN, "PATCH LEASES/lock", r#"{"metadata":{"resourceVersion":"3"}}"#, MODIFIED),
    (ADMIN, "PUT LEASES/lock", r#"{"metadata":{"name":"lock","resourceVersion":"3"}}"#, MODIFIED),
    (ADMIN, "PUT LEASES/lock", r#"{"metadata":{"name":"lock","uid":"3"}}"#, OTHER_UID),
    (
        ADMIN,
        "PATCH LEASES/lock",
        r#"{"metadata":{"uid":"3"}}"#,
        r#"422 Invalid: Lease.coordination.k8s.io "lock" is invalid: metadata.uid: Invalid value: "3": field is immutable"#,
    ),
    (ADMIN, "PATCH LEASES/lock", r#"{"metadata":{"labels":{"a":"b"}}}"#, "Lease"),
    (
        ADMIN,
        "POST LEASES",
        r#"{"metadata":{}}"#,
        r#"422 Invalid: Lease.coordination.k8s.io "" is invalid: metadata.name: Required value: name or generateName is required"#,
    ),
    (
        ADMIN,
        "POST LEASES",
        r#"{"metadata":{"name":"x","resourceVersion":"3"}}"#,
        "500 : resourceVersion should not be set on objects to be created",
    ),
    (
        ADMIN,
        "POST LEASES",
        r#"{"metadata":{"name":"x","namespace":"other"}}"#,
        "400 BadRequest: the namespace of the provided object does not match the namespace sent on the request",
    ),
    (
        ADMIN,
        "POST LEASES/lock",
        LOCK,
        "405 MethodNotAllowed: the server does not allow this method on the requested resource",
    ),
    (
        ADMIN,
        "DELETE LEASES/lock",
        r#"{"preconditions":{"uid":"1"}}"#,
        r#"409 Conflict: Operation cannot be fulfilled on Lease.coordination.k8s.io "lock": the UID in the precondition (1) does not match the UID in record (…"#,
    ),
    (
        ADMIN,
        "DELETE LEASES/lock",
        r#"{"preconditions":{"resourceVersion":"1"}}"#,
        r#"409 Conflict: Operation cannot be fulfilled on Lease.coordination.k8s.io "lock": the ResourceVersion in the precondition (1) does not match the ResourceVersion in record (…"#,
    ),
    (ADMIN, "DELETE LEASES/lock", "", "Status"),
    (ADMIN, "DELETE LEASES/lock", "", NO_LOCK),
    (ADMIN, "PATCH LEASES/lock", "{}", NO_LOCK),
    (ADMIN, "PUT LEASES/lock", r#"{"metadata":{"name":"lock","uid":"3"}}"#, OTHER_UID),
    (ADMIN, "PUT LEASES/lock", r#"{"metadata":{"name":"lock","resourceVersion":"3"}}"#, "Lease"),
    (
        ADMIN,
        "POST PODS",
        r#"{"metadata":{"name":"a"},"spec":{}}"#,
        r#"422 Invalid: Pod "a" is invalid: spec.containers: Required value"#,
    ),
    (ADMIN, "POST PODS", "[]", "400 BadRequest: the object provided is unrecognized…"),
    (ADMIN, "POST PODS", POD, "Pod"),
    (ADMIN, "POST PODS", POD, r#"409 AlreadyExists: pods "a" already exists"#),
    (ADMIN, "PUT PODS/a", POD, "Pod"),
    (ADMIN, "PUT PODS/b", r#"{"metadata":{"name":"b"}}"#, r#"404 NotFound: pods "b" not found"#),
    (ADMIN, "PUT PODS/a/status", POD, "Pod"),
    (ADMIN, "DELETE PODS/a", "", "Pod"),
    (ADMIN, "GET PODS/a", "", r#"404 NotFound: pods "a" not found"#),
    (
        ADMIN,
        "PUT IPOOLS/mistral",
        r#"{"apiVersion":"inference.networking.k8s.io/v1","kind":"InferencePool","metadata":{"name":"mistral"}}"#,
        r#"422 Invalid: inferencepools.inference.networking.k8s.io "mistral" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"#,
    ),
    (
        ADMIN,
        "PATCH IPOOLS/mistral",
        r#"{"spec":{"targetPorts":[{"number":70000}]}}"#,
        r#"422 Invalid: InferencePool.inference.networking.k8s.io "mistral" is invalid: spec.targetPorts[0].number: Invalid value: 70000: …"#,
    ),
    (
        ADMIN,
        "PATCH IPOOLS/mistral",
        r#"{"spec":{"endpointPickerRef":{"failureMode":"x"}}}"#,
        r#"422 Invalid: InferencePool.inference.networking.k8s.io "mistral" is invalid: spec.endpointPickerRef.failureMode: Unsupported value: "x"…"#,
    ),
    (ADMIN, "DELETE IPOOLS/mistral", "", "Status"),
];

const MODIFIED: &str = r#"409 Conflict: Operation cannot be fulfilled on leases.coordination.k8s.io "lock": the object has been modified; please apply your changes to the latest version and try again"#;
const OTHER_UID: &str = r#"409 Conflict: Operation cannot be fulfilled on leases.coordination.k8s.io "lock": StorageError: invalid object, Code: 4, Key: /registry/leases/default/lock, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: 3, UID in object meta: …"#;
const NO_LOCK: &str = r#"404 NotFound: leases.coordination.k8s.io "lock" not found"#;

const READS: &[Row] = &[
    (ADMIN, "GET PODS/a", "", r#"404 NotFound: pods "a" not found"#),
    (ADMIN, "GET PODS?labelSelector=a%20in%20b", "", "400 BadRequest: unable to parse requirement: …"),
    (ADMIN, "GET PODS?fieldSelector=spec.x%3Db", "", "400 BadRequest: field label not supported: spec.x"),
    (
        ADMIN,
        "GET PODS?watch=true&resourceVersion=x",
        "",
        r#"500 : resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax"#,
    ),
    (
        ADMIN,
        "GET PODS?limit=1&continue=x",
        "",
        "400 BadRequest: invalid continue token: continue key is not valid…",
    ),
    (
        ADMIN,
        "GET /api/v1/namespaces/default/nothing",
        "",
        "404 NotFound: the server could not find the requested resource",
    ),
    (
        ADMIN,
        "GET /apis/nothing/v1/namespaces/default/nothing",
        "",
        "404 Failed to parse error data: 404 page not found",
    ),
    (
        EPP,
        "GET /api/v1/namespaces/default/nothing",
        "",
        r#"403 Forbidden: nothing is forbidden: User "system:serviceaccount:default:mistral-epp" cannot list resource "nothing" in API group "" in the namespace "default""#,
    ),
    (
        EPP,
        "GET /api/v1/pods",
        "",
        r#"403 Forbidden: pods is forbidden: User "system:serviceaccount:default:mistral-epp" cannot list resource "pods" in API group "" at the cluster scope"#,
    ),
    (
        EPP,
        "GET /api/v1/nodes/a",
        "",
        r#"403 Forbidden: nodes "a" is forbidden: User "system:serviceaccount:default:mistral-epp" cannot get resource "nodes" in API group "" at the cluster scope"#,
    ),
    (
        EPP,
        "GET IPOOLS?watch=true",
        "",
        r#"403 Forbidden: inferencepools.inference.networking.k8s.io is forbidden: User "system:serviceaccount:default:mistral-epp" cannot watch resource "inferencepools" in API group "inference.networking.k8s.io" in the namespace "default""#,
    ),
    (
        EPP,
        "GET /metrics",
        "",
        r#"403 Forbidden: forbidden: User "system:serviceaccount:default:mistral-epp" cannot get path "/metrics""#,
    ),
    (EPP, "GET /version", "", ""),
    (EPP, "GET /api", "", "APIVersions"),
    (EPP, "GET /apis", "", "APIGroupList"),
    (EPP, "GET /api/v1", "", "APIResourceList"),
    (EPP, "GET /apis/inference.networking.k8s.io", "", "APIGroup"),
    (EPP, "GET /apis/inference.networking.k8s.io/v1", "", "APIResourceList"),
    (
        EPP,
        "GET /apis/inference.networking.k8s.io/v2",
        "",
        "404 Failed to parse error data: 404 page not found",
    ),
    (EPP, "GET /apis/nothing", "", "404 Failed to parse error data: 404 page not found"),
];

const TOKEN: &str = "POST /apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS: &str = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews";

const REVIEWS: &[Row] = &[
    (EPP, TOKEN, "{}", "400 BadRequest: token is required for TokenReview in authentication"),
    (EPP, TOKEN, r#"{"spec":{"token":"x"}}"#, r#"{"error":"invalid bearer token","user":{}}"#),
    (
        EPP,
        TOKEN,
        r#"{"spec":{"token":"token-of-alice"}}"#,
        r#"{"audiences":["https://kubernetes.default.svc.cluster.local"],"authenticated":true,"user":{"groups":["system:authenticated"],"uid":"alice","username":"alice"}}"#,
    ),
    (
        EPP,
        TOKEN,
        r#"{"spec":{"token":"token-of-alice","audiences":["x"]}}"#,
        r#"{"error":"invalid bearer token","user":{}}"#,
    ),
    (
        EPP,
        ACCESS,
        r#"{"spec":{"user":"alice"}}"#,
        r#"422 Invalid: .authorization.k8s.io "" is invalid: spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"#,
    ),
    (
        EPP,
        ACCESS,
        r#"{"spec":{"nonResourceAttributes":{"path":"/metrics","verb":"get"}}}"#,
        r#"422 Invalid: .authorization.k8s.io "" is invalid: spec.user: Invalid value: "": at least one of user or group must be specified"#,
    ),
    (
        EPP,
        ACCESS,
        r#"{"spec":{"user":"alice","nonResourceAttributes":{"path":"/metrics","verb":"get"}}}"#,
        r#"{"allowed":true,"reason":"RBAC: allowed by ClusterRoleBinding \"metrics\" of ClusterRole \"metrics\" to User \"alice\""}"#,
    ),
    (
        EPP,
        ACCESS,
        r#"{"spec":{"user":"bob","nonResourceAttributes":{"path":"/metrics","verb":"get"}}}"#,
        r#"{"allowed":false}"#,
    ),
    (
        EPP,
        ACCESS,
        r#"{"spec":{"user":"system:serviceaccount:default:mistral-epp","resourceAttributes":{"namespace":"default","verb":"get","resource":"pods"}}}"#,
        r#"{"allowed":true,"reason":"RBAC: allowed by RoleBinding \"epp/default\" of Role \"epp\" to ServiceAccount \"mistral-epp/default\""}"#,
    ),
    (
        EPP,
        ACCESS,
        r#"{"spec":{"groups":["system:serviceaccounts:monitoring"],"nonResourceAttributes":{"path":"/metrics","verb":"get"}}}"#,
        r#"{"allowed":true,"reason":"RBAC: allowed by ClusterRoleBinding \"metrics\" of ClusterRole \"metrics\" to Group \"system:serviceaccounts:monitoring\""}"#,
    ),
    (
        "bob",
        ACCESS,
        r#"{"spec":{"user":"bob","nonResourceAttributes":{"path":"/metrics","verb":"get"}}}"#,
        r#"403 Forbidden: subjectaccessreviews.authorization.k8s.io is forbidden: User "bob" cannot create resource "subjectaccessreviews" in API group "authorization.k8s.io" at the cluster scope"#,
    ),
];
